//! `roadstead status`: the page, the document, and alarms that say what to do.

use std::{fs::File, os::unix::fs::FileExt as _};

use serde_json::Value;

use super::{command::Operator, listener::Listener};
use crate::harness::{
    cache::Store,
    content::{Content, digest_of},
    http::{Connection, get, request},
    image::Image,
    node::Plan,
    process::{PATIENCE, wait_for},
};

#[test]
fn a_node_is_shown_on_one_page_and_as_one_document() {
    let origin = Plan::origin().start();
    let image = Image::make("a_node_is_shown_on_one_page", 2, 300_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).set("node.name", "edge-of-the-test").start();
    for _ in 0..2 {
        Content::read(edge.address, "team/app", "v1");
        edge.finishes_downloads();
    }
    let operator = Operator::new();
    let status = operator.at(edge.address, &["status", "--json"]).ends(0).json();
    assert_eq!(
        (&status["node"]["name"], &status["node"]["role"]),
        (&"edge-of-the-test".into(), &"edge".into())
    );
    assert_eq!(status["node"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["ready"], &status["checks"][0]["state"]), (&true.into(), &"ok".into()), "{status}");
    assert_eq!((&status["cache"]["blobs"], &status["downloads"]["running"]), (&3.into(), &0.into()));
    let bytes: u64 = image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum();
    let served = &status["served"];
    assert_eq!(
        (&served["upstream_bytes"], &served["cache_bytes"]),
        (&bytes.into(), &bytes.into()),
        "{served}"
    );
    assert_eq!(served["hit_ratio"], 0.5, "half came from the cache");
    assert_eq!(status["registries"][0]["name"], origin.address.to_string());
    assert_eq!(status["alarms"], Value::Array(Vec::new()));

    let page = operator.at(edge.address, &["status"]).ends(0).out;
    for words in [
        "edge-of-the-test at http://",
        "ready",
        "metadata",
        "hit ratio   50.0 % of bytes",
        "0 running",
        &format!("{} (default) at http://{}", origin.address, origin.address),
        "alarms\n  none",
    ] {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    assert!(!page.contains('\x1b'), "{page:?}");
}

#[test]
fn upstreams_are_shown_as_the_edge_meets_them() {
    let mut origin = Plan::origin().start();
    Image::make("upstreams_are_shown", 1, 10_000).push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    get(edge.address, "/v2/team/app/manifests/v1").expect(200);
    let told = get(edge.address, "/api/v1/upstreams");
    let operator = Operator::new();
    let page = operator.at(edge.address, &["status"]).ends(0).out;
    if told.status == 404 {
        // An edge that does not tell how its upstreams are: the page says that.
        assert!(page.contains("does not tell how its upstreams are"), "{page}");
        return;
    }
    let upstreams: Value = serde_json::from_slice(&told.expect(200).body).expect("JSON");
    let one = &upstreams[0];
    for field in ["name", "url", "default", "state", "freshness"] {
        assert!(!one[field].is_null(), "{field} in {one}");
    }
    assert_eq!((&one["state"], &one["default"]), (&"ok".into(), &true.into()), "{one}");
    assert!(page.contains(": ok"), "{page}");
    origin.kill9();
    get(edge.address, "/v2/team/app/manifests/v1").expect(200);
    get(edge.address, "/v2/team/app/manifests/v2").expect(503);
    let status = operator.at(edge.address, &["status", "--json"]).ends(0).json();
    let state = status["upstreams"][0]["state"].as_str().expect("a state").to_owned();
    assert!(["silent", "failing"].contains(&state.as_str()), "{status}");
    let alarm = &status["alarms"][0];
    assert_eq!(alarm["name"], format!("upstream_{state}"), "{status}");
    assert!(alarm["action"].as_str().is_some_and(|action| action.contains("doctor")), "{alarm}");
}

#[test]
fn bit_rot_raises_an_alarm_that_says_what_to_do() {
    let origin = Plan::origin().start();
    let image = Image::make("bit_rot_raises_an_alarm", 1, 300_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    let hex = image.blobs[1].digest().trim_start_matches("sha256:").to_owned();
    let path = edge.plan().data().join("blobs/sha256").join(&hex[..2]).join(&hex);
    File::options().write(true).open(path).expect("there").write_all_at(b"wrong", 5).expect("written");
    Store(edge.address).verify();
    let operator = Operator::new();
    let status = operator.at(edge.address, &["status", "--json"]).ends(0).json();
    assert_eq!(status["alarms"][0]["name"], "bit_rot", "{status}");
    let page = operator.at(edge.address, &["status"]).ends(0).out;
    assert!(
        page.contains("1 stored blobs had wrong bytes") && page.contains("-> look at the disk"),
        "{page}"
    );
}

#[test]
fn downloads_that_run_are_shown_with_what_came_of_them() {
    let upstream = Listener::halting(&[7; 50_000], 100_000);
    let edge = Plan::edge(upstream.address).start();
    let digest = digest_of(&b"what never comes whole"[..]);
    let mut connection = Connection::open(edge.address).expect("the edge listens");
    connection.send_head("GET", &format!("/v2/team/app/blobs/{digest}"), &[]).expect("sent");
    connection.read_head().expect("an answer begins");
    let operator = Operator::new();
    let status = wait_for("what came is told", PATIENCE, || {
        let status = operator.at(edge.address, &["status", "--json"]).ends(0).json();
        (status["downloads"]["list"][0]["bytes"] == 50_000).then_some(status)
    });
    let download = &status["downloads"]["list"][0];
    assert_eq!((&status["downloads"]["running"], &download["bytes_total"]), (&1.into(), &100_000.into()));
    assert_eq!(download["digest"], digest);
    let page = operator.at(edge.address, &["status"]).ends(0).out;
    assert!(page.contains("1 running") && page.contains("/team/app: 48.8 KiB of 97.7 KiB (50 %)"), "{page}");
}

#[test]
fn the_disk_is_measured_and_nothing_is_left_behind() {
    let origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).start();
    let answer = request(edge.address, "POST", "/api/v1/store/probe", &[], &[]).expect(200);
    let probed: Value = serde_json::from_slice(&answer.body).expect("JSON");
    for step in ["write_ms", "fsync_ms", "read_ms"] {
        assert!(probed[step].as_f64().is_some_and(|ms| (0.0..10_000.0).contains(&ms)), "{step}: {probed}");
    }
    assert!(!edge.plan().data().join("probe").exists());
    get(edge.address, "/api/v1/store/probe").expect(405);
}
