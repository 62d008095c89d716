//! Why an edge cannot serve something, and the one map from that to an answer.

use std::time::Duration;

use http::StatusCode;
use oci::{
    client::{Failure, FetchError, Silence},
    error::{ApiError, ErrorCode},
};

/// Why something cannot be served now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    /// The upstream did not give it.
    #[error(transparent)]
    Upstream(#[from] FetchError),
    /// The edge's own metadata failed.
    #[error("the metadata failed: {0}")]
    Metadata(#[from] sqlx::Error),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] std::io::Error),
    /// What came was not what its digest or length said.
    #[error("the upstream sent something else than was asked for")]
    Corrupt,
    /// The upstream sent wrong bytes for it, and is not asked again so soon.
    #[error("the upstream sent something else before, and is not asked again for {left:?}")]
    Blamed {
        /// How long it is still not asked.
        left: std::time::Duration,
    },
    /// As many downloads run as may, and none ended in time.
    #[error("this node fetches as much as it may")]
    Busy,
    /// The node is going away.
    #[error("the node is shutting down")]
    Stopping,
}

/// How soon a client that is answered 503 may ask again, in seconds.
const RETRY_AFTER: u32 = 1;
/// The longest time that a client is told to wait, in seconds, however long the upstream is left alone: by then another
/// request may have found it well.
const MAX_RETRY_AFTER: u64 = 60;

impl Unavailable {
    /// The upstream itself said that it has no such thing.
    pub(crate) fn is_said_no(&self) -> bool {
        matches!(self, Self::Upstream(FetchError::SaidNo))
    }

    /// The upstream has no such range.
    pub(crate) fn is_range_refused(&self) -> bool {
        matches!(self, Self::Upstream(FetchError::Failed(Failure::Status(StatusCode::RANGE_NOT_SATISFIABLE))))
    }

    /// The connection could not be made or broke, which says nothing about the next one.
    pub(crate) fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Upstream(FetchError::Silent(Silence::Unreachable(_))))
    }

    /// The answer: 404 only where the upstream said so, else 503, so that the client goes to its next host. `unknown` is
    /// the code of the 404.
    pub(crate) fn answer(&self, unknown: ErrorCode) -> ApiError {
        match self {
            Self::Upstream(FetchError::SaidNo) => unknown.error("the upstream registry does not have it"),
            Self::Upstream(FetchError::Failed(Failure::Forbidden(forbidden))) => {
                ErrorCode::Denied.error(format!("this mirror does not go there for a client: {forbidden}"))
            }
            Self::Upstream(FetchError::Failed(failure)) => ErrorCode::Unavailable
                .error(format!("not cached, and the upstream registry gave no usable answer: {failure}"))
                .retry_after(seconds(failure.retry_after())),
            Self::Upstream(FetchError::Silent(silence)) => ErrorCode::Unavailable
                .error(format!("not cached, and the upstream registry gave no answer: {silence}"))
                .retry_after(seconds(silence.retry_after())),
            Self::Metadata(_) | Self::Store(_) => {
                ErrorCode::Unavailable.error("this node's storage failed").retry_after(RETRY_AFTER)
            }
            Self::Corrupt => ErrorCode::Unavailable
                .error("the upstream registry sent something else than was asked for")
                .retry_after(RETRY_AFTER),
            Self::Blamed { left } => {
                let seconds = left.as_secs().saturating_add(1).min(MAX_RETRY_AFTER);
                ErrorCode::Unavailable
                    .error("the upstream registry sent something else than was asked for, and is not asked again so soon")
                    .retry_after(u32::try_from(seconds).unwrap_or(RETRY_AFTER))
            }
            Self::Busy => ErrorCode::Unavailable
                .error("this node fetches as many blobs as it may; try again")
                .retry_after(RETRY_AFTER),
            Self::Stopping => {
                ErrorCode::Unavailable.error("this node is shutting down").retry_after(RETRY_AFTER)
            }
        }
    }
}

/// What a client is told to wait, in whole seconds.
fn seconds(pause: Option<Duration>) -> u32 {
    let Some(pause) = pause else { return RETRY_AFTER };
    let whole = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    u32::try_from(whole.clamp(1, MAX_RETRY_AFTER)).unwrap_or(RETRY_AFTER)
}
