//! Upstreams that lie about blobs: nobody ever gets the last byte of a wrong one, nothing of it is kept, and the right
//! bytes come as soon as the upstream has them.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    refusal::{assert_refused, wait_until_downloads_end},
    upstream::{Asked, Reply, Upstream, blob_reply, honest},
};
use crate::harness::{
    content::digest_of,
    http::{Answer, Connection, get, request},
    image::{Image, Typed},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

/// More than a socket and a frame hold.
const LAYER: usize = 3_000_000;

/// A lie about a blob, given the true bytes.
type Lie = (&'static str, fn(&Asked, &[u8]) -> Reply);

fn edge(upstream: &Upstream) -> Node {
    Plan::edge(upstream.address)
        .set("download.first_byte", "1s")
        .set("download.stall", "500ms")
        .set("download.tries", "2")
        .set("download.avoid", "100ms")
        .start()
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Lies that begin like an answer.
const LIES: [Lie; 14] = [
    ("the first byte is wrong", |asked, bytes| blob_reply(&changed(bytes, 0), asked)),
    ("the last byte is wrong", |asked, bytes| blob_reply(&changed(bytes, bytes.len() - 1), asked)),
    ("other bytes of that length", |asked, bytes| blob_reply(&vec![b'x'; bytes.len()], asked)),
    ("a byte less", |asked, bytes| blob_reply(&bytes[..bytes.len() - 1], asked)),
    ("a byte more", |asked, bytes| blob_reply(&[bytes, b"x"].concat(), asked)),
    ("a byte more, without a length", |_, bytes| {
        Reply::raw(&[b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", bytes, b"x"].concat())
    }),
    ("a body without end", |_, _| Reply::endless()),
    ("half of it, again and again", |_, bytes| {
        Reply::new("200 OK")
            .header("Content-Length", &bytes.len().to_string())
            .body(&bytes[..bytes.len() / 2])
    }),
    ("half of it, and then silence", |_, bytes| {
        Reply::new("200 OK")
            .header("Content-Length", &bytes.len().to_string())
            .body(&bytes[..bytes.len() / 2])
            .hanging()
    }),
    ("a wrong half, and then nothing", |_, bytes| {
        Reply::new("200 OK")
            .header("Content-Length", &bytes.len().to_string())
            .body(vec![b'x'; bytes.len() / 2])
    }),
    ("half of it, and then another part", |asked, bytes| match asked.offset() {
        0 => Reply::new("200 OK")
            .header("Content-Length", &bytes.len().to_string())
            .body(&bytes[..bytes.len() / 2]),
        _ => Reply::new("206 Partial Content")
            .header("Content-Range", &format!("bytes 0-9/{}", bytes.len()))
            .body("0123456789"),
    }),
    ("half of it, and then wrong bytes", |asked, bytes| match asked.offset() {
        0 => Reply::new("200 OK")
            .header("Content-Length", &bytes.len().to_string())
            .body(&bytes[..bytes.len() / 2]),
        _ => blob_reply(&vec![b'x'; bytes.len()], asked),
    }),
    ("a web page", |_, _| Reply::page("200 OK")),
    ("nothing", |_, _| Reply::new("200 OK")),
];

/// Asks for a blob, and gives what came: the answer, or how much of it before the connection closed.
fn ask(what: &str, edge: &Node, digest: &str) -> Result<Answer, (Option<u64>, Vec<u8>)> {
    let mut connection = Connection::open(edge.address).expect("connected");
    connection.send_head("GET", &format!("/v2/team/app/blobs/{digest}"), &[]).expect("sent");
    let head = connection.read_head().expect("the edge answers");
    let mut body = Vec::new();
    let announced = head.header("content-length").map(|length| length.parse().expect("a number"));
    match connection.read_body(&head, &mut body) {
        Ok(_) => Ok(Answer { status: head.status, head, body }),
        Err(error) => {
            assert!(
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
                "{what}: {error}, after {} bytes of {announced:?}",
                body.len()
            );
            Err((announced, body))
        }
    }
}

/// Panics unless a client could tell that it did not get the blob.
fn assert_not_served(what: &str, edge: &Node, blob: &Typed) {
    let began = Instant::now();
    match ask(what, edge, &blob.digest()) {
        // What is behind the length that the manifest told is not read: the rest is the truth.
        Ok(answer) if what.starts_with("a byte more, without a length, manifest known: true") => {
            assert!(answer.status == 200 && answer.body == blob.bytes, "{what}: {}", answer.status);
        }
        Ok(answer) => {
            assert_ne!(answer.status, 200, "{what}: {} bytes were served as good", answer.body.len());
            assert_refused(what, &answer, 503, "UNAVAILABLE", "upstream");
        }
        // Chunks without the last one, or fewer bytes than were announced.
        Err((announced, body)) => {
            assert!(announced.is_none_or(|length| (body.len() as u64) < length), "{what}")
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
}

/// An edge that knows the image's manifest, so that it knows how long its blobs are, before an upstream that lies.
fn lied_to(what: &str, lie: fn(&Asked, &[u8]) -> Reply, with_manifest: bool) -> (Upstream, Node, Image) {
    let image = Image::make(what, 1, LAYER);
    let (truth, lied_about) = (image.clone(), image.clone());
    let upstream = Upstream::start(move |asked| honest(&truth, asked));
    let edge = edge(&upstream);
    if with_manifest {
        get(edge.address, "/v2/team/app/manifests/latest").expect(200);
    }
    upstream.becomes(move |asked| {
        match lied_about.blobs.iter().find(|blob| asked.target.ends_with(&blob.digest())) {
            Some(blob) if asked.method == "GET" => lie(asked, &blob.bytes),
            _ => honest(&lied_about, asked),
        }
    });
    (upstream, edge, image)
}

#[test]
fn nothing_of_a_wrong_blob_is_served_as_good_or_kept() {
    for (what, lie) in LIES {
        for with_manifest in [true, false] {
            let endless_and_unmeasured = what.ends_with("without end") && !with_manifest;
            if endless_and_unmeasured {
                continue; // Its own test.
            }
            let (upstream, edge, image) = lied_to(what, lie, with_manifest);
            let layer = &image.blobs[1];
            let shown = format!("{what}, manifest known: {with_manifest}");
            assert_not_served(&shown, &edge, layer);
            wait_until_downloads_end(&edge);
            assert_not_served(&format!("{shown}, again"), &edge, layer);
            assert_eq!(get(edge.address, "/v2/").status, 200);
            let truth = image.clone();
            upstream.becomes(move |asked| honest(&truth, asked));
            // What was begun with wrong bytes may fail once more, and who sent them is not asked again at once.
            let served = wait_for(&format!("{shown}: the truth is served"), PATIENCE, || {
                ask(&shown, &edge, &layer.digest()).ok().filter(|answer| answer.status == 200)
            });
            assert!(served.body == layer.bytes, "{shown}: wrong bytes were served");
            wait_until_downloads_end(&edge);
            upstream.becomes(|_| Reply::error("500 Internal Server Error", "UNKNOWN"));
            let kept = get(edge.address, &format!("/v2/team/app/blobs/{}", layer.digest()));
            assert_eq!(kept.status, 200, "{shown}: the truth was not kept: {}", kept.text());
            assert!(kept.body == layer.bytes, "{shown}: wrong bytes were kept");
        }
    }
}

#[test]
fn an_endless_blob_of_unknown_length_takes_no_more_than_the_capacity_and_ends_with_its_client() {
    let upstream = Upstream::start(|_| Reply::endless());
    let edge =
        Plan::edge(upstream.address).set("cache.capacity", "128 MiB").set("download.stall", "1s").start();
    let digest = digest_of(&b"endless"[..]);
    let mut connection = Connection::open(edge.address).expect("connected");
    connection.send_head("GET", &format!("/v2/team/app/blobs/{digest}"), &[]).expect("sent");
    let head = connection.read_head().expect("answered");
    assert_eq!((head.status, head.header("content-length")), (200, None));
    // More than the capacity: it is streamed on without being kept.
    connection.read_exactly(200 << 20, &mut io::sink()).expect("it goes on");
    drop(connection);
    wait_until_downloads_end(&edge);
    assert!(edge.metrics().count("roadstead_cache_bytes", &[]) <= 128 << 20);
    assert_eq!(get(edge.address, "/v2/").status, 200);
}

#[test]
fn answers_that_are_no_blob_are_503_and_only_a_no_is_404() {
    type Case = (&'static str, fn() -> Reply, u16);
    let answers: [Case; 12] = [
        ("a no", || Reply::error("404 Not Found", "BLOB_UNKNOWN"), 404),
        ("404 with a web page", || Reply::page("404 Not Found"), 503),
        ("404 with nothing", || Reply::new("404 Not Found"), 503),
        ("401", || Reply::error("401 Unauthorized", "UNAUTHORIZED"), 503),
        ("403 with the code of a no", || Reply::error("403 Forbidden", "BLOB_UNKNOWN"), 503),
        ("429", || Reply::error("429 Too Many Requests", "TOOMANYREQUESTS").header("Retry-After", "7"), 503),
        ("500", || Reply::new("500 Internal Server Error"), 503),
        ("a redirect to nowhere", || Reply::new("302 Found"), 503),
        (
            "a coding that was not asked for",
            || Reply::new("200 OK").header("Content-Encoding", "gzip").body("x"),
            503,
        ),
        (
            "a head without end",
            || Reply::raw(b"HTTP/1.1 200 OK\r\n").repeating(*b"X-Endless: header\r\n"),
            503,
        ),
        ("a closed connection", || Reply::raw(b""), 503),
        ("silence", || Reply::raw(b"").hanging(), 503),
    ];
    for (what, reply, status) in answers {
        let upstream = Upstream::start(move |_| reply());
        let edge = edge(&upstream);
        let path = format!("/v2/team/app/blobs/{}", digest_of(what.as_bytes()));
        for method in ["GET", "HEAD"] {
            let began = Instant::now();
            let answer = request(edge.address, method, &path, &[], &[]);
            assert!(began.elapsed() < Duration::from_secs(3), "{method}, {what}: {:?}", began.elapsed());
            assert_eq!(answer.status, status, "{method}, {what}: {}", answer.text());
            assert_eq!(answer.header("retry-after").is_some(), status == 503, "{method}, {what}");
        }
        assert_eq!(get(edge.address, "/v2/").status, 200, "{what}");
    }
}

#[test]
fn a_redirect_to_storage_elsewhere_is_followed_without_credentials() {
    let image = Image::make("a redirect to storage", 1, 100_000);
    let truth = image.clone();
    let storage = Upstream::start(move |asked| honest(&truth, asked));
    let (truth, elsewhere) = (image.clone(), storage.address);
    let upstream = Upstream::start(move |asked| match (asked.header("authorization"), asked.is_for_blob()) {
        (None, _) => {
            Reply::error("401 Unauthorized", "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\"")
        }
        (Some(_), true) => Reply::new("307 Temporary Redirect")
            .header("Location", &format!("http://{elsewhere}{}", asked.target)),
        (Some(_), false) => honest(&truth, asked),
    });
    let plan = Plan::edge(upstream.address);
    std::fs::write(plan.beside("password"), "harbour\n").expect("a scratch file can be written");
    let name = format!("upstream.\"{}\"", upstream.address);
    let password = plan.beside("password").display().to_string();
    let edge = plan
        .set(&format!("{name}.username"), "ship")
        .set(&format!("{name}.password_file"), &password)
        .start();
    get(edge.address, "/v2/team/app/manifests/latest").expect(200);
    for blob in &image.blobs {
        let answer = get(edge.address, &format!("/v2/team/app/blobs/{}", blob.digest())).expect(200);
        assert!(answer.body == blob.bytes);
    }
    let basic = "Basic c2hpcDpoYXJib3Vy";
    assert!(
        upstream.asked().iter().any(|asked| asked.header("authorization") == Some(basic)),
        "it was logged in"
    );
    let shown = storage.asked();
    assert!(
        !shown.is_empty() && shown.iter().all(|asked| asked.header("authorization").is_none()),
        "{shown:?}"
    );
    // Nor is the password told to anybody who asks the edge, or to its log.
    let log = std::fs::read_to_string(edge.plan().beside("stderr.log")).expect("a log");
    assert!(!log.contains("harbour") && !log.contains("c2hpcDpoYXJib3Vy"), "{log}");
}

#[test]
fn a_redirect_loop_between_two_hosts_is_left() {
    let first = Upstream::start(|_| Reply::raw(b""));
    let there = first.address;
    let second = Upstream::start(move |asked| {
        Reply::new("302 Found").header("Location", &format!("http://{there}{}", asked.target))
    });
    let back = second.address;
    first.becomes(move |asked| {
        Reply::new("302 Found").header("Location", &format!("http://{back}{}", asked.target))
    });
    let edge = edge(&first);
    let answer = get(edge.address, &format!("/v2/team/app/blobs/{}", digest_of(&b"x"[..])));
    assert_refused("a loop", &answer, 503, "UNAVAILABLE", "redirect");
    assert!(
        first.asked().len() + second.asked().len() <= 12,
        "{} requests",
        first.asked().len() + second.asked().len()
    );
}
