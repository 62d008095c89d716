//! The task of a download: asks the upstream for its parts, resumes where it broke, checks, commits.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use oci::{
    client::{BlobAnswer, Failure, FetchError, Silence},
    digest::Hasher,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::MissedTickBehavior,
};

use super::{
    Download, Shared, State,
    part::{Ended, How, Transfer},
    plan::{Claim, Plan},
    ranges::Ranges,
    writer::{self, Written},
};
use crate::{metadata::Link, store::Reservation, unavailable::Unavailable, upstream::Upstream};

/// The pause before the second try; doubles with each, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often a download that has not brought a byte is tried at the most.
const TRIES_BEFORE_FIRST_BYTE: u32 = 3;
/// How often it is looked at whether another request would help.
const LOOK: Duration = Duration::from_millis(250);
/// Requests for readers far ahead, beside `download.parallel`.
const REQUESTS_FOR_READERS: usize = 4;

pub(super) struct Fetch {
    pub(super) shared: Arc<Shared>,
    pub(super) download: Arc<Download>,
    pub(super) upstream: Arc<Upstream>,
}

/// How a download ends.
enum End {
    /// Every byte is there.
    Complete { hasher: Hasher, length: u64, room: Option<Reservation>, past: Past },
    /// There is no room for it. The hasher has seen what was written without a gap.
    NoRoom(Hasher),
    /// It cannot go on; what there is stays.
    Failed(Unavailable),
}

/// Whether a download took up what an earlier one had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    None,
    Resumed,
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
            End::Complete { hasher, length, room, past } => self.complete(hasher, length, room, past).await,
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
        let turn = self.upstream.downloads.clone().acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(self.shared.settings.turn.0, turn).await else {
            return End::Failed(Unavailable::Busy);
        };
        let digest = &self.download.digest;
        let begun = self.shared.store.claim_partial(digest);
        let (pieces, queue) = mpsc::channel(writer::QUEUE);
        let (resumed, resume) = oneshot::channel();
        let (download, path) = (self.download.clone(), self.shared.store.partial_path(digest));
        // Beside the request to the upstream, so that the first byte waits for neither a file nor a thread.
        let writing =
            tokio::task::spawn_blocking(move || writer::run(&download, &path, begun, queue, resumed));
        // A writer that cannot open its file is gone, and says why when it is asked.
        let here = if begun { resume.await.unwrap_or_default() } else { Ranges::default() };
        let past = if here.bytes() > 0 { Past::Resumed } else { Past::None };
        let transfer = Transfer {
            fetch: self,
            pieces,
            room: Mutex::new(None),
            received: AtomicU64::new(0),
            ignores_ranges: AtomicBool::new(false),
        };
        let last = self.parts(&transfer, here, turn).await;
        let Transfer { room, pieces, .. } = transfer;
        drop(pieces);
        let Written { hasher, prefix, error } = match writing.await {
            Ok(written) => written,
            Err(panic) => return End::Failed(io::Error::other(panic).into()),
        };
        let room = room.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (last, error) {
            (_, Some(error)) if is_full(&error) => End::NoRoom(hasher),
            (_, Some(error)) => End::Failed(error.into()),
            (How::Done, None) => End::Complete { hasher, length: prefix, room, past },
            (How::NoRoom, None) => End::NoRoom(hasher),
            (How::Broken(why), None) => End::Failed(why),
            (How::Unwritten, None) => End::Failed(Unavailable::Stopping),
        }
    }

    /// Asks the upstream until all is there, or it makes no more progress.
    async fn parts(&self, transfer: &Transfer<'_>, here: Ranges, turn: OwnedSemaphorePermit) -> How {
        let length = self.download.progress.borrow().length;
        let parallel = self.shared.settings.parallel as usize;
        let mut plan = Plan::new(length, here, parallel, Instant::now());
        let mut tries = Tries::default();
        let mut spare = Some(turn);
        let mut running = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if transfer.ignores_ranges.load(Ordering::Relaxed) {
                plan.without_ranges();
            }
            let received = transfer.received.load(Ordering::Relaxed);
            while let Some((claim, turn)) =
                self.another(&mut plan, &tries, running.len(), received, &mut spare)
            {
                running.push(transfer.part(claim, turn));
            }
            tokio::select! {
                Some(ended) = running.next() => {
                    let Ended { claim, reached, how, turn } = ended;
                    spare = Some(turn);
                    plan.measured(self.download.progress.borrow().length);
                    plan.ended(&claim, reached);
                    match how {
                        How::Done => plan.measured(Some(reached).filter(|_| claim.range.end == u64::MAX)),
                        How::Broken(why) => {
                            let received = transfer.received.load(Ordering::Relaxed);
                            if tries.are_over(self.patience(&why), received, Instant::now()) {
                                return How::Broken(why);
                            }
                            // If it was for a reader far ahead, that one still waits.
                            self.download.wish_for(reached);
                            tracing::info!(digest = %self.download.digest, upstream = %self.upstream.name, offset = reached, error = %why, "resuming a download");
                        }
                        how => return how,
                    }
                    if plan.is_complete() {
                        return How::Done;
                    }
                }
                _ = looks.tick() => {}
                () = tries.paused(), if tries.resume_at.is_some() => tries.resume_at = None,
                () = self.download.wished.notified() => {}
            }
        }
    }

    /// The next part to be asked for, if one is worth it, and a turn for it.
    fn another(
        &self,
        plan: &mut Plan,
        tries: &Tries,
        running: usize,
        received: u64,
        spare: &mut Option<OwnedSemaphorePermit>,
    ) -> Option<(Claim, OwnedSemaphorePermit)> {
        let now = Instant::now();
        if tries.resume_at.is_some_and(|at| now < at) {
            return None;
        }
        let turn = spare.take().or_else(|| self.upstream.downloads.clone().try_acquire_owned().ok())?;
        let wanted = plan.wanted(received, now);
        let most = self.shared.settings.parallel as usize + REQUESTS_FOR_READERS;
        let mut for_reader =
            || (running < most).then(|| self.download.wish(|offset| plan.claim_at(offset))).flatten();
        let claim = for_reader().or_else(|| (running < wanted).then(|| plan.claim()).flatten());
        match claim {
            Some(claim) => Some((claim, turn)),
            None => {
                // The last turn of a download stays with it.
                *spare = Some(turn).filter(|_| running == 0);
                None
            }
        }
    }

    /// How often the request is tried that ended with `why`.
    fn patience(&self, why: &Unavailable) -> u32 {
        if why.is_said_no() {
            return 1;
        }
        let tries = self.shared.settings.tries;
        // Before the first byte the client is still free to go to another host, and should soon: only a connection
        // that broke, as one that was idle for long does, is tried again.
        match self.download.progress.borrow().state {
            State::Starting if !why.is_broken_connection() => 1,
            State::Starting => tries.min(TRIES_BEFORE_FIRST_BYTE),
            _ => tries,
        }
    }

    /// The length that manifest and upstream agree on.
    pub(super) fn agreed_length(&self, answer: &BlobAnswer) -> Result<Option<u64>, Unavailable> {
        let known = self.download.progress.borrow().length;
        match (known, answer.length) {
            (Some(known), Some(told)) if known != told => {
                self.blame("the upstream offers a blob of the wrong length");
                tracing::error!(digest = %self.download.digest, expected = known, told, "the wrong length");
                Err(Unavailable::Corrupt)
            }
            (known, told) => Ok(known.or(told)),
        }
    }

    fn blame(&self, what: &'static str) {
        let Self { shared, download, upstream } = self;
        shared.metrics.downloads_corrupt.inc();
        shared.metrics.blamed(&upstream.name);
        let pause = shared.blames.blame(&upstream.name, &download.digest, Instant::now());
        tracing::error!(digest = %download.digest, upstream = %upstream.name, not_asked_again_for = ?pause, "{what}; it is discarded");
    }

    /// Checks the whole, lets the readers have the last byte, and keeps it.
    async fn complete(&self, hasher: Hasher, length: u64, room: Option<Reservation>, past: Past) -> State {
        let digest = &self.download.digest;
        if hasher.finish() != *digest {
            self.shared.store.discard_partial(digest);
            match past {
                Past::None => self.blame("the upstream sent wrong bytes"),
                // What was left on the disk may be what is wrong: nobody is blamed, and all is fetched at the next demand.
                Past::Resumed => {
                    self.shared.metrics.downloads_corrupt.inc();
                    tracing::error!(%digest, upstream = %self.upstream.name, "a resumed download has wrong bytes; it is discarded");
                }
            }
            return State::Failed(Arc::new(Unavailable::Corrupt));
        }
        self.shared.blames.absolve(&self.upstream.name, digest);
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

/// How often in a row requests failed without a byte coming.
#[derive(Default)]
struct Tries {
    failures: u32,
    received: u64,
    resume_at: Option<Instant>,
}

impl Tries {
    /// Counts a failure. Whether it was the last of `allowed`; if not, the next request waits for a pause.
    fn are_over(&mut self, allowed: u32, received: u64, now: Instant) -> bool {
        self.failures = if received > self.received { 1 } else { self.failures + 1 };
        self.received = received;
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(MAX_PAUSE);
        self.resume_at = Some(now + pause);
        self.failures >= allowed
    }

    async fn paused(&self) {
        if let Some(at) = self.resume_at {
            tokio::time::sleep_until(at.into()).await;
        }
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

pub(super) fn broken(why: &str) -> Unavailable {
    FetchError::from(Silence::Unreachable(why.to_owned())).into()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The upstream gave more or fewer bytes than a direct stream can be.
pub(super) fn unreadable(why: &'static str) -> Unavailable {
    FetchError::from(Failure::Unreadable(why)).into()
}
