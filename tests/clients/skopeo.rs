//! skopeo: copies an OCI layout to a registry, and from one to a directory that keeps every byte.

use std::net::SocketAddr;

use super::{
    client::{Client, Place, Way, named},
    podman::Home,
};
use crate::harness::{
    content::{Content, digest_of},
    image::Image,
    process::run,
};

#[derive(Debug)]
pub(crate) struct SkopeoClient;

impl Client for SkopeoClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Direct, Way::Mirror]
    }

    fn pushes_exact_bytes(&self) -> bool {
        true
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let home = Home::with_plain_http(registry);
        let layout = home.scratch.directory("layout");
        image.write_tagged_layout(&layout, "made");
        let (from, to) =
            (format!("oci:{}:made", layout.display()), named(&registry.to_string(), repository, tag));
        run(home.command("skopeo").args(["copy", "--preserve-digests", &from, &format!("docker://{to}")]));
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, _image: &Image) {
        let home = Home::for_pulls_from(place);
        let from = format!("docker://{}", home.name(way, place, reference));
        let directory = home.scratch.join("pulled");
        run(home.command("skopeo").args([
            "copy",
            "--preserve-digests",
            &from,
            &format!("dir:{}", directory.display()),
        ]));
        let manifest = std::fs::read(directory.join("manifest.json")).expect("skopeo wrote it");
        assert_eq!(digest_of(manifest.as_slice()), content.digest);
        content.assert_stored_in(&directory, &[&content.digest]);
    }
}
