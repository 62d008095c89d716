//! Uploads that lie about digest, range, length or owner: refused, nothing visible, the space given back.

use super::refusal::{Stored, assert_refused, assert_serves};
use crate::harness::{
    content::digest_of,
    http::{Connection, get, location_of, request, try_request},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

const REPOSITORY: &str = "team/app";
const BYTES: &[u8] = b"0123456789";

/// Begins an upload and gives the path of its session.
fn begin(node: &Node) -> String {
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let answer = request(node.address, "POST", &path, &[], &[]).expect(202);
    location_of(&answer)
}

fn patch(node: &Node, session: &str, range: Option<&str>, body: &[u8]) -> crate::harness::http::Answer {
    let mut headers = vec![("Content-Type", "application/octet-stream")];
    headers.extend(range.map(|range| ("Content-Range", range)));
    request(node.address, "PATCH", session, &headers, body)
}

/// Panics unless the session stands at `count` bytes.
#[track_caller]
fn assert_stands_at(node: &Node, session: &str, count: usize) {
    let answer = get(node.address, session).expect(204);
    assert_eq!(answer.header("range"), Some(format!("0-{}", count.saturating_sub(1)).as_str()));
}

fn assert_absent(node: &Node, digest: &str) {
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    assert_refused(&path, &get(node.address, &path), 404, "BLOB_UNKNOWN", "");
    assert_eq!(request(node.address, "HEAD", &path, &[], &[]).status, 404);
}

#[test]
fn bytes_that_do_not_have_the_digest_become_no_blob() {
    let origin = Plan::origin().start();
    let before = Stored::of(&origin);
    let (wrong, right) = (digest_of(&b"other"[..]), digest_of(BYTES));
    let wrong512 = format!("sha512:{}", "ab".repeat(64));
    for named in [&wrong, &wrong512] {
        let single = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={named}");
        let answer = request(origin.address, "POST", &single, &[], BYTES);
        assert_refused("a single POST", &answer, 400, "DIGEST_INVALID", named);
        let session = begin(&origin);
        let answer = request(origin.address, "PUT", &format!("{session}?digest={named}"), &[], BYTES);
        assert_refused("POST and PUT", &answer, 400, "DIGEST_INVALID", named);
        let session = begin(&origin);
        patch(&origin, &session, None, BYTES).expect(202);
        let answer = request(origin.address, "PUT", &format!("{session}?digest={named}"), &[], &[]);
        assert_refused("PATCH and PUT", &answer, 400, "DIGEST_INVALID", named);
        assert_absent(&origin, named);
    }
    assert_absent(&origin, &right);
    before.assert_nothing_more(&origin);
    assert_serves(&origin);
}

#[test]
fn a_blob_that_is_there_cannot_be_claimed_with_other_bytes() {
    let origin = Plan::origin().start();
    let digest = super::refusal::push_blob(&origin, "other/app", BYTES);
    let before = Stored::of(&origin);
    let claim = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={digest}");
    let answer = request(origin.address, "POST", &claim, &[], b"I do not have it");
    assert_refused("a claim", &answer, 400, "DIGEST_INVALID", &digest);
    let session = begin(&origin);
    let answer = request(origin.address, "PUT", &format!("{session}?digest={digest}"), &[], b"nor do I");
    assert_refused("a claim by session", &answer, 400, "DIGEST_INVALID", &digest);
    assert_absent(&origin, &digest);
    before.assert_nothing_more(&origin);
}

#[test]
fn a_completion_needs_a_digest_that_is_one() {
    let origin = Plan::origin().start();
    let session = begin(&origin);
    patch(&origin, &session, None, BYTES).expect(202);
    let put = |query: &str| request(origin.address, "PUT", &format!("{session}{query}"), &[], &[]);
    assert_refused("no digest", &put(""), 400, "DIGEST_INVALID", "?digest=");
    assert_refused(
        "md5",
        &put(&format!("?digest=md5:{}", "0".repeat(32))),
        400,
        "DIGEST_INVALID",
        "sha256, sha512",
    );
    assert_refused("half a digest", &put("?digest=sha256:00"), 400, "DIGEST_INVALID", "64");
    let unknown = format!("/v2/{REPOSITORY}/blobs/uploads/?digest-algorithm=md5");
    let answer = request(origin.address, "POST", &unknown, &[], &[]);
    assert_refused("an unknown algorithm", &answer, 400, "DIGEST_INVALID", "sha256, sha512");
    // None of it was held against the session.
    assert_stands_at(&origin, &session, BYTES.len());
    put(&format!("?digest={}", digest_of(BYTES))).expect(201);
}

#[test]
fn a_chunk_that_overlaps_or_leaves_a_hole_is_refused_and_the_upload_goes_on() {
    let origin = Plan::origin().start();
    let session = begin(&origin);
    for (what, range, named) in [
        ("a hole at the start", "1-10", "begin"),
        ("backwards", "9-0", "Content-Range"),
        ("no range", "all of it", "Content-Range"),
        ("negative", "-5-4", "Content-Range"),
        ("a sign", "+0-9", "Content-Range"),
        ("longer than the body", "0-10", "Content-Length"),
        ("shorter than the body", "0-8", "Content-Length"),
        ("beyond all numbers", "0-18446744073709551615", "Content-Range"),
        ("far beyond all numbers", "99999999999999999999999-99999999999999999999999", "Content-Range"),
        ("two", "0-4,5-9", "Content-Range"),
    ] {
        let answer = patch(&origin, &session, Some(range), BYTES);
        assert_refused(what, &answer, 416, "RANGE_INVALID|BLOB_UPLOAD_INVALID", named);
        assert_stands_at(&origin, &session, 0);
    }
    patch(&origin, &session, Some("0-9"), BYTES).expect(202);
    for (what, range) in
        [("the same again", "0-9"), ("an overlap", "5-14"), ("a hole", "11-20"), ("far ahead", "1000-1009")]
    {
        let answer = patch(&origin, &session, Some(range), BYTES);
        assert_refused(what, &answer, 416, "RANGE_INVALID|BLOB_UPLOAD_INVALID", "begin");
        assert_eq!(answer.header("range"), Some("0-9"), "{what}: where it stands");
        assert_eq!(location_of(&answer), session, "{what}");
        let last = format!("{session}?digest={}", digest_of(BYTES));
        let answer = request(origin.address, "PUT", &last, &[("Content-Range", range)], BYTES);
        assert_refused(what, &answer, 416, "RANGE_INVALID|BLOB_UPLOAD_INVALID", "begin");
        assert_stands_at(&origin, &session, 10);
    }
    patch(&origin, &session, Some("10-19"), BYTES).expect(202);
    let whole = [BYTES, BYTES].concat();
    let digest = digest_of(whole.as_slice());
    request(origin.address, "PUT", &format!("{session}?digest={digest}"), &[], &[]).expect(201);
    assert_eq!(get(origin.address, &format!("/v2/{REPOSITORY}/blobs/{digest}")).body, whole);
}

#[test]
fn a_streamed_chunk_must_be_as_long_as_its_range() {
    let origin = Plan::origin().start();
    let session = begin(&origin);
    for range in ["0-3", "0-99"] {
        let mut connection = Connection::open(origin.address).expect("connected");
        let headers = [("Content-Range", range), ("Transfer-Encoding", "chunked"), ("Connection", "close")];
        connection.send_head("PATCH", &session, &headers).expect("sent");
        connection.send(b"a\r\n0123456789\r\n0\r\n\r\n").expect("sent");
        let answer = connection.read_answer().expect("answered");
        assert_refused(range, &answer, 416, "RANGE_INVALID|BLOB_UPLOAD_INVALID", "Content-Range");
        assert_stands_at(&origin, &session, 0);
    }
}

#[test]
fn an_upload_of_another_repository_is_unknown_here() {
    let origin = Plan::origin().start();
    let session = begin(&origin);
    patch(&origin, &session, None, BYTES).expect(202);
    let id = session.rsplit('/').next().expect("an id");
    let digest = digest_of(BYTES);
    for elsewhere in ["other/app", "team", "team/app/x"] {
        let path = format!("/v2/{elsewhere}/blobs/uploads/{id}");
        for (method, path, body) in [
            ("GET", path.clone(), &b""[..]),
            ("PATCH", path.clone(), BYTES),
            ("PUT", format!("{path}?digest={digest}"), b""),
            ("DELETE", path.clone(), b""),
        ] {
            let answer = request(origin.address, method, &path, &[], body);
            assert_refused(&format!("{method} {path}"), &answer, 404, "BLOB_UPLOAD_UNKNOWN", "upload");
        }
        let blob = get(origin.address, &format!("/v2/{elsewhere}/blobs/{digest}"));
        assert_eq!(blob.status, 404, "{}", blob.text());
    }
    assert_stands_at(&origin, &session, BYTES.len());
    request(origin.address, "PUT", &format!("{session}?digest={digest}"), &[], &[]).expect(201);
    // What is over is unknown too.
    let answer = patch(&origin, &session, None, BYTES);
    assert_refused("a completed upload", &answer, 404, "BLOB_UPLOAD_UNKNOWN", "upload");
}

#[test]
fn an_upload_id_that_nobody_gave_is_unknown() {
    let origin = Plan::origin().start();
    let long = "x".repeat(4000);
    for id in ["x", "0", "..", "%2e%2e", "'%20OR%201=1--", "00000000-0000-0000-0000-000000000000", &long] {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/{id}");
        let answer = patch(&origin, &path, None, BYTES);
        assert_refused(id, &answer, 404, "BLOB_UPLOAD_UNKNOWN", "upload");
    }
    assert_serves(&origin);
}

#[test]
fn a_body_shorter_than_its_length_leaves_nothing() {
    let origin = Plan::origin().start();
    let before = Stored::of(&origin);
    let session = begin(&origin);
    let single = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", digest_of(BYTES));
    let complete = format!("{session}?digest={}", digest_of(BYTES));
    for (method, path) in [("PATCH", &session), ("PUT", &complete), ("POST", &single)] {
        let mut connection = Connection::open(origin.address).expect("connected");
        connection.send_head(method, path, &[("Content-Length", "2000000")]).expect("sent");
        // More than one frame, so that an object was begun.
        connection.send(&vec![7; 1_500_000]).expect("sent");
        drop(connection);
        assert_stands_at(&origin, &session, 0);
        before.assert_nothing_more(&origin);
    }
    assert_absent(&origin, &digest_of(BYTES));
    // The session is as good as before.
    request(origin.address, "PUT", &complete, &[], BYTES).expect(201);
}

#[test]
fn a_body_longer_than_its_length_is_cut_there() {
    let origin = Plan::origin().start();
    let session = begin(&origin);
    let mut connection = Connection::open(origin.address).expect("connected");
    connection.send_head("PATCH", &session, &[("Content-Length", "4")]).expect("sent");
    connection.send(&[BYTES, b"\r\n\r\n"].concat()).expect("sent");
    let answer = connection.read_answer().expect("answered");
    assert_eq!(answer.status, 202, "{}", answer.text());
    // What is behind is no request.
    let rest = connection.read_answer().expect("answered");
    assert_refused("the rest", &rest, 400, "BAD_REQUEST", "HTTP");
    assert_stands_at(&origin, &session, 4);
}

#[test]
fn a_body_that_stops_coming_is_given_up_with_a_word() {
    let origin = Plan::origin().set("limits.idle_timeout", "1s").start();
    let before = Stored::of(&origin);
    let session = begin(&origin);
    let heads = [("Content-Length", "2000000"), ("Transfer-Encoding", "chunked")];
    for header in heads {
        let mut connection = Connection::open(origin.address).expect("connected");
        connection.send_head("PATCH", &session, &[header]).expect("sent");
        connection.send(b"5\r\nabcde\r\n").expect("sent");
        let answer = connection.read_answer().expect("answered");
        assert_refused(header.0, &answer, 408, "REQUEST_TIMEOUT", "slowly");
        assert_stands_at(&origin, &session, 0);
    }
    before.assert_nothing_more(&origin);
    assert_serves(&origin);
}

#[test]
fn a_body_that_never_ends_does_not_hold_up_an_answer_that_needs_none() {
    let origin = Plan::origin().start();
    let requests = [
        ("GET", "/v2/", 200),
        ("GET", "/v2/nobody/manifests/x", 404),
        ("DELETE", "/v2/nobody/manifests/x", 404),
        ("POST", "/v2/", 405),
        ("PUT", "/v2/A/manifests/x", 400),
    ];
    for (method, path, status) in requests {
        let mut connection = Connection::open(origin.address).expect("connected");
        connection.send_head(method, path, &[("Transfer-Encoding", "chunked")]).expect("sent");
        connection.send(b"5\r\nabcde\r\n").expect("sent");
        let answer = connection.read_answer().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        // The node closes it after the moment that it leaves a client to read the answer.
        let piece = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        wait_for("a body without end is no longer taken", PATIENCE, || connection.send(&piece).err());
    }
    assert_serves(&origin);
}

#[test]
fn a_killed_client_leaves_no_object_behind_a_running_upload() {
    let origin = Plan::origin().start();
    let before = Stored::of(&origin);
    let session = begin(&origin);
    let mut connection = Connection::open(origin.address).expect("connected");
    connection.send_head("PATCH", &session, &[("Transfer-Encoding", "chunked")]).expect("sent");
    let piece = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
    for _ in 0..100 {
        connection.send(&piece).expect("taken");
    }
    wait_for("the bytes reach the store", PATIENCE, || (Stored::of(&origin) != before).then_some(()));
    drop(connection);
    before.assert_nothing_more(&origin);
    request(origin.address, "DELETE", &session, &[], &[]).expect(204);
    let gone = try_request(origin.address, "GET", &session, &[], &[]).expect("answered");
    assert_refused("a cancelled upload", &gone, 404, "BLOB_UPLOAD_UNKNOWN", "upload");
}
