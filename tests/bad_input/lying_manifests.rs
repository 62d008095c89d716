//! Upstreams that lie about manifests and tags, or say nothing usable: the edge answers 503 at once, keeps nothing of it,
//! and goes on serving what it has. Only a registry's own *no* becomes a 404.

use std::time::{Duration, Instant};

use super::{
    refusal::{assert_refused, wait_until_downloads_end},
    upstream::{Asked, Reply, Upstream, honest, manifest_reply},
};
use crate::harness::{
    content::digest_of,
    http::{Answer, get, request},
    image::{Image, Typed},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

/// A client that cannot be served goes to its next host after this long at most.
const FAST: Duration = Duration::from_secs(2);

/// `freshness.negative`, when nothing else is said.
const NEGATIVE: Duration = Duration::from_secs(5);

type Lie = (&'static str, fn(&Asked, &Image) -> Reply);

fn edge(upstream: &Upstream) -> Node {
    Plan::edge(upstream.address).set("download.first_byte", "1s").set("download.stall", "1s").start()
}

fn image(name: &str) -> Image {
    Image::make(name, 2, 100_000)
}

fn other() -> Typed {
    image("another image altogether").manifest
}

/// Every way not to give a manifest that is not a *no*.
const LIES: [Lie; 27] = [
    ("another digest in the header", |_, image| {
        let digest = digest_of(&b"other"[..]);
        Reply::new("200 OK").header("Docker-Content-Digest", &digest).body(image.manifest.bytes.clone())
    }),
    ("another manifest under the digest", |asked, image| match asked.method.as_str() {
        "HEAD" => manifest_reply(&image.manifest),
        _ => Reply::new("200 OK").header("Content-Type", &other().media_type).body(other().bytes),
    }),
    ("another manifest with this one's digest", |_, image| {
        Reply::new("200 OK").header("Docker-Content-Digest", &image.digest()).body(other().bytes)
    }),
    ("a digest in the HEAD that it does not have", |asked, image| {
        let nowhere = digest_of(&b"nowhere"[..]);
        match asked.method.as_str() {
            "HEAD" => Reply::new("200 OK")
                .header("Docker-Content-Digest", &nowhere)
                .body(image.manifest.bytes.clone()),
            _ => Reply::error("404 Not Found", "MANIFEST_UNKNOWN"),
        }
    }),
    ("a web page", |_, _| Reply::page("200 OK")),
    ("a web page called JSON", |_, _| {
        Reply::new("200 OK").header("Content-Type", "application/json").body("<html>")
    }),
    ("nothing", |_, _| Reply::new("200 OK")),
    ("an empty document", |_, _| Reply::new("200 OK").body("{}")),
    ("half of it", |_, image| {
        let length = image.manifest.bytes.len();
        manifest_reply(&image.manifest)
            .header("Content-Length", &length.to_string())
            .body(&image.manifest.bytes[..length / 2])
    }),
    ("half of it, said to be all", |_, image| {
        manifest_reply(&image.manifest).body(&image.manifest.bytes[..image.manifest.bytes.len() / 2])
    }),
    ("a body without end", |_, _| Reply::endless()),
    ("a length without end", |_, _| Reply::new("200 OK").header("Content-Length", "99999999999")),
    ("a length that is none", |_, _| Reply::raw(b"HTTP/1.1 200 OK\r\nContent-Length: much\r\n\r\n{}")),
    ("a head without end", |_, _| Reply::raw(b"HTTP/1.1 200 OK\r\n").repeating(*b"X-Endless: header\r\n")),
    ("a header without end", |_, _| Reply::raw(b"HTTP/1.1 200 OK\r\nX-Endless: ").repeating([b'x'; 4096])),
    ("a redirect to itself", |asked, _| Reply::new("302 Found").header("Location", &asked.target)),
    ("a redirect to nowhere", |_, _| Reply::new("302 Found")),
    ("a redirect to a file", |_, _| {
        Reply::new("307 Temporary Redirect").header("Location", "file:///etc/passwd")
    }),
    ("401", |_, _| Reply::error("401 Unauthorized", "UNAUTHORIZED")),
    ("401 and a token service that is none", |_, _| {
        Reply::new("401 Unauthorized")
            .header("WWW-Authenticate", r#"Bearer realm="ftp://x/token",service="x""#)
    }),
    ("403 with the code of a no", |_, _| Reply::error("403 Forbidden", "MANIFEST_UNKNOWN")),
    ("404 with a web page", |_, _| Reply::page("404 Not Found")),
    ("404 with nothing", |_, _| Reply::new("404 Not Found")),
    ("429", |_, _| Reply::error("429 Too Many Requests", "TOOMANYREQUESTS").header("Retry-After", "7")),
    ("500", |_, _| Reply::new("500 Internal Server Error")),
    ("no HTTP", |_, _| Reply::raw(b"220 mail.example ESMTP\r\n")),
    ("a closed connection", |_, _| Reply::raw(b"")),
];

/// Panics unless it is the one answer that sends a client to its next host.
#[track_caller]
fn assert_unavailable(what: &str, answer: &Answer) {
    assert_refused(what, answer, 503, "UNAVAILABLE", "upstream");
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "{what}: {:?}", answer.head);
}

fn timed(within: Duration, what: &str, ask: impl FnOnce() -> Answer) -> Answer {
    let began = Instant::now();
    let answer = ask();
    assert!(began.elapsed() < within, "{what} was answered after {:?}", began.elapsed());
    answer
}

/// What a request by digest gets: some of the lies are about the tag alone.
fn by_digest(what: &str) -> u16 {
    match what {
        "another digest in the header" => 200,
        "a digest in the HEAD that it does not have" => 404,
        _ => 503,
    }
}

#[test]
fn nothing_of_a_lie_about_a_manifest_is_kept_and_the_truth_is_served_when_it_comes() {
    for (what, lie) in LIES {
        let image = image(what);
        let lied_about = image.clone();
        let upstream = Upstream::start(move |asked| lie(asked, &lied_about));
        let edge = edge(&upstream);
        for (reference, expected) in [("latest", 503), (&image.digest(), by_digest(what))] {
            let path = format!("/v2/team/app/manifests/{reference}");
            let answer = timed(FAST, what, || get(edge.address, &path));
            match expected {
                503 => assert_unavailable(&format!("{what}, {reference}"), &answer),
                404 => assert_refused(what, &answer, 404, "MANIFEST_UNKNOWN", "upstream"),
                _ => assert_eq!((answer.status, &answer.body), (200, &image.manifest.bytes), "{what}"),
            }
            let head = timed(FAST, what, || request(edge.address, "HEAD", &path, &[], &[]));
            assert_eq!(head.status, expected, "{what}, HEAD of {reference}");
        }
        let truth = image.clone();
        upstream.becomes(move |asked| honest(&truth, asked));
        if what == "429" {
            // It is left alone for the seven seconds that it told.
            let refused = get(edge.address, "/v2/team/app/manifests/latest");
            assert_unavailable(what, &refused);
            wait_for("the limit ends", PATIENCE, || {
                (get(edge.address, "/v2/team/app/manifests/latest").status == 200).then_some(())
            });
        }
        for reference in ["latest", &image.digest()] {
            let answer = get(edge.address, &format!("/v2/team/app/manifests/{reference}")).expect(200);
            assert_eq!(answer.body, image.manifest.bytes, "{what}");
            assert_eq!(answer.header("docker-content-digest"), Some(image.digest().as_str()), "{what}");
            assert_eq!(answer.header("content-type"), Some(image.manifest.media_type.as_str()), "{what}");
        }
    }
}

#[test]
fn what_is_cached_goes_on_being_served_whatever_the_upstream_says() {
    let image = image("what is cached");
    let truth = image.clone();
    let upstream = Upstream::start(move |asked| honest(&truth, asked));
    let edge = edge(&upstream);
    let tag = "/v2/team/app/manifests/latest";
    get(edge.address, tag).expect(200);
    for blob in &image.blobs {
        get(edge.address, &format!("/v2/team/app/blobs/{}", blob.digest())).expect(200);
    }
    wait_until_downloads_end(&edge);
    for (what, lie) in LIES {
        let lied_about = image.clone();
        upstream.becomes(move |asked| match asked.is_for_blob() {
            // The digest that the lies name is cached: a HEAD that tells it is the truth.
            false => lie(asked, &lied_about),
            true => Reply::error("500 Internal Server Error", "UNKNOWN"),
        });
        let answer = timed(FAST, what, || get(edge.address, tag));
        assert_eq!((answer.status, &answer.body), (200, &image.manifest.bytes), "{what}: {}", answer.text());
        let confirmed = what.starts_with("another manifest") || what.starts_with("half of it");
        if !confirmed {
            assert!(answer.header("age").is_some(), "{what}: {:?}", answer.head);
            let warning = answer.header("warning").unwrap_or_else(|| panic!("{what}: {:?}", answer.head));
            assert!(warning.starts_with("299 - \""), "{what}: {warning}");
        }
        let by_digest = get(edge.address, &format!("/v2/team/app/manifests/{}", image.digest())).expect(200);
        assert_eq!(by_digest.body, image.manifest.bytes, "{what}");
        for blob in &image.blobs {
            let answer = get(edge.address, &format!("/v2/team/app/blobs/{}", blob.digest())).expect(200);
            assert!(answer.body == blob.bytes, "{what}");
            assert!(answer.header("cache-status").is_some_and(|status| status.ends_with("; hit")), "{what}");
        }
    }
}

#[test]
fn only_the_registrys_own_no_is_a_404() {
    let upstream = Upstream::start(|_| Reply::error("404 Not Found", "MANIFEST_UNKNOWN"));
    let edge = edge(&upstream);
    let digest = digest_of(&b"x"[..]);
    for (path, code) in [
        ("/v2/team/app/manifests/latest".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/manifests/{digest}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/team/app/blobs/{digest}"), "BLOB_UNKNOWN"),
        ("/v2/team/app/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        assert_refused(&path, &get(edge.address, &path), 404, code, "upstream");
        assert_eq!(request(edge.address, "HEAD", &path, &[], &[]).status, 404, "{path}");
    }
    // A no is remembered for `freshness.negative` only, however often it is asked for.
    let image = image("pushed a moment later");
    upstream.becomes(move |asked| honest(&image, asked));
    wait_for("what was pushed is found", NEGATIVE * 2, || {
        (get(edge.address, "/v2/team/app/manifests/latest").status == 200).then_some(())
    });
}

#[test]
fn an_upstream_that_hangs_is_left_within_the_budgets_and_only_the_first_client_waits() {
    for hung in [
        Reply::raw(b"").hanging(),
        Reply::raw(b"HTTP/1.1 200 OK\r\nContent-Le").hanging(),
        Reply::new("200 OK").header("Content-Length", "99").hanging(),
    ] {
        let image = image("before the silence");
        let truth = image.clone();
        let upstream = Upstream::start(move |asked| honest(&truth, asked));
        let edge = edge(&upstream);
        get(edge.address, "/v2/team/app/manifests/latest").expect(200);
        let said = hung.clone();
        upstream.becomes(move |_| said.clone());
        let what = format!("{hung:?}");
        // Cached: the budget of 300 ms. Not cached: the first byte's second, and then the budget.
        let cached = timed(FAST, &what, || get(edge.address, "/v2/team/app/manifests/latest")).expect(200);
        assert_eq!(cached.body, image.manifest.bytes);
        for reference in ["other", &digest_of(&b"other"[..])] {
            let path = format!("/v2/team/app/manifests/{reference}");
            let answer = timed(FAST, &what, || get(edge.address, &path));
            assert_unavailable(&what, &answer);
        }
        let truth = image.clone();
        upstream.becomes(move |asked| honest(&truth, asked));
        wait_for("it is confirmed again", PATIENCE, || {
            get(edge.address, "/v2/team/app/manifests/latest").header("warning").is_none().then_some(())
        });
    }
}

#[test]
fn a_listing_that_is_none_is_not_passed_on() {
    let upstream = Upstream::start(|_| Reply::page("200 OK"));
    let edge = edge(&upstream);
    let referrers = format!("/v2/team/app/referrers/{}", digest_of(&b"x"[..]));
    type Case = (&'static str, fn(&Asked) -> Reply);
    let lies: [Case; 5] = [
        ("a web page", |_| Reply::page("200 OK")),
        ("a body without end", |_| Reply::endless()),
        ("half of it", |_| Reply::new("200 OK").header("Content-Length", "99").body(r#"{"name":"#)),
        ("404 with a web page", |_| Reply::page("404 Not Found")),
        ("a redirect to itself", |asked| Reply::new("302 Found").header("Location", &asked.target)),
    ];
    for (what, lie) in lies {
        upstream.becomes(lie);
        for path in ["/v2/team/app/tags/list", &referrers] {
            let answer = timed(FAST, what, || get(edge.address, path));
            assert_unavailable(&format!("{what}, {path}"), &answer);
        }
    }
    assert_eq!(get(edge.address, "/v2/").status, 200);
}
