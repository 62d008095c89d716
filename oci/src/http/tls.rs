//! TLS for clients: one certificate, exchanged while the node serves.
//!
//! The files are looked at again and again, and at once when somebody asks ([`Tls::look_again`]). What is in them is used for new
//! connections as soon as certificate and key belong together; until then the pair before it stays in use, and one
//! sentence in the log says why. Files are compared by their content, so that it does not matter how they are exchanged:
//! written over, renamed, or behind a symbolic link that moves.

mod pair;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use pair::{Files, PairError};
use pair::{Fingerprint, Pair};

use super::front::{Check, rfc3339};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate with less time left is warned of.
const EXPIRES_SOON: Duration = Duration::from_hours(14 * 24);
/// How often it is warned of in the log.
const WARN_EVERY: Duration = Duration::from_hours(24);

/// The certificate that a node shows to its clients.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: RwLock<Current>,
    /// Why the files as they are now cannot be used.
    trouble: Mutex<Option<String>>,
    asked: Notify,
    expires: Gauge,
    failed: Counter,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    expires: SystemTime,
}

impl Tls {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// A file cannot be read or has not the right thing in it, or they do not belong together.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, PairError> {
        let files = Files { certificate, key };
        let pair = files.read().map(|contents| contents.pair())??;
        let expires = Gauge::default();
        expires.set(seconds(pair.expires));
        Ok(Self {
            files,
            current: RwLock::new(Current::from(pair)),
            trouble: Mutex::default(),
            asked: Notify::new(),
            expires,
            failed: Counter::default(),
        })
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "roadstead_tls_certificate_expires_seconds",
            "When the certificate that clients are shown expires, in seconds since 1970",
            self.expires.clone(),
        );
        registry.register(
            "roadstead_tls_handshakes_failed",
            "Connections that ended before TLS was agreed on",
            self.failed.clone(),
        );
    }

    /// Looks at the files from time to time, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = None;
        let mut warned = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.asked.notified() => {}
            }
            let this = self.clone();
            // A file system that hangs holds up one look, and no client.
            match tokio::task::spawn_blocking(move || this.look(seen)).await {
                Ok(now) => seen = Some(now),
                Err(error) => tracing::error!(%error, "the certificate could not be looked at"),
            }
            self.warn_of_expiry(&mut warned);
        }
    }

    /// Has the files looked at now.
    pub fn look_again(&self) {
        self.asked.notify_one();
    }

    /// What `/readyz` shows.
    pub fn check(&self) -> Check {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = trouble.or_else(|| self.expiry(SystemTime::now())).map_or(Ok(()), Err);
        Check { name: "certificate", state, required: false }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    pub(super) fn handshake_failed(&self) {
        self.failed.inc();
    }

    /// Takes what the files hold, if that is not what they held when they were `seen`.
    fn look(&self, seen: Option<Fingerprint>) -> Fingerprint {
        let contents = self.files.read();
        let now = Fingerprint::of(&contents);
        if seen == Some(now) {
            return now;
        }
        let pair = contents.and_then(|contents| contents.pair());
        // The first look after the start finds what was loaded, as a rule.
        let started = seen.is_none();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = match pair {
            Ok(pair) => {
                if !started {
                    let expires = rfc3339(pair.expires);
                    tracing::info!(certificate = %self.files.certificate.display(), expires, "a new certificate is in use");
                }
                self.expires.set(seconds(pair.expires));
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current::from(pair);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate in use stays, because the new one cannot be used");
                Some(format!("the certificate in use stays, because the new one cannot be used: {error}"))
            }
        };
        now
    }

    fn warn_of_expiry(&self, warned: &mut Option<tokio::time::Instant>) {
        if warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        if let Some(sentence) = self.expiry(SystemTime::now()) {
            tracing::warn!(certificate = %self.files.certificate.display(), "{sentence}");
            *warned = Some(tokio::time::Instant::now());
        }
    }

    /// A sentence, if the certificate in use expires soon, or has expired.
    fn expiry(&self, now: SystemTime) -> Option<String> {
        let expires = self.current().expires;
        match expires.duration_since(now) {
            Ok(left) if left >= EXPIRES_SOON => None,
            Ok(left) => Some(format!(
                "the certificate expires at {}, in {} days: renew it",
                rfc3339(expires),
                left.as_secs() / 86_400
            )),
            Err(_passed) => {
                Some(format!("the certificate expired at {}: clients refuse it", rfc3339(expires)))
            }
        }
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Pair> for Current {
    fn from(pair: Pair) -> Self {
        Self { config: Arc::new(pair.config), expires: pair.expires }
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
