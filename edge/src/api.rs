//! The operator API of an edge: JSON under `/api/v1`, answered before anything of `/v2`.
//!
//! Who may call it is decided in [`caller`], what it says when it refuses in [`problem`]; each group of paths is a module.

pub(crate) mod about;
mod alarms;
mod cache;
mod caller;
mod names;
mod problem;
mod status;
mod store;
mod upstreams;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use oci::http::{Body, RequestBody, RouteLabel, json_response};
use serde::{Serialize, de::DeserializeOwned};

use crate::answer::Answerer;
use problem::Problem;

/// Every path of the API begins like this.
const PREFIX: &str = "/api/v1/";

/// The longest document that a request may carry, in bytes: an image's name, and some room.
const MAX_DOCUMENT: usize = 64 * 1024;

/// Whether a request to `path` is for this API.
pub(crate) fn serves(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers one request of the API.
pub(crate) async fn answer(answerer: &Answerer, request: Request<RequestBody>) -> Response<Body> {
    let answered = match caller::admit(&request) {
        Ok(()) => route(answerer, request).await,
        Err(problem) => Err(problem),
    };
    let mut response = answered.unwrap_or_else(|problem| problem.response());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(RouteLabel("api"));
    response
}

/// One arm for each path; its module answers.
async fn route(answerer: &Answerer, request: Request<RequestBody>) -> Result<Response<Body>, Problem> {
    let path = request.uri().path().to_owned();
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    let (group, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match group {
        "node" => match *request.method() {
            Method::GET => json(StatusCode::OK, &node(answerer).await),
            _ => Err(Problem::method_not_allowed("GET")),
        },
        "status" if rest.is_empty() => match *request.method() {
            Method::GET => json(StatusCode::OK, &status::status(answerer).await),
            _ => Err(Problem::method_not_allowed("GET")),
        },
        "cache" => cache::answer(answerer, rest, request).await,
        "upstreams" => upstreams::answer(answerer, rest, &request).await,
        "store" => store::answer(answerer, rest, &request).await,
        _ => Err(Problem::not_found(format!("there is nothing at {path}"))),
    }
}

/// What answers here.
#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    role: &'static str,
    version: &'static str,
    ready: bool,
    /// How callers are told apart: `none`, by their address alone; user and password are not looked at.
    authentication: &'static str,
}

async fn node(answerer: &Answerer) -> Node<'_> {
    let ready = answerer.checks().await.iter().all(|check| check.state.is_ok() || !check.required);
    let name = &answerer.about.name;
    Node { name, role: "edge", version: env!("CARGO_PKG_VERSION"), ready, authentication: "none" }
}

/// An answer of one JSON document.
fn json(status: StatusCode, document: &impl Serialize) -> Result<Response<Body>, Problem> {
    let bytes = serde_json::to_vec(document).map_err(|error| {
        tracing::error!(%error, "a document of the API cannot be written");
        Problem::internal()
    })?;
    Ok(json_response(status, bytes))
}

/// The document that a request carries. It must be sent as JSON: that is what no page in a browser can do across origins
/// without being asked for leave first, which nobody here gives.
async fn document<T: DeserializeOwned>(request: Request<RequestBody>) -> Result<T, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_none_or(|kind| kind.split(';').next().map(str::trim) != Some("application/json")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send a JSON document, with Content-Type: application/json",
        ));
    }
    let body = request.into_body().collect(MAX_DOCUMENT).await;
    let body = body.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the document cannot be read: {error}"))
    })
}
