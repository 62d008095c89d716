//! One transfer of a blob from an upstream, for everybody who wants it.
//!
//! The bytes go into a file as they come, in one request or in parts, and are hashed in order; readers follow in the same
//! file at their own speed. The last byte is given out only when the digest has matched, so nobody takes a wrong blob for a
//! whole one. A download belongs to nobody: it goes on when its readers leave, and what it has fetched when it fails is kept
//! to be resumed.

mod blame;
mod body;
mod fetch;
mod own;
mod part;
mod plan;
mod ranges;
mod sidecar;
mod view;

mod writer;

use std::{
    collections::HashMap,
    fs::File,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use oci::{
    client::LARGEST_PIECE,
    digest::{Digest, Hasher},
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    metadata::{Metadata, Place},
    metrics::Metrics,
    settings::DownloadSettings,
    store::Store,
    unavailable::Unavailable,
    upstream::Upstream,
};

pub(crate) use body::{TO_THE_END, following};
pub(crate) use own::Source;
pub(crate) use sidecar::path_of as sidecar_of;

use blame::Blames;

/// The downloads of an edge.
#[derive(Clone, Debug)]
pub(crate) struct Downloads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running: Mutex<HashMap<Digest, Arc<Download>>>,
    store: Arc<Store>,
    metadata: Metadata,
    metrics: Metrics,
    settings: DownloadSettings,
    /// A share for each piece of all downloads that waits to be written.
    in_flight: Arc<Semaphore>,
    /// A place for each request that waits for the first byte of a download.
    waiting: Semaphore,
    blames: Blames,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How many readers far ahead of one download can be waited for at a time; another one is served when its bytes come by
/// themselves.
const WISHES: usize = 32;

/// One download.
#[derive(Debug)]
pub(crate) struct Download {
    digest: Digest,
    /// Where it comes from.
    place: Place,
    file: OnceLock<Arc<File>>,
    progress: watch::Sender<Progress>,
    /// Where readers wait that are far ahead of what was fetched.
    wishes: Mutex<Vec<u64>>,
    wished: Notify,
}

/// How far a download is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Bytes in the file without a gap.
    pub written: u64,
    /// What is in the file behind the first gap.
    pub ahead: Arc<[Range<u64>]>,
    /// The blob's length, where it is known.
    pub length: Option<u64>,
    /// What it does.
    pub state: State,
}

/// What a download does.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Nothing came yet.
    Starting,
    /// Bytes come.
    Running,
    /// All bytes are there and match the digest.
    Whole,
    /// The bytes cannot be kept for want of room; the hash of what was written goes with it, so that each reader can go
    /// on by itself.
    NoRoom(Arc<Hasher>),
    /// It has ended before the end.
    Failed(Arc<Unavailable>),
}

impl Progress {
    /// Whether an answer may begin. One without bytes has no last byte to hold back, so it waits for the digest.
    fn is_open(&self) -> bool {
        match self.state {
            State::Starting => false,
            State::Running => self.length != Some(0),
            State::Whole | State::NoRoom(_) | State::Failed(_) => true,
        }
    }

    /// How many bytes may be given out: all but the last until the digest has matched.
    fn servable(&self) -> u64 {
        match self.state {
            State::Whole => self.written,
            State::NoRoom(_) if self.length.is_none_or(|length| self.written < length) => self.written,
            _ => match self.length {
                Some(length) => self.written.min(length.saturating_sub(1)),
                None => self.written.saturating_sub(1),
            },
        }
    }

    /// Up to where bytes may be given out from `start` on; `start` itself where there are none.
    fn servable_from(&self, start: u64) -> u64 {
        let servable = self.servable();
        if servable > start {
            return servable;
        }
        // Behind a gap nothing is the last byte of what was verified.
        let last = self.length.unwrap_or(u64::MAX).saturating_sub(1);
        let around = self.ahead.iter().find(|range| range.contains(&start));
        around.map_or(start, |range| range.end.min(last).max(start))
    }
}

/// What a request gets to see when it joins.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It began the download.
    Began(Arc<Download>),
    /// Somebody else had.
    Collapsed(Arc<Download>),
    /// There is nothing to fetch: the store holds the blob.
    Held,
    /// The upstream is not asked now: it got the blob wrong.
    Avoided(Unavailable),
}

impl Downloads {
    /// No downloads yet.
    pub(crate) fn new(
        store: Arc<Store>,
        metadata: Metadata,
        metrics: Metrics,
        settings: DownloadSettings,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let pieces = usize::try_from(settings.in_flight.0).unwrap_or(usize::MAX) / LARGEST_PIECE;
        Self(Arc::new(Shared {
            running: Mutex::default(),
            in_flight: Arc::new(Semaphore::new(pieces.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: Semaphore::new(settings.waiting as usize),
            blames: Blames::new(settings.avoid.0),
            store,
            metadata,
            metrics,
            settings,
            tasks,
            stop,
        }))
    }

    /// Joins the download of `digest`, or begins it from `place`, which says how long the blob is if it is known.
    pub(crate) fn join(
        &self,
        place: &Place,
        upstream: &Arc<Upstream>,
        digest: &Digest,
        size: Option<u64>,
    ) -> Joined {
        let mut running = self.0.running();
        if let Some(download) = running.get(digest) {
            return Joined::Collapsed(download.clone());
        }
        // A download leaves the list when its blob is in the store: here is no moment at which it is in neither.
        if self.0.store.size(digest).is_some() {
            return Joined::Held;
        }
        if let Some(left) = self.0.blames.avoided(&upstream.name, digest, Instant::now()) {
            return Joined::Avoided(Unavailable::Blamed { left });
        }
        let download = Arc::new(Download {
            digest: digest.clone(),
            place: place.clone(),
            file: OnceLock::new(),
            progress: watch::Sender::new(Progress {
                written: 0,
                ahead: Arc::default(),
                length: size,
                state: State::Starting,
            }),
            wishes: Mutex::default(),
            wished: Notify::new(),
        });
        running.insert(digest.clone(), download.clone());
        self.0.metrics.downloads_running.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
        drop(running);
        let task =
            fetch::Fetch { shared: self.0.clone(), download: download.clone(), upstream: upstream.clone() };
        self.0.tasks.spawn(task.run());
        Joined::Began(download)
    }

    /// The download of `digest` that runs.
    pub(crate) fn running(&self, digest: &Digest) -> Option<Arc<Download>> {
        self.0.running().get(digest).cloned()
    }

    /// Waits until the first bytes of `download` come, or it is known that none will.
    ///
    /// # Errors
    /// Why none will; or at once, where as many requests wait as may.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the download running.
    pub(crate) async fn opened(&self, download: &Download) -> Result<Progress, Arc<Unavailable>> {
        let Ok(_place) = self.0.waiting.try_acquire() else { return Err(Arc::new(Unavailable::Busy)) };
        self.0.metrics.downloads_waiting.inc();
        let opened = download.opened().await;
        self.0.metrics.downloads_waiting.dec();
        opened
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Download>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody joins.
    fn end(&self, digest: &Digest) {
        let mut running = self.running();
        running.remove(digest);
        self.metrics.downloads_running.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
    }
}

impl Download {
    /// The repository that it comes from.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    async fn opened(&self) -> Result<Progress, Arc<Unavailable>> {
        let mut progress = self.progress.subscribe();
        let opened = progress.wait_for(Progress::is_open).await;
        let Ok(progress) = opened.map(|progress| progress.clone()) else {
            return Err(Arc::new(Unavailable::Stopping));
        };
        match &progress.state {
            State::Failed(why) => Err(why.clone()),
            _ => Ok(progress),
        }
    }

    /// Says that a reader waits at `offset`, far ahead of what is here.
    fn wish_for(&self, offset: u64) {
        let mut wishes = self.wishes();
        if wishes.len() < WISHES && !wishes.contains(&offset) {
            wishes.push(offset);
            drop(wishes);
            self.wished.notify_one();
        }
    }

    /// The first of the wishes of which `grant` makes something; those before it are forgotten.
    fn wish<T>(&self, mut grant: impl FnMut(u64) -> Option<T>) -> Option<T> {
        let mut wishes = self.wishes();
        while !wishes.is_empty() {
            let wish = wishes.remove(0);
            if let Some(granted) = grant(wish) {
                return Some(granted);
            }
        }
        None
    }

    fn wishes(&self) -> MutexGuard<'_, Vec<u64>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
