//! The demo's image: five tar layers of seeded pseudo-random files, so that nothing can be compressed or guessed, with
//! the configuration and the manifest that docker, containerd and podman expect of an image.
//!
//! Layers lie in files; at no time is one in memory as a whole.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MB: u64 = 1_000_000;

/// Path of the one file in each layer, and its size. Together 200 MB.
const LAYERS: [(&str, u64); 5] =
    [("hull", 90 * MB), ("mast", 50 * MB), ("sails", 30 * MB), ("cargo", 20 * MB), ("flag", 10 * MB)];

/// A blob of the image: a layer in a file, or the configuration in memory.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    File(PathBuf),
    Memory(Vec<u8>),
}

/// An image as it is pushed, and as every pull has to give it back.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) blobs: Vec<Blob>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) manifest_digest: String,
    pub(crate) layers: usize,
}

impl Image {
    /// Writes the layers into `directory` and describes them.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let mut blobs = Vec::new();
        for (number, (name, size)) in LAYERS.into_iter().enumerate() {
            let path = directory.join(format!("layer-{number}.tar"));
            let mut file = HashingFile { file: File::create(&path)?, hash: Sha256::new(), written: 0 };
            write_layer(&mut file, name, size, number as u64)?;
            let digest = format!("sha256:{:x}", HexBytes(&file.hash.finalize()));
            blobs.push(Blob { digest, size: file.written, content: Content::File(path) });
        }
        // An uncompressed layer's digest is also the digest of what it unpacks to.
        let diff_ids: Vec<_> = blobs.iter().map(|layer| layer.digest.clone()).collect();
        let layers: Vec<_> =
            blobs.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();

        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": { "Labels": { "about": "made by the demo of Roadstead: five layers of noise" } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))?;
        let config =
            Blob { digest: digest(&config), size: config.len() as u64, content: Content::Memory(config) };
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        }))?;
        let manifest_digest = digest(&manifest);
        blobs.push(config);
        Ok(Self { blobs, manifest, manifest_digest, layers: LAYERS.len() })
    }

    /// Bytes that one complete pull moves.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum::<u64>() + self.manifest.len() as u64
    }
}

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", HexBytes(&Sha256::digest(bytes)))
}

/// Lower-case hex, which `sha2`'s output has no formatting for.
pub(crate) struct HexBytes<'a>(pub(crate) &'a [u8]);

impl std::fmt::LowerHex for HexBytes<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

/// What the specification calls this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write_layer(out: &mut HashingFile, name: &str, size: u64, seed: u64) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, format!("ship/{name}"), Noise(seed).take(size))?;
    Ok(tar.finish()?)
}

/// An endless stream of bytes that looks random and is the same in every run (splitmix64).
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for word in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let bytes = mixed.to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
        Ok(buffer.len())
    }
}

/// A file that hashes and counts what is written to it.
struct HashingFile {
    file: File,
    hash: Sha256,
    written: u64,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
