//! Real clients that log in: refused without, served with, through the origin and through an edge before it.

use std::process::Command;

use super::{ADMIN, Guarded, PASSWORD};
use crate::{
    clients::{oras::oras, podman::Home},
    harness::{
        engines::Docker,
        http::request,
        image::Image,
        process::{cached, program, run},
        scratch::Scratch,
    },
};

/// Runs a command that has to be refused, and gives what it said.
fn refused(command: &mut Command) -> String {
    let output = command.output().expect("it starts; run tests/setup");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{command:?} was let in: {said}");
    said
}

#[test]
fn docker_logs_in_pushes_and_pulls_and_is_refused_otherwise() {
    let site = Guarded::start();
    site.project("team");
    let robot = site.robot("team+ci", &["pull", "push"]);
    let address = site.origin.address.to_string();
    let engine = Docker::start();
    let context = Scratch::new("context");
    Image::make("docker login", 2, 10_000).write_context(context.path());
    let name = format!("{address}/team/app:v1");
    engine.run(&["build", "-t", &name, "-f", &context.text("Containerfile"), &context.text("")]);
    refused(engine.cli().args(["push", &name]));
    refused(engine.cli().args(["login", "-u", "team+ci", "-p", "wrong", &address]));
    engine.run(&["login", "-u", "team+ci", "-p", &robot, &address]);
    engine.run(&["push", &name]);
    let missing = format!("{address}/nowhere/app:v1");
    engine.run(&["tag", &name, &missing]);
    let said = refused(engine.cli().args(["push", &missing]));
    assert!(said.contains("roadstead project create nowhere"), "{said}");

    let other = Docker::start();
    let said = refused(other.cli().args(["pull", &name]));
    let none = refused(other.cli().args(["pull", &format!("{address}/none/app:v1")]));
    assert_eq!(said.replace("team/app", "none/app"), none, "a private project and none look the same");
    other.run(&["login", "-u", ADMIN, "-p", PASSWORD, &address]);
    other.run(&["pull", "-q", &name]);
    other.run(&["logout", &address]);
    other.run(&["rmi", "-f", &name]);
    refused(other.cli().args(["pull", &name]));
    site.set("projects/team", r#"{"public":true}"#);
    other.run(&["pull", "-q", &name]);
}

#[test]
fn podman_buildah_and_skopeo_log_in_and_are_refused_otherwise() {
    let site = Guarded::start();
    site.project("team");
    let robot = site.robot("team+ci", &["pull", "push"]);
    let address = site.origin.address.to_string();
    let image = Image::make("podman login", 2, 10_000);
    let home = Home::with_plain_http(site.origin.address);
    let layout = home.scratch.directory("layout");
    image.write_tagged_layout(&layout, "made");
    let (from, to) = (format!("oci:{}:made", layout.display()), format!("docker://{address}/team/app:v1"));
    let copy = ["copy", "--preserve-digests", &from, &to];
    refused(home.command("skopeo").args(copy));
    refused(home.command("podman").args(["login", "-u", "team+ci", "-p", "wrong", &address]));
    run(home.command("podman").args(["login", "-u", "team+ci", "-p", &robot, &address]));
    run(home.command("skopeo").args(copy));
    let name = format!("{address}/team/app:v1");
    run(home.command("podman").args(["pull", "-q", &name]));
    let container = run(home.command("buildah").args(["from", "--pull-always", &name]));
    run(home.command("buildah").args(["rm", container.trim()]));
    run(home.command("podman").args(["logout", &address]));
    refused(home.command("podman").args(["pull", "-q", "--policy", "always", &name]));
    let to = format!("docker://{address}/team/app:v2");
    let with_password = format!("{ADMIN}:{PASSWORD}");
    run(home.command("skopeo").args([
        "copy",
        "--dest-creds",
        &with_password,
        "--preserve-digests",
        &from,
        &to,
    ]));
    run(home.command("skopeo").args(["delete", "--creds", &with_password, &to]));
    refused(home.command("skopeo").args([
        "delete",
        "--creds",
        &format!("team+ci:{robot}"),
        &format!("docker://{name}"),
    ]));
}

#[test]
fn crane_and_oras_log_in_and_are_refused_otherwise() {
    let site = Guarded::start();
    site.project("team");
    let robot = site.robot("team+ci", &["pull", "push", "delete"]);
    let address = site.origin.address.to_string();
    let layout = Scratch::new("layout");
    Image::make("crane login", 2, 10_000).write_tagged_layout(layout.path(), "made");
    let config = Scratch::new("config");
    let crane = || {
        let mut command = program(cached("crane"));
        command.arg("--insecure").env("DOCKER_CONFIG", config.path());
        command
    };
    let name = format!("{address}/team/app:v1");
    let layout_path = layout.path().display().to_string();
    refused(crane().args(["push", &layout_path, &name]));
    // crane keeps what it is told without asking; the push is where it shows.
    run(crane().args(["auth", "login", &address, "-u", "team+ci", "-p", "wrong"]));
    refused(crane().args(["push", &layout_path, &name]));
    run(crane().args(["auth", "login", &address, "-u", "team+ci", "-p", &robot]));
    run(crane().args(["push", &layout_path, &name]));
    run(crane().args(["copy", &name, &format!("{address}/team/other:v1")]));
    assert_eq!(run(crane().args(["catalog", &address])), "team/app\nteam/other\n");
    assert_eq!(run(crane().args(["ls", &format!("{address}/team/app")])), "v1\n");
    run(crane().args(["delete", &format!("{address}/team/other:v1")]));

    let credentials = ["--username", "team+ci", "--password", &robot];
    let fetch = ["manifest", "fetch", "--plain-http", &name];
    refused(oras().args(fetch));
    run(oras().args(fetch).args(credentials));
    run(oras().args(["repo", "tags", "--plain-http", &format!("{address}/team/app")]).args(credentials));
    refused(oras().args(fetch).args(["--username", ADMIN, "--password", "wrong"]));
    run(oras().args(fetch).args(["--username", ADMIN, "--password", PASSWORD]));
}

#[test]
fn an_edge_pulls_from_such_an_origin_with_its_own_secret() {
    let site = Guarded::start();
    site.project("team");
    let robot = site.robot("system+edge", &["pull"]);
    let image = Image::make("edge login", 2, 10_000);
    let home = Home::with_plain_http(site.origin.address);
    let layout = home.scratch.directory("layout");
    image.write_tagged_layout(&layout, "made");
    let (from, to) =
        (format!("oci:{}:made", layout.display()), format!("docker://{}/team/app:v1", site.origin.address));
    let with_password = format!("{ADMIN}:{PASSWORD}");
    run(home.command("skopeo").args([
        "copy",
        "--dest-creds",
        &with_password,
        "--preserve-digests",
        &from,
        &to,
    ]));
    let edge = site.edge("system+edge", &robot);
    let path = "/v2/team/app/manifests/v1";
    assert_eq!(request(edge.address, "GET", path, &[], &[]).expect(200).body, image.manifest.bytes);
    for blob in &image.blobs {
        let path = format!("/v2/team/app/blobs/{}", blob.digest());
        assert_eq!(request(edge.address, "GET", &path, &[], &[]).expect(200).body, blob.bytes);
    }
    let blind = site.edge("system+edge", "wrong");
    assert_ne!(request(blind.address, "GET", path, &[], &[]).status, 200);
}
