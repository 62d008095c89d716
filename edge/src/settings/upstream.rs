//! The settings of upstreams: each registry that is listed, what holds for those that are not, and when one that does not
//! answer is asked again.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ipnet::IpNet;
use oci::settings::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

/// What clients call Docker Hub, and the hosts that are meant by it.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The upstreams by name.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default)]
pub struct UpstreamsSettings {
    /// Whether registries that are not listed here may be asked for as well, by the name that a client gives: anonymously,
    /// over TLS, at port 443 unless the name says another one, and at addresses of the public Internet only, wherever the
    /// name resolves to and whatever the registry redirects to.
    pub allow_any: bool,
    /// Networks, as CIDRs, that names from clients may lead to although they are not of the public Internet: those of a
    /// company's own registries. Whoever may pull through this node can then reach every HTTPS port there.
    #[schemars(with = "Vec<String>")]
    pub any_networks: Vec<IpNet>,
    /// The client networks, as CIDRs, that may name registries which are not listed.
    #[schemars(with = "Vec<String>")]
    pub any_clients: Vec<IpNet>,
    /// A PEM file with certificates that may sign those of registries that are not listed, besides those that the system
    /// trusts.
    pub any_ca: Option<PathBuf>,
    /// How tags of registries that are not listed are kept fresh, in the words of `upstream.<name>.freshness`.
    pub any_freshness: Freshness,
    /// Each registry under the name that clients use for it: `docker.io`, `registry.example:5000`.
    #[serde(flatten)]
    pub named: BTreeMap<String, UpstreamSettings>,
}

impl Default for UpstreamsSettings {
    fn default() -> Self {
        Self {
            allow_any: false,
            any_networks: Vec::new(),
            any_clients: loopback(),
            any_ca: None,
            any_freshness: Freshness::Strict,
            named: BTreeMap::new(),
        }
    }
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
    /// A file that holds the user's password or token, without which `username` is of no use. It is read again when the
    /// registry refuses what it held.
    pub password_file: Option<PathBuf>,
    /// A file that holds a refresh token (docker's identity token) in place of a password. A token that the token service
    /// gives in exchange is used from then on, until this node ends or the file changes.
    pub refresh_token_file: Option<PathBuf>,
    /// A PEM file with certificates that may sign the registry's, besides those that the system trusts.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate that this node shows where the registry asks for one, and those between it and its
    /// root.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the key of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// How tags are kept fresh: `strict` asks at every request, `"60s"` or another duration trusts an answer for so long,
    /// `local-first` answers from the cache and asks behind it. What an upstream said *no* to is under `freshness.negative`
    /// with each of them.
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
        Self {
            url: None,
            username: None,
            password_file: None,
            refresh_token_file: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            freshness: Freshness::Strict,
            default: false,
            access: Access::Open,
            networks: loopback(),
        }
    }
}

fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect()
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

/// When upstreams that do not answer, or want to be asked less, are asked again.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamHealthSettings {
    /// How long an upstream that costs time and gives no answer is left alone at first. Then one request of those that come
    /// goes through; if that gets no answer either, the pause doubles. Meanwhile what is cached is served at once, and the
    /// rest is answered 503.
    pub first_pause: Span,
    /// The longest such pause: so much later than it answers again an upstream is asked again, at the most.
    pub longest_pause: Span,
    /// The longest time that an upstream which answers 429 is left alone, whatever its `Retry-After` says.
    pub longest_limited: Span,
}

impl Default for UpstreamHealthSettings {
    fn default() -> Self {
        Self {
            first_pause: Span(Duration::from_secs(1)),
            longest_pause: Span(Duration::from_secs(10)),
            longest_limited: Span(Duration::from_secs(15 * 60)),
        }
    }
}

impl UpstreamsSettings {
    /// Everything that is wrong, each with the key it is about.
    pub(super) fn validate(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (name, upstream) in &self.named {
            upstream.validate(&format!("upstream.{name:?}"), &mut mistakes);
        }
        if let Some(ca) = &self.any_ca {
            readable("upstream.any_ca", ca, &mut mistakes);
        }
        let defaults = self.named.values().filter(|upstream| upstream.default).count();
        if defaults > 1 {
            mistakes.push(format!(
                "{defaults} upstreams have default = true; a name without a registry can mean only one"
            ));
        }
        mistakes
    }
}

impl UpstreamSettings {
    fn validate(&self, key: &str, mistakes: &mut Vec<String>) {
        match &self.url {
            None => mistakes.push(format!("{key}.url is missing: where is the registry?")),
            Some(url) if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() => {
                mistakes.push(format!("{key}.url: {url} is not http://host:port or https://host"));
            }
            Some(url) if !url.username().is_empty() || url.password().is_some() => {
                mistakes.push(format!("{key}.url holds a user: write username and password_file instead"));
            }
            Some(_) => {}
        }
        match (&self.username, &self.password_file, &self.refresh_token_file) {
            (_, Some(_), Some(_)) => {
                mistakes.push(format!("{key}: password_file and refresh_token_file exclude each other"));
            }
            (Some(_), None, None) | (None, Some(_), None) => {
                mistakes.push(format!("{key}: username and password_file go together"));
            }
            (Some(_), Some(_), None) | (_, None, Some(_)) | (None, None, None) => {}
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            mistakes.push(format!("{key}: client_certificate and client_key go together"));
        }
        let files = [
            ("password_file", &self.password_file),
            ("refresh_token_file", &self.refresh_token_file),
            ("ca", &self.ca),
            ("client_certificate", &self.client_certificate),
            ("client_key", &self.client_key),
        ];
        for (field, file) in files.iter().filter_map(|(field, file)| Some((field, file.as_ref()?))) {
            readable(&format!("{key}.{field}"), file, mistakes);
        }
    }
}

impl UpstreamHealthSettings {
    pub(super) fn validate(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (key, span) in [
            ("first_pause", self.first_pause),
            ("longest_pause", self.longest_pause),
            ("longest_limited", self.longest_limited),
        ] {
            if span.0.is_zero() || span.0 > MAX_PAUSE {
                mistakes.push(format!("upstream_health.{key} must be more than 0 and at most a day"));
            }
        }
        mistakes
    }
}

/// Nobody means a longer one, and a clock can count it.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

fn readable(key: &str, file: &std::path::Path, mistakes: &mut Vec<String>) {
    if let Err(error) = std::fs::metadata(file) {
        mistakes.push(format!("{key}: {} cannot be read: {error}", file.display()));
    }
}

/// What clients call the registry at `url`: its host, and its port where the URL gives one. Docker Hub has three hosts and
/// one name.
pub(super) fn name_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        None if DOCKER_HUB_HOSTS.contains(&host) => DOCKER_HUB.to_owned(),
        None => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(change: impl FnOnce(&mut UpstreamSettings)) -> Vec<String> {
        let mut one = UpstreamSettings { url: "https://r.example".parse().ok(), ..Default::default() };
        change(&mut one);
        let mut mistakes = Vec::new();
        one.validate("upstream.r", &mut mistakes);
        mistakes
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let here = || Some(PathBuf::from("/dev/null"));
        assert_eq!(mistakes(|_| {}), Vec::<String>::new());
        assert_eq!(mistakes(|one| one.refresh_token_file = here()), Vec::<String>::new());
        type Change = fn(&mut UpstreamSettings);
        let wrong: [(Change, &str); 6] = [
            (|one| one.username = Some("ship".into()), "go together"),
            (|one| one.password_file = Some("/dev/null".into()), "go together"),
            (|one| one.client_key = Some("/dev/null".into()), "go together"),
            (|one| one.refresh_token_file = Some("/no/such/file".into()), "cannot be read"),
            (|one| one.url = "https://ship:harbour@r.example".parse().ok(), "holds a user"),
            (|one| one.url = "ftp://r.example".parse().ok(), "is not http://host:port"),
        ];
        for (change, expected) in wrong {
            let told = mistakes(change);
            assert!(told.len() == 1 && told[0].contains(expected), "{expected}: {told:?}");
            assert!(!told[0].contains("harbour"), "no password in a message: {told:?}");
        }
        let both = mistakes(|one| {
            one.username = Some("ship".into());
            one.password_file = here();
            one.refresh_token_file = here();
        });
        assert!(both[0].contains("exclude each other"), "{both:?}");
        let health = UpstreamHealthSettings { first_pause: Span(Duration::ZERO), ..Default::default() };
        assert_eq!(health.validate().len(), 1);
    }

    #[test]
    fn an_upstream_is_named_after_its_host_and_docker_hub_has_one_name() {
        for (url, name) in [
            ("https://r.example", "r.example"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://registry-1.docker.io", "docker.io"),
            ("https://index.docker.io/", "docker.io"),
            ("https://docker.io:8443", "docker.io:8443"),
        ] {
            let url = url.parse().expect("a URL");
            assert_eq!(name_of(&url).as_deref(), Some(name), "{url}");
        }
    }
}
