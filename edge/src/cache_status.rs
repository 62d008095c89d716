//! `Cache-Status` (RFC 9211): where an answer came from, in the words that logs and metrics use.

use std::fmt;

use http::HeaderValue;

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
pub(crate) fn identifier(node: &str) -> String {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    if node.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'*') && node.bytes().all(token) {
        return node.to_owned();
    }
    let printable = node.chars().filter(|c| c.is_ascii() && !c.is_ascii_control());
    format!("\"{}\"", printable.collect::<String>().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The header's value.
pub(crate) fn header(identifier: &str, status: CacheStatus) -> HeaderValue {
    HeaderValue::try_from(format!("{identifier}; {status}"))
        .unwrap_or_else(|_| HeaderValue::from_static("edge"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_a_token_or_a_string() {
        assert_eq!(header(&identifier("edge-1.idc1"), CacheStatus::Hit), "edge-1.idc1; hit");
        assert_eq!(header(&identifier("1st edge"), CacheStatus::Stored), "\"1st edge\"; fwd=miss; stored");
        assert_eq!(identifier("a\"b"), "\"a\\\"b\"");
    }
}
