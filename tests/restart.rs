//! Nodes that are killed: what they had is there when they are back, and never wrong.

use std::time::{Duration, Instant};

use crate::harness::{
    content::{Content, try_blob},
    http::{Connection, get, location_of, request, with_digest},
    image::{Image, push_manifest},
    large::{LargeBlob, start_upload},
    node::Plan,
    process::{PATIENCE, wait_for},
};

/// A node is ready within this time of its start, after `kill -9`, and whether or not its upstream is there.
const READY: Duration = Duration::from_secs(5);

#[test]
fn a_killed_edge_serves_its_cache_while_the_origin_is_dead() {
    let mut origin = Plan::origin().start();
    let image = Image::make("a_killed_edge_serves_its_cache", 4, 500_000);
    image.push(origin.address, "team/app", "latest");
    let mut edge = Plan::edge(origin.address).start();
    let content = Content::read(edge.address, "team/app", "latest");
    edge.finishes_downloads();
    origin.kill9();
    edge.kill9();
    let began = Instant::now();
    edge.restart();
    assert!(began.elapsed() < READY, "ready after {:?}", began.elapsed());
    assert_eq!(Content::read(edge.address, "team/app", "latest"), content);
    assert_eq!(Content::read(edge.address, "team/app", &image.digest()), content);
}

#[test]
fn an_edge_starts_while_its_upstream_is_down_and_serves_it_when_it_comes() {
    let mut origin = Plan::origin().start();
    let image = Image::make("an_edge_starts_while_its_upstream_is_down", 1, 10_000);
    image.push(origin.address, "team/app", "latest");
    origin.kill9();
    let edge = Plan::edge(origin.address).start();
    let answer = get(edge.address, "/v2/team/app/manifests/latest");
    assert_eq!(answer.status, 503, "what it cannot know is not a 404: {answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    origin.restart();
    wait_for("the edge serves what the upstream has", PATIENCE, || {
        (get(edge.address, "/v2/team/app/manifests/latest").status == 200).then_some(())
    });
    assert_eq!(Content::read(edge.address, "team/app", "latest").digest, image.digest());
}

#[test]
fn an_edge_killed_at_any_byte_of_a_download_never_serves_wrong_bytes() {
    let mut origin = Plan::origin().start();
    let blob = LargeBlob::make("an_edge_killed_at_any_byte_of_a_download", 48 << 20);
    blob.push(origin.address, "team/app");
    let mut edge = Plan::edge(origin.address).start();
    for tenth in 0..10 {
        let mut connection = Connection::open(edge.address).expect("the edge listens");
        let path = format!("/v2/team/app/blobs/{}", blob.digest);
        connection.send_head("GET", &path, &[]).expect("a request can be sent");
        let head = connection.read_head().expect("an answer begins");
        if head.status != 200 {
            let mut said = Vec::new();
            connection.read_body(&head, &mut said).expect("a refusal comes whole");
            panic!("after {tenth} restarts: {head:?} {}", String::from_utf8_lossy(&said));
        }
        connection.read_exactly(blob.length * tenth / 10, &mut std::io::sink()).expect("so much comes");
        edge.restart();
    }
    let whole = (200, blob.length, blob.digest.clone());
    assert_eq!(try_blob(edge.address, "team/app", &blob.digest).expect("it comes whole"), whole);
    edge.finishes_downloads();
    origin.kill9();
    edge.restart();
    assert_eq!(
        try_blob(edge.address, "team/app", &blob.digest).expect("it comes whole"),
        whole,
        "from the cache"
    );
}

#[test]
fn an_upload_goes_on_after_its_origin_was_killed_in_the_midst_of_a_chunk() {
    let mut origin = Plan::origin().start();
    let first = Image::make("an_upload_goes_on", 1, 9 << 20);
    let blob = &first.blobs[1];
    let (one, two) = blob.bytes.split_at(4 << 20);
    let upload = start_upload(origin.address, "team/app");
    let range = format!("0-{}", one.len() - 1);
    let octets = ("Content-Type", "application/octet-stream");
    let patched =
        request(origin.address, "PATCH", &upload, &[octets, ("Content-Range", &range)], one).expect(202);
    assert_eq!(patched.header("range"), Some(range.as_str()));
    let location = location_of(&patched);

    let mut connection = Connection::open(origin.address).expect("the origin listens");
    let (length, rest) = (two.len().to_string(), format!("{}-{}", one.len(), blob.bytes.len() - 1));
    let headers = [octets, ("Content-Range", rest.as_str()), ("Content-Length", length.as_str())];
    connection.send_head("PATCH", &location, &headers).expect("a request can be sent");
    connection.send(&two[..two.len() / 2]).expect("half of the chunk can be sent");
    origin.restart();

    let status = request(origin.address, "GET", &location, &[], &[]).expect(204);
    assert_eq!(
        status.header("range"),
        Some(range.as_str()),
        "the chunk that was not acknowledged is not there"
    );
    let location = location_of(&status);
    let patched =
        request(origin.address, "PATCH", &location, &[octets, ("Content-Range", &rest)], two).expect(202);
    let location = location_of(&patched);
    request(origin.address, "PUT", &with_digest(&location, &blob.digest()), &[], &[]).expect(201);
    crate::harness::image::push_blob(origin.address, "team/app", &first.blobs[0]);
    push_manifest(origin.address, "team/app", "latest", &first.manifest);
    assert_eq!(Content::read(origin.address, "team/app", "latest").digest, first.digest());
}

#[test]
fn what_an_origin_acknowledged_is_there_after_kill_9() {
    let mut origin = Plan::origin().start();
    for round in 0..8 {
        let image = Image::make(&format!("acknowledged {round}"), 2, 300_000);
        image.push(origin.address, "team/app", &format!("v{round}"));
        origin.restart();
        assert_eq!(Content::read(origin.address, "team/app", &format!("v{round}")).digest, image.digest());
    }
    let tags = get(origin.address, "/v2/team/app/tags/list").expect(200).text();
    assert!((0..8).all(|round| tags.contains(&format!("\"v{round}\""))), "{tags}");
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).start();
    for node in [&origin, &edge] {
        let (code, said) = node.plan().clone().listen("127.0.0.1:0").refused();
        assert_eq!(code, Some(1), "{said}");
        let data = node.plan().data().display().to_string();
        assert!(said.contains(&data), "the message names the directory {data}: {said}");
        assert_eq!(get(node.address, "/readyz").status, 200, "the first one serves on");
    }
}
