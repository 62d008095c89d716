//! Which node is administered, and as whom: flags, environment, what `roadstead login` remembered, the default.
//!
//! The file is readable by its owner only. A password that was given for one node is never sent to another.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use url::Url;

/// Where an edge serves clients on its own machine.
const DEFAULT_URL: &str = "http://127.0.0.1:5001";

/// A node, and who asks.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) url: Url,
    pub(super) credentials: Option<Credentials>,
    /// Where the URL comes from, for messages.
    pub(super) source: &'static str,
}

/// User and password.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:…", self.user)
    }
}

impl Credentials {
    /// `Basic` (RFC 7617).
    pub(super) fn authorization(&self) -> HeaderValue {
        let text = format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)));
        let mut value = HeaderValue::try_from(text).expect("base64 is a header's text");
        value.set_sensitive(true);
        value
    }
}

/// What a login remembers.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Remembered {
    pub(super) url: Url,
    #[serde(flatten)]
    pub(super) credentials: Credentials,
}

impl Session {
    /// The session for `url`, which a flag or the environment gave, or for the one remembered.
    pub(super) fn open(url: Option<&Url>) -> anyhow::Result<Self> {
        let remembered = Remembered::load()?;
        let from_environment = from_environment()?;
        let (url, source) = match (url, &remembered) {
            (Some(url), _) => (url.clone(), "given by --url or ROADSTEAD_URL"),
            (None, Some(remembered)) => (remembered.url.clone(), "remembered by `roadstead login`"),
            (None, None) => {
                let url = Url::parse(DEFAULT_URL).context("the default is an address")?;
                (url, "the default; --url, ROADSTEAD_URL or `roadstead login` name another")
            }
        };
        let ours = remembered.filter(|remembered| remembered.url.origin() == url.origin());
        let credentials = from_environment.or(ours.map(|remembered| remembered.credentials));
        Ok(Self { url, credentials, source })
    }
}

impl Remembered {
    fn load() -> anyhow::Result<Option<Self>> {
        let Some(path) = path() else { return Ok(None) };
        let shown = path.display();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{shown} cannot be understood; remove it, or write it anew with `roadstead login`")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{shown} cannot be read")),
        }
    }

    /// Writes the file, whole or not at all; its path.
    pub(super) fn save(&self) -> anyhow::Result<PathBuf> {
        let Some(path) = path() else {
            bail!("there is nowhere to remember a login: set HOME or XDG_CONFIG_HOME");
        };
        let directory = path.parent().unwrap_or(Path::new("/"));
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let new = path.with_extension("new");
            // One that an earlier attempt left may have another mode.
            let _ = fs::remove_file(&new);
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }
}

fn path() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(base.join("roadstead/login.json"))
}

fn from_environment() -> anyhow::Result<Option<Credentials>> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("ROADSTEAD_USER"), variable("ROADSTEAD_PASSWORD")) {
        (Some(user), Some(password)) => Ok(Some(Credentials { user, password })),
        (None, None) => Ok(None),
        _ => bail!("ROADSTEAD_USER and ROADSTEAD_PASSWORD go together: set both, or neither"),
    }
}
