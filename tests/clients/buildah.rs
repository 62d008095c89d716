//! buildah: makes an image from a directory and pushes it; pulls as podman does.

use std::{net::SocketAddr, path::Path};

use super::{
    client::{Client, Place, Way, named},
    podman::Home,
};
use crate::harness::{content::Content, image::Image, process::run};

#[derive(Debug)]
pub(crate) struct BuildahClient;

impl Client for BuildahClient {
    fn ways(&self) -> &'static [Way] {
        &[Way::Direct, Way::Mirror]
    }

    fn pushes_exact_bytes(&self) -> bool {
        false
    }

    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str) {
        let home = Home::with_plain_http(registry);
        let context = home.scratch.directory("context");
        image.write_context(&context);
        let container = run(home.command("buildah").args(["from", "scratch"]));
        for number in 0..image.layers.len() {
            let layer = context.join(format!("layer-{number}"));
            run(home.command("buildah").args(["copy", container.trim()]).arg(layer).arg("/"));
        }
        let committed = run(home.command("buildah").args(["commit", "-q", "--rm", container.trim()]));
        let target = format!("docker://{}", named(&registry.to_string(), repository, tag));
        run(home.command("buildah").args(["push", committed.trim(), &target]));
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image) {
        let home = Home::for_pulls_from(place);
        let name = home.name(way, place, reference);
        run(home.command("buildah").args(["pull", "-q", &name]));
        let what = "{{.FromImageID}} {{.FromImageDigest}}";
        let found =
            run(home.command("buildah").args(["inspect", "--type", "image", "--format", what, &name]));
        let wanted = format!("{} {}", content.config().trim_start_matches("sha256:"), content.digest);
        assert_eq!(found.trim(), wanted, "{name}");
        let container = run(home.command("buildah").args(["from", "--pull-never", &name]));
        let mounted = run(home.command("buildah").args(["mount", container.trim()]));
        image.assert_unpacked_in(Path::new(mounted.trim()));
        run(home.command("buildah").args(["rm", container.trim()]));
    }
}
