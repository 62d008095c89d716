//! The thread behind a download: writes what comes where it belongs, hashes it in order, and tells the readers.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::Bytes;
use oci::digest::Hasher;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Download,
    ranges::Ranges,
    sidecar::{self, Sidecar},
};

/// Pieces that may wait for the disk, of one download. All downloads together are bounded by `download.in_flight`.
pub(super) const QUEUE: usize = 8;

/// A piece is cut so that readers are told, and can go on, before all of it is hashed.
const STEP: usize = 1 << 20;

/// Bytes of a blob on their way to the disk.
#[derive(Debug)]
pub(super) struct Piece {
    /// Where they belong.
    pub(super) offset: u64,
    /// Never empty.
    pub(super) bytes: Bytes,
    /// Their share of the bytes in flight, given back when they are written.
    pub(super) _share: OwnedSemaphorePermit,
}

/// What a writer leaves behind.
pub(super) struct Written {
    /// The hash of the bytes without a gap.
    pub(super) hasher: Hasher,
    /// How many those are.
    pub(super) prefix: u64,
    /// Why it ended before its queue did.
    pub(super) error: Option<io::Error>,
}

/// Opens the file at `path`, takes up what an earlier download left there if it has `begun`, and tells `resumed` what that
/// is; then writes all of `pieces`. Blocks; meant for the blocking pool.
pub(super) fn run(
    download: &Download,
    path: &Path,
    begun: bool,
    pieces: mpsc::Receiver<Piece>,
    resumed: oneshot::Sender<Ranges>,
) -> Written {
    let hasher = Hasher::new(download.digest.algorithm());
    let (file, here) = match open(download, path, begun) {
        Ok(opened) => opened,
        Err(error) => return Written { hasher, prefix: 0, error: Some(error) },
    };
    download.file.get_or_init(|| file.clone());
    let mut writer =
        Writer { download, file, sidecar: Sidecar::of(path), here, hasher, hashed: 0, buffer: Vec::new() };
    writer.publish();
    // Nobody waits for it where there was nothing to take up.
    let _ = resumed.send(writer.here.clone());
    let error = writer.run(pieces).err();
    Written { hasher: writer.hasher, prefix: writer.hashed, error }
}

/// The file, and what of it is here.
fn open(download: &Download, path: &Path, begun: bool) -> io::Result<(Arc<File>, Ranges)> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let found = file.metadata()?.len();
    let expected = download.progress.borrow().length;
    let here = match Sidecar::read(path, found)? {
        _ if !begun || expected.is_some_and(|expected| found > expected) => Ranges::default(),
        Some(listed) => listed,
        None => Ranges::up_to(found),
    };
    // All of it may be there, left by a kill before the rename. The last byte is asked for again, since an upstream
    // that is asked for nothing answers 416.
    let here = if here.ahead().is_empty() && expected.is_none_or(|expected| here.prefix() >= expected) {
        Ranges::up_to(here.prefix().saturating_sub(1))
    } else {
        here
    };
    if here.ahead().is_empty() {
        file.set_len(here.prefix())?;
        match std::fs::remove_file(sidecar::path_of(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok((Arc::new(file), here))
}

struct Writer<'a> {
    download: &'a Download,
    file: Arc<File>,
    sidecar: Sidecar,
    here: Ranges,
    hasher: Hasher,
    /// The bytes before it were hashed.
    hashed: u64,
    /// For what has to be read again to be hashed.
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn run(&mut self, mut pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
        // The upstream is asked for the rest, and the readers begin, while this goes on.
        self.catch_up()?;
        if !self.here.ahead().is_empty() {
            self.sidecar.keep(&self.here)?;
        }
        while let Some(Piece { offset, bytes, _share }) = pieces.blocking_recv() {
            self.take(offset, &bytes)?;
        }
        Ok(())
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Two requests may bring the same: what is here already is passed over.
        let known = usize::try_from(self.here.prefix().saturating_sub(offset)).unwrap_or(usize::MAX);
        let (offset, bytes) = (offset + known.min(bytes.len()) as u64, &bytes[known.min(bytes.len())..]);
        if bytes.is_empty() {
            return Ok(());
        }
        if offset > self.here.prefix() && !self.sidecar.is_kept() {
            self.sidecar.keep(&self.here)?;
        }
        let mut at = offset;
        for step in bytes.chunks(STEP) {
            self.file.write_all_at(step, at)?;
            self.here.insert(at..at + step.len() as u64);
            self.publish();
            if at == self.hashed {
                self.hasher.update(step);
                self.hashed += step.len() as u64;
            }
            at += step.len() as u64;
        }
        self.catch_up()?;
        if self.sidecar.is_kept() {
            self.sidecar.keep(&self.here)?;
        }
        Ok(())
    }

    /// Hashes what lies without a gap behind what was hashed.
    fn catch_up(&mut self) -> io::Result<()> {
        let prefix = self.here.prefix();
        while self.hashed < prefix {
            self.buffer.resize(STEP, 0);
            let wanted = usize::try_from(prefix - self.hashed).unwrap_or(STEP).min(STEP);
            match self.file.read_at(&mut self.buffer[..wanted], self.hashed) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.hasher.update(&self.buffer[..count]);
                    self.hashed += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer = Vec::new();
        Ok(())
    }

    fn publish(&self) {
        let ahead = self.here.ahead();
        self.download.progress.send_modify(|progress| {
            progress.written = self.here.prefix();
            if !(ahead.is_empty() && progress.ahead.is_empty()) {
                progress.ahead = ahead.iter().cloned().collect::<Arc<[Range<u64>]>>();
            }
        });
    }
}
