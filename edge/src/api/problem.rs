//! What the API says when it cannot do what was asked: problem details (RFC 9457).

use std::borrow::Cow;

use http::{HeaderValue, Response, StatusCode, header};
use oci::http::{Body, json_response};
use serde::Serialize;

/// A problem; the answer of a request that failed.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    allow: Option<&'static str>,
}

/// RFC 9457, section 3.1. `about:blank` says that the status tells all that a program needs (section 4.2.1).
#[derive(Serialize)]
struct Details<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem with the sentence `detail` for the person who asked.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), allow: None }
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The path exists; only `allowed` methods are for it.
    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("only {allowed} can be asked of this path");
        Self { allow: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// A fault of ours, which was logged where it happened.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this node failed; its log says why")
    }

    /// As an answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let details =
            Details { r#type: "about:blank", title, status: self.status.as_u16(), detail: &self.detail };
        let mut response =
            json_response(self.status, serde_json::to_vec(&details).expect("texts and a number serialize"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the metadata failed under a request of the API");
        Self::internal()
    }
}
