//! Names, tags and digests out of grammar, and paths that try to climb, at the origin.

use super::refusal::{Stored, assert_refused, assert_serves, tags};
use crate::harness::{
    content::digest_of,
    http::{get, request},
    image::MANIFEST,
    node::Plan,
};

/// Repository names that are none, as they stand in a path.
pub(super) fn bad_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a/../b",
        "a/..",
        "..",
        "../..",
        "a/%2e%2e/b",
        "%2e%2e/%2e%2e/etc",
        "a/%2E./b",
        ".%2e/a",
        "a//b",
        "a/./b",
        "A",
        "a/B",
        "a%2fb",
        "a%2F..%2Fb",
        "a%5c..%5cb",
        "a%00",
        "a%0d%0aX-Evil:%20y",
        "%ff",
        "%c0%ae%c0%ae/a",
        "a%252e%252e",
        "-a",
        "a-",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a._b",
        "a%20b",
        "%c3%bc",
        "a;b",
        "a%3fb",
        "a%23b",
        "a@b",
        "a~",
        "a+b",
        "a:b/c",
        "*",
        "a,b",
        "a%7cb",
        "a/",
        "%20",
    ]
    .map(str::to_owned)
    .into();
    names.push("a".repeat(256));
    names.push(format!("{}a", "a/".repeat(128)));
    names
}

/// Tags that are none, as they stand in a path.
pub(super) fn bad_tags() -> Vec<String> {
    let mut tags: Vec<String> =
        ["-x", ".x", "..", "%2e%2e", "a%20b", "%c3%bc", "a+b", "a@b", "a~b", "%2a", "a,b", "%21"]
            .map(str::to_owned)
            .into();
    tags.push("x".repeat(129));
    tags.push("x".repeat(5000));
    tags
}

/// Digests that are none, as they stand in a path.
pub(super) fn bad_digests() -> Vec<String> {
    let good = digest_of(&b"x"[..]);
    vec![
        "sha256:".into(),
        "sha256:123".into(),
        format!("{good}0"),
        good[..good.len() - 1].to_owned(),
        good.to_uppercase(),
        format!("sha256:{}", good[7..].to_uppercase()),
        format!("sha512:{}", &good[7..]),
        format!("md5:{}", "0".repeat(32)),
        format!("sha1:{}", "0".repeat(40)),
        format!("sha256%00:{}", &good[7..]),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha256:%20{}", &good[8..]),
        format!("sha256:..%c0{}", &good[11..]),
        format!(":{}", &good[7..]),
        format!("{good}:{good}"),
    ]
}

#[test]
fn names_out_of_grammar_are_refused_wherever_they_stand() {
    let origin = Plan::origin().start();
    let before = Stored::of(&origin);
    let digest = digest_of(&b"x"[..]);
    for name in bad_names() {
        for (method, rest) in [
            ("GET", "manifests/latest".to_owned()),
            ("HEAD", "manifests/latest".to_owned()),
            ("PUT", "manifests/latest".to_owned()),
            ("DELETE", "manifests/latest".to_owned()),
            ("GET", format!("blobs/{digest}")),
            ("POST", "blobs/uploads/".to_owned()),
            ("GET", "tags/list".to_owned()),
            ("GET", format!("referrers/{digest}")),
        ] {
            let answer = request(origin.address, method, &format!("/v2/{name}/{rest}"), &[], &[]);
            let what = format!("{method} {rest} of {name:?}");
            match method {
                "HEAD" => assert_eq!(answer.status, 400, "{what}"),
                _ => assert_refused(&what, &answer, 400, "NAME_INVALID", ""),
            }
        }
    }
    let listed = get(origin.address, "/v2/_catalog").expect(200).text();
    assert!(listed.contains("[]"), "{listed}");
    before.assert_nothing_more(&origin);
    assert_serves(&origin);
}

#[test]
fn the_message_says_what_is_wrong_with_a_name() {
    let origin = Plan::origin().start();
    for (path, code, named) in [
        ("/v2/a/../b/manifests/x".to_owned(), "NAME_INVALID", "repository name"),
        (format!("/v2/{}/manifests/x", "a".repeat(256)), "NAME_INVALID", "255"),
        ("/v2/a%2fb/manifests/x".to_owned(), "NAME_INVALID", "slash"),
        ("/v2/a%00/manifests/x".to_owned(), "NAME_INVALID", "control character"),
        ("/v2/%ff/manifests/x".to_owned(), "NAME_INVALID", "UTF-8"),
        ("/v2/a/manifests/-x".to_owned(), "TAG_INVALID", "tag"),
        (format!("/v2/a/blobs/md5:{}", "0".repeat(32)), "DIGEST_INVALID", "sha256, sha512"),
        ("/v2/a/blobs/sha256:123".to_owned(), "DIGEST_INVALID", "64"),
        ("/v2/a/blobs/latest".to_owned(), "DIGEST_INVALID", "algorithm:hex"),
        ("/v2/a/referrers/latest".to_owned(), "DIGEST_INVALID", "algorithm:hex"),
        ("/v2/a/tags/list?n=-1".to_owned(), "PAGINATION_NUMBER_INVALID", "n must"),
        ("/v2/a/tags/list?n=1e3".to_owned(), "PAGINATION_NUMBER_INVALID", "n must"),
    ] {
        assert_refused(&path, &get(origin.address, &path), 400, code, named);
    }
}

#[test]
fn tags_out_of_grammar_are_refused_and_none_appears() {
    let origin = Plan::origin().start();
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, crate::harness::image::INDEX);
    let put = |path: &str| {
        request(
            origin.address,
            "PUT",
            path,
            &[("Content-Type", crate::harness::image::INDEX)],
            manifest.as_bytes(),
        )
    };
    for tag in bad_tags() {
        let path = format!("/v2/team/app/manifests/{tag}");
        assert_refused(&path, &get(origin.address, &path), 400, "TAG_INVALID", "tag");
        assert_refused(&path, &put(&path), 400, "TAG_INVALID", "tag");
        // The same among the tags that one push sets: all or none.
        let digest = digest_of(manifest.as_bytes());
        let several = format!("/v2/team/app/manifests/{digest}?tag=good&tag={tag}");
        assert_refused(&several, &put(&several), 400, "TAG_INVALID", "tag");
    }
    assert_eq!(tags(&origin, "team/app"), Vec::<String>::new());
    put("/v2/team/app/manifests/good").expect(201);
    assert_eq!(tags(&origin, "team/app"), ["good"]);
}

#[test]
fn digests_out_of_grammar_are_refused_wherever_they_stand() {
    let origin = Plan::origin().start();
    let before = Stored::of(&origin);
    for digest in bad_digests() {
        // Bytes that are no text are not looked at any further.
        let codes = "DIGEST_INVALID|NAME_INVALID";
        for (method, path) in [
            ("GET", format!("/v2/team/app/blobs/{digest}")),
            ("DELETE", format!("/v2/team/app/blobs/{digest}")),
            ("GET", format!("/v2/team/app/manifests/{digest}")),
            ("PUT", format!("/v2/team/app/manifests/{digest}")),
            ("GET", format!("/v2/team/app/referrers/{digest}")),
            ("POST", format!("/v2/team/app/blobs/uploads/?digest={digest}")),
        ] {
            let answer = request(origin.address, method, &path, &[("Content-Type", MANIFEST)], b"x");
            assert_refused(&format!("{method} {path}"), &answer, 400, codes, "");
        }
        // A mount that cannot be is never an error: the client uploads.
        let mount = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=other");
        request(origin.address, "POST", &mount, &[], &[]).expect(202);
    }
    let mount = format!("/v2/team/app/blobs/uploads/?mount={}&from=../../etc", digest_of(&b"x"[..]));
    request(origin.address, "POST", &mount, &[], &[]).expect(202);
    before.assert_nothing_more(&origin);
    assert_serves(&origin);
}

#[test]
fn paths_that_are_none_of_the_specifications_are_not_found() {
    let origin = Plan::origin().start();
    for path in [
        "/",
        "/v1/",
        "/v2x",
        "/v2/a",
        "/v2/a/other/x",
        "/v3/a/manifests/x",
        "/v2/_catalog/x/y/z/",
        "/etc/passwd",
        "//",
        "/v2/../etc/passwd",
    ] {
        let answer = get(origin.address, path);
        let status = if path == "/v2/a/other/x" || answer.status == 404 { 404 } else { 400 };
        assert_refused(path, &answer, status, "NOT_FOUND|NAME_INVALID", "");
    }
    for (method, path) in [
        ("POST", "/v2/"),
        ("PATCH", "/v2/a/manifests/x"),
        ("PUT", "/v2/a/tags/list"),
        ("BREW", "/v2/_catalog"),
    ] {
        let answer = request(origin.address, method, path, &[], &[]);
        assert_refused(&format!("{method} {path}"), &answer, 405, "UNSUPPORTED", "method");
        assert!(answer.header("allow").is_some_and(|allow| !allow.is_empty()), "{method} {path}");
    }
}
