//! Deleting, and what the collector does with what is left.

use super::*;
use crate::settings::{GcSettings, RegistrySettings};

/// Pushes an image of one layer under `tag`.
async fn push(site: &Site, tag: &str, layer: &[u8]) -> Digest {
    for blob in [b"{}".as_slice(), layer] {
        let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256(blob));
        assert_eq!(site.send("POST", &path, blob).await.status, 201);
    }
    let manifest = image(b"{}", &[layer], None);
    assert_eq!(site.send("PUT", &format!("/v2/team/app/manifests/{tag}"), &manifest).await.status, 201);
    Digest::sha256(&manifest)
}

#[tokio::test]
async fn a_tag_goes_alone_and_a_manifest_with_its_tags() {
    let site = Site::new().await;
    let digest = push(&site, "v1", b"layer").await;
    push(&site, "v2", b"layer").await;
    assert_eq!(site.send("DELETE", "/v2/team/app/manifests/v1", b"").await.status, 202);
    assert_eq!(site.send("DELETE", "/v2/team/app/manifests/v1", b"").await.code(), "MANIFEST_UNKNOWN");
    let layer = format!("/v2/team/app/blobs/{}", Digest::sha256(b"layer"));
    let needed = site.send("DELETE", &layer, b"").await;
    assert_eq!((needed.status, needed.code().as_str()), (405, "UNSUPPORTED"));
    assert_eq!(site.send("GET", "/v2/team/app/manifests/v2", b"").await.status, 200);
    assert_eq!(site.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), b"").await.status, 202);
    assert_eq!(site.send("GET", "/v2/team/app/manifests/v2", b"").await.status, 404);
    assert_eq!(
        site.send("GET", "/v2/team/app/tags/list", b"").await.body,
        r#"{"name":"team/app","tags":[]}"#
    );
    assert_eq!(site.send("DELETE", &layer, b"").await.status, 202);
    assert_eq!(site.send("GET", &layer, b"").await.status, 404);
}

#[tokio::test]
async fn deleting_can_be_switched_off() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let registry = RegistrySettings { delete: false, ..RegistrySettings::default() };
    let site = Site { origin: start(Settings { registry, ..Settings::default() }, dir.path()).await, dir };
    push(&site, "v1", b"layer").await;
    let refused = site.send("DELETE", "/v2/team/app/manifests/v1", b"").await;
    assert_eq!((refused.status, refused.code().as_str()), (405, "UNSUPPORTED"));
    assert_eq!(site.send("GET", "/v2/team/app/manifests/v1", b"").await.status, 200);
}

#[tokio::test]
async fn the_collector_runs_by_itself_and_frees_what_was_deleted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let short = || "20ms".parse().expect("a duration");
    let gc = GcSettings { grace: short(), interval: short(), ..GcSettings::default() };
    let site = Site { origin: start(Settings { gc, ..Settings::default() }, dir.path()).await, dir };
    // Without a grace worth its name, a push may have to be made again.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let manifest = image(b"{}", &[b"layer"], None);
    loop {
        for blob in [b"{}".as_slice(), b"layer"] {
            site.send("POST", &format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256(blob)), blob)
                .await;
        }
        if site.send("PUT", "/v2/team/app/manifests/v1", &manifest).await.status == 201 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no push succeeded");
    }
    let digest = Digest::sha256(&manifest);
    let runs = &site.origin.registry.metrics.gc_runs;
    let before = runs.get();
    while runs.get() < before + 3 {
        assert!(std::time::Instant::now() < deadline, "the collector does not run");
        tokio::task::yield_now().await;
    }
    let layer = format!("/v2/team/app/blobs/{}", Digest::sha256(b"layer"));
    assert_eq!(site.send("GET", &layer, b"").await.body, "layer", "what a manifest needs stays");
    assert_eq!(site.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), b"").await.status, 202);
    while site.objects() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} objects were never freed", site.objects());
        tokio::task::yield_now().await;
    }
    assert_eq!(site.origin.reclaimable().await.expect("answered"), []);
    site.origin.shutdown().await;
}
