//! Uploads in all their forms.

use super::*;
use crate::{
    database::testing::TestDatabase,
    settings::{DatabaseSettings, RegistrySettings, StorageSettings, UploadSettings},
};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

#[tokio::test]
async fn chunks_in_order_become_a_blob_and_others_are_told_where_the_upload_is() {
    let site = Site::new().await;
    let begun = site.send("POST", UPLOADS, b"").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let upload = begun.header("location").to_owned();
    let chunk =
        async |range: &str, body: &[u8]| site.with("PATCH", &upload, &[("content-range", range)], body).await;
    let first = chunk("0-2", b"abc").await;
    assert_eq!((first.status, first.header("range")), (202, "0-2"));
    for (range, body) in [("0-2", b"abc"), ("4-6", b"efg"), ("3-9", b"def"), ("x", b"def"), ("5-3", b"def")] {
        let refused = chunk(range, body).await;
        assert_eq!((refused.status, refused.header("range")), (416, "0-2"), "{range}");
        assert_eq!(refused.header("location"), upload);
    }
    assert_eq!(chunk("bytes 3-5/*", b"def").await.status, 202);
    let status = site.send("GET", &upload, b"").await;
    assert_eq!((status.status, status.header("range")), (204, "0-5"));
    let elsewhere = upload.replace("team/app", "team/other");
    assert_eq!(site.send("GET", &elsewhere, b"").await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(site.send("PUT", &upload, b"").await.code(), "DIGEST_INVALID");
    let digest = Digest::sha256(b"abcdefgh");
    let headers = [("content-range", "6-7")];
    let done = site.with("PUT", &format!("{upload}?digest={digest}"), &headers, b"gh").await;
    assert_eq!((done.status, done.header("docker-content-digest")), (201, digest.as_str()));
    assert_eq!(site.send("GET", done.header("location"), b"").await.body, "abcdefgh");
    assert_eq!(site.send("GET", &upload, b"").await.status, 404);
    assert_eq!(site.objects(), 3);
}

#[tokio::test]
async fn a_wrong_digest_makes_nothing_visible_and_gives_the_space_back() {
    let site = Site::new().await;
    let wrong = Digest::sha256(b"something else");
    let single = site.send("POST", &format!("{UPLOADS}?digest={wrong}"), b"bytes").await;
    assert_eq!((single.status, single.code().as_str()), (400, "DIGEST_INVALID"));
    let upload = site.send("POST", UPLOADS, b"").await.header("location").to_owned();
    assert_eq!(site.send("PATCH", &upload, b"by").await.status, 202);
    let put = site.send("PUT", &format!("{upload}?digest={wrong}"), b"tes").await;
    assert_eq!((put.status, put.code().as_str()), (400, "DIGEST_INVALID"));
    for digest in [wrong, Digest::sha256(b"bytes")] {
        assert_eq!(site.send("HEAD", &format!("/v2/team/app/blobs/{digest}"), b"").await.status, 404);
    }
    assert_eq!(site.send("GET", &upload, b"").await.status, 404);
    site.sweep().await;
    assert_eq!(site.objects(), 0);
}

#[tokio::test]
async fn a_blob_that_is_there_is_hashed_and_not_written_again() {
    let site = Site::new().await;
    let digest = Digest::sha256(b"bytes");
    assert_eq!(site.send("POST", &format!("{UPLOADS}?digest={digest}"), b"bytes").await.status, 201);
    let other = "/v2/other/app/blobs/uploads/";
    let lie = site.send("POST", &format!("{other}?digest={digest}"), b"bites").await;
    assert_eq!(lie.code(), "DIGEST_INVALID");
    let there = format!("/v2/other/app/blobs/{digest}");
    assert_eq!(site.send("HEAD", &there, b"").await.status, 404, "possession was not proven");
    let upload = site.send("POST", other, b"").await.header("location").to_owned();
    assert_eq!(site.send("PUT", &format!("{upload}?digest={digest}"), b"bytes").await.status, 201);
    assert_eq!(site.send("GET", &there, b"").await.body, "bytes");
    assert_eq!(site.send("GET", &upload, b"").await.status, 404, "the upload has ended");
    // Named after its bytes: written, and dropped at the end.
    let upload = site.send("POST", other, b"").await.header("location").to_owned();
    site.send("PATCH", &upload, b"bytes").await;
    assert_eq!(site.objects(), 2);
    assert_eq!(site.send("PUT", &format!("{upload}?digest={digest}"), b"").await.status, 201);
    site.sweep().await;
    assert_eq!(site.objects(), 1);
}

#[tokio::test]
async fn a_blob_is_mounted_or_a_session_is_offered() {
    let site = Site::new().await;
    let digest = Digest::sha256(b"bytes");
    site.send("POST", &format!("{UPLOADS}?digest={digest}"), b"bytes").await;
    let mount =
        async |query: &str| site.send("POST", &format!("/v2/b/blobs/uploads/?{query}"), b"").await.status;
    assert_eq!(mount(&format!("mount={digest}&from=no/such")).await, 202);
    assert_eq!(mount(&format!("mount={digest}&from=NO")).await, 202);
    assert_eq!(mount("mount=nonsense&from=team/app").await, 202);
    assert_eq!(site.send("HEAD", &format!("/v2/b/blobs/{digest}"), b"").await.status, 404);
    assert_eq!(mount(&format!("mount={digest}&from=team/app")).await, 201);
    assert_eq!(site.send("GET", &format!("/v2/b/blobs/{digest}"), b"").await.body, "bytes");
    assert_eq!(mount(&format!("mount={digest}")).await, 201);
}

#[tokio::test]
async fn another_algorithm_may_be_named_before_or_after_the_bytes() {
    use oci::digest::Algorithm::Sha512;
    let site = Site::new().await;
    let digest = Digest::of(Sha512, b"one two");
    for query in ["", "?digest-algorithm=sha512"] {
        let upload = site.send("POST", &format!("{UPLOADS}{query}"), b"").await.header("location").to_owned();
        site.send("PATCH", &upload, b"one ").await;
        let done = site.send("PUT", &format!("{upload}?digest={digest}"), b"two").await;
        assert_eq!(done.status, 201, "{query}: {done:?}");
    }
    assert_eq!(site.send("GET", &format!("/v2/team/app/blobs/{digest}"), b"").await.body, "one two");
    assert_eq!(
        site.send("POST", &format!("{UPLOADS}?digest-algorithm=md5"), b"").await.code(),
        "DIGEST_INVALID"
    );
}

#[tokio::test]
async fn an_upload_goes_on_at_another_node_and_after_a_restart() {
    for test in TestDatabase::both().await {
        let database = match test.settings.url {
            Some(_) => test.settings.clone(),
            None => DatabaseSettings {
                url: Some(format!("sqlite://{}/shared.db", test.path().display())),
                ..test.settings.clone()
            },
        };
        let storage = StorageSettings {
            url: Some(format!("file://{}/shared", test.path().display())),
            ..StorageSettings::default()
        };
        let settings = Settings { database, storage, ..Settings::default() };
        let (a, b) = (start(settings.clone(), test.path()).await, start(settings.clone(), test.path()).await);
        let upload = send(&a, "POST", UPLOADS, &[], b"").await.header("location").to_owned();
        assert_eq!(send(&a, "PATCH", &upload, &[], b"one ").await.status, 202);
        assert_eq!(send(&b, "PATCH", &upload, &[("content-range", "4-7")], b"two ").await.status, 202);
        a.shutdown().await;
        let c = start(settings, test.path()).await;
        assert_eq!(send(&c, "GET", &upload, &[], b"").await.header("range"), "0-7");
        let digest = Digest::sha256(b"one two three");
        assert_eq!(send(&c, "PUT", &format!("{upload}?digest={digest}"), &[], b"three").await.status, 201);
        let blob = format!("/v2/team/app/blobs/{digest}");
        assert_eq!(send(&b, "GET", &blob, &[], b"").await.body, "one two three");
    }
}

#[tokio::test]
async fn an_abandoned_upload_is_reaped_with_its_bytes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let upload = UploadSettings { expire: "50ms".parse().expect("a duration") };
    let site = Site { origin: start(Settings { upload, ..Settings::default() }, dir.path()).await, dir };
    let upload = site.send("POST", UPLOADS, b"").await.header("location").to_owned();
    site.send("PATCH", &upload, b"bytes").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while site.send("GET", &upload, b"").await.status != 404 || site.objects() > 0 {
        assert!(std::time::Instant::now() < deadline, "the upload was never reaped");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn large_bodies_go_through_little_memory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let registry =
        RegistrySettings { upload_memory: oci::settings::Size::mib(64), ..RegistrySettings::default() };
    let site = Site { origin: start(Settings { registry, ..Settings::default() }, dir.path()).await, dir };
    let bytes: Vec<u8> = (0..(5 << 20) + 77).map(|i: u32| i.to_le_bytes()[1]).collect();
    let digest = Digest::sha256(&bytes);
    let mut pushes = Vec::new();
    for push in 0..20 {
        let path = format!("/v2/app{push}/blobs/uploads/?digest={digest}");
        let (origin, bytes) = (site.origin.clone(), bytes.clone());
        pushes.push(tokio::spawn(async move { send(&origin, "POST", &path, &[], &bytes).await.status }));
    }
    for push in pushes {
        assert_eq!(push.await.expect("ended"), 201);
    }
    assert_eq!(site.send("GET", &format!("/v2/app7/blobs/{digest}"), b"").await.body, bytes);
    site.sweep().await;
    assert_eq!(site.objects(), 1);
}
