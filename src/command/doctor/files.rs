//! The files that make engines pull through an edge: containerd's `hosts.toml`, `registries.conf` of podman, skopeo, buildah and
//! CRI-O, and dockerd's `daemon.json`.
//!
//! Each engine names registries in its own way. containerd says with `?ns=` which registry it means; podman puts the
//! registry's name into the path, where its grammar allows no port; dockerd has mirrors for Docker Hub only, and says nothing.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;
use url::Url;

use super::certificate::place;
use crate::command::status::Registry;

/// The name of Docker Hub among upstreams, and where it is.
const HUB: &str = "docker.io";
const HUB_URL: &str = "https://registry-1.docker.io";

/// A file for one kind of engine.
#[derive(Debug, Serialize)]
pub(super) struct ClientFile {
    /// `containerd`, `podman`, `dockerd`.
    pub(super) client: &'static str,
    /// Where it belongs on a client's machine.
    pub(super) path: String,
    pub(super) text: String,
    /// What the file cannot say itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// How clients reach the edge.
struct Edge<'a> {
    url: &'a Url,
    /// Its certificate's authority, where clients do not trust it anyway.
    ca: Option<&'a Path>,
}

/// All files for an edge at `url` in front of `registries`; of these nothing is known where its API is not reachable.
pub(super) fn for_clients(url: &Url, ca: Option<&Path>, registries: &[Registry]) -> Vec<ClientFile> {
    let edge = Edge { url, ca: ca.filter(|_| url.scheme() == "https") };
    let mut files = hosts(&edge, registries);
    files.push(registries_conf(&edge, registries));
    files.push(daemon(&edge, registries));
    files
}

impl Edge<'_> {
    fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// `http://edge:5001`, without a slash at its end.
    fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// `edge:5001`, as image names begin.
    fn host(&self) -> String {
        place(self.url)
    }

    fn ca_note(&self, path: &str) -> Option<String> {
        let ca = self.ca?.display();
        Some(format!("copy {ca} to {path} on each client"))
    }
}

/// TOML's basic strings are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn hosts(edge: &Edge<'_>, registries: &[Registry]) -> Vec<ClientFile> {
    let file = |directory: &str, server: Option<&str>, note: Option<String>| ClientFile {
        client: "containerd",
        path: format!("/etc/containerd/certs.d/{directory}/hosts.toml"),
        text: hosts_toml(edge, server),
        note,
    };
    if registries.is_empty() {
        let note = "for every registry: which ones this edge stands in front of is told on the node itself only; it refuses \
             the others at once, and containerd goes to the registry";
        return vec![file("_default", None, Some(note.to_owned()))];
    }
    let of = |registry: &Registry| {
        let url = match registry.name.as_str() {
            HUB => Some(HUB_URL),
            _ => registry.url.as_deref(),
        };
        let note = edge
            .ca
            .map(|ca| format!("copy {} to /etc/containerd/roadstead-ca.pem on each client", ca.display()));
        file(&registry.name, url.map(|url| url.trim_end_matches('/')), note)
    };
    registries.iter().map(of).collect()
}

fn hosts_toml(edge: &Edge<'_>, server: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(server) = server {
        text.push_str(&format!("server = {}\n\n", quoted(server)));
    }
    let _ = writeln!(text, "[host.{}]", quoted(edge.address()));
    text.push_str("  capabilities = [\"pull\", \"resolve\"]\n");
    // Without it an edge that is gone costs 30 s for each blob.
    text.push_str("  dial_timeout = \"300ms\"\n");
    if edge.ca.is_some() {
        text.push_str("  ca = \"/etc/containerd/roadstead-ca.pem\"\n");
    }
    text
}

fn registries_conf(edge: &Edge<'_>, registries: &[Registry]) -> ClientFile {
    let mut text = String::new();
    let mut left_out = Vec::new();
    for registry in registries {
        // A path element of an image's name has no colon: a registry with a port can only be the one that names without a
        // registry mean.
        let mirror = match registry {
            Registry { default: true, .. } => edge.host(),
            Registry { name, .. } if !name.contains(':') => format!("{}/{name}", edge.host()),
            Registry { name, .. } => {
                left_out.push(name.as_str());
                continue;
            }
        };
        let name = quoted(&registry.name);
        let _ = writeln!(text, "[[registry]]\nprefix = {name}\nlocation = {name}");
        if registry.url.as_deref().is_some_and(|url| url.starts_with("http://")) {
            text.push_str("insecure = true\n");
        }
        let _ = writeln!(text, "\n[[registry.mirror]]\nlocation = {}", quoted(&mirror));
        if edge.is_plain() {
            text.push_str("insecure = true\n");
        }
        text.push_str("pull-from-mirror = \"all\"\n\n");
    }
    // So that images can be pulled by the edge's own name as well.
    let host = quoted(&edge.host());
    let _ =
        writeln!(text, "[[registry]]\nprefix = {host}\nlocation = {host}\ninsecure = {}", edge.is_plain());
    let mut notes: Vec<String> =
        edge.ca_note(&format!("/etc/containers/certs.d/{}/ca.crt", edge.host())).into_iter().collect();
    if !left_out.is_empty() {
        notes.push(format!(
            "left out: {}, whose port podman's names cannot carry in a path; give it a name without a port \
             (upstream.<name>.url), or make it the default",
            left_out.join(", ")
        ));
    }
    if registries.is_empty() {
        notes.push("run `roadstead doctor` on the node itself to have the registries listed that it stands in front of".to_owned());
    }
    ClientFile {
        client: "podman",
        path: "/etc/containers/registries.conf.d/roadstead.conf".to_owned(),
        text,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

fn daemon(edge: &Edge<'_>, registries: &[Registry]) -> ClientFile {
    let mut document = serde_json::Map::new();
    let hub = registries.iter().find(|registry| registry.name == HUB);
    let default = registries.iter().find(|registry| registry.default);
    let mut notes = Vec::new();
    match (hub, default) {
        (Some(hub), _) if hub.default => {
            document.insert("registry-mirrors".to_owned(), serde_json::json!([edge.address()]));
        }
        (_, None) if registries.is_empty() => notes.push(
            "dockerd has mirrors for Docker Hub only: add \"registry-mirrors\" if docker.io is this edge's default upstream"
                .to_owned(),
        ),
        (hub, _) => {
            let path = if hub.is_some() { format!("{}/{HUB}/library/alpine", edge.host()) } else { format!("{}/<repository>", edge.host()) };
            notes.push(format!(
                "dockerd has mirrors for Docker Hub only, and docker.io is not this edge's default upstream; pull by the \
                 edge's name: docker pull {path}"
            ));
        }
    }
    if edge.is_plain() {
        document.insert("insecure-registries".to_owned(), serde_json::json!([edge.host()]));
    }
    notes.extend(edge.ca_note(&format!("/etc/docker/certs.d/{}/ca.crt", edge.host())));
    let text = serde_json::to_string_pretty(&document).unwrap_or_else(|_why| "{}".to_owned());
    ClientFile {
        client: "dockerd",
        path: "/etc/docker/daemon.json".to_owned(),
        text: format!("{text}\n"),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str, url: &str, default: bool) -> Registry {
        Registry { name: name.to_owned(), url: Some(url.to_owned()), default }
    }

    fn files(url: &str, ca: Option<&str>, registries: &[Registry]) -> Vec<ClientFile> {
        for_clients(&Url::parse(url).expect("a URL"), ca.map(Path::new), registries)
    }

    #[test]
    fn over_tls_nothing_is_insecure_and_the_authority_is_named() {
        let hub = registry("docker.io", "https://mirror.example", true);
        let files = files("https://edge.example", Some("ca.pem"), &[hub]);
        assert_eq!(files[0].path, "/etc/containerd/certs.d/docker.io/hosts.toml");
        assert_eq!(
            files[0].text,
            "server = \"https://registry-1.docker.io\"\n\n[host.\"https://edge.example\"]\n  capabilities = [\"pull\", \
             \"resolve\"]\n  dial_timeout = \"300ms\"\n  ca = \"/etc/containerd/roadstead-ca.pem\"\n"
        );
        assert!(!files[1].text.contains("insecure = true"), "{}", files[1].text);
        assert!(
            files[1]
                .note
                .as_deref()
                .is_some_and(|note| note.contains("/etc/containers/certs.d/edge.example/ca.crt"))
        );
        assert_eq!(files[2].text, "{\n  \"registry-mirrors\": [\n    \"https://edge.example\"\n  ]\n}\n");
    }

    #[test]
    fn each_upstream_has_its_file_and_what_podman_cannot_name_is_told() {
        let upstreams = [
            registry("quay.example", "https://quay.example", false),
            registry("r.example:5000", "http://r.example:5000", false),
            registry("main.example:5000", "http://main.example:5000", true),
        ];
        let files = files("http://edge:5001", None, &upstreams);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths.len(), 5);
        assert_eq!(paths[1], "/etc/containerd/certs.d/r.example:5000/hosts.toml");
        let conf = &files[3];
        assert!(
            conf.text.contains("location = \"edge:5001/quay.example\"\ninsecure = true"),
            "{}",
            conf.text
        );
        assert!(conf.text.contains("[[registry.mirror]]\nlocation = \"edge:5001\"\n"), "{}", conf.text);
        assert!(!conf.text.contains("r.example:5000\"\nlocation = \"r.example"), "{}", conf.text);
        assert!(
            conf.note.as_deref().is_some_and(|note| note.contains("left out: r.example:5000,")),
            "{:?}",
            conf.note
        );
        let daemon = &files[4];
        assert!(
            !daemon.text.contains("registry-mirrors") && daemon.text.contains("edge:5001"),
            "{}",
            daemon.text
        );
        assert!(daemon.note.is_some());
    }

    #[test]
    fn where_nothing_is_known_containerd_asks_the_edge_for_every_registry() {
        let files = files("http://edge:5001", None, &[]);
        assert_eq!(files[0].path, "/etc/containerd/certs.d/_default/hosts.toml");
        assert!(!files[0].text.contains("server"), "{}", files[0].text);
        assert!(files.iter().all(|file| file.note.is_some()));
    }
}
