//! Points in time as the database keeps them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// Now, by this node's clock. Clocks of nodes may differ by much less than the shortest grace period in use.
    pub(crate) fn now() -> Self {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }

    /// As it was read from a row.
    pub(crate) fn at(millis: i64) -> Self {
        Self(millis)
    }

    /// Whole seconds since the epoch.
    pub(crate) fn seconds(self) -> u64 {
        u64::try_from(self.0).unwrap_or_default() / 1000
    }

    /// As documents show it.
    pub(crate) fn rfc3339(self) -> String {
        oci::http::front::rfc3339(
            UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0).unwrap_or_default()),
        )
    }

    /// As it is bound to a statement.
    pub(crate) fn millis(self) -> i64 {
        self.0
    }

    /// The time `span` before.
    pub(crate) fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time `span` after.
    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}
