//! What a reader gets where there is no room for a blob: the upstream's bytes as they come, for itself alone, verified where
//! it reads the whole, kept nowhere.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use oci::{
    client::BlobAnswer,
    digest::{Digest, Hasher},
    http::BodyError,
};
use prometheus_client::metrics::counter::Counter;

use super::{
    body::{TO_THE_END, failed},
    fetch::unreadable,
    part::next,
};
use crate::{metadata::Place, unavailable::Unavailable, upstream::Upstream};

/// Where a reader that has to go on by itself asks.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The registry.
    pub upstream: Arc<Upstream>,
    /// The repository in it.
    pub place: Place,
    /// Counts the bytes that reach the reader this way.
    pub(crate) unkept: Counter,
    /// How long it may pause.
    pub stall: std::time::Duration,
}

/// A stream of the upstream's bytes for one reader.
pub(super) struct Own {
    digest: Digest,
    /// The next byte to come from the upstream.
    offset: u64,
    /// Set while every byte before `offset` was hashed, which allows to verify the whole.
    hasher: Option<Hasher>,
    answer: Option<BlobAnswer>,
    /// Held back until the digest has matched or another piece comes.
    held: Option<Bytes>,
}

impl Own {
    /// A stream from `offset` on; with the hash of all bytes before it, where the whole is to be verified.
    pub(super) fn new(digest: Digest, offset: u64, hasher: Option<Hasher>) -> Self {
        Self { digest, offset, hasher, answer: None, held: None }
    }

    /// The next piece within `range`.
    ///
    /// # Errors
    /// The upstream broke off, or the whole is wrong.
    pub(super) async fn next(
        &mut self,
        range: &mut Range<u64>,
        source: &Source,
    ) -> Result<Option<Bytes>, BodyError> {
        if range.is_empty() {
            return Ok(None);
        }
        loop {
            let Some(piece) = self.receive(range, source).await? else {
                return self.last(range);
            };
            if let Some(bytes) = self.held.replace(piece) {
                range.start += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            if self.hasher.is_none() {
                // Nothing to wait for: a part cannot be verified, the client verifies the whole.
                return self.last(range);
            }
        }
    }

    fn last(&mut self, range: &mut Range<u64>) -> Result<Option<Bytes>, BodyError> {
        let Some(bytes) = self.held.take() else {
            if range.end == TO_THE_END {
                return Ok(None);
            }
            return Err(failed(unreadable("the body is shorter than announced")));
        };
        if (self.offset == range.end || range.end == TO_THE_END)
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            return Err(failed(Unavailable::Corrupt));
        }
        range.start += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The next piece within `range`; `None` where the range, or the upstream's body, ends.
    async fn receive(&mut self, range: &Range<u64>, source: &Source) -> Result<Option<Bytes>, BodyError> {
        if self.offset >= range.end {
            return Ok(None);
        }
        let mut skip = 0;
        if self.answer.is_none() {
            let end = Some(range.end).filter(|end| *end != TO_THE_END && self.hasher.is_none());
            let asked = source.upstream.blob(&source.place.repository, &self.digest, self.offset, end).await;
            let answer = asked.map_err(failed)?;
            skip = self.offset - answer.offset;
            self.answer = Some(answer);
        }
        let Some(answer) = &mut self.answer else { return Ok(None) };
        loop {
            let Some(mut data) = next(answer, source.stall).await.map_err(failed)? else { return Ok(None) };
            source.upstream.received.inc_by(data.len() as u64);
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= passed as u64;
            let mut data = data.split_off(passed);
            data.truncate(usize::try_from(range.end - self.offset).unwrap_or(usize::MAX));
            if data.is_empty() {
                continue;
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&data);
            }
            self.offset += data.len() as u64;
            source.unkept.inc_by(data.len() as u64);
            return Ok(Some(data));
        }
    }
}
