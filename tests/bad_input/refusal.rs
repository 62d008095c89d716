//! What every refusal has to be: the specification's error document, with a message that says what is wrong. And what it
//! must not do: leave something behind, or keep the node from serving others.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::harness::{
    content::digest_of,
    http::{Answer, get, request},
    node::Node,
    process::{PATIENCE, wait_for},
};

/// Panics unless the answer is an error document with that status and one of `codes` (separated by `|`), in which
/// `named` stands, whatever its case.
#[track_caller]
pub(super) fn assert_refused(what: &str, answer: &Answer, status: u16, codes: &str, named: &str) {
    let shown = format!("{what}: {} {:?} {}", answer.status, answer.head, answer.text());
    assert_eq!(answer.status, status, "{shown}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{shown}"));
    let errors = document["errors"].as_array().unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(errors.len(), 1, "{shown}");
    let code = errors[0]["code"].as_str().unwrap_or_else(|| panic!("{shown}"));
    assert!(codes.split('|').any(|expected| expected == code), "{codes} expected: {shown}");
    let message = errors[0]["message"].as_str().unwrap_or_default();
    assert!(message.len() >= 15 && message.contains(' '), "a sentence is expected: {shown}");
    assert!(answer.text().to_lowercase().contains(&named.to_lowercase()), "{named:?} is expected: {shown}");
    // What happened inside is for the log.
    for inside in ["panicked", "/src/", ".rs:", "SQLITE", "sqlx", "hyper"] {
        assert!(!answer.text().contains(inside), "{shown}");
    }
}

/// What lies in an origin's store, by path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored(BTreeMap<String, u64>);

impl Stored {
    pub(super) fn of(node: &Node) -> Self {
        let mut files = BTreeMap::new();
        collect(&node.plan().data().join("objects"), &mut files);
        Self(files)
    }

    /// Panics unless the store is, or becomes within [`PATIENCE`], what it was before.
    #[track_caller]
    pub(super) fn assert_nothing_more(&self, node: &Node) {
        wait_for(&format!("the store holds {self:?} again, not {:?}", Self::of(node)), PATIENCE, || {
            (Self::of(node) == *self).then_some(())
        });
    }
}

fn collect(directory: &Path, files: &mut BTreeMap<String, u64>) {
    // A file or directory may go while it is looked at.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => collect(&entry.path(), files),
            Ok(found) => drop(files.insert(entry.path().display().to_string(), found.len())),
            Err(_) => {}
        }
    }
}

/// Pushes a blob and reads it back.
#[track_caller]
pub(super) fn assert_serves(node: &Node) {
    let bytes = b"still at anchor";
    let digest = digest_of(&bytes[..]);
    let path = format!("/v2/bystander/blobs/uploads/?digest={digest}");
    request(node.address, "POST", &path, &[("Content-Type", "application/octet-stream")], bytes).expect(201);
    let read = get(node.address, &format!("/v2/bystander/blobs/{digest}")).expect(200);
    assert_eq!(read.body, bytes);
}

/// The tags of a repository; none where it is unknown.
pub(super) fn tags(node: &Node, repository: &str) -> Vec<String> {
    let answer = get(node.address, &format!("/v2/{repository}/tags/list"));
    if answer.status == 404 {
        return Vec::new();
    }
    let list: Value = serde_json::from_slice(&answer.expect(200).body).expect("a listing is JSON");
    let tags = list["tags"].as_array().into_iter().flatten();
    tags.map(|tag| tag.as_str().expect("a tag is text").to_owned()).collect()
}

/// Pushes a blob and gives its digest.
pub(super) fn push_blob(node: &Node, repository: &str, bytes: &[u8]) -> String {
    let digest = digest_of(bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    request(node.address, "POST", &path, &[("Content-Type", "application/octet-stream")], bytes).expect(201);
    digest
}

/// What was fetched is kept from now on: the last byte is given out a moment before.
pub(super) fn wait_until_downloads_end(edge: &Node) {
    wait_for("all downloads end", PATIENCE, || {
        (edge.metrics().count("roadstead_downloads_running", &[]) == 0).then_some(())
    });
}
