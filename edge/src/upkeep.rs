//! What an edge does behind the pulls: reads its index at the start, writes down what was used, keeps within its space, and
//! fetches again what is pinned and lacking.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinSet, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    download::{Downloads, Joined},
    images::Images,
    metadata::Metadata,
    store::{self, Seconds, Store, now},
    upstream::Upstreams,
};

/// How often uses are collected; what a `kill -9` makes forgotten is at most as old as [`FLUSH`].
const TICK: Duration = Duration::from_secs(1);
/// In ticks: how often uses are written down, and space is looked at.
const FLUSH: u64 = 5;
/// Rows in one transaction, so that a pull that writes waits for a moment at the most.
const BATCH: usize = 2000;
/// How many pinned blobs are fetched at a time.
const RESTORED_AT_ONCE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) store: Arc<Store>,
    pub(crate) metadata: Metadata,
    pub(crate) images: Arc<Images>,
    pub(crate) downloads: Downloads,
    pub(crate) upstreams: Upstreams,
    pub(crate) keep_partial: Duration,
    pub(crate) keep_images: Duration,
    pub(crate) stop: CancellationToken,
}

impl Upkeep {
    /// Begins, as tasks of `tasks`. What comes back tells when the index is loaded.
    pub(crate) fn begin(self: &Arc<Self>, tasks: &TaskTracker) -> oneshot::Receiver<()> {
        let (tell, loaded) = oneshot::channel();
        let upkeep = self.clone();
        tasks.spawn(async move {
            let load = async {
                // First of all: once the index is loaded, whatever is not pinned may have to go.
                upkeep.refresh_pins().await;
                store::load(&upkeep.store, &upkeep.metadata, || {
                    // Nobody may be waiting any more.
                    let _ = tell.send(());
                })
                .await;
            };
            tokio::select! {
                () = load => {}
                () = upkeep.stop.cancelled() => {}
            }
        });
        let upkeep = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = upkeep.run() => {}
                () = upkeep.stop.cancelled() => {}
            }
        });
        loaded
    }

    async fn run(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        let mut restoring = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.store.lacking.notified() => {
                    self.restore_pinned(&mut restoring).await;
                    continue;
                }
                Some(ended) = restoring.join_next() => {
                    // One that failed is begun again at the next look, not at once.
                    if matches!(ended, Ok(true)) {
                        self.restore_pinned(&mut restoring).await;
                    }
                    continue;
                }
            }
            count += 1;
            self.images.collect();
            if count % FLUSH == 0 {
                self.space().await;
                self.flush().await;
                self.refresh_pins().await;
                self.restore_pinned(&mut restoring).await;
                self.reap().await;
            }
        }
    }

    /// Keeps within the space that there is. Files are removed on the blocking pool.
    async fn space(&self) {
        let (store, metadata, keep_partial) = (self.store.clone(), self.metadata.clone(), self.keep_partial);
        let kept = tokio::task::spawn_blocking(move || {
            store.reap_partials(keep_partial);
            store.relieve();
            metadata.renew_reserve();
        });
        if let Err(error) = kept.await {
            tracing::error!(%error, "the space of the store could not be looked at");
        }
    }

    /// Writes down what was used, and what came and went.
    pub(crate) async fn flush(&self) {
        self.images.flush().await;
        loop {
            let changes = self.store.take_changes(BATCH);
            if changes.is_empty() {
                return;
            }
            if let Err(error) = self.metadata.write_changes(&changes).await {
                tracing::warn!(%error, "what was used could not be written down");
                return;
            }
        }
    }

    /// Lets go of images that nobody asks for.
    async fn reap(&self) {
        let age = Seconds::try_from(self.keep_images.as_secs()).unwrap_or(Seconds::MAX);
        if let Err(error) = self.images.reap(now().saturating_sub(age)).await {
            tracing::warn!(%error, "images that nobody asks for could not be removed");
        }
    }

    /// A pinned tag may have moved since the last look.
    async fn refresh_pins(&self) {
        if let Err(error) = self.images.refresh_pins().await {
            tracing::warn!(%error, "the pins cannot be read");
        }
    }

    /// Fetches what is pinned and not here, a few blobs at a time.
    async fn restore_pinned(&self, restoring: &mut JoinSet<bool>) {
        if self.store.is_loading() {
            return;
        }
        let missing = self.store.pinned_and_missing().into_iter().map(|key| key.digest());
        // Not those that are on their way: they would keep the others waiting.
        let missing: Vec<_> = missing.filter(|digest| self.downloads.running(digest).is_none()).collect();
        for digest in missing.into_iter().take(RESTORED_AT_ONCE.saturating_sub(restoring.len())) {
            let place = match self.metadata.place_of(&digest).await {
                Ok(Some(place)) => place,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%digest, %error, "it cannot be found out where a pinned blob comes from");
                    return;
                }
            };
            if let Some(upstream) = self.upstreams.of_name(&place.upstream) {
                let size = self.metadata.remembered_link(&place, &digest).and_then(|link| link.size);
                if let Joined::Began(download) = self.downloads.join(&place, &upstream, &digest, size) {
                    restoring.spawn(async move { download.ended().await });
                }
            }
        }
    }
}
