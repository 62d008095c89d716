//! How an edge learns from live traffic that an upstream is silent or limited, and that it is well again.

use std::time::Instant;

use oci::settings::Span;

use super::{
    registry::{Image, Mood, Registry, reply},
    *,
};
use crate::settings::Freshness;

const PATIENCE: Duration = Duration::from_secs(20);
/// What is answered without asking anybody takes less, even where other tests run beside this one.
const AT_ONCE: Duration = Duration::from_millis(250);

fn impatient(registry: &Registry) -> Settings {
    let mut settings = Settings::default();
    settings.add_upstream(&registry.url()).expect("a host");
    settings.cache.capacity = Some(Size(1 << 30));
    settings.cache.keep_free = Some(Size(0));
    settings.freshness.budget = Span(Duration::from_millis(100));
    settings.freshness.negative = Span(Duration::ZERO);
    settings.download.first_byte = Span(Duration::from_millis(500));
    settings
}

fn freshness(settings: &mut Settings, freshness: Freshness) {
    for upstream in settings.upstream.named.values_mut() {
        upstream.freshness = freshness;
    }
}

async fn operator(edge: &Arc<Edge>, method: &str, path: &str) -> serde_json::Value {
    let mut request =
        Request::builder().method(method).uri(path).body(RequestBody::from(Bytes::new())).expect("a request");
    let address = ([127, 0, 0, 1], 4000).into();
    request.extensions_mut().insert(oci::http::Client { remote: address, local: address });
    let body = edge.call(request).await.into_body().collect().await.expect("a document").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

async fn state(edge: &Arc<Edge>) -> String {
    operator(edge, "GET", "/api/v1/upstreams").await[0]["state"].as_str().expect("a state").to_owned()
}

/// Asks until `wanted` is true of the answer.
async fn until(edge: &Arc<Edge>, path: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let asking = async {
        loop {
            let answer = ask(edge, path, None).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_upstream_costs_one_budget_then_nothing_until_it_answers_again() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&impatient(&registry), data.path()).await;
    let tag = "/v2/team/app/manifests/latest";
    assert_eq!(state(&edge).await, "unknown");
    assert_eq!(ask(&edge, tag, None).await.header("cache-status"), "edge; fwd=miss; stored");
    assert_eq!(state(&edge).await, "ok");
    registry.becomes(Mood::Hung).await;
    let first = ask(&edge, tag, None).await;
    assert_eq!(first.header("cache-status"), "edge; hit; detail=offline");
    // From now on nobody waits, whether it is known to be silent or still only late.
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        let answer = ask(&edge, tag, None).await;
        times.push(began.elapsed());
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.header("warning").contains("last confirmed"), "{}", answer.header("warning"));
    }
    times.sort();
    assert!(times[989] < Duration::from_millis(10), "99 % of warm requests: {:?}", times[989]);
    let fresh = |answer: &Answer| answer.header("warning").is_empty();
    registry.becomes(Mood::Well).await;
    until(&edge, tag, "it is asked again by itself", fresh).await;
    assert_eq!(state(&edge).await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_cached_is_refused_at_once_while_the_upstream_is_silent() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let mut settings = impatient(&registry);
    // So that no pause ends within this test.
    settings.upstream_health.first_pause = Span(Duration::from_secs(600));
    settings.upstream_health.longest_pause = Span(Duration::from_secs(600));
    let edge = start(&settings, data.path()).await;
    registry.becomes(Mood::Hung).await;
    let first = ask(&edge, "/v2/team/first/manifests/latest", None).await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    until(&edge, "/v2/team/second/manifests/latest", "it is silent", |answer| {
        answer.header("retry-after") == "60"
    })
    .await;
    let asked = registry.asked().len();
    let image = Image::of("team/app");
    for what in [
        "manifests/latest".to_owned(),
        format!("manifests/{}", image.manifest_digest()),
        format!("blobs/{}", image.blob_digest()),
        "tags/list".to_owned(),
    ] {
        let began = Instant::now();
        let answer = ask(&edge, &format!("/v2/team/app/{what}"), None).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{what}");
        assert!(began.elapsed() < AT_ONCE, "{what}: {:?}", began.elapsed());
    }
    assert_eq!(registry.asked().len(), asked, "nobody asked it");
    let shown = operator(&edge, "GET", "/api/v1/upstreams").await;
    assert_eq!(shown[0]["state"], "silent", "{shown}");
    assert!(shown[0]["retry_at"].is_string() && shown[0]["reason"].is_string(), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_behind_the_answer_is_not_repeated_while_the_upstream_is_silent() {
    for policy in [Freshness::Strict, Freshness::LocalFirst, Freshness::Bounded(Duration::from_nanos(1))] {
        let registry = Registry::start().await;
        let data = tempfile::tempdir().expect("directory");
        let mut settings = impatient(&registry);
        settings.upstream_health.first_pause = Span(Duration::from_secs(600));
        settings.upstream_health.longest_pause = Span(Duration::from_secs(600));
        freshness(&mut settings, policy);
        let edge = start(&settings, data.path()).await;
        let tag = "/v2/team/app/manifests/latest";
        assert_eq!(ask(&edge, tag, None).await.status, StatusCode::OK);
        registry.becomes(Mood::Hung).await;
        let silent = async {
            while state(&edge).await != "silent" {
                assert_eq!(ask(&edge, tag, None).await.status, StatusCode::OK);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, silent).await.expect("it is found to be silent");
        // A confirmation that was wanted while the last one ran has been refused by now, or is.
        let asked = registry.asked().len();
        for _ in 0..200 {
            assert_eq!(ask(&edge, tag, None).await.status, StatusCode::OK);
        }
        assert_eq!(registry.asked().len(), asked, "{policy:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_first_answers_from_the_cache_and_learns_behind_the_answer() {
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let has_moved = moved.clone();
    let registry = Registry::scripted(move |method, target| {
        let image =
            Image::of(if has_moved.load(std::sync::atomic::Ordering::Relaxed) { "after" } else { "before" });
        target.contains("/manifests/").then(|| super::registry::manifest_reply(method, &image.manifest))
    })
    .await;
    let data = tempfile::tempdir().expect("directory");
    let mut settings = impatient(&registry);
    freshness(&mut settings, Freshness::LocalFirst);
    let edge = start(&settings, data.path()).await;
    let tag = "/v2/team/app/manifests/latest";
    let before = Image::of("before").manifest_digest();
    assert_eq!(ask(&edge, tag, None).await.header("docker-content-digest"), before.as_str());
    moved.store(true, std::sync::atomic::Ordering::Relaxed);
    let old = ask(&edge, tag, None).await;
    assert_eq!(
        (old.header("docker-content-digest"), old.header("cache-status")),
        (before.as_str(), "edge; hit")
    );
    let after = Image::of("after").manifest_digest();
    until(&edge, tag, "it learns", |answer| answer.header("docker-content-digest") == after.as_str()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_upstream_is_left_alone_and_says_so_to_operators_only() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let mut metrics = prometheus_client::registry::Registry::default();
    let edge =
        Edge::start(&impatient(&registry), data.path(), "edge", Openness::Everybody, &mut metrics).await;
    let edge = edge.expect("started");
    let tag = "/v2/team/app/manifests/latest";
    assert_eq!(ask(&edge, tag, None).await.status, StatusCode::OK);
    registry.becomes(Mood::Limited).await;
    assert_eq!(ask(&edge, tag, None).await.status, StatusCode::OK, "what is cached is served");
    let asked = registry.asked().len();
    for _ in 0..20 {
        let stale = ask(&edge, tag, None).await;
        assert_eq!((stale.status, stale.header("warning").is_empty()), (StatusCode::OK, false));
        let refused = ask(&edge, "/v2/team/other/manifests/latest", None).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!((5..=7).contains(&refused.header("retry-after").parse::<u64>().expect("seconds")));
    }
    assert_eq!(registry.asked().len(), asked, "it is left alone");
    let shown = operator(&edge, "GET", "/api/v1/upstreams").await;
    assert_eq!((&shown[0]["state"], &shown[0]["default"]), (&"limited".into(), &true.into()), "{shown}");
    assert_eq!((&shown[0]["freshness"], &shown[0]["authenticated"]), (&"strict".into(), &false.into()));
    let limit = &shown[0]["rate_limit"];
    assert_eq!((&limit["limit"], &limit["remaining"]), (&100.into(), &0.into()), "{shown}");
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &metrics).expect("a page");
    let name = shown[0]["name"].as_str().expect("a name");
    let value = |metric: &str| {
        let line =
            page.lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("{metric}\n{page}"));
        line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let until = value("roadstead_upstream_limited_until_seconds{");
    assert!((until - now.as_secs_f64()).abs() < 8.0, "{until}");
    assert!(value(&format!("roadstead_upstream_rate_limit_remaining{{upstream=\"{name}\"}}")).abs() < 0.5);
    for (state, expected) in [("limited", 1.0), ("ok", 0.0), ("silent", 0.0)] {
        let metric = format!("roadstead_upstream_state{{upstream=\"{name}\",state=\"{state}\"}}");
        assert!((value(&metric) - expected).abs() < 0.5, "{metric}\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_among_answers_is_no_failing_upstream() {
    let registry = Registry::start().await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&impatient(&registry), data.path()).await;
    assert_eq!(ask(&edge, "/v2/team/app/manifests/latest", None).await.status, StatusCode::OK);
    registry.becomes(Mood::Forbidden).await;
    for (n, expected) in [(1, "ok"), (2, "ok"), (3, "failing")] {
        let answer = ask(&edge, &format!("/v2/team/private-{n}/manifests/latest"), None).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(state(&edge).await, expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_asks_step_by_step_and_stops_where_it_fails() {
    let registry = Registry::scripted(|method, target| {
        (target == "/v2/").then(|| reply(method, "200 OK", "Date: Thu, 01 Jan 2037 00:00:00 GMT\r\n", "{}"))
    })
    .await;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&impatient(&registry), data.path()).await;
    let path = format!("/api/v1/upstreams/probe?name={}", registry.address());
    let steps = |probed: &serde_json::Value| {
        let steps = probed["steps"].as_array().expect("steps").iter();
        steps
            .map(|step| (step["step"].as_str().expect("a name").to_owned(), step["ok"] == true))
            .collect::<Vec<_>>()
    };
    let well = operator(&edge, "POST", &path).await;
    let names = ["resolve", "connect", "version", "authenticate"];
    assert_eq!(steps(&well), names.map(|name| (name.to_owned(), true)), "{well}");
    assert!(well["steps"][0]["ms"].is_number() && well["clock_skew_seconds"].as_i64() > Some(3600), "{well}");
    assert_eq!(state(&edge).await, "ok");
    registry.becomes(Mood::Dead).await;
    let dead = operator(&edge, "POST", &path).await;
    assert_eq!(steps(&dead), [("resolve".to_owned(), true), ("connect".to_owned(), false)], "{dead}");
    assert!(dead["steps"][1]["detail"].as_str().expect("a reason").contains("refused"), "{dead}");
    let unknown = operator(&edge, "POST", "/api/v1/upstreams/probe?name=nobody.example").await;
    assert_eq!(unknown["status"], 404, "{unknown}");
}
