//! Manifests and blobs out of a registry.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    Client, Failure, FetchError, Silence,
    rate::retry_after,
    send::{Call, Scope},
};
use crate::{
    digest::{Algorithm, Digest},
    manifest::media_type,
    name::{Reference, RepositoryName},
    range::ContentRange,
};

/// The longest error document or listing that is read, in bytes.
const DOCUMENT_LIMIT: usize = 4 << 20;

/// What a HEAD of a manifest tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The manifest's digest.
    pub digest: Digest,
}

/// A manifest, exact bytes, checked against its digest.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// `Content-Type` as the registry gave it.
    pub media_type: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}

/// A blob whose bytes are still to come.
#[derive(Debug)]
pub struct BlobAnswer {
    /// The offset of the first byte that will come: what was asked for, or 0 where the registry ignores ranges.
    pub offset: u64,
    /// Behind the last byte that will come, where only a part comes.
    pub end: Option<u64>,
    /// The length of the whole blob in bytes, where the registry told it.
    pub length: Option<u64>,
    /// The bytes, in pieces of at most [`LARGEST_PIECE`](super::LARGEST_PIECE). They are not verified, and there is no deadline on them.
    pub body: Incoming,
}

impl Client {
    /// Asks which manifest `reference` is now. `None` where the registry knows it but does not tell the digest in its
    /// answer to a HEAD.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Option<ManifestHead>, FetchError> {
        let path = format!("{repository}/manifests/{reference}");
        let response = self.call(Method::HEAD, &path, repository, accept(), timeout).await?;
        match response.status() {
            StatusCode::OK => {
                let digest = response
                    .headers()
                    .get("docker-content-digest")
                    .and_then(|v| v.to_str().ok()?.parse().ok());
                Ok(digest.map(|digest| ManifestHead { digest }))
            }
            // A HEAD has no document, so what kind of "not here" it is shows in the answer to a GET only.
            StatusCode::NOT_FOUND => {
                let response = self.call(Method::GET, &path, repository, accept(), timeout).await?;
                match response.status() {
                    StatusCode::OK => Ok(None),
                    _ => Err(not_ok(response, timeout).await),
                }
            }
            _ => Err(not_ok(response, timeout).await),
        }
    }

    /// Fetches a manifest. One asked for by digest has that digest.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<FetchedManifest, FetchError> {
        let path = format!("{repository}/manifests/{reference}");
        let response = self.call(Method::GET, &path, repository, accept(), timeout).await?;
        if response.status() != StatusCode::OK {
            return Err(not_ok(response, timeout).await);
        }
        let text = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let media_type = text("content-type");
        if is_page(response.headers()) {
            return Err(page());
        }
        let told: Option<Digest> = text("docker-content-digest").and_then(|d| d.parse().ok());
        let bytes = self.read(response, self.0.config.manifest_limit).await?;
        let wanted = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => told,
        };
        let algorithm = wanted.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = Digest::of(algorithm, &bytes);
        match wanted {
            Some(wanted) if wanted != digest => Err(Failure::WrongDigest { wanted, got: digest }.into()),
            _ => Ok(FetchedManifest { digest, media_type, bytes }),
        }
    }

    /// Asks for a blob's length.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn head_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, FetchError> {
        let path = format!("{repository}/blobs/{digest}");
        let timeout = self.0.config.answer_timeout;
        let response = self.call(Method::HEAD, &path, repository, as_it_is(), timeout).await?;
        match response.status() {
            StatusCode::OK if is_encoded(response.headers()) => Err(other_encoding()),
            StatusCode::OK if is_page(response.headers()) => Err(page()),
            StatusCode::OK => Ok(content_length(response.headers())),
            StatusCode::NOT_FOUND => self.blob(repository, digest, 0, None).await.map(|answer| answer.length),
            _ => Err(not_ok(response, timeout).await),
        }
    }

    /// Begins to fetch a blob from `offset` on, to `end` if one is given. The registry may send more, or less, of it.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        offset: u64,
        end: Option<u64>,
    ) -> Result<BlobAnswer, FetchError> {
        let mut headers = as_it_is();
        if offset > 0 || end.is_some() {
            let last = end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
            let range = HeaderValue::try_from(format!("bytes={offset}-{last}"));
            headers.insert(header::RANGE, range.expect("digits are a header's text"));
        }
        let timeout = self.0.config.answer_timeout;
        let path = format!("{repository}/blobs/{digest}");
        let response = self.call(Method::GET, &path, repository, headers, timeout).await?;
        match response.status() {
            _ if is_encoded(response.headers()) => Err(other_encoding()),
            StatusCode::OK if is_page(response.headers()) => Err(page()),
            StatusCode::OK => {
                let length = content_length(response.headers());
                Ok(BlobAnswer { offset: 0, end: None, length, body: response.into_body() })
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
                let range = range.and_then(ContentRange::parse).filter(|range| range.range.start == offset);
                let range =
                    range.ok_or(Failure::Unreadable("another part of the blob came than was asked for"))?;
                Ok(BlobAnswer {
                    offset,
                    end: Some(range.range.end),
                    length: range.length,
                    body: response.into_body(),
                })
            }
            _ => Err(not_ok(response, timeout).await),
        }
    }

    /// Fetches a JSON listing (`tags/list`, `referrers/<digest>`) as it is; `path` begins behind the repository.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn listing(
        &self,
        repository: &RepositoryName,
        path: &str,
        query: Option<&str>,
        timeout: Duration,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        let mut url = self.0.url(&format!("{repository}/{path}"));
        url.set_query(query);
        let scope = Scope { repository: repository.to_string(), push: false };
        let call = Call {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            scope: &scope,
            answer_timeout: timeout,
        };
        let response = self.0.send(call).await?;
        if response.status() != StatusCode::OK {
            return Err(not_ok(response, timeout).await);
        }
        let headers = response.headers().clone();
        let bytes = self.read(response, DOCUMENT_LIMIT).await?;
        match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
            Ok(_) => Ok((headers, bytes)),
            Err(_) => Err(Failure::Unreadable("the listing is not JSON").into()),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        repository: &RepositoryName,
        headers: HeaderMap,
        answer_timeout: Duration,
    ) -> Result<Response<Incoming>, FetchError> {
        let scope = Scope { repository: repository.to_string(), push: false };
        let url = self.0.url(path);
        self.0.send(Call { method, url, headers, scope: &scope, answer_timeout }).await
    }

    /// Reads a small body whole; each frame has the answer's deadline.
    async fn read(&self, response: Response<Incoming>, limit: usize) -> Result<Bytes, FetchError> {
        if content_length(response.headers()).is_some_and(|length| length > limit as u64) {
            return Err(Failure::TooLarge(limit).into());
        }
        let timeout = self.0.config.answer_timeout;
        match tokio::time::timeout(timeout, Limited::new(response.into_body(), limit).collect()).await {
            // A copy: a slice of what was read would keep the whole of the connection's buffer for as long as a few hundred
            // bytes are remembered.
            Ok(Ok(body)) => Ok(Bytes::copy_from_slice(&body.to_bytes())),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Failure::TooLarge(limit).into())
            }
            Ok(Err(error)) => Err(Silence::Unreachable(error.to_string()).into()),
            Err(_elapsed) => Err(Silence::NoAnswer(timeout).into()),
        }
    }
}

fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
    headers
}

/// Asks for the bytes as they are: a layer that was compressed on its way would have another digest, and another length.
fn as_it_is() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity")
}

fn other_encoding() -> FetchError {
    Failure::Unreadable("the blob came in another encoding").into()
}

pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|media_type| media_type.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/html"))
}

fn page() -> FetchError {
    Failure::Unreadable("a web page came in place of what was asked for").into()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[derive(Deserialize)]
struct ErrorDocument {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
}

/// What an answer other than the wanted one means. A 404 counts only with a registry's error document: a proxy, a login
/// page or a wrong path say 404 as well.
async fn not_ok(response: Response<Incoming>, timeout: Duration) -> FetchError {
    let status = response.status();
    match status {
        StatusCode::NOT_FOUND => {
            let body = Limited::new(response.into_body(), DOCUMENT_LIMIT).collect();
            let Ok(Ok(body)) = tokio::time::timeout(timeout, body).await else {
                return Failure::Status(status).into();
            };
            let said_no = serde_json::from_slice::<ErrorDocument>(&body.to_bytes()).is_ok_and(|document| {
                document.errors.iter().any(|error| UNKNOWN_CODES.contains(&error.code.as_str()))
            });
            if said_no { FetchError::SaidNo } else { Failure::Status(status).into() }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Refused(status).into(),
        StatusCode::TOO_MANY_REQUESTS => {
            let retry_after = retry_after(response.headers(), SystemTime::now());
            Failure::RateLimited { retry_after }.into()
        }
        _ => Failure::Status(status).into(),
    }
}

/// The codes by which registries say that they do not have it.
const UNKNOWN_CODES: [&str; 5] =
    ["MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "MANIFEST_BLOB_UNKNOWN"];
