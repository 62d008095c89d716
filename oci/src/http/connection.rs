//! The socket under a client's connection, with deadlines for what hyper has none for.
//!
//! A client that has sent no byte since its last answer, has begun a head (or a TLS handshake) and not finished it, or
//! takes no byte of its answer, is dropped after the time that [`Limits`](super::Limits) gives. While an answer is being
//! made there is no deadline here: the request's body has its own, and so has a stream of HTTP/2 (see `streams`). Closing
//! lingers, so that a client which is still sending gets to read the answer that refused it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{opening::Opening, server::Limits};

/// Where a connection stands, shared between its socket and the requests on it.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    /// What the client does while no request is answered: [`OPENED`], [`IDLE`] or [`HEAD`].
    stage: AtomicU8,
    /// Requests that are being answered.
    running: AtomicU32,
    /// Whether requests share the connection (HTTP/2).
    shared: AtomicBool,
    /// Whether the connection must end now, without another byte.
    broken: AtomicBool,
    /// The task that owns the connection.
    owner: AtomicWaker,
}

/// Nothing was sent since the connection opened.
const OPENED: u8 = 0;
/// Nothing was sent since the last answer.
const IDLE: u8 = 1;
/// A handshake or a head has begun.
const HEAD: u8 = 2;
/// A request is being answered.
const BUSY: u8 = 3;

impl Phase {
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            stage: AtomicU8::new(OPENED),
            running: AtomicU32::new(0),
            shared: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            owner: AtomicWaker::new(),
        }))
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.0.running.load(Ordering::Acquire) > 0
    }

    /// A request has come; it is being answered until the guard is dropped.
    pub(super) fn request_begins(&self) -> Busy {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// From now on frames come between and beside requests, so that a byte is not the beginning of a head.
    pub(super) fn is_shared(&self) {
        self.0.shared.store(true, Ordering::Release);
    }

    /// Ends the connection where it is. Clients take a connection that ends early for a body that is not whole, and
    /// go on elsewhere; not all of them do so when only one stream of HTTP/2 is reset.
    pub(super) fn break_off(&self) {
        self.0.broken.store(true, Ordering::Release);
        self.0.owner.wake();
    }

    fn get(&self) -> u8 {
        if self.is_busy() { BUSY } else { self.0.stage.load(Ordering::Acquire) }
    }

    fn received(&self) {
        let between_requests = !self.0.shared.load(Ordering::Acquire) || self.get() == OPENED;
        if between_requests && self.get() < HEAD {
            self.0.stage.store(HEAD, Ordering::Release);
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Phase);

impl Drop for Busy {
    fn drop(&mut self) {
        let state = &*self.0.0;
        // Before the count: who sees no request running must see that the client is idle.
        state.stage.store(IDLE, Ordering::Release);
        let left = state.running.fetch_sub(1, Ordering::AcqRel) - 1;
        if left == 0 && state.shared.load(Ordering::Acquire) {
            // A stream ends in its own task; the connection's has to look at its deadline again.
            state.owner.wake();
        }
    }
}

/// How long a closing connection waits for the client to stop sending.
const LINGER: Duration = Duration::from_secs(2);
/// Room for the first bytes of a connection, which are looked at before it is known what it speaks. A head of a request
/// fits as a rule, so that looking costs no system call more.
const FIRST_BYTES: usize = 4096;

pub(super) struct Connection<T> {
    stream: T,
    phase: Phase,
    limits: Limits,
    /// What was read to find out what the client speaks.
    first: BytesMut,
    /// The phase that `read_deadline` was set for.
    waiting_in: Option<u8>,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(stream: T, phase: Phase, limits: Limits) -> Self {
        let read_deadline = Box::pin(tokio::time::sleep(limits.header_timeout.0));
        Self {
            stream,
            phase,
            limits,
            first: BytesMut::new(),
            waiting_in: None,
            read_deadline,
            write_deadline: None,
            closing: None,
        }
    }

    /// Finds out from its first bytes what the client speaks; they are read again by whoever speaks it. `None` where
    /// the client has closed without a word.
    pub(super) async fn opening(&mut self) -> io::Result<Option<Opening>> {
        let mut first = BytesMut::with_capacity(FIRST_BYTES);
        let opening = loop {
            let count = self.read_buf(&mut first).await?;
            match Opening::of(&first) {
                Some(opening) => break Some(opening),
                None if count > 0 => {}
                None if first.is_empty() => break None,
                // Too little for anything; HTTP/1.1 has an answer to that.
                None => break Some(Opening::Http1),
            }
        };
        self.first = first;
        Ok(opening)
    }

    /// Called when there is nothing to read: is it over?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let phase = self.phase.get();
        let allowed = match phase {
            OPENED => self.limits.header_timeout.0.min(self.limits.idle_timeout.0),
            IDLE => self.limits.idle_timeout.0,
            HEAD => self.limits.header_timeout.0,
            _ => {
                self.waiting_in = None;
                return Poll::Pending;
            }
        };
        if self.waiting_in != Some(phase) {
            self.waiting_in = Some(phase);
            self.read_deadline.as_mut().reset(Instant::now() + allowed);
        }
        ready!(self.read_deadline.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client said nothing for too long"))
    }

    fn poll_write_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let allowed = self.limits.idle_timeout.0;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client took no byte for too long"))
    }

    fn written<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        self.poll_write_deadline(cx).map(Err)
    }

    /// An error as soon as a connection that was broken off has ended.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.phase.0.broken.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_close(cx))?;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "an answer could not be finished")))
    }

    /// Says that no more comes, and reads what the client still sends for a moment: closing with unread bytes would reset
    /// the connection, and the client would lose the answer that told it why.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            let shutdown = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.written(cx, shutdown))?;
            self.closing = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut scratch = [0_u8; 16 * 1024];
        loop {
            if let Some(closing) = &mut self.closing
                && closing.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let count = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..count]);
            this.first.advance(count);
            if this.first.is_empty() {
                this.first = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if this.phase.0.shared.load(Ordering::Acquire) {
            this.phase.0.owner.register(cx.waker());
            ready!(this.poll_broken(cx))?;
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending => this.poll_read_deadline(cx).map(Err),
            Poll::Ready(result) => {
                if buf.filled().len() > before {
                    this.phase.received();
                }
                Poll::Ready(result)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_broken(cx))?;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_broken(cx))?;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}
