//! A client of a registry that pulls as engines do, and times what it does: tokens, redirects, the head of each answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use url::Url;

use super::token;
use crate::command::http::{Http, MAX_DOCUMENT, NoAnswer, at, read};

/// How long a registry may take for the head of an answer: as long as an edge waits for its upstream, and a little more.
const HEAD: Duration = Duration::from_secs(10);
/// A registry needs one redirect, to its object storage.
const MAX_REDIRECTS: usize = 5;
/// What engines accept.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Pulls from one repository.
#[derive(Debug)]
pub(super) struct Client<'a> {
    http: &'a Http,
    url: &'a Url,
    repository: &'a str,
    authorization: Option<HeaderValue>,
}

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Answered<B> {
    pub(super) response: Response<B>,
    /// From the question to the head.
    pub(super) ms: f64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// Another status than asked for, with what the registry says of it.
    #[error("{status}{}", .said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
    Status { status: StatusCode, said: Option<String> },
    /// A token was wanted, and none was to be had.
    #[error("no token: {0}")]
    Token(String),
    #[error("it redirects without end, or to nowhere")]
    Redirects,
}

impl<'a> Client<'a> {
    pub(super) fn new(http: &'a Http, url: &'a Url, repository: &'a str) -> Self {
        Self { http, url, repository, authorization: None }
    }

    /// A manifest's head, or the manifest.
    pub(super) async fn manifest(
        &mut self,
        method: Method,
        reference: &str,
    ) -> Result<Answered<Bytes>, Refusal> {
        let answered = self.ask(method, &format!("manifests/{reference}")).await?;
        let response = read(answered.response, HEAD).await?;
        Ok(Answered { response, ms: answered.ms })
    }

    /// A blob; its body is to be read.
    pub(super) async fn blob(&mut self, digest: &str) -> Result<Answered<Incoming>, Refusal> {
        self.ask(Method::GET, &format!("blobs/{digest}")).await
    }

    async fn ask(&mut self, method: Method, path: &str) -> Result<Answered<Incoming>, Refusal> {
        let url = at(self.url, &format!("/v2/{}/{path}", self.repository), &[]);
        let began = Instant::now();
        let mut response = self.follow(&method, &url).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.is_none() {
            let challenge =
                response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let token =
                token::anonymous(self.http, challenge, self.repository).await.map_err(Refusal::Token)?;
            self.authorization = Some(token);
            response = self.follow(&method, &url).await?;
        }
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        if response.status().is_success() {
            return Ok(Answered { response, ms });
        }
        Err(refusal(response).await)
    }

    async fn follow(&self, method: &Method, url: &Url) -> Result<Response<Incoming>, Refusal> {
        let mut next = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
            if let Some(authorization) = self.authorization.as_ref().filter(|_| next.origin() == url.origin())
            {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let response = self.http.send(method.clone(), &next, headers, Bytes::new(), HEAD).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location =
                response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            next = location.and_then(|location| next.join(location).ok()).ok_or(Refusal::Redirects)?;
        }
        Err(Refusal::Redirects)
    }
}

async fn refusal(response: Response<Incoming>) -> Refusal {
    let status = response.status();
    let body = read(response, HEAD).await.map(Response::into_body).unwrap_or_default();
    debug_assert!(body.len() <= MAX_DOCUMENT);
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.and_then(|said| Some(said["errors"][0]["message"].as_str()?.to_owned()));
    Refusal::Status { status, said }
}
