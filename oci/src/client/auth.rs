//! Credentials and the token flow (distribution specification's token authentication; RFC 6750).

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, Response,
    header::{self, InvalidHeaderValue},
};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use url::Url;

use super::{
    Failure, FetchError,
    send::{Scope, Sender, empty},
};
use crate::challenge::{Bearer, Challenge};

/// A user name and a password or an access token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

impl Credentials {
    fn basic(&self) -> HeaderValue {
        let encoded = BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password));
        sensitive(&format!("Basic {encoded}")).expect("base64 is a header's text")
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Tokens are asked for again this long before they end, so that none ends on its way.
const EARLY: Duration = Duration::from_secs(5);
/// The life of a token whose service does not tell it (distribution specification: 60 s).
const DEFAULT_LIFE: u64 = 60;
/// The longest that a token is kept, in seconds, whatever its service promises: more may not fit into a clock.
const MAX_LIFE: u64 = 24 * 3600;
/// The longest answer of a token service that is read, in bytes.
const TOKEN_LIMIT: usize = 256 * 1024;
/// Scopes whose tokens are kept; beyond it all are forgotten and asked for anew.
const MAX_TOKENS: usize = 10_000;

/// What a registry has let us have so far.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    tokens: HashMap<Scope, (HeaderValue, Instant)>,
    /// The registry asked for Basic.
    basic: bool,
}

impl Tokens {
    /// What to send without having been asked.
    pub(super) fn remembered(&self, scope: &Scope, credentials: Option<&Credentials>) -> Option<HeaderValue> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.basic {
            return credentials.map(Credentials::basic);
        }
        let (token, until) = memory.tokens.get(scope)?;
        (Instant::now() < *until).then(|| token.clone())
    }

    fn remember(&self, scope: &Scope, token: &HeaderValue, life: Duration) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.tokens.len() >= MAX_TOKENS {
            memory.tokens.clear();
        }
        memory.tokens.insert(scope.clone(), (token.clone(), Instant::now() + life));
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Sender {
    /// What the challenge in `response` asks for; `None` where there is nothing (more) to offer.
    pub(super) async fn authorize(
        &self,
        response: &Response<Incoming>,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>, FetchError> {
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let mut challenges =
            challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect::<Vec<_>>();
        challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
        match challenges.into_iter().next() {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.config.credentials.as_ref().map(|credentials| {
                self.tokens.0.lock().unwrap_or_else(PoisonError::into_inner).basic = true;
                credentials.basic()
            })),
            Some(Challenge::Bearer(bearer)) => self.token(&bearer, scope).await.map(Some),
        }
    }

    async fn token(&self, bearer: &Bearer, scope: &Scope) -> Result<HeaderValue, FetchError> {
        let failed = |why: &str| FetchError::Failed(Failure::Token(why.to_owned()));
        let mut url: Url =
            bearer.realm.parse().map_err(|_invalid| failed("the registry names no token service"))?;
        match (self.config.url.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => {}
            (_, "http") => return Err(failed("the registry names a token service without TLS")),
            _ => return Err(failed("the registry names no token service")),
        }
        let actions = if scope.push { "pull,push" } else { "pull" };
        let wanted =
            bearer.scope.clone().unwrap_or_else(|| format!("repository:{}:{actions}", scope.repository));
        url.query_pairs_mut()
            .extend_pairs(bearer.service.as_ref().map(|service| ("service", service)))
            .append_pair("scope", &wanted);
        let mut headers = HeaderMap::new();
        if let Some(credentials) = &self.config.credentials {
            headers.insert(header::AUTHORIZATION, credentials.basic());
        }
        let response = self.once(Method::GET, &url, headers, empty(), self.config.answer_timeout).await?;
        if !response.status().is_success() {
            return Err(failed(&format!("the token service answered {}", response.status())));
        }
        let body = Limited::new(response.into_body(), TOKEN_LIMIT).collect();
        let body = tokio::time::timeout(self.config.answer_timeout, body).await;
        let Ok(Ok(body)) = body else { return Err(failed("the token service's answer broke off")) };
        let answer: TokenAnswer = serde_json::from_slice(&body.to_bytes())
            .map_err(|_invalid| failed("the token service's answer is not JSON"))?;
        let token =
            answer.token.or(answer.access_token).ok_or_else(|| failed("the answer holds no token"))?;
        let authorization = sensitive(&format!("Bearer {token}"))
            .map_err(|_invalid| failed("the token has characters that no header can hold"))?;
        let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE);
        let life = Duration::from_secs(life).saturating_sub(EARLY);
        self.tokens.remember(scope, &authorization, life);
        Ok(authorization)
    }
}
