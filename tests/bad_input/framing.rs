//! Requests that two readers could read in two ways: each is answered once, with a refusal, and nothing that was put
//! behind it is taken for a request (RFC 9112, sections 2.2, 3.2, 5, 6 and 11.2).

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use super::refusal::{Stored, assert_serves};
use crate::harness::{
    http::{location_of, request},
    node::{Node, Plan},
    process::PATIENCE,
};

/// What is put behind a request, and must not be answered: nobody else asks for this.
const HIDDEN: &str = "GET /v2/hidden/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// An origin that soon drops clients of whom it expects more.
fn origin() -> Node {
    Plan::origin().set("limits.header_timeout", "1s").set("limits.idle_timeout", "1s").start()
}

/// Sends bytes, and gives all that is answered until the node closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // The node may refuse before it has everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!answer.is_empty(), "{error}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many answers are in what came.
fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

/// Panics unless `bytes` get one answer, which is a refusal with that status and an error document, and nothing more.
#[track_caller]
fn assert_one_refusal(node: &Node, what: &str, bytes: &[u8], statuses: &[&str]) {
    let answer = exchange(node.address, bytes);
    let shown =
        format!("{what}: {:?} gave {answer}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    assert_eq!(answers(&answer), 1, "{shown}");
    assert!(statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))), "{shown}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown}"));
    assert!(head.to_lowercase().contains("content-type: application/json"), "{shown}");
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{shown}"));
    let message = document["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{shown}"));
    assert!(document["errors"][0]["code"].is_string() && message.contains(' '), "{shown}");
}

fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

#[test]
fn one_host_is_needed_and_no_more() {
    let origin = origin();
    for (what, hosts) in [
        ("two hosts", "Host: a\r\nHost: b\r\n"),
        ("the same host twice", "Host: a\r\nHost: a\r\n"),
        ("two hosts apart", "Host: a\r\nAccept: */*\r\nhOST: b\r\n"),
        ("no host", ""),
        ("a host with a user", "Host: user@a\r\n"),
        ("a host that is no text", "Host: \u{fffd}\r\n"),
    ] {
        let bytes = format!("GET /v2/ HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_one_refusal(&origin, what, bytes.as_bytes(), &["400"]);
    }
    assert_serves(&origin);
}

#[test]
fn a_request_line_or_header_that_is_none_is_refused() {
    let origin = origin();
    for (what, text) in [
        ("a folded header", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n"),
        ("a folded host", "GET /v2/ HTTP/1.1\r\nHost:\r\n x\r\n\r\n"),
        ("a folded first header", "GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n"),
        ("a blank before the colon", "GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n"),
        ("a header without a colon", "GET /v2/ HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n"),
        ("a header without a name", "GET /v2/ HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n"),
        ("a lone CR in a value", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: a\rX-B: b\r\n\r\n"),
        ("a NUL in a value", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n"),
        ("a NUL in a name", "GET /v2/ HTTP/1.1\r\nHost: x\r\nX\0A: a\r\n\r\n"),
        ("a blank in the path", "GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a version that is none", "GET /v2/ HTTP/1.9x\r\nHost: x\r\n\r\n"),
        ("another protocol", "GET /v2/ SIP/2.0\r\nHost: x\r\n\r\n"),
        ("a method that is none", "G\u{e9}T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("no path", "GET HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}"),
        ("SSH", "SSH-2.0-OpenSSH_9.9\r\n"),
    ] {
        assert_one_refusal(&origin, what, format!("{text}{HIDDEN}").as_bytes(), &["400"]);
    }
    // HTTP/2 without a word before: no answer of HTTP/1.1 would be understood.
    let answer = exchange(origin.address, format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{HIDDEN}").as_bytes());
    assert!(answers(&answer) <= 1 && !answer.contains("NAME_UNKNOWN"), "{answer}");
    assert_serves(&origin);
}

#[test]
fn a_length_that_is_none_or_two_is_refused() {
    let origin = origin();
    for lengths in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -4\r\n",
        "Content-Length: 0x4\r\n",
        "Content-Length: 4 4\r\n",
        "Content-Length: 4\r\nContent-Length: \r\n",
        "Content-Length: four\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length : 4\r\n",
    ] {
        let bytes = format!("{}abcd{HIDDEN}", head("POST", "/v2/a/blobs/uploads/", lengths));
        assert_one_refusal(&origin, lengths, bytes.as_bytes(), &["400", "431"]);
    }
    assert_serves(&origin);
}

#[test]
fn a_coding_that_a_proxy_may_read_otherwise_is_refused() {
    let origin = origin();
    for codings in [
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunk\r\n ed\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: identity\r\n",
    ] {
        let bytes = format!("{}0\r\n\r\n{HIDDEN}", head("POST", "/v2/a/blobs/uploads/", codings));
        assert_one_refusal(&origin, codings, bytes.as_bytes(), &["400"]);
    }
    let old = format!(
        "POST /v2/a/blobs/uploads/ HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
    );
    assert_one_refusal(&origin, "chunks in HTTP/1.0", old.as_bytes(), &["400"]);
    assert_serves(&origin);
}

/// RFC 9112, section 6.3: a request with both is refused, or the coding counts and the connection is closed behind it.
#[test]
fn length_and_coding_together_never_give_two_requests() {
    let origin = origin();
    let hidden = HIDDEN.len();
    for (what, headers, body) in [
        ("CL.TE", format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + hidden), "0\r\n\r\n"),
        ("CL.TE, short", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned(), "0\r\n\r\n"),
        ("TE.CL, nothing", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(), "0\r\n\r\n"),
        (
            "TE.CL, twice",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
            "0\r\n\r\n",
        ),
    ] {
        // A request whose body is read to its end: only then could anything be taken for the next one.
        let session =
            location_of(&request(origin.address, "POST", "/v2/a/blobs/uploads/", &[], &[]).expect(202));
        let bytes = format!("{}{body}{HIDDEN}", head("PATCH", &session, &headers));
        let answer = exchange(origin.address, bytes.as_bytes());
        assert_eq!(answers(&answer), 1, "{what}: {answer}");
        assert!(!answer.contains("NAME_UNKNOWN"), "{what}: what was hidden was answered: {answer}");
    }
    assert_serves(&origin);
}

#[test]
fn chunks_that_are_none_end_the_body_and_the_connection() {
    let origin = origin();
    let before = Stored::of(&origin);
    let began = request(origin.address, "POST", "/v2/a/blobs/uploads/", &[], &[]).expect(202);
    let session = location_of(&began);
    for (what, body) in [
        ("a size in hexadecimal C", "0x4\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a signed size", "+4\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a negative size", "-4\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("no size", "\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a size beyond all numbers", "ffffffffffffffffff\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a size of more than all memory", "fffffffffffffff0\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a chunk longer than its size", "2\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a chunk shorter than its size", "8\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a bare LF behind a size", "4\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a bare LF in an extension", "4;a\nb\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a bare CR behind a size", "4\rabcd\r\n0\r\n\r\n".to_owned()),
        ("a bare LF behind a chunk", "4\r\nabcd\n0\r\n\r\n".to_owned()),
        ("no line behind a chunk", "4\r\nabcd0\r\n\r\n".to_owned()),
        ("an extension without end", format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(1 << 20))),
        ("trailers without end", format!("4\r\nabcd\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(100_000))),
    ] {
        let bytes = format!("{}{body}{HIDDEN}", head("PATCH", &session, "Transfer-Encoding: chunked\r\n"));
        let answer = exchange(origin.address, bytes.as_bytes());
        assert!(!answer.contains("NAME_UNKNOWN"), "{what}: what was hidden was answered: {answer}");
        assert!(answers(&answer) <= 1, "{what}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{what}: {answer}");
        let stands = request(origin.address, "GET", &session, &[], &[]).expect(204);
        assert_eq!(stands.header("range"), Some("0-0"), "{what}");
    }
    before.assert_nothing_more(&origin);
    assert_serves(&origin);
}

#[test]
fn a_head_without_measure_is_refused() {
    let origin = origin();
    let long = "x".repeat(100_000);
    for (what, text) in [
        ("a long path", format!("GET /v2/{long}/manifests/x HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("a long query", format!("GET /v2/?{long} HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("a long header", head("GET", "/v2/", &format!("X-A: {long}\r\n"))),
        ("a long name of a header", head("GET", "/v2/", &format!("{long}: a\r\n"))),
        ("many headers", head("GET", "/v2/", &"X-A: b\r\n".repeat(500))),
        ("headers without end", head("GET", "/v2/", &"X-A: b\r\n".repeat(1_000_000))),
    ] {
        assert_one_refusal(&origin, what, text.as_bytes(), &["431", "414", "400"]);
    }
    assert_serves(&origin);
}

#[test]
fn requests_one_behind_another_are_answered_in_order() {
    // What the refusals above must not break: honest pipelining, and one LF for a line, which RFC 9112 leaves to us.
    let origin = origin();
    let two = format!(
        "{}{}",
        head("GET", "/v2/", ""),
        head("GET", "/v2/hidden/tags/list", "Connection: close\r\n")
    );
    let answer = exchange(origin.address, two.as_bytes());
    assert_eq!(answers(&answer), 2, "{answer}");
    assert!(answer.contains("NAME_UNKNOWN"), "{answer}");
    let bare = exchange(origin.address, b"GET /v2/ HTTP/1.1\nHost: x\nConnection: close\n\n");
    assert_eq!(answers(&bare), 1, "{bare}");
    assert!(bare.starts_with("HTTP/1.1 200") || bare.starts_with("HTTP/1.1 400"), "{bare}");
}
