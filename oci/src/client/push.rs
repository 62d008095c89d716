//! Manifests and blobs into a registry.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use url::Url;

use super::{
    Client, Failure, FetchError,
    send::{Scope, SendBody, empty},
};
use crate::{
    digest::Digest,
    name::{Reference, RepositoryName},
};

/// The bytes of a blob on their way into a registry.
pub type UploadBody = Box<dyn http_body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin>;

/// Why a push failed; nothing became visible.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No answer, or none that a registry gives.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The registry refused it, and said why.
    #[error("the registry refused the push ({status}): {message}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The body of its answer.
        message: String,
    },
}

impl Client {
    /// Whether the repository has the blob already.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn has_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, FetchError> {
        match self.head_blob(repository, digest).await {
            Ok(_) => Ok(true),
            Err(FetchError::SaidNo) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pushes a blob of `length` bytes: begins an upload and sends all in one PUT.
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        length: u64,
        body: UploadBody,
    ) -> Result<(), PushError> {
        let start = self.0.url(&format!("{repository}/blobs/uploads/"));
        let began = self.write(Method::POST, &start, repository, HeaderMap::new(), empty()).await?;
        let began = expect(began, StatusCode::ACCEPTED).await?;
        let location = began.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| start.join(location).ok());
        let mut url =
            location.ok_or(FetchError::Failed(Failure::Unreadable("the upload has no location")))?;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let body = body.map_err(Into::into).boxed_unsync();
        let put = self.write(Method::PUT, &url, repository, headers, body).await?;
        expect(put, StatusCode::CREATED).await.map(drop)
    }

    /// Pushes a manifest, byte for byte.
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), PushError> {
        let url = self.0.url(&format!("{repository}/manifests/{reference}"));
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_str(media_type);
        let content_type =
            content_type.map_err(|_why| FetchError::Failed(Failure::Unreadable("not a media type")))?;
        headers.insert(header::CONTENT_TYPE, content_type);
        let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        let put = self.write(Method::PUT, &url, repository, headers, body).await?;
        expect(put, StatusCode::CREATED).await.map(drop)
    }

    /// Sends a request with a body. The token is asked for before, since a body cannot be sent twice.
    async fn write(
        &self,
        method: Method,
        url: &Url,
        repository: &RepositoryName,
        mut headers: HeaderMap,
        body: SendBody,
    ) -> Result<Response<Incoming>, FetchError> {
        let scope = Scope { repository: repository.to_string(), push: true };
        let mut authorization = self.0.tokens.remembered(&scope);
        let timeout = self.0.config.answer_timeout;
        if authorization.is_none() {
            let probe = self.0.once(Method::GET, &self.0.url(""), HeaderMap::new(), empty(), timeout).await?;
            if probe.status() == StatusCode::UNAUTHORIZED {
                authorization = self.0.authorize(&probe, &scope, None).await?;
            }
        }
        if let Some(authorization) = authorization
            && url.origin() == self.0.config.url.origin()
        {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        // The answer comes when the body is through, however long that takes: progress is the body's affair.
        self.0.once(method, url, headers, body, PUSH_TIMEOUT).await
    }
}

/// The longest a single push request may take.
const PUSH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// How much of a refusal is shown, in bytes.
const MESSAGE_LIMIT: usize = 64 * 1024;

async fn expect(response: Response<Incoming>, wanted: StatusCode) -> Result<Response<Incoming>, PushError> {
    let status = response.status();
    if status == wanted {
        return Ok(response);
    }
    let body = Limited::new(response.into_body(), MESSAGE_LIMIT).collect().await;
    let message =
        body.map_or_else(|_| String::new(), |body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    Err(PushError::Refused { status, message })
}
