//! One request to a registry: connection, token, redirects, and what kind of answer it was.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use url::Url;

use super::{
    ClientConfig, Failure, FetchError, InvalidClient, Silence,
    auth::Tokens,
    connect::{self, Connector},
    credentials::Keeper,
    guard::Forbidden,
    rate::Rate,
};

/// Redirects followed for one request: a registry needs one, to its object storage.
const MAX_REDIRECTS: usize = 5;
/// The largest piece in which bytes of a blob come. Smaller ones cost more system calls, larger ones more memory for each
/// request that runs.
pub const LARGEST_PIECE: usize = 256 << 10;
/// Idle connections kept to one host.
const IDLE_CONNECTIONS: usize = 32;

pub(super) type SendBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

pub(super) struct Sender {
    pub(super) config: ClientConfig,
    pub(super) tls: Arc<rustls::ClientConfig>,
    http: legacy::Client<Connector, SendBody>,
    pub(super) tokens: Tokens,
    pub(super) keeper: Keeper,
    pub(super) rate: Rate,
}

/// What a request is about, as the token service wants to hear it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) push: bool,
}

impl Scope {
    /// As a token service reads it.
    pub(super) fn wanted(&self) -> String {
        let actions = if self.push { "pull,push" } else { "pull" };
        format!("repository:{}:{actions}", self.repository)
    }
}

pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) scope: &'a Scope,
    pub(super) answer_timeout: Duration,
}

impl Sender {
    pub(super) fn new(config: ClientConfig) -> Result<Self, InvalidClient> {
        let http_or_https = matches!(config.url.scheme(), "http" | "https");
        if !http_or_https || config.url.host_str().is_none() {
            return Err(InvalidClient::Url(config.url));
        }
        let tls = connect::tls_of(&config)?;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_read_buf_exact_size(LARGEST_PIECE)
            .build(connect::connector(&config, tls.clone()));
        let keeper = Keeper::new(config.credentials.clone());
        Ok(Self { config, tls, http, tokens: Tokens::default(), keeper, rate: Rate::default() })
    }

    /// The URL of `path`, which begins behind `/v2/`.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.config.url.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}/v2/{path}"));
        url
    }

    /// Sends a request without a body; on a challenge asks for a token and sends it once more; follows redirects.
    ///
    /// # Errors
    /// No answer, or redirects without end. A status is no error here.
    pub(super) async fn send(self: &Arc<Self>, call: Call<'_>) -> Result<Response<Incoming>, FetchError> {
        let sent = self.tokens.remembered(call.scope);
        let response = self.follow(&call, sent.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.authorize(&response, call.scope, sent.as_ref()).await? {
            Some(authorization) => self.follow(&call, Some(&authorization)).await,
            None => Ok(response),
        }
    }

    async fn follow(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, FetchError> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = call.headers.clone();
            if let Some(authorization) = authorization
                && url.origin() == call.url.origin()
            {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let response =
                self.once(call.method.clone(), &url, headers, empty(), call.answer_timeout).await?;
            if url.origin() == call.url.origin() {
                self.rate.note(response.headers());
            }
            if response.status() == StatusCode::UNAUTHORIZED && url.origin() != call.url.origin() {
                // Its challenge is not the registry's: the realm that it names would get the credentials.
                return Err(Failure::Refused(response.status()).into());
            }
            if response.status() == StatusCode::NOT_FOUND && url.origin() != call.url.origin() {
                // A portal, or storage that lost it: only the registry itself can say that it has no such thing.
                return Err(Failure::Status(response.status()).into());
            }
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok()).ok_or(Failure::Redirects)?;
            let downgraded = url.scheme() == "https" && next.scheme() != "https";
            if downgraded || !matches!(next.scheme(), "http" | "https") {
                return Err(Failure::Redirects.into());
            }
            url = next;
        }
        Err(Failure::Redirects.into())
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn once(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: SendBody,
        timeout: Duration,
    ) -> Result<Response<Incoming>, FetchError> {
        if let Some(guard) = &self.config.guard {
            guard.check(&self.config.url, url).map_err(Failure::Forbidden)?;
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            url.as_str().parse().map_err(|_why| Silence::Unreachable(format!("{url} is not an address")))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        match tokio::time::timeout(timeout, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unanswered(&error)),
            Err(_elapsed) => Err(Silence::NoAnswer(timeout).into()),
        }
    }

    /// Why no answer came: the cause that a person can act on, "connection refused", not "client error (Connect)".
    fn unanswered(&self, error: &legacy::Error) -> FetchError {
        let mut cause: &(dyn std::error::Error + 'static) = error;
        loop {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                if let Some(forbidden) = forbidden(io) {
                    return Failure::Forbidden(forbidden).into();
                }
                if error.is_connect() && io.kind() == io::ErrorKind::TimedOut {
                    return Silence::NoConnection(self.config.connect_timeout).into();
                }
            }
            match cause.source() {
                Some(source) => cause = source,
                None => return Silence::Unreachable(cause.to_string()).into(),
            }
        }
    }
}

/// What a guard said where the connection was to be made.
pub(super) fn forbidden(error: &io::Error) -> Option<Forbidden> {
    error.get_ref()?.downcast_ref::<Forbidden>().cloned()
}

const USER_AGENT: &str = concat!("roadstead/", env!("CARGO_PKG_VERSION"));

pub(super) fn empty() -> SendBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
