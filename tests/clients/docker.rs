//! docker: builds from a directory and pushes; pulls from the edge by name, or through `--registry-mirror`.

use std::net::SocketAddr;

use super::client::{Client, Place, Way, named};
use crate::harness::{
    content::Content,
    engines::Docker,
    image::Image,
    process::{program, run},
    scratch::Scratch,
};

#[derive(Debug)]
pub(crate) struct DockerClient;

impl Client for DockerClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Direct, Way::Mirror]
    }

    fn pushes_exact_bytes(&self) -> bool {
        false
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let engine = Docker::start();
        let context = Scratch::new("context");
        image.write_context(context.path());
        let name = named(&registry.to_string(), repository, tag);
        engine.run(&["build", "-t", &name, "-f", &context.text("Containerfile"), &context.text("")]);
        engine.run(&["push", &name]);
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image) {
        // A mirror serves Docker Hub's names, that is those without a registry.
        let (engine, name) = match way {
            Way::Direct => (Docker::start(), place.at_edge(reference)),
            Way::Mirror => {
                (Docker::with_mirror(place.edge), named("docker.io", &place.repository, reference))
            }
        };
        engine.run(&["pull", "-q", &name]);
        let id = engine.run(&["image", "inspect", "--format", "{{.Id}}", &name]);
        assert_eq!(id.trim(), content.config(), "{name}");
        let digests = engine.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", &name]);
        assert!(digests.contains(&content.digest), "{name} is {digests}, not {}", content.digest);

        let container = engine.run(&["create", "--network", "none", &name]);
        let (archive, files) = (engine.scratch().text("export.tar"), engine.scratch().directory("export"));
        engine.run(&["export", "-o", &archive, container.trim()]);
        run(program("tar").args(["-xf", &archive, "-C"]).arg(&files));
        image.assert_unpacked_in(&files);
        engine.run(&["rm", container.trim()]);
    }
}
