//! Space held in reserve for the database: a file of nothing, given up when the file system is full, so that what is small
//! and important can still be written; taken again when there is room.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use prometheus_client::metrics::counter::Counter;

/// The reserve is at most this part of the file system.
const SHARE: u64 = 50;
/// It is taken while at least so many times as much is free.
const PLENTY: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    used: Counter,
    turn: Mutex<()>,
}

impl Reserve {
    /// A reserve of `bytes` under `data`; nothing is taken yet.
    pub(super) fn new(data: &Path, bytes: u64, used: Counter) -> Self {
        let total =
            rustix::fs::statvfs(data).map_or(0, |system| system.f_blocks.saturating_mul(system.f_frsize));
        let path = data.join("metadata.reserve");
        Self { path, bytes: bytes.min(total / SHARE), used, turn: Mutex::default() }
    }

    /// Gives the space up. Whether there was any.
    pub(super) fn release(&self) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let held = std::fs::metadata(&self.path).is_ok_and(|found| found.len() > 0);
        // Cutting the file takes no space, as opening it for writing anew might.
        let released =
            held && File::options().write(true).open(&self.path).and_then(|file| file.set_len(0)).is_ok();
        if released {
            self.used.inc();
            tracing::warn!(
                size_bytes = self.bytes,
                "the disk is full: the space held in reserve for the metadata is given up"
            );
        }
        released
    }

    /// Takes the space, where it is not held and there is plenty.
    pub(super) fn renew(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let held = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        let free = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))
            .map_or(0, |system| system.f_bavail.saturating_mul(system.f_frsize));
        if held == self.bytes || free < self.bytes.saturating_mul(PLENTY) {
            return;
        }
        if let Err(error) = self.take() {
            tracing::warn!(%error, "no space can be held in reserve for the metadata");
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn take(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes);
        if taken.is_ok() || self.bytes == 0 {
            return Ok(());
        }
        // A file system that cannot: then bytes have to be written.
        let zeros = vec![0; 1 << 20];
        let mut left = self.bytes;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
            file.write_all(&zeros[..step])?;
            left -= step as u64;
        }
        file.sync_data()
    }
}
