//! A client of any OCI registry: streaming, resumable, with the token flow.
//!
//! What a registry says is one of three things (see [`FetchError`]): it *said no*, it *failed*, or it was *silent*. Only
//! the first tells anything about the content. Credentials go to the registry and the token service that it names, never
//! along a redirect to another host.

mod auth;
mod connect;
mod credentials;
mod fetch;
mod guard;
mod probe;
mod push;
mod rate;
mod send;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use url::Url;

use crate::digest::Digest;

pub use connect::{ClientIdentity, SharedTls, SystemRoots};
pub use credentials::{Credentials, Secret};
pub use fetch::{BlobAnswer, FetchedManifest, ManifestHead};
pub use guard::{Forbidden, Guard, is_public};
pub use probe::{Probe, Step, StepName};
pub use push::{PushError, UploadBody};
pub use rate::RateLimit;
pub use send::LARGEST_PIECE;

/// How to reach a registry, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `http://` or `https://`, the host and, if need be, a port; a path is put before `/v2/`.
    pub url: Url,
    /// Who asks. `None` asks for anonymous tokens.
    pub credentials: Option<Credentials>,
    /// Certificates, PEM, that may sign the registry's besides those the system trusts.
    pub extra_roots: Vec<u8>,
    /// Who the client says it is when the registry asks for a certificate.
    pub identity: Option<ClientIdentity>,
    /// What the system trusts; clients that share it read it once.
    pub system_roots: SystemRoots,
    /// Made beforehand and shared with other clients: `extra_roots`, `identity` and `system_roots` do not count then.
    pub tls: Option<SharedTls>,
    /// Where this client may go at all, for a registry that a stranger named. `None`: anywhere.
    pub guard: Option<Guard>,
    /// How long a connection may take to be made. 1 s by default.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take once the request is sent. 10 s by default.
    pub answer_timeout: Duration,
    /// The longest manifest that is read, in bytes. 4 MiB by default.
    pub manifest_limit: usize,
}

impl ClientConfig {
    /// The defaults for `url`.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            credentials: None,
            extra_roots: Vec::new(),
            identity: None,
            system_roots: SystemRoots::default(),
            tls: None,
            guard: None,
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(10),
            manifest_limit: 4 << 20,
        }
    }
}

/// A client of one registry; cheap to clone, all clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<send::Sender>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.config.url)
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// The URL names no registry.
    #[error("{0} is not the address of a registry; write http://host:port or https://host")]
    Url(Url),
    /// The extra certificates cannot be read.
    #[error("the certificates given cannot be read: {0}")]
    Roots(String),
    /// The client's own certificate or its key cannot be used.
    #[error("the client certificate or its key cannot be used: {0}")]
    Identity(String),
}

impl Client {
    /// A client; no connection is made yet.
    ///
    /// # Errors
    /// The URL or the certificates are not usable.
    pub fn new(config: ClientConfig) -> Result<Self, InvalidClient> {
        Ok(Self(Arc::new(send::Sender::new(config)?)))
    }

    /// The registry's URL.
    pub fn url(&self) -> &Url {
        &self.0.config.url
    }

    /// What the registry last told of its rate limit.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate.last()
    }
}

/// Why a registry did not give what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// The registry itself said that it does not have it. Nothing else may become a 404.
    #[error("the registry says that it does not have it")]
    SaidNo,
    /// The registry, or something in front of it, answered without telling whether it has it.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// No answer came.
    #[error(transparent)]
    Silent(#[from] Silence),
}

/// An answer that says nothing about the content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Wants other credentials, or none would do.
    #[error("the registry refused access ({0})")]
    Refused(StatusCode),
    /// Wants to be asked less.
    #[error("the registry's rate limit is reached")]
    RateLimited {
        /// What `Retry-After` told.
        retry_after: Option<Duration>,
    },
    /// Any other status.
    #[error("the registry answered {0}")]
    Status(StatusCode),
    /// The answer is not one of a registry.
    #[error("the answer is not a registry's: {0}")]
    Unreadable(&'static str),
    /// More redirects than a registry has reason for, or one to nowhere.
    #[error("the registry redirects without end, or to an address that is none")]
    Redirects,
    /// The bytes are not those of the digest.
    #[error("the registry sent bytes with the digest {got} for {wanted}")]
    WrongDigest {
        /// What was asked for.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// Longer than we read.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The token service did not give a token.
    #[error("no token was given: {0}")]
    Token(String),
    /// The file with the password or the token cannot be read.
    #[error("{0}")]
    Credentials(String),
    /// Nothing was asked: the registry, its token service or its storage is where this client must not go ([`Guard`]).
    #[error("{0}")]
    Forbidden(guard::Forbidden),
}

impl Failure {
    /// How long the registry wants to be left alone, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            Self::Refused(_)
            | Self::Status(_)
            | Self::Unreadable(_)
            | Self::Redirects
            | Self::WrongDigest { .. }
            | Self::TooLarge(_)
            | Self::Token(_)
            | Self::Credentials(_)
            | Self::Forbidden(_) => None,
        }
    }
}

impl Silence {
    /// When the registry is asked again, where it was not asked.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotAsked { retry_after } => Some(*retry_after),
            Self::Unreachable(_) | Self::NoConnection(_) | Self::NoAnswer(_) => None,
        }
    }
}

/// No answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Silence {
    /// No connection, or it broke before the answer.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(String),
    /// No connection came about in the time that one may take.
    #[error("no connection to the registry within {0:?}")]
    NoConnection(Duration),
    /// The connection stands and nothing comes.
    #[error("the registry did not answer within {0:?}")]
    NoAnswer(Duration),
    /// It was not asked, because it was silent of late.
    #[error("the registry is silent; it is asked again in {retry_after:?}")]
    NotAsked {
        /// When it may be asked again.
        retry_after: Duration,
    },
}

#[cfg(test)]
mod tests;
