//! Several upstreams beside each other: what one has is not another's, what a client may call them, and registries that are
//! not listed.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    registry::{Image, Mood, Registry, blob_reply, manifest_reply, reply},
    *,
};
use crate::settings::UpstreamSettings;

fn empty() -> Settings {
    let mut settings = Settings::default();
    settings.cache.capacity = Some(Size(1 << 30));
    settings.cache.keep_free = Some(Size(0));
    settings
}

fn listed(settings: &mut Settings, name: &str, registry: &Registry) {
    let upstream = UpstreamSettings { url: Some(registry.url()), ..UpstreamSettings::default() };
    settings.upstream.named.insert(name.to_owned(), upstream);
}

/// A registry whose every tag is a manifest that names the private image's blob, which it says that it has, and sends only
/// when it `sends`.
async fn claiming(sends: Arc<AtomicBool>) -> Registry {
    Registry::scripted(move |method, target| {
        let secret = Image::of("private/app");
        if target.contains("/manifests/") {
            return Some(manifest_reply(method, &secret.manifest));
        }
        if !target.contains("/blobs/") {
            return None;
        }
        if method == "HEAD" || sends.load(Ordering::Relaxed) {
            return Some(blob_reply(method, &secret.blob, 0));
        }
        Some(reply(method, "404 Not Found", "", super::registry::error("BLOB_UNKNOWN")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_of_one_upstream_is_not_given_out_on_the_word_of_another() {
    let private = Registry::start().await;
    let sends = Arc::new(AtomicBool::new(false));
    let claiming = claiming(sends.clone()).await;
    let mut settings = empty();
    listed(&mut settings, "private.example", &private);
    listed(&mut settings, "claiming.example", &claiming);
    settings.freshness.negative = oci::settings::Span(Duration::ZERO);
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    let secret = Image::of("private/app");
    let digest = secret.blob_digest();
    let honest = format!("/v2/private.example/private/app/blobs/{digest}");
    let claimed = format!("/v2/claiming.example/any/app/blobs/{digest}");
    same(ask(&edge, &honest, None).await, &secret.blob, "where it belongs");
    kept(&edge, &digest).await;
    let manifest = "/v2/claiming.example/any/app/manifests/latest";
    assert_eq!(ask(&edge, manifest, None).await.status, StatusCode::OK);
    for range in [None, Some("bytes=7-106")] {
        let refused = ask(&edge, &claimed, range).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "it names the blob, and has none of it: {range:?}");
    }
    // From what the upstream itself sends, a part proves nothing, and the whole proves that it has it.
    sends.store(true, Ordering::Relaxed);
    let part = ask(&edge, &claimed, Some("bytes=0-99")).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    same(part, &secret.blob[..100], "a part");
    let whole = ask(&edge, &claimed, None).await;
    assert_eq!(whole.header("cache-status"), "edge; fwd=miss");
    same(whole, &secret.blob, "its own bytes");
    let asked = claiming.asked().len();
    let hit = ask(&edge, &claimed, None).await;
    assert_eq!(hit.header("cache-status"), "edge; hit");
    same(hit, &secret.blob, "from now on");
    assert_eq!(claiming.asked().len(), asked);
    assert_eq!(ask(&edge, &honest, None).await.header("cache-status"), "edge; hit");
    edge.shutdown().await;
    // And it stays so over a restart.
    claiming.becomes(Mood::Dead).await;
    let edge = start(&settings, data.path()).await;
    assert_eq!(ask(&edge, &claimed, None).await.header("cache-status"), "edge; hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_of_another_upstream_prove_nothing() {
    let private = Registry::start().await;
    let lying = Registry::scripted(|method, target| {
        let secret = Image::of("private/app");
        let mut wrong = secret.blob.to_vec();
        wrong[1000] ^= 1;
        match target.contains("/blobs/") {
            true => Some(blob_reply(method, &wrong, 0)),
            false => Some(manifest_reply(method, &secret.manifest)),
        }
    })
    .await;
    let mut settings = empty();
    listed(&mut settings, "private.example", &private);
    listed(&mut settings, "lying.example", &lying);
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    let digest = Image::of("private/app").blob_digest();
    assert_eq!(
        ask(&edge, &format!("/v2/private.example/private/app/blobs/{digest}"), None).await.status,
        StatusCode::OK
    );
    kept(&edge, &digest).await;
    for _ in 0..2 {
        let answer = ask(&edge, &format!("/v2/lying.example/any/app/blobs/{digest}"), None).await;
        assert!(answer.body.is_err(), "the body ends before its last piece");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_hub_has_one_name_whatever_clients_call_it() {
    let hub = Registry::start().await;
    let mut settings = empty();
    listed(&mut settings, "docker.io", &hub);
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    for path in [
        "/v2/docker.io/alpine/manifests/latest",
        "/v2/docker.io/library/alpine/manifests/latest",
        "/v2/index.docker.io/alpine/manifests/latest",
        "/v2/registry-1.docker.io/alpine/manifests/latest",
        "/v2/Docker.IO:443/alpine/manifests/latest",
        "/v2/alpine/manifests/latest?ns=index.docker.io",
        "/v2/alpine/manifests/latest",
    ] {
        let answer = ask(&edge, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let digest = Image::of("library/alpine").manifest_digest();
        assert_eq!(answer.header("docker-content-digest"), digest.as_str(), "{path}");
    }
    assert_eq!(hub.asked_for("GET /v2/library/alpine/manifests/"), 1, "one image: {:?}", hub.asked());
    assert_eq!(
        ask(&edge, "/v2/hub.docker.io/alpine/manifests/latest", None).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_not_listed_is_reached_only_where_that_is_allowed() {
    let near = Registry::start().await;
    let port = near.address().port();
    let names = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("0x7f.0.0.1:{port}"),
        format!("127.1:{port}"),
        format!("0.0.0.0:{port}"),
    ];
    let paths = || {
        let path = names.iter().map(|name| format!("/v2/{name}/team/app/manifests/latest"));
        let ns = names.iter().map(|name| format!("/v2/team/app/manifests/latest?ns={name}"));
        path.chain(ns).collect::<Vec<_>>()
    };
    let mut settings = empty();
    settings.upstream.allow_any = true;
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    for path in paths() {
        let refused = ask(&edge, &path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    edge.shutdown().await;
    assert!(near.asked().is_empty(), "{:?}", near.asked());
    // Opened, it is spoken to, over TLS only, which this one does not know.
    settings.upstream.any_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let edge = start(&settings, data.path()).await;
    let tried = ask(&edge, &paths()[0], None).await;
    assert_eq!(tried.status, StatusCode::SERVICE_UNAVAILABLE);
    edge.shutdown().await;
    settings.upstream.allow_any = false;
    listed(&mut settings, "r.example", &near);
    let edge = start(&settings, data.path()).await;
    assert_eq!(ask(&edge, &paths()[0], None).await.status, StatusCode::FORBIDDEN);
    assert!(near.asked().is_empty(), "{:?}", near.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_that_may_name_any_registry_cost_anything() {
    let mut settings = empty();
    settings.upstream.allow_any = true;
    settings.upstream.any_clients = vec!["10.0.0.0/8".parse().expect("a network")];
    let data = tempfile::tempdir().expect("directory");
    let started =
        Edge::start(&settings, data.path(), "edge", Openness::Listed, &mut Default::default()).await;
    let edge = started.expect("started");
    let from = |address: &str| {
        let mut request = Request::get("/v2/localhost:1/app/manifests/latest")
            .body(RequestBody::from(Bytes::new()))
            .expect("a request");
        let client = oci::http::Client {
            remote: format!("{address}:4000").parse().expect("an address"),
            local: ([127, 0, 0, 1], 5001).into(),
        };
        request.extensions_mut().insert(client);
        request
    };
    for (address, sentence) in
        [("127.0.0.1", "does not stand in front of"), ("10.1.2.3", "does not go there")]
    {
        let (parts, body) = edge.call(from(address)).await.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        assert_eq!(parts.status, StatusCode::FORBIDDEN, "{address}");
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(sentence), "{address}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upstream_makes_the_edge_serve_a_web_page() {
    let manifest = br#"{"schemaVersion":2,"mediaType":"text/html","layers":[{"mediaType":"text/html","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}]}"#;
    let registry = Registry::scripted(move |method, target| {
        if target.contains("/manifests/") {
            return Some(manifest_reply(method, manifest));
        }
        let html = "Content-Type: text/html\r\n";
        Some(reply(method, "200 OK", html, r#"{"name":"<script>","tags":[],"manifests":[]}"#))
    })
    .await;
    let mut settings = empty();
    listed(&mut settings, "r.example", &registry);
    let data = tempfile::tempdir().expect("directory");
    let edge = start(&settings, data.path()).await;
    let digest = Digest::sha256(b"x");
    for (path, content_type) in [
        ("manifests/latest".to_owned(), "application/octet-stream"),
        ("tags/list".to_owned(), "application/json"),
        (format!("referrers/{digest}"), "application/vnd.oci.image.index.v1+json"),
    ] {
        let answer = ask(&edge, &format!("/v2/team/app/{path}"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}
