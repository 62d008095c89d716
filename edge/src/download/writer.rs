//! The thread behind a download: writes what comes, hashes it, and tells the readers.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::Bytes;
use oci::digest::Hasher;
use tokio::sync::{mpsc, oneshot};

use super::Download;

/// Pieces that may wait for the disk: with hyper's largest read of 400 KiB, some 3 MiB.
pub(super) const QUEUE: usize = 8;

/// A piece is cut so that readers are told, and can go on, before all of it is hashed.
const STEP: usize = 1 << 20;

/// What a writer leaves behind.
pub(super) struct Written {
    /// The hash of what is in the file.
    pub(super) hasher: Hasher,
    /// Why it ended before its queue did.
    pub(super) error: Option<io::Error>,
}

/// Opens the file at `path`, takes up what an earlier download left there if it has `begun`, and tells `resumed` how much that is; then
/// writes all of `pieces` behind it. Blocks; meant for the blocking pool.
pub(super) fn run(
    download: &Download,
    path: &Path,
    begun: bool,
    pieces: mpsc::Receiver<Bytes>,
    resumed: oneshot::Sender<u64>,
) -> Written {
    let mut hasher = Hasher::new(download.digest.algorithm());
    let (file, offset) = match open(download, path, begun) {
        Ok(opened) => opened,
        Err(error) => return Written { hasher, error: Some(error) },
    };
    download.file.get_or_init(|| file.clone());
    download.progress.send_modify(|progress| progress.written = offset);
    // Nobody waits for it where there was nothing to take up.
    let _ = resumed.send(offset);
    // The upstream is asked for the rest, and the readers begin, while this goes on.
    if offset > 0
        && let Err(error) = hash_existing(&file, &mut hasher)
    {
        return Written { hasher, error: Some(error) };
    }
    let error = write(download, &file, &mut hasher, offset, pieces).err();
    Written { hasher, error }
}

fn open(download: &Download, path: &Path, begun: bool) -> io::Result<(Arc<File>, u64)> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let found = file.metadata()?.len();
    let expected = download.progress.borrow().length;
    let keep = match expected {
        _ if !begun => 0,
        Some(expected) if found > expected => 0,
        Some(expected) if found < expected => found,
        // All of it may be there, left by a kill before the rename. The last byte is asked for again, since an upstream
        // that is asked for nothing answers 416.
        Some(_) | None => found.saturating_sub(1),
    };
    if keep < found {
        file.set_len(keep)?;
    }
    Ok((Arc::new(file), keep))
}

fn write(
    download: &Download,
    file: &File,
    hasher: &mut Hasher,
    mut offset: u64,
    mut pieces: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        for step in piece.chunks(STEP) {
            file.write_all_at(step, offset)?;
            offset += step.len() as u64;
            download.progress.send_modify(|progress| progress.written = offset);
            hasher.update(step);
        }
    }
    Ok(())
}

/// Hashes all of a file.
fn hash_existing(file: &File, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; STEP];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
