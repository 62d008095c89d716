//! Who asks: user name and password, or a refresh token, given at once or in a file.
//!
//! A file is read whenever the secret is needed for something new, and again after a registry has refused what it held, so
//! that a password that is exchanged works without a restart.

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, header::InvalidHeaderValue};

use super::Failure;

/// The longest secret that is read from a file, in bytes.
const MAX_SECRET: u64 = 256 * 1024;
/// What stands for the user where a refresh token takes the place of a password, as docker writes it.
const TOKEN_USER: &str = "<token>";

/// Who asks.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A user with a password or an access token.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that the token service exchanges for others: docker's identity token.
    RefreshToken {
        /// The user that it was given to, where the token service wants to know.
        username: Option<String>,
        /// The token.
        token: Secret,
    },
}

/// A text that nobody may see.
#[derive(Clone)]
pub enum Secret {
    /// The secret itself.
    Given(String),
    /// The file that holds it; white space at its end does not count.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("a secret"),
            Self::File(path) => write!(f, "the secret in {}", path.display()),
        }
    }
}

impl Secret {
    async fn read(&self) -> Result<String, Failure> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path.clone(),
        };
        let shown = path.display().to_string();
        let reading = tokio::task::spawn_blocking(move || {
            use std::io::Read as _;
            let mut secret = String::new();
            std::fs::File::open(path)?.take(MAX_SECRET).read_to_string(&mut secret)?;
            Ok::<_, std::io::Error>(secret)
        });
        let read = reading.await.map_err(std::io::Error::other).and_then(|read| read);
        let secret =
            read.map_err(|error| Failure::Credentials(format!("{shown} cannot be read: {error}")))?;
        Ok(secret.trim_end().to_owned())
    }
}

/// The credentials of one client, and the refresh token that its token service has put in place of the first one.
#[derive(Debug)]
pub(super) struct Keeper {
    credentials: Option<Credentials>,
    rotated: Mutex<Option<Rotated>>,
}

struct Rotated {
    /// What the configuration said when the token was exchanged: if that changes, it counts again.
    instead_of: String,
    token: String,
}

impl fmt::Debug for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rotated")
    }
}

/// Credentials as they are now.
pub(super) enum Current {
    Anonymous,
    Password { username: String, password: String },
    RefreshToken { username: Option<String>, configured: String, token: String },
}

impl Keeper {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, rotated: Mutex::default() }
    }

    pub(super) async fn current(&self) -> Result<Current, Failure> {
        Ok(match &self.credentials {
            None => Current::Anonymous,
            Some(Credentials::Password { username, password }) => {
                Current::Password { username: username.clone(), password: password.read().await? }
            }
            Some(Credentials::RefreshToken { username, token }) => {
                let configured = token.read().await?;
                let rotated = self.rotated.lock().unwrap_or_else(PoisonError::into_inner);
                let token = match &*rotated {
                    Some(rotated) if rotated.instead_of == configured => rotated.token.clone(),
                    _ => configured.clone(),
                };
                Current::RefreshToken { username: username.clone(), configured, token }
            }
        })
    }

    /// From now on `token` takes the place of the one that was `configured`.
    pub(super) fn rotate(&self, configured: &str, token: String) {
        let rotated = Rotated { instead_of: configured.to_owned(), token };
        *self.rotated.lock().unwrap_or_else(PoisonError::into_inner) = Some(rotated);
    }
}

impl Current {
    /// As Basic has it.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let (username, secret) = match self {
            Self::Anonymous => return None,
            Self::Password { username, password } => (username.as_str(), password),
            Self::RefreshToken { username, token, .. } => (username.as_deref().unwrap_or(TOKEN_USER), token),
        };
        let encoded = BASE64_STANDARD.encode(format!("{username}:{secret}"));
        Some(sensitive(&format!("Basic {encoded}")).expect("base64 is a header's text"))
    }
}

/// A header's value that no log shows.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}
