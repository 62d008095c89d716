//! A name and a secret become an account, or nothing that says which of the two was wrong.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gossip::access::{RobotName, UserName};

use super::{
    Identity,
    passwords::{MAX_PASSWORD, PasswordError},
    secret,
};
use crate::{
    database::{
        Error,
        accounts::{Account, Proof, SecretHash},
    },
    metrics::LoginLabels,
    settings::Secret,
    time::Timestamp,
};

/// Why nobody was logged in.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The name, the secret, or an account that is disabled or over: nobody is told which.
    #[error("wrong name or password")]
    Wrong,
    /// Too many failures of this name from this address.
    #[error("too many failed logins; try again in {} s", .0.as_secs() + 1)]
    Later(Duration),
    /// Too many logins wait.
    #[error("this node has more logins to check than it can")]
    Busy,
    #[error(transparent)]
    Database(#[from] Arc<Error>),
}

impl From<Error> for LoginError {
    fn from(error: Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// What is remembered of a password that was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    account: i64,
    generation: i64,
}

impl Identity {
    /// Logs in.
    pub(crate) async fn login(
        &self,
        name: &str,
        secret: &Secret,
        from: Option<IpAddr>,
    ) -> Result<Arc<Account>, LoginError> {
        let result = self.login_uncounted(name, secret, from).await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(LoginError::Wrong) => "wrong",
            Err(LoginError::Later(_)) => "later",
            Err(LoginError::Busy) => "busy",
            Err(LoginError::Database(_)) => "failed",
        };
        self.metrics.logins.get_or_create(&LoginLabels { outcome }).inc();
        result
    }

    async fn login_uncounted(
        &self,
        name: &str,
        secret: &Secret,
        from: Option<IpAddr>,
    ) -> Result<Arc<Account>, LoginError> {
        if secret.expose().is_empty() || secret.expose().len() > MAX_PASSWORD {
            return Err(LoginError::Wrong);
        }
        if name.parse::<RobotName>().is_ok() {
            self.login_robot(name, secret, from).await
        } else if name.parse::<UserName>().is_ok() {
            self.login_user(name, secret, from).await
        } else {
            // No account has such a name, which everybody may know.
            Err(LoginError::Wrong)
        }
    }

    async fn login_robot(
        &self,
        name: &str,
        secret: &Secret,
        from: Option<IpAddr>,
    ) -> Result<Arc<Account>, LoginError> {
        let shown = secret::hash(secret);
        let known = self.directory.account_named(name).await?;
        if let Some(account) = known.filter(|account| matches(account, &shown)) {
            return Ok(account);
        }
        // What is remembered may be older than the secret: a rotation at another node must not refuse anybody.
        let pair = self.brake.pair(name, from);
        self.brake.attempt(pair, Instant::now()).map_err(LoginError::Later)?;
        let current = self.directory.account_now(name).await?;
        match current.filter(|account| matches(account, &shown)) {
            Some(account) => {
                self.brake.forgive(pair);
                Ok(account)
            }
            None => Err(LoginError::Wrong),
        }
    }

    async fn login_user(
        &self,
        name: &str,
        password: &Secret,
        from: Option<IpAddr>,
    ) -> Result<Arc<Account>, LoginError> {
        let asked = secret::sha256(&[&self.salt, name.as_bytes(), password.expose().as_bytes()]);
        if let Some(verdict) = self.verdicts.get(&asked).await
            && let Some(account) = self.still(verdict).await?
        {
            return Ok(account);
        }
        self.verdicts.invalidate(&asked).await;
        let ours = AtomicBool::new(false);
        let compare = async {
            ours.store(true, Ordering::Relaxed);
            self.compare(name, password, from).await
        };
        // Those who show the same from the same address at the same time wait for one comparison.
        let place = secret::sha256(&[&asked, format!("{from:?}").as_bytes()]);
        let verdict = match self.verdicts.try_get_with(place, compare).await {
            Ok(verdict) => verdict,
            Err(error) => {
                // Whoever only waited has failed as well, and is counted.
                if matches!(*error, LoginError::Wrong) && !ours.load(Ordering::Relaxed) {
                    let pair = self.brake.pair(name, from);
                    self.brake.attempt(pair, Instant::now()).map_err(LoginError::Later)?;
                }
                return Err(LoginError::clone(&error));
            }
        };
        self.verdicts.invalidate(&place).await;
        self.verdicts.insert(asked, verdict).await;
        self.still(verdict).await?.ok_or(LoginError::Wrong)
    }

    async fn compare(
        &self,
        name: &str,
        password: &Secret,
        from: Option<IpAddr>,
    ) -> Result<Verdict, LoginError> {
        let pair = self.brake.pair(name, from);
        self.brake.attempt(pair, Instant::now()).map_err(LoginError::Later)?;
        let account = match self.directory.account_now(name).await {
            Ok(account) => account,
            Err(error) => {
                self.brake.take_back(pair, Instant::now());
                return Err(error.into());
            }
        };
        let hash = account.as_ref().and_then(|account| match &account.proof {
            Proof::Password(hash) => Some(hash.clone()),
            Proof::Secrets { .. } => None,
        });
        match self.passwords.is_right(password, hash, from).await {
            Ok(true) => {}
            Ok(false) => return Err(LoginError::Wrong),
            Err(error) => {
                tracing::debug!(%error, waiting = self.passwords.waiting(), "a login was turned away");
                self.brake.take_back(pair, Instant::now());
                return Err(match error {
                    PasswordError::Busy => LoginError::Busy,
                    PasswordError::Unfit | PasswordError::Hash(_) => LoginError::Wrong,
                });
            }
        }
        let account =
            account.filter(|account| account.is_active(Timestamp::now())).ok_or(LoginError::Wrong)?;
        self.brake.forgive(pair);
        Ok(Verdict { account: account.id, generation: account.generation })
    }

    /// The account, if nothing has happened to it since the password was right.
    async fn still(&self, verdict: Verdict) -> Result<Option<Arc<Account>>, LoginError> {
        let account = self.directory.account(verdict.account).await?;
        Ok(account.filter(|account| {
            account.generation == verdict.generation && account.is_active(Timestamp::now())
        }))
    }
}

/// Whether a secret is one that counts now for an account that may be used.
fn matches(account: &Account, shown: &SecretHash) -> bool {
    let now = Timestamp::now();
    let Proof::Secrets { current, old, .. } = &account.proof else { return false };
    let is_current = secret::same(current, shown);
    let is_old = old.as_ref().is_some_and(|(hash, until)| secret::same(hash, shown) && now < *until);
    (is_current || is_old) && account.is_active(now)
}
