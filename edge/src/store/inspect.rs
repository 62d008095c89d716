//! Reading a stored blob again, to see whether it still has its digest.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use oci::digest::Hasher;
use tokio::time::Instant;

use super::{Key, Seconds, Store, now};

/// Bytes read at a time; the pace is kept between two.
const STEP: usize = 1 << 20;
/// A blob used within this time is left in the page cache after it was read.
const WARM: Seconds = 3600;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Sound,
    Damaged,
    /// There is no such file any more.
    Gone,
}

/// How fast to read.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; `None`: as fast as it goes.
    rate: Option<u64>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, next: Instant::now() }
    }

    async fn wait(&mut self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let pause = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        // Time that nothing was read in is not made up for.
        self.next = self.next.max(Instant::now()) + pause;
        tokio::time::sleep_until(self.next).await;
    }
}

impl Store {
    /// Reads the blob's file, and compares.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        key: &Key,
        size: Option<u64>,
        used: Seconds,
        pace: &mut Pace,
    ) -> Finding {
        let path = self.path(key);
        let Ok(Ok((file, length))) = tokio::task::spawn_blocking(move || {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok::<_, io::Error>((Arc::new(file), length))
        })
        .await
        else {
            return Finding::Gone;
        };
        if size.is_some_and(|size| size != length) {
            return Finding::Damaged;
        }
        let mut hasher = Hasher::new(key.algorithm());
        let mut offset = 0;
        while offset < length {
            let reading = file.clone();
            let step = tokio::task::spawn_blocking(move || read_step(&reading, hasher, offset)).await;
            let Ok(Ok((read, back))) = step else { return Finding::Damaged };
            (hasher, offset) = (back, offset + read);
            self.metrics.scrubbed_bytes.inc_by(read);
            pace.wait(read).await;
            if read == 0 {
                return Finding::Damaged;
            }
        }
        if now().saturating_sub(used) > WARM {
            // So that what is read once does not displace what is read often.
            let _ = rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed);
        }
        if hasher.finish() == key.digest() { Finding::Sound } else { Finding::Damaged }
    }
}

fn read_step(file: &File, mut hasher: Hasher, offset: u64) -> io::Result<(u64, Hasher)> {
    let mut buffer = vec![0; STEP];
    let read = file.read_at(&mut buffer, offset)?;
    hasher.update(&buffer[..read]);
    Ok((read as u64, hasher))
}
