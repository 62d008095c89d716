//! Gathers the many small writes of HTTP/2 into few large ones.
//!
//! HTTP/2 writes and flushes each DATA frame, of 16 KiB and nine bytes, on its own: a system call for each, and over TLS two
//! records, the second one of a few bytes. Here a flush only takes note; what has gathered goes out when there is much of
//! it, or when the connection's task has nothing more to do ([`Gather::poll_out`]).

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::file::FRAME_BYTES;

/// So much is gathered at the most, but for the write that exceeds it: few system calls, and little for a client that stalls.
const MUCH: usize = FRAME_BYTES / 2;

/// A stream whose writes are gathered. It is shared by HTTP/2 and by the task that polls it, which is one task, so that
/// nobody ever waits for the lock.
pub(super) struct Gather<T>(Arc<Mutex<Gathered<T>>>);

struct Gathered<T> {
    stream: T,
    gathered: BytesMut,
}

impl<T> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: AsyncWrite + Unpin> Gather<T> {
    pub(super) fn new(stream: T) -> Self {
        Self(Arc::new(Mutex::new(Gathered { stream, gathered: BytesMut::new() })))
    }

    /// Writes what has gathered, as far as the stream takes it.
    pub(super) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.lock();
        ready!(this.poll_empty(cx))?;
        // An idle connection holds nothing.
        this.gathered = BytesMut::new();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.gathered))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.len() < MUCH {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_empty(cx))?;
        self.gathered.clear();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gather<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gather<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.lock();
        ready!(this.poll_room(cx))?;
        this.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.lock();
        ready!(this.poll_room(cx))?;
        bufs.iter().for_each(|buf| this.gathered.extend_from_slice(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.lock();
        ready!(this.poll_empty(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes everything and remembers the sizes.
    #[derive(Default)]
    struct Sink {
        sizes: Vec<usize>,
        bytes: Vec<u8>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.sizes.push(buf.len());
            self.bytes.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_writes_leave_as_few_large_ones_in_their_order() {
        let gather = Gather::new(Sink::default());
        let mut writer = gather.clone();
        let content: Vec<u8> = (0_u8..251).cycle().take(MUCH * 2 + 5000).collect();
        for piece in content.chunks(1000) {
            writer.write_all(piece).await.expect("taken");
            writer.flush().await.expect("noted");
        }
        std::future::poll_fn(|cx| gather.poll_out(cx)).await.expect("written");
        let inner = gather.lock();
        assert_eq!(inner.stream.bytes, content);
        assert_eq!(inner.stream.sizes.len(), 3, "{:?}", inner.stream.sizes);
        assert_eq!(inner.gathered.capacity(), 0, "nothing is held");
    }

    #[tokio::test]
    async fn what_has_gathered_leaves_before_the_end() {
        let mut writer = Gather::new(Sink::default());
        writer.write_all(b"last words").await.expect("taken");
        writer.shutdown().await.expect("shut down");
        assert_eq!(writer.lock().stream.bytes, b"last words");
    }
}
