//! Every mood of an upstream, with and without the content in the cache, against every kind of request.
//!
//! The table is the promise: what is cached is served whatever the upstream says, unless the registry itself says that a tag
//! is gone; what is not cached is 503 with `Retry-After`, and 404 only where the registry itself said so. Never 429, and
//! never later than the budget.

use std::time::Instant;

use futures_util::future::join_all;
use http::Method;
use oci::settings::Span;

use super::{
    registry::{Image, Mood, Registry, SLOW},
    *,
};

const BUDGET: Duration = Duration::from_millis(100);
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);

const MOODS: [Mood; 12] = [
    Mood::Dead,
    Mood::Hung,
    Mood::Slow,
    Mood::Unauthorized,
    Mood::Forbidden,
    Mood::SaysNo,
    Mood::NoSuchPage,
    Mood::Limited,
    Mood::Broken,
    Mood::Page,
    Mood::RedirectLoop,
    Mood::HalfClosed,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TagGet,
    TagHead,
    DigestGet,
    DigestHead,
    BlobGet,
    BlobHead,
    BlobRange,
}

const KINDS: [Kind; 7] = [
    Kind::TagGet,
    Kind::TagHead,
    Kind::DigestGet,
    Kind::DigestHead,
    Kind::BlobGet,
    Kind::BlobHead,
    Kind::BlobRange,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cached {
    Yes,
    No,
}

/// What a cell of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The content.
    Content,
    /// The content, and since when it was not confirmed.
    Stale,
    Gone,
    Unavailable,
}

fn expected(mood: Mood, cached: Cached, kind: Kind) -> Expected {
    let tag = matches!(kind, Kind::TagGet | Kind::TagHead);
    match (cached, mood) {
        (Cached::Yes, Mood::SaysNo) if tag => Expected::Gone,
        (Cached::Yes, _) if tag => Expected::Stale,
        // A digest is what it is: nobody is asked.
        (Cached::Yes, _) => Expected::Content,
        (Cached::No, Mood::Slow) => Expected::Content,
        (Cached::No, Mood::SaysNo) => Expected::Gone,
        (Cached::No, _) => Expected::Unavailable,
    }
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    mood: Mood,
    cached: Cached,
    kind: Kind,
}

impl Cell {
    /// An upstream of its own, so that what one cell does to its upstream's health is not another's affair.
    fn upstream(self) -> String {
        format!("{:?}-{:?}.example", self.cached, self.kind).to_lowercase()
    }

    fn repository(self) -> String {
        format!("{:?}/{:?}", self.cached, self.kind).to_lowercase()
    }

    fn request(self) -> Request<RequestBody> {
        let image = Image::of(&self.repository());
        let what = match self.kind {
            Kind::TagGet | Kind::TagHead => "manifests/latest".to_owned(),
            Kind::DigestGet | Kind::DigestHead => format!("manifests/{}", image.manifest_digest()),
            Kind::BlobGet | Kind::BlobHead | Kind::BlobRange => format!("blobs/{}", image.blob_digest()),
        };
        let method = match self.kind {
            Kind::TagHead | Kind::DigestHead | Kind::BlobHead => Method::HEAD,
            Kind::TagGet | Kind::DigestGet | Kind::BlobGet | Kind::BlobRange => Method::GET,
        };
        let path = format!("/v2/{}/{}/{what}", self.upstream(), self.repository());
        let request = Request::builder().method(method).uri(path);
        let request =
            if self.kind == Kind::BlobRange { request.header("range", "bytes=7-106") } else { request };
        request.body(RequestBody::from(Bytes::new())).expect("a request")
    }

    async fn pull(self, edge: &Arc<Edge>) {
        let image = Image::of(&self.repository());
        let (upstream, repository) = (self.upstream(), self.repository());
        for what in ["manifests/latest".to_owned(), format!("blobs/{}", image.blob_digest())] {
            let answer = ask(edge, &format!("/v2/{upstream}/{repository}/{what}"), None).await;
            assert_eq!(answer.status, StatusCode::OK, "{self:?}: {what}");
            answer.whole();
        }
        kept(edge, &image.blob_digest()).await;
    }

    async fn check(self, edge: &Arc<Edge>) {
        let began = Instant::now();
        let (parts, body) = edge.call(self.request()).await.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        let took = began.elapsed();
        let expected = expected(self.mood, self.cached, self.kind);
        let (status, headers) = (parts.status, &parts.headers);
        let shown = format!("{self:?}: {status} {headers:?} {}", String::from_utf8_lossy(&body));
        match expected {
            Expected::Content | Expected::Stale => self.check_content(status, headers, &body, &shown),
            Expected::Gone => assert_eq!(status, StatusCode::NOT_FOUND, "{shown}"),
            Expected::Unavailable => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{shown}"),
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("warning").is_some(), expected == Expected::Stale, "{shown}");
        assert!(header("age").is_some() || expected != Expected::Stale, "{shown}");
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
        assert_eq!(retry_after.is_some(), expected == Expected::Unavailable, "{shown}");
        assert!(
            self.mood != Mood::Limited || retry_after.is_none_or(|seconds| (6..=7).contains(&seconds)),
            "{shown}"
        );
        let waited = match self.cached {
            Cached::Yes => BUDGET,
            Cached::No => FIRST_BYTE,
        };
        assert!(took < waited + SLACK, "{shown}: after {took:?}");
    }

    fn check_content(self, status: StatusCode, headers: &http::HeaderMap, body: &Bytes, shown: &str) {
        let image = Image::of(&self.repository());
        let partial = self.kind == Kind::BlobRange;
        assert_eq!(status, if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }, "{shown}");
        let whole = match self.kind {
            Kind::TagGet | Kind::TagHead | Kind::DigestGet | Kind::DigestHead => image.manifest,
            Kind::BlobGet | Kind::BlobHead | Kind::BlobRange => image.blob,
        };
        assert_eq!(headers["docker-content-digest"], Digest::sha256(&whole).as_str(), "{shown}");
        match self.kind {
            Kind::TagHead | Kind::DigestHead | Kind::BlobHead => {
                assert_eq!(headers["content-length"], whole.len().to_string(), "{shown}");
            }
            Kind::BlobRange => assert_eq!(body, &whole[7..107], "{shown}"),
            Kind::TagGet | Kind::DigestGet | Kind::BlobGet => assert_eq!(body, &whole, "{shown}"),
        }
    }
}

async fn check(mood: Mood) {
    let registry = Registry::start().await;
    let cells: Vec<Cell> = [Cached::Yes, Cached::No]
        .into_iter()
        .flat_map(|cached| KINDS.map(|kind| Cell { mood, cached, kind }))
        .collect();
    let mut settings = Settings::default();
    for cell in &cells {
        let upstream = settings::UpstreamSettings { url: Some(registry.url()), ..Default::default() };
        settings.upstream.named.insert(cell.upstream(), upstream);
    }
    settings.cache.capacity = Some(Size(1 << 30));
    settings.cache.keep_free = Some(Size(0));
    settings.freshness.budget = Span(BUDGET);
    settings.download.first_byte = Span(FIRST_BYTE);
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    for cell in cells.iter().filter(|cell| cell.cached == Cached::Yes) {
        cell.pull(&edge).await;
    }
    let before = registry.asked().len();
    registry.becomes(mood).await;
    join_all(cells.iter().map(|cell| cell.check(&edge))).await;
    let asked = registry.asked().split_off(before);
    for cell in cells.iter().filter(|cell| cell.cached == Cached::Yes) {
        if !matches!(cell.kind, Kind::TagGet | Kind::TagHead) {
            let repository = cell.repository();
            assert!(!asked.iter().any(|asked| asked.contains(&repository)), "{mood:?}: {asked:?}");
        }
    }
    edge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_mood_the_upstream_is_in_the_cache_serves_and_only_a_no_is_404() {
    assert!(SLOW > BUDGET, "or a slow upstream is in time");
    for mood in MOODS {
        check(mood).await;
    }
}
