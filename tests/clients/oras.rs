//! oras: copies an OCI layout to a registry, and from one into a layout.

use std::{net::SocketAddr, process::Command};

use super::client::{Client, Place, Way, named};
use crate::harness::{
    content::Content,
    image::Image,
    process::{cached, program, run},
    scratch::Scratch,
};

#[derive(Debug)]
pub(crate) struct OrasClient;

impl Client for OrasClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Direct]
    }

    fn pushes_exact_bytes(&self) -> bool {
        true
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let layout = Scratch::new("layout");
        image.write_tagged_layout(layout.path(), "made");
        let to = named(&registry.to_string(), repository, tag);
        run(oras().args([
            "cp",
            "--to-plain-http",
            "--from-oci-layout",
            &format!("{}:made", layout.path().display()),
            &to,
        ]));
    }

    fn pull(&self, _way: Way, place: &Place, reference: &str, content: &Content, _image: &Image) {
        let layout = Scratch::new("layout");
        let to = format!("{}:pulled", layout.path().display());
        run(oras().args(["cp", "--from-plain-http", &place.at_edge(reference), "--to-oci-layout", &to]));
        content.assert_stored_in(&layout.join("blobs/sha256"), &[]);
    }
}

/// oras with no settings but what it is told.
pub(crate) fn oras() -> Command {
    let mut command = program(cached("oras"));
    command.env("DOCKER_CONFIG", "/nonexistent");
    command
}
