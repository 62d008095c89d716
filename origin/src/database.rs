//! The state of the registry in SQL: SQLite or PostgreSQL, one schema and one set of statements.
//!
//! A request holds at most one connection, and none while it reads or writes a body, so a pool of one is enough for any
//! number of clients. On SQLite all changes go through one connection in the order of the pool's queue, so that none
//! ever finds the database busy. Every method is one transaction: it has happened whole, or not at all.

pub(crate) mod accounts;
pub(crate) mod blobs;
mod error;
pub(crate) mod gc;
mod hosts;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod manifests;
pub(crate) mod members;
mod migrate;
pub(crate) mod objects;
pub(crate) mod projects;
pub(crate) mod referrers;
pub(crate) mod robots;
pub(crate) mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod uploads;
pub(crate) mod users;

use std::{path::Path, str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    Any, AnyPool, Executor as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tokio_util::sync::CancellationToken;

pub(crate) use error::Error;

use crate::settings::DatabaseSettings;
use hosts::Hosts;
use projects::Projects;

/// How often a transaction that lost against another, or lost its connection before it committed, is tried.
const ATTEMPTS: u32 = 6;
/// The pause before the second attempt; it doubles each time.
const BACKOFF: Duration = Duration::from_millis(20);
/// Read and written by the node's own user only.
const PRIVATE: u32 = 0o600;
/// A PostgreSQL connection that was idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// The database; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    kind: Kind,
    read: AnyPool,
    write: AnyPool,
    hosts: Arc<Hosts>,
    projects: Projects,
}

impl Database {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// The database cannot be reached in `acquire_timeout`, or belongs to a newer version of the program.
    pub(crate) async fn open(settings: &DatabaseSettings, data_dir: &Path) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let default;
        let url = match &settings.url {
            Some(url) => url,
            None => {
                let path = std::path::absolute(data_dir.join("origin.db"))
                    .map_err(|_unknown| Error::Path(data_dir.into()))?;
                keep_private(&path).map_err(|error| Error::File { path: path.clone(), error })?;
                default = url::Url::from_file_path(&path).map_err(|()| Error::Path(path))?.to_string();
                &default.replacen("file://", "sqlite://", 1)
            }
        };
        let database = if url.starts_with("sqlite:") {
            Self::open_sqlite(url, settings).await?
        } else {
            Self::open_postgres(url, settings).await?
        };
        migrate::run(&database).await?;
        Ok(database)
    }

    async fn open_sqlite(url: &str, settings: &DatabaseSettings) -> Result<Self, Error> {
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = if url.contains("mode=") { url.to_owned() } else { format!("{url}{separator}mode=rwc") };
        let options = AnyConnectOptions::from_str(&url)?;
        let pool = |connections, pragmas: &'static str| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(settings.acquire_timeout.0)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .after_connect(move |connection, _| {
                    Box::pin(async move { connection.execute(pragmas).await.map(drop) })
                })
                .connect_with(options.clone())
        };
        // FULL: a commit is on disk when it is acknowledged, in WAL mode too. The write pool is first: it makes the file.
        let write = pool(
            1,
            "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384",
        )
        .await?;
        let read = pool(settings.connections, "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON").await?;
        let (hosts, projects) = (Arc::new(Hosts::none()), Projects::MadeByPush);
        Ok(Self { kind: Kind::Sqlite, read, write, hosts, projects })
    }

    async fn open_postgres(url: &str, settings: &DatabaseSettings) -> Result<Self, Error> {
        let hosts = Arc::new(Hosts::of(url)?);
        let first = hosts.find_primary(settings.acquire_timeout.0).await?;
        let stale = hosts.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(settings.acquire_timeout.0)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let outlived = stale.changed_within(meta.age);
                Box::pin(async move {
                    if outlived {
                        return Ok(false);
                    }
                    if meta.idle_for > TRUSTED_IDLE {
                        sqlx::Connection::ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(AnyConnectOptions::from_str(&first)?)
            .await?;
        let projects = Projects::MadeByPush;
        Ok(Self { kind: Kind::Postgres, read: pool.clone(), write: pool, hosts, projects })
    }

    /// The same database, with projects that are made in another way than by pushing to them.
    pub(crate) fn with_projects(self, projects: Projects) -> Self {
        Self { projects, ..self }
    }

    /// Follows the primary of a cluster of several hosts until `stop`; returns at once where there is one host.
    pub(crate) async fn follow_primary(&self, stop: CancellationToken) {
        self.hosts.follow(&self.write, stop).await;
    }

    /// Whether it answers, asked through the pool that requests use.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.read).await?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction that may write. SQLite takes the write lock here, so that it cannot be refused later.
    async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.kind {
            Kind::Sqlite => self.write.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => self.write.begin().await?,
        })
    }
}

/// Makes the file where there is none, and readable by the node's own user only: it holds the keys that sign tokens.
/// SQLite gives the files beside it the same permissions.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let file = std::fs::File::options().create(true).append(true).mode(PRIVATE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        // Of a version that kept no keys in it.
        file.set_permissions(std::fs::Permissions::from_mode(PRIVATE))?;
    }
    Ok(())
}

/// Commits. A failure here is an error of its own, since nobody knows whether the change was made.
async fn commit(transaction: Transaction<'static, Any>) -> Result<(), Error> {
    transaction.commit().await.map_err(Error::Commit)
}

/// Repeats `operation` a bounded number of times where it certainly changed nothing and may succeed the next time.
async fn retry<T, F: Future<Output = Result<T, Error>>>(operation: impl Fn() -> F) -> Result<T, Error> {
    let mut pause = BACKOFF;
    for _ in 1..ATTEMPTS {
        match operation().await {
            Err(error) if error.is_transient() => {
                tracing::debug!(error = %error, "a database transaction is repeated");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    operation().await
}
