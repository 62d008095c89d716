//! HTTP/1.1's answers to what hyper could not read, as documents.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Phase;
use crate::error::ErrorCode;

/// Puts an error document in place of hyper's own bare answer.
pub(super) struct Pages<T> {
    stream: T,
    phase: Phase,
}

impl<T> Pages<T> {
    pub(super) fn new(stream: T, phase: Phase) -> Self {
        Self { stream, phase }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Pages<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Pages<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let stream = Pin::new(&mut this.stream);
        if this.phase.is_busy() {
            return stream.poll_write(cx, buf);
        }
        match error_page(buf) {
            // Best effort, once: the connection ends here in any case, and a page fits into a socket's buffer.
            Some(page) => stream.poll_write(cx, &page).map_ok(|_| buf.len()),
            None => stream.poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// What is sent in place of hyper's own bare answer to a request that it could not read: the same status with an error
/// document. Such an answer is known by having an empty body, which none of ours with such a status has.
fn error_page(answer: &[u8]) -> Option<Vec<u8>> {
    if !answer.starts_with(b"HTTP/1.1 4") || answer.len() > 512 {
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
    Some(closing_page(status_line, message))
}

/// The bytes of an answer with an error document, after which the connection ends.
pub(super) fn closing_page(status_line: &str, message: &'static str) -> Vec<u8> {
    let document = ErrorCode::BadRequest.error(message).document();
    let mut page = format!(
        "{status_line}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        document.len()
    )
    .into_bytes();
    page.extend_from_slice(&document);
    page
}
