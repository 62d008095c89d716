//! The administration API: JSON under `/api/v1`, described by its own OpenAPI document.
//!
//! Each request is let in by [`access`], where `gossip::access` decides; each group of paths is a module. A change counts at
//! once at this node, and at the others when what they have read is too old.

mod access;
mod document;
mod grammar;
mod members;
mod node;
mod openapi;
mod problem;
mod projects;
mod robots;
#[cfg(test)]
mod tests;
mod users;

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use oci::{
    http::{Body, RequestBody},
    route::{Query, decode_path},
};

use crate::routes::Registry;
use access::Admin;
use problem::Problem;

/// Every path of the API begins like this.
const PREFIX: &str = "/api/v1/";

type Answer = Result<Response<Body>, Problem>;

/// Whether a request to `path` is for this API.
pub(crate) fn serves(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// Answers one request.
pub(crate) async fn answer(registry: &Registry, request: Request<RequestBody>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let answered = dispatch(registry, parts, body).await;
    let mut response = answered.unwrap_or_else(|problem| problem.response());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A request that was let in, its path read.
struct Call<'a> {
    admin: Admin<'a>,
    method: Method,
    query: Query,
    parts: Parts,
    body: RequestBody,
}

async fn dispatch(registry: &Registry, parts: Parts, body: RequestBody) -> Answer {
    let path = decode_path(parts.uri.path())
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.message().to_owned()))?
        .into_owned();
    let elements: Vec<&str> = path.strip_prefix(PREFIX).unwrap_or_default().split('/').collect();
    if elements == ["openapi.json"] {
        return match parts.method {
            Method::GET => Ok(openapi::answer()),
            _ => Err(Problem::method_not_allowed("GET")),
        };
    }
    let admin = Admin::admit(registry, &parts).await?;
    let (method, query) = (parts.method.clone(), Query::parse(parts.uri.query()));
    let call = Call { admin, method, query, parts, body };
    match elements[..] {
        ["node"] => node::answer(&call),
        ["projects"] => projects::all(call).await,
        ["projects", name] => projects::one(call, name).await,
        ["users"] => users::all(call).await,
        ["users", name] => users::one(call, name).await,
        ["members"] => members::all(call).await,
        ["members", project, name] => members::one(call, project, name).await,
        ["robots"] => robots::all(call).await,
        ["robots", name] => robots::one(call, name).await,
        ["robots", name, "rotate"] => robots::rotate(call, name).await,
        _ => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))),
    }
}
