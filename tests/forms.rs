//! What images can be besides one for one machine: an index, an artifact about an image, a layer of 1.5 GB.

use crate::{
    clients::{
        client::{Place, named},
        oras::oras,
        podman::Home,
    },
    harness::{
        content::{Content, blob, manifest},
        engines::{Containerd, Docker},
        http::get,
        image::Index,
        large::write_large_layout,
        node::{Node, Plan},
        process::{cached, program, run},
        scratch::Scratch,
    },
};

const TEAM: &str = "team/app";

/// The size of the large layer's file.
const LARGE: u64 = 1_500_000_000;

/// What one transfer may take of a node's memory above idle.
const MEMORY: u64 = 64 << 20;

#[test]
fn an_index_of_two_architectures_keeps_its_exact_bytes_through_the_edge() {
    let (mut origin, edge) = origin_and_edge();
    let index = Index::make("an_index_of_two_architectures");
    let home = Home::with_plain_http(origin.address);
    let layout = home.scratch.directory("layout");
    index.write_tagged_layout(&layout, "made");
    let (from, to) =
        (format!("oci:{}:made", layout.display()), named(&origin.address.to_string(), TEAM, "latest"));
    run(home.command("skopeo").args([
        "copy",
        "--all",
        "--preserve-digests",
        &from,
        &format!("docker://{to}"),
    ]));

    let place = Place { origin: origin.address, edge: edge.address, repository: TEAM.into() };
    let content = Content::read(edge.address, TEAM, "latest");
    assert_eq!(content.digest, index.document.digest());
    assert_eq!(content.manifests[&content.digest].bytes, index.document.bytes);
    assert_eq!(content, Content::read(origin.address, TEAM, "latest"));

    origin.kill9();
    let pulled = Scratch::new("layout");
    run(program(cached("crane"))
        .args(["--insecure", "pull", "--format", "oci", &place.at_edge("latest")])
        .arg(pulled.path()));
    content.assert_stored_in(&pulled.join("blobs/sha256"), &[]);
    let engine = Containerd::start();
    run(engine.ctr().args(["images", "pull", "--plain-http", "--all-platforms", &place.at_edge("latest")]));
    let listed = run(engine.ctr().args(["content", "ls", "-q"]));
    assert!(
        content.blobs.keys().chain(content.manifests.keys()).all(|digest| listed.contains(digest.as_str())),
        "{listed}"
    );
}

#[test]
fn one_architecture_of_an_index_is_enough_to_pull_it_without_the_origin() {
    let (mut origin, edge) = origin_and_edge();
    let index = Index::make("one_architecture_of_an_index");
    index.push(origin.address, TEAM, "latest");
    let place = Place { origin: origin.address, edge: edge.address, repository: TEAM.into() };
    let [ours, other] = &index.images[..] else { panic!("an index of two") };
    let pulled_id = || {
        let engine = Docker::start();
        engine.run(&["pull", "-q", &place.at_edge("latest")]);
        engine.run(&["image", "inspect", "--format", "{{.Id}}", &place.at_edge("latest")])
    };
    assert_eq!(pulled_id().trim(), ours.blobs[0].digest());
    origin.kill9();
    assert_eq!(pulled_id().trim(), ours.blobs[0].digest());
    assert_eq!(
        manifest(edge.address, TEAM, "latest").1.bytes,
        index.document.bytes,
        "with both images in it"
    );
    let absent = get(edge.address, &format!("/v2/{TEAM}/manifests/{}", other.digest()));
    assert_eq!(absent.status, 503, "the other image is there, only not here: {}", absent.text());
}

#[test]
fn an_artifact_is_found_by_its_subject_through_the_edge() {
    let (mut origin, edge) = origin_and_edge();
    let index = Index::make("an_artifact_is_found_by_its_subject");
    index.push(origin.address, TEAM, "latest");
    let (at_origin, at_edge) = (
        named(&origin.address.to_string(), TEAM, "latest"),
        named(&edge.address.to_string(), TEAM, "latest"),
    );
    let work = Scratch::new("artifact");
    work.file("bill.json", r#"{"packages":["roadstead"]}"#);
    work.file("signature.txt", "signed\n");
    let kinds = [
        ("application/vnd.example.bill.v1", "bill.json"),
        ("application/vnd.example.signature.v1", "signature.txt"),
    ];
    for (kind, file) in kinds {
        run(oras()
            .args(["attach", "--plain-http", "--artifact-type", kind, &at_origin, file])
            .current_dir(work.path()));
    }
    let discover = |name: &str| run(oras().args(["discover", "--plain-http", "--format", "json", name]));
    let (found, wanted): (serde_json::Value, serde_json::Value) =
        [&at_edge, &at_origin].map(|name| serde_json::from_str(&discover(name)).expect("it is JSON")).into();
    let digests = |found: &serde_json::Value| -> Vec<(String, String)> {
        let list = found["referrers"].as_array().unwrap_or_else(|| panic!("no referrers in {found}"));
        let mut all: Vec<_> =
            list.iter().map(|one| (text(&one["artifactType"]), text(&one["digest"]))).collect();
        all.sort();
        all
    };
    assert_eq!(digests(&found), digests(&wanted));
    assert_eq!(
        digests(&found).iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(),
        kinds.map(|(kind, _)| kind)
    );

    let pull = |digest: &str, file: &str| {
        let to = Scratch::new("pulled");
        run(oras().args(["pull", "--plain-http", "-o"]).arg(to.path()).arg(named(
            &edge.address.to_string(),
            TEAM,
            digest,
        )));
        assert_eq!(
            std::fs::read(to.join(file)).expect("oras wrote it"),
            std::fs::read(work.join(file)).expect("it is ours")
        );
    };
    let all: Vec<_> = digests(&found).into_iter().zip(kinds).collect();
    all.iter().for_each(|((_, digest), (_, file))| pull(digest, file));
    origin.kill9();
    all.iter().for_each(|((_, digest), (_, file))| pull(digest, file));
}

#[test]
fn a_layer_of_1500_megabytes_passes_from_skopeo_to_docker() {
    let (mut origin, edge) = origin_and_edge();
    let home = Home::with_plain_http(origin.address);
    let layout = home.scratch.directory("layout");
    let digest = write_large_layout(&layout, "made", "a_layer_of_1500_megabytes", LARGE);
    let (from, to) = (
        format!("oci:{}:made", layout.display()),
        named(&origin.address.to_string(), "team/large", "latest"),
    );
    run(home.command("skopeo").args(["copy", "--preserve-digests", &from, &format!("docker://{to}")]));
    std::fs::remove_dir_all(&layout).expect("it is ours");

    let idle = edge.memory("VmRSS");
    let place = Place { origin: origin.address, edge: edge.address, repository: "team/large".into() };
    let engine = Docker::start();
    engine.run(&["pull", "-q", &place.at_edge("latest")]);
    let digests =
        engine.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", &place.at_edge("latest")]);
    assert!(digests.contains(&digest), "{digests}");
    let taken = edge.memory("VmHWM").saturating_sub(idle);
    assert!(taken <= MEMORY, "the pull took {} MiB of the edge's memory", taken >> 20);

    origin.kill9();
    let (_, document) = manifest(edge.address, "team/large", &digest);
    let parsed: serde_json::Value = serde_json::from_slice(&document.bytes).expect("it is JSON");
    assert!(blob(edge.address, "team/large", &text(&parsed["layers"][0]["digest"])) > LARGE);
}

fn origin_and_edge() -> (Node, Node) {
    let origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).start();
    (origin, edge)
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a string").to_owned()
}
