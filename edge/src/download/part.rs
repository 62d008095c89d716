//! One request of a download: a part of the blob, from the upstream to the thread that writes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use oci::client::{BlobAnswer, FetchError, Silence};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    State,
    fetch::{Fetch, broken},
    plan::{Claim, Place},
    writer::Piece,
};
use crate::{store::Reservation, unavailable::Unavailable};

/// How much room is asked for at a time where the length is not known.
const ROOM_STEP: u64 = 64 << 20;

/// What the requests of one download share.
pub(super) struct Transfer<'a> {
    pub(super) fetch: &'a Fetch,
    pub(super) pieces: mpsc::Sender<Piece>,
    pub(super) room: Mutex<Option<Reservation>>,
    /// Bytes given to the writer so far.
    pub(super) received: AtomicU64,
    /// The upstream answered a request for a part with the whole.
    pub(super) ignores_ranges: AtomicBool,
}

/// A request that has ended.
pub(super) struct Ended {
    pub(super) claim: Claim,
    /// Up to where it brought its part.
    pub(super) reached: u64,
    pub(super) how: How,
    /// Its turn at the upstream, for the next one.
    pub(super) turn: OwnedSemaphorePermit,
}

/// How a request ended.
pub(super) enum How {
    /// With all that it was for.
    Done,
    Broken(Unavailable),
    NoRoom,
    /// The writer has ended; it knows why.
    Unwritten,
}

impl Transfer<'_> {
    /// Fetches one part.
    pub(super) async fn part(&self, claim: Claim, turn: OwnedSemaphorePermit) -> Ended {
        let mut reached = claim.range.start;
        let how = self.request(&claim, &mut reached).await;
        Ended { claim, reached, how, turn }
    }

    async fn request(&self, claim: &Claim, reached: &mut u64) -> How {
        let Fetch { download, upstream, .. } = self.fetch;
        let known = download.progress.borrow().length;
        let end = Some(claim.range.end).filter(|end| known.is_none_or(|length| *end < length));
        let asked = upstream.blob(&download.place.repository, &download.digest, claim.range.start, end);
        let mut answer = match asked.await {
            Ok(answer) => answer,
            Err(error) => return How::Broken(error.into()),
        };
        let is_whole = answer.offset < claim.range.start || (end.is_some() && answer.end.is_none());
        if is_whole {
            self.ignores_ranges.store(true, Ordering::Relaxed);
            if claim.place == Place::Ahead {
                // Another request gets all of it.
                return How::Broken(broken("the upstream gives no parts"));
            }
        }
        let length = match self.fetch.agreed_length(&answer) {
            Ok(length) => length,
            Err(why) => return How::Broken(why),
        };
        download.progress.send_modify(|progress| progress.length = length);
        if !self.make_room(length) {
            return How::NoRoom;
        }
        download.progress.send_modify(|progress| progress.state = State::Running);
        let end = if is_whole { length } else { end.min(answer.end).or(length) };
        let how = self.receive(&mut answer, reached, end).await;
        match end {
            Some(end) if matches!(how, How::Done) && *reached < end => {
                How::Broken(broken("the body is shorter than announced"))
            }
            _ => how,
        }
    }

    /// Takes what comes, up to `end`.
    async fn receive(&self, answer: &mut BlobAnswer, reached: &mut u64, end: Option<u64>) -> How {
        let stall = self.fetch.shared.settings.stall.0;
        // An upstream that ignores ranges begins again; what is there already is passed over.
        let mut skip = reached.saturating_sub(answer.offset);
        loop {
            if end == Some(*reached) {
                return How::Done;
            }
            let mut data = match next(answer, stall).await {
                Ok(Some(data)) => data,
                Ok(None) => return How::Done,
                Err(why) => return How::Broken(why),
            };
            self.fetch.upstream.received.inc_by(data.len() as u64);
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= passed as u64;
            let mut data = data.split_off(passed);
            // Nothing behind the known end is taken, whatever an upstream sends.
            let rest = end.map_or(u64::MAX, |end| end.saturating_sub(*reached));
            data.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
            if data.is_empty() {
                continue;
            }
            let after = *reached + data.len() as u64;
            if !self.room_for(after) {
                return How::NoRoom;
            }
            if !self.write(*reached, data).await {
                return How::Unwritten;
            }
            *reached = after;
        }
    }

    /// Whether the writer takes it. The wait for it, and for what other downloads have in flight, is no stall of the upstream.
    async fn write(&self, offset: u64, bytes: Bytes) -> bool {
        let count = bytes.len() as u64;
        let Ok(share) = self.fetch.shared.in_flight.clone().acquire_owned().await else { return false };
        let sent = self.pieces.send(Piece { offset, bytes, _share: share }).await.is_ok();
        self.received.fetch_add(count, Ordering::Relaxed);
        sent
    }

    fn make_room(&self, length: Option<u64>) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.is_none() {
            let store: &Arc<_> = &self.fetch.shared.store;
            *room = store.reserve(length.unwrap_or(ROOM_STEP));
        }
        room.is_some()
    }

    /// Whether there is room for the bytes up to `after`: always, where the length was known before.
    fn room_for(&self, after: u64) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.as_mut().is_some_and(|room| after <= room.bytes() || room.grow(ROOM_STEP))
    }
}

/// The next bytes, if they come before `stall` is over; `None` at the end.
pub(super) async fn next(answer: &mut BlobAnswer, stall: Duration) -> Result<Option<Bytes>, Unavailable> {
    loop {
        return match tokio::time::timeout(stall, answer.body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Some(data)),
                // Trailers are passed over.
                Err(_trailers) => continue,
            },
            Ok(Some(Err(error))) => Err(broken(&error.to_string())),
            Ok(None) => Ok(None),
            Err(_elapsed) => Err(FetchError::from(Silence::NoAnswer(stall)).into()),
        };
    }
}
