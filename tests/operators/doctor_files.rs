//! The files that `roadstead doctor` prints, given to the engines that they are for: each pulls through the edge.

use std::net::SocketAddr;

use serde_json::Value;

use super::{
    command::Operator,
    tls_relay::{Authority, Life, TlsRelay},
};
use crate::{
    clients::podman::Home,
    harness::{
        content::digest_of,
        engines::{Containerd, Docker},
        http::get,
        image::Image,
        node::{Node, Plan},
        process::run,
    },
};

/// An edge for Docker Hub, which is its default, and for a registry by a name without a port; one origin plays both. The
/// names resolve nowhere: what is pulled came through the edge.
fn edge_before(origin: &Node) -> Node {
    let address = origin.address;
    let upstreams = format!(
        "[upstream.\"docker.io\"]\nurl = \"http://{address}\"\ndefault = true\n\
         [upstream.\"registry.example\"]\nurl = \"http://{address}\"\n"
    );
    Plan::edge_without_upstream().config(&upstreams).start()
}

fn pushed(origin: &Node, name: &str) -> Image {
    let image = Image::make(name, 2, 100_000);
    image.push(origin.address, "library/app", "v1");
    image.push(origin.address, "team/app", "v1");
    image
}

/// The files for a URL, as the document has them.
fn files(operator: &Operator, arguments: &[&str]) -> Vec<Value> {
    let document = operator.run(&[&["doctor", "--json"], arguments].concat()).ends(0).json();
    document["examinations"][0]["files"].as_array().expect("files").clone()
}

fn text<'a>(files: &'a [Value], path: &str) -> &'a str {
    let file =
        files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no {path} in {files:?}"));
    file["text"].as_str().expect("a text")
}

/// How many manifests the edge has given out.
fn answered(edge: SocketAddr) -> u64 {
    crate::harness::metrics::Metrics::read(edge)
        .count("roadstead_cache_answers_total", &["kind=\"manifest\""])
}

/// Writes the `hosts.toml` files below one directory, as they lie below /etc/containerd/certs.d.
fn write_hosts(engine: &Containerd, files: &[Value], ca: Option<&str>) -> String {
    for file in files.iter().filter(|file| file["client"] == "containerd") {
        let path = file["path"].as_str().expect("a path").replace("/etc/containerd/certs.d", "hosts");
        let mut text = file["text"].as_str().expect("a text").to_owned();
        if let Some(ca) = ca {
            text = text.replace("/etc/containerd/roadstead-ca.pem", ca);
        }
        engine.scratch().file(&path, text);
    }
    engine.scratch().text("hosts")
}

fn pull_with_containerd(files: &[Value], ca: Option<&str>, image: &Image) {
    let engine = Containerd::start();
    let hosts = write_hosts(&engine, files, ca);
    for name in ["docker.io/library/app:v1", "registry.example/team/app:v1"] {
        run(engine.ctr().args(["images", "pull", "--hosts-dir", &hosts, name]));
        let listed = run(engine.ctr().args(["images", "ls", &format!("name=={name}")]));
        assert!(listed.contains(&image.digest()), "{name}: {listed}");
    }
}

fn pull_with_podman_and_skopeo(conf: &str, image: &Image) {
    let names = ["docker.io/library/app:v1", "registry.example/team/app:v1"];
    // podman takes the file from where it is told, and nothing else is configured; this skopeo only from where it belongs.
    let home = Home::new("");
    let file = home.scratch.file("registries.conf", conf);
    for name in names {
        run(home.command("podman").env("CONTAINERS_REGISTRIES_CONF", &file).args(["pull", "-q", name]));
        let what = "{{.Digest}}";
        let found = run(home.command("podman").args(["image", "inspect", "--format", what, name]));
        assert_eq!(found.trim(), image.digest(), "{name}");
    }
    let home = Home::new(conf);
    for name in names {
        let directory = home.scratch.join(&name.replace(['/', ':'], "-"));
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", directory.display()));
        run(home.command("skopeo").args(["copy", "--preserve-digests", &from, &to]));
        let manifest = std::fs::read(directory.join("manifest.json")).expect("skopeo wrote it");
        assert_eq!(digest_of(manifest.as_slice()), image.digest(), "{name}");
    }
}

fn pull_with_docker(settings: &str, image: &Image) {
    let engine = Docker::with_settings(settings);
    engine.run(&["pull", "-q", "app:v1"]);
    let digests = engine.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", "app:v1"]);
    assert!(digests.contains(&image.digest()), "{digests}");
}

#[test]
fn engines_pull_by_the_files_that_the_doctor_prints() {
    let origin = Plan::origin().start();
    let image = pushed(&origin, "engines_pull_by_the_files");
    let edge = edge_before(&origin);
    let files = files(&Operator::new(), &[&format!("http://{}", edge.address), "--image", "library/app:v1"]);
    let mut before = answered(edge.address);
    let mut came_through_the_edge = |client: &str| {
        let now = answered(edge.address);
        assert!(now > before, "{client} did not ask the edge");
        before = now;
    };
    pull_with_containerd(&files, None, &image);
    came_through_the_edge("containerd");
    pull_with_podman_and_skopeo(text(&files, "/etc/containers/registries.conf.d/roadstead.conf"), &image);
    came_through_the_edge("podman");
    pull_with_docker(text(&files, "/etc/docker/daemon.json"), &image);
    came_through_the_edge("docker");
}

#[test]
fn over_tls_engines_pull_by_the_files_that_the_doctor_prints() {
    let origin = Plan::origin().start();
    let image = pushed(&origin, "over_tls_containerd_pulls");
    let edge = edge_before(&origin);
    let (authority, operator) = (Authority::new("The Harbour Authority"), Operator::new());
    let ca = operator.home.file("ca.pem", authority.pem());
    let relay = TlsRelay::before(edge.address, authority.sign(&["127.0.0.1"], Life::Long));
    let files = files(&operator, &[&format!("https://{}", relay.address), "--ca", &ca]);
    assert!(
        !text(&files, "/etc/containers/registries.conf.d/roadstead.conf").contains("insecure = true\npull")
    );
    let before = answered(edge.address);
    pull_with_containerd(&files, Some(&ca), &image);
    assert!(answered(edge.address) > before, "it asked the edge");
    let conf = text(&files, "/etc/containers/registries.conf.d/roadstead.conf");
    let home = Home::new(conf);
    home.scratch.file("certs/ca.crt", authority.pem());
    let to = format!("dir:{}", home.scratch.text("pulled"));
    let copy =
        ["copy", "--src-cert-dir", &home.scratch.text("certs"), "docker://docker.io/library/app:v1", &to];
    run(home.command("skopeo").args(copy));
}

#[test]
fn files_name_the_edge_as_clients_reach_it() {
    let origin = Plan::origin().start();
    let edge = edge_before(&origin);
    let url = format!("http://{}", edge.address);
    let operator = Operator::new();
    let files = files(&operator, &[&url, "--clients-use", "https://edge.example"]);
    let all: String = files.iter().map(|file| file["text"].as_str().expect("a text")).collect();
    assert!(all.contains("https://edge.example") && !all.contains(&edge.address.to_string()), "{all}");
    assert_eq!(get(edge.address, "/v2/").status, 200);
}
