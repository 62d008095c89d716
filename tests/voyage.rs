//! The main job, with each client: push to an origin, pull through an edge, sink the origin, pull again, clean; then the
//! origin is back with a new `latest`, and that is what the edge serves.

use std::time::Duration;

use crate::{
    clients::{
        buildah::BuildahClient,
        client::{Client, Place, REGISTRY_NAME},
        containerd::ContainerdClient,
        crane::CraneClient,
        docker::DockerClient,
        oras::OrasClient,
        podman::PodmanClient,
        skopeo::SkopeoClient,
    },
    harness::{
        content::{ACCEPT, Content, manifest},
        http::request,
        image::Image,
        node::{Node, Plan},
        process::wait_for,
    },
};

#[test]
fn docker_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&DockerClient, "docker");
}

#[test]
fn containerd_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&ContainerdClient, "containerd");
}

#[test]
fn podman_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&PodmanClient, "podman");
}

#[test]
fn buildah_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&BuildahClient, "buildah");
}

#[test]
fn skopeo_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&SkopeoClient, "skopeo");
}

#[test]
fn crane_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&CraneClient, "crane");
}

#[test]
fn oras_pulls_through_the_edge_with_and_without_the_origin() {
    voyage(&OrasClient, "oras");
}

/// How soon the edge serves what the origin has once that is back.
const BACK: Duration = Duration::from_secs(10);

fn voyage(client: &dyn Client, name: &str) {
    let mut origin = Plan::origin().start();
    let edge = edge_before(&origin);
    let place = Place { origin: origin.address, edge: edge.address, repository: format!("team/{name}") };

    let first = Image::make(&format!("{name} first"), 3, 700_000);
    let content = pushed(client, &first, &place);
    let served_before = blob_bytes_served(&origin);
    pull_every_way(client, &place, &content, &first);
    assert_eq!(
        Content::read(edge.address, &place.repository, "latest"),
        content,
        "the edge serves the same bytes"
    );
    // Its repository is the origin's under two names, and its blobs were pulled many times: each came over once.
    assert_eq!(
        blob_bytes_served(&origin) - served_before,
        content.blob_bytes(),
        "each blob left the origin once"
    );

    origin.kill9();
    let from_cache =
        |edge: &Node| edge.metrics().count("roadstead_blob_bytes_served_total", &["source=\"cache\""]);
    let cached_before = from_cache(&edge);
    pull_every_way(client, &place, &content, &first);
    assert!(from_cache(&edge) - cached_before >= content.blob_bytes(), "all came from the cache");
    assert_eq!(Content::read(edge.address, &place.repository, "latest"), content, "offline, too");
    assert_stale_answer_says_so(&place);

    origin.restart();
    let second = Image::make(&format!("{name} second"), 2, 400_000);
    let newer = pushed(client, &second, &place);
    assert_ne!(newer.digest, content.digest);
    wait_for("the edge serves the new latest", BACK, || {
        (manifest(edge.address, &place.repository, "latest").0 == newer.digest).then_some(())
    });
    for &way in client.ways() {
        client.pull(way, &place, "latest", &newer, &second);
    }
    // What the tag named before is still there by its digest.
    assert_eq!(Content::read(edge.address, &place.repository, &content.digest), content);
}

/// An edge that knows the origin by its address and by a name without a port.
fn edge_before(origin: &Node) -> Node {
    let named = format!("[upstream.\"{REGISTRY_NAME}\"]\nurl = \"http://{}\"\n", origin.address);
    Plan::edge(origin.address).config(&named).start()
}

/// Pushes by the client and gives what the origin then holds.
fn pushed(client: &dyn Client, image: &Image, place: &Place) -> Content {
    client.push(image, place.origin, &place.repository, "latest");
    let content = Content::read(place.origin, &place.repository, "latest");
    if client.pushes_exact_bytes() {
        assert_eq!(content.digest, image.digest(), "the origin has what was pushed");
        assert_eq!(content.manifests[&content.digest].bytes, image.manifest.bytes);
    }
    content
}

fn pull_every_way(client: &dyn Client, place: &Place, content: &Content, image: &Image) {
    for &way in client.ways() {
        for reference in ["latest", &content.digest] {
            client.pull(way, place, reference, content, image);
        }
    }
}

fn assert_stale_answer_says_so(place: &Place) {
    let path = format!("/v2/{}/manifests/latest", place.repository);
    let answer = request(place.edge, "GET", &path, &[("Accept", ACCEPT)], &[]).expect(200);
    assert!(
        answer.header("warning").is_some_and(|warning| warning.starts_with("299 - \"")),
        "{:?}",
        answer.head
    );
    assert!(answer.header("age").is_some_and(|age| age.parse::<u64>().is_ok()), "{:?}", answer.head);
    assert!(answer.header("cache-status").is_some_and(|status| status.contains("hit")), "{:?}", answer.head);
}

fn blob_bytes_served(origin: &Node) -> u64 {
    origin.metrics().count("roadstead_blob_bytes_served_total", &[])
}
