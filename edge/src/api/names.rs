//! How operators name images: in every form that a client of this edge uses, and in one that is given back.
//!
//! `team/app:1`, `registry.example/team/app:1`, either with `@sha256:…`, either behind this edge's own address, which is what
//! a client writes that names the edge itself; and skopeo's `docker://` before any of them.

use http::{Request, StatusCode, header};
use oci::{http::RequestBody, name::Reference};

use super::problem::Problem;
use crate::{answer::Answerer, metadata::Place, naming};

/// The address by which the caller reaches this edge, as its `Host` says.
#[derive(Debug)]
pub(super) struct Host(Option<String>);

impl Host {
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
        Self(host.map(str::to_owned))
    }

    /// Whether an image's first element means this edge: the address that was called, another name of this machine with the
    /// same port, or the node's name.
    fn is(&self, element: &str, node: &str) -> bool {
        let Some(host) = &self.0 else { return false };
        let ours = parts(host);
        let (name, port) = parts(element);
        let near = |name: &str| name == "localhost" || name.starts_with("127.") || name == "[::1]";
        element == host || (port == ours.1 && port.is_some() && (near(name) || name == node))
    }
}

/// Host and port.
fn parts(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (authority, None),
    }
}

/// Name and reference of an image; `latest` where it has none. A digest outdoes a tag before it.
fn split(image: &str) -> (&str, &str) {
    let image = image.strip_prefix("docker://").unwrap_or(image);
    let tagged = |name| match str::rsplit_once(name, ':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    match image.split_once('@') {
        Some((name, digest)) => (tagged(name).0, digest),
        None => {
            let (name, tag) = tagged(image);
            (name, tag.unwrap_or("latest"))
        }
    }
}

/// What an operator means by the name of an image: what a client would mean by it here.
pub(super) fn understand(
    answerer: &Answerer,
    host: &Host,
    image: &str,
) -> Result<(Place, Reference), Problem> {
    let wrong =
        |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("{image:?} names no image: {why}"));
    let (mut name, reference) = split(image);
    let reference: Reference = reference.parse().map_err(|error| wrong(format!("{error}")))?;
    if let Some((first, rest)) = name.split_once('/')
        && answerer.upstreams.find(Some(first)).is_none()
        && host.is(first, &answerer.about.name)
    {
        name = rest;
    }
    let path = format!("/v2/{name}");
    let named = naming::split(&path, None).map_err(|error| wrong(error.message().to_owned()))?;
    let repository = named.path.strip_prefix("/v2/").unwrap_or_default().parse();
    let repository = repository.map_err(|error| wrong(format!("{error}")))?;
    let upstream = match named.registry.as_deref() {
        Some(registry) => answerer.upstreams.of_name(registry),
        None => answerer.upstreams.find(None),
    };
    let Some(upstream) = upstream else {
        let before: Vec<_> = answerer.about.registries.iter().map(|one| one.name.as_str()).collect();
        return Err(Problem::not_found(format!(
            "{image}: this edge does not stand in front of that registry, but of {}",
            before.join(", ")
        )));
    };
    Ok((Place { upstream: upstream.name.clone(), repository: upstream.repository(repository) }, reference))
}

/// The name that a client would use at this edge.
pub(super) fn name(answerer: &Answerer, place: &Place, reference: &Reference) -> String {
    let default = answerer.upstreams.find(None).is_some_and(|upstream| upstream.name == place.upstream);
    let registry = if default { String::new() } else { format!("{}/", place.upstream) };
    let mark = match reference {
        Reference::Tag(_) => ':',
        Reference::Digest(_) => '@',
    };
    format!("{registry}{}{mark}{reference}", place.repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_outdoes_a_tag_and_no_reference_is_latest() {
        assert_eq!(split("team/app"), ("team/app", "latest"));
        assert_eq!(split("edge:5001/team/app"), ("edge:5001/team/app", "latest"));
        assert_eq!(split("docker://edge:5001/team/app:1"), ("edge:5001/team/app", "1"));
        assert_eq!(split("team/app:1@sha256:ab"), ("team/app", "sha256:ab"));
        assert_eq!(split("r.example:5000/app@sha256:ab"), ("r.example:5000/app", "sha256:ab"));
    }

    #[test]
    fn this_edge_is_known_by_its_address_and_by_other_names_of_its_machine() {
        let host = Host(Some("127.0.0.1:5001".to_owned()));
        for ours in ["127.0.0.1:5001", "localhost:5001", "127.0.0.2:5001", "edge-1:5001"] {
            assert!(host.is(ours, "edge-1"), "{ours}");
        }
        for other in ["127.0.0.1:5000", "localhost", "registry.example:5001", "edge-1", "team"] {
            assert!(!host.is(other, "edge-1"), "{other}");
        }
    }
}
