//! The whole edge in front of a scripted upstream, in one process.

mod downloads;
mod health;
mod moods;
mod negative;
mod others;
mod registry;
mod upstream;

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use oci::{digest::Digest, http::body::collect, settings::Size};

use super::*;
use upstream::{Fault, Upstream};

struct Harness {
    edge: Arc<Edge>,
    upstream: Upstream,
}

fn settings(upstream: &Upstream, capacity: u64) -> Settings {
    let mut settings = Settings::default();
    settings.add_upstream(&upstream.url()).expect("a host");
    settings.cache.capacity = Some(Size(capacity));
    settings.cache.keep_free = Some(Size(0));
    settings.download.stall = oci::settings::Span(Duration::from_millis(300));
    settings.download.tries = 50;
    // What an upstream said no to is asked for again; `negative` tests the opposite.
    settings.freshness.negative = oci::settings::Span(Duration::ZERO);
    settings
}

async fn start(settings: &Settings, data: &Path) -> Arc<Edge> {
    let started = Edge::start(settings, data, "edge", Openness::Everybody, &mut Registry::default()).await;
    started.expect("started")
}

async fn harness(data: &Path) -> Harness {
    let upstream = Upstream::start();
    let edge = start(&settings(&upstream, 1 << 30), data).await;
    Harness { edge, upstream }
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Result<Bytes, String>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn whole(self) -> Bytes {
        self.body.expect("a whole body")
    }
}

async fn ask(edge: &Arc<Edge>, path: &str, range: Option<&str>) -> Answer {
    let mut request = Request::get(path).body(RequestBody::from(Bytes::new())).expect("a request");
    if let Some(range) = range {
        request.headers_mut().insert(header::RANGE, range.parse().expect("a header"));
    }
    let (parts, body) = edge.call(request).await.into_parts();
    let body = collect(body, usize::MAX).await.map_err(|error| error.to_string());
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Compares without printing megabytes.
#[track_caller]
fn same(answer: Answer, expected: &[u8], what: &str) {
    let status = answer.status;
    let got = answer.whole();
    let first = got.iter().zip(expected).position(|(got, expected)| got != expected);
    let lengths = (got.len(), expected.len());
    assert!(got == expected, "{what}: {status}, first difference at {first:?}, lengths {lengths:?}");
}

/// Waits until a download has come to its end: its clients have their bytes a moment before.
async fn kept(edge: &Arc<Edge>, digest: &Digest) {
    let kept = async {
        while edge.answerer.store.size(digest).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), kept).await.expect("the download goes on to its end");
}

fn blob(digest: &Digest) -> String {
    format!("/v2/team/app/blobs/{digest}")
}

fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_one_transfer_and_the_next_is_a_hit() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(1, 3 << 20);
    let digest = upstream.add("team/app", content.clone());
    let path = blob(&digest);
    let pulls = (0..32).map(|_| {
        let (edge, path) = (edge.clone(), path.clone());
        tokio::spawn(async move { ask(&edge, &path, None).await })
    });
    for pull in futures_util::future::join_all(pulls).await {
        let answer = pull.expect("no panic");
        assert!(answer.header("cache-status").starts_with("edge; "), "{}", answer.header("cache-status"));
        same(answer, &content, "a client");
    }
    assert_eq!(upstream.sent(), content.len() as u64, "one transfer");
    let again = ask(&edge, &path, None).await;
    assert_eq!(again.header("cache-status"), "edge; hit");
    same(again, &content, "again");
    assert_eq!(upstream.sent(), content.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_cancel() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(9, 1 << 20);
    let digest = upstream.add("team/app", content.clone());
    let request = Request::get(blob(&digest)).body(RequestBody::from(Bytes::new())).expect("a request");
    let mut body = edge.call(request).await.into_body();
    body.frame().await.expect("a frame").expect("bytes");
    drop(body);
    kept(&edge, &digest).await;
    assert_eq!(upstream.sent(), content.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_of_an_earlier_life_is_taken_up_where_it_was() {
    let data = tempfile::tempdir().expect("directory");
    let upstream = Upstream::start();
    let mut settings = settings(&upstream, 1 << 30);
    settings.download.tries = 1;
    let edge = start(&settings, data.path()).await;
    let content = noise(11, 1 << 20);
    let digest = upstream.add("team/app", content.clone());
    upstream.fail(Fault::Cut(700_000));
    let broken = ask(&edge, &blob(&digest), None).await;
    assert!(broken.body.is_err() || broken.status != StatusCode::OK);
    edge.shutdown().await;
    let before = upstream.sent();
    let edge = start(&settings, data.path()).await;
    same(ask(&edge, &blob(&digest), None).await, &content, "resumed");
    let resumed = upstream.sent() - before;
    assert!(resumed < content.len() as u64, "not from the start: {resumed} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_blob_that_was_not_renamed_before_a_kill_is_taken_up() {
    let data = tempfile::tempdir().expect("directory");
    let upstream = Upstream::start();
    let content = noise(21, 100_000);
    let digest = upstream.add("team/app", content.clone());
    let partial = data.path().join("partial");
    std::fs::create_dir(&partial).expect("made");
    std::fs::write(partial.join(digest.as_str().replace(':', "-")), &content).expect("written");
    let edge = start(&settings(&upstream, 1 << 30), data.path()).await;
    same(ask(&edge, &blob(&digest), None).await, &content, "taken up");
    assert_eq!(upstream.sent(), 1, "one byte is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_blob_that_is_arriving_is_a_206() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(13, 500_000);
    let digest = upstream.add("team/app", content.clone());
    let answer = ask(&edge, &blob(&digest), Some("bytes=400000-400099")).await;
    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.header("content-range"), "bytes 400000-400099/500000");
    same(answer, &content[400_000..400_100], "a part");
    let beyond = ask(&edge, &blob(&digest), Some("bytes=500000-")).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_a_blob_is_streamed_and_not_kept() {
    let data = tempfile::tempdir().expect("directory");
    let upstream = Upstream::start();
    let edge = start(&settings(&upstream, 1000), data.path()).await;
    let content = noise(15, 300_000);
    let digest = upstream.add("team/app", content.clone());
    for range in [None, Some("bytes=7-200006")] {
        let answer = ask(&edge, &blob(&digest), range).await;
        assert_eq!(answer.header("cache-status"), "edge; fwd=miss");
        let expected = if range.is_some() { content.slice(7..200_007) } else { content.clone() };
        same(answer, &expected, range.unwrap_or("whole"));
    }
    assert!(edge.answerer.store.size(&digest).is_none());
    assert_eq!(edge.answerer.metrics.store.bytes(), 0);
    assert_eq!(edge.answerer.metrics.unkept.get(), 500_000);
    upstream.fail(Fault::None);
    upstream.fail(Fault::Flip(1000));
    assert!(ask(&edge, &blob(&digest), None).await.body.is_err(), "verified all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_served_only_under_a_repository_that_has_it() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let digest = upstream.add("team/app", noise(17, 1000));
    assert_eq!(ask(&edge, &blob(&digest), None).await.status, StatusCode::OK);
    let other = format!("/v2/other/app/blobs/{digest}");
    assert_eq!(ask(&edge, &other, None).await.status, StatusCode::NOT_FOUND, "cached, but not there");
    let nowhere = Digest::sha256(b"nowhere");
    assert_eq!(ask(&edge, &blob(&nowhere), None).await.status, StatusCode::NOT_FOUND);
    // Only its own file: the blob above was given out before it was renamed, and may still be on its way.
    let left = edge.answerer.store.partial_path(&nowhere);
    assert!(!left.exists(), "what does not exist leaves no file");
    kept(&edge, &digest).await;
    upstream.stop();
    assert_eq!(ask(&edge, &other, None).await.status, StatusCode::SERVICE_UNAVAILABLE, "nobody can say");
    assert_eq!(ask(&edge, &blob(&digest), None).await.header("cache-status"), "edge; hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_stops_mid_way_is_asked_again() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(19, 200_000);
    let digest = upstream.add("team/app", content.clone());
    upstream.fail(Fault::Stall(100_000));
    same(ask(&edge, &blob(&digest), None).await, &content, "after a stall");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_api_is_served_to_this_node_only_and_says_why() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, .. } = harness(data.path()).await;
    for (remote, path, status) in [
        ("127.0.0.1:4000", "/api/v1/node", StatusCode::OK),
        ("127.0.0.1:4000", "/api/v1/nothing", StatusCode::NOT_FOUND),
        ("10.0.0.1:4000", "/api/v1/node", StatusCode::FORBIDDEN),
    ] {
        let mut request = Request::get(path).body(RequestBody::from(Bytes::new())).expect("a request");
        let client = oci::http::Client {
            remote: remote.parse().expect("an address"),
            local: ([127, 0, 0, 1], 5001).into(),
        };
        request.extensions_mut().insert(client);
        let (parts, body) = edge.call(request).await.into_parts();
        let body = collect(body, usize::MAX).await.expect("a document");
        let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(parts.status, status, "{remote} {path}: {document}");
        if status == StatusCode::OK {
            assert_eq!(document["ready"], true);
        } else {
            assert_eq!(parts.headers["content-type"], "application/problem+json");
            assert_eq!(document["status"], status.as_u16());
            assert!(document["detail"].as_str().is_some_and(|detail| detail.contains(' ')), "{document}");
        }
    }
}
