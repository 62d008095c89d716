//! What of a partial blob is here when it was not fetched in order: a list of ranges in a file beside it.
//!
//! It is there before the first byte out of order is written, and written again after each piece; so after a kill it
//! tells of no byte that is not there. A partial blob without one was fetched in order, and its length says all.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::ranges::Ranges;

/// Ranges that are written down; further ones are fetched again after a kill.
const MOST: usize = 256;
/// Start and end, little-endian.
const ENTRY: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Sidecar {
    path: PathBuf,
    file: Option<File>,
    length: usize,
}

impl Sidecar {
    /// The one of the partial blob at `partial`, not made yet.
    pub(super) fn of(partial: &Path) -> Self {
        Self { path: path_of(partial), file: None, length: 0 }
    }

    /// What the list of an earlier life says of a partial blob of `size` bytes; `None` without a list. One that cannot be
    /// right says that nothing is here.
    ///
    /// # Errors
    /// The list is there and cannot be read.
    pub(super) fn read(partial: &Path, size: u64) -> io::Result<Option<Ranges>> {
        let bytes = match std::fs::read(path_of(partial)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut ranges = Ranges::default();
        for entry in bytes.chunks(ENTRY) {
            let Some((start, end)) = entry
                .split_first_chunk::<8>()
                .zip(entry.last_chunk::<8>())
                .map(|((start, _), end)| (u64::from_le_bytes(*start), u64::from_le_bytes(*end)))
            else {
                return Ok(Some(Ranges::default()));
            };
            if entry.len() != ENTRY || start > end || end > size {
                return Ok(Some(Ranges::default()));
            }
            ranges.insert(start..end);
        }
        Ok(Some(ranges))
    }

    /// Whether there is one.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Writes down what is here; makes the file if need be.
    ///
    /// # Errors
    /// The system refused; the list may say less than there is, never more.
    pub(super) fn keep(&mut self, here: &Ranges) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::options().write(true).create(true).truncate(true).open(&self.path)?),
        };
        let entries =
            here.iter().take(MOST).flat_map(|range| [range.start.to_le_bytes(), range.end.to_le_bytes()]);
        let mut bytes: Vec<u8> = entries.flatten().collect();
        // Empty ranges over what was longer: the list is replaced by one write, never by none for a moment.
        bytes.resize(bytes.len().max(self.length), 0);
        file.write_all_at(&bytes, 0)?;
        self.length = bytes.len();
        Ok(())
    }
}

/// Where the list of a partial blob lies.
pub(crate) fn path_of(partial: &Path) -> PathBuf {
    partial.with_added_extension("parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_be_right_says_that_nothing_is_here() {
        let directory = tempfile::tempdir().expect("a directory");
        let partial = directory.path().join("sha256-00");
        assert_eq!(Sidecar::read(&partial, 100).expect("read"), None);
        let mut here = Ranges::up_to(10);
        here.insert(40..60);
        let mut sidecar = Sidecar::of(&partial);
        sidecar.keep(&here).expect("written");
        assert_eq!(Sidecar::read(&partial, 100).expect("read"), Some(here.clone()));
        assert_eq!(
            Sidecar::read(&partial, 59).expect("read"),
            Some(Ranges::default()),
            "longer than the file"
        );
        here.insert(10..40);
        sidecar.keep(&here).expect("written");
        assert_eq!(Sidecar::read(&partial, 100).expect("read"), Some(Ranges::up_to(60)));
        std::fs::write(path_of(&partial), b"short").expect("written");
        assert_eq!(Sidecar::read(&partial, 100).expect("read"), Some(Ranges::default()));
    }
}
