//! The hosts of a PostgreSQL cluster: which one is the primary, and the change to another after a failover.
//!
//! The node asks each host itself, so no virtual address and no proxy is needed.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    str::FromStr as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, any::AnyConnectOptions};
use tokio_util::sync::CancellationToken;

use super::Error;

/// How often the primary of a cluster is asked whether it still is one.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a host has to answer; a hung one counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The URLs of one cluster, one for each host.
pub(super) struct Hosts {
    urls: Vec<String>,
    changed: Mutex<Option<Instant>>,
}

impl fmt::Debug for Hosts {
    // The URLs have passwords in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.urls.len())
    }
}

impl Hosts {
    pub(super) fn none() -> Self {
        Self { urls: Vec::new(), changed: Mutex::new(None) }
    }

    /// Reads `postgres://user:password@h1:5432,h2:5433/name?…`.
    pub(super) fn of(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or(Error::NoHost)?;
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let urls = hosts.split(',').map(|host| format!("{scheme}://{user}{host}{path}")).collect();
        Ok(Self { urls, changed: Mutex::new(None) })
    }

    /// The URL of the primary, looked for until `patience` is over.
    pub(super) async fn find_primary(&self, patience: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + patience;
        loop {
            match self.look().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(INTERVAL).await,
                result => return result,
            }
        }
    }

    /// Whether the primary became another one within the last `age`.
    pub(super) fn changed_within(&self, age: Duration) -> bool {
        let changed = *self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.is_some_and(|at| at.elapsed() < age)
    }

    /// Asks the primary again and again, and points `pool` to another one when it is gone.
    pub(super) async fn follow(&self, pool: &AnyPool, stop: CancellationToken) {
        if self.urls.len() < 2 {
            return;
        }
        let mut watched: Option<AnyConnection> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if let Some(connection) = &mut watched
                && within(is_primary(connection)).await.unwrap_or(false)
            {
                continue;
            }
            watched = match self.change(pool).await {
                Ok(connection) => Some(connection),
                Err(error) => {
                    tracing::warn!(error = %error, "the database has no primary");
                    None
                }
            };
        }
    }

    /// Points `pool` to the host that is the primary now, and returns a connection to it.
    async fn change(&self, pool: &AnyPool) -> Result<AnyConnection, Error> {
        let options = AnyConnectOptions::from_str(&self.look().await?)?;
        if pool.connect_options().database_url != options.database_url {
            tracing::warn!(
                host = options.database_url.host_str(),
                port = options.database_url.port(),
                "the database's primary is another one now"
            );
            pool.set_connect_options(options.clone());
            *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        within(options.connect()).await
    }

    async fn look(&self) -> Result<String, Error> {
        let mut reasons = Vec::new();
        for url in &self.urls {
            match within(probe(url)).await {
                Ok(true) => return Ok(url.clone()),
                Ok(false) => reasons.push("a host is a replica".to_owned()),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(Error::NoPrimary(reasons.join("; ")))
    }
}

async fn probe(url: &str) -> Result<bool, sqlx::Error> {
    let mut connection = AnyConnectOptions::from_str(url)?.connect().await?;
    let primary = is_primary(&mut connection).await?;
    connection.close().await?;
    Ok(primary)
}

async fn is_primary(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await?;
    Ok(!replica)
}

async fn within<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}
