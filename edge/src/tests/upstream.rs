//! A registry of blobs that fails as it is told to.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use oci::{
    digest::Digest,
    error::ErrorCode,
    http::{
        Body, BodyError, Check, Front, FrontMetrics, Limits, RequestBody, Server, Service, error_response,
    },
    range::{ByteRange, content_range},
    route::Route,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What goes wrong with one answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// The connection breaks after so many bytes.
    Cut(u64),
    /// The same, and ranges are ignored in this answer and the next.
    CutWithoutRanges(u64),
    /// The byte there is wrong.
    Flip(usize),
    /// No answer comes.
    Hang,
    /// Nothing comes after so many bytes.
    Stall(u64),
}

#[derive(Default)]
struct Shared {
    blobs: Mutex<HashMap<(String, Digest), Bytes>>,
    faults: Mutex<VecDeque<Fault>>,
    faults_of: Mutex<HashMap<Digest, VecDeque<Fault>>>,
    sent: AtomicU64,
    /// Bytes a second of one answer; 0: as fast as it goes.
    speed: AtomicU64,
    running: AtomicU64,
    most_running: AtomicU64,
    ignore_ranges: std::sync::atomic::AtomicBool,
}

struct Scripted(Arc<Shared>);

pub(super) struct Upstream {
    shared: Arc<Shared>,
    url: Url,
    stop: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let mut metrics = Registry::default();
        let front_metrics = FrontMetrics::register(&mut metrics);
        let front = Arc::new(Front::new(Scripted(shared.clone()), metrics, front_metrics));
        let server = Server::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], Limits::default()).expect("bound");
        let url = format!("http://{}", server.local_addrs()[0]).parse().expect("a URL");
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(front, stop.clone(), Duration::ZERO));
        Self { shared, url, stop }
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(super) fn add(&self, repository: &str, content: Bytes) -> Digest {
        let digest = Digest::sha256(&content);
        lock(&self.shared.blobs).insert((repository.to_owned(), digest.clone()), content);
        digest
    }

    /// The next answer that is not spoken for fails like this.
    pub(super) fn fail(&self, fault: Fault) {
        lock(&self.shared.faults).push_back(fault);
    }

    /// The next answer about this blob fails like this.
    pub(super) fn fail_blob(&self, digest: &Digest, fault: Fault) {
        lock(&self.shared.faults_of).entry(digest.clone()).or_default().push_back(fault);
    }

    /// Each answer brings so many bytes a second from now on.
    pub(super) fn slow_down(&self, speed: u64) {
        self.shared.speed.store(speed, Ordering::Relaxed);
    }

    /// The most answers that were under way at a time.
    pub(super) fn most_at_once(&self) -> u64 {
        self.shared.most_running.load(Ordering::Relaxed)
    }

    /// From now on every answer is the whole.
    pub(super) fn ignore_ranges(&self) {
        self.shared.ignore_ranges.store(true, Ordering::Relaxed);
    }

    /// Bytes of blobs that left.
    pub(super) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Service for Scripted {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        let route = Route::parse(request.uri().path());
        let Ok(Route::Blob(repository, digest)) = route else {
            return error_response(&ErrorCode::NotFound.error("only blobs here"));
        };
        let Some(content) = lock(&self.0.blobs).get(&(repository.to_string(), digest.clone())).cloned()
        else {
            return error_response(&ErrorCode::BlobUnknown.error("no such blob"));
        };
        if *request.method() == Method::HEAD {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(content.len()));
            return response;
        }
        let of_blob = lock(&self.0.faults_of).get_mut(&digest).and_then(VecDeque::pop_front);
        let fault = of_blob.or_else(|| lock(&self.0.faults).pop_front()).unwrap_or(Fault::None);
        if matches!(fault, Fault::Hang) {
            std::future::pending::<()>().await;
        }
        if matches!(fault, Fault::CutWithoutRanges(_)) {
            self.0.ignore_ranges.store(true, Ordering::Relaxed);
        }
        let range =
            request.headers().get(header::RANGE).and_then(|range| ByteRange::parse(range.to_str().ok()?));
        let range = range.filter(|_| !self.0.ignore_ranges.load(Ordering::Relaxed));
        let length = content.len() as u64;
        let (status, sent) = match range.map(|range| range.resolve(length).expect("within")) {
            None => (StatusCode::OK, 0..length),
            Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        };
        let at = |offset: u64| usize::try_from(offset).expect("small");
        let mut response = Response::new(self.body(content.slice(at(sent.start)..at(sent.end)), fault));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent.end - sent.start));
        if status == StatusCode::PARTIAL_CONTENT {
            let told = content_range(&sent, length);
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(told).expect("a header"));
        }
        response
    }

    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

impl Scripted {
    fn body(&self, mut part: Bytes, fault: Fault) -> Body {
        let limit = match fault {
            Fault::None | Fault::Hang => part.len(),
            Fault::Flip(at) => {
                let mut wrong = part.to_vec();
                wrong[at] ^= 1;
                part = wrong.into();
                part.len()
            }
            Fault::Cut(after) | Fault::CutWithoutRanges(after) | Fault::Stall(after) => {
                part.len().min(usize::try_from(after).expect("small"))
            }
        };
        let cut = limit < part.len();
        let stall = matches!(fault, Fault::Stall(_));
        let part_is_large = part.len() > 1 << 20;
        let state = (part.slice(..limit), Answering::begin(&self.0));
        Body::stream(StreamBody::new(stream::unfold(Some(state), move |state| async move {
            let (mut rest, answering) = state?;
            let shared = &answering.0;
            if rest.is_empty() {
                if stall && cut {
                    std::future::pending::<()>().await;
                }
                // Lets what was given out leave before the connection breaks.
                tokio::task::yield_now().await;
                let error = BodyError::Source("cut".into());
                return cut.then_some((Err(error), None));
            }
            let piece = rest.split_to(rest.len().min(if part_is_large { 256 * 1024 } else { 16 * 1024 }));
            if let Some(nanos) =
                (piece.len() as u64 * 1_000_000_000).checked_div(shared.speed.load(Ordering::Relaxed))
            {
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
            shared.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Some((Ok(Frame::data(piece)), Some((rest, answering))))
        })))
    }
}

/// Counts an answer as long as it is under way.
struct Answering(Arc<Shared>);

impl Answering {
    fn begin(shared: &Arc<Shared>) -> Self {
        let running = shared.running.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_running.fetch_max(running, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
