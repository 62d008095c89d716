//! dockerd's `registry-mirrors` with an edge before a registry that plays Docker Hub, in a network where the real one is
//! out of reach.

use std::time::{Duration, Instant};

use crate::harness::{content::Content, engines::Docker, image::Image, network::Network, node::Plan};

/// How long dockerd may take to say that it cannot pull, when neither mirror nor Hub answers.
const GIVES_UP: Duration = Duration::from_secs(60);

#[test]
fn dockerd_pulls_hubs_names_by_the_mirror_with_and_without_the_upstream() {
    Network::isolated(|_network| {
        let mut hub = Plan::origin().start();
        let (official, other) = (Image::make("hub: alpine", 2, 200_000), Image::make("hub: app", 2, 200_000));
        official.push(hub.address, "library/alpine", "latest");
        other.push(hub.address, "team/app", "v1");
        let edge = Plan::edge_of("docker.io", hub.address).start();
        let engine = Docker::with_mirror(edge.address);
        let names =
            [("alpine", "library/alpine", "latest", &official), ("team/app:v1", "team/app", "v1", &other)];
        let pull_all = || {
            for (name, repository, tag, image) in names {
                engine.run(&["pull", "-q", name]);
                let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", name]);
                assert_eq!(id.trim(), image.blobs[0].digest(), "{name}");
                assert_eq!(Content::read(edge.address, repository, tag).digest, image.digest());
                engine.run(&["image", "rm", "-f", name]);
            }
        };
        pull_all();
        hub.kill9();
        let cached = || edge.metrics().count("roadstead_blob_bytes_served_total", &["source=\"cache\""]);
        let before = cached();
        pull_all();
        let bytes = [&official, &other]
            .map(|image| image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum::<u64>());
        assert!(cached() - before >= bytes.iter().sum(), "all of it came from the cache");
    });
}

/// dockerd's behaviour, which an edge cannot change: it turns to Docker Hub itself, as without a mirror.
#[test]
fn dockerd_turns_to_hub_itself_when_the_mirror_cannot_serve_or_is_gone() {
    Network::isolated(|_network| {
        let mut hub = Plan::origin().start();
        Image::make("hub: gone", 1, 50_000).push(hub.address, "library/alpine", "latest");
        let mut edge = Plan::edge_of("docker.io", hub.address).start();
        let engine = Docker::with_mirror(edge.address);
        hub.kill9();
        let began = Instant::now();
        let said = fails_to_pull(&engine, "alpine");
        assert!(said.contains("registry-1.docker.io"), "the edge is up and has nothing: {said}");
        let asked = edge.metrics().count("roadstead_http_requests_total", &["status=\"503\""]);
        assert!((1..=4).contains(&asked), "it was asked {asked} times");
        edge.kill9();
        let said = fails_to_pull(&engine, "alpine");
        assert!(said.contains("registry-1.docker.io"), "the edge is gone: {said}");
        assert!(began.elapsed() < GIVES_UP, "{:?}", began.elapsed());

        // And back to the mirror as soon as that is there.
        hub.restart();
        edge.restart();
        engine.run(&["pull", "-q", "alpine"]);
    });
}

fn fails_to_pull(engine: &Docker, name: &str) -> String {
    let output = engine.cli().args(["pull", name]).output().expect("docker starts; run tests/setup");
    assert!(!output.status.success(), "nobody has it");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
