//! The scrub: behind the pulls, at a bounded speed, every stored blob is read again now and then; and all at once, when an
//! operator asks (`verify`). What is damaged goes to quarantine, and is fetched again when it is asked for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oci::digest::Digest;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Row, Seconds, Store,
    inspect::{Finding, Pace},
    now,
};
use crate::settings::CacheSettings;

/// Slots of the index looked at under one lock.
const WALK: usize = 4096;
/// How long the scrub waits where nothing is due.
const IDLE: Duration = Duration::from_secs(5);
/// How many damaged blobs a report names.
const MAX_NAMED: usize = 1000;

/// How far a verification is.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) running: bool,
    /// Blobs read, of how many.
    pub(crate) checked: u64,
    pub(crate) total: u64,
    pub(crate) bytes_checked: u64,
    pub(crate) bytes_total: u64,
    /// Those whose bytes were wrong; the first thousand.
    pub(crate) damaged: Vec<Digest>,
    /// When it ended, RFC 3339.
    pub(crate) finished: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scrubber {
    store: Arc<Store>,
    rate: u64,
    interval: Seconds,
    report: Mutex<Report>,
    stop: CancellationToken,
}

impl Scrubber {
    /// A scrubber of `store`.
    pub(crate) fn new(store: Arc<Store>, settings: &CacheSettings, stop: CancellationToken) -> Arc<Self> {
        let interval = Seconds::try_from(settings.scrub_interval.0.as_secs()).unwrap_or(Seconds::MAX);
        Arc::new(Self { store, rate: settings.scrub_rate.0, interval, report: Mutex::default(), stop })
    }

    fn report_mut(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the verification is that runs, or ran last.
    pub(crate) fn report(&self) -> Report {
        self.report_mut().clone()
    }

    /// Reads what is due, for as long as the node lives.
    pub(crate) async fn run(self: Arc<Self>) {
        if self.rate == 0 {
            return;
        }
        tokio::select! {
            () = self.scrub() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn scrub(&self) {
        let mut pace = Pace::new(Some(self.rate));
        loop {
            let before = now().saturating_sub(self.interval);
            let mut at = Some(0);
            while let Some(from) = at {
                let (rows, next) = self.store.index().walk(from, WALK, |_, verified| verified <= before);
                for row in rows {
                    self.look(&row, &mut pace).await;
                }
                at = next;
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(IDLE).await;
        }
    }

    /// Begins to verify everything, unless that runs already. Whether this call began it; then [`Scrubber::verify`] is to be
    /// run.
    pub(crate) fn begin(&self) -> bool {
        let mut report = self.report_mut();
        if report.running {
            return false;
        }
        let index = self.store.index();
        *report = Report {
            running: true,
            total: index.len() as u64,
            bytes_total: index.held.whole,
            ..Report::default()
        };
        true
    }

    /// Reads everything once, as fast as it goes.
    pub(crate) async fn verify(self: Arc<Self>) {
        let ending = Ending(&self);
        let mut pace = Pace::new(None);
        let mut at = Some(0);
        while let Some(from) = at {
            let (rows, next) = self.store.index().walk(from, WALK, |_, _| true);
            for row in rows {
                if self.stop.is_cancelled() {
                    return;
                }
                let finding = self.look(&row, &mut pace).await;
                let mut report = self.report_mut();
                report.checked += 1;
                report.bytes_checked += row.size;
                if finding == Finding::Damaged && report.damaged.len() < MAX_NAMED {
                    report.damaged.push(row.key.digest());
                }
            }
            at = next;
        }
        drop(ending);
    }

    async fn look(&self, row: &Row, pace: &mut Pace) -> Finding {
        let finding = self.store.inspect(&row.key, Some(row.size), row.used, pace).await;
        match finding {
            Finding::Sound => self.store.index().verified(&row.key, now()),
            Finding::Damaged => {
                tracing::error!(digest = %row.key.digest(), size_bytes = row.size, "a stored blob is damaged; it is set aside");
                self.store.condemn(&row.key);
            }
            // It made room while this was on its way.
            Finding::Gone => {}
        }
        finding
    }
}

/// Says that a verification is over, however it ended.
struct Ending<'a>(&'a Scrubber);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut report = self.0.report_mut();
        report.running = false;
        report.finished = Some(oci::http::front::rfc3339(std::time::SystemTime::now()));
    }
}
