//! Manifests and indexes as a registry sees them: exact bytes, and the few fields that it acts on.
//!
//! The bytes are never written again from what was read; [`Manifest`] only looks into them. Every media type is taken, as
//! long as the document is JSON and its descriptors are descriptors.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::digest::{Digest, InvalidDigest};

/// Media types that the code asks about.
pub mod media_type {
    /// An OCI image manifest.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The artifact manifest of OCI 1.1's release candidates.
    pub const ARTIFACT_MANIFEST: &str = "application/vnd.oci.artifact.manifest.v1+json";
    /// The empty descriptor's, of artifacts without a config.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

    /// All that a client should accept for a manifest, as one `Accept` header.
    pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
        application/vnd.oci.artifact.manifest.v1+json, */*";
}

/// How many levels of lists and objects a manifest may have; an index with platforms has five.
const MAX_DEPTH: usize = 64;

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or not of the shape: the message says where.
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Nested deeper than any manifest is: parsers of clients may not live through it.
    #[error("the manifest is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// Docker's schema 1, which nothing current writes.
    #[error("manifests of schema version 1 are not supported; push schema version 2 or an OCI manifest")]
    SchemaVersion,
    /// `mediaType` says something else than `Content-Type`.
    #[error("the manifest calls itself {document}, but was sent as {header}")]
    MediaType {
        /// `mediaType` in the document.
        document: String,
        /// `Content-Type` of the request.
        header: String,
    },
    /// Neither `Content-Type` nor `mediaType` says what it is.
    #[error("neither Content-Type nor mediaType says what the manifest is")]
    NoMediaType,
    /// A descriptor's digest is none.
    #[error("the descriptor {digest:?} in the manifest: {error}")]
    Digest {
        /// What stood there.
        digest: String,
        /// What is wrong with it.
        error: InvalidDigest,
    },
    /// A document that is neither an image nor an index cannot have both kinds of children.
    #[error("the manifest has both layers and manifests, so it could be taken for an image or for an index")]
    Ambiguous,
    /// A descriptor's size is larger than any content can be.
    #[error("the descriptor {digest} in the manifest has the size {size}, which no content can have")]
    Size {
        /// The descriptor's digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    blobs: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_empty")]
    annotations: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A child of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Whether the content lies elsewhere (`urls`, or a non-distributable type), so that a registry need not have it.
    pub external: bool,
}

/// What a registry reads in a manifest or an index.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is.
    pub media_type: String,
    /// `artifactType`, if set and not empty.
    pub artifact_type: Option<String>,
    /// The config, if it has one.
    pub config: Option<Reference>,
    /// The layers (of an artifact manifest: its blobs).
    pub layers: Vec<Reference>,
    /// The manifests of an index.
    pub manifests: Vec<Reference>,
    /// What it refers to.
    pub subject: Option<Reference>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The descriptors of an index, whole, for the referrers' tag schema.
    pub descriptors: Vec<Descriptor>,
}

impl Manifest {
    /// Looks into `bytes`, sent as `content_type` (parameters such as a charset are passed over).
    ///
    /// # Errors
    /// The bytes are no manifest, or not the one that `content_type` says.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, InvalidManifest> {
        if is_deeper_than(MAX_DEPTH, bytes) {
            return Err(InvalidManifest::Depth);
        }
        let document: Document = serde_json::from_slice(bytes)?;
        if document.schema_version == Some(1) {
            return Err(InvalidManifest::SchemaVersion);
        }
        let header = content_type.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| !t.is_empty());
        let media_type = agreed_media_type(document.media_type.filter(|t| !t.is_empty()), header)?;
        let mut layers = references(&document.layers)?;
        layers.extend(references(&document.blobs)?);
        if !document.manifests.is_empty() && (!layers.is_empty() || document.config.is_some()) {
            return Err(InvalidManifest::Ambiguous);
        }
        Ok(Self {
            media_type,
            artifact_type: document.artifact_type.filter(|t| !t.is_empty()),
            config: document.config.as_ref().map(reference).transpose()?,
            layers,
            manifests: references(&document.manifests)?,
            subject: document.subject.as_ref().map(reference).transpose()?,
            annotations: document.annotations,
            descriptors: document.manifests,
        })
    }

    /// Config and layers: what must be there before the manifest is.
    pub fn blobs(&self) -> impl Iterator<Item = &Reference> {
        self.config.iter().chain(&self.layers)
    }

    /// The type that the referrers listing shows (distribution specification, "Listing Referrers"): `artifactType`,
    /// else the config's media type.
    pub fn referrer_type(&self) -> Option<&str> {
        self.artifact_type
            .as_deref()
            .or_else(|| self.config.as_ref().map(|config| config.media_type.as_str()))
    }

    /// Whether it is an index.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST)
    }
}

/// Whether lists and objects are nested deeper than `limit`. Looked at by itself, because the parser passes over keys that
/// it does not know, whatever they hold.
fn is_deeper_than(limit: usize, bytes: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

fn agreed_media_type(document: Option<String>, header: Option<&str>) -> Result<String, InvalidManifest> {
    match (document, header) {
        (Some(document), Some(header)) if document != header => {
            Err(InvalidManifest::MediaType { document, header: header.to_owned() })
        }
        (Some(document), _) => Ok(document),
        (None, Some(header)) => Ok(header.to_owned()),
        (None, None) => Err(InvalidManifest::NoMediaType),
    }
}

fn references(descriptors: &[Descriptor]) -> Result<Vec<Reference>, InvalidManifest> {
    descriptors.iter().map(reference).collect()
}

fn reference(descriptor: &Descriptor) -> Result<Reference, InvalidManifest> {
    let text = descriptor.digest().to_string();
    let digest: Digest = text.parse().map_err(|error| InvalidManifest::Digest { digest: text, error })?;
    let size = descriptor.size();
    // Databases and file systems count with signed 64 bits.
    if i64::try_from(size).is_err() {
        return Err(InvalidManifest::Size { digest, size });
    }
    let media_type = descriptor.media_type().to_string();
    let foreign = media_type.contains(".foreign.") || media_type.contains(".nondistributable.");
    Ok(Reference {
        external: foreign || descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty()),
        digest,
        size,
        media_type,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digest() -> String {
        Digest::sha256(b"{}").to_string()
    }

    fn parse(document: &serde_json::Value, header: Option<&str>) -> Result<Manifest, InvalidManifest> {
        Manifest::parse(&serde_json::to_vec(document).expect("JSON"), header)
    }

    #[test]
    fn an_image_manifest_is_read() {
        let descriptor = json!({"mediaType": "a/b", "digest": digest(), "size": 2});
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": descriptor,
            "layers": [descriptor, {"mediaType": "a/b", "digest": digest(), "size": 2, "urls": ["https://elsewhere.example/"]}],
            "subject": descriptor, "annotations": {"k": "v"},
        });
        let manifest = parse(&document, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"))
            .expect("valid");
        assert_eq!(manifest.blobs().count(), 3);
        assert_eq!(manifest.layers.iter().map(|l| l.external).collect::<Vec<_>>(), [false, true]);
        assert_eq!(manifest.referrer_type(), Some("a/b"));
        assert_eq!(manifest.annotations["k"], "v");
        assert!(!manifest.is_index());
    }

    #[test]
    fn what_lies_is_refused() {
        let valid = json!({"mediaType": "a/b", "digest": digest(), "size": 2});
        let error = |document| parse(&document, None).expect_err("refused").to_string();
        assert!(
            error(
                json!({"mediaType": "x/y", "config": {"mediaType": "a/b", "digest": digest(), "size": -1}})
            )
            .contains("-1")
        );
        assert!(error(json!({"mediaType": "x/y", "config": {"mediaType": "a/b", "digest": digest(), "size": u64::MAX}})).contains("size"));
        assert!(
            error(
                json!({"mediaType": "x/y", "config": {"mediaType": "a/b", "digest": "sha256:1", "size": 2}})
            )
            .contains("digest")
        );
        assert!(error(json!({"mediaType": "x/y", "layers": [valid], "manifests": [valid]})).contains("both"));
        assert!(error(json!({"schemaVersion": 1, "mediaType": "x/y"})).contains("version 1"));
        assert!(error(json!({"schemaVersion": 2})).contains("neither"));
        assert!(matches!(
            parse(&json!({"mediaType": "x/y"}), Some("x/z")),
            Err(InvalidManifest::MediaType { .. })
        ));
        assert!(Manifest::parse(b"<html>", Some("x/y")).is_err());
        assert!(Manifest::parse(&b"[".repeat(10_000), Some("x/y")).is_err());
        let nested = [b"{\"config\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
        assert!(Manifest::parse(&nested, Some("x/y")).is_err());
        let unknown =
            [b"{\"schemaVersion\":2,\"x\":".to_vec(), b"[".repeat(64), b"]".repeat(64), b"}".to_vec()]
                .concat();
        assert!(matches!(Manifest::parse(&unknown, Some("x/y")), Err(InvalidManifest::Depth)));
        let text =
            format!(r#"{{"schemaVersion":2,"annotations":{{"a":"\"{}\\"}},"x":[[]]}}"#, "[".repeat(100));
        assert!(Manifest::parse(text.as_bytes(), Some("x/y")).is_ok(), "brackets in a text are no levels");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Manifest::parse(&bytes, Some("x/y"));
        }

        #[test]
        fn no_json_makes_the_parser_panic(
            size in any::<i128>(), digest in "(sha256:)?[0-9a-f]{0,70}", key in "config|layers|manifests|subject|annotations|blobs"
        ) {
            let text = format!("{{\"mediaType\":\"x/y\",\"{key}\":[{{\"mediaType\":\"\",\"digest\":\"{digest}\",\"size\":{size}}}]}}");
            let _ = Manifest::parse(text.as_bytes(), None);
        }
    }
}
