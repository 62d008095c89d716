//! The origin's own settings. What the text of each field says is also the configuration reference.

use std::{fmt, time::Duration};

use oci::settings::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// All keys that only an origin has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the state is.
    pub database: DatabaseSettings,
    /// Where the bytes of blobs are.
    pub storage: StorageSettings,
    /// When unreferenced blobs go.
    pub gc: GcSettings,
    /// Uploads that are under way.
    pub upload: UploadSettings,
    /// What clients may push and delete.
    pub registry: RegistrySettings,
    /// Who is asked who they are.
    pub auth: AuthSettings,
}

/// Where the state is.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `sqlite:///path/to/file` or `postgres://user:password@host:5432/name`; several hosts of one PostgreSQL cluster
    /// are separated by commas (`h1:5432,h2:5432`), and the node finds the primary among them. Default: the file
    /// `origin.db` in the data directory.
    pub url: Option<String>,
    /// Connections that this node opens at most, 1 or more. Requests beyond that wait in line. Default 10.
    pub connections: u32,
    /// How long a request waits for a connection before it is answered with 503. Default 10s.
    pub acquire_timeout: Span,
}

impl fmt::Debug for DatabaseSettings {
    // The URL has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseSettings").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { url: None, connections: 10, acquire_timeout: Span(Duration::from_secs(10)) }
    }
}

/// Where the bytes of blobs are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`. Default: the directory
    /// `objects` in the data directory.
    pub url: Option<String>,
    /// The address of an S3-compatible service that is not AWS: `http://host:port`. Default: AWS's own.
    pub endpoint: Option<String>,
    /// The region of the bucket. Default: `us-east-1`.
    pub region: Option<String>,
    /// The access key's id. Default: from the environment or the machine's role, as the cloud's own tools find it.
    pub access_key_id: Option<String>,
    /// The access key's secret.
    pub secret_access_key: Option<Secret>,
    /// Whether the endpoint may be plain `http`. Default false.
    pub allow_http: bool,
}

/// A text that is never shown in a log.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who is asked who they are.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The password of the first user, `admin`, which is made when the database has no admin. Default: a random one, which
    /// is written to `admin.password` in the data directory, readable by the node's own user only.
    pub admin_password: Option<Secret>,
    /// How long an access token is good for, and therefore how soon a client that was given one asks again. Clients are
    /// never told less than 60s. 1s to 1h. Default 5m.
    pub token_ttl: Span,
    /// How far the clocks of nodes may differ: a token counts this much longer, and this much earlier. At most 5m.
    /// Default 10s.
    pub leeway: Span,
    /// How long a key signs tokens before the next one does. Tokens of the one before stay good. At least 1s. Default 30d.
    pub key_rotation: Span,
    /// What the registry is called in tokens; the same at all nodes over one database. Default `roadstead`.
    pub service: String,
    /// The address of the token service as clients reach it: `https://registry.example/token`. Default: `/token` at the
    /// host that the client asked for.
    pub realm: Option<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            admin_password: None,
            token_ttl: Span(Duration::from_secs(300)),
            leeway: Span(Duration::from_secs(10)),
            key_rotation: Span(Duration::from_secs(30 * 24 * 3600)),
            service: "roadstead".to_owned(),
            realm: None,
        }
    }
}

/// When unreferenced blobs go.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GcSettings {
    /// How long a blob that no manifest of its repository needs is kept, counted from its push or from the removal of
    /// the last manifest that needed it. Long enough for the slowest push. Default 24h.
    pub grace: Span,
    /// How often this node looks for such blobs, unless another node does. Default 1h.
    pub interval: Span,
    /// How long a blob is then hidden before its bytes are deleted; a manifest that names it in this time brings it
    /// back. Default: as long as `gc.grace`.
    pub quarantine: Option<Span>,
    /// A run that would hide or delete more than this share of everything, and more than 1,000, does nothing and raises
    /// an alarm instead. Between 0 and 1. Default 0.5.
    pub brake: f64,
}

impl Default for GcSettings {
    fn default() -> Self {
        Self {
            grace: Span(Duration::from_secs(24 * 3600)),
            interval: Span(Duration::from_secs(3600)),
            quarantine: None,
            brake: 0.5,
        }
    }
}

impl GcSettings {
    /// The quarantine, where not set as long as the grace period.
    pub(crate) fn quarantine(&self) -> Duration {
        self.quarantine.unwrap_or(self.grace).0
    }
}

/// Uploads that are under way.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// An upload that nobody touched for this long is dropped and its space given back. Default 24h.
    pub expire: Span,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self { expire: Span(Duration::from_secs(24 * 3600)) }
    }
}

/// What clients may push and delete.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// The largest manifest; larger ones are answered with 413. At most 64 MiB. Default 4 MiB.
    pub manifest_size: Size,
    /// Upload bodies that this node receives at once; the next is answered with 503 and `Retry-After`. Default 1000.
    pub uploads: u32,
    /// Memory for bytes of uploads that are received and not yet stored, for all uploads of this node together. At
    /// least 64 MiB. Default 256 MiB.
    pub upload_memory: Size,
    /// Whether clients may delete tags, manifests and blobs; if not, `DELETE` is answered with 405. Default true.
    pub delete: bool,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { manifest_size: Size::mib(4), uploads: 1000, upload_memory: Size::mib(256), delete: true }
    }
}

impl Settings {
    /// Every mistake, as one sentence that begins with its key.
    pub fn validate(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |ok: bool, mistake: &str| {
            if !ok {
                mistakes.push(mistake.to_owned());
            }
        };
        let database = self.database.url.as_deref();
        check(
            database.is_none_or(|url| {
                ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
            }),
            "database.url: begins with sqlite:// or postgres://",
        );
        check(self.database.connections >= 1, "database.connections: at least 1");
        check(!self.database.acquire_timeout.0.is_zero(), "database.acquire_timeout: more than 0s");
        check(
            self.storage.url.as_deref().is_none_or(is_storage_url),
            "storage.url: a URL that begins with file://, s3://, gs:// or az:// and names a directory or bucket",
        );
        let endpoint = self.storage.endpoint.as_deref().map(Url::parse);
        check(!matches!(endpoint, Some(Err(_))), "storage.endpoint: a URL such as https://host:port");
        let plain = matches!(&endpoint, Some(Ok(url)) if url.scheme() == "http");
        check(
            !plain || self.storage.allow_http,
            "storage.endpoint: is plain http; set storage.allow_http = true if that is meant",
        );
        check(
            self.storage.access_key_id.is_some() == self.storage.secret_access_key.is_some(),
            "storage.access_key_id and storage.secret_access_key: both or neither",
        );
        check(!self.gc.interval.0.is_zero(), "gc.interval: more than 0s");
        check((0.0..=1.0).contains(&self.gc.brake), "gc.brake: a share between 0 and 1");
        check(!self.upload.expire.0.is_zero(), "upload.expire: more than 0s");
        let auth = &self.auth;
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        check((second..=hour).contains(&auth.token_ttl.0), "auth.token_ttl: 1s to 1h");
        check(auth.leeway.0 <= Duration::from_secs(300), "auth.leeway: at most 5m");
        check(auth.key_rotation.0 >= second, "auth.key_rotation: at least 1s");
        let visible = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        check(visible(&auth.service), "auth.service: visible ASCII characters without quotes");
        let realm = auth.realm.as_deref().is_none_or(|realm| visible(realm) && is_web_url(realm));
        check(realm, "auth.realm: a URL such as https://registry.example/token");
        let password = auth.admin_password.as_ref().is_none_or(|password| !password.0.is_empty());
        check(password, "auth.admin_password: not empty");
        let manifest = self.registry.manifest_size;
        check(manifest.0 >= 1024 && manifest <= Size::mib(64), "registry.manifest_size: 1 KiB to 64 MiB");
        check(self.registry.uploads >= 1, "registry.uploads: at least 1");
        let memory = self.registry.upload_memory;
        check(
            memory >= Size::mib(64) && memory <= Size::mib(1 << 20),
            "registry.upload_memory: 64 MiB to 1 TiB",
        );
        mistakes
    }
}

fn is_web_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_storage_url(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.scheme() {
        "file" => url.to_file_path().is_ok(),
        "s3" | "gs" | "az" => url.has_host(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Settings::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "database": {"url": "mysql://x", "connections": 0, "acquire_timeout": "0s"},
            "storage": {"url": "ftp://x", "endpoint": "http://h:1", "access_key_id": "a"},
            "gc": {"interval": "0s", "brake": 2.0},
            "upload": {"expire": "0s"},
            "registry": {"manifest_size": 1, "uploads": 0, "upload_memory": 1},
            "auth": {"admin_password": "", "token_ttl": "2h", "leeway": "1h", "key_rotation": "0s", "service": "a\"b",
                "realm": "registry.example"},
        }))
        .expect("readable");
        let mistakes = settings.validate();
        assert_eq!(mistakes.len(), 18, "{mistakes:#?}");
        for key in ["database.url", "storage.endpoint", "gc.brake", "upload.expire", "registry.upload_memory"]
        {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(key)), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = serde_json::from_str::<Settings>(r#"{"gc":{"graze":"1h"}}"#).expect_err("refused");
        assert!(error.to_string().contains("graze"), "{error}");
    }
}
