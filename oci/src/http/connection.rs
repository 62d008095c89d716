//! The socket under a client's connection, with deadlines for what hyper has none for.
//!
//! A client that has sent no byte since its last answer, has begun a head and not finished it, or takes no byte of its
//! answer, is dropped after the time that [`Limits`](super::Limits) gives. While an answer is being made there is no
//! deadline here: the request's body has its own. Closing lingers, so that a client which is still sending gets to read
//! the answer that refused it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::server::Limits;
use crate::error::ErrorCode;

/// Where a connection stands, shared between its socket and the requests on it.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<AtomicU8>);

/// Nothing was sent since the connection opened.
const OPENED: u8 = 0;
/// Nothing was sent since the last answer.
const IDLE: u8 = 1;
/// A head has begun.
const HEAD: u8 = 2;
/// A request is being answered.
const BUSY: u8 = 3;

impl Phase {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(OPENED)))
    }

    pub(super) fn request_begins(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    pub(super) fn answer_is_over(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long a closing connection waits for the client to stop sending.
const LINGER: Duration = Duration::from_secs(2);

pub(super) struct Connection<T> {
    stream: T,
    phase: Phase,
    limits: Limits,
    /// The phase that `read_deadline` was set for.
    waiting_in: Option<u8>,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(stream: T, phase: Phase, limits: Limits) -> Self {
        let read_deadline = Box::pin(tokio::time::sleep(limits.header_timeout.0));
        Self { stream, phase, limits, waiting_in: None, read_deadline, write_deadline: None, closing: None }
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
        if self.read_deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client said nothing for too long"))
    }

    fn poll_write_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let allowed = self.limits.idle_timeout.0;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client took no byte for too long"))
    }

    fn written<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        self.poll_write_deadline(cx).map(Err)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending => this.poll_read_deadline(cx).map(Err),
            Poll::Ready(result) => {
                if buf.filled().len() > before && this.phase.get() < HEAD {
                    this.phase.0.store(HEAD, Ordering::Relaxed);
                }
                Poll::Ready(result)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(page) = error_page(buf, this.phase.get()) {
            // Best effort, once: the connection ends here in any case, and a page fits into a socket's buffer.
            let written = Pin::new(&mut this.stream).poll_write(cx, &page);
            return this.written(cx, written).map_ok(|_| buf.len());
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
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

    /// Says that no more comes, and reads what the client still sends for a moment: closing with unread bytes would reset
    /// the connection, and the client would lose the answer that told it why.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let shutdown = Pin::new(&mut this.stream).poll_shutdown(cx);
            match this.written(cx, shutdown) {
                Poll::Ready(Ok(())) => this.closing = Some(Box::pin(tokio::time::sleep(LINGER))),
                other => return other,
            }
        }
        let mut scratch = [0_u8; 16 * 1024];
        loop {
            if let Some(closing) = &mut this.closing
                && closing.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What is sent in place of hyper's own bare answer to a request that it could not read: the same status with an error
/// document. Such an answer is known by having an empty body, which none of ours with such a status has.
fn error_page(answer: &[u8], phase: u8) -> Option<Vec<u8>> {
    if phase == BUSY || !answer.starts_with(b"HTTP/1.1 4") || answer.len() > 512 {
        return None;
    }
    let text = std::str::from_utf8(answer).ok()?;
    let (head, "") = text.split_once("\r\n\r\n")? else { return None };
    if !head.to_ascii_lowercase().contains("\r\ncontent-length: 0") {
        return None;
    }
    let status_line = head.lines().next()?;
    let message = match status_line.get(9..12)? {
        "431" => "the request's header, or a length in it, is too large",
        "414" => "the request's path is too long",
        _ => "the request is not well-formed HTTP",
    };
    let document = ErrorCode::BadRequest.error(message).document();
    let mut page = format!(
        "{status_line}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        document.len()
    )
    .into_bytes();
    page.extend_from_slice(&document);
    Some(page)
}
