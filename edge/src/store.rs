//! The blobs that an edge holds, as files named by their digest.
//!
//! A file under `blobs/` is whole and verified: it gets its name by a rename after its bytes were synced. A file under
//! `partial/` is the beginning of a blob, and is taken up again. What is kept stays within the capacity: the blobs used
//! longest ago make room, never one that is being read. The index is made anew from the directory at each start.

mod index;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use oci::{digest::Digest, http::Watch};
use prometheus_client::metrics::counter::Counter;

use crate::{metrics::Metrics, settings::CacheSettings};
use index::Index;

/// The store of one edge.
#[derive(Debug)]
pub(crate) struct Store {
    blobs: PathBuf,
    partial: PathBuf,
    capacity: u64,
    keep_free: u64,
    index: Mutex<Index>,
    metrics: Metrics,
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

/// Room for a blob that is about to be fetched, counted as used until it is committed or given up.
#[derive(Debug)]
pub(crate) struct Reservation {
    store: Arc<Store>,
    bytes: u64,
}

/// While one lives, the blob does not make room for others.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<Store>,
    digest: Digest,
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
    /// Opens the store under `data`, or makes one. Partial blobs older than the settings allow are removed.
    ///
    /// # Errors
    /// The directories cannot be made or read.
    pub(crate) fn open(
        data: &Path,
        settings: &CacheSettings,
        metrics: Metrics,
    ) -> Result<Arc<Self>, OpenError> {
        let (blobs, partial) = (data.join("blobs"), data.join("partial"));
        let opened = || -> io::Result<Self> {
            fs::create_dir_all(&partial)?;
            for algorithm in ["sha256", "sha512"] {
                for first in 0..=u8::MAX {
                    fs::create_dir_all(blobs.join(algorithm).join(format!("{first:02x}")))?;
                }
            }
            sync_directory(data)?;
            let system = rustix::fs::statvfs(data)?;
            let total = system.f_blocks.saturating_mul(system.f_frsize);
            let keep_partial = settings.keep_partial.0;
            let index = Index::scan(&blobs, &partial, SystemTime::now().checked_sub(keep_partial))?;
            Ok(Self {
                capacity: settings.capacity.map_or(total / 5 * 4, |size| size.0),
                keep_free: settings.keep_free.map_or(total / 20, |size| size.0),
                blobs: blobs.clone(),
                partial: partial.clone(),
                index: Mutex::new(index),
                metrics,
            })
        };
        let store = opened().map_err(|error| OpenError { path: data.to_owned(), error })?;
        store.evict_to(store.capacity);
        store.publish(&store.index());
        Ok(Arc::new(store))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, index: &Index) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.cache_bytes.set(gauge(index.used()));
        self.metrics.cache_blobs.set(gauge(index.len() as u64));
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs.join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    /// Where the beginning of a blob lies while it is fetched.
    pub(crate) fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partial.join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// The blob, and a note that it was used. One whose file is gone or has another length is forgotten.
    pub(crate) fn get(self: &Arc<Self>, digest: &Digest) -> Option<StoredBlob> {
        let size = self.index().acquire(digest)?;
        let lease = Lease { store: self.clone(), digest: digest.clone() };
        let opened = File::open(self.path(digest)).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) if length == size => Some(StoredBlob { file: Arc::new(file), size, lease }),
            other => {
                let found = other.map(|(length, _)| length);
                tracing::error!(%digest, size_bytes = size, ?found, "a stored blob is damaged and is forgotten");
                self.remove(digest);
                None
            }
        }
    }

    /// The length of the blob in bytes, if it is held.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.index().size(digest)
    }

    /// Forgets a blob and removes its file.
    pub(crate) fn remove(&self, digest: &Digest) {
        self.index().forget(digest);
        self.unlink(digest);
        self.publish(&self.index());
    }

    fn unlink(&self, digest: &Digest) {
        if let Err(error) = fs::remove_file(self.path(digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%digest, %error, "a blob could not be removed");
        }
    }

    /// Makes room for `bytes` more. `None` where that much cannot be had: it is more than the capacity, or everything
    /// else is being read.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let room = self.capacity.checked_sub(bytes)?;
        self.evict_to(room.min(self.room_on_disk(bytes)));
        let room = room.min(self.room_on_disk(bytes));
        let mut index = self.index();
        if index.used() > room {
            return None;
        }
        index.reserved += bytes;
        self.publish(&index);
        Some(Reservation { store: self.clone(), bytes })
    }

    /// How much the store may hold so that `bytes` more fit on the file system.
    fn room_on_disk(&self, bytes: u64) -> u64 {
        let Ok(system) = rustix::fs::statvfs(&self.blobs) else { return u64::MAX };
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let used = {
            // What is promised is not written yet: its bytes are still among the free ones.
            let index = self.index();
            index.used() - index.reserved
        };
        used.saturating_add(free).saturating_sub(self.keep_free).saturating_sub(bytes)
    }

    fn evict_to(&self, limit: u64) {
        loop {
            let victim = {
                let mut index = self.index();
                if index.used() <= limit { None } else { index.evict() }
            };
            match victim {
                None => return,
                Some(index::Victim::Blob(digest)) => {
                    tracing::debug!(%digest, "a blob makes room");
                    self.metrics.evictions.inc();
                    self.unlink(&digest);
                }
                Some(index::Victim::Partial(digest)) => {
                    tracing::debug!(%digest, "a partial blob makes room");
                    self.discard_partial(&digest);
                }
            }
        }
    }

    /// Says that a download works on the partial blob, so that it is counted by its reservation and not by itself.
    /// Whether there is one.
    pub(crate) fn claim_partial(&self, digest: &Digest) -> bool {
        self.index().partials.remove(digest).is_some()
    }

    /// Says that nobody works on the partial blob any more; it stays, to be resumed.
    pub(crate) fn leave_partial(&self, digest: &Digest) {
        match fs::metadata(self.partial_path(digest)) {
            Ok(found) if found.len() == 0 => self.discard_partial(digest),
            Ok(found) => {
                let mut index = self.index();
                index.partials.insert(digest.clone(), found.len());
                self.publish(&index);
            }
            Err(_gone) => {}
        }
    }

    /// Removes a partial blob.
    pub(crate) fn discard_partial(&self, digest: &Digest) {
        self.index().partials.remove(digest);
        if let Err(error) = fs::remove_file(self.partial_path(digest))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%digest, %error, "a partial blob could not be removed");
        }
    }

    /// Keeps the blob in `file`, which lies at its partial path, is whole and was verified: sync, rename, sync of the
    /// directory, and only then the index.
    ///
    /// # Errors
    /// The system refused; the blob is not kept.
    pub(crate) fn commit(&self, digest: &Digest, file: &File, reservation: Reservation) -> io::Result<()> {
        file.sync_data()?;
        let path = self.path(digest);
        fs::rename(self.partial_path(digest), &path)?;
        sync_directory(path.parent().unwrap_or(&self.blobs))?;
        let size = file.metadata()?.len();
        let mut index = self.index();
        index.insert(digest.clone(), size);
        drop(index);
        drop(reservation);
        Ok(())
    }
}

impl Reservation {
    /// Asks for more, where the length was not known before.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        match self.store.reserve(bytes) {
            Some(mut more) => {
                self.bytes += std::mem::take(&mut more.bytes);
                true
            }
            None => false,
        }
    }

    /// How many bytes it is for.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut index = self.store.index();
        index.reserved = index.reserved.saturating_sub(self.bytes);
        self.store.publish(&index);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.index().release(&self.digest);
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

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
