//! What every node does for every request, and answers beside `/v2/`: `/livez`, `/readyz`, `/metrics`.
//!
//! Each request gets an id, one count by route and status, and one line in the log.

use std::{
    collections::HashMap,
    fmt,
    io::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde::Serialize;

use super::{
    Body, RequestBody, body::Observed, connection::Busy, door::Door, empty_response, error_response,
    json_response, session::Client, tls::Tls,
};
use crate::error::{ApiError, ErrorCode};

/// What answers the requests of one role.
pub trait Service: Send + Sync + 'static {
    /// Answers; never fails, errors are answers too. Dropped when the client goes away.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send;

    /// What `/readyz` shows, each found out now.
    fn checks(&self) -> impl Future<Output = Vec<Check>> + Send;
}

impl<S: Service> Service for Arc<S> {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        S::call(self, request).await
    }

    async fn checks(&self) -> Vec<Check> {
        S::checks(self).await
    }
}

/// One line of `/readyz`.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at: `database`, `storage`.
    pub name: &'static str,
    /// `Err` holds a sentence that says what is wrong.
    pub state: Result<(), String>,
    /// Whether the node cannot serve while it fails.
    pub required: bool,
}

/// What a connection knows of a request that came on it.
pub(super) struct Call {
    pub(super) client: Client,
    pub(super) idle: Duration,
    pub(super) door: Door,
    pub(super) busy: Busy,
}

/// Put into an answer's extensions by the service: the route's name for metrics and logs.
#[derive(Clone, Copy, Debug)]
pub struct RouteLabel(pub &'static str);

/// The request's id, an extension of every request; the same as in `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct RequestId(pub HeaderValue);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or("-"))
    }
}

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

/// Counts of requests.
#[derive(Clone, Debug, Default)]
pub struct FrontMetrics {
    requests: Family<RequestLabels, Counter>,
    running: Gauge,
}

impl FrontMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "roadstead_http_requests",
            "Requests answered, by route and status",
            metrics.requests.clone(),
        );
        registry.register(
            "roadstead_http_requests_running",
            "Requests being answered now, bodies included",
            metrics.running.clone(),
        );
        metrics
    }
}

/// The front of a node: wraps the service of its role.
pub struct Front<S> {
    service: S,
    registry: Registry,
    metrics: FrontMetrics,
    draining: AtomicBool,
    tls: Option<Arc<Tls>>,
    ids: RequestIds,
    since: Mutex<HashMap<&'static str, (bool, SystemTime)>>,
    served: Mutex<HashMap<RequestLabels, Counter>>,
}

impl<S> fmt::Debug for Front<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Front")
    }
}

impl<S: Service> Front<S> {
    /// A front before `service`; `registry` holds all metrics of the node.
    pub fn new(service: S, registry: Registry, metrics: FrontMetrics) -> Self {
        Self {
            service,
            registry,
            metrics,
            draining: AtomicBool::new(false),
            tls: None,
            ids: RequestIds::new(),
            since: Mutex::default(),
            served: Mutex::default(),
        }
    }

    /// Lets `/readyz` tell of the certificate that clients are shown.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// From now on `/readyz` says that this node is going away.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        call: Call,
    ) -> Result<Response<Observed<impl FnOnce(bool) + Unpin>>, std::convert::Infallible> {
        let began = Instant::now();
        let Call { client, idle, door, busy } = call;
        let (mut parts, incoming) = request.into_parts();
        let id = self.ids.of(&parts.headers);
        let refused = name_host(&mut parts).err();
        parts.extensions.insert(client);
        parts.extensions.insert(id.clone());
        let (method, uri, version) = (parts.method.clone(), parts.uri.clone(), parts.version);
        let running = Running::begin(&self.metrics.running);
        let mut response = match refused {
            Some(error) => error_response(&error),
            None => self.route(Request::from_parts(parts, RequestBody::new(incoming, idle)), door).await,
        };
        response.headers_mut().insert(X_REQUEST_ID.clone(), id.0.clone());
        let route = response.extensions().get::<RouteLabel>().map_or("other", |label| label.0);
        let status = response.status();
        self.count(route, status);
        Ok(response.map(|body| {
            Observed::new(body, move |whole| {
                drop((busy, running));
                log(&Line { method, path: uri.path(), version, status, id: &id, client, began, whole });
            })
        }))
    }

    async fn route(&self, request: Request<RequestBody>, door: Door) -> Response<Body> {
        if !door.leads_to(request.uri().path()) {
            return error_response(&ErrorCode::NotFound.error("there is nothing at this path of this port"));
        }
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let (label, response) = match request.uri().path() {
            "/livez" if reading => ("livez", text("text/plain", "ok\n".to_owned())),
            "/readyz" if reading => ("readyz", self.readiness().await),
            "/metrics" if reading => ("metrics", self.exposition()),
            _ => return self.service.call(request).await,
        };
        let mut response = response;
        response.extensions_mut().insert(RouteLabel(label));
        response
    }

    fn exposition(&self) -> Response<Body> {
        let mut page = String::new();
        match prometheus_client::encoding::text::encode(&mut page, &self.registry) {
            Ok(()) => text("application/openmetrics-text; version=1.0.0; charset=utf-8", page),
            Err(fmt::Error) => empty_response(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    async fn readiness(&self) -> Response<Body> {
        let mut checks = self.service.checks().await;
        checks.extend(self.tls.as_ref().map(|tls| tls.check()));
        let draining = self.draining.load(Ordering::Relaxed);
        checks.push(Check {
            name: "accepting",
            state: if draining { Err("the node is draining".to_owned()) } else { Ok(()) },
            required: true,
        });
        let ready = checks.iter().all(|check| check.state.is_ok() || !check.required);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let page = Readiness { ready, checks: checks.iter().map(|check| self.line(check)).collect() };
        json_response(status, serde_json::to_vec_pretty(&page).unwrap_or_default())
    }

    fn line<'a>(&self, check: &'a Check) -> CheckLine<'a> {
        let ok = check.state.is_ok();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = since.entry(check.name).or_insert_with(|| (ok, SystemTime::now()));
        if entry.0 != ok {
            *entry = (ok, SystemTime::now());
        }
        CheckLine {
            name: check.name,
            state: if ok { "ok" } else { "failed" },
            required: check.required,
            since: rfc3339(entry.1),
            message: check.state.as_ref().err().map(String::as_str),
        }
    }

    fn count(&self, route: &'static str, status: StatusCode) {
        let labels = RequestLabels { route, status: status.as_u16() };
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served
            .entry(labels)
            .or_insert_with_key(|labels| self.metrics.requests.get_or_create(labels).clone())
            .inc();
    }
}

/// Counts a request as running until it is dropped, which also happens when the client leaves before the answer.
struct Running(Gauge);

impl Running {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    checks: Vec<CheckLine<'a>>,
}

#[derive(Serialize)]
struct CheckLine<'a> {
    name: &'a str,
    state: &'static str,
    required: bool,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// A time as logs and documents show it.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "-".to_owned(), |time| format!("{time:.3}"))
}

fn text(content_type: &'static str, page: String) -> Response<Body> {
    let mut response = Response::new(Body::full(page));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes every request say its host in the Host header, once, whatever it is spoken in. Refuses what hyper lets through, and
/// RFC 9112 (section 3.2) and RFC 9113 (section 8.3.1) do not.
fn name_host(parts: &mut http::request::Parts) -> Result<(), ApiError> {
    let bad = |message: &'static str| Err(ErrorCode::BadRequest.error(message));
    let authority = parts.uri.authority().filter(|_| parts.version == Version::HTTP_2);
    if let Some(authority) = authority {
        let named = HeaderValue::from_str(authority.as_str());
        let Ok(named) = named else { return bad("the request's authority is not a host") };
        if parts.headers.get_all(header::HOST).iter().any(|host| host != named) {
            return bad("the Host header and the request's authority differ");
        }
        parts.headers.insert(header::HOST, named);
    }
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if matches!(parts.version, Version::HTTP_11 | Version::HTTP_2) && hosts != 1 {
        return bad("the request must have exactly one Host header");
    }
    if has_no_host(&parts.headers) {
        return bad("the Host header is not a host");
    }
    Ok(())
}

fn has_no_host(headers: &HeaderMap) -> bool {
    headers.get(header::HOST).is_some_and(|host| host.to_str().is_err() || host.as_bytes().contains(&b'@'))
}

/// Makes ids that no other request has: random for the process, counted within it.
#[derive(Debug)]
struct RequestIds {
    /// Sixteen hex digits and a dash.
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { process: format!("{high:016x}-"), next: AtomicU64::new(1) }
    }

    /// The client's own id where it is presentable, so that a request is found again across systems.
    fn of(&self, headers: &http::HeaderMap) -> RequestId {
        let presentable = |value: &&HeaderValue| {
            (1..=64).contains(&value.len())
                && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        };
        let given = headers.get(&X_REQUEST_ID).filter(presentable).cloned();
        RequestId(given.unwrap_or_else(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut text = [0; 33];
            let mut rest = &mut text[..];
            let written = write!(rest, "{}{number:x}", self.process).map(|()| rest.len());
            let length = text.len() - written.expect("17 bytes and 16 digits at the most");
            HeaderValue::from_bytes(&text[..length]).expect("hex digits and a dash")
        }))
    }
}

struct Line<'a> {
    method: Method,
    path: &'a str,
    version: Version,
    status: StatusCode,
    id: &'a RequestId,
    client: Client,
    began: Instant,
    whole: bool,
}

fn log(line: &Line<'_>) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                method = %line.method, path = line.path, status = line.status.as_u16(), request_id = %line.id,
                client = %line.client.remote, protocol = ?line.version, whole = line.whole, took = ?line.began.elapsed(), "request"
            )
        };
    }
    let reading = matches!(line.method, Method::GET | Method::HEAD);
    if line.status.is_server_error() {
        event!(warn);
    } else if reading || line.status.is_client_error() {
        event!(debug);
    } else {
        event!(info);
    }
}
