//! Registries that answer 200 and lie: other bytes, fewer, more, without end, in another coding, or a web page.

use super::*;

fn by_digest() -> Reference {
    Reference::Digest(Digest::sha256(MANIFEST))
}

async fn manifest_from(reply: Reply, reference: &Reference) -> Result<FetchedManifest, FetchError> {
    let registry = Registry::start(move |_| reply.clone()).await;
    client(&registry).manifest(&repository(), reference, PATIENT).await
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says_or_nothing() {
    let good = manifest_from(Reply::ok(MANIFEST), &by_digest()).await.expect("served");
    assert_eq!((good.digest, good.bytes.as_ref()), (Digest::sha256(MANIFEST), MANIFEST));
    let other = manifest_from(Reply::ok("{}"), &by_digest()).await;
    let Err(FetchError::Failed(Failure::WrongDigest { wanted, got })) = other else { panic!("{other:?}") };
    assert_eq!((wanted, got), (Digest::sha256(MANIFEST), Digest::sha256(b"{}")));
}

#[tokio::test]
async fn a_tags_manifest_is_what_the_registry_itself_says_that_it_is() {
    let told = |digest: &Digest| Reply::ok(MANIFEST).header("Docker-Content-Digest", digest.as_str());
    let good = manifest_from(told(&Digest::sha256(MANIFEST)), &latest()).await.expect("served");
    assert_eq!(good.digest, Digest::sha256(MANIFEST));
    let lie = manifest_from(told(&Digest::sha256(b"other")), &latest()).await;
    assert!(matches!(lie, Err(FetchError::Failed(Failure::WrongDigest { .. }))), "{lie:?}");
    let long = Digest::of(crate::digest::Algorithm::Sha512, MANIFEST);
    assert_eq!(manifest_from(told(&long), &latest()).await.expect("served").digest, long);
    let untold = manifest_from(Reply::ok(MANIFEST), &latest()).await.expect("served");
    assert_eq!(untold.digest, Digest::sha256(MANIFEST));
}

#[tokio::test]
async fn a_web_page_is_no_manifest() {
    for content_type in ["text/html", "text/html; charset=utf-8", "Text/HTML"] {
        let page = Reply::ok("<html>please log in</html>").header("Content-Type", content_type);
        let failed = manifest_from(page, &latest()).await;
        assert!(
            matches!(failed, Err(FetchError::Failed(Failure::Unreadable(_)))),
            "{content_type}: {failed:?}"
        );
    }
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_silence() {
    for short in [
        Reply::ok(MANIFEST).header("Content-Length", "1000"),
        Reply::new("200 OK").header("Transfer-Encoding", "chunked").body("4\r\nabcd\r\n"),
        Reply::new("200 OK").header("Transfer-Encoding", "chunked").body("zz\r\nabcd\r\n"),
    ] {
        let failed = manifest_from(short, &latest()).await;
        assert!(matches!(failed, Err(FetchError::Silent(Silence::Unreachable(_)))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_manifest_longer_than_the_limit_is_not_read() {
    let endless = Reply::endless("200 OK");
    let unbounded = Reply::raw("HTTP/1.1 200 OK\r\n\r\n").repeating(&[b'a'; 64 * 1024]);
    let announced = Reply::ok("").header("Content-Length", "99999999999");
    for reply in [endless, unbounded, announced] {
        let failed = manifest_from(reply, &latest()).await;
        assert!(matches!(failed, Err(FetchError::Failed(Failure::TooLarge(_)))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_stops_coming_is_left() {
    let registry = Registry::start(|_| Reply::ok(MANIFEST).header("Content-Length", "1000").hanging()).await;
    let failed = tokio::time::timeout(PATIENT, manifest(&impatient(&registry))).await;
    let failed = failed.expect("ends by itself");
    assert!(matches!(failed, Err(FetchError::Silent(Silence::NoAnswer(_)))), "{failed:?}");
}

#[tokio::test]
async fn a_blob_that_is_shorter_than_announced_ends_with_an_error() {
    let registry = Registry::start(|_| Reply::ok("blo").header("Content-Length", "4")).await;
    let answer = blob(&client(&registry), 0).await.expect("it begins well");
    assert_eq!(answer.length, Some(4));
    bytes(answer).await.expect_err("a byte is missing");
}

#[tokio::test]
async fn a_blob_with_more_behind_it_is_as_long_as_announced() {
    let registry = Registry::start(|_| Reply::ok("blob and more").header("Content-Length", "4")).await;
    let answer = blob(&client(&registry), 0).await.expect("served");
    assert_eq!(bytes(answer).await.expect("whole"), b"blob");
}

#[tokio::test]
async fn a_blob_in_another_coding_is_a_failure() {
    for coding in ["gzip", "zstd", "br", "x"] {
        let registry = Registry::start(move |_| Reply::ok("blob").header("Content-Encoding", coding)).await;
        let failed = blob(&client(&registry), 0).await;
        assert!(matches!(failed, Err(FetchError::Failed(Failure::Unreadable(_)))), "{coding}: {failed:?}");
        let length = client(&registry).head_blob(&repository(), &Digest::sha256(b"blob")).await;
        assert!(matches!(length, Err(FetchError::Failed(Failure::Unreadable(_)))), "{coding}: {length:?}");
    }
    let plain = Registry::start(|_| Reply::ok("blob").header("Content-Encoding", "identity")).await;
    blob(&client(&plain), 0).await.expect("served");
}

#[tokio::test]
async fn a_listing_that_is_no_json_is_a_failure() {
    for page in [Reply::ok("<html>"), Reply::ok(""), Reply::ok("[".repeat(100_000))] {
        let registry = Registry::start(move |_| page.clone()).await;
        let failed = client(&registry).listing(&repository(), "tags/list", None, PATIENT).await;
        assert!(matches!(failed, Err(FetchError::Failed(Failure::Unreadable(_)))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_client_shows_neither_password_nor_token_when_it_is_printed() {
    let registry = Registry::start(|_| Reply::ok(MANIFEST)).await;
    let shown = format!("{:?} {:?} {:?}", with_user(&registry), user(), config(&registry));
    assert!(!shown.contains("harbour"), "{shown}");
}
