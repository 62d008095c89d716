//! Manifests by digest: out of memory, out of the metadata, or from the upstream, once for all who ask at a time.

use std::sync::Arc;

use oci::{
    client::{Failure, FetchError, FetchedManifest},
    digest::Digest,
    manifest::{InvalidManifest, Manifest, media_type},
    name::Reference,
};

use crate::{
    metadata::{Child, ChildKind, Link, Metadata, Place, StoredManifest},
    store::Key,
    unavailable::Unavailable,
    upstream::Upstream,
    usage::{Usage, Uses},
};

/// Bytes of manifests held in memory.
const MEMORY_BYTES: u64 = 64 << 20;
/// What an entry costs beside the manifest's bytes, roughly.
const ENTRY_BYTES: usize = 512;

/// How long an upstream may take for a manifest that is not cached.
pub(crate) type Patience = std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Manifests {
    memory: moka::future::Cache<(Place, Digest), Held>,
    metadata: Metadata,
    uses: Arc<Uses>,
}

/// A manifest in memory.
#[derive(Clone, Debug)]
struct Held {
    manifest: StoredManifest,
    usage: Arc<Usage>,
    /// Where it was before: those who waited for it while it was read out of the metadata have it from the cache.
    came_from: Source,
}

/// A manifest, and whether it had to be fetched for this request.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The manifest.
    pub manifest: StoredManifest,
    /// Counts who asks for it.
    pub usage: Arc<Usage>,
    /// Where it was.
    pub source: Source,
}

/// Where something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the cache.
    Cache,
    /// Fetched from the upstream for this request.
    Upstream,
    /// Fetched from the upstream for another request that came a little earlier.
    Collapsed,
}

impl Manifests {
    /// Manifests kept in `metadata`; who asks for them is noted in `uses`.
    pub(crate) fn new(metadata: Metadata, uses: Arc<Uses>) -> Self {
        let weigh = |_: &(Place, Digest), held: &Held| {
            u32::try_from(held.manifest.bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let memory = moka::future::Cache::builder().weigher(weigh).max_capacity(MEMORY_BYTES).build();
        Self { memory, metadata, uses }
    }

    /// Notes that a client was given what was found.
    pub(crate) fn used(&self, found: &Found) {
        self.uses.note(&found.usage);
    }

    /// Forgets what is in memory of a manifest that the metadata has forgotten.
    pub(crate) async fn forget(&self, place: &Place, digest: &Digest) {
        self.memory.invalidate(&(place.clone(), digest.clone())).await;
    }

    /// The manifest if it is cached and `place` links it. Asks nobody.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub(crate) async fn cached(
        &self,
        place: &Place,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, Unavailable> {
        let key = (place.clone(), digest.clone());
        if let Some(held) = self.memory.get(&key).await {
            return Ok(Some(held.manifest));
        }
        let found = self.metadata.manifest(place, digest).await?;
        if let Some(manifest) = &found {
            self.memory.insert(key, Held::new(place, manifest.clone(), Source::Cache)).await;
        }
        Ok(found)
    }

    /// The manifest, from the upstream if need be.
    ///
    /// # Errors
    /// The upstream did not give it, or the metadata failed.
    pub(crate) async fn get(
        &self,
        place: &Place,
        upstream: &Upstream,
        digest: &Digest,
        patience: Patience,
    ) -> Result<Found, Arc<Unavailable>> {
        let key = (place.clone(), digest.clone());
        if let Some(Held { manifest, usage, .. }) = self.memory.get(&key).await {
            return Ok(Found { manifest, usage, source: Source::Cache });
        }
        let find = async {
            if let Some(manifest) = self.metadata.manifest(place, digest).await? {
                return Ok(Held::new(place, manifest, Source::Cache));
            }
            let reference = Reference::Digest(digest.clone());
            let answer = upstream.manifest(&place.repository, &reference, patience).await?;
            self.keep(place, answer).await.map(|manifest| Held::new(place, manifest, Source::Upstream))
        };
        let entry = self.memory.entry(key).or_try_insert_with(find).await?;
        let is_fresh = entry.is_fresh();
        let Held { manifest, usage, came_from } = entry.into_value();
        let source = match came_from {
            Source::Upstream if !is_fresh => Source::Collapsed,
            came_from => came_from,
        };
        Ok(Found { manifest, usage, source })
    }

    /// Fetches what `reference` is now, and keeps it.
    ///
    /// # Errors
    /// As [`Manifests::get`].
    pub(crate) async fn fetch(
        &self,
        place: &Place,
        upstream: &Upstream,
        reference: &Reference,
        patience: Patience,
    ) -> Result<StoredManifest, Unavailable> {
        let answer = upstream.manifest(&place.repository, reference, patience).await?;
        let manifest = self.keep(place, answer).await?;
        let key = (place.clone(), manifest.digest.clone());
        self.memory.insert(key, Held::new(place, manifest.clone(), Source::Upstream)).await;
        Ok(manifest)
    }

    /// Keeps a manifest with its links, durably, before anybody is served.
    async fn keep(&self, place: &Place, answer: FetchedManifest) -> Result<StoredManifest, Unavailable> {
        let parsed = match Manifest::parse(&answer.bytes, None) {
            Err(InvalidManifest::NoMediaType) => Manifest::parse(&answer.bytes, answer.media_type.as_deref()),
            parsed => parsed,
        };
        let parsed = parsed.map_err(|error| {
            tracing::warn!(upstream = %place.upstream, repository = %place.repository, digest = %answer.digest, %error, "not a manifest");
            FetchError::Failed(Failure::Unreadable("what came is not a manifest"))
        })?;
        if !looks_like_manifest(&parsed) {
            return Err(FetchError::Failed(Failure::Unreadable("JSON came that is no manifest")).into());
        }
        // Only what a registry checks before it takes the manifest: blobs that lie elsewhere, and the children of an index,
        // may be another repository's. A child is linked when it is fetched.
        let blobs = parsed.blobs().filter(|child| !child.external);
        let links: Vec<Link> =
            blobs.map(|child| Link { digest: child.digest.clone(), size: Some(child.size) }).collect();
        let children = children(&parsed);
        let manifest = StoredManifest {
            digest: answer.digest,
            media_type: parsed.media_type.into(),
            bytes: answer.bytes,
        };
        self.metadata.keep_manifest(place, &manifest, &links, &children).await;
        Ok(manifest)
    }
}

impl Held {
    fn new(place: &Place, manifest: StoredManifest, came_from: Source) -> Self {
        let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type));
        let children = parsed.map(|parsed| children(&parsed)).unwrap_or_default();
        let keys = children.iter().map(|child| Key::of(&child.digest)).collect();
        Self {
            usage: Arc::new(Usage::new(place.clone(), manifest.digest.clone(), keys)),
            manifest,
            came_from,
        }
    }
}

/// What belongs to a manifest and lies where it does.
fn children(parsed: &Manifest) -> Vec<Child> {
    let child = |kind| {
        move |child: &oci::manifest::Reference| Child { digest: child.digest.clone(), size: child.size, kind }
    };
    let blobs = parsed.blobs().filter(|child| !child.external).map(child(ChildKind::Blob));
    blobs.chain(parsed.manifests.iter().map(child(ChildKind::Manifest))).collect()
}

/// A portal or a status page may answer with JSON as well. A manifest has a type that is one, or children.
fn looks_like_manifest(manifest: &Manifest) -> bool {
    let types = [
        media_type::IMAGE_MANIFEST,
        media_type::IMAGE_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
        media_type::ARTIFACT_MANIFEST,
    ];
    types.contains(&manifest.media_type.as_str())
        || manifest.blobs().next().is_some()
        || !manifest.manifests.is_empty()
}
