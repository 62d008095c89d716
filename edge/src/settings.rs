//! The settings of an edge.

mod cache;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ipnet::IpNet;
use oci::settings::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

pub use cache::CacheSettings;

/// What an edge can be told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The store.
    pub cache: CacheSettings,
    /// The registries that this edge stands in front of.
    pub upstream: UpstreamsSettings,
    /// How sure a tag must be.
    pub freshness: FreshnessSettings,
    /// How content is fetched.
    pub download: DownloadSettings,
}

/// The upstreams by name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default)]
pub struct UpstreamsSettings {
    /// Whether registries that are not listed here may be asked for as well. Not in this version: it must be false.
    pub allow_any: bool,
    /// Each registry under the name that clients use for it: `docker.io`, `registry.example:5000`.
    #[serde(flatten)]
    pub named: BTreeMap<String, UpstreamSettings>,
}

/// One registry.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Where it is: `https://host`, or `http://host:port`.
    #[schemars(with = "Option<String>")]
    pub url: Option<Url>,
    /// The user to log in as there; without one, anonymous.
    pub username: Option<String>,
    /// A file that holds the user's password or token, without which `username` is of no use.
    pub password_file: Option<PathBuf>,
    /// A PEM file with certificates that may sign the registry's, besides those that the system trusts.
    pub ca: Option<PathBuf>,
    /// How tags are kept fresh: `strict` asks at every request, `"60s"` or another duration trusts an answer for so long,
    /// `local-first` answers from the cache and asks behind it.
    pub freshness: Freshness,
    /// Whether names that say no registry mean this one. At most one may; by default the only one, or the first given by
    /// `--upstream`.
    pub default: bool,
    /// Who may pull: `open` means every client of `networks`. There is no other value in this version.
    pub access: Access,
    /// The client networks that are served without credentials, as CIDRs.
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<IpNet>,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            url: None,
            username: None,
            password_file: None,
            ca: None,
            freshness: Freshness::Strict,
            default: false,
            access: Access::Open,
            networks: loopback.iter().filter_map(|network| network.parse().ok()).collect(),
        }
    }
}

/// Who may pull through an upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Every client of the listed networks.
    Open,
}

/// How a tag of an upstream is kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Confirmed upstream for every request.
    Strict,
    /// Confirmed if the last confirmation is older.
    Bounded(Duration),
    /// Answered from the cache; confirmed behind the answer.
    LocalFirst,
}

impl<'de> Deserialize<'de> for Freshness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "strict" => Ok(Self::Strict),
            "local-first" => Ok(Self::LocalFirst),
            text => text.parse::<Span>().map(|span| Self::Bounded(span.0)).map_err(|_why| {
                de::Error::custom(format!(
                    "{text:?} is not one of \"strict\", \"local-first\", or a duration such as \"60s\""
                ))
            }),
        }
    }
}

impl Serialize for Freshness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Strict => serializer.serialize_str("strict"),
            Self::LocalFirst => serializer.serialize_str("local-first"),
            Self::Bounded(span) => serializer.collect_str(&Span(*span)),
        }
    }
}

impl JsonSchema for Freshness {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Freshness".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "strict, local-first or a duration"})
    }
}

/// How sure a tag must be.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreshnessSettings {
    /// How long an upstream may take to confirm a tag that the cache holds; after it the cached one is served, with
    /// `Age` and `Warning`.
    pub budget: Span,
}

impl Default for FreshnessSettings {
    fn default() -> Self {
        Self { budget: Span(Duration::from_millis(300)) }
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
        let name = name_of(url)
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
        if self.upstream.allow_any {
            mistakes.push(
                "upstream.allow_any: not in this version; list each registry as upstream.<name>.url"
                    .to_owned(),
            );
        }
        for (name, upstream) in &self.upstream.named {
            let key = format!("upstream.{name:?}");
            match &upstream.url {
                None => mistakes.push(format!("{key}.url is missing: where is the registry?")),
                Some(url) if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() => {
                    mistakes.push(format!("{key}.url: {url} is not http://host:port or https://host"));
                }
                Some(_) => {}
            }
            if upstream.username.is_some() != upstream.password_file.is_some() {
                mistakes.push(format!("{key}: username and password_file go together"));
            }
            let files = [("password_file", &upstream.password_file), ("ca", &upstream.ca)];
            for (field, file) in files.iter().filter_map(|(field, file)| Some((field, file.as_ref()?))) {
                if let Err(error) = std::fs::metadata(file) {
                    mistakes.push(format!("{key}.{field}: {} cannot be read: {error}", file.display()));
                }
            }
        }
        let defaults = self.upstream.named.values().filter(|upstream| upstream.default).count();
        if defaults > 1 {
            mistakes.push(format!(
                "{defaults} upstreams have default = true; a name without a registry can mean only one"
            ));
        }
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

/// What clients call the registry at `url`: its host, and its port where the URL gives one.
fn name_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}
