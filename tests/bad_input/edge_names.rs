//! Names that climb, or that would make an edge connect to what it does not stand in front of, in each of the three ways
//! that clients name things at an edge. None of them makes a connection.

use std::net::TcpListener;

use super::{
    names::{bad_digests, bad_names, bad_tags},
    refusal::assert_refused,
    upstream::{Reply, Upstream, honest},
};
use crate::harness::{
    content::digest_of,
    http::{get, request},
    image::Image,
    node::{Node, Plan},
};

/// An edge before a registry that must not be asked, under two names.
fn edge(upstream: &Upstream) -> Node {
    let named = format!("[upstream.\"registry.example\"]\nurl = \"http://{}\"\n", upstream.address);
    Plan::edge(upstream.address).config(&named).start()
}

/// The three forms of a path behind `/v2/`.
fn forms(upstream: &Upstream, rest: &str) -> [String; 4] {
    let joint = if rest.contains('?') { '&' } else { '?' };
    [
        format!("/v2/{rest}"),
        format!("/v2/{rest}{joint}ns=registry.example"),
        format!("/v2/registry.example/{rest}"),
        format!("/v2/{}/{rest}", upstream.address),
    ]
}

#[test]
fn names_out_of_grammar_are_refused_in_every_form_and_the_upstream_is_not_asked() {
    let upstream = Upstream::start(|_| Reply::error("404 Not Found", "NAME_UNKNOWN"));
    let edge = edge(&upstream);
    let digest = digest_of(&b"x"[..]);
    for name in bad_names() {
        for rest in [
            format!("{name}/manifests/latest"),
            format!("{name}/blobs/{digest}"),
            format!("{name}/tags/list"),
        ] {
            for path in forms(&upstream, &rest) {
                let answer = get(edge.address, &path);
                // `a:b/c` without a registry before it names the registry `a:b`, which is no host.
                assert_refused(&path, &answer, 400, "NAME_INVALID", "");
            }
        }
    }
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.asked());
}

#[test]
fn tags_and_digests_out_of_grammar_are_refused_in_every_form_and_the_upstream_is_not_asked() {
    let upstream = Upstream::start(|_| Reply::error("404 Not Found", "NAME_UNKNOWN"));
    let edge = edge(&upstream);
    for tag in bad_tags() {
        for path in forms(&upstream, &format!("team/app/manifests/{tag}")) {
            assert_refused(&path, &get(edge.address, &path), 400, "TAG_INVALID", "tag");
        }
    }
    for digest in bad_digests() {
        for rest in [
            format!("team/app/blobs/{digest}"),
            format!("team/app/manifests/{digest}"),
            format!("team/app/referrers/{digest}"),
        ] {
            for path in forms(&upstream, &rest) {
                assert_refused(&path, &get(edge.address, &path), 400, "DIGEST_INVALID|NAME_INVALID", "");
            }
        }
    }
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.asked());
}

#[test]
fn a_registry_that_is_not_configured_is_refused_and_no_connection_is_made() {
    let upstream = Upstream::start(|_| Reply::error("404 Not Found", "NAME_UNKNOWN"));
    let edge = edge(&upstream);
    // Somebody whom nobody may reach through the edge, listening on every loopback address.
    let secret = TcpListener::bind("0.0.0.0:0").expect("a port is free");
    secret.set_nonblocking(true).expect("a socket");
    let port = secret.local_addr().expect("it is bound").port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "127.0.0.2",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "metadata.google.internal",
        "registry.example.evil.example",
        "docker.io",
        "registry.example.",
    ];
    for host in hosts {
        for registry in [format!("{host}:{port}"), host.to_owned()] {
            let mut paths = vec![format!("/v2/team/app/manifests/latest?ns={registry}")];
            if registry.contains(['.', ':']) || host == "localhost" {
                paths.push(format!("/v2/{registry}/team/app/manifests/latest"));
                paths.push(format!("/v2/{registry}/team/app/blobs/{}", digest_of(&b"x"[..])));
            }
            for path in paths {
                let answer = get(edge.address, &path);
                assert!(
                    matches!(answer.status, 400 | 403 | 404),
                    "{path}: {} {}",
                    answer.status,
                    answer.text()
                );
                assert_refused(&path, &answer, answer.status, "DENIED|NAME_INVALID|NAME_UNKNOWN", "");
            }
        }
    }
    for ns in [
        "",
        "%20",
        "http://127.0.0.1",
        "127.0.0.1/x",
        "user@127.0.0.1",
        "%5b::1%5d",
        "::1",
        "[::1]:80",
        "a%00b",
        "..",
        "a%0d%0ab",
        "registry.example%23",
        "registry.example%2f..",
        "registry.example:0",
        "registry.example:99999",
        "registry.example:+80",
    ] {
        let path = format!("/v2/team/app/manifests/latest?ns={ns}");
        assert_refused(&path, &get(edge.address, &path), 400, "NAME_INVALID", "ns");
    }
    assert!(secret.accept().is_err(), "the edge connected to what it was not told to");
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.asked());
}

#[test]
fn two_registries_in_one_request_are_never_mixed_up() {
    let image = Image::make("two registries", 1, 1000);
    let truth = image.clone();
    let upstream = Upstream::start(move |asked| honest(&truth, asked));
    let other = Upstream::start(|_| Reply::error("404 Not Found", "NAME_UNKNOWN"));
    let plan = Plan::edge(other.address)
        .config(&format!("[upstream.\"registry.example\"]\nurl = \"http://{}\"\n", upstream.address));
    let edge = plan.start();
    let by = |path: &str| get(edge.address, path);
    by("/v2/team/app/manifests/latest?ns=registry.example").expect(200);
    by("/v2/registry.example/team/app/manifests/latest").expect(200);
    // What one registry has is not there under the other one, cached or not.
    let digest = image.digest();
    assert_refused("by tag", &by("/v2/team/app/manifests/latest"), 404, "MANIFEST_UNKNOWN", "");
    assert_refused(
        "by digest",
        &by(&format!("/v2/team/app/manifests/{digest}")),
        404,
        "MANIFEST_UNKNOWN",
        "",
    );
    let layer = image.blobs[1].digest();
    by(&format!("/v2/registry.example/team/app/blobs/{layer}")).expect(200);
    assert_refused("a blob", &by(&format!("/v2/team/app/blobs/{layer}")), 404, "BLOB_UNKNOWN", "");
    assert_refused(
        "another repository",
        &by(&format!("/v2/team/app/blobs/{layer}?ns={}", other.address)),
        404,
        "BLOB_UNKNOWN",
        "",
    );
    // Twice the same parameter: whichever counts, it is one that is configured.
    let twice = by("/v2/team/app/manifests/latest?ns=registry.example&ns=127.0.0.1:1");
    assert!(matches!(twice.status, 200 | 400 | 403), "{}", twice.text());
}

#[test]
fn nothing_can_be_pushed_or_deleted_through_an_edge() {
    let upstream = Upstream::start(|_| Reply::new("201 Created"));
    let edge = edge(&upstream);
    let digest = digest_of(&b"x"[..]);
    for (method, rest) in [
        ("POST", "team/app/blobs/uploads/".to_owned()),
        ("POST", format!("team/app/blobs/uploads/?digest={digest}")),
        ("POST", format!("team/app/blobs/uploads/?mount={digest}&from=other")),
        ("PATCH", "team/app/blobs/uploads/x".to_owned()),
        ("PUT", format!("team/app/blobs/uploads/x?digest={digest}")),
        ("PUT", "team/app/manifests/latest".to_owned()),
        ("DELETE", "team/app/manifests/latest".to_owned()),
        ("DELETE", format!("team/app/blobs/{digest}")),
        ("BREW", "team/app/manifests/latest".to_owned()),
    ] {
        for path in forms(&upstream, &rest) {
            let answer = request(edge.address, method, &path, &[], b"x");
            assert_refused(&format!("{method} {path}"), &answer, 405, "UNSUPPORTED", "mirror");
        }
    }
    assert_eq!(upstream.connections(), 0, "{:?}", upstream.asked());
}
