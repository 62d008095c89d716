//! The endpoints over a real database and directory, without a network.

mod access;
mod deleting;
pub(crate) mod guarded;
mod uploading;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use oci::{
    digest::Digest,
    http::{Body, RequestBody, body::collect},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Openness, Origin, Reach, Scheme, settings::Settings};

const REACH: Reach = Reach { openness: Openness::Everybody, scheme: Scheme::Http };

/// An origin in a directory of its own.
pub(super) struct Site {
    pub(super) origin: Arc<Origin>,
    pub(super) dir: TempDir,
}

pub(super) async fn start(settings: Settings, dir: &Path) -> Arc<Origin> {
    let mut metrics = prometheus_client::registry::Registry::default();
    Origin::start(settings, dir, "test", REACH, &mut metrics).await.expect("starts")
}

impl Site {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self { origin: start(Settings::default(), dir.path()).await, dir }
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        send(&self.origin, method, path, &[], body).await
    }

    pub(super) async fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        send(&self.origin, method, path, headers, body).await
    }

    /// Objects in the storage, staged ones included.
    pub(super) fn objects(&self) -> usize {
        let shards = std::fs::read_dir(self.dir.path().join("objects")).expect("readable");
        shards
            .map(|shard| std::fs::read_dir(shard.expect("entry").path()).expect("a directory").count())
            .sum()
    }

    /// Deletes what is garbage now.
    pub(super) async fn sweep(&self) {
        self.origin.registry.jobs.sweep().await.expect("swept");
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Response<()>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let name: HeaderName = name.parse().expect("a header's name");
        self.head.headers().get(name).map_or("", |value| value.to_str().expect("visible ASCII"))
    }

    pub(crate) fn code(&self) -> String {
        let document: Value = serde_json::from_slice(&self.body).expect("an error document");
        document["errors"][0]["code"].as_str().expect("a code").to_owned()
    }
}

pub(super) async fn send(
    origin: &Origin,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(RequestBody::from(Bytes::copy_from_slice(body))).expect("a request");
    let (head, body): (_, Body) = origin.handle(request).await.into_parts();
    let body = collect(body, 64 << 20).await.expect("the body is whole");
    Answer { status: head.status.as_u16(), head: Response::from_parts(head, ()), body }
}

#[tokio::test]
async fn a_page_of_referrers_is_no_larger_than_clients_take() {
    let site = Site::new().await;
    let subject = Digest::sha256(b"subject");
    for entry in 0..5 {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "subject": {"mediaType": "a/b", "digest": subject, "size": 1},
            "annotations": {"note": "x".repeat(1_500_000), "entry": entry.to_string()},
        });
        let path = format!("/v2/team/app/manifests/v{entry}");
        assert_eq!(site.send("PUT", &path, manifest.to_string().as_bytes()).await.status, 201);
    }
    let (mut next, mut found, mut pages) = (format!("/v2/team/app/referrers/{subject}"), 0, 0);
    while !next.is_empty() {
        let page = site.send("GET", &next, b"").await;
        assert!(page.body.len() <= 4 << 20, "{}", page.body.len());
        let index: Value = serde_json::from_slice(&page.body).expect("an index");
        found += index["manifests"].as_array().expect("a list").len();
        pages += 1;
        next = page.header("link").split_once('>').map_or(String::new(), |(link, _)| link[1..].to_owned());
    }
    assert_eq!((found, pages), (5, 3));
}

/// An image manifest of these blobs.
pub(super) fn image(config: &[u8], layers: &[&[u8]], subject: Option<&Digest>) -> Vec<u8> {
    let descriptor =
        |bytes: &[u8]| json!({"mediaType": "a/b", "digest": Digest::sha256(bytes), "size": bytes.len()});
    let mut document = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(config), "layers": layers.iter().map(|layer| descriptor(layer)).collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        document["subject"] = json!({"mediaType": "a/b", "digest": subject, "size": 1});
    }
    document.to_string().into_bytes()
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled_byte_for_byte() {
    let site = Site::new().await;
    for blob in [b"config".as_slice(), b"layer"] {
        let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256(blob));
        assert_eq!(site.send("POST", &path, blob).await.status, 201);
    }
    let manifest = image(b"config", &[b"layer"], None);
    let digest = Digest::sha256(&manifest);
    let path = format!("/v2/team/app/manifests/{digest}?tag=v1&tag=latest");
    let put = site.send("PUT", &path, &manifest).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(put.header("location"), format!("/v2/team/app/manifests/{digest}"));
    assert_eq!(put.head.headers().get_all("oci-tag").iter().count(), 2);
    for reference in ["v1", "latest", digest.as_str()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let get = site.send("GET", &path, b"").await;
        assert_eq!((get.status, &get.body[..]), (200, &manifest[..]));
        let head = site.send("HEAD", &path, b"").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for answer in [&get, &head] {
            assert_eq!(answer.header("content-type"), "application/vnd.oci.image.manifest.v1+json");
            assert_eq!(answer.header("docker-content-digest"), digest.as_str());
            assert_eq!(answer.header("etag"), format!("\"{digest}\""));
            assert_eq!(answer.header("content-length"), manifest.len().to_string());
        }
        let etag = format!("\"{digest}\"");
        assert_eq!(site.with("GET", &path, &[("if-none-match", &etag)], b"").await.status, 304);
    }
    let layer = format!("/v2/team/app/blobs/{}", Digest::sha256(b"layer"));
    let part = site.with("GET", &layer, &[("range", "bytes=1-2")], b"").await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &b"ay"[..], "bytes 1-2/5"));
    assert_eq!(site.with("GET", &layer, &[("range", "bytes=0-0,2-3")], b"").await.body, "layer");
    assert_eq!(site.with("GET", &layer, &[("range", "bytes=5-")], b"").await.status, 416);
    assert_eq!(site.origin.registry.metrics.blob_bytes_served.get(), 7);
    assert_eq!(
        site.send("GET", "/v2/team/app/tags/list?n=1", b"").await.header("link"),
        "</v2/team/app/tags/list?n=1&last=latest>; rel=\"next\""
    );
    assert_eq!(site.send("GET", "/v2/team/app/tags/list?n=x", b"").await.code(), "PAGINATION_NUMBER_INVALID");
    assert_eq!(site.send("GET", "/v2/other/tags/list", b"").await.code(), "NAME_UNKNOWN");
    assert_eq!(site.send("GET", "/v2/_catalog", b"").await.body, r#"{"repositories":["team/app"]}"#);
}

#[tokio::test]
async fn manifests_that_lie_are_refused_and_leave_nothing() {
    let site = Site::new().await;
    let put = async |reference: &str, headers: &[(&str, &str)], body: &[u8]| {
        site.with("PUT", &format!("/v2/team/app/manifests/{reference}"), headers, body).await
    };
    let manifest = image(b"config", &[], None);
    let missing = put("v1", &[], &manifest).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    assert!(String::from_utf8_lossy(&missing.body).contains(Digest::sha256(b"config").as_str()));
    assert_eq!(put(Digest::sha256(b"x").as_str(), &[], &manifest).await.code(), "DIGEST_INVALID");
    assert_eq!(put("v1", &[("content-type", "text/plain")], &manifest).await.code(), "MANIFEST_INVALID");
    assert_eq!(put("v1", &[], b"<html>").await.code(), "MANIFEST_INVALID");
    let control = br#"{"mediaType":"a/\u0000b","layers":[]}"#;
    assert_eq!(put("v1", &[], control).await.code(), "MANIFEST_INVALID");
    let large = put("v1", &[], &vec![b' '; (4 << 20) + 1]).await;
    assert_eq!((large.status, large.code().as_str()), (413, "SIZE_INVALID"));
    assert_eq!(put("v1?tag=-x", &[], &manifest).await.code(), "TAG_INVALID");
    assert_eq!(site.send("GET", "/v2/_catalog", b"").await.body, r#"{"repositories":[]}"#);
    let allowed = site.send("POST", "/v2/team/app/manifests/v1", b"").await;
    assert_eq!((allowed.status, allowed.header("allow")), (405, "GET, HEAD, PUT, DELETE"));
}

#[tokio::test]
async fn referrers_are_listed_page_by_page_with_those_of_the_tag_schema() {
    let site = Site::new().await;
    let subject = Digest::sha256(b"subject");
    let mut expected = Vec::new();
    for layer in [b"1".as_slice(), b"2", b"3"] {
        for blob in [b"{}".as_slice(), layer] {
            let path = format!("/v2/team/app/blobs/uploads/?digest={}", Digest::sha256(blob));
            assert_eq!(site.send("POST", &path, blob).await.status, 201);
        }
        let manifest = image(b"{}", &[layer], Some(&subject));
        let digest = Digest::sha256(&manifest);
        let put = site.send("PUT", &format!("/v2/team/app/manifests/{digest}"), &manifest).await;
        assert_eq!((put.status, put.header("oci-subject")), (201, subject.as_str()));
        expected.push(digest.to_string());
    }
    let older = Digest::sha256(b"older");
    let tagged = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {"mediaType": "x/y", "digest": older, "size": 9, "artifactType": "sig/x"},
            {"mediaType": "x/y", "digest": expected[0], "size": 9},
        ],
    });
    let path = format!("/v2/team/app/manifests/sha256-{}", subject.hex());
    assert_eq!(site.send("PUT", &path, tagged.to_string().as_bytes()).await.status, 201);
    expected.push(older.to_string());
    expected.sort();

    let base = format!("/v2/team/app/referrers/{subject}");
    let mut next = format!("{base}?n=1");
    let mut found = Vec::new();
    while !next.is_empty() {
        let page = site.send("GET", &next, b"").await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, "application/vnd.oci.image.index.v1+json")
        );
        let index: Value = serde_json::from_slice(&page.body).expect("an index");
        found.extend(
            index["manifests"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|d| d["digest"].as_str().expect("text").to_owned()),
        );
        next = page.header("link").split_once('>').map_or(String::new(), |(link, _)| link[1..].to_owned());
    }
    assert_eq!(found, expected);
    let filtered = site.send("GET", &format!("{base}?artifactType=sig/x"), b"").await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let index: Value = serde_json::from_slice(&filtered.body).expect("an index");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    let none = site.send("GET", &format!("/v2/never/heard/referrers/{subject}"), b"").await;
    assert_eq!(none.status, StatusCode::OK.as_u16());
    assert_eq!(site.send("GET", "/v2/a/referrers/sha256:1", b"").await.status, 400);
    assert_eq!(site.send("GET", &format!("{base}?artifactType=%00"), b"").await.status, 400);
    assert_eq!(site.send("GET", "/v2/team/app/tags/list?last=%00", b"").await.status, 400);
}
