//! The distribution specification's endpoints: from a request to an answer.

mod answer;
mod blobs;
pub(crate) mod gate;
mod manifests;
mod operation;
mod referrers;
pub(crate) mod refusal;
mod tags;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod token;
mod uploads;

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use oci::{
    error::{ApiError, ErrorCode},
    http::{Body, RequestBody, RouteLabel, error_response, json_response},
    route::{Query, Route, decode_path},
};

use gate::{Gate, Pass};
use operation::Operation;

use crate::{
    database::Database, intake::Intake, jobs::Jobs, metrics::Metrics, settings::RegistrySettings,
    storage::Storage,
};

static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
static DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What all endpoints share.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) database: Database,
    pub(crate) storage: Storage,
    pub(crate) intake: Intake,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) metrics: Metrics,
    pub(crate) settings: RegistrySettings,
    pub(crate) gate: Gate,
    pub(crate) node_name: String,
}

/// A request that was let in, read as far as all endpoints need it.
struct Call {
    pass: Pass,
    query: Query,
    headers: HeaderMap,
    body: RequestBody,
}

impl Call {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether `If-None-Match` names `etag` (RFC 9110, section 13.1.2).
    fn has_already(&self, etag: &str) -> bool {
        self.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(
            |value| {
                let names =
                    |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == etag;
                value.split(',').map(str::trim).any(names)
            },
        )
    }
}

type Answer = Result<Response<Body>, ApiError>;

impl Registry {
    /// Answers any request.
    pub(crate) async fn answer(&self, request: Request<RequestBody>) -> Response<Body> {
        let route = decode_path(request.uri().path()).and_then(|path| Route::parse(&path));
        let label = route.as_ref().map_or("other", Route::label);
        let (parts, body) = request.into_parts();
        let head = parts.method == Method::HEAD;
        let answer = match route {
            Ok(route) => self.operate(&route, parts, body).await,
            Err(error) => Err(error),
        };
        let mut response = answer.unwrap_or_else(|error| error_response(&error));
        if head {
            strip_body(&mut response);
        }
        response.headers_mut().insert(&API_VERSION, HeaderValue::from_static("registry/2.0"));
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    /// Lets the caller in, or not, and then does what was asked.
    async fn operate(&self, route: &Route, parts: Parts, body: RequestBody) -> Answer {
        let operation = Operation::of(&parts.method, route).ok_or_else(|| not_offered(route))?;
        let pass = self.gate.admit(&parts, operation.need()).await?;
        if operation.deletes() && !self.settings.delete {
            return Err(ErrorCode::Unsupported.error("deleting is switched off at this registry"));
        }
        let call = Call { pass, query: Query::parse(parts.uri.query()), headers: parts.headers, body };
        self.dispatch(operation, call).await
    }

    async fn dispatch(&self, operation: Operation<'_>, call: Call) -> Answer {
        match operation {
            Operation::Version => Ok(json_response(StatusCode::OK, b"{}".to_vec())),
            Operation::Catalog => self.catalog(&call).await,
            Operation::Tags(repository) => self.tags(repository, &call).await,
            Operation::Referrers(repository, subject) => self.referrers(repository, subject, &call).await,
            Operation::GetManifest(repository, reference) => {
                self.get_manifest(repository, reference, &call).await
            }
            Operation::HeadManifest(repository, reference) => {
                self.head_manifest(repository, reference, &call).await
            }
            Operation::PutManifest(repository, reference) => {
                self.put_manifest(repository, reference, call).await
            }
            Operation::DeleteManifest(repository, reference) => {
                self.delete_manifest(repository, reference).await
            }
            Operation::GetBlob(repository, digest) => self.get_blob(repository, digest, &call).await,
            Operation::HeadBlob(repository, digest) => self.head_blob(repository, digest, &call).await,
            Operation::DeleteBlob(repository, digest) => self.delete_blob(repository, digest).await,
            Operation::PostUpload(repository) => self.post_upload(repository, call).await,
            Operation::GetUpload(repository, id) => self.get_upload(repository, id).await,
            Operation::PatchUpload(repository, id) => self.patch_upload(repository, id, call).await,
            Operation::PutUpload(repository, id) => self.put_upload(repository, id, call).await,
            Operation::DeleteUpload(repository, id) => self.delete_upload(repository, id).await,
        }
    }
}

/// RFC 9110, section 15.5.6: an answer 405 says what is offered instead.
fn not_offered(route: &Route) -> ApiError {
    let offered = match route {
        Route::Version | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, PATCH, PUT, DELETE",
    };
    ErrorCode::Unsupported
        .error("this method is not offered here")
        .header(header::ALLOW, HeaderValue::from_static(offered))
}

/// Keeps `Content-Length` of what a GET would have carried.
fn strip_body(response: &mut Response<Body>) {
    use hyper::body::Body as _;
    if !response.headers().contains_key(header::CONTENT_LENGTH)
        && let Some(length) = response.body().size_hint().exact()
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
}
