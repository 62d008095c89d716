//! Blobs that are here, or on their way, from another upstream than the one that is asked for them.
//!
//! That this one links them, or says that it has them, is a claim that anybody can make who knows a digest and runs a
//! registry; see [`Metadata::is_proven`](crate::metadata::Metadata::is_proven). So the first client gets this upstream's own
//! bytes, straight through. When they were whole and right, it has shown that it has them, and from then on the store serves
//! them for it as well.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use oci::{
    client::{FetchError, Silence},
    digest::{Digest, Hasher},
    error::{ApiError, ErrorCode},
    http::{Body, BodyError},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Answerer, Asked,
    blob::{Part, part},
};
use crate::{
    cache_status::CacheStatus,
    metadata::{Link, Metadata, Place},
    store::Served,
    unavailable::Unavailable,
    upstream::Upstream,
};

impl Answerer {
    /// Whether the bytes that are here, or on their way, may be given out under the upstream that is asked, provided that it
    /// links them. Where there are none there is nothing to keep back.
    pub(super) async fn may_give(&self, asked: &Asked<'_>, digest: &Digest) -> Result<bool, Unavailable> {
        let foreign = match self.downloads.running(digest) {
            Some(download) => !asked.upstream.names().any(|name| *name == download.place().upstream),
            None => self.store.size(digest).is_some(),
        };
        if !foreign {
            return Ok(true);
        }
        for name in asked.upstream.names() {
            if self.metadata.is_proven(name, digest).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The blob as the upstream itself sends it.
    pub(super) async fn proving(
        &self,
        asked: &Asked<'_>,
        digest: &Digest,
    ) -> Result<Response<Body>, ApiError> {
        let failed = |why: Unavailable| why.answer(ErrorCode::BlobUnknown);
        let turn =
            tokio::time::timeout(self.patience.first_byte, asked.upstream.downloads.clone().acquire_owned());
        let Ok(Ok(turn)) = turn.await else { return Err(failed(Unavailable::Busy)) };
        // Never the size of what is here: whoever may not have it would learn that it is.
        let known = self.metadata.link(&asked.place, digest).await.map_err(|error| failed(error.into()))?;
        let known = known.and_then(|link| link.size);
        let wanted = |length: Option<u64>| match length {
            Some(length) => part(asked.headers, length),
            None => Ok(Part::Unmeasured),
        };
        let offset = wanted(known)?.range().start;
        let answer = asked.upstream.blob(&asked.place.repository, digest, offset, None).await;
        let answer = answer.map_err(|error| failed(error.into()))?;
        let length = answer.length.or(known);
        let part = wanted(length)?;
        let whole = answer.offset == 0 && !matches!(part, Part::Some { .. });
        let passing = Passing {
            upstream: asked.upstream.clone(),
            place: asked.place.clone(),
            metadata: self.metadata.clone(),
            digest: digest.clone(),
            body: answer.body,
            stall: self.patience.stall,
            hasher: whole.then(|| Hasher::new(digest.algorithm())),
            length,
            received: answer.offset,
            range: part.range(),
            held: None,
            _turn: turn,
        };
        let served = Served::new(self.metrics.served_upstream.clone(), None);
        let mut response = part.response(passing.into_body().watched(served), digest);
        self.status(&mut response, CacheStatus::Passed);
        Ok(response)
    }
}

/// A blob on its way from the upstream to one client.
struct Passing {
    upstream: Arc<Upstream>,
    place: Place,
    metadata: Metadata,
    digest: Digest,
    body: Incoming,
    stall: Duration,
    /// Of a client that wants it whole. A part cannot be verified, and proves nothing: the client verifies the whole.
    hasher: Option<Hasher>,
    length: Option<u64>,
    /// Where the next byte that comes belongs.
    received: u64,
    /// What the client wants.
    range: Range<u64>,
    /// The last piece, kept back until another one comes or the digest has matched.
    held: Option<Bytes>,
    _turn: OwnedSemaphorePermit,
}

impl Passing {
    fn into_body(self) -> Body {
        let pieces = stream::unfold(Some(self), |passing| async {
            let mut passing = passing?;
            match passing.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(passing))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Body::stream(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
    }

    /// The next piece for the client.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let Some(piece) = self.receive().await? else {
                return self.finish().await;
            };
            let start = self.received;
            self.received += piece.len() as u64;
            let wanted = within(&self.range, start, piece);
            let Some(hasher) = &mut self.hasher else {
                if wanted.is_empty() {
                    continue;
                }
                return Ok(Some(wanted));
            };
            hasher.update(&wanted);
            if let Some(before) = self.held.replace(wanted) {
                return Ok(Some(before));
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.length == Some(self.received) || self.received >= self.range.end {
            return Ok(None);
        }
        loop {
            let silent = || FetchError::from(Silence::NoAnswer(self.stall));
            let frame = tokio::time::timeout(self.stall, self.body.frame()).await;
            let frame = frame.map_err(|_elapsed| failed(silent()))?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(mut data) = frame.map_err(failed)?.into_data() else { continue };
            self.upstream.received.inc_by(data.len() as u64);
            let rest = self.length.map_or(u64::MAX, |length| length - self.received);
            data.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
            return Ok(Some(data));
        }
    }

    /// All came that will: the last piece, if everything was right.
    async fn finish(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(hasher) = self.hasher.take() else {
            return if self.received < self.range.end { Err(BodyError::Short) } else { Ok(None) };
        };
        let last = self.held.take();
        if self.length.is_some_and(|length| length != self.received) || hasher.finish() != self.digest {
            tracing::error!(digest = %self.digest, upstream = %self.upstream.name, "the upstream sent wrong bytes for a blob that another one has");
            return Err(failed(Unavailable::Corrupt));
        }
        let link = Link { digest: self.digest.clone(), size: Some(self.received) };
        self.metadata.keep_proof(&self.place, &link).await;
        Ok(last)
    }
}

/// What of a piece that begins at `start` lies within `range`.
fn within(range: &Range<u64>, start: u64, piece: Bytes) -> Bytes {
    let end = start + piece.len() as u64;
    let (from, to) = (range.start.clamp(start, end), range.end.clamp(start, end));
    let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
    if from >= to { Bytes::new() } else { piece.slice(at(from)..at(to)) }
}

fn failed(why: impl std::error::Error + Send + Sync + 'static) -> BodyError {
    BodyError::Source(Box::new(why))
}
