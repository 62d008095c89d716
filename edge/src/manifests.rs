//! Manifests by digest: out of memory, out of the metadata, or from the upstream, once for all who ask at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use oci::{
    client::{Failure, FetchError, FetchedManifest},
    digest::Digest,
    manifest::{InvalidManifest, Manifest, media_type},
    name::Reference,
};

use crate::{
    metadata::{Link, Metadata, Place, StoredManifest},
    unavailable::Unavailable,
    upstream::Upstream,
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
    memory: moka::future::Cache<(Place, Digest), StoredManifest>,
    metadata: Metadata,
}

/// A manifest, and whether it had to be fetched for this request.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The manifest.
    pub manifest: StoredManifest,
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
    /// Manifests kept in `metadata`.
    pub(crate) fn new(metadata: Metadata) -> Self {
        let weigh = |_: &(Place, Digest), manifest: &StoredManifest| {
            u32::try_from(manifest.bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let memory = moka::future::Cache::builder().weigher(weigh).max_capacity(MEMORY_BYTES).build();
        Self { memory, metadata }
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
        if let Some(manifest) = self.memory.get(&key).await {
            return Ok(Some(manifest));
        }
        let found = self.metadata.manifest(place, digest).await?;
        if let Some(manifest) = &found {
            self.memory.insert(key, manifest.clone()).await;
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
        if let Some(manifest) = self.memory.get(&key).await {
            return Ok(Found { manifest, source: Source::Cache });
        }
        let fetched = AtomicBool::new(false);
        let find = async {
            if let Some(manifest) = self.metadata.manifest(place, digest).await? {
                return Ok(manifest);
            }
            fetched.store(true, Ordering::Relaxed);
            let reference = Reference::Digest(digest.clone());
            let answer = upstream.manifest(&place.repository, &reference, patience).await?;
            self.keep(place, answer).await
        };
        let entry = self.memory.entry(key).or_try_insert_with(find).await?;
        let source = match (fetched.load(Ordering::Relaxed), entry.is_fresh()) {
            (true, _) => Source::Upstream,
            (false, true) => Source::Cache,
            (false, false) => Source::Collapsed,
        };
        Ok(Found { manifest: entry.into_value(), source })
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
        self.memory.insert((place.clone(), manifest.digest.clone()), manifest.clone()).await;
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
        let children = parsed.blobs().filter(|child| !child.external);
        let links: Vec<Link> =
            children.map(|child| Link { digest: child.digest.clone(), size: Some(child.size) }).collect();
        let manifest =
            StoredManifest { digest: answer.digest, media_type: parsed.media_type, bytes: answer.bytes };
        self.metadata.keep_manifest(place, &manifest, &links).await;
        Ok(manifest)
    }
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
