//! Images made on the spot: real tar layers over real files, the same ones for the same seed.
//!
//! An image knows the files it was made of, so that what an engine unpacked can be compared with them, and its exact
//! documents, so that what a registry serves can be.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    content::digest_of,
    http::{location_of, request, with_digest},
    noise::Noise,
    process::{program, run},
    scratch::Scratch,
};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes with the type that a descriptor gives them.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Typed {
    pub(crate) fn digest(&self) -> String {
        digest_of(self.bytes.as_slice())
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// A file of an image.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

/// An image for one architecture.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Typed,
    pub(crate) blobs: Vec<Typed>,
    pub(crate) layers: Vec<Vec<SourceFile>>,
}

impl Image {
    /// An image of `layers` layers with about `layer_bytes` in each, all different for each `name`.
    pub(crate) fn make(name: &str, layers: usize, layer_bytes: usize) -> Self {
        Self::for_architecture(name, "amd64", layers, layer_bytes)
    }

    fn for_architecture(name: &str, architecture: &str, layers: usize, layer_bytes: usize) -> Self {
        let mut noise = Noise::new(Noise::seed(name) ^ Noise::seed(architecture));
        let layers: Vec<Vec<SourceFile>> =
            (0..layers).map(|number| files(name, number, layer_bytes, &mut noise)).collect();
        let tars: Vec<Vec<u8>> = layers.iter().map(|files| tar(files)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest_of(tar.as_slice())).collect();
        // The first layer is a bare tar, so that both media types are in every image.
        let compressed = tars.into_iter().enumerate().map(|(number, tar)| match number {
            0 => Typed { media_type: TAR.into(), bytes: tar },
            _ => Typed { media_type: GZIP.into(), bytes: gzip(&tar) },
        });
        let blobs: Vec<Typed> =
            [config(architecture, name, &diff_ids)].into_iter().chain(compressed).collect();
        Self { manifest: image_manifest(&blobs), blobs, layers }
    }

    pub(crate) fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// All files, as they are when the layers lie upon each other.
    pub(crate) fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.layers.iter().flatten()
    }

    /// Panics unless a directory, such as a mounted image, has exactly these files.
    pub(crate) fn assert_unpacked_in(&self, directory: &Path) {
        for file in self.files() {
            let path = directory.join(&file.path);
            let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(found == file.bytes, "{} differs", path.display());
        }
    }

    /// Writes the files of each layer into a directory of its own, `layer-0` and so on, for clients that build, with a
    /// `Containerfile` that copies each as a layer.
    pub(crate) fn write_context(&self, directory: &Path) {
        let mut recipe = String::from("FROM scratch\n");
        for (number, files) in self.layers.iter().enumerate() {
            let root = directory.join(format!("layer-{number}"));
            recipe.push_str(&format!("COPY layer-{number} /\n"));
            for file in files {
                let path = root.join(&file.path);
                fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory can be made");
                fs::write(&path, &file.bytes).expect("a file can be written");
            }
        }
        recipe.push_str("CMD [\"/bin/true\"]\n");
        fs::write(directory.join("Containerfile"), recipe).expect("a file can be written");
    }

    /// Writes an OCI image layout whose index names this image by `annotations`.
    pub(crate) fn write_layout(&self, directory: &Path, annotations: &Value) {
        write_layout(directory, &self.manifest, annotations, self.blobs.iter().chain([&self.manifest]));
    }

    /// As [`Image::write_layout`], named by a tag, which is how most clients find it.
    pub(crate) fn write_tagged_layout(&self, directory: &Path, tag: &str) {
        self.write_layout(directory, &json!({"org.opencontainers.image.ref.name": tag}));
    }

    /// The layout as one tar file, which is what containerd imports; `name` is the image's name there.
    pub(crate) fn write_archive(&self, scratch: &Scratch, name: &str) -> String {
        let layout = scratch.directory("archive");
        self.write_layout(&layout, &json!({"io.containerd.image.name": name}));
        let archive = scratch.text("archive.tar");
        run(program("tar").args(["-cf", &archive, "-C"]).arg(&layout).arg("."));
        archive
    }

    /// Pushes it over bare HTTP.
    pub(crate) fn push(&self, registry: SocketAddr, repository: &str, reference: &str) {
        self.blobs.iter().for_each(|blob| push_blob(registry, repository, blob));
        push_manifest(registry, repository, reference, &self.manifest);
    }
}

/// An index over images of two architectures.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) document: Typed,
    pub(crate) images: Vec<Image>,
}

impl Index {
    pub(crate) fn make(name: &str) -> Self {
        let architectures = ["amd64", "arm64"];
        let images: Vec<Image> =
            architectures.iter().map(|name_of| Image::for_architecture(name, name_of, 2, 200_000)).collect();
        let manifests = images.iter().zip(architectures).map(|(image, architecture)| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
            descriptor
        });
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests.collect::<Vec<_>>()});
        // Written with blanks, so that a registry that stores its own rendering is found out.
        let bytes = serde_json::to_vec_pretty(&index).expect("it is JSON");
        Self { document: Typed { media_type: INDEX.into(), bytes }, images }
    }

    pub(crate) fn write_tagged_layout(&self, directory: &Path, tag: &str) {
        let parts = self.images.iter().flat_map(|image| image.blobs.iter().chain([&image.manifest]));
        write_layout(
            directory,
            &self.document,
            &json!({"org.opencontainers.image.ref.name": tag}),
            parts.chain([&self.document]),
        );
    }

    pub(crate) fn push(&self, registry: SocketAddr, repository: &str, tag: &str) {
        for image in &self.images {
            image.push(registry, repository, &image.digest());
        }
        push_manifest(registry, repository, tag, &self.document);
    }
}

/// Pushes a blob in one PUT.
pub(crate) fn push_blob(registry: SocketAddr, repository: &str, blob: &Typed) {
    let start = request(registry, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]).expect(202);
    let location = location_of(&start);
    let path = with_digest(&location, &blob.digest());
    request(registry, "PUT", &path, &[("Content-Type", "application/octet-stream")], &blob.bytes).expect(201);
}

pub(crate) fn push_manifest(registry: SocketAddr, repository: &str, reference: &str, manifest: &Typed) {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let answer = request(registry, "PUT", &path, &[("Content-Type", &manifest.media_type)], &manifest.bytes)
        .expect(201);
    assert_eq!(answer.header("docker-content-digest"), Some(manifest.digest().as_str()));
}

/// The manifest over a configuration and its layers.
pub(crate) fn image_manifest(blobs: &[Typed]) -> Typed {
    let (config, layers) = blobs.split_first().expect("the configuration comes first");
    let layers: Vec<Value> = layers.iter().map(Typed::descriptor).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": layers});
    Typed { media_type: MANIFEST.into(), bytes: serde_json::to_vec_pretty(&manifest).expect("it is JSON") }
}

pub(crate) fn config(architecture: &str, name: &str, diff_ids: &[String]) -> Typed {
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/true"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "made on the spot"})).collect::<Vec<_>>(),
    });
    Typed { media_type: CONFIG.into(), bytes: serde_json::to_vec(&config).expect("it is JSON") }
}

pub(crate) fn write_layout<'a>(
    directory: &Path,
    root: &Typed,
    annotations: &Value,
    parts: impl Iterator<Item = &'a Typed>,
) {
    let blobs: PathBuf = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory can be made");
    for part in parts {
        fs::write(blobs.join(part.digest().trim_start_matches("sha256:")), &part.bytes)
            .expect("a file can be written");
    }
    let mut descriptor = root.descriptor();
    descriptor["annotations"] = annotations.clone();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
    fs::write(directory.join("index.json"), index.to_string()).expect("a file can be written");
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("a file can be written");
}

fn files(name: &str, layer: usize, bytes: usize, noise: &mut Noise) -> Vec<SourceFile> {
    vec![
        SourceFile { path: format!("data/{layer}/noise.bin"), bytes: noise.bytes(bytes) },
        SourceFile { path: format!("data/{layer}/empty"), bytes: Vec::new() },
        SourceFile {
            path: format!("etc/layer-{layer}.txt"),
            bytes: format!("layer {layer} of {name}\n").into_bytes(),
        },
    ]
}

fn tar(files: &[SourceFile]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(file.bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_767_225_600);
        archive.append_data(&mut header, &file.path, file.bytes.as_slice()).expect("memory can be written");
    }
    archive.into_inner().expect("memory can be written")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}
