//! Making the client of an upstream: from its settings, or from a name that a client gave.

use std::{fs, path::Path, sync::Arc, time::Duration};

use ipnet::IpNet;
use oci::client::{
    Client, ClientConfig, ClientIdentity, Credentials, Guard, InvalidClient, Secret, SharedTls, SystemRoots,
};
use tokio::sync::Semaphore;
use url::Url;

use super::{Upstream, breaker::Pauses, health::Health, names::is_docker_hub, negative::Negatives};
use crate::{
    metrics::Metrics,
    settings::{Freshness, Settings, UpstreamSettings},
};

/// Where Docker Hub's images are; `docker.io` itself shows web pages.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// What metrics call all registries that are not listed: a client may name any number of them.
const UNLISTED: &str = "unlisted";

/// What upstreams have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) waits: Waits,
    pub(super) metrics: Metrics,
    pub(super) negatives: Negatives,
    pub(super) downloads: Arc<Semaphore>,
    pub(super) roots: SystemRoots,
}

/// How long an upstream is waited for, and left alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    connect: Duration,
    first_byte: Duration,
    pauses: Pauses,
}

impl From<&Settings> for Waits {
    fn from(settings: &Settings) -> Self {
        let pauses = Pauses {
            budget: settings.freshness.budget.0,
            first: settings.upstream_health.first_pause.0,
            longest: settings.upstream_health.longest_pause.0,
            longest_limited: settings.upstream_health.longest_limited.0,
        };
        Self { connect: settings.download.connect.0, first_byte: settings.download.first_byte.0, pauses }
    }
}

/// Why the upstreams cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstream {
    /// No URL, or certificates that cannot be read.
    #[error("upstream {name}: {error}")]
    Client {
        /// What clients call it.
        name: String,
        /// What is wrong.
        error: InvalidClient,
    },
    /// The trust for registries that are not listed.
    #[error("upstream.any_ca: {0}")]
    Trust(#[from] InvalidClient),
    /// A file that the configuration names.
    #[error("{path} cannot be read: {error}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, InvalidUpstream> {
    fs::read(path).map_err(|error| InvalidUpstream::File { path: path.display().to_string(), error })
}

impl Upstream {
    pub(super) fn listed(
        name: &str,
        one: &UpstreamSettings,
        kin: Vec<Arc<str>>,
        common: Common,
    ) -> Result<Self, InvalidUpstream> {
        // `validate` has refused an upstream without a URL.
        let mut url = one.url.clone().unwrap_or_else(|| Url::parse("none:").expect("a URL"));
        if url.host_str() == Some("docker.io") {
            // Fails for URLs without a host only.
            let _ = url.set_host(Some(DOCKER_HUB_HOST));
        }
        let mut config = ClientConfig::new(url);
        config.system_roots = common.roots.clone();
        if let Some(ca) = &one.ca {
            config.extra_roots = read(ca)?;
        }
        if let (Some(certificate), Some(key)) = (&one.client_certificate, &one.client_key) {
            config.identity = Some(ClientIdentity { certificates: read(certificate)?, key: read(key)? });
        }
        config.credentials = credentials(one);
        let made = Self::new(name, name.into(), config, one.networks.clone(), one.freshness, common)?;
        Ok(Self { kin, ..made })
    }

    /// One that a client named, under `guard`.
    pub(super) fn unlisted(
        name: &str,
        freshness: Freshness,
        clients: Vec<IpNet>,
        guard: Guard,
        tls: SharedTls,
        common: Common,
    ) -> Result<Self, InvalidUpstream> {
        let host = if is_docker_hub(name) { DOCKER_HUB_HOST } else { name };
        let url = Url::parse(&format!("https://{host}"));
        let url = url.unwrap_or_else(|_invalid| Url::parse("none:").expect("a URL"));
        let mut config = ClientConfig::new(url);
        config.tls = Some(tls);
        config.guard = Some(guard);
        Self::new(name, UNLISTED.into(), config, clients, freshness, common)
    }

    fn new(
        name: &str,
        label: Arc<str>,
        mut config: ClientConfig,
        networks: Vec<IpNet>,
        freshness: Freshness,
        common: Common,
    ) -> Result<Self, InvalidUpstream> {
        let Common { waits, metrics, negatives, downloads, roots: _ } = common;
        config.connect_timeout = waits.connect;
        config.answer_timeout = waits.first_byte;
        let is_authenticated = config.credentials.is_some();
        let client =
            Client::new(config).map_err(|error| InvalidUpstream::Client { name: name.to_owned(), error })?;
        let name: Arc<str> = name.into();
        Ok(Self {
            health: Health::new(name.clone(), waits.pauses),
            name,
            freshness,
            kin: Vec::new(),
            is_authenticated,
            networks,
            client,
            negatives,
            budget: waits.pauses.budget,
            received: metrics.received(&label),
            metrics,
            label,
            downloads,
            probing: Semaphore::new(1),
        })
    }
}

fn credentials(one: &UpstreamSettings) -> Option<Credentials> {
    if let Some(file) = &one.refresh_token_file {
        let (username, token) = (one.username.clone(), Secret::File(file.clone()));
        return Some(Credentials::RefreshToken { username, token });
    }
    let (username, file) = (one.username.clone()?, one.password_file.clone()?);
    Some(Credentials::Password { username, password: Secret::File(file) })
}
