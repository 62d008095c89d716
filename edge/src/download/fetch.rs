//! The task of a download: asks the upstream, resumes where it broke, checks, commits.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use oci::{
    client::{BlobAnswer, Failure, FetchError, Silence},
    digest::Hasher,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Download, Shared, State,
    writer::{self, Written},
};
use crate::{metadata::Link, store::Reservation, unavailable::Unavailable, upstream::Upstream};

/// The pause before the second try; doubles with each, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often a download that has not brought a byte is tried at the most.
const TRIES_BEFORE_FIRST_BYTE: u32 = 3;
/// How much room is asked for at a time where the length is not known.
const ROOM_STEP: u64 = 64 << 20;

pub(super) struct Fetch {
    pub(super) shared: Arc<Shared>,
    pub(super) download: Arc<Download>,
    pub(super) upstream: Arc<Upstream>,
}

/// What a download holds while it runs.
struct Position {
    /// Where the next byte of the upstream goes: what the writer was given, written or not.
    offset: u64,
    room: Option<Reservation>,
    pieces: mpsc::Sender<Bytes>,
}

/// How a download ends.
enum End {
    /// Every byte is there.
    Complete { hasher: Hasher, length: u64, room: Option<Reservation> },
    /// There is no room for it. The hasher has seen what was written.
    NoRoom(Hasher),
    /// It cannot go on; what there is stays.
    Failed(Unavailable),
}

/// How one answer of the upstream ended.
enum Piece {
    Done,
    Broken(Unavailable),
    NoRoom,
    /// The writer has ended; it knows why.
    Unwritten,
}

impl Fetch {
    pub(super) async fn run(self) {
        let ending = Ending(&self);
        let end = tokio::select! {
            end = self.transfer() => end,
            () = self.shared.stop.cancelled() => End::Failed(Unavailable::Stopping),
        };
        let digest = &self.download.digest;
        let state = match end {
            End::Complete { hasher, length, room } => self.complete(hasher, length, room).await,
            End::NoRoom(hasher) => {
                tracing::warn!(%digest, "no room for the blob: it is streamed without being kept");
                self.shared.store.discard_partial(digest);
                State::NoRoom(Arc::new(hasher))
            }
            End::Failed(why) => {
                if !why.is_said_no() {
                    tracing::warn!(%digest, upstream = %self.upstream.name, error = %why, "a download failed");
                }
                if why.is_range_refused() {
                    // What is here is no beginning of what is there.
                    self.shared.store.discard_partial(digest);
                } else {
                    self.shared.store.leave_partial(digest);
                }
                State::Failed(Arc::new(why))
            }
        };
        // First out of the list, so that whoever comes now finds the store or begins anew; then the readers.
        std::mem::forget(ending);
        self.shared.end(digest);
        self.download.progress.send_modify(|progress| progress.state = state);
    }

    async fn transfer(&self) -> End {
        let turn = tokio::time::timeout(self.shared.settings.first_byte.0, self.upstream.downloads.acquire());
        let Ok(Ok(_slot)) = turn.await else { return End::Failed(Unavailable::Busy) };
        let digest = &self.download.digest;
        let begun = self.shared.store.claim_partial(digest);
        let (pieces, queue) = mpsc::channel(writer::QUEUE);
        let (resumed, resume) = oneshot::channel();
        let (download, path) = (self.download.clone(), self.shared.store.partial_path(digest));
        // Beside the request to the upstream, so that the first byte waits for neither a file nor a thread.
        let writing =
            tokio::task::spawn_blocking(move || writer::run(&download, &path, begun, queue, resumed));
        // A writer that cannot open its file is gone, and says why when it is asked.
        let offset = if begun { resume.await.unwrap_or(0) } else { 0 };
        let mut position = Position { offset, room: None, pieces };
        let last = self.pieces(&mut position).await;
        let Position { offset, room, pieces } = position;
        drop(pieces);
        let Written { hasher, error } = match writing.await {
            Ok(written) => written,
            Err(panic) => return End::Failed(io::Error::other(panic).into()),
        };
        match (last, error) {
            (_, Some(error)) if is_full(&error) => End::NoRoom(hasher),
            (_, Some(error)) => End::Failed(error.into()),
            (Piece::Done, None) => End::Complete { hasher, length: offset, room },
            (Piece::NoRoom, None) => End::NoRoom(hasher),
            (Piece::Broken(why), None) => End::Failed(why),
            (Piece::Unwritten, None) => End::Failed(Unavailable::Stopping),
        }
    }

    /// Asks the upstream until all is there, or it makes no more progress.
    async fn pieces(&self, position: &mut Position) -> Piece {
        let mut failures = 0;
        loop {
            let before = position.offset;
            let why = match self.piece(position).await {
                Piece::Broken(why) => why,
                end => return end,
            };
            failures = if position.offset > before { 1 } else { failures + 1 };
            // Before the first byte the client is still free to go to another host, and should soon: only a connection
            // that broke, as one that was idle for long does, is tried again.
            let waiting = matches!(self.download.progress.borrow().state, State::Starting);
            let tries = if waiting && !why.is_broken_connection() { 1 } else { self.shared.settings.tries };
            let tries = if waiting { tries.min(TRIES_BEFORE_FIRST_BYTE) } else { tries };
            if why.is_said_no() || failures >= tries {
                return Piece::Broken(why);
            }
            tracing::info!(digest = %self.download.digest, upstream = %self.upstream.name, offset = position.offset, error = %why, "resuming a download");
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures - 1)).min(MAX_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }

    /// One request to the upstream, and all that comes of it.
    async fn piece(&self, position: &mut Position) -> Piece {
        let digest = &self.download.digest;
        let mut answer =
            match self.upstream.blob(&self.download.place.repository, digest, position.offset).await {
                Ok(answer) => answer,
                Err(error) => return Piece::Broken(error.into()),
            };
        let length = match self.agreed_length(&answer) {
            Ok(length) => length,
            Err(why) => return Piece::Broken(why),
        };
        self.download.progress.send_modify(|progress| progress.length = length);
        if !self.make_room(position, length) {
            return Piece::NoRoom;
        }
        self.download.progress.send_modify(|progress| progress.state = State::Running);
        let piece = self.receive(&mut answer, position, length).await;
        match length {
            Some(length) if matches!(piece, Piece::Done) && position.offset < length => {
                Piece::Broken(broken("the body is shorter than announced"))
            }
            _ => piece,
        }
    }

    async fn receive(&self, answer: &mut BlobAnswer, position: &mut Position, length: Option<u64>) -> Piece {
        let stall = self.shared.settings.stall.0;
        // An upstream that ignores ranges begins again; what is there already is passed over.
        let mut skip = position.offset.saturating_sub(answer.offset);
        loop {
            let frame = match tokio::time::timeout(stall, answer.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Piece::Broken(broken(&error.to_string())),
                Ok(None) => return Piece::Done,
                Err(_elapsed) => return Piece::Broken(FetchError::from(Silence::NoAnswer(stall)).into()),
            };
            let Ok(mut data) = frame.into_data() else { continue };
            self.upstream.received.inc_by(data.len() as u64);
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= passed as u64;
            let mut data = data.split_off(passed);
            // Nothing behind the known length is taken, whatever an upstream sends.
            let rest = length.map_or(u64::MAX, |length| length.saturating_sub(position.offset));
            data.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
            let after = position.offset + data.len() as u64;
            if let Some(room) = &mut position.room
                && after > room.bytes()
                && !room.grow(ROOM_STEP)
            {
                return Piece::NoRoom;
            }
            if !data.is_empty() && position.pieces.send(data).await.is_err() {
                return Piece::Unwritten;
            }
            position.offset = after;
            if length == Some(after) {
                return Piece::Done;
            }
        }
    }

    /// The length that manifest and upstream agree on.
    fn agreed_length(&self, answer: &BlobAnswer) -> Result<Option<u64>, Unavailable> {
        let known = self.download.progress.borrow().length;
        match (known, answer.length) {
            (Some(known), Some(told)) if known != told => {
                self.shared.metrics.downloads_corrupt.inc();
                tracing::error!(digest = %self.download.digest, upstream = %self.upstream.name, expected = known, told, "the upstream offers a blob of the wrong length");
                Err(Unavailable::Corrupt)
            }
            (known, told) => Ok(known.or(told)),
        }
    }

    fn make_room(&self, position: &mut Position, length: Option<u64>) -> bool {
        if position.room.is_none() {
            position.room = self.shared.store.reserve(length.unwrap_or(position.offset + ROOM_STEP));
        }
        position.room.is_some()
    }

    /// Checks the whole, lets the readers have the last byte, and keeps it.
    async fn complete(&self, hasher: Hasher, length: u64, room: Option<Reservation>) -> State {
        let digest = &self.download.digest;
        let got = hasher.finish();
        if got != *digest {
            self.shared.metrics.downloads_corrupt.inc();
            tracing::error!(%digest, upstream = %self.upstream.name, %got, "the upstream sent wrong bytes; they are discarded");
            self.shared.store.discard_partial(digest);
            return State::Failed(Arc::new(Unavailable::Corrupt));
        }
        self.download.progress.send_modify(|progress| {
            progress.length = Some(length);
            progress.state = State::Whole;
        });
        if let Err(why) = self.keep(length, room).await {
            // The readers have what they wanted; the next one fetches it again.
            tracing::error!(%digest, error = %why, "a blob could not be kept");
            self.shared.store.discard_partial(digest);
        }
        State::Whole
    }

    async fn keep(&self, length: u64, room: Option<Reservation>) -> Result<(), Unavailable> {
        let (store, digest) = (self.shared.store.clone(), self.download.digest.clone());
        let link = Link { digest: digest.clone(), size: Some(length) };
        let (Some(room), Some(file)) = (room, self.download.file.get().cloned()) else { return Ok(()) };
        // The link first: a blob that is found in the store without one would have to be asked for upstream.
        self.shared.metadata.keep_blob(&self.download.place, &link).await;
        let commit = tokio::task::spawn_blocking(move || store.commit(&digest, &file, room));
        Ok(commit.await.map_err(io::Error::other)??)
    }
}

/// Takes the download out of the list if its task is dropped or panics, so that the next request begins a new one.
struct Ending<'a>(&'a Fetch);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.shared.store.leave_partial(&self.0.download.digest);
        self.0.shared.end(&self.0.download.digest);
        let stopped = State::Failed(Arc::new(Unavailable::Stopping));
        self.0.download.progress.send_modify(|progress| progress.state = stopped);
    }
}

fn broken(why: &str) -> Unavailable {
    FetchError::from(Silence::Unreachable(why.to_owned())).into()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The upstream gave more or fewer bytes than a direct stream can be.
pub(super) fn unreadable(why: &'static str) -> Unavailable {
    FetchError::from(Failure::Unreadable(why)).into()
}
