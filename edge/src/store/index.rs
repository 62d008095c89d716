//! Which blobs there are, how large, when used and by whom; and who makes room first. No files are touched here but to
//! read the directories once.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
    time::SystemTime,
};

use oci::digest::Digest;

#[derive(Debug)]
struct Entry {
    size: u64,
    /// The place in `order`: rises with each use.
    used: u64,
    readers: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    blobs: HashMap<Digest, Entry>,
    order: BTreeMap<u64, Digest>,
    clock: u64,
    bytes: u64,
    /// Partial blobs that nobody works on, with their sizes.
    pub(super) partials: HashMap<Digest, u64>,
    /// Bytes promised to downloads.
    pub(super) reserved: u64,
}

/// What makes room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Blob(Digest),
    Partial(Digest),
}

impl Index {
    /// Reads the directories. Files with foreign names are left alone; partial ones not touched since `oldest` are
    /// removed. The order of use is that of the files' times.
    pub(super) fn scan(blobs: &Path, partial: &Path, oldest: Option<SystemTime>) -> io::Result<Self> {
        let mut index = Self::default();
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for directory in fs::read_dir(blobs.join(algorithm))? {
                for file in fs::read_dir(directory?.path())? {
                    let file = file?;
                    let name = file.file_name();
                    let digest =
                        name.to_str().and_then(|hex| format!("{algorithm}:{hex}").parse::<Digest>().ok());
                    if let Some(digest) = digest {
                        let metadata = file.metadata()?;
                        let time = |time: io::Result<SystemTime>| time.unwrap_or(SystemTime::UNIX_EPOCH);
                        let used = time(metadata.accessed()).max(time(metadata.modified()));
                        found.push((used, digest, metadata.len()));
                    }
                }
            }
        }
        found.sort_by_key(|(used, ..)| *used);
        for (_, digest, size) in found {
            index.insert(digest, size);
        }
        for file in fs::read_dir(partial)? {
            let file = file?;
            let name = file.file_name();
            let digest = name.to_str().and_then(|name| name.replacen('-', ":", 1).parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            let metadata = file.metadata()?;
            if oldest.is_some_and(|oldest| metadata.modified().is_ok_and(|modified| modified < oldest)) {
                fs::remove_file(file.path())?;
            } else {
                index.partials.insert(digest, metadata.len());
            }
        }
        Ok(index)
    }

    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Bytes held or promised.
    pub(super) fn used(&self) -> u64 {
        self.bytes + self.reserved + self.partials.values().sum::<u64>()
    }

    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|entry| entry.size)
    }

    pub(super) fn insert(&mut self, digest: Digest, size: u64) {
        self.forget(&digest);
        self.clock += 1;
        self.bytes += size;
        self.order.insert(self.clock, digest.clone());
        self.blobs.insert(digest, Entry { size, used: self.clock, readers: 0 });
    }

    /// Notes a use and a reader; the size.
    pub(super) fn acquire(&mut self, digest: &Digest) -> Option<u64> {
        let entry = self.blobs.get_mut(digest)?;
        self.clock += 1;
        let key = self.order.remove(&entry.used).unwrap_or_else(|| digest.clone());
        entry.used = self.clock;
        entry.readers += 1;
        self.order.insert(self.clock, key);
        Some(entry.size)
    }

    pub(super) fn release(&mut self, digest: &Digest) {
        if let Some(entry) = self.blobs.get_mut(digest) {
            entry.readers = entry.readers.saturating_sub(1);
        }
    }

    pub(super) fn forget(&mut self, digest: &Digest) {
        if let Some(entry) = self.blobs.remove(digest) {
            self.order.remove(&entry.used);
            self.bytes -= entry.size;
        }
    }

    /// Takes out what is worth least: a partial blob nobody works on, else the blob used longest ago that nobody reads.
    pub(super) fn evict(&mut self) -> Option<Victim> {
        if let Some(digest) = self.partials.keys().next().cloned() {
            self.partials.remove(&digest);
            return Some(Victim::Partial(digest));
        }
        let idle = |digest: &&Digest| self.blobs.get(*digest).is_some_and(|entry| entry.readers == 0);
        let digest = self.order.values().find(idle)?.clone();
        self.forget(&digest);
        Some(Victim::Blob(digest))
    }
}
