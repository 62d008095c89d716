//! The edge: a pull-through mirror that serves what it has at the speed of its disk, fetches what it lacks once, and goes
//! on serving when the upstream is gone.
//!
//! Stands on `oci`; knows nothing of the origin's insides.

mod answer;
mod api;
mod cache_status;
mod download;
mod freshness;
mod manifests;
mod metadata;
mod metrics;
mod naming;
pub mod settings;
mod store;
mod tags;
mod unavailable;
mod upstream;

use std::{path::Path, sync::Arc};

use http::{Request, Response};
use oci::http::{Body, Check, RequestBody, Service};
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::Answerer, download::Downloads, manifests::Manifests, metadata::Metadata, metrics::Metrics,
    settings::Settings, store::Store, tags::Tags, upstream::Upstreams,
};

/// An edge that serves.
#[derive(Debug)]
pub struct Edge {
    answerer: Answerer,
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

impl Edge {
    /// Opens what is under `data`. Needs no upstream.
    ///
    /// # Errors
    /// The data directory or a file that the settings name cannot be used.
    pub async fn start(
        settings: &Settings,
        data: &Path,
        node_name: &str,
        openness: Openness,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Metrics::register(registry);
        let upstreams = Upstreams::new(settings, &metrics)?;
        let store = Store::open(data, &settings.cache, metrics.clone())?;
        let metadata = Metadata::open(data).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let manifests = Manifests::new(metadata.clone());
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
        let identifier = cache_status::identifier(node_name);
        let patience = answer::Patience { first_byte, budget, stall: settings.download.stall.0 };
        let answerer = Answerer {
            identifier,
            openness,
            upstreams,
            store,
            metadata,
            manifests,
            tags,
            downloads,
            metrics,
            patience,
        };
        Ok(Arc::new(Self { answerer, tasks, stop }))
    }

    /// Ends the downloads; what they have fetched stays, to be resumed.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.answerer.metadata.close().await;
    }
}

impl Service for Edge {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        if api::serves(request.uri().path()) {
            return api::answer(&self.answerer, request).await;
        }
        self.answerer.answer(request).await
    }

    async fn checks(&self) -> Vec<Check> {
        self.answerer.checks().await
    }
}

#[cfg(test)]
mod tests;
