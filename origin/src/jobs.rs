//! What a node does beside answering requests: drop abandoned uploads, collect garbage, delete its objects.
//!
//! Every node runs this; a lease lets one at a time collect. Each step is safe to repeat and safe beside itself, so a node
//! that dies in the middle costs nothing but time.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{
        self, Database,
        gc::{Reclaimable, Share},
        objects::{Garbage, ObjectName},
    },
    metrics::Metrics,
    settings::{GcSettings, UploadSettings},
    storage::{Storage, StorageError},
};

/// Objects deleted in one round.
const ROUND: u32 = 256;
/// Objects deleted at once.
const DELETIONS: usize = 8;
/// How often garbage is looked for that nobody told of: that of other nodes, and what could not be deleted before.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// The first collection after a start comes no later than this.
const FIRST_COLLECTION: Duration = Duration::from_secs(60);
/// Fewer than this are removed without asking the brake.
const UNBRAKED: u64 = 1_000;

/// Why a job was left unfinished; the next run goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("object {object} could not be deleted: {error}")]
    Delete { object: ObjectName, error: StorageError },
    #[error(
        "garbage collection would remove {taken} of {all} and stops; if that is meant, raise gc.brake for one run"
    )]
    Braked { taken: u64, all: u64 },
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) links_quarantined: u64,
    pub(crate) links_removed: u64,
    pub(crate) blobs_removed: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Jobs {
    database: Database,
    storage: Storage,
    metrics: Metrics,
    gc: GcSettings,
    expire: Duration,
    node: String,
    garbage: Arc<Notify>,
}

impl Jobs {
    pub(crate) fn new(
        database: Database,
        storage: Storage,
        metrics: Metrics,
        gc: GcSettings,
        upload: &UploadSettings,
        node: String,
    ) -> Self {
        Self {
            database,
            storage,
            metrics,
            gc,
            expire: upload.expire.0,
            node,
            garbage: Arc::new(Notify::new()),
        }
    }

    /// Whoever makes garbage tells this.
    pub(crate) fn notify(&self) -> Arc<Notify> {
        self.garbage.clone()
    }

    /// Something may have become garbage: it is deleted soon.
    pub(crate) fn garbage_is_there(&self) {
        self.garbage.notify_one();
    }

    /// Runs until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let work = async { tokio::join!(self.keep_collecting(), self.keep_expiring(), self.keep_sweeping()) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = work => {}
        }
        if let Err(error) = self.database.release_lease("gc", &self.node).await {
            tracing::debug!(error = %error, "the lease runs out by itself");
        }
    }

    async fn keep_collecting(&self) {
        let interval = self.gc.interval.0;
        tokio::time::sleep(interval.min(FIRST_COLLECTION)).await;
        let mut ticks = ticks(interval);
        loop {
            ticks.tick().await;
            match self.database.take_lease("gc", &self.node, interval).await {
                Ok(true) => report("garbage collection", self.collect().await),
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %error, "garbage collection waits for the database"),
            }
        }
    }

    async fn keep_expiring(&self) {
        let mut ticks = ticks((self.expire / 4).clamp(Duration::from_millis(100), Duration::from_secs(600)));
        loop {
            ticks.tick().await;
            report("dropping abandoned uploads", self.expire_abandoned().await);
        }
    }

    async fn keep_sweeping(&self) {
        let mut ticks = ticks(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.garbage.notified() => {}
            }
            report("deleting objects", self.sweep().await);
        }
    }

    /// One collection.
    pub(crate) async fn collect(&self) -> Result<Collected, JobError> {
        let (grace, quarantine) = (self.gc.grace.0, self.gc.quarantine());
        self.brake(self.database.unneeded_links(grace).await?)?;
        let links_quarantined = self.database.quarantine(grace).await?;
        let links_removed = self.database.unlink_quarantined(quarantine).await?;
        self.brake(self.database.unlinked_blobs(grace).await?)?;
        let blobs_removed = self.database.remove_blobs(grace).await?;
        self.metrics.gc_runs.inc();
        self.metrics.gc_links_quarantined.inc_by(links_quarantined);
        self.metrics.gc_blobs_removed.inc_by(blobs_removed);
        let collected = Collected { links_quarantined, links_removed, blobs_removed };
        if collected != Collected::default() {
            tracing::info!(links_quarantined, links_removed, blobs_removed, "garbage was collected");
            self.garbage_is_there();
        }
        Ok(collected)
    }

    fn brake(&self, share: Share) -> Result<(), JobError> {
        let braked = brakes(share, self.gc.brake);
        self.metrics.gc_braked.set(i64::from(braked));
        if braked { Err(JobError::Braked { taken: share.taken, all: share.all }) } else { Ok(()) }
    }

    /// What a collection would free, by repository.
    pub(crate) async fn reclaimable(&self) -> Result<Vec<Reclaimable>, database::Error> {
        self.database.reclaimable(self.gc.grace.0).await
    }

    /// Drops uploads that nobody went on with, and objects whose writers are gone.
    pub(crate) async fn expire_abandoned(&self) -> Result<(), JobError> {
        let uploads = self.database.expire_uploads(self.expire).await?;
        let objects = self.database.expire_objects(self.expire).await?;
        self.metrics.uploads_expired.inc_by(uploads);
        if uploads + objects > 0 {
            tracing::info!(uploads, objects, "abandoned uploads were dropped");
            self.garbage_is_there();
        }
        Ok(())
    }

    /// Deletes objects that nothing names, and forgets each after it is deleted.
    pub(crate) async fn sweep(&self) -> Result<(), JobError> {
        loop {
            let garbage = self.database.garbage(ROUND).await?;
            let found = garbage.len();
            let mut deletions = futures_util::stream::iter(garbage)
                .map(|garbage| self.delete(garbage))
                .buffer_unordered(DELETIONS);
            let mut deleted = Vec::with_capacity(found);
            let mut failure = None;
            while let Some(result) = deletions.next().await {
                match result {
                    Ok(object) => deleted.push(object),
                    Err(error) => failure = Some(error),
                }
            }
            drop(deletions);
            if !deleted.is_empty() {
                self.database.forget_objects(&deleted).await?;
                self.metrics.objects_deleted.inc_by(deleted.len() as u64);
            }
            match failure {
                Some(error) => return Err(error),
                None if found < ROUND as usize => return Ok(()),
                None => {}
            }
        }
    }

    async fn delete(&self, garbage: Garbage) -> Result<ObjectName, JobError> {
        match self.storage.delete(&garbage).await {
            Ok(()) => Ok(garbage.object),
            Err(error) => Err(JobError::Delete { object: garbage.object, error }),
        }
    }
}

/// Whether a step takes suspiciously much.
fn brakes(share: Share, brake: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^52")]
    let over = share.taken as f64 > share.all as f64 * brake;
    share.taken > UNBRAKED && over
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn report<T>(job: &'static str, result: Result<T, JobError>) {
    if let Err(error) = result {
        tracing::error!(error = %error, job, "a job was left unfinished, and is tried again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_stops_large_shares_of_large_registries_only() {
        let share = |taken, all| Share { taken, all };
        assert!(!brakes(share(1_000, 1_000), 0.5));
        assert!(!brakes(share(2_000, 10_000), 0.5));
        assert!(brakes(share(5_001, 10_000), 0.5));
        assert!(!brakes(share(10_000, 10_000), 1.0));
    }
}
