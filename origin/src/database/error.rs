//! What can go wrong with the database, and what the client is told.

use std::path::PathBuf;

use oci::error::{ApiError, ErrorCode};

/// See the variants; except for `Commit`, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The statement failed, or the connection.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    /// The connection failed while it committed: the change was made, or not.
    #[error("the database failed while it committed: {0}")]
    Commit(sqlx::Error),
    /// A row that was just found was removed by somebody else.
    #[error("another transaction was faster")]
    Overtaken,
    /// Somebody pushes to a project that was never made, or was removed just now.
    #[error("there is no project {0}; an admin makes one with `roadstead project create {0}`")]
    NoProject(String),
    /// What was read is none of what is ever written.
    #[error("the database holds a damaged {what}: {value}")]
    Damaged { what: &'static str, value: String },
    /// A newer version of the program has changed the schema.
    #[error("the database has schema version {found}, and this program knows {known}; use a newer program")]
    Newer { found: i64, known: i64 },
    /// The path cannot be made absolute, or cannot be written as a URL.
    #[error("{0:?} cannot be the place of the database")]
    Path(PathBuf),
    /// The file of the database cannot be made, or made private.
    #[error("{path:?} cannot be used: {error}")]
    File { path: PathBuf, error: std::io::Error },
    /// The URL names no host.
    #[error("database.url names no host")]
    NoHost,
    /// No host of the cluster is its primary.
    #[error("none of the database's hosts is a primary that answers: {0}")]
    NoPrimary(String),
}

/// Conditions under which a transaction has changed nothing and may be tried again. PostgreSQL (SQLSTATE): serialization
/// failure, deadlock, a server that shuts down or starts, and one that has become a replica. SQLite: another process
/// holds the file, which is waited for before.
const TRANSIENT_STATES: [&str; 8] = ["40001", "40P01", "57P01", "57P02", "57P03", "08006", "25006", "5"];
/// The disk is full: `disk_full` of PostgreSQL, `SQLITE_FULL`.
const FULL_STATES: [&str; 2] = ["53100", "13"];

impl Error {
    /// Whether nothing was changed, and the same may succeed the next time.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Io(_)) | Self::Overtaken => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| TRANSIENT_STATES.contains(&&*code))
            }
            Self::Sql(_)
            | Self::Commit(_)
            | Self::NoProject(_)
            | Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Path(_)
            | Self::File { .. }
            | Self::NoHost
            | Self::NoPrimary(_) => false,
        }
    }

    /// Whether the disk below the database is full.
    fn is_full(&self) -> bool {
        let (Self::Sql(error) | Self::Commit(error)) = self else { return false };
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| FULL_STATES.contains(&&*code))
    }

    /// Whether a row that others refer to was to be removed, or one that is gone to be referred to.
    pub(super) fn is_foreign_key_violation(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_foreign_key_violation())
    }

    /// Whether the database is away, as opposed to broken.
    fn is_outage(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::Sql(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
                    | Self::Commit(_)
                    | Self::NoPrimary(_)
            )
    }
}

/// Seconds after which a client may try again when the database was away.
const RETRY_AFTER: u32 = 2;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        if matches!(error, Error::NoProject(_)) {
            return ErrorCode::NameUnknown.error(error.to_string());
        }
        tracing::error!(error = %error, "a request failed at the database");
        if error.is_full() {
            ErrorCode::Unavailable
                .error("the disk of the registry's database is full")
                .retry_after(RETRY_AFTER)
        } else if error.is_outage() {
            ErrorCode::Unavailable
                .error("the registry's database does not answer; try again")
                .retry_after(RETRY_AFTER)
        } else {
            ErrorCode::Internal.error("the registry failed; its log says why")
        }
    }
}

/// Reads a value that only this program writes.
pub(super) fn stored<T: std::str::FromStr>(what: &'static str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_unreadable| Error::Damaged { what, value: value.to_owned() })
}

/// Reads a count of bytes.
pub(super) fn stored_size(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_negative| Error::Damaged { what: "size", value: value.to_string() })
}
