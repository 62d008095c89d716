//! What a registry holds under a reference, read byte by byte and checked against its digests.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::http::{Connection, request};

/// What clients accept as a manifest.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// An image, or an index with all its images: every document, and size and digest of every blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) digest: String,
    pub(crate) manifests: BTreeMap<String, Document>,
    pub(crate) blobs: BTreeMap<String, u64>,
}

impl Content {
    /// Reads all of it, verifying every digest and length; panics at the first byte that is not right.
    pub(crate) fn read(address: SocketAddr, repository: &str, reference: &str) -> Self {
        let (digest, document) = manifest(address, repository, reference);
        let mut content = Self { digest: digest.clone(), manifests: BTreeMap::new(), blobs: BTreeMap::new() };
        content.add(address, repository, digest, document);
        content
    }

    fn add(&mut self, address: SocketAddr, repository: &str, digest: String, document: Document) {
        let parsed: Value = serde_json::from_slice(&document.bytes).expect("a manifest is JSON");
        self.manifests.insert(digest, document);
        for child in list(&parsed, "manifests") {
            let (digest, document) = manifest(address, repository, text(child, "digest"));
            self.add(address, repository, digest, document);
        }
        for descriptor in parsed.get("config").into_iter().chain(list(&parsed, "layers")) {
            let (digest, size) = (text(descriptor, "digest"), descriptor["size"].as_u64().expect("a size"));
            if !self.blobs.contains_key(digest) {
                assert_eq!(blob(address, repository, digest), size, "size of {digest}");
                self.blobs.insert(digest.to_owned(), size);
            }
        }
    }

    /// The manifest that the reference named.
    pub(crate) fn root(&self) -> Value {
        serde_json::from_slice(&self.manifests[&self.digest].bytes).expect("it was parsed before")
    }

    /// The digest of an image's configuration, which engines call the image's id.
    pub(crate) fn config(&self) -> String {
        text(&self.root()["config"], "digest").to_owned()
    }

    /// Bytes of all blobs, each counted once.
    pub(crate) fn blob_bytes(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// Panics unless a directory of files named by digest (an OCI layout's `blobs/sha256`, skopeo's `dir:`) has each
    /// blob and each manifest but `named_otherwise`, byte for byte.
    pub(crate) fn assert_stored_in(&self, directory: &Path, named_otherwise: &[&str]) {
        let all = self.blobs.keys().chain(self.manifests.keys());
        for digest in all.filter(|digest| !named_otherwise.contains(&digest.as_str())) {
            let path = directory.join(digest.trim_start_matches("sha256:"));
            let file =
                std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(digest_of(file), *digest, "{}", path.display());
        }
    }
}

/// A manifest by tag or digest, its digest checked against the header.
pub(crate) fn manifest(address: SocketAddr, repository: &str, reference: &str) -> (String, Document) {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = request(address, "GET", &path, &[("Accept", ACCEPT)], &[]).expect(200);
    let digest = digest_of(answer.body.as_slice());
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()), "{path}");
    if reference.starts_with("sha256:") {
        assert_eq!(digest, reference, "{path}");
    }
    let media_type = answer.header("content-type").expect("a manifest has a type").to_owned();
    (digest, Document { media_type, bytes: answer.body })
}

/// Reads a blob, checks that it has its digest, gives its length.
pub(crate) fn blob(address: SocketAddr, repository: &str, digest: &str) -> u64 {
    let (status, length, got) = try_blob(address, repository, digest).expect("the blob comes whole");
    assert_eq!((status, got.as_str()), (200, digest), "/v2/{repository}/blobs/{digest} of {length} bytes");
    length
}

/// Reads a blob, or what is answered in its place: status, length and digest of the body.
pub(crate) fn try_blob(
    address: SocketAddr,
    repository: &str,
    digest: &str,
) -> io::Result<(u16, u64, String)> {
    let mut connection = Connection::open(address)?;
    connection.send_head("GET", &format!("/v2/{repository}/blobs/{digest}"), &[("Connection", "close")])?;
    let head = connection.read_head()?;
    let mut hasher = Hasher::default();
    let length = connection.read_body(&head, &mut hasher)?;
    Ok((head.status, length, hasher.digest()))
}

/// sha256 of what is written to it.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn digest(self) -> String {
        format!("sha256:{}", hex(&self.0.finalize()))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// sha256 of all that a reader gives.
pub(crate) fn digest_of(mut reader: impl io::Read) -> String {
    let mut hasher = Hasher::default();
    io::copy(&mut io::BufReader::with_capacity(256 * 1024, &mut reader), &mut hasher)
        .expect("it can be read");
    hasher.digest()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}
