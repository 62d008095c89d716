//! The settings of an edge.

mod cache;
mod upstream;

use std::time::Duration;

use oci::settings::{Size, Span};
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
    /// How many requests for bytes of blobs may run at once at one upstream. Further downloads wait for their turn. At most
    /// 1024.
    pub connections: u32,
    /// How many requests may fetch parts of one large blob at once, where that is faster and the upstream gives parts; it is
    /// tried while it runs. Readers far ahead of the rest get a part of their own besides. 1: each blob is fetched from its
    /// beginning to its end. At most 32.
    pub parallel: u32,
    /// How long a download waits for its turn before those who wait for it are told to come again.
    pub turn: Span,
    /// How many requests may wait for the first byte of a download. One more is told to come again at once.
    pub waiting: u32,
    /// How many bytes of all downloads may be on their way from an upstream to the disk, beside one piece of 256 KiB for each
    /// request. At least 1 MiB.
    pub in_flight: Size,
    /// How long an upstream that sent wrong bytes is not asked again for that blob. Doubles with each time in a row.
    pub avoid: Span,
}

impl Default for DownloadSettings {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(1)),
            first_byte: Span(Duration::from_secs(5)),
            stall: Span(Duration::from_secs(10)),
            tries: 12,
            connections: 64,
            parallel: 4,
            turn: Span(Duration::from_secs(60)),
            waiting: 4096,
            in_flight: Size::mib(16),
            avoid: Span(Duration::from_secs(5)),
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
            ("download.turn", self.download.turn),
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
        for (key, count, most) in [
            ("download.tries", self.download.tries, u32::MAX),
            ("download.connections", self.download.connections, MAX_CONNECTIONS),
            ("download.parallel", self.download.parallel, MAX_PARALLEL),
            ("download.waiting", self.download.waiting, u32::MAX),
        ] {
            if count == 0 {
                mistakes.push(format!("{key} must be at least 1"));
            }
            if count > most {
                mistakes.push(format!("{key} must be at most {most}"));
            }
        }
        if self.download.in_flight.0 < MIN_IN_FLIGHT {
            mistakes.push("download.in_flight must be at least 1 MiB".to_owned());
        }
        mistakes
    }
}

/// Each download that runs holds a thread.
const MAX_CONNECTIONS: u32 = 1024;
/// More requests for one blob are no help, only a burden for the upstream.
const MAX_PARALLEL: u32 = 32;
/// A few pieces, so that one download does not wait for each write of another.
const MIN_IN_FLIGHT: u64 = 1 << 20;
/// Nobody wants to wait longer for what was pushed.
const MAX_NEGATIVE: Duration = Duration::from_secs(3600);
