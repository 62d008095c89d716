//! podman: builds and pushes; pulls through a mirror of `registries.conf` (the path form) and by the edge's own name.
//! Also the settings that podman shares with buildah and skopeo.

use std::{net::SocketAddr, path::Path, process::Command};

use super::client::{Client, Place, REGISTRY_NAME, Way, named};
use crate::harness::{
    content::Content,
    image::Image,
    process::{program, run},
    scratch::Scratch,
};

#[derive(Debug)]
pub(crate) struct PodmanClient;

impl Client for PodmanClient {
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
        let name = named(&registry.to_string(), repository, tag);
        run(home
            .command("podman")
            .args(["build", "--layers", "--isolation", "chroot", "-t", &name])
            .arg(&context));
        run(home.command("podman").args(["push", &name]));
    }

    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image) {
        let home = Home::for_pulls_from(place);
        let name = home.name(way, place, reference);
        run(home.command("podman").args(["pull", "-q", &name]));
        let what = "{{.Id}} {{.Digest}}";
        let found = run(home.command("podman").args(["image", "inspect", "--format", what, &name]));
        let wanted = format!("{} {}", content.config().trim_start_matches("sha256:"), content.digest);
        assert_eq!(found.trim(), wanted, "{name}");
        let mounted = run(home.command("podman").args(["image", "mount", &name]));
        image.assert_unpacked_in(Path::new(mounted.trim()));
        run(home.command("podman").args(["image", "umount", &name]));
    }
}

/// A home directory with the settings of podman, buildah and skopeo, and their storage.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) scratch: Scratch,
}

impl Home {
    /// One that reaches a registry by plain HTTP.
    pub(crate) fn with_plain_http(registry: SocketAddr) -> Self {
        Self::new(&format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n"))
    }

    /// One whose mirror for [`REGISTRY_NAME`] is the edge, and that reaches the edge by its own name too.
    pub(crate) fn for_pulls_from(place: &Place) -> Self {
        let edge = place.edge;
        Self::new(&format!(
            "[[registry]]\nlocation = \"{edge}\"\ninsecure = true\n\
             [[registry]]\nprefix = \"{REGISTRY_NAME}\"\nlocation = \"{REGISTRY_NAME}\"\n\
             [[registry.mirror]]\nlocation = \"{edge}/{REGISTRY_NAME}\"\ninsecure = true\n"
        ))
    }

    pub(crate) fn new(registries: &str) -> Self {
        let scratch = Scratch::new("home");
        scratch.file(".config/containers/registries.conf", registries);
        scratch.file(".config/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        let storage = ["graphroot", "runroot"].map(|key| format!("{key} = \"{}\"\n", scratch.text(key)));
        scratch.file("storage.conf", format!("[storage]\ndriver = \"vfs\"\n{}", storage.concat()));
        // Locks in files: those in shared memory would be shared with every other podman of the machine.
        let engine = "cgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\n";
        let directories = ["static_dir", "tmp_dir", "volume_path"]
            .map(|key| format!("{key} = \"{}\"\n", scratch.text(key)));
        scratch.file("containers.conf", format!("[engine]\n{engine}{}", directories.concat()));
        Self { scratch }
    }

    /// One of the three programs, with these settings.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env("HOME", self.scratch.path()).env("XDG_RUNTIME_DIR", self.scratch.directory("runtime"));
        command.env("CONTAINERS_CONF", self.scratch.text("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.scratch.text("storage.conf"));
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command
    }

    pub(crate) fn name(&self, way: Way, place: &Place, reference: &str) -> String {
        match way {
            Way::Direct => place.at_edge(reference),
            Way::Mirror => named(REGISTRY_NAME, &place.repository, reference),
        }
    }
}
