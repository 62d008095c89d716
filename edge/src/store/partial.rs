//! The beginnings of blobs: left by downloads that broke off or were killed, counted, taken up again, and reaped.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::Duration,
};

use oci::digest::Digest;

use crate::download::sidecar_of;

use super::{Key, Partial, Seconds, Store, now, remove_file, seconds};

impl Store {
    /// Where the beginning of a blob lies while it is fetched.
    pub(crate) fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partial.join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Reads the directory once, at the start: nobody works on any of them. Files with foreign names are left alone; a list
    /// of ranges whose blob was renamed or removed just before a kill is removed.
    pub(super) fn find_partials(&self) -> io::Result<()> {
        let mut index = self.index();
        for file in fs::read_dir(&self.partial)? {
            let file = file?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let digest = |name: &str| name.replacen('-', ":", 1).parse::<Digest>().ok();
            if let Some(digest) = digest(name) {
                let metadata = file.metadata()?;
                let since = metadata.modified().map_or(0, seconds);
                index.add_partial(Key::of(&digest), Partial { size: size_of(&metadata), since });
            } else if let Some(digest) = name.strip_suffix(".parts").and_then(digest)
                && !self.partial_path(&digest).try_exists()?
            {
                remove_file(&file.path());
            }
        }
        Ok(())
    }

    /// Removes the file of a partial blob, and what goes with it. The list of ranges goes last: without it a file that was not
    /// fetched in order would look as if it were.
    fn remove_partial(&self, digest: &Digest) {
        let path = self.partial_path(digest);
        remove_file(&path);
        remove_file(&sidecar_of(&path));
    }

    /// Says that a download works on the partial blob, so that it is counted by its reservation and not by itself.
    /// Whether there is one.
    pub(crate) fn claim_partial(&self, digest: &Digest) -> bool {
        let key = Key::of(digest);
        // In turn, so that one which is just making room is gone before the download looks at it.
        let _turn = self.turn(&key);
        let mut index = self.index();
        let begun = index.drop_partial(&key);
        self.publish(&index);
        begun
    }

    /// Says that nobody works on the partial blob any more; it stays, to be resumed.
    pub(crate) fn leave_partial(&self, digest: &Digest) {
        match fs::metadata(self.partial_path(digest)) {
            Ok(found) if found.len() == 0 => self.discard_partial(digest),
            Ok(found) => {
                let mut index = self.index();
                index.add_partial(Key::of(digest), Partial { size: size_of(&found), since: now() });
                self.publish(&index);
            }
            Err(_gone) => {}
        }
    }

    /// Removes a partial blob.
    pub(crate) fn discard_partial(&self, digest: &Digest) {
        let key = Key::of(digest);
        let _turn = self.turn(&key);
        let mut index = self.index();
        index.drop_partial(&key);
        self.publish(&index);
        drop(index);
        self.remove_partial(digest);
    }

    /// Removes those that nobody has asked for since `age`.
    pub(crate) fn reap_partials(&self, age: Duration) {
        let age = Seconds::try_from(age.as_secs()).unwrap_or(Seconds::MAX);
        let before = now().saturating_sub(age);
        loop {
            let Some(key) = self.index().oldest_partial(before) else { return };
            let digest = key.digest();
            tracing::info!(%digest, "a partial blob that nobody asked for again is removed");
            self.evict_partial(&key);
        }
    }

    /// Removes a partial blob unless a download has taken it up since it was chosen.
    pub(super) fn evict_partial(&self, key: &Key) {
        let _turn = self.turn(key);
        let mut index = self.index();
        if index.drop_partial(key) {
            self.publish(&index);
            drop(index);
            self.remove_partial(&key.digest());
        }
    }
}

/// What a file takes: one that was not fetched in order has holes.
fn size_of(file: &Metadata) -> u64 {
    /// Of what `st_blocks` counts, whatever the file system's own blocks are.
    const BLOCK: u64 = 512;
    file.len().min(file.blocks().saturating_mul(BLOCK))
}
