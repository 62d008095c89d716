//! A small file written, synced, read back and removed in the data directory, with the time that each step took: whether
//! the disk is slow is measured and not guessed.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

/// How much is written.
const BYTES: usize = 1 << 20;
/// How long a disk may take before the answer is that it is too slow to measure.
const PATIENCE: Duration = Duration::from_secs(10);
/// The file's name in the data directory.
const NAME: &str = "probe";

/// What was measured, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Probed {
    bytes: usize,
    write_ms: f64,
    fsync_ms: f64,
    read_ms: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// One at a time: two would measure each other.
    #[error("a probe of the store runs already; ask again in a moment")]
    Running,
    /// The system refused.
    #[error("{step} a file of {BYTES} bytes in the data directory failed: {error}")]
    Disk { step: &'static str, error: io::Error },
    /// It still runs.
    #[error("the disk has not written {BYTES} bytes within {0:?}")]
    Slow(Duration),
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    path: PathBuf,
    running: Arc<AtomicBool>,
}

/// Lets the next probe begin when this one is over, whoever waited for it.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Prober {
    /// Of the data directory `data`.
    pub(crate) fn new(data: &Path) -> Self {
        Self { path: data.join(NAME), running: Arc::default() }
    }

    /// Measures.
    ///
    /// # Errors
    /// See [`ProbeError`]; the file is removed all the same.
    pub(crate) async fn probe(&self) -> Result<Probed, ProbeError> {
        if self.running.swap(true, Ordering::AcqRel) {
            return Err(ProbeError::Running);
        }
        let (turn, path) = (Turn(self.running.clone()), self.path.clone());
        let measuring = tokio::task::spawn_blocking(move || {
            let measured = measure(&path);
            super::remove_file(&path);
            drop(turn);
            measured
        });
        match tokio::time::timeout(PATIENCE, measuring).await {
            Ok(Ok(measured)) => measured,
            Ok(Err(panic)) => Err(ProbeError::Disk { step: "writing", error: io::Error::other(panic) }),
            Err(_elapsed) => Err(ProbeError::Slow(PATIENCE)),
        }
    }
}

fn measure(path: &Path) -> Result<Probed, ProbeError> {
    let failed = |step| move |error| ProbeError::Disk { step, error };
    // Not zeros, which some file systems do not write.
    let content: Vec<u8> =
        (0..BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0]).collect();
    let began = Instant::now();
    let mut file = File::create(path).map_err(failed("making"))?;
    file.write_all(&content).map_err(failed("writing"))?;
    let written = Instant::now();
    file.sync_all().map_err(failed("syncing"))?;
    let synced = Instant::now();
    // Otherwise memory would be measured. Where the file system keeps it there all the same, reading costs no more than that.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut back = Vec::with_capacity(BYTES);
    let mut reading = File::open(path).map_err(failed("reading"))?;
    reading.read_to_end(&mut back).map_err(failed("reading"))?;
    let read = Instant::now();
    if back != content {
        let error = io::Error::new(io::ErrorKind::InvalidData, "other bytes came back than were written");
        return Err(ProbeError::Disk { step: "reading", error });
    }
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
    Ok(Probed {
        bytes: BYTES,
        write_ms: ms(began, written),
        fsync_ms: ms(written, synced),
        read_ms: ms(synced, read),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_measures_each_step_and_leaves_nothing() {
        let data = tempfile::tempdir().expect("a directory");
        let probed = Prober::new(data.path()).probe().await.expect("measured");
        assert_eq!(probed.bytes, BYTES);
        assert!(probed.write_ms > 0.0 && probed.fsync_ms >= 0.0 && probed.read_ms > 0.0, "{probed:?}");
        assert_eq!(std::fs::read_dir(data.path()).expect("listed").count(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_told_and_the_next_probe_may_run() {
        let data = tempfile::tempdir().expect("a directory");
        let prober = Prober::new(&data.path().join("gone"));
        for _ in 0..2 {
            assert!(matches!(prober.probe().await, Err(ProbeError::Disk { step: "making", .. })));
        }
    }
}
