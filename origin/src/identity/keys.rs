//! The keys that tokens are signed with: made by whichever node finds that one is due, known to all before they sign.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use gossip::token::{SigningKey, VerifyingKeys};
use tokio::sync::Mutex;

use super::secret;
use crate::{
    database::{Database, Error, keys::StoredKey},
    settings::AuthSettings,
    time::Timestamp,
};

/// How often the keys are read. A key that another node has added or removed is known after this time.
const RELOAD: Duration = Duration::from_secs(5);
/// A new key is published this long before it signs, or for half a rotation if that is shorter.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(60);
/// A token of an unknown key has the keys read anew, but no more often than this.
const SOONEST_RELOAD: Duration = Duration::from_secs(1);
/// A key stays this much longer than its last token needs: clocks differ, and nodes reload when they do.
const KEPT_LONGER: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keys {
    database: Database,
    rotation: Duration,
    /// How long a key is needed after it has signed for the last time.
    needed_after: Duration,
    ring: RwLock<Arc<Ring>>,
    /// When they were read; held while they are.
    read_at: Mutex<Instant>,
}

/// The keys as they were read.
pub(crate) struct Ring {
    /// The newest first.
    signing: Vec<(Timestamp, SigningKey)>,
    pub(crate) verifying: VerifyingKeys,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.signing.iter().map(|(_, key)| key.id())).finish()
    }
}

impl Ring {
    fn read(stored: &[StoredKey]) -> Result<Self, Error> {
        let read = |key: &StoredKey| {
            let signing = SigningKey::from_seed(&key.seed)
                .map_err(|error| Error::Damaged { what: "signing key", value: error.to_string() })?;
            Ok::<_, Error>((key.signs_from, signing))
        };
        let signing = stored.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let verifying = VerifyingKeys::new(signing.iter().map(|(_, key)| key.public()).collect());
        Ok(Self { signing, verifying })
    }

    /// The key that signs now; the oldest where none does yet, which every node knows by then.
    pub(crate) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        let current = self.signing.iter().find(|(from, _)| *from <= now);
        current.or(self.signing.last()).map(|(_, key)| key)
    }
}

impl Keys {
    /// Reads the keys, and makes the first one if there is none.
    pub(super) async fn load(database: Database, settings: &AuthSettings) -> Result<Self, Error> {
        let keys = Self {
            database,
            rotation: settings.key_rotation.0,
            needed_after: settings.token_ttl.0 + settings.leeway.0 + KEPT_LONGER,
            ring: RwLock::new(Arc::new(Ring { signing: Vec::new(), verifying: VerifyingKeys::default() })),
            read_at: Mutex::new(Instant::now()),
        };
        keys.refresh().await?;
        Ok(keys)
    }

    /// The keys as they were read last.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys again because a token names one that is not among them.
    pub(crate) async fn look_again(&self) {
        let mut read_at = self.read_at.lock().await;
        if read_at.elapsed() < SOONEST_RELOAD {
            return;
        }
        *read_at = Instant::now();
        if let Err(error) = self.reload().await {
            tracing::warn!(%error, "the signing keys could not be read");
        }
    }

    /// Reads, rotates and removes, every few seconds, for ever.
    pub(super) async fn keep_fresh(&self) {
        let interval = RELOAD.min(self.rotation / 4).max(Duration::from_millis(10));
        loop {
            tokio::time::sleep(interval).await;
            // With the database away, what was read last goes on.
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the signing keys could not be read; those known go on");
            }
        }
    }

    async fn refresh(&self) -> Result<(), Error> {
        let now = Timestamp::now();
        let newest = self.reload().await?;
        let due = match newest {
            None => Some(now),
            Some(from) if from.after(self.rotation) <= now.after(self.lead()) => Some(now.after(self.lead())),
            Some(_) => None,
        };
        if let Some(signs_from) = due {
            let key = StoredKey { seed: secret::random().to_vec(), signs_from };
            let signing = SigningKey::from_seed(&key.seed)
                .map_err(|error| Error::Damaged { what: "signing key", value: error.to_string() })?;
            if self.database.add_signing_key(signing.id().as_str(), &key, newest).await? {
                tracing::info!(key = %signing.id(), "a new key for tokens was made");
            }
            self.reload().await?;
        }
        let removed = self.database.remove_signing_keys(now.before(self.needed_after)).await?;
        if removed > 0 {
            tracing::info!(removed, "keys whose tokens are over were removed");
            self.reload().await?;
        }
        self.database.expire_refresh_tokens().await?;
        Ok(())
    }

    fn lead(&self) -> Duration {
        PUBLISHED_BEFORE.min(self.rotation / 2)
    }

    /// Since when the newest key signs.
    async fn reload(&self) -> Result<Option<Timestamp>, Error> {
        let stored = self.database.signing_keys().await?;
        let newest = stored.first().map(|key| key.signs_from);
        let ring = Arc::new(Ring::read(&stored)?);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(newest)
    }
}
