//! HTTP as the commands speak it: one request at a time, a deadline for each wait, causes that a person can act on.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::Url;

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// The longest document that is read, in bytes.
pub(super) const MAX_DOCUMENT: usize = 64 << 20;

const USER_AGENT: &str = concat!("roadstead/", env!("CARGO_PKG_VERSION"));

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Http(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer came within {0:?}")]
    Silent(Duration),
}

impl NoAnswer {
    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable(why) if why.contains("certificate") => {
                "give the certificate of the authority that signed the node's with --ca FILE; `roadstead doctor` says which"
            }
            Self::Unreachable(_) | Self::Silent(_) => "see that the node runs, and that it listens there",
        }
    }
}

impl Http {
    /// A client that trusts what the system trusts, and the certificates in the file `ca`.
    pub(super) fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_root_certificates(roots(ca)?).with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let target = url.as_str().parse();
        *request.uri_mut() =
            target.map_err(|_why| NoAnswer::Unreachable(format!("{url} is not an address")))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        match tokio::time::timeout(patience, self.0.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(NoAnswer::Unreachable(innermost(&error))),
            Err(_elapsed) => Err(NoAnswer::Silent(patience)),
        }
    }

    /// Sends a request without a body, and reads the whole answer.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
        patience: Duration,
    ) -> Result<Response<Bytes>, NoAnswer> {
        let response = self.send(Method::GET, url, headers, Bytes::new(), patience).await?;
        read(response, patience).await
    }
}

/// Reads the rest of an answer.
pub(super) async fn read(
    response: Response<Incoming>,
    patience: Duration,
) -> Result<Response<Bytes>, NoAnswer> {
    let (parts, body) = response.into_parts();
    match tokio::time::timeout(patience, Limited::new(body, MAX_DOCUMENT).collect()).await {
        Ok(Ok(body)) => Ok(Response::from_parts(parts, body.to_bytes())),
        Ok(Err(error)) => Err(NoAnswer::Unreachable(format!("the answer broke off: {}", innermost(&*error)))),
        Err(_elapsed) => Err(NoAnswer::Silent(patience)),
    }
}

/// `url` with `path` behind its own, and `query`.
pub(super) fn at(url: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    let prefix = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{prefix}{path}"));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The certificates of the system, and those of a file.
pub(super) fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let shown = path.display();
        let pem = fs::read(path).with_context(|| format!("{shown} cannot be read"))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate =
                certificate.with_context(|| format!("{shown} is not a PEM file of certificates"))?;
            roots
                .add(certificate)
                .with_context(|| format!("{shown} holds a certificate that cannot be read"))?;
            count += 1;
        }
        anyhow::ensure!(count > 0, "{shown} holds no certificate; it must be a PEM file");
    }
    Ok(roots)
}

/// "connection refused", not "client error (Connect)".
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
