//! Damaged blobs, set aside for somebody to look at: under names that are no blob's, and within a bound.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Key, now, remove_file};

/// How many are kept at the most, whatever their sizes.
const MAX_FILES: usize = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Quarantine {
    directory: PathBuf,
    limit: u64,
    /// The oldest first.
    files: VecDeque<(PathBuf, u64)>,
}

impl Quarantine {
    /// Finds what earlier lives set aside.
    pub(super) fn open(directory: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut found = Vec::new();
        for file in fs::read_dir(&directory)? {
            let file = file?;
            if file.file_name().to_str().is_some_and(is_ours) {
                let metadata = file.metadata()?;
                let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((time, file.path(), metadata.len()));
            }
        }
        found.sort();
        let files = found.into_iter().map(|(_, path, size)| (path, size)).collect();
        Ok(Self { directory, limit, files })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// Moves the blob's file here; removes it where it cannot be kept.
    pub(super) fn take(&mut self, path: &Path, key: &Key) {
        let aside = self.directory.join(format!("{}-{}.{}", key.algorithm(), key.hex(), now()));
        let size = fs::metadata(path).map_or(0, |found| found.len());
        if size > self.limit || fs::rename(path, &aside).is_err() {
            remove_file(path);
            return;
        }
        self.files.retain(|(path, _)| *path != aside);
        self.files.push_back((aside, size));
        while self.bytes() > self.limit || self.files.len() > MAX_FILES {
            self.drop_oldest();
        }
    }

    /// Removes the oldest; how many bytes that frees, `None` where there is none.
    pub(super) fn drop_oldest(&mut self) -> Option<u64> {
        let (path, size) = self.files.pop_front()?;
        remove_file(&path);
        Some(size)
    }
}

/// `sha256-<hex>.<seconds>`.
fn is_ours(name: &str) -> bool {
    let parts = name.split_once('-').and_then(|(algorithm, rest)| Some((algorithm, rest.split_once('.')?)));
    parts.is_some_and(|(algorithm, (hex, seconds))| {
        algorithm.parse().is_ok_and(|algorithm| Key::parse(algorithm, hex).is_some())
            && seconds.bytes().all(|b| b.is_ascii_digit())
    })
}
