//! A registry that the edge stands in front of: its client, its health as seen in live traffic, and who may use it.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use ipnet::IpNet;
use oci::{
    client::{
        BlobAnswer, Client, ClientConfig, Credentials, FetchError, FetchedManifest, InvalidClient,
        ManifestHead, Silence,
    },
    digest::Digest,
    name::{Reference, RepositoryName},
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use crate::{
    metrics::Metrics,
    settings::{Freshness, Settings, UpstreamSettings},
};

/// One registry.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// What clients call it.
    pub name: Arc<str>,
    /// How its tags are kept fresh.
    pub freshness: Freshness,
    networks: Vec<IpNet>,
    client: Client,
    silent: AtomicBool,
    metrics: Metrics,
    /// A turn for each request for bytes of blobs that may run at once.
    pub(crate) downloads: Arc<Semaphore>,
    /// Bytes received from it.
    pub received: Counter,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    named: HashMap<String, Arc<Upstream>>,
    default: Option<Arc<Upstream>>,
}

/// Why the upstreams cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstream {
    /// No URL, or certificates that cannot be read.
    #[error(transparent)]
    Client(#[from] InvalidClient),
    /// A file that the configuration names.
    #[error("{path} cannot be read: {error}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Upstreams {
    /// Makes the clients; nobody is asked yet.
    ///
    /// # Errors
    /// A file cannot be read, or a URL is no registry's.
    pub(crate) fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, InvalidUpstream> {
        let mut upstreams = Self { named: HashMap::new(), default: None };
        let only = settings.upstream.named.len() == 1;
        for (name, one) in &settings.upstream.named {
            let upstream = Arc::new(Upstream::new(name, one, settings, metrics)?);
            if one.default || only {
                upstreams.default = Some(upstream.clone());
            }
            upstreams.named.insert(name.clone(), upstream);
        }
        Ok(upstreams)
    }

    /// The upstream that a client means by `registry`, or by no registry.
    pub(crate) fn find(&self, registry: Option<&str>) -> Option<&Arc<Upstream>> {
        match registry {
            None => self.default.as_ref(),
            Some(name) => self.named.get(name),
        }
    }
}

impl Upstream {
    fn new(
        name: &str,
        one: &UpstreamSettings,
        settings: &Settings,
        metrics: &Metrics,
    ) -> Result<Self, InvalidUpstream> {
        let read = |path: &std::path::Path| {
            fs::read(path).map_err(|error| InvalidUpstream::File { path: path.display().to_string(), error })
        };
        // `validate` has refused an upstream without a URL.
        let url = one.url.clone().unwrap_or_else(|| url::Url::parse("none:").expect("a URL"));
        let mut config = ClientConfig::new(url);
        config.connect_timeout = settings.download.connect.0;
        config.answer_timeout = settings.download.first_byte.0;
        if let Some(ca) = &one.ca {
            config.extra_roots = read(ca)?;
        }
        if let (Some(username), Some(file)) = (&one.username, &one.password_file) {
            let password = String::from_utf8_lossy(&read(file)?).trim_end().to_owned();
            config.credentials = Some(Credentials { username: username.clone(), password });
        }
        Ok(Self {
            name: name.into(),
            freshness: one.freshness,
            networks: one.networks.clone(),
            client: Client::new(config)?,
            silent: AtomicBool::new(false),
            downloads: Arc::new(Semaphore::new(settings.download.connections as usize)),
            metrics: metrics.clone(),
            received: metrics.received(name),
        })
    }

    /// Whether a client at `address` is served without credentials.
    pub(crate) fn is_open_to(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The repository that a client means: Docker Hub's official images have a project that clients may leave out.
    pub(crate) fn repository(&self, asked: RepositoryName) -> RepositoryName {
        if &*self.name != "docker.io" || asked.as_str().contains('/') {
            return asked;
        }
        format!("library/{asked}").parse().unwrap_or(asked)
    }

    /// The upstream did not answer when it was last asked. While it is so, nobody who can be served otherwise waits for
    /// it; each request asks it behind its answer, and the first answer ends it. A refused connection is no silence: it
    /// costs nothing to try again.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    fn heard<T>(&self, result: Result<T, FetchError>) -> Result<T, FetchError> {
        let outcome = match &result {
            Ok(_) => "ok",
            Err(FetchError::SaidNo) => "said_no",
            Err(FetchError::Failed(_)) => "failed",
            Err(FetchError::Silent(_)) => "silent",
        };
        self.metrics.answered(&self.name, outcome);
        let silent = match &result {
            Err(FetchError::Silent(Silence::NoAnswer(_))) => true,
            Err(FetchError::Silent(Silence::Unreachable(why))) => {
                why.contains("timed out") || why.contains("deadline")
            }
            _ => false,
        };
        if self.silent.swap(silent, Ordering::Relaxed) != silent {
            if silent {
                tracing::warn!(upstream = %self.name, "the upstream is silent; what is cached is served without waiting for it");
            } else {
                tracing::info!(upstream = %self.name, "the upstream answers again");
            }
        }
        result
    }

    /// See [`Client::head_manifest`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub(crate) async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Option<ManifestHead>, FetchError> {
        self.heard(within(timeout, self.client.head_manifest(repository, reference, timeout)).await)
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
        let fetched =
            self.heard(within(timeout, self.client.manifest(repository, reference, timeout)).await)?;
        self.received.inc_by(fetched.bytes.len() as u64);
        Ok(fetched)
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
        self.heard(self.client.head_blob(repository, digest).await)
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
        self.heard(self.client.blob(repository, digest, offset, end).await)
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
        self.heard(within(timeout, self.client.listing(repository, path, query, timeout)).await)
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
