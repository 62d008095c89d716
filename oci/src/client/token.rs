//! Asking a token service for a token: GET with Basic (distribution's token authentication), or POST with a refresh token
//! (its OAuth2 variant). Where a service knows no POST, the refresh token takes the place of a password, as docker and
//! containerd do it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use url::Url;

use super::{
    Failure, FetchError,
    credentials::{Current, sensitive},
    rate::retry_after,
    send::{Sender, empty},
};
use crate::challenge::Bearer;

/// Tokens are asked for again this long before they end, so that none ends on its way.
const EARLY: Duration = Duration::from_secs(5);
/// The life of a token whose service does not tell it (distribution specification: 60 s).
const DEFAULT_LIFE: u64 = 60;
/// The longest that a token is kept, in seconds, whatever its service promises: more may not fit into a clock.
const MAX_LIFE: u64 = 24 * 3600;
/// The longest answer of a token service that is read, in bytes.
const TOKEN_LIMIT: usize = 256 * 1024;

/// A token, and how long it may be used.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

impl Sender {
    /// A token for `scope` of the service that `bearer` names.
    pub(super) async fn fetch_token(
        &self,
        bearer: &Bearer,
        scope: Option<&str>,
    ) -> Result<Token, FetchError> {
        let realm = self.realm(bearer)?;
        let credentials = self.keeper.current().await?;
        if let Current::RefreshToken { token, .. } = &credentials {
            let response = self.post(&realm, bearer, scope, token).await?;
            if !knows_no_post(response.status()) {
                return self.read_token(response, &credentials).await;
            }
        }
        let mut url = realm;
        url.query_pairs_mut()
            .extend_pairs(bearer.service.as_ref().map(|service| ("service", service)))
            .extend_pairs(scope.map(|scope| ("scope", scope)));
        let mut headers = HeaderMap::new();
        if let Some(basic) = credentials.basic() {
            headers.insert(header::AUTHORIZATION, basic);
        }
        let response = self.once(Method::GET, &url, headers, empty(), self.config.answer_timeout).await?;
        self.read_token(response, &credentials).await
    }

    fn realm(&self, bearer: &Bearer) -> Result<Url, FetchError> {
        let url: Url =
            bearer.realm.parse().map_err(|_invalid| failed("the registry names no token service"))?;
        match (self.config.url.scheme(), url.scheme()) {
            (_, "https") | ("http", "http") => Ok(url),
            (_, "http") => Err(failed("the registry names a token service without TLS")),
            _ => Err(failed("the registry names no token service")),
        }
    }

    async fn post(
        &self,
        realm: &Url,
        bearer: &Bearer,
        scope: Option<&str>,
        token: &str,
    ) -> Result<Response<Incoming>, FetchError> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", bearer.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "roadstead")
            .append_pair("access_type", "offline")
            .append_pair("refresh_token", token)
            .extend_pairs(scope.map(|scope| ("scope", scope)))
            .finish();
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form_type);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(form.len()));
        let body = Full::new(Bytes::from(form)).map_err(|never| match never {}).boxed_unsync();
        self.once(Method::POST, realm, headers, body, self.config.answer_timeout).await
    }

    async fn read_token(
        &self,
        response: Response<Incoming>,
        credentials: &Current,
    ) -> Result<Token, FetchError> {
        match response.status() {
            status if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = retry_after(response.headers(), SystemTime::now());
                return Err(Failure::RateLimited { retry_after }.into());
            }
            status => return Err(failed(&format!("the token service answered {status}"))),
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
        if let (Current::RefreshToken { configured, token: used, .. }, Some(next)) =
            (credentials, answer.refresh_token)
            && !next.is_empty()
            && next != *used
        {
            self.keeper.rotate(configured, next);
        }
        let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE);
        Ok(Token { authorization, life: Duration::from_secs(life).saturating_sub(EARLY) })
    }
}

/// What services that know only GET have been seen to say to a POST; 401 is one of them.
fn knows_no_post(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNAUTHORIZED
            | StatusCode::NOT_IMPLEMENTED
    )
}

fn failed(why: &str) -> FetchError {
    Failure::Token(why.to_owned()).into()
}
