//! podman with a mirror of `registries.conf` in the path form: who answers the manifest has to serve the blobs, so what
//! podman does when the edge dies in between is written down here.

use std::{
    net::SocketAddr,
    process::{Command, Output, Stdio},
};

use crate::{
    clients::{client::REGISTRY_NAME, podman::Home},
    harness::{
        fault_proxy::{Asked, Fault, FaultProxy},
        image::Image,
        node::{Node, Plan},
        process::{PATIENCE, run, wait_for},
    },
};

/// An origin, an edge before it by way of a proxy, and an image that only the origin has.
struct Harbour {
    origin: Node,
    proxy: FaultProxy,
    edge: Node,
    image: Image,
    home: Home,
}

impl Harbour {
    fn new(name: &str, layer: usize) -> Self {
        let origin = Plan::origin().start();
        let image = Image::make(name, 2, layer);
        image.push(origin.address, "team/app", "latest");
        let proxy = FaultProxy::before(origin.address);
        let edge = Plan::edge_of(REGISTRY_NAME, proxy.address).set("download.stall", "1s").start();
        let home = Home::new(&registries(origin.address, edge.address));
        Self { origin, proxy, edge, image, home }
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command("podman");
        command.args(arguments);
        command
    }

    fn pull(&self) -> Command {
        self.podman(&["pull", "-q", &format!("{REGISTRY_NAME}/team/app:latest")])
    }

    fn assert_pulled(&self) {
        let what = ["image", "inspect", "--format", "{{.Id}} {{.Digest}}"];
        let found = run(self.podman(&what).arg(format!("{REGISTRY_NAME}/team/app:latest")));
        let config = self.image.blobs[0].digest();
        assert_eq!(found.trim(), format!("{} {}", config.trim_start_matches("sha256:"), self.image.digest()));
    }

    fn blobs_from_origin(&self) -> u64 {
        self.origin.metrics().count("roadstead_http_requests_total", &["route=\"blob\"", "status=\"200\""])
    }
}

/// The origin under its name, with a mirror that is asked first.
fn registries(origin: SocketAddr, mirror: SocketAddr) -> String {
    format!(
        "[[registry]]\nprefix = \"{REGISTRY_NAME}\"\nlocation = \"{origin}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{mirror}/{REGISTRY_NAME}\"\ninsecure = true\n"
    )
}

#[test]
fn podman_goes_to_the_origin_when_the_edge_is_gone_and_through_it_when_it_is_there() {
    let mut harbour = Harbour::new("podman: gone", 200_000);
    harbour.edge.kill9();
    run(&mut harbour.pull());
    harbour.assert_pulled();
    assert_eq!(harbour.proxy.requests(), 0, "the origin itself was asked");
    run(&mut harbour.podman(&["image", "rm", "-a", "-f"]));
    harbour.edge.restart();
    let before = harbour.blobs_from_origin();
    run(&mut harbour.pull());
    harbour.assert_pulled();
    assert!(harbour.proxy.requests() > 0, "the edge was asked");
    assert_eq!(
        harbour.blobs_from_origin() - before,
        harbour.image.blobs.len() as u64,
        "and each blob came once"
    );
}

/// Newer ones ask the same host for the rest; Debian's gives up. Neither costs the edge a byte twice.
#[test]
fn podman_resumes_a_broken_blob_at_the_edge_or_its_next_pull_does_and_the_link_sees_each_byte_once() {
    const LAYER: usize = 6 << 20;
    let mut harbour = Harbour::new("podman: broken", LAYER);
    let between = FaultProxy::before(harbour.edge.address);
    harbour.home = Home::new(&registries(harbour.origin.address, between.address));
    let layer = harbour.image.blobs[1].digest();
    between.spoils(move |asked| match (asked.name() == layer, asked.offset()) {
        (true, 0) => Fault::Cut(3 << 20),
        _ => Fault::Honest,
    });
    let Output { status, stderr, .. } = harbour.pull().output().expect("podman starts; run tests/setup");
    let offsets: Vec<usize> = between.take_asked().iter().map(Asked::offset).filter(|at| *at > 0).collect();
    if status.success() {
        assert_eq!(offsets, [3 << 20], "the rest was asked for, at the same host");
    } else {
        let said = String::from_utf8_lossy(&stderr);
        assert!(said.contains("unexpected EOF") && offsets.is_empty(), "{offsets:?} {said}");
        between.does(Fault::Honest);
        run(&mut harbour.pull());
    }
    harbour.assert_pulled();
    let blobs = harbour.image.blobs.iter().map(|blob| blob.bytes.len() as u64).sum::<u64>();
    harbour.edge.finishes_downloads();
    let received = harbour.edge.metrics().count("roadstead_upstream_bytes_received_total", &[]);
    assert!((blobs..blobs + 10_000).contains(&received), "{received} bytes for {blobs}");
}

/// podman has no failover for a blob: it begins the pull again, and then the edge is gone and the origin is asked.
#[test]
fn podman_begins_again_at_the_origin_when_the_edge_dies_between_manifest_and_blobs() {
    let mut harbour = Harbour::new("podman: dies in between", 200_000);
    harbour.proxy.spoils(|asked| if asked.is_for_blob() { Fault::Silent } else { Fault::Honest });
    let before = harbour.blobs_from_origin();
    let pull = harbour.pull().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let pull = pull.expect("podman starts; run tests/setup");
    wait_for("podman asks for a blob", PATIENCE, || {
        harbour.proxy.take_asked().iter().any(Asked::is_for_blob).then_some(())
    });
    harbour.edge.kill9();
    let ended = pull.wait_with_output().expect("podman ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    harbour.assert_pulled();
    assert_eq!(
        harbour.blobs_from_origin() - before,
        harbour.image.blobs.len() as u64,
        "by the origin itself"
    );
}
