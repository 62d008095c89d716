//! The settings of an edge.

mod cache;
mod upstream;

use std::time::Duration;

use oci::settings::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

pub use cache::CacheSettings;
pub use upstream::{Access, Freshness, UpstreamHealthSettings, UpstreamSettings, UpstreamsSettings};

/// What an edge can be told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The store.
    pub cache: CacheSettings,
    /// The registries that this edge stands in front of.
    pub upstream: UpstreamsSettings,
    /// When upstreams that do not answer, or want to be asked less, are asked again.
    pub upstream_health: UpstreamHealthSettings,
    /// How sure a tag must be.
    pub freshness: FreshnessSettings,
    /// How content is fetched.
    pub download: DownloadSettings,
}

/// How sure a tag must be.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreshnessSettings {
    /// How long an upstream may take to confirm a tag that the cache holds; after it the cached one is served, with
    /// `Age` and `Warning`.
    pub budget: Span,
    /// How long an upstream's *no* to a manifest, a tag or a blob is given out again without asking, so that many nodes that
    /// ask for what does not exist cost the upstream little. An image that is pushed after somebody has asked for it is
    /// found so much later at the most. 0: every *no* is asked for.
    pub negative: Span,
}

impl Default for FreshnessSettings {
    fn default() -> Self {
        Self { budget: Span(Duration::from_millis(300)), negative: Span(Duration::from_secs(5)) }
    }
}

/// How content is fetched. There is no limit on how long a download may take, only on how long it may make no progress.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadSettings {
    /// How long a connection to an upstream may take to be made.
    pub connect: Span,
    /// How long an upstream may take to begin its answer to a request for what the cache does not hold.
    pub first_byte: Span,
    /// How long an upstream may pause within a blob before it is asked again, from the byte reached on.
    pub stall: Span,
    /// How often a download that makes no progress is tried before it is given up; progress starts the count anew.
    pub tries: u32,
    /// How many downloads from one upstream may run at once. More requests wait for their turn, as long as for a first
    /// byte, and are then told to come again. At most 1024.
    pub at_once: u32,
}

impl Default for DownloadSettings {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(1)),
            first_byte: Span(Duration::from_secs(5)),
            stall: Span(Duration::from_secs(10)),
            tries: 12,
            at_once: 256,
        }
    }
}

impl Settings {
    /// Adds `--upstream URL`: a registry named after its host and port. The first one is the default, unless the
    /// configuration names another.
    ///
    /// # Errors
    /// The URL has no host.
    pub fn add_upstream(&mut self, url: &Url) -> Result<(), String> {
        let name = upstream::name_of(url)
            .ok_or_else(|| format!("--upstream {url}: write http://host:port or https://host"))?;
        let default = !self.upstream.named.values().any(|upstream| upstream.default);
        let entry = self.upstream.named.entry(name).or_default();
        entry.url = Some(url.clone());
        entry.default |= default;
        Ok(())
    }

    /// Everything that is wrong, each with the key it is about.
    pub fn validate(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        mistakes.extend(self.upstream.validate());
        mistakes.extend(self.upstream_health.validate());
        for (key, span) in [
            ("freshness.budget", self.freshness.budget),
            ("download.connect", self.download.connect),
            ("download.first_byte", self.download.first_byte),
            ("download.stall", self.download.stall),
        ] {
            if span.0.is_zero() {
                mistakes.push(format!("{key} must be more than 0"));
            }
        }
        if self.freshness.negative.0 > MAX_NEGATIVE {
            mistakes.push(
                "freshness.negative must be at most 1h: a push is not seen before it has passed".to_owned(),
            );
        }
        if self.download.at_once > MAX_AT_ONCE {
            mistakes.push(format!("download.at_once must be at most {MAX_AT_ONCE}: each holds a thread"));
        }
        for (key, count) in
            [("download.tries", self.download.tries), ("download.at_once", self.download.at_once)]
        {
            if count == 0 {
                mistakes.push(format!("{key} must be at least 1"));
            }
        }
        mistakes
    }
}

/// Nobody wants to wait longer for what was pushed.
const MAX_NEGATIVE: Duration = Duration::from_secs(3600);
/// Each download holds a thread while it runs.
const MAX_AT_ONCE: u32 = 1024;
