//! The blobs that an edge holds, as files named by their digest.
//!
//! A file under `blobs/` is whole and verified: it gets its name by a rename after its bytes were synced. A file under
//! `partial/` is the beginning of a blob, and is taken up again. What is kept stays within the capacity, and leaves the file
//! system what it is told to leave: who makes room is decided by [`crate::policy`], never one that is being read or pinned.
//!
//! The index is in memory; its rows are in the metadata, written in batches behind the pulls, and read again at the start
//! ([`load`]). Files without a row, and rows without a file, are found by a listing after it. A hit takes one lock, for a
//! moment, and no database.

mod index;
mod inspect;
mod key;
mod load;
mod metrics;
mod partial;
mod probe;
mod quarantine;
mod room;
mod row;
mod scrub;

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use oci::{digest::Digest, http::Watch};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use crate::{download::sidecar_of, settings::CacheSettings};
pub(crate) use key::Key;
pub(crate) use load::{load, recall};
pub(crate) use metrics::StoreMetrics;
pub(crate) use probe::{ProbeError, Prober};
pub(crate) use room::Reservation;
pub(crate) use row::{Changes, Held, Row, Seconds};
pub(crate) use scrub::{Report, Scrubber};

use index::{Index, Partial};
use metrics::{Added, Removed};
use quarantine::Quarantine;

/// How many blobs' files can be renamed or removed at a time: those of one turn follow each other.
const TURNS: usize = 64;

/// The store of one edge.
#[derive(Debug)]
pub(crate) struct Store {
    data: PathBuf,
    blobs: PathBuf,
    partial: PathBuf,
    capacity: u64,
    keep_free: u64,
    index: Mutex<Index>,
    /// Whether the rows of an earlier life are still being read.
    loading: AtomicBool,
    quarantine: Mutex<Quarantine>,
    /// Taken while a blob's file appears or disappears, so that the removal of an old one cannot meet a new one.
    turns: [Mutex<()>; TURNS],
    metrics: StoreMetrics,
    /// Told when something that is pinned may be lacking: it was damaged, or was just pinned.
    pub(crate) lacking: Notify,
}

/// A whole blob, opened.
#[derive(Debug)]
pub(crate) struct StoredBlob {
    /// Its bytes.
    pub file: Arc<File>,
    /// Their number.
    pub size: u64,
    /// Keeps it from making room.
    pub lease: Lease,
}

/// While one lives, the blob does not make room for others.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<Store>,
    key: Key,
    serial: u32,
}

/// What a store holds, in figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) held: Held,
    pub(crate) blobs: usize,
    pub(crate) partials: usize,
    pub(crate) pinned: usize,
    pub(crate) pinned_bytes: u64,
    pub(crate) capacity: u64,
    pub(crate) keep_free: u64,
    pub(crate) free: Option<u64>,
    pub(crate) loading: bool,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the store at {path} cannot be opened: {error}")]
pub struct OpenError {
    /// Its directory.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl Store {
    /// Opens the store under `data`, or makes one. Its index is empty until [`load()`] has read the rows.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub(crate) fn open(
        data: &Path,
        settings: &CacheSettings,
        metrics: StoreMetrics,
    ) -> Result<Arc<Self>, OpenError> {
        let (blobs, partial) = (data.join("blobs"), data.join("partial"));
        let opened = || -> io::Result<Self> {
            fs::create_dir_all(&partial)?;
            for algorithm in ["sha256", "sha512"] {
                for first in 0..=u8::MAX {
                    fs::create_dir_all(blobs.join(algorithm).join(format!("{first:02x}")))?;
                }
            }
            let quarantine = Quarantine::open(data.join("quarantine"), settings.quarantine.0)?;
            sync_directory(data)?;
            let total = room::FileSystem::of(data)?.total;
            let capacity = settings.capacity.map_or(total / 5 * 4, |size| size.0);
            let mut index = Index::new(capacity);
            index.held.quarantined = quarantine.bytes();
            Ok(Self {
                data: data.to_owned(),
                capacity,
                keep_free: settings.keep_free.map_or(total / 20, |size| size.0),
                blobs: blobs.clone(),
                partial: partial.clone(),
                index: Mutex::new(index),
                loading: AtomicBool::new(true),
                quarantine: Mutex::new(quarantine),
                turns: [const { Mutex::new(()) }; TURNS],
                metrics,
                lacking: Notify::new(),
            })
        };
        let failed = |error| OpenError { path: data.to_owned(), error };
        let store = opened().map_err(failed)?;
        store.find_partials().map_err(failed)?;
        store.reap_partials(settings.keep_partial.0);
        store.publish(&store.index());
        Ok(Arc::new(store))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quarantine(&self) -> MutexGuard<'_, Quarantine> {
        self.quarantine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, key: &Key) -> MutexGuard<'_, ()> {
        let turn = usize::from(key.raw()[0]) % TURNS;
        self.turns[turn].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, index: &Index) {
        self.metrics.publish(index.held, index.len());
    }

    fn path(&self, key: &Key) -> PathBuf {
        let hex = key.hex();
        // In one piece: this is done for every hit.
        let mut path = PathBuf::with_capacity(self.blobs.as_os_str().len() + hex.len() + 16);
        path.push(&self.blobs);
        path.push(key.algorithm().as_str());
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    /// The blob, and a note that it was used. One whose file is gone is forgotten; one whose file has another length is set
    /// aside.
    pub(crate) fn get(self: &Arc<Self>, digest: &Digest) -> Option<StoredBlob> {
        let key = Key::of(digest);
        let (size, serial) = self.index().acquire(&key, now())?;
        let lease = Lease { store: self.clone(), key, serial };
        let opened = File::open(self.path(&lease.key)).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) if length == size => Some(StoredBlob { file: Arc::new(file), size, lease }),
            Ok((length, _)) => {
                tracing::error!(%digest, size_bytes = size, found = length, "a stored blob has the wrong length");
                self.condemn(&lease.key);
                None
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "a stored blob cannot be opened; it is forgotten");
                self.drop_blob(&lease.key, Removed::Missing);
                None
            }
        }
    }

    /// The length of the blob in bytes, if it is held.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.index().size(&Key::of(digest))
    }

    /// The same of many, with what is there of the others: whole or partial bytes.
    pub(crate) fn presence(&self, keys: &[Key]) -> Vec<Presence> {
        let index = self.index();
        let of = |key: &Key| match (index.size(key), index.partial(key)) {
            (Some(size), _) => Presence::Whole(size),
            (None, Some(size)) => Presence::Partial(size),
            (None, None) => Presence::Absent,
        };
        keys.iter().map(of).collect()
    }

    /// Notes that an image was used which these belong to.
    pub(crate) fn favour(&self, keys: &[Key]) {
        let mut index = self.index();
        keys.iter().for_each(|key| index.favour(key, now()));
    }

    /// From now on these never make room, and no others.
    pub(crate) fn set_pinned(&self, pinned: HashSet<Key>) {
        self.index().set_pinned(pinned);
    }

    /// Those of the pinned blobs that are not here.
    pub(crate) fn pinned_and_missing(&self) -> Vec<Key> {
        let index = self.index();
        index.pinned().iter().filter(|key| index.size(key).is_none()).cloned().collect()
    }

    /// Whether the rows of an earlier life are still being read.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Acquire)
    }

    /// What the metadata is to be told, at most `limit` rows.
    pub(crate) fn take_changes(&self, limit: usize) -> Changes {
        self.index().take_changes(limit)
    }

    /// Takes a blob out because an operator says so, with what is partly there of it. How many bytes that frees.
    pub(crate) fn dismiss(&self, key: &Key) -> u64 {
        let partial = self.index().partial(key).unwrap_or(0);
        if partial > 0 {
            self.discard_partial(&key.digest());
        }
        partial + self.drop_blob(key, Removed::Dismissed)
    }

    /// Forgets a blob and removes its file; its size.
    fn drop_blob(&self, key: &Key, why: Removed) -> u64 {
        let Some(size) = self.forget(key, why) else { return 0 };
        self.unlink(key);
        size
    }

    fn forget(&self, key: &Key, why: Removed) -> Option<u64> {
        let mut index = self.index();
        let size = index.forget(key)?;
        self.metrics.removed(why, size);
        self.publish(&index);
        Some(size)
    }

    fn unlink(&self, key: &Key) {
        let _turn = self.turn(key);
        if self.index().size(key).is_some() {
            // It was fetched again in the meantime: the file is the new one.
            return;
        }
        remove_file(&self.path(key));
    }

    /// Sets a blob aside whose bytes are wrong: nobody gets it any more.
    pub(crate) fn condemn(&self, key: &Key) {
        {
            let _turn = self.turn(key);
            if self.forget(key, Removed::Damaged).is_none() {
                return;
            }
            self.quarantine().take(&self.path(key), key);
        }
        let mut index = self.index();
        index.held.quarantined = self.quarantine().bytes();
        self.publish(&index);
        drop(index);
        self.lacking.notify_one();
    }

    /// Keeps the blob in `file`, which lies at its partial path, is whole and was verified: sync, rename, sync of the
    /// directory, and only then the index.
    ///
    /// # Errors
    /// The system refused; the blob is not kept.
    pub(crate) fn commit(&self, digest: &Digest, file: &File, reservation: Reservation) -> io::Result<()> {
        file.sync_data()?;
        let size = file.metadata()?.len();
        let key = Key::of(digest);
        let path = self.path(&key);
        {
            let _turn = self.turn(&key);
            let partial = self.partial_path(digest);
            fs::rename(&partial, &path)?;
            remove_file(&sidecar_of(&partial));
            sync_directory(path.parent().unwrap_or(&self.blobs))?;
            let mut index = self.index();
            index.drop_partial(&key);
            if let Some(replaced) = index.insert(key, size, now()) {
                self.metrics.removed(Removed::Replaced, replaced);
            }
            self.metrics.added(Added::Fetched, 1);
        }
        drop(reservation);
        Ok(())
    }

    /// What there is, in figures.
    pub(crate) fn figures(&self) -> Figures {
        let free = room::FileSystem::of(&self.data).ok().map(|system| system.free);
        let index = self.index();
        let pinned_bytes = index.pinned().iter().filter_map(|key| index.size(key)).sum();
        Figures {
            held: index.held,
            blobs: index.len(),
            partials: index.partials(),
            pinned: index.pinned().len(),
            pinned_bytes,
            capacity: self.capacity,
            keep_free: self.keep_free,
            free,
            loading: index.is_loading(),
        }
    }
}

/// How much of a blob is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Whole(u64),
    Partial(u64),
    Absent,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.index().release(&self.key, self.serial);
    }
}

/// A body from the store: holds the lease, and counts.
#[derive(Debug)]
pub(crate) struct Served {
    counter: Counter,
    #[expect(dead_code, reason = "held until the body is over, for its Drop")]
    lease: Option<Lease>,
}

impl Served {
    /// Counts with `counter`, and holds `lease` until the body is over.
    pub(crate) fn new(counter: Counter, lease: Option<Lease>) -> Self {
        Self { counter, lease }
    }
}

impl Watch for Served {
    fn sent(&mut self, bytes: u64) {
        self.counter.inc_by(bytes);
    }
}

/// Now, as rows have it.
pub(crate) fn now() -> Seconds {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> Seconds {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file of ours, if it is there.
fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %path.display(), %error, "a file of the store could not be removed");
    }
}

#[cfg(test)]
mod tests;
