//! The answers of an edge: who asks for what, and where it comes from.

mod blob;
mod manifest;
mod proof;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use oci::{
    digest::Digest,
    error::{ApiError, ErrorCode},
    http::{Body, Check, Client, RequestBody, RouteLabel, empty_response, error_response, json_response},
    manifest::media_type,
    route::{Query, Route, decode_path},
};
use tokio_util::task::TaskTracker;

use crate::{
    Openness,
    api::about::About,
    cache_status::{self, CacheStatus},
    download::Downloads,
    images::Images,
    manifests::Manifests,
    metadata::{Metadata, Place},
    metrics::Metrics,
    naming,
    store::{Prober, Scrubber, Store},
    tags::Tags,
    unavailable::Unavailable,
    upstream::{Caller, Upstream, Upstreams},
};

static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Everything that answers are made of.
#[derive(Debug)]
pub(crate) struct Answerer {
    pub(crate) statuses: cache_status::Headers,
    pub(crate) openness: Openness,
    pub(crate) upstreams: Upstreams,
    pub(crate) store: std::sync::Arc<Store>,
    pub(crate) metadata: Metadata,
    pub(crate) manifests: Manifests,
    pub(crate) tags: Tags,
    pub(crate) downloads: Downloads,
    pub(crate) metrics: Metrics,
    pub(crate) patience: Patience,
    pub(crate) images: std::sync::Arc<Images>,
    pub(crate) scrubber: std::sync::Arc<Scrubber>,
    pub(crate) tasks: TaskTracker,
    pub(crate) about: About,
    pub(crate) prober: Prober,
}

/// How long upstreams are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For what is not cached.
    pub(crate) first_byte: Duration,
    /// For what is cached, and for anything while the upstream is silent.
    pub(crate) budget: Duration,
    /// Within a blob.
    pub(crate) stall: Duration,
}

/// A request, understood.
struct Asked<'a> {
    head: bool,
    headers: &'a http::HeaderMap,
    upstream: &'a std::sync::Arc<Upstream>,
    place: Place,
}

/// What can be listed of a repository.
enum Listing {
    Tags,
    Referrers(Digest),
}

impl Listing {
    /// Behind the repository.
    fn path(&self) -> String {
        match self {
            Self::Tags => "tags/list".to_owned(),
            Self::Referrers(digest) => format!("referrers/{digest}"),
        }
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Tags => "application/json",
            Self::Referrers(_) => media_type::IMAGE_INDEX,
        })
    }
}

impl Answerer {
    /// Answers one request.
    pub(crate) async fn answer(&self, request: Request<RequestBody>) -> Response<Body> {
        let query = Query::parse(request.uri().query());
        let namespace = query.get("ns").map(str::to_owned);
        let (label, result) = match self.understand(&request, namespace.as_deref()) {
            Err(error) => ("other", Err(error)),
            Ok((upstream, route)) => (route.label(), self.serve(&request, upstream.as_ref(), route).await),
        };
        let mut response = result.unwrap_or_else(|error| error_response(&error));
        let headers = response.headers_mut();
        headers.insert(API_VERSION.clone(), HeaderValue::from_static("registry/2.0"));
        if let Some(namespace) = namespace.and_then(|name| HeaderValue::try_from(name).ok()) {
            headers.insert(OCI_NAMESPACE.clone(), namespace);
        }
        if let Some(status) = response.extensions().get::<CacheStatus>() {
            self.metrics.answers_of_cache.count(label, *status);
        }
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    fn understand(
        &self,
        request: &Request<RequestBody>,
        namespace: Option<&str>,
    ) -> Result<(Option<std::sync::Arc<Upstream>>, Route), ApiError> {
        let path = decode_path(request.uri().path())?;
        let named = naming::split(&path, namespace)?;
        let route = Route::parse(&named.path)?;
        let upstream = self.upstreams.find(named.registry.as_deref());
        let upstream = match (upstream, named.registry.as_deref()) {
            (None, Some(registry)) => self.upstreams.unlisted(registry, self.caller(request)?),
            (upstream, _) => upstream,
        };
        match (&upstream, named.registry, route.repository()) {
            (None, Some(registry), _) => Err(ErrorCode::Denied
                .error(format!("this mirror does not stand in front of {registry}; its operator can add upstream.{registry:?}.url"))),
            (None, None, Some(_)) => Err(ErrorCode::Denied
                .error("this mirror has no default upstream; name the registry: /v2/<registry>/<repository>/…")),
            _ => Ok((upstream, route)),
        }
    }

    async fn serve(
        &self,
        request: &Request<RequestBody>,
        upstream: Option<&std::sync::Arc<Upstream>>,
        route: Route,
    ) -> Result<Response<Body>, ApiError> {
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => return Err(read_only()),
        };
        let (Some(upstream), Some(repository)) = (upstream, route.repository()) else {
            return match route {
                Route::Version => Ok(json_response(StatusCode::OK, b"{}".to_vec())),
                _ => Err(ErrorCode::Unsupported.error("a mirror has no catalog; ask the registry itself")),
            };
        };
        self.admit(request, upstream)?;
        let place =
            Place { upstream: upstream.name.clone(), repository: upstream.repository(repository.clone()) };
        let asked = Asked { head, headers: request.headers(), upstream, place };
        match route {
            Route::Manifest(_, reference) => self.manifest(asked, reference).await,
            Route::Blob(_, digest) => self.blob(asked, digest).await,
            Route::Tags(_) => self.listing(asked, Listing::Tags, request.uri()).await,
            Route::Referrers(_, digest) => {
                self.listing(asked, Listing::Referrers(digest), request.uri()).await
            }
            Route::Uploads(_) | Route::Upload(..) => Err(read_only()),
            Route::Version | Route::Catalog => {
                Err(ErrorCode::NotFound.error("there is nothing at this path"))
            }
        }
    }

    /// Who asks, as far as that decides what they may have.
    fn caller(&self, request: &Request<RequestBody>) -> Result<Caller, ApiError> {
        match (self.openness, request.extensions().get::<Client>()) {
            (Openness::Everybody, _) => Ok(Caller::Anybody),
            (Openness::Listed, Some(client)) => Ok(Caller::At(client.remote.ip())),
            (Openness::Listed, None) => Err(ErrorCode::Denied.error("this request comes from nowhere")),
        }
    }

    /// Whether this client may pull through `upstream`.
    fn admit(&self, request: &Request<RequestBody>, upstream: &Upstream) -> Result<(), ApiError> {
        let open = match self.caller(request)? {
            Caller::Anybody => true,
            Caller::At(address) => upstream.is_open_to(address),
        };
        if open {
            return Ok(());
        }
        Err(ErrorCode::Denied.error(format!(
            "this mirror serves {} only to the networks in its upstream.{:?}.networks",
            upstream.name, upstream.name
        )))
    }

    /// A listing as the upstream gives it now: not cached, since a stale one could not be told from a fresh one.
    async fn listing(
        &self,
        asked: Asked<'_>,
        listing: Listing,
        uri: &Uri,
    ) -> Result<Response<Body>, ApiError> {
        let path = &listing.path();
        let patience = self.patience.first_byte;
        let query = uri.query().map(without_namespace).filter(|query| !query.is_empty());
        let listed = asked.upstream.listing(&asked.place.repository, path, query.as_deref(), patience).await;
        let (headers, bytes) =
            listed.map_err(|error| Unavailable::from(error).answer(ErrorCode::NameUnknown))?;
        let length = bytes.len();
        let mut response =
            json_response(StatusCode::OK, if asked.head { Vec::new() } else { bytes.to_vec() });
        let next = headers.get(header::LINK).and_then(|link| next_page(link.to_str().ok()?, uri));
        if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        if let Some(filters) = headers.get("oci-filters-applied") {
            response.headers_mut().insert("oci-filters-applied", filters.clone());
        }
        // Ours, whatever the upstream calls it.
        response.headers_mut().insert(header::CONTENT_TYPE, listing.media_type());
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        self.status(&mut response, CacheStatus::Passed);
        Ok(response)
    }

    fn status(&self, response: &mut Response<Body>, status: CacheStatus) {
        response.headers_mut().insert(CACHE_STATUS.clone(), self.statuses.of(status));
        // Counted where the answer goes out, so that no answer is counted twice.
        response.extensions_mut().insert(status);
    }

    /// What `/readyz` shows.
    pub(crate) async fn checks(&self) -> Vec<Check> {
        let metadata =
            self.metadata.check().await.map_err(|error| format!("the metadata cannot be read: {error}"));
        vec![Check { name: "metadata", state: metadata, required: true }]
    }
}

fn read_only() -> ApiError {
    ErrorCode::Unsupported.error("this is a mirror; push to, and delete at, the registry itself")
}

/// The query without `ns`, which is for us.
fn without_namespace(query: &str) -> String {
    query.split('&').filter(|pair| !pair.starts_with("ns=")).collect::<Vec<_>>().join("&")
}

/// The upstream's link to the next page, as one that comes back here: the path that the client used, with the registry in
/// it, and the upstream's query.
fn next_page(link: &str, asked: &Uri) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    let query = without_namespace(query);
    let namespace = asked.query().unwrap_or_default().split('&').find(|pair| pair.starts_with("ns="));
    let namespace = namespace.map(|pair| format!("&{pair}")).unwrap_or_default();
    Some(format!("<{}?{query}{namespace}>{parameters}", asked.path()))
}

/// The most headers that an answer with content has, the front's included, so that their table is made once.
const HEADERS: usize = 12;

/// Headers that content of a digest has, and the short answer where the client has it already.
fn content_headers(response: &mut Response<Body>, digest: &Digest) {
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    // One text for both.
    let mut quoted = String::with_capacity(digest.as_str().len() + 2);
    quoted.extend(["\"", digest.as_str(), "\""]);
    let quoted = Bytes::from(quoted);
    let bare = quoted.slice(1..quoted.len() - 1);
    let value = |text| HeaderValue::from_maybe_shared::<Bytes>(text).expect("a digest is a header's text");
    headers.insert(CONTENT_DIGEST.clone(), value(bare));
    headers.insert(header::ETAG, value(quoted));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn not_modified(headers: &http::HeaderMap, digest: &Digest) -> Option<Response<Body>> {
    let wanted = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let matches = |tag: &str| tag == "*" || tag.trim_start_matches("W/").trim_matches('"') == digest.as_str();
    if !wanted.split(',').map(str::trim).any(matches) {
        return None;
    }
    let mut response = empty_response(StatusCode::NOT_MODIFIED);
    content_headers(&mut response, digest);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_of_a_listing_is_asked_for_here() {
        let next = |link, asked: &str| next_page(link, &asked.parse().expect("a URI"));
        let link = "<https://r.example/v2/library/a/tags/list?n=2&last=b&ns=x>; rel=\"next\"";
        assert_eq!(
            next(link, "/v2/r.example/a/tags/list?n=2").as_deref(),
            Some("</v2/r.example/a/tags/list?n=2&last=b>; rel=\"next\"")
        );
        assert_eq!(
            next("</v2/a/tags/list?last=b>; rel=\"next\"", "/v2/a/tags/list?n=2&ns=r.example").as_deref(),
            Some("</v2/a/tags/list?last=b&ns=r.example>; rel=\"next\"")
        );
        assert_eq!(next("nonsense", "/v2/a/tags/list"), None);
    }
}
