//! The settings of an edge.

mod cache;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ipnet::IpNet;
use oci::settings::Span;
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
        ] {
            if span.0.is_zero() {
                mistakes.push(format!("{key} must be more than 0"));
            }
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

/// Each download holds a thread while it runs.
const MAX_AT_ONCE: u32 = 1024;

/// What clients call the registry at `url`: its host, and its port where the URL gives one.
fn name_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}
