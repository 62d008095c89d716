//! Room: within the capacity, and within what the file system has left. Counted before a byte is written.

use std::{io, path::Path, sync::Arc};

use super::{Removed, Store, index::Victim};

/// Room for a blob that is about to be fetched, counted as used until it is committed or given up.
#[derive(Debug)]
pub(crate) struct Reservation {
    store: Arc<Store>,
    bytes: u64,
}

/// A file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSystem {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

impl FileSystem {
    /// The one that `path` is on.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let system = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Ok(Self { total: bytes(system.f_blocks), free: bytes(system.f_bavail) })
    }
}

impl Store {
    /// Makes room for `bytes` more. `None` where that much cannot be had: it is more than the capacity, or everything
    /// else is being read.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let room = self.capacity.checked_sub(bytes)?;
        if bytes > self.room_on_disk(0) {
            // Nothing that could go would be enough: better keep it.
            return None;
        }
        self.evict_to(room.min(self.room_on_disk(bytes)));
        let room = room.min(self.room_on_disk(bytes));
        let mut index = self.index();
        if index.held.total() > room {
            return None;
        }
        index.held.reserved += bytes;
        self.publish(&index);
        Some(Reservation { store: self.clone(), bytes })
    }

    /// Removes what is too much: because something else fills the file system, or the capacity is smaller than it was.
    pub(crate) fn relieve(&self) {
        self.evict_to(self.capacity.min(self.room_on_disk(0)));
    }

    /// How much the store may hold so that `bytes` more fit on the file system.
    fn room_on_disk(&self, bytes: u64) -> u64 {
        let Ok(system) = FileSystem::of(&self.data) else { return u64::MAX };
        let written = {
            // What is promised is not written yet: its bytes are still among the free ones.
            let held = self.index().held;
            held.total() - held.reserved
        };
        written.saturating_add(system.free).saturating_sub(self.keep_free).saturating_sub(bytes)
    }

    fn evict_to(&self, limit: u64) {
        loop {
            if self.index().held.total() <= limit {
                return;
            }
            // A statement of its own: nobody waits for the index with the quarantine locked.
            let freed = self.quarantine().drop_oldest();
            if let Some(freed) = freed {
                let mut index = self.index();
                index.held.quarantined -= freed;
                self.publish(&index);
                continue;
            }
            let victim = self.index().evict();
            match victim {
                None => return,
                Some(Victim::Blob(key, size)) => {
                    tracing::debug!(digest = %key.digest(), size_bytes = size, "a blob makes room");
                    self.metrics.removed(Removed::Evicted, size);
                    self.unlink(&key);
                    self.publish(&self.index());
                }
                Some(Victim::Partial(key)) => {
                    tracing::debug!(digest = %key.digest(), "a partial blob makes room");
                    self.evict_partial(&key);
                }
            }
        }
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
        index.held.reserved = index.held.reserved.saturating_sub(self.bytes);
        self.store.publish(&index);
    }
}
