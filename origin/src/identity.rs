//! Who is asking: logins, tokens, and what is known of accounts and projects.
//!
//! What somebody may do is decided elsewhere (`gossip::access`, asked in `routes::gate`); here is only who they are. The
//! cost of a login is bounded: one hash at a time on each of a few threads, a queue that is fair between addresses, and a
//! brake for those who guess.

pub(crate) mod brake;
pub(crate) mod caller;
mod directory;
mod first_admin;
pub(crate) mod keys;
mod login;
pub(crate) mod passwords;
mod queue;
pub(crate) mod secret;
#[cfg(test)]
mod tests;
mod tokens;

use std::{path::Path, sync::Arc, time::Duration};

use moka::future::Cache;
use tokio_util::sync::CancellationToken;

use crate::{
    Openness, Reach, Scheme,
    database::{Database, Error},
    metrics::Metrics,
    settings::AuthSettings,
};

pub(crate) use caller::{AuthError, Caller, Credentials};
pub(crate) use directory::Directory;
pub(crate) use login::LoginError;
pub(crate) use tokens::{Issued, Lasting};

use brake::Brake;
use keys::Keys;
use passwords::Passwords;

/// How long it is remembered that a password was right, so that a hundred jobs of one build cost one hash.
const VERDICT_LIFE: Duration = Duration::from_secs(30);
/// Good logins that are remembered.
const MAX_VERDICTS: u64 = 10_000;
/// How long a token that was checked is not checked again; whose it is, and what they may, is looked at each time.
const CHECKED_LIFE: Duration = Duration::from_secs(5);
/// Checked tokens that are remembered.
const MAX_CHECKED: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Identity {
    database: Database,
    pub(crate) directory: Directory,
    pub(crate) passwords: Passwords,
    metrics: Metrics,
    brake: Brake,
    verdicts: Cache<[u8; 32], login::Verdict>,
    checked: moka::sync::Cache<[u8; 32], Arc<gossip::token::Claims>>,
    pub(crate) keys: Keys,
    pub(crate) settings: AuthSettings,
    pub(crate) scheme: Scheme,
    /// Makes what the caches remember of passwords worthless outside this process.
    salt: [u8; 32],
}

impl Identity {
    /// Loads the keys, and makes the first if there is none; where everybody is asked who they are, makes the first admin.
    ///
    /// # Errors
    /// The database failed, or the file for the admin's password cannot be written.
    pub(crate) async fn start(
        database: Database,
        settings: AuthSettings,
        reach: Reach,
        data: &Path,
        metrics: Metrics,
    ) -> Result<Arc<Self>, StartError> {
        let keys = Keys::load(database.clone(), &settings).await?;
        let identity = Arc::new(Self {
            directory: Directory::new(database.clone()),
            passwords: Passwords::start(metrics.clone()),
            metrics,
            brake: Brake::new(),
            verdicts: Cache::builder().max_capacity(MAX_VERDICTS).time_to_live(VERDICT_LIFE).build(),
            checked: moka::sync::Cache::builder()
                .max_capacity(MAX_CHECKED)
                .time_to_live(CHECKED_LIFE)
                .build(),
            keys,
            settings,
            scheme: reach.scheme,
            salt: secret::random(),
            database,
        });
        if reach.openness == Openness::Asking {
            first_admin::make(&identity, data).await?;
        }
        Ok(identity)
    }

    /// Keeps the keys fresh, and forgets what is over, until `stop`.
    pub(crate) async fn maintain(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keys.keep_fresh() => {}
        }
    }
}

/// Why nobody could be asked who they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Database(#[from] Error),
    #[error("the first admin's password cannot be written to {path}: {error}")]
    File { path: std::path::PathBuf, error: std::io::Error },
    #[error("the first admin's password cannot be hashed: {0}")]
    Password(#[from] passwords::PasswordError),
}
