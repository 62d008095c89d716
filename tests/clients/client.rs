//! What every client can do, and what it needs to know to do it.

use std::{fmt::Debug, net::SocketAddr};

use crate::harness::{content::Content, image::Image};

/// How a client is pointed at an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The image's name begins with the edge's address.
    Direct,
    /// The image's name is the one it has without an edge; the client's own setting for mirrors names the edge.
    Mirror,
}

/// Where an image is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) origin: SocketAddr,
    pub(crate) edge: SocketAddr,
    pub(crate) repository: String,
}

impl Place {
    /// The name by which a client addresses the edge itself.
    pub(crate) fn at_edge(&self, reference: &str) -> String {
        named(&self.edge.to_string(), &self.repository, reference)
    }

    /// The name by which a client addresses the origin.
    pub(crate) fn at_origin(&self, reference: &str) -> String {
        named(&self.origin.to_string(), &self.repository, reference)
    }
}

/// The name under which podman, buildah and skopeo know the origin: their mirrors take the registry's name as a path
/// element, and their grammar has no colon there, so it is a name without a port. It resolves nowhere.
pub(crate) const REGISTRY_NAME: &str = "registry.example";

/// `host/repository:tag` or `host/repository@digest`.
pub(crate) fn named(host: &str, repository: &str, reference: &str) -> String {
    let separator = if reference.starts_with("sha256:") { '@' } else { ':' };
    format!("{host}/{repository}{separator}{reference}")
}

/// A program that pushes and pulls images.
pub(crate) trait Client: Debug {
    /// The forms in which it can be pointed at an edge.
    fn ways(&self) -> &'static [Way];

    /// Brings an image to a registry, from storage that had nothing in it before. Clients that build images build this
    /// one from its files; the others push its exact bytes.
    fn push(&self, image: &Image, registry: SocketAddr, repository: &str, tag: &str);

    /// Whether what it pushes is the image byte for byte, and not one built from the image's files.
    fn pushes_exact_bytes(&self) -> bool;

    /// Pulls through the edge into storage that has nothing in it, and compares what is then there with what the origin
    /// held (`content`) and with the files that were pushed (`image`).
    fn pull(&self, way: Way, place: &Place, reference: &str, content: &Content, image: &Image);
}
