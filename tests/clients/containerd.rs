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
        run(engine.ctr().args(["images", "import", &archive]));
        run(engine.ctr().args(["images", "push", "--plain-http", &name]));
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image) {
        let engine = Containerd::start();
        let name = match way {
            Way::Direct => place.at_edge(reference),
            Way::Mirror => place.at_origin(reference),
        };
        let mut pull = engine.ctr();
        pull.args(["images", "pull"]);
        match way {
            Way::Direct => pull.args(["--plain-http"]),
            Way::Mirror => pull.args(["--hosts-dir", &hosts(&engine, place)]),
        };
        run(pull.arg(&name));

        for (digest, size) in content
            .blobs
            .iter()
            .map(|(digest, size)| (digest, Some(*size)))
            .chain(content.manifests.keys().map(|digest| (digest, None)))
        {
            let stored = engine.ctr().args(["content", "get", digest]).output().expect("ctr runs");
            assert_eq!(
                digest_of(stored.stdout.as_slice()),
                *digest,
                "{}",
                String::from_utf8_lossy(&stored.stderr)
            );
            assert!(size.is_none_or(|size| size == stored.stdout.len() as u64));
        }
        let mounted = engine.scratch().directory("mounted");
        run(engine.ctr().args(["images", "mount", &name]).arg(&mounted));
        image.assert_unpacked_in(&mounted);
    }
}

/// A `hosts.toml` for the origin that names the edge first, as the machines of a datacenter have it.
fn hosts(engine: &Containerd, place: &Place) -> String {
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
        place.origin, place.edge
    );
    engine.scratch().file(&format!("hosts/{}/hosts.toml", place.origin), hosts);
    engine.scratch().text("hosts")
}
