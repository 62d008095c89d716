//! A registry that the edge stands in front of: its client, its health as seen in live traffic, and who may use it.
//!
//! Every question to a registry goes through [`Upstream::ask`]: what it has just said *no* to is not asked again, and while
//! it is silent or wants to be left alone nobody asks it.

mod breaker;
mod collector;
mod health;
mod make;
mod names;
mod negative;

use std::{
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use ipnet::IpNet;
use oci::{
    client::{
        BlobAnswer, Client, Failure, FetchError, FetchedManifest, ManifestHead, Probe, RateLimit, Silence,
    },
    digest::Digest,
    name::{Reference, RepositoryName},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use url::Url;

use crate::{metrics::Metrics, settings::Freshness};
use health::Health;
use names::{is_docker_hub, is_within};
use negative::{Negatives, Question};

pub(crate) use breaker::{Gate, Refusal};
pub(crate) use collector::UpstreamCollector;
pub(crate) use health::{Condition, Report};
pub(crate) use make::InvalidUpstream;
pub(crate) use names::{Caller, Upstreams};

/// One registry.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// What clients call it.
    pub name: Arc<str>,
    /// The other names under which the same registry is listed: what has come by one of them has come from it.
    kin: Vec<Arc<str>>,
    /// How its tags are kept fresh.
    pub freshness: Freshness,
    /// Whether it is asked with credentials.
    pub is_authenticated: bool,
    networks: Vec<IpNet>,
    client: Client,
    health: Health,
    negatives: Negatives,
    budget: Duration,
    metrics: Metrics,
    /// What metrics call it.
    label: Arc<str>,
    /// A turn for each request for bytes of blobs that may run at once.
    pub(crate) downloads: Arc<Semaphore>,
    /// Bytes received from it.
    pub received: Counter,
    /// One person's look at a time.
    probing: Semaphore,
}

impl Upstream {
    /// Every name under which this registry is listed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.name).chain(&self.kin)
    }

    /// Whether a client at `address` is served without credentials.
    pub(crate) fn is_open_to(&self, address: IpAddr) -> bool {
        is_within(&self.networks, address)
    }

    /// The repository that a client means: Docker Hub's official images have a project that clients may leave out.
    pub(crate) fn repository(&self, asked: RepositoryName) -> RepositoryName {
        if !is_docker_hub(&self.name) || asked.as_str().contains('/') {
            return asked;
        }
        format!("library/{asked}").parse().unwrap_or(asked)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &Url {
        self.client.url()
    }

    /// Whether it may be asked now.
    pub(crate) fn gate(&self) -> Gate {
        self.health.gate()
    }

    /// It costs time and gives no answer. While it is so, nobody waits for it; one request at a time asks it again.
    pub(crate) fn is_silent(&self) -> bool {
        self.health.is_silent()
    }

    /// How it is.
    pub(crate) fn report(&self) -> Report {
        self.health.report()
    }

    /// What it last told of its rate limit.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        self.client.rate_limit()
    }

    /// Asks it step by step, now, whatever its health is.
    pub(crate) async fn probe(&self) -> Probe {
        // The semaphore is never closed.
        let _turn = self.probing.acquire().await;
        let began = Instant::now();
        let probe = self.client.probe().await;
        if probe.is_well() {
            self.health.heard(began, None);
        }
        probe
    }

    /// One question, unless it is known not to be worth asking.
    async fn ask<T>(
        &self,
        question: Option<Question>,
        asking: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let began = Instant::now();
        if question.as_ref().is_some_and(|question| self.negatives.holds(question, began)) {
            self.metrics.said_no_again(&self.label);
            return Err(FetchError::SaidNo);
        }
        self.health.admit().map_err(refused)?;
        let result = asking.await;
        if let (Err(FetchError::SaidNo), Some(question)) = (&result, question) {
            self.negatives.keep(question, Instant::now());
        }
        self.heard(began, result)
    }

    fn heard<T>(&self, began: Instant, result: Result<T, FetchError>) -> Result<T, FetchError> {
        let outcome = match &result {
            Ok(_) => "ok",
            Err(FetchError::SaidNo) => "said_no",
            Err(FetchError::Failed(_)) => "failed",
            Err(FetchError::Silent(_)) => "silent",
        };
        self.metrics.answered(&self.label, outcome);
        self.health.heard(began, result.as_ref().err());
        result
    }

    /// See [`Client::head_manifest`]. Where no answer comes within the budget, requests that can be served otherwise stop
    /// waiting for this upstream until one does.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Option<ManifestHead>, FetchError> {
        let question = Question::manifest(&self.name, repository, reference);
        let asking = within(timeout, self.client.head_manifest(repository, reference, timeout));
        let watched = async {
            let began = Instant::now();
            let mut asking = pin!(asking);
            match tokio::time::timeout(self.budget, &mut asking).await {
                Ok(answer) => answer,
                Err(_elapsed) => {
                    self.health.late(began);
                    asking.await
                }
            }
        };
        self.ask(Some(question), watched).await
    }

    /// See [`Client::manifest`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<FetchedManifest, FetchError> {
        let question = Question::manifest(&self.name, repository, reference);
        let asking = within(timeout, self.client.manifest(repository, reference, timeout));
        let fetched = self.ask(Some(question), asking).await?;
        self.received.inc_by(fetched.bytes.len() as u64);
        Ok(fetched)
    }

    /// Forgets that it said no to a manifest: it says now that it has it.
    pub(crate) fn forget_no(&self, repository: &RepositoryName, reference: &Reference) {
        self.negatives.forget(&Question::manifest(&self.name, repository, reference));
    }

    /// See [`Client::head_blob`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn head_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, FetchError> {
        let question = Question::blob(&self.name, repository, digest);
        self.ask(Some(question), self.client.head_blob(repository, digest)).await
    }

    /// See [`Client::blob`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        offset: u64,
        end: Option<u64>,
    ) -> Result<BlobAnswer, FetchError> {
        let question = Question::blob(&self.name, repository, digest);
        self.ask(Some(question), self.client.blob(repository, digest, offset, end)).await
    }

    /// See [`Client::listing`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn listing(
        &self,
        repository: &RepositoryName,
        path: &str,
        query: Option<&str>,
        timeout: Duration,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        self.ask(None, within(timeout, self.client.listing(repository, path, query, timeout))).await
    }
}

/// A question that is not asked has the answer that the last one had.
pub(crate) fn refused(refusal: Refusal) -> FetchError {
    match refusal {
        Refusal::Silent { retry_after } => Silence::NotAsked { retry_after }.into(),
        Refusal::Limited { retry_after } => Failure::RateLimited { retry_after: Some(retry_after) }.into(),
    }
}

/// One deadline over tokens, redirects, head and body: each of them has its own, and they add up.
async fn within<T>(
    timeout: Duration,
    asking: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    match tokio::time::timeout(timeout, asking).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Silence::NoAnswer(timeout).into()),
    }
}
