//! What the API says when it does not do what was asked: problem details (RFC 9457).

use std::borrow::Cow;

use gossip::access::InvalidAccountName;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use oci::{
    error::ApiError,
    http::{Body, json_response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    database::{
        Error,
        accounts::{Changed, Refusal},
    },
    identity::passwords::PasswordError,
};

/// An answer of a request that failed: a sentence for the person who asked.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// RFC 9457, section 3.1. `about:blank` says that the status tells all that a program needs (section 4.2.1).
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Problem")]
pub(super) struct Details<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    /// A sentence for the person who asked.
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// The path exists; only `allowed` methods are for it.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} can be asked of this path"))
            .header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// What was sent cannot be meant.
    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn response(&self) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let details =
            Details { r#type: "about:blank", title, status: self.status.as_u16(), detail: &self.detail };
        let mut response =
            json_response(self.status, serde_json::to_vec(&details).expect("texts and a number serialize"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        response
    }
}

/// What the registry's own errors say, in the API's form.
impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        let headers = error.headers().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { status: error.status_code(), detail: error.message().to_owned().into(), headers }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        ApiError::from(&error).into()
    }
}

impl From<InvalidAccountName> for Problem {
    fn from(error: InvalidAccountName) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        let status = match &error {
            PasswordError::Unfit => StatusCode::BAD_REQUEST,
            PasswordError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            PasswordError::Hash(_) => {
                tracing::error!(%error, "a password could not be hashed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

/// The outcome of a change to `what`, as people call it: `user ann`.
pub(super) fn made<T>(changed: Changed<T>, what: &str) -> Result<T, Problem> {
    match changed {
        Changed::Done(done) => Ok(done),
        Changed::Missing => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no {what}"))),
        Changed::Differs => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            format!("{what} was changed by somebody else; look at it again"),
        )),
        Changed::Refused(refusal) => Err(refused(refusal, what)),
    }
}

fn refused(refusal: Refusal, what: &str) -> Problem {
    let (status, detail) = match refusal {
        Refusal::Exists => (StatusCode::CONFLICT, format!("{what} exists already")),
        Refusal::LastOwner { project } => (
            StatusCode::CONFLICT,
            format!("{what} is the last owner of project {project}; make somebody else owner first"),
        ),
        Refusal::LastAdmin => (
            StatusCode::CONFLICT,
            format!("{what} is the last admin who can log in; make somebody else admin first"),
        ),
        Refusal::Images { repositories } => (
            StatusCode::CONFLICT,
            format!(
                "there are images in {what}, in {repositories} repositories; remove them, or say --with-images"
            ),
        ),
        Refusal::NoProject => (StatusCode::NOT_FOUND, format!("there is no such project for {what}")),
        Refusal::NoAccount => {
            (StatusCode::NOT_FOUND, format!("there is no user or robot called like {what}"))
        }
    };
    Problem::new(status, detail)
}
