//! `Cache-Status` (RFC 9211): where an answer came from, in the words that logs and metrics use.

use std::fmt;

use http::HeaderValue;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What the cache did for one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// Out of the cache.
    Hit,
    /// Out of the cache, because the upstream could not be asked.
    Offline,
    /// The upstream confirmed what the cache holds.
    Revalidated,
    /// The upstream has something newer, which is now in the cache.
    Changed,
    /// Not in the cache; it is now, or will be when it is whole.
    Stored,
    /// Not in the cache; joined a transfer that another request had begun.
    Collapsed,
    /// Not in the cache, and not kept for want of room, or because nothing was transferred.
    Passed,
}

impl CacheStatus {
    const ALL: [Self; 7] = [
        Self::Hit,
        Self::Offline,
        Self::Revalidated,
        Self::Changed,
        Self::Stored,
        Self::Collapsed,
        Self::Passed,
    ];

    /// The word in the metric.
    fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Offline => "offline",
            Self::Revalidated => "revalidated",
            Self::Changed => "changed",
            Self::Stored => "miss",
            Self::Collapsed => "collapsed",
            Self::Passed => "passed",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct AnswerLabels {
    kind: &'static str,
    status: &'static str,
}

/// Answers counted by kind of content and by what the cache did for them.
#[derive(Clone, Debug)]
pub(crate) struct AnswerCounts {
    family: Family<AnswerLabels, Counter>,
    /// Those of the pull path: a hit takes no lock to be counted.
    manifests: [Counter; CacheStatus::ALL.len()],
    blobs: [Counter; CacheStatus::ALL.len()],
}

impl AnswerCounts {
    /// Registers the metric.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let family: Family<AnswerLabels, Counter> = Family::default();
        registry.register(
            "roadstead_cache_answers",
            "Answers without an error, by kind of content and by what Cache-Status says in them",
            family.clone(),
        );
        let of = |kind| {
            CacheStatus::ALL
                .map(|status| family.get_or_create(&AnswerLabels { kind, status: status.word() }).clone())
        };
        let (manifests, blobs) = (of("manifest"), of("blob"));
        Self { family, manifests, blobs }
    }

    /// Counts an answer to a request of the route `kind`.
    pub(crate) fn count(&self, kind: &'static str, status: CacheStatus) {
        match kind {
            "manifest" => self.manifests[status as usize].inc(),
            "blob" => self.blobs[status as usize].inc(),
            _ => self.family.get_or_create(&AnswerLabels { kind, status: status.word() }).inc(),
        };
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "hit",
            Self::Offline => "hit; detail=offline",
            Self::Revalidated => "fwd=stale; detail=revalidated",
            Self::Changed => "fwd=stale; stored; detail=changed",
            Self::Stored => "fwd=miss; stored",
            Self::Collapsed => "fwd=miss; collapsed",
            Self::Passed => "fwd=miss",
        })
    }
}

/// The node's name as the header wants it: a token where it is one, else a string.
fn identifier(node: &str) -> String {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    if node.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'*') && node.bytes().all(token) {
        return node.to_owned();
    }
    let printable = node.chars().filter(|c| c.is_ascii() && !c.is_ascii_control());
    format!("\"{}\"", printable.collect::<String>().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The header's values that a node sends, made once: each answer has one.
#[derive(Debug)]
pub(crate) struct Headers([HeaderValue; ALL.len()]);

/// In the order of the enum.
const ALL: [CacheStatus; 7] = [
    CacheStatus::Hit,
    CacheStatus::Offline,
    CacheStatus::Revalidated,
    CacheStatus::Changed,
    CacheStatus::Stored,
    CacheStatus::Collapsed,
    CacheStatus::Passed,
];

impl Headers {
    /// Those of the node of that name.
    pub(crate) fn new(node: &str) -> Self {
        let identifier = identifier(node);
        Self(ALL.map(|status| {
            HeaderValue::try_from(format!("{identifier}; {status}"))
                .unwrap_or_else(|_| HeaderValue::from_static("edge"))
        }))
    }

    /// The one that says `status`.
    pub(crate) fn of(&self, status: CacheStatus) -> HeaderValue {
        self.0[status as usize].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_a_token_or_a_string() {
        assert_eq!(Headers::new("edge-1.idc1").of(CacheStatus::Hit), "edge-1.idc1; hit");
        assert_eq!(Headers::new("1st edge").of(CacheStatus::Stored), "\"1st edge\"; fwd=miss; stored");
        assert_eq!(identifier("a\"b"), "\"a\\\"b\"");
    }

    #[test]
    fn each_status_has_its_own_value() {
        let headers = Headers::new("edge-1");
        for status in ALL {
            assert_eq!(headers.of(status), format!("edge-1; {status}"));
        }
    }
}
