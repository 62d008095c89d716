//! What the steps of a pull tell: where each came from, and what of it was slow.

use super::Step;
use crate::command::{
    doctor::finding::{Findings, Level},
    words,
};

/// A tag that took longer is told as slow.
const SLOW_TAG_MS: f64 = 500.0;
/// The same for the first byte of a blob.
const SLOW_BYTE_MS: f64 = 1000.0;
/// Bytes a second under which a blob is told as slow, and how long one must be to tell.
const SLOW_RATE: f64 = 2_000_000.0;
const TELLING: u64 = 4 << 20;

/// What the last member of `Cache-Status` (RFC 9211), the one of the node that was asked, means.
pub(super) fn explain(status: &str) -> String {
    let last = status.rsplit(", ").next().unwrap_or(status);
    let (node, said) = last.split_once(';').unwrap_or((last, ""));
    let words: Vec<&str> = said.split(';').map(str::trim).collect();
    let has = |word: &str| words.contains(&word);
    let what = if has("hit") && has("detail=offline") {
        "from the cache, because the upstream could not confirm it"
    } else if has("hit") {
        "from the cache"
    } else if has("detail=revalidated") {
        "from the cache, confirmed upstream just now"
    } else if has("detail=changed") {
        "the tag has moved: fetched anew"
    } else if has("collapsed") {
        "fetched from upstream, shared with another request"
    } else if has("stored") {
        "fetched from upstream, and kept"
    } else if has("fwd=miss") {
        "from upstream, not kept"
    } else {
        "as the node says"
    };
    format!("{what} (by {node})")
}

pub(super) fn slow_steps(image: &str, steps: &[Step], findings: &mut Findings) {
    let before = findings.worst();
    let mut slow = false;
    for step in steps {
        let digest = step.digest.as_deref().unwrap_or_default();
        let meaning = step.meaning.as_deref().map(|meaning| format!(", {meaning}")).unwrap_or_default();
        let limit = if step.step == "resolve" { SLOW_TAG_MS } else { SLOW_BYTE_MS };
        if step.first_byte_ms > limit {
            slow = true;
            let action = match step.step {
                "resolve" => {
                    "the upstream is slow to confirm a tag: set freshness.budget lower, or a freshness that asks less often"
                }
                _ => {
                    "if it came from upstream, a second pull is served from the cache; if not, look at the node's disk"
                }
            };
            let took = words::ms(step.first_byte_ms);
            findings.warn(
                "pull",
                format!("{image}: {} {digest} took {took} to begin{meaning}", step.step),
                action,
            );
        }
        if let Some(rate) = step.bytes_per_second.filter(|rate| *rate < SLOW_RATE && step.bytes >= TELLING) {
            slow = true;
            findings.warn(
                "pull",
                format!("{image}: {} {digest} came at {:.1} MB/s{meaning}", step.step, rate / 1e6),
                "if it came from upstream, that link is the limit; if from the cache, look at the network to the node and at its disk",
            );
        }
    }
    if steps
        .iter()
        .any(|step| step.cache_status.as_deref().is_some_and(|status| status.contains("detail=offline")))
    {
        findings.warn(
            "pull",
            format!("{image} was served from the cache, since the upstream could not be asked"),
            "nothing needs to be done for what is cached; see the findings about the upstream",
        );
    }
    if !slow {
        let bytes: u64 = steps.iter().map(|step| step.bytes).sum();
        let beside = if before > Level::Ok { ", whatever was found above" } else { "" };
        findings
            .ok("pull", format!("{image} came, {} of it, every digest right{beside}", words::size(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_status_of_an_edge_means_is_told() {
        for (status, expected) in [
            ("edge; hit", "from the cache (by edge)"),
            (
                "origin; fwd=miss, edge-1; hit; detail=offline",
                "from the cache, because the upstream could not confirm it (by edge-1)",
            ),
            ("edge; fwd=stale; detail=revalidated", "from the cache, confirmed upstream just now (by edge)"),
            ("edge; fwd=miss; stored", "fetched from upstream, and kept (by edge)"),
            ("edge; fwd=miss; collapsed", "fetched from upstream, shared with another request (by edge)"),
            ("edge; fwd=miss", "from upstream, not kept (by edge)"),
            ("edge; fwd=stale; stored; detail=changed", "the tag has moved: fetched anew (by edge)"),
        ] {
            assert_eq!(explain(status), expected);
        }
    }
}
