//! What a client gets of a download: the file as it grows, or, where there is no room for one, the upstream's bytes as
//! they come.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use oci::{
    digest::Hasher,
    http::{Body, BodyError, FrameReader},
};
use tokio::sync::watch;

use super::{
    Download, Progress, State,
    own::{Own, Source},
    plan::FIRST_PART,
};
use crate::unavailable::Unavailable;

/// A reader that is so far ahead of what was fetched does not wait for what lies between.
const FAR: u64 = 2 * FIRST_PART;

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

pub(super) fn failed(why: impl std::error::Error + Send + Sync + 'static) -> BodyError {
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
            progress.servable_from(start) > start
                || matches!(progress.state, State::Whole | State::NoRoom(_) | State::Failed(_))
        };
        {
            let progress = self.progress.borrow();
            if !ready(&progress) && start > progress.written.saturating_add(FAR) {
                self.download.wish_for(start);
            }
        }
        let progress = match self.progress.wait_for(ready).await {
            Ok(progress) => progress.clone(),
            Err(_closed) => return Err(failed(Unavailable::Stopping)),
        };
        let servable = progress.servable_from(start);
        if servable > start {
            return self.read(start..servable.min(self.range.end)).await.map(Some);
        }
        match progress.state {
            State::NoRoom(hasher) => {
                let offset = progress.written;
                let whole = start == offset && progress.length.is_none_or(|length| self.range.end == length);
                let hasher = whole.then(|| Hasher::clone(&hasher));
                let own = self.own.insert(Own::new(self.download.digest.clone(), start, hasher));
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
