//! What a client gets of a download: the file as it grows, or, where there is no room for one, the upstream's bytes as
//! they come.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use oci::{
    digest::{Digest, Hasher},
    http::{Body, BodyError, FrameReader},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::{Download, Progress, State, fetch::unreadable};
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

/// The end of a range of a blob whose length the upstream does not tell.
pub(crate) const TO_THE_END: u64 = u64::MAX;

/// `range` of the blob that `download` fetches.
pub(crate) fn following(download: &Arc<Download>, range: Range<u64>, source: Source) -> Body {
    let follower = Follower {
        reader: None,
        progress: download.progress.subscribe(),
        download: download.clone(),
        range,
        source,
        own: None,
    };
    body(stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

fn body(pieces: impl stream::Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    Body::stream(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}

fn failed(why: impl std::error::Error + Send + Sync + 'static) -> BodyError {
    BodyError::Source(Box::new(why))
}

struct Follower {
    reader: Option<FrameReader>,
    progress: watch::Receiver<Progress>,
    download: Arc<Download>,
    /// What is still to be given out.
    range: Range<u64>,
    source: Source,
    /// The reader's own stream, once there is no room for a shared one.
    own: Option<Own>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        if let Some(own) = &mut self.own {
            return own.next(&mut self.range, &self.source).await;
        }
        let start = self.range.start;
        let ready = |progress: &Progress| {
            progress.servable() > start
                || matches!(progress.state, State::Whole | State::NoRoom(_) | State::Failed(_))
        };
        let progress = match self.progress.wait_for(ready).await {
            Ok(progress) => progress.clone(),
            Err(_closed) => return Err(failed(Unavailable::Stopping)),
        };
        if progress.servable() > start {
            return self.read(start..progress.servable().min(self.range.end)).await.map(Some);
        }
        match progress.state {
            State::NoRoom(hasher) => {
                let offset = progress.written;
                let whole = start == offset && progress.length.is_none_or(|length| self.range.end == length);
                let hasher = whole.then(|| Hasher::clone(&hasher));
                let digest = self.download.digest.clone();
                let own = self.own.insert(Own { digest, offset: start, hasher, body: None, held: None });
                own.next(&mut self.range, &self.source).await
            }
            State::Failed(why) => Err(failed(why)),
            // The length was not known before.
            State::Whole if self.range.end == TO_THE_END => Ok(None),
            State::Starting | State::Running | State::Whole => Err(BodyError::Short),
        }
    }

    async fn read(&mut self, range: Range<u64>) -> Result<Bytes, BodyError> {
        let reader = match &self.reader {
            Some(reader) => reader,
            None => {
                let file = self.download.file.get().ok_or(BodyError::Short)?;
                self.reader.insert(FrameReader::new(file.clone()))
            }
        };
        let bytes = reader.next(range).await?;
        self.range.start += bytes.len() as u64;
        Ok(bytes)
    }
}

/// A stream of the upstream's bytes for one reader.
struct Own {
    digest: Digest,
    /// The next byte to come from the upstream.
    offset: u64,
    /// Set while every byte before `offset` was hashed, which allows to verify the whole.
    hasher: Option<Hasher>,
    body: Option<hyper::body::Incoming>,
    /// Held back until the digest has matched or another piece comes.
    held: Option<Bytes>,
}

impl Own {
    async fn next(&mut self, range: &mut Range<u64>, source: &Source) -> Result<Option<Bytes>, BodyError> {
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
        if self.body.is_none() {
            let asked = source.upstream.blob(&source.place.repository, &self.digest, self.offset).await;
            let answer = asked.map_err(failed)?;
            skip = self.offset - answer.offset;
            self.body = Some(answer.body);
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let frame = match tokio::time::timeout(source.stall, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(failed)?,
                Ok(None) => return Ok(None),
                Err(elapsed) => return Err(failed(elapsed)),
            };
            let Ok(mut data) = frame.into_data() else { continue };
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
