//! The API of a node as the commands call it. What goes wrong is a sentence that says what to do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::{
    http::{Http, NoAnswer, at, read},
    session::Session,
};
use crate::cli::Access;

/// How long a node may take for an answer: a list of very many images takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API of one node.
#[derive(Debug)]
pub(super) struct Api {
    http: Http,
    session: Session,
}

/// Why a call did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{url} cannot be reached: {why}. That address is {source_of_url}; {}", .why.advice())]
    Unreachable { url: String, why: NoAnswer, source_of_url: &'static str },
    /// The node said why, in a sentence.
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("{url} has no such API (it answered {status}): is it an edge of Roadstead, and of this version?")]
    NoApi { url: String, status: StatusCode },
    #[error("{url} answered what cannot be understood: {why}")]
    Unreadable { url: String, why: String },
}

/// Problem details (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Api {
    /// The node that the flags mean.
    pub(super) fn open(access: &Access) -> anyhow::Result<Self> {
        Ok(Self { http: Http::new(access.ca.as_deref())?, session: Session::open(access.url.as_ref())? })
    }

    /// Another session's node.
    pub(super) fn new(http: Http, session: Session) -> Self {
        Self { http, session }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Url {
        &self.session.url
    }

    /// A document.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, CallError> {
        let bytes = self.call(Method::GET, path, query, None).await?;
        self.understood(path, &bytes)
    }

    /// Sends a document, or none, and gives what is answered.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        document: Option<&Value>,
    ) -> Result<T, CallError> {
        let bytes = self.call(Method::POST, path, query, document).await?;
        self.understood(path, &bytes)
    }

    /// Removes.
    pub(super) async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<(), CallError> {
        self.call(Method::DELETE, path, query, None).await.map(drop)
    }

    /// A document that is told with whatever status.
    pub(super) async fn get_whatever<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let answer = self.ask(Method::GET, path, &[], None).await?;
        self.understood(path, answer.body())
    }

    fn understood<T: DeserializeOwned>(&self, path: &str, bytes: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(bytes).map_err(|error| CallError::Unreadable {
            url: at(self.url(), path, &[]).into(),
            why: error.to_string(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        document: Option<&Value>,
    ) -> Result<Bytes, CallError> {
        let answer = self.ask(method, path, query, document).await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        Err(refused(at(self.url(), path, query).into(), &answer))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        document: Option<&Value>,
    ) -> Result<Response<Bytes>, CallError> {
        let url = at(self.url(), path, query);
        let mut headers = HeaderMap::new();
        if let Some(credentials) = &self.session.credentials {
            headers.insert(header::AUTHORIZATION, credentials.authorization());
        }
        if document.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = document.map_or_else(Bytes::new, |document| document.to_string().into());
        let answered = async {
            let response = self.http.send(method, &url, headers, body, PATIENCE).await?;
            read(response, PATIENCE).await
        };
        answered.await.map_err(|why| CallError::Unreachable {
            url: self.url().to_string(),
            why,
            source_of_url: self.session.source,
        })
    }
}

fn refused(url: String, answer: &Response<Bytes>) -> CallError {
    let status = answer.status();
    if let Ok(Problem { detail }) = serde_json::from_slice(answer.body()) {
        return CallError::Refused { status, detail };
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            let detail = format!("{url} refused user and password; log in anew with `roadstead login`");
            CallError::Refused { status, detail }
        }
        status => CallError::NoApi { url, status },
    }
}
