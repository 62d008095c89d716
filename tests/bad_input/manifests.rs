//! Manifests that are none: refused with what is wrong about them, and neither digest nor tag appears.

use serde_json::{Value, json};

use super::refusal::{assert_refused, assert_serves, push_blob, tags};
use crate::harness::{
    content::digest_of,
    http::{Answer, Connection, get, request},
    image::{INDEX, MANIFEST},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

const REPOSITORY: &str = "team/app";
const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"a layer";

/// An origin whose repository has a config and a layer.
fn origin() -> Node {
    let origin = Plan::origin().start();
    push_blob(&origin, REPOSITORY, CONFIG);
    push_blob(&origin, REPOSITORY, LAYER);
    origin
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()})
}

/// A manifest that is good.
fn good() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", LAYER)],
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut manifest = good();
    change(&mut manifest);
    manifest.to_string().into_bytes()
}

fn put(node: &Node, media_type: &str, bytes: &[u8]) -> Answer {
    let path = format!("/v2/{REPOSITORY}/manifests/bad");
    request(node.address, "PUT", &path, &[("Content-Type", media_type)], bytes)
}

/// Panics unless the manifest is refused by tag and by digest, and is in the repository by neither.
#[track_caller]
fn assert_no_manifest(node: &Node, what: &str, media_type: &str, bytes: &[u8], named: &str) {
    assert_refused(what, &put(node, media_type, bytes), 400, "MANIFEST_INVALID", named);
    let by_digest = format!("/v2/{REPOSITORY}/manifests/{}", digest_of(bytes));
    let answer = request(node.address, "PUT", &by_digest, &[("Content-Type", media_type)], bytes);
    assert_refused(what, &answer, 400, "MANIFEST_INVALID", named);
    assert_refused(what, &get(node.address, &by_digest), 404, "MANIFEST_UNKNOWN", "");
    assert_eq!(tags(node, REPOSITORY), Vec::<String>::new(), "{what}");
}

#[test]
fn what_is_not_json_or_not_of_the_shape_is_refused() {
    let origin = origin();
    let texts: [(&str, &[u8], &str); 14] = [
        ("nothing", b"", "EOF"),
        ("a web page", b"<html><body>log in</body></html>", "line 1 column 1"),
        ("half a document", br#"{"schemaVersion":2,"#, "line 1"),
        ("two documents", br#"{"schemaVersion":2}{"schemaVersion":2}"#, "trailing"),
        ("a number", b"7", "line 1"),
        ("a list", b"[]", "line 1"),
        ("null", b"null", "line 1"),
        ("bytes that are no text", b"{\"mediaType\":\"\xff\xfe\"}", "line 1"),
        ("a byte order mark", b"\xef\xbb\xbf{}", "line 1"),
        ("an infinite number", br#"{"schemaVersion":1e999}"#, "line 1"),
        ("layers that are no list", br#"{"schemaVersion":2,"layers":{"a":1}}"#, "line 1"),
        ("layers that are numbers", br#"{"schemaVersion":2,"layers":[1,2]}"#, "line 1"),
        ("annotations that are no texts", br#"{"schemaVersion":2,"annotations":{"a":1}}"#, "line 1"),
        ("one key twice", br#"{"schemaVersion":2,"config":null,"config":null}"#, "config"),
    ];
    for (what, bytes, named) in texts {
        assert_no_manifest(&origin, what, MANIFEST, bytes, named);
    }
    assert_serves(&origin);
    put(&origin, MANIFEST, &with(|_| ())).expect(201);
}

#[test]
fn ten_thousand_levels_are_refused_wherever_they_stand() {
    let origin = origin();
    let list = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let object = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let places = [
        ("the document", "DEEP".to_owned()),
        ("a key nobody knows", r#"{"schemaVersion":2,"x":DEEP}"#.to_owned()),
        ("the config", r#"{"schemaVersion":2,"config":DEEP}"#.to_owned()),
        ("the layers", r#"{"schemaVersion":2,"layers":[DEEP]}"#.to_owned()),
        ("the annotations", r#"{"schemaVersion":2,"annotations":{"a":DEEP}}"#.to_owned()),
        (
            "a descriptor",
            String::from_utf8(with(|m| m["layers"][0]["x"] = "DEEP".into()))
                .expect("text")
                .replace("\"DEEP\"", "DEEP"),
        ),
    ];
    for (what, document) in places {
        for deep in [&list, &object] {
            let bytes = document.replace("DEEP", deep);
            assert_no_manifest(&origin, what, MANIFEST, bytes.as_bytes(), "levels");
        }
    }
    // Not closed, too: the depth alone must not cost anything.
    assert_no_manifest(&origin, "never closed", MANIFEST, &b"[".repeat(3 << 20), "levels");
    assert_serves(&origin);
}

#[test]
fn a_manifest_that_lies_about_its_media_type_is_refused() {
    let origin = origin();
    let manifest = with(|_| ());
    assert_no_manifest(&origin, "an image sent as an index", INDEX, &manifest, INDEX);
    assert_no_manifest(&origin, "an image sent as text", "text/html", &manifest, "text/html");
    let both = with(|m| m["manifests"] = json!([descriptor(MANIFEST, LAYER)]));
    assert_no_manifest(&origin, "image and index at once", MANIFEST, &both, "manifests");
    let none = with(|m| drop(m.as_object_mut().expect("an object").remove("mediaType")));
    let path = format!("/v2/{REPOSITORY}/manifests/bad");
    let answer = request(origin.address, "PUT", &path, &[], &none);
    assert_refused("no type at all", &answer, 400, "MANIFEST_INVALID", "mediaType");
    let evil = with(|m| m["mediaType"] = "a/b\r\nX-Evil: 1".into());
    let answer = request(origin.address, "PUT", &path, &[], &evil);
    assert_refused("a type that is two headers", &answer, 400, "MANIFEST_INVALID", "media type");
    let first = with(|m| m["schemaVersion"] = 1.into());
    assert_no_manifest(&origin, "schema version 1", MANIFEST, &first, "schema version 1");
    assert_eq!(tags(&origin, REPOSITORY), Vec::<String>::new());
}

#[test]
fn a_descriptor_with_an_impossible_size_or_digest_is_refused() {
    let origin = origin();
    // Numbers that no JSON library writes, put in as text.
    for size in [
        "-1",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "99999999999999999999999999",
        "1e30",
        "1.5",
        "\"7\"",
        "null",
        "true",
        "[7]",
    ] {
        for place in ["config", "layers", "subject"] {
            let bytes = with(|m| match place {
                "config" => m["config"]["size"] = "SIZE".into(),
                "layers" => m["layers"][0]["size"] = "SIZE".into(),
                _ => {
                    m["subject"] = json!({"mediaType": MANIFEST, "digest": digest_of(LAYER), "size": "SIZE"})
                }
            });
            let bytes = String::from_utf8(bytes).expect("text").replace("\"SIZE\"", size);
            assert_no_manifest(&origin, &format!("size {size} of {place}"), MANIFEST, bytes.as_bytes(), "");
        }
    }
    for digest in
        ["", "sha256:", "sha256:00", "md5:00000000000000000000000000000000", "../../etc/passwd", "latest"]
    {
        let bytes = with(|m| m["layers"][0]["digest"] = digest.into());
        assert_no_manifest(&origin, &format!("digest {digest:?}"), MANIFEST, &bytes, "");
    }
    let lies = with(|m| m["layers"][0]["size"] = (LAYER.len() + 1).into());
    assert_no_manifest(&origin, "a size that the blob does not have", MANIFEST, &lies, &digest_of(LAYER));
    let unsigned = with(|m| m["config"]["size"] = (-1).into());
    let answer = put(&origin, MANIFEST, &unsigned);
    assert_refused("a negative size", &answer, 400, "MANIFEST_INVALID", "-1");
}

#[test]
fn a_manifest_of_blobs_that_are_not_there_names_each() {
    let origin = origin();
    let bytes = with(|m| {
        m["layers"] = json!([
            descriptor("a/b", b"missing one"),
            descriptor("a/b", LAYER),
            descriptor("a/b", b"missing two")
        ]);
    });
    for missing in [&b"missing one"[..], b"missing two"] {
        let answer = put(&origin, MANIFEST, &bytes);
        assert_refused(
            "blobs that are not there",
            &answer,
            answer.status,
            "MANIFEST_BLOB_UNKNOWN",
            &digest_of(missing),
        );
        assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
        assert!(!answer.text().contains(&digest_of(LAYER)), "{}", answer.text());
    }
    // There, but not in this repository.
    push_blob(&origin, "other/app", b"missing one");
    push_blob(&origin, "other/app", b"missing two");
    let answer = put(&origin, MANIFEST, &bytes);
    assert_refused("another repository's blobs", &answer, answer.status, "MANIFEST_BLOB_UNKNOWN", "");
    assert_eq!(tags(&origin, REPOSITORY), Vec::<String>::new());
}

#[test]
fn a_manifest_of_another_digest_than_its_name_is_refused() {
    let origin = origin();
    let manifest = with(|_| ());
    for named in [digest_of(&b"other"[..]), format!("sha512:{}", "0".repeat(128))] {
        let path = format!("/v2/{REPOSITORY}/manifests/{named}");
        let answer = request(origin.address, "PUT", &path, &[("Content-Type", MANIFEST)], &manifest);
        assert_refused("another digest", &answer, 400, "DIGEST_INVALID", &named);
        assert_refused("another digest", &get(origin.address, &path), 404, "MANIFEST_UNKNOWN", "");
    }
    let own = format!("/v2/{REPOSITORY}/manifests/{}", digest_of(manifest.as_slice()));
    assert_refused("its own digest", &get(origin.address, &own), 404, "MANIFEST_UNKNOWN", "");
}

#[test]
fn a_manifest_over_the_limit_is_refused_before_it_is_read() {
    let origin = origin();
    let idle = origin.memory("VmRSS");
    let path = format!("/v2/{REPOSITORY}/manifests/bad");
    let filled = |length: usize| {
        let mut bytes = with(|m| m["annotations"] = json!({"fill": "FILL"}));
        let rest = length - (bytes.len() - "FILL".len());
        bytes = String::from_utf8(bytes).expect("text").replace("FILL", &"x".repeat(rest)).into_bytes();
        assert_eq!(bytes.len(), length);
        bytes
    };
    assert_refused(
        "one byte more",
        &put(&origin, MANIFEST, &filled((4 << 20) + 1)),
        413,
        "SIZE_INVALID|MANIFEST_INVALID",
        "4 MiB",
    );
    // Announced only: the answer does not wait for the bytes.
    let mut connection = Connection::open(origin.address).expect("connected");
    connection
        .send_head("PUT", &path, &[("Content-Type", MANIFEST), ("Content-Length", "99999999999")])
        .expect("sent");
    let answer = connection.read_answer().expect("answered");
    assert_refused("announced", &answer, 413, "SIZE_INVALID|MANIFEST_INVALID", "4 MiB");
    // Without a length, without an end.
    let mut connection = Connection::open(origin.address).expect("connected");
    connection
        .send_head("PUT", &path, &[("Content-Type", MANIFEST), ("Transfer-Encoding", "chunked")])
        .expect("sent");
    let piece = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    wait_for("a manifest without end is no longer taken", PATIENCE, || connection.send(&piece).err());
    assert!(origin.memory("VmHWM") < idle + (64 << 20), "a manifest without end was kept");
    assert_eq!(tags(&origin, REPOSITORY), Vec::<String>::new());
    // At the limit it passes.
    put(&origin, MANIFEST, &filled(4 << 20)).expect(201);
    assert_eq!(tags(&origin, REPOSITORY), ["bad"]);
}
