//! The bodies of answers and of requests.

use std::{
    fmt,
    fs::File,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::file::FileBody;

/// Why an answer's body ended before its end. The connection is then closed, so that the client sees a short body and
/// never takes it for a whole one.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The file could not be read.
    #[error("reading the stored content failed: {0}")]
    Read(#[from] std::io::Error),
    /// The file ended before its recorded length.
    #[error("the stored content is shorter than recorded")]
    Short,
    /// What the bytes were to be taken from broke off.
    #[error("the source of the content failed: {0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
}

/// The body of an answer.
pub struct Body {
    kind: Kind,
    watch: Option<Box<dyn Watch>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    File(FileBody),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// Is told how a body fares, and dropped when it has been sent or its client has gone: a count of bytes, a lease.
pub trait Watch: Send {
    /// These many more bytes were handed to the connection.
    fn sent(&mut self, bytes: u64);
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Kind::Empty.into()
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Kind::Full(bytes.into()).into()
    }

    /// The bytes of `file` in `range`, read as the client takes them. While memory is short the next frame comes when the last one
    /// was dropped, so whoever wants them together copies them ([`collect`]).
    pub fn file(file: Arc<File>, range: Range<u64>) -> Self {
        Kind::File(FileBody::new(file, range)).into()
    }

    /// Any other source.
    pub fn stream(body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Kind::Stream(body.boxed_unsync()).into()
    }

    /// Has `watch` told of every piece, in place of one that was told before.
    #[must_use]
    pub fn watched(self, watch: impl Watch + 'static) -> Self {
        Self { watch: Some(Box::new(watch)), ..self }
    }
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Self { kind, watch: None }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", http_body::Body::size_hint(self).exact())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) if bytes.is_empty() => None,
            Kind::Full(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Kind::File(body) => ready!(Pin::new(body).poll_frame(cx)),
            Kind::Stream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        if let (Some(watch), Some(Ok(frame))) = (&mut this.watch, &frame) {
            watch.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::File(body) => body.is_end_stream(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::File(body) => body.size_hint(),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// Why a request's body was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// No byte came for the idle time.
    #[error("no byte of the body came for {0:?}")]
    Stalled(Duration),
    /// The connection broke, or the body is shorter than announced or wrongly framed.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// Longer than the caller allows.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

/// The body of a request, with a deadline for each next byte.
pub struct RequestBody {
    incoming: Source,
    idle: Duration,
}

enum Source {
    Network(Incoming),
    Memory(Bytes),
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({:?})", self.length())
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self { incoming: Source::Memory(bytes), idle: Duration::MAX }
    }
}

impl RequestBody {
    /// A body from the network; a pause of `idle` between two pieces of it is an error.
    pub fn new(incoming: Incoming, idle: Duration) -> Self {
        Self { incoming: Source::Network(incoming), idle }
    }

    /// The length in bytes, where the client announced it.
    pub fn length(&self) -> Option<u64> {
        match &self.incoming {
            Source::Network(body) => http_body::Body::size_hint(body).exact(),
            Source::Memory(bytes) => Some(bytes.len() as u64),
        }
    }

    /// The next piece, never empty; `None` at the end.
    ///
    /// # Errors
    /// The client said nothing for the idle time, or the connection broke.
    ///
    /// # Cancel safety
    /// No bytes are lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        let body = match &mut self.incoming {
            Source::Memory(bytes) if bytes.is_empty() => return Ok(None),
            Source::Memory(bytes) => return Ok(Some(std::mem::take(bytes))),
            Source::Network(body) => body,
        };
        loop {
            let frame = match tokio::time::timeout(self.idle, body.frame()).await {
                Ok(Some(frame)) => frame?,
                Ok(None) => return Ok(None),
                Err(_elapsed) => return Err(ReceiveError::Stalled(self.idle)),
            };
            // Trailers are passed over.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`RequestBody::next`]; and `TooLong`, without having kept more than `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, ReceiveError> {
        if self.length().is_some_and(|length| length > limit as u64) {
            return Err(ReceiveError::TooLong(limit));
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let mut whole = Vec::new();
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            if whole.len() + bytes.len() > limit {
                return Err(ReceiveError::TooLong(limit));
            }
            let next = self.next().await?;
            if whole.is_empty() && next.is_none() {
                return Ok(bytes);
            }
            whole.extend_from_slice(&bytes);
            piece = next;
        }
        Ok(whole.into())
    }
}

/// Tells when a body of an answer is over: sent whole, or given up.
pub(super) struct Observed<F: FnOnce(bool) + Unpin> {
    body: Body,
    sent: u64,
    finished: bool,
    at_end: Option<F>,
}

impl<F: FnOnce(bool) + Unpin> Observed<F> {
    pub(super) fn new(body: Body, at_end: F) -> Self {
        let finished = http_body::Body::is_end_stream(&body);
        Self { body, sent: 0, finished, at_end: Some(at_end) }
    }
}

impl<F: FnOnce(bool) + Unpin> http_body::Body for Observed<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.finished = http_body::Body::is_end_stream(&this.body);
            }
            Some(Err(_)) => {}
            None => this.finished = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

impl<F: FnOnce(bool) + Unpin> Drop for Observed<F> {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end(self.finished);
        }
    }
}

/// Collects a body of at most `limit` bytes, for tests and for answers known to be small.
///
/// # Errors
/// The body failed, or is longer.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let mut body = Limited::new(body, limit);
    let mut whole = Vec::new();
    // Each piece is copied: a file's frames are waited for while they are held.
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.into())
}
