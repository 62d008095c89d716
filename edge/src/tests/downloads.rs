//! Downloads: parts, cuts, wrong bytes, turns.

use futures_util::StreamExt as _;
use oci::settings::Span;

use super::*;
use crate::metadata::{Link, Place};

const MIB: u64 = 1 << 20;

/// Tells the edge how long a blob is, as its image's manifest does.
async fn announce(edge: &Arc<Edge>, upstream: &Upstream, digest: &Digest, size: usize) {
    let name = upstream.url().authority().to_owned();
    let place = Place { upstream: name.into(), repository: "team/app".parse().expect("a name") };
    let link = Link { digest: digest.clone(), size: Some(size as u64) };
    edge.answerer.metadata.keep_link(&place, &link).await;
}

/// Waits for what has to become true.
async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_cut_at_any_byte_a_thousand_times_is_resumed_there() {
    const AT_ONCE: usize = 32;
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let pulls = futures_util::stream::iter(1..=1000_u64).map(|seed| {
        let content = noise(seed, 40_000);
        let digest = upstream.add("team/app", content.clone());
        let at = |n: u64| ((seed.wrapping_mul(0x9e37_79b9 + n) >> 3) % 39_999).max(1);
        // Some upstreams ignore ranges, and begin again.
        let first = if seed % 4 == 0 { Fault::CutWithoutRanges(at(1)) } else { Fault::Cut(at(1)) };
        upstream.fail_blob(&digest, first);
        if seed % 3 == 0 {
            upstream.fail_blob(&digest, Fault::Cut(at(2) / 4 + 1));
        }
        let edge = edge.clone();
        async move {
            let answer = ask(&edge, &blob(&digest), None).await;
            assert_eq!(answer.status, StatusCode::OK, "seed {seed}");
            same(answer, &content, &format!("seed {seed}"));
        }
    });
    pulls.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    assert_eq!(edge.answerer.metrics.downloads_corrupt.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_comes_by_several_requests_where_one_is_slow() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(31, 64 << 20);
    let digest = upstream.add("team/app", content.clone());
    announce(&edge, &upstream, &digest, content.len()).await;
    upstream.slow_down(12 * MIB);
    same(ask(&edge, &blob(&digest), None).await, &content, "in parts");
    assert!(upstream.most_at_once() > 1, "{} at once", upstream.most_at_once());
    assert_eq!(upstream.sent(), content.len() as u64, "each byte once");
    kept(&edge, &digest).await;
    assert_eq!(ask(&edge, &blob(&digest), None).await.header("cache-status"), "edge; hit");
    let left = std::fs::read_dir(data.path().join("partial")).expect("listed").count();
    assert_eq!(left, 0, "no list of ranges is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_ignores_ranges_sends_each_byte_once_all_the_same() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(33, 40 << 20);
    let digest = upstream.add("team/app", content.clone());
    announce(&edge, &upstream, &digest, content.len()).await;
    upstream.ignore_ranges();
    upstream.slow_down(30 * MIB);
    same(ask(&edge, &blob(&digest), None).await, &content, "in one piece");
    assert_eq!(upstream.sent(), content.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_is_served_first_to_the_reader_who_asks_for_it() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(35, 64 << 20);
    let digest = upstream.add("team/app", content.clone());
    announce(&edge, &upstream, &digest, content.len()).await;
    upstream.slow_down(8 * MIB);
    let whole = tokio::spawn({
        let (edge, path) = (edge.clone(), blob(&digest));
        async move { ask(&edge, &path, None).await }
    });
    let tail = ask(&edge, &blob(&digest), Some("bytes=60000000-60999999")).await;
    let fetched = upstream.sent();
    assert_eq!(tail.status, StatusCode::PARTIAL_CONTENT);
    same(tail, &content[60_000_000..61_000_000], "the tail");
    assert!(fetched < 40 * MIB, "{fetched} bytes were fetched before the tail was served");
    upstream.slow_down(0);
    same(whole.await.expect("no panic"), &content, "the whole");
    assert_eq!(upstream.sent(), content.len() as u64, "each byte once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_out_of_order_is_taken_up_after_a_restart() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let content = noise(37, 48 << 20);
    let digest = upstream.add("team/app", content.clone());
    announce(&edge, &upstream, &digest, content.len()).await;
    upstream.slow_down(8 * MIB);
    let far = "bytes=40000000-40999999";
    same(ask(&edge, &blob(&digest), Some(far)).await, &content[40_000_000..41_000_000], "far ahead");
    edge.shutdown().await;
    drop(edge);
    let before = upstream.sent();
    let edge = start(&settings(&upstream, 1 << 30), data.path()).await;
    upstream.slow_down(1);
    same(ask(&edge, &blob(&digest), Some(far)).await, &content[40_000_000..41_000_000], "still here");
    upstream.slow_down(0);
    same(ask(&edge, &blob(&digest), None).await, &content, "the whole");
    // What was on its way from the upstream when the edge ended is asked for again.
    let lost = 4 * MIB;
    assert!(upstream.sent() <= content.len() as u64 + lost, "{} bytes, {before} before", upstream.sent());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_end_before_the_last_one_and_their_upstream_is_avoided_for_a_while() {
    let data = tempfile::tempdir().expect("directory");
    let upstream = Upstream::start();
    let mut settings = settings(&upstream, 1 << 30);
    settings.download.avoid = Span(Duration::from_secs(1));
    let edge = start(&settings, data.path()).await;
    let content = noise(7, 100_000);
    let digest = upstream.add("team/app", content.clone());
    upstream.fail(Fault::Flip(50_000));
    let answer = ask(&edge, &blob(&digest), None).await;
    assert!(answer.body.is_err() || answer.status != StatusCode::OK, "the body ends early");
    let metrics = &edge.answerer.metrics;
    assert_eq!(metrics.downloads_corrupt.get(), 1);
    assert!(edge.answerer.store.size(&digest).is_none());
    let sent = upstream.sent();
    let avoided = ask(&edge, &blob(&digest), None).await;
    assert_eq!((avoided.status, avoided.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(upstream.sent(), sent, "it is not asked");
    let other = upstream.add("team/app", noise(8, 1000));
    same(ask(&edge, &blob(&other), None).await, &noise(8, 1000), "another blob is");
    let answer = loop {
        let answer = ask(&edge, &blob(&digest), None).await;
        if answer.status == StatusCode::OK {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    same(answer, &content, "fetched anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_of_another_length_than_its_manifest_says_is_refused() {
    let data = tempfile::tempdir().expect("directory");
    let Harness { edge, upstream } = harness(data.path()).await;
    let digest = upstream.add("team/app", noise(41, 5000));
    announce(&edge, &upstream, &digest, 5001).await;
    let answer = ask(&edge, &blob(&digest), None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(edge.answerer.metrics.downloads_corrupt.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_wait_for_their_turn_and_too_many_waiting_requests_are_sent_away_at_once() {
    let data = tempfile::tempdir().expect("directory");
    let upstream = Upstream::start();
    let mut settings = settings(&upstream, 1 << 30);
    settings.download.connections = 1;
    settings.download.waiting = 24;
    settings.download.first_byte = Span(Duration::from_secs(3));
    let edge = start(&settings, data.path()).await;
    let blobs: Vec<_> = (0..24).map(|seed| upstream.add("team/app", noise(100 + seed, 50_000))).collect();
    let pulls = blobs.iter().enumerate().map(|(seed, digest)| {
        let edge = edge.clone();
        async move {
            let content = noise(100 + seed as u64, 50_000);
            same(ask(&edge, &blob(digest), None).await, &content, "in its turn");
        }
    });
    futures_util::future::join_all(pulls).await;
    assert_eq!(upstream.most_at_once(), 1);

    let hung = upstream.add("team/app", noise(200, 50_000));
    upstream.fail_blob(&hung, Fault::Hang);
    let waiting: Vec<_> = (0..24)
        .map(|_| {
            let (edge, path) = (edge.clone(), blob(&hung));
            tokio::spawn(async move { ask(&edge, &path, None).await })
        })
        .collect();
    soon("all wait", || edge.answerer.metrics.downloads_waiting.get() == 24).await;
    let asked = std::time::Instant::now();
    let refused = ask(&edge, &blob(&upstream.add("team/app", noise(201, 10))), None).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert!(asked.elapsed() < Duration::from_secs(1), "at once");
    for pull in waiting {
        assert_eq!(pull.await.expect("no panic").status, StatusCode::SERVICE_UNAVAILABLE, "no first byte");
    }
    assert_eq!(edge.answerer.metrics.downloads_waiting.get(), 0);
}
