//! Taking up a blob where it broke off.

use super::*;

fn part(content_range: &str, body: &'static str) -> Reply {
    Reply::new("206 Partial Content").header("Content-Range", content_range).body(body)
}

#[tokio::test]
async fn a_blob_is_taken_up_at_the_byte_reached() {
    let registry = Registry::start(|_| part("bytes 2-3/4", "ob")).await;
    let answer = blob(&client(&registry), 2).await.expect("served");
    assert_eq!((answer.offset, answer.length), (2, Some(4)));
    assert_eq!(bytes(answer).await.expect("whole"), b"ob");
    let [asked] = &registry.requests()[..] else { panic!("{:?}", registry.asked()) };
    assert_eq!(asked.header("range"), Some("bytes=2-"));
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_part_is_asked_for_by_its_last_byte_and_known_by_what_came() {
    let registry = Registry::start(|_| part("bytes 0-1/4", "bl")).await;
    let client = client(&registry);
    let answer = client.blob(&repository(), &Digest::sha256(b"blob"), 0, Some(3)).await.expect("served");
    assert_eq!((answer.offset, answer.end, answer.length), (0, Some(2), Some(4)), "less than was asked for");
    assert_eq!(bytes(answer).await.expect("whole"), b"bl");
    assert_eq!(registry.requests()[0].header("range"), Some("bytes=0-2"));
}

#[tokio::test]
async fn the_first_request_has_no_range() {
    let registry = Registry::start(|_| Reply::ok("blob")).await;
    let answer = blob(&client(&registry), 0).await.expect("served");
    assert_eq!((answer.offset, answer.length), (0, Some(4)));
    assert_eq!(registry.requests()[0].header("range"), None);
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_known_by_the_offset() {
    let registry = Registry::start(|_| Reply::ok("blob")).await;
    let answer = blob(&client(&registry), 2).await.expect("served");
    assert_eq!((answer.offset, answer.length), (0, Some(4)));
    assert_eq!(bytes(answer).await.expect("whole"), b"blob");
}

#[tokio::test]
async fn a_length_that_is_not_told_is_unknown() {
    let registry = Registry::start(|_| part("bytes 2-3/*", "ob")).await;
    assert_eq!(blob(&client(&registry), 2).await.expect("served").length, None);
    let chunked = Registry::start(|_| {
        Reply::new("200 OK").header("Transfer-Encoding", "chunked").body("4\r\nblob\r\n0\r\n\r\n")
    })
    .await;
    let answer = blob(&client(&chunked), 0).await.expect("served");
    assert_eq!((answer.length, bytes(answer).await.expect("whole")), (None, b"blob".to_vec()));
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_a_failure() {
    for range in [
        "bytes 0-3/4",
        "bytes 1-3/4",
        "bytes 3-3/4",
        "bytes 2-9/4",
        "bytes 3-2/4",
        "bytes */4",
        "lines 2-3/4",
        "bytes 2-18446744073709551615/*",
        "2-3",
        "",
    ] {
        let registry = Registry::start(move |_| part(range, "ob")).await;
        let failed = blob(&client(&registry), 2).await;
        assert!(matches!(failed, Err(FetchError::Failed(Failure::Unreadable(_)))), "{range:?}: {failed:?}");
    }
    let registry = Registry::start(|_| Reply::new("206 Partial Content").body("ob")).await;
    let failed = blob(&client(&registry), 2).await;
    assert!(matches!(failed, Err(FetchError::Failed(Failure::Unreadable(_)))), "no range at all: {failed:?}");
}

#[tokio::test]
async fn a_range_that_the_registry_does_not_have_says_nothing_about_the_blob() {
    let registry = Registry::start(|_| {
        Reply::error("416 Range Not Satisfiable", "RANGE_INVALID").header("Content-Range", "bytes */4")
    })
    .await;
    let failed = blob(&client(&registry), 9).await;
    let Err(FetchError::Failed(Failure::Status(status))) = failed else { panic!("{failed:?}") };
    assert_eq!(status, 416);
}
