//! Real clients over HTTPS: each is given the authority and nothing else that would let it pass over a wrong certificate.

use std::{path::Path, process::Command};

use crate::{
    clients::{client::Place, podman::Home},
    harness::{
        authority::Authority,
        engines::{Containerd, Docker},
        image::Image,
        node::{Node, Plan},
        process::{program, run},
        scratch::Scratch,
    },
};

const TEAM: &str = "team/app";

/// curl that trusts the authority.
pub(super) fn curl(authority: &Authority) -> Command {
    let mut command = program("curl");
    command.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(authority.file());
    command
}

/// A plan with the pair in `directory`, and addresses of its own for operators, which speak plain HTTP.
pub(super) fn secured(plan: Plan, directory: &Path) -> Plan {
    let file = |name: &str| directory.join(name).display().to_string();
    plan.set("tls.certificate", &file("node.pem"))
        .set("tls.key", &file("node.key"))
        .set("admin.listen", "[\"127.0.0.1:0\"]")
}

/// Writes a new pair of the authority's into a directory of its own.
pub(super) fn pair(authority: &Authority) -> Scratch {
    let (scratch, issued) = (Scratch::new("pair"), authority.issue("node"));
    scratch.file("node.pem", &issued.certificate);
    scratch.file("node.key", &issued.key);
    scratch
}

/// An origin and an edge before it, both with HTTPS; the edge reaches the origin by HTTPS as well.
struct Secure {
    authority: Authority,
    _pair: Scratch,
    origin: Node,
    edge: Node,
}

impl Secure {
    fn start() -> Self {
        let authority = Authority::make();
        let pair = pair(&authority);
        let origin = secured(Plan::origin(), pair.path()).start();
        let edge = secured(Plan::edge_before(&format!("https://{}", origin.address)), pair.path());
        let ca = format!("upstream.\"{}\".ca", origin.address);
        let edge = edge.set(&ca, &authority.file().display().to_string()).start();
        Self { authority, _pair: pair, origin, edge }
    }

    fn place(&self) -> Place {
        Place { origin: self.origin.address, edge: self.edge.address, repository: TEAM.into() }
    }

    fn certificates(&self) -> String {
        self.authority.directory().display().to_string()
    }

    /// Pushes an image to the origin with skopeo.
    fn push(&self, image: &Image) {
        let home = Home::with_plain_http("127.0.0.9:1".parse().expect("an address"));
        let layout = home.scratch.directory("layout");
        image.write_tagged_layout(&layout, "made");
        let (from, to) = (format!("oci:{}:made", layout.display()), self.place().at_origin("latest"));
        let copy = ["copy", "--preserve-digests", "--dest-cert-dir", &self.certificates(), &from];
        run(home.command("skopeo").args(copy).arg(format!("docker://{to}")));
    }
}

#[test]
fn skopeo_and_podman_push_and_pull_over_https() {
    let nodes = Secure::start();
    let image = Image::make("skopeo_and_podman_push_and_pull_over_https", 3, 1 << 20);
    nodes.push(&image);
    let home = Home::with_plain_http("127.0.0.9:1".parse().expect("an address"));
    let directory = home.scratch.join("pulled");
    let from = format!("docker://{}", nodes.place().at_edge("latest"));
    let copy = ["copy", "--preserve-digests", "--src-cert-dir", &nodes.certificates(), &from];
    run(home.command("skopeo").args(copy).arg(format!("dir:{}", directory.display())));
    for blob in &image.blobs {
        let stored = std::fs::read(directory.join(blob.digest().trim_start_matches("sha256:")));
        assert!(stored.expect("skopeo wrote it") == blob.bytes);
    }

    let name = nodes.place().at_edge("latest");
    run(home.command("podman").args(["pull", "-q", "--cert-dir", &nodes.certificates(), &name]));
    let mounted = run(home.command("podman").args(["image", "mount", &name]));
    image.assert_unpacked_in(Path::new(mounted.trim()));
    run(home.command("podman").args(["image", "umount", &name]));
    // Without the authority nobody gets anything: it was the certificate that let them in.
    let untrusting = home.command("podman").args(["pull", "-q", &name]).output().expect("podman runs");
    let said = String::from_utf8_lossy(&untrusting.stderr).into_owned();
    assert!(!untrusting.status.success() && said.contains("certificate"), "{said}");
}

#[test]
fn containerd_pulls_over_https_with_the_authority_in_its_hosts_file() {
    let nodes = Secure::start();
    let image = Image::make("containerd_pulls_over_https", 3, 1 << 20);
    nodes.push(&image);
    let engine = Containerd::start();
    let (place, ca) = (nodes.place(), nodes.authority.file().display().to_string());
    let hosts = format!(
        "server = \"https://{}\"\nca = \"{ca}\"\n[host.\"https://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{ca}\"\n",
        place.origin, place.edge
    );
    engine.scratch().file(&format!("hosts/{}/hosts.toml", place.origin), hosts);
    let name = place.at_origin("latest");
    run(engine.ctr().args(["images", "pull", "--hosts-dir", &engine.scratch().text("hosts"), &name]));
    let mounted = engine.scratch().directory("mounted");
    run(engine.ctr().args(["images", "mount", &name]).arg(&mounted));
    image.assert_unpacked_in(&mounted);
    let served =
        nodes.edge.metrics().count("roadstead_http_requests_total", &["route=\"blob\"", "status=\"200\""]);
    let ranged =
        nodes.edge.metrics().count("roadstead_http_requests_total", &["route=\"blob\"", "status=\"206\""]);
    assert!(served + ranged >= image.blobs.len() as u64, "the edge was asked: {served} {ranged}");
}

#[test]
fn docker_pulls_over_https_and_keeps_the_image_whole() {
    let nodes = Secure::start();
    let image = Image::make("docker_pulls_over_https", 2, 1 << 20);
    nodes.push(&image);
    // dockerd takes any certificate at a loopback address, and reads authorities nowhere but in /etc/docker.
    let engine = Docker::start();
    let name = nodes.place().at_edge("latest");
    engine.run(&["pull", "-q", &name]);
    let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", &name]);
    assert_eq!(id.trim(), image.blobs[0].digest());
    assert_eq!(nodes.edge.metrics().count("roadstead_tls_handshakes_failed_total", &[]), 0, "it spoke HTTPS");
}
