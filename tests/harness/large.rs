//! Layers and blobs too large to hold: made, hashed, sent and compared as streams.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::SocketAddr,
    path::Path,
};

use serde_json::json;

use super::{
    content::{Hasher, digest_of},
    http::{Connection, Head, location_of, request, with_digest},
    image::{Typed, config, image_manifest, write_layout},
    noise::Noise,
};

/// A blob that is never in memory: a seed and a length.
#[derive(Clone, Debug)]
pub(crate) struct LargeBlob {
    seed: u64,
    pub(crate) length: u64,
    pub(crate) digest: String,
}

impl LargeBlob {
    pub(crate) fn make(name: &str, length: u64) -> Self {
        let seed = Noise::seed(name);
        Self { seed, length, digest: digest_of(Noise::new(seed).take(length)) }
    }

    pub(crate) fn reader(&self) -> impl Read {
        Noise::new(self.seed).take(self.length)
    }

    /// Pushes it as docker does: one streamed PATCH, then an empty PUT. Gives the answer to the PUT.
    pub(crate) fn push(&self, registry: SocketAddr, repository: &str) -> Head {
        let upload = start_upload(registry, repository);
        let mut connection = Connection::open(registry).expect("the registry listens");
        let length = self.length.to_string();
        let headers = [("Content-Type", "application/octet-stream"), ("Content-Length", length.as_str())];
        connection.send_head("PATCH", &upload, &headers).expect("a request can be sent");
        connection.send_from(&mut self.reader(), self.length).expect("the body can be sent");
        let patched = connection.read_answer().expect("an answer comes").expect(202);
        let location = location_of(&patched);
        request(registry, "PUT", &with_digest(&location, &self.digest), &[], &[]).expect(201).head
    }
}

/// Begins an upload and gives its path.
pub(crate) fn start_upload(registry: SocketAddr, repository: &str) -> String {
    let start = request(registry, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]).expect(202);
    location_of(&start)
}

/// Writes an OCI layout of an image with one uncompressed layer that holds one file of `bytes` bytes, named by `tag`.
/// Gives the digest of the manifest.
pub(crate) fn write_large_layout(directory: &Path, tag: &str, name: &str, bytes: u64) -> String {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory can be made");
    let draft = directory.join("layer");
    let mut layer =
        Tee { file: File::create(&draft).expect("a file can be made"), hasher: Hasher::default(), length: 0 };
    write_tar(&mut layer, &mut Noise::new(Noise::seed(name)).take(bytes), bytes)
        .expect("a layer can be written");
    let digest = layer.hasher.digest();
    fs::rename(draft, blobs.join(digest.trim_start_matches("sha256:"))).expect("it can be renamed");

    let config = config("amd64", name, std::slice::from_ref(&digest));
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&image_manifest(std::slice::from_ref(&config)).bytes).expect("it is JSON");
    manifest["layers"] = json!([{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.length}]);
    let manifest = Typed {
        media_type: super::image::MANIFEST.into(),
        bytes: serde_json::to_vec(&manifest).expect("it is JSON"),
    };
    let annotations = json!({"org.opencontainers.image.ref.name": tag});
    write_layout(directory, &manifest, &annotations, [&config, &manifest].into_iter());
    manifest.digest()
}

fn write_tar(to: &mut impl Write, body: &mut impl Read, length: u64) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, to));
    let mut header = tar::Header::new_ustar();
    header.set_size(length);
    header.set_mode(0o644);
    archive.append_data(&mut header, "large.bin", body)?;
    archive.into_inner()?.flush()
}

/// Writes to a file and hashes what it writes.
struct Tee {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.write_all(&bytes[..written])?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
