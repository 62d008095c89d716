//! One request to a registry: connection, token, redirects, and what kind of answer it was.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::Url;

use super::{ClientConfig, Failure, FetchError, InvalidClient, Silence, auth::Tokens};

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
    http: legacy::Client<HttpsConnector<HttpConnector>, SendBody>,
    pub(super) tokens: Tokens,
}

/// What a request is about, as the token service wants to hear it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) push: bool,
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
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let tls = tls(&config)?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_read_buf_exact_size(LARGEST_PIECE)
            .build(connector);
        Ok(Self { config, http, tokens: Tokens::default() })
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
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>, FetchError> {
        let mut authorization = self.tokens.remembered(call.scope, self.config.credentials.as_ref());
        let response = self.follow(&call, authorization.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        authorization = self.authorize(&response, call.scope).await?;
        match authorization {
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
    ) -> Result<Response<Incoming>, Silence> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            url.as_str().parse().map_err(|_why| Silence::Unreachable(format!("{url} is not an address")))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        match tokio::time::timeout(timeout, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Silence::Unreachable(innermost(&error))),
            Err(_elapsed) => Err(Silence::NoAnswer(timeout)),
        }
    }
}

const USER_AGENT: &str = concat!("roadstead/", env!("CARGO_PKG_VERSION"));

pub(super) fn empty() -> SendBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The cause that a person can act on: "connection refused", not "client error (Connect)".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn tls(config: &ClientConfig) -> Result<rustls::ClientConfig, InvalidClient> {
    let mut roots = RootCertStore::empty();
    if config.url.scheme() == "https" {
        // A certificate of the system that cannot be read is not this registry's fault: the handshake will tell.
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
    }
    for certificate in CertificateDer::pem_slice_iter(&config.extra_roots) {
        let unreadable = |why: String| InvalidClient::Roots { url: config.url.clone(), why };
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.expect("the provider supports TLS 1.2 and 1.3");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
