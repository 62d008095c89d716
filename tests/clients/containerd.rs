//! containerd by `ctr`: imports and pushes; pulls by `hosts.toml`, which adds `?ns=`, and by the edge's own name.

use std::net::SocketAddr;

use super::client::{Client, Place, Way, named};
use crate::harness::{
    content::{Content, digest_of},
    engines::Containerd,
    image::Image,
    process::run,
};

#[derive(Debug)]
pub(crate) struct ContainerdClient;

impl Client for ContainerdClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Mirror, Way::Direct]
    }

    fn pushes_exact_bytes(&self) -> bool {
        true
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let engine = Containerd::start();
        let name = named(&registry.to_string(), repository, tag);
        let archive = image.write_archive(engine.scratch(), &name);
        engine.run(&["images", "import", &archive]);
        engine.run(&["images", "push", "--plain-http", &name]);
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image) {
        let engine = Containerd::start();
        let name = match way {
            Way::Direct => place.at_edge(reference),
            Way::Mirror => place.at_origin(reference),
        };
        match way {
            Way::Direct => engine.run(&["images", "pull", "--plain-http", &name]),
            Way::Mirror => engine.run(&["images", "pull", "--hosts-dir", &hosts(&engine, place), &name]),
        }
        assert_holds(&engine, content);
        let mounted = engine.scratch().directory("mounted");
        run(engine.ctr().args(["images", "mount", &name]).arg(&mounted));
        image.assert_unpacked_in(&mounted);
    }
}

/// Panics unless the engine holds every blob and every manifest, byte for byte.
pub(crate) fn assert_holds(engine: &Containerd, content: &Content) {
    let blobs = content.blobs.iter().map(|(digest, size)| (digest, Some(*size)));
    for (digest, size) in blobs.chain(content.manifests.keys().map(|digest| (digest, None))) {
        let stored = engine.ctr().args(["content", "get", digest]).output().expect("ctr runs");
        let said = String::from_utf8_lossy(&stored.stderr);
        assert_eq!(digest_of(stored.stdout.as_slice()), *digest, "{said}");
        assert!(size.is_none_or(|size| size == stored.stdout.len() as u64));
    }
}

fn hosts(engine: &Containerd, place: &Place) -> String {
    edge_first(engine, place.origin, place.edge, "")
}

/// A `hosts.toml` for the origin that names the edge first, as the machines of a datacenter have it, with a line of one's
/// own or none for the edge. Gives the directory to name to `ctr`.
pub(crate) fn edge_first(engine: &Containerd, origin: SocketAddr, edge: SocketAddr, line: &str) -> String {
    let hosts = format!(
        "server = \"http://{origin}\"\n[host.\"http://{edge}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  {line}\n"
    );
    engine.scratch().file(&format!("hosts/{origin}/hosts.toml"), hosts);
    engine.scratch().text("hosts")
}
