//! The edge: a pull-through mirror that serves what it has at the speed of its disk, fetches what it lacks once, and goes
//! on serving when the upstream is gone.
//!
//! Stands on `oci`; knows nothing of the origin's insides.

mod answer;
mod api;
mod cache_status;
mod download;
mod freshness;
mod images;
mod manifests;
mod metadata;
mod metrics;
mod naming;
pub mod policy;
pub mod settings;
mod store;
mod tags;
mod unavailable;
mod upkeep;
mod upstream;
mod usage;

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use oci::http::{Body, Check, RequestBody, Service};
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::Answerer,
    api::about::About,
    download::Downloads,
    images::Images,
    manifests::Manifests,
    metadata::Metadata,
    metrics::Metrics,
    settings::Settings,
    store::{Prober, Scrubber, Store},
    tags::Tags,
    upkeep::Upkeep,
    upstream::{UpstreamCollector, Upstreams},
    usage::Uses,
};

/// How long a start waits for the rows of the stored blobs. With more of them than can be read in this time it serves
/// without, and looks up what is asked for one by one until it has them all.
const LOAD_PATIENCE: Duration = Duration::from_millis(500);

/// An edge that serves.
#[derive(Debug)]
pub struct Edge {
    answerer: Answerer,
    upkeep: Arc<Upkeep>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Who is asked for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openness {
    /// The clients of the networks that each upstream lists.
    Listed,
    /// Every client (`--no-auth`).
    Everybody,
}

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The metadata.
    #[error("the metadata cannot be opened: {0}")]
    Metadata(#[from] sqlx::Error),
    /// An upstream as configured.
    #[error(transparent)]
    Upstream(#[from] upstream::InvalidUpstream),
}

/// A future whose code is compiled in this crate: that of an `async fn` is compiled where it is awaited, which is in the
/// binary, all of it after each change.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Edge {
    /// Opens what is under `data`. Needs no upstream.
    ///
    /// # Errors
    /// The data directory or a file that the settings name cannot be used.
    #[inline(never)]
    pub fn start<'a>(
        settings: &'a Settings,
        data: &'a Path,
        node_name: &'a str,
        openness: Openness,
        registry: &'a mut Registry,
    ) -> Boxed<'a, Result<Arc<Self>, StartError>> {
        Box::pin(Self::open(settings, data, node_name, openness, registry))
    }

    async fn open(
        settings: &Settings,
        data: &Path,
        node_name: &str,
        openness: Openness,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Metrics::register(registry);
        let upstreams = Upstreams::new(settings, &metrics)?;
        registry.register_collector(Box::new(UpstreamCollector(upstreams.clone())));
        let store = Store::open(data, &settings.cache, metrics.store.clone())?;
        let reserve_used = metrics.store.reserve_used.clone();
        let metadata = Metadata::open(data, settings.cache.metadata_reserve.0, reserve_used).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let uses = Arc::new(Uses::new());
        let manifests = Manifests::new(metadata.clone(), uses.clone());
        let (budget, first_byte) = (settings.freshness.budget.0, settings.download.first_byte.0);
        let tags =
            Tags::new(metadata.clone(), manifests.clone(), budget, first_byte, tasks.clone(), stop.clone());
        let downloads = Downloads::new(
            store.clone(),
            metadata.clone(),
            metrics.clone(),
            settings.download.clone(),
            tasks.clone(),
            stop.clone(),
        );
        let scrubber = Scrubber::new(store.clone(), &settings.cache, stop.clone());
        let images =
            Arc::new(Images::new(store.clone(), metadata.clone(), manifests.clone(), tags.clone(), uses));
        let upkeep = Arc::new(Upkeep {
            store: store.clone(),
            metadata: metadata.clone(),
            images: images.clone(),
            downloads: downloads.clone(),
            upstreams: upstreams.clone(),
            keep_partial: settings.cache.keep_partial.0,
            keep_images: settings.cache.keep_images.0,
            stop: stop.clone(),
        });
        let loaded = upkeep.begin(&tasks);
        tasks.spawn(scrubber.clone().run());
        let statuses = cache_status::Headers::new(node_name);
        let patience = answer::Patience { first_byte, budget, stall: settings.download.stall.0 };
        let answerer = Answerer {
            statuses,
            openness,
            upstreams,
            store,
            metadata,
            manifests,
            tags,
            downloads,
            metrics,
            patience,
            images,
            scrubber,
            tasks: tasks.clone(),
            about: About::new(node_name, settings),
            prober: Prober::new(data),
        };
        // Whether in time or not, it serves from now on.
        let _ = tokio::time::timeout(LOAD_PATIENCE, loaded).await;
        Ok(Arc::new(Self { answerer, upkeep, tasks, stop }))
    }

    #[inline(never)]
    fn answered(&self, request: Request<RequestBody>) -> Boxed<'_, Response<Body>> {
        Box::pin(async move {
            if api::serves(request.uri().path()) {
                return api::answer(&self.answerer, request).await;
            }
            self.answerer.answer(request).await
        })
    }

    /// Ends the downloads; what they have fetched stays, to be resumed.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.upkeep.flush().await;
        self.answerer.metadata.close().await;
    }
}

impl Service for Edge {
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send {
        self.answered(request)
    }

    async fn checks(&self) -> Vec<Check> {
        self.answerer.checks().await
    }
}

#[cfg(test)]
mod tests;
