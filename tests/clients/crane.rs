//! crane: pushes an OCI layout, and pulls into one.

use std::{net::SocketAddr, process::Command};

use super::client::{Client, Place, Way, named};
use crate::harness::{
    content::Content,
    image::Image,
    process::{cached, program, run},
    scratch::Scratch,
};

#[derive(Debug)]
pub(crate) struct CraneClient;

impl Client for CraneClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Direct]
    }

    fn pushes_exact_bytes(&self) -> bool {
        true
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let layout = Scratch::new("layout");
        image.write_tagged_layout(layout.path(), tag);
        run(crane().arg("push").arg(layout.path()).arg(named(&registry.to_string(), repository, tag)));
    }

    fn pull(&self, _way: Way, place: &Place, reference: &str, content: &Content, _image: &Image) {
        let layout = Scratch::new("layout");
        run(crane().args(["pull", "--format", "oci", &place.at_edge(reference)]).arg(layout.path()));
        content.assert_stored_in(&layout.join("blobs/sha256"), &[]);
    }
}

fn crane() -> Command {
    let mut command = program(cached("crane"));
    command.arg("--insecure");
    command
}
