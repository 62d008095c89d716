//! The start: the rows of an earlier life come back into the index, behind the pulls that are served meanwhile; then the
//! directories are compared with them.
//!
//! A kill may leave a file without its row (the row could not be written) or a row without its file (the blob made room).
//! The first is read whole and kept if it has its digest, the second is forgotten.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use oci::digest::{Algorithm, Digest};

use super::{
    Added, Key, Removed, Row, Store,
    inspect::{Finding, Pace},
    now, seconds,
};
use crate::metadata::Metadata;

/// Rows read at a time.
const PAGE: u32 = 10_000;
/// Slots of the index looked at under one lock.
const WALK: usize = 4096;

/// Loads all rows, then compares them with the files. `loaded` is called between the two.
pub(crate) async fn load(store: &Arc<Store>, metadata: &Metadata, loaded: impl FnOnce()) {
    if let Err(error) = load_rows(store, metadata).await {
        tracing::error!(%error, "the rows of the stored blobs cannot be read; the files are read instead");
    }
    store.loaded();
    store.relieve();
    loaded();
    if let Err(error) = compare(store).await {
        tracing::error!(%error, "the directories of the store cannot be listed");
    }
}

async fn load_rows(store: &Arc<Store>, metadata: &Metadata) -> Result<(), sqlx::Error> {
    let count = metadata.count_blobs().await?;
    store.index().reserve(count);
    let mut after = Vec::new();
    loop {
        let rows = metadata.blobs_after(&after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.key.raw().to_vec();
        store.load_rows(rows);
    }
}

/// While rows are loaded, looks into the metadata for one blob that is asked for now.
pub(crate) async fn recall(store: &Arc<Store>, metadata: &Metadata, digest: &Digest) {
    if !store.is_loading() || store.size(digest).is_some() {
        return;
    }
    match metadata.blob(&Key::of(digest)).await {
        Ok(row) => store.load_rows(row.into_iter().collect()),
        Err(error) => tracing::warn!(%digest, %error, "the row of a blob cannot be read"),
    }
}

impl Store {
    /// All rows of an earlier life are in the index.
    pub(super) fn loaded(&self) {
        self.index().loaded();
        self.loading.store(false, Ordering::Release);
    }

    fn load_rows(&self, rows: Vec<Row>) {
        let mut index = self.index();
        let added = rows.into_iter().map(|row| u64::from(index.load(row))).sum();
        self.metrics.added(Added::Loaded, added);
        self.publish(&index);
    }

    /// Keeps a file that no row told of, if it still has its digest.
    async fn adopt(self: &Arc<Self>, key: Key) {
        let path = self.path(&key);
        let Ok(found) = fs::metadata(&path) else { return };
        let finding = self.inspect(&key, None, now(), &mut Pace::new(None)).await;
        let _turn = self.turn(&key);
        let mut index = self.index();
        if index.size(&key).is_some() || !path.exists() {
            return;
        }
        match finding {
            Finding::Gone => {}
            Finding::Sound => {
                let used = found.modified().map_or(0, seconds);
                let row = Row { key: key.clone(), size: found.len(), used, frequency: 0, verified: now() };
                index.load(row);
                index.see(&key);
                index.verified(&key, now());
                self.metrics.added(Added::Loaded, 1);
                self.publish(&index);
            }
            Finding::Damaged => {
                tracing::error!(digest = %key.digest(), "a file of the store does not have its digest; it is set aside");
                let mut quarantine = self.quarantine();
                quarantine.take(&path, &key);
                index.held.quarantined = quarantine.bytes();
                self.publish(&index);
            }
        }
    }
}

/// Compares the directories with the index, one at a time.
async fn compare(store: &Arc<Store>) -> io::Result<()> {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for first in 0..=u8::MAX {
            let directory = store.blobs.join(algorithm.as_str()).join(format!("{first:02x}"));
            let listing = tokio::task::spawn_blocking(move || list(algorithm, directory));
            let keys = listing.await.map_err(io::Error::other)??;
            let strange: Vec<Key> = {
                let mut index = store.index();
                keys.into_iter().filter(|key| !index.see(key)).collect()
            };
            for key in strange {
                store.adopt(key).await;
            }
        }
    }
    let mut at = Some(0);
    while let Some(from) = at {
        let (rows, next) = store.index().walk(from, WALK, |seen, _| !seen);
        for row in rows {
            // Listed or not, it may have come since.
            if !store.path(&row.key).exists() {
                store.drop_blob(&row.key, Removed::Missing);
            }
        }
        at = next;
    }
    Ok(())
}

/// The files of ours in a directory; others are left alone.
fn list(algorithm: Algorithm, directory: PathBuf) -> io::Result<Vec<Key>> {
    let mut keys = Vec::new();
    for file in fs::read_dir(directory)? {
        let name = file?.file_name();
        keys.extend(name.to_str().and_then(|hex| Key::parse(algorithm, hex)));
    }
    Ok(keys)
}
