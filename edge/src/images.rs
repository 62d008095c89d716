//! Images as operators see them: a manifest under a name, and all that belongs to it. Lists, pins and evicts them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use oci::{digest::Digest, name::Reference};

use crate::{
    manifests::Manifests,
    metadata::{Child, ChildKind, ImageRow, ImageUse, Metadata, Place},
    store::{Key, Presence, Seconds, Store, now},
    tags::Tags,
    usage::Uses,
};

/// How many manifests one image is looked for in: an index may name another one.
const MAX_MANIFESTS: usize = 1000;
/// How many images that nobody asks for are removed in one go.
const REAPED_AT_ONCE: u32 = 100;

/// See the module.
#[derive(Debug)]
pub(crate) struct Images {
    store: Arc<Store>,
    metadata: Metadata,
    manifests: Manifests,
    tags: Tags,
    uses: Arc<Uses>,
    /// Uses that are not written down yet.
    pending: Mutex<Vec<ImageUse>>,
}

/// An image, and how much of it is here.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) row: ImageRow,
    /// Bytes of whole blobs and of manifests.
    pub(crate) bytes: u64,
    pub(crate) partial_bytes: u64,
    /// Bytes of all its blobs and manifests, whether they are here or not.
    pub(crate) bytes_total: u64,
    /// Its blobs, each counted once, and how many of them are whole here.
    pub(crate) blobs: usize,
    pub(crate) blobs_whole: usize,
    /// Those that are not whole here.
    pub(crate) lacking: Vec<Digest>,
    /// Every blob of it is whole.
    pub(crate) complete: bool,
    pub(crate) pinned: bool,
}

/// What became of an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// It was here, and took so many bytes that nothing else needs.
    Gone { digest: Digest, bytes: u64 },
    /// It is not here.
    Unknown,
    /// It is pinned, by this name.
    Pinned(Reference),
}

/// What belongs to an image and is known here.
#[derive(Debug, Default)]
struct Contents {
    /// Each with its length in bytes.
    manifests: Vec<(Digest, u64)>,
    blobs: Vec<Child>,
}

impl Images {
    /// The images of these.
    pub(crate) fn new(
        store: Arc<Store>,
        metadata: Metadata,
        manifests: Manifests,
        tags: Tags,
        uses: Arc<Uses>,
    ) -> Self {
        Self { store, metadata, manifests, tags, uses, pending: Mutex::default() }
    }

    /// Takes note of how images were used since the last time.
    pub(crate) fn collect(&self) {
        let uses = self.uses.collect(&self.store);
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend(uses);
    }

    /// Writes down how images were used.
    pub(crate) async fn flush(&self) {
        self.collect();
        let uses = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        if !uses.is_empty()
            && let Err(error) = self.metadata.write_uses(&uses).await
        {
            tracing::warn!(%error, images = uses.len(), "the uses of images could not be written down");
        }
    }

    /// All images.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, sqlx::Error> {
        self.flush().await;
        let pins = self.metadata.pins().await?;
        let mut listed = Vec::new();
        for row in self.metadata.images().await? {
            listed.push(self.measure(row, &pins).await?);
        }
        Ok(listed)
    }

    /// One image; `None` if it is not here.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn look(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<Option<Listed>, sqlx::Error> {
        let Some(digest) = self.metadata.local_image(place, reference).await? else { return Ok(None) };
        let pins = self.metadata.pins().await?;
        let rows = self.metadata.images().await?;
        let named = rows.into_iter().find(|row| row.place == *place && row.is(reference));
        // What belongs to an index has no line of its own.
        let row = named.unwrap_or_else(|| ImageRow {
            place: place.clone(),
            reference: reference.clone(),
            digest,
            used: 0,
            hits: 0,
        });
        self.measure(row, &pins).await.map(Some)
    }

    /// The images that need one of `blobs`.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn holding(&self, blobs: &HashSet<Digest>) -> Result<Vec<ImageRow>, sqlx::Error> {
        let mut holding = Vec::new();
        for row in self.metadata.images().await? {
            let contents = self.contents(&row.digest).await?;
            if contents.blobs.iter().any(|child| blobs.contains(&child.digest)) {
                holding.push(row);
            }
        }
        Ok(holding)
    }

    async fn measure(&self, row: ImageRow, pins: &[(Place, Reference)]) -> Result<Listed, sqlx::Error> {
        let contents = self.contents(&row.digest).await?;
        let keys: Vec<Key> = contents.blobs.iter().map(|child| Key::of(&child.digest)).collect();
        let presence = self.store.presence(&keys);
        let manifests: u64 = contents.manifests.iter().map(|(_, size)| size).sum();
        let (mut bytes, mut partial_bytes, mut bytes_total) = (manifests, 0, manifests);
        let mut lacking = Vec::new();
        for (child, one) in contents.blobs.iter().zip(&presence) {
            match one {
                Presence::Whole(size) => {
                    bytes += size;
                    bytes_total += size;
                    continue;
                }
                Presence::Partial(size) => partial_bytes += size,
                Presence::Absent => {}
            }
            bytes_total += child.size;
            lacking.push(child.digest.clone());
        }
        let complete = lacking.is_empty() && contents.has_an_image();
        let pinned = pins.iter().any(|(place, reference)| *place == row.place && row.is(reference));
        let blobs = presence.len();
        let blobs_whole = blobs - lacking.len();
        Ok(Listed { row, bytes, partial_bytes, bytes_total, blobs, blobs_whole, lacking, complete, pinned })
    }

    /// Pins an image. Its digest; `None` if it is not here.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn pin(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<Option<Digest>, sqlx::Error> {
        let Some(digest) = self.metadata.local_image(place, reference).await? else { return Ok(None) };
        self.metadata.pin(place, reference).await?;
        self.refresh_pins().await?;
        Ok(Some(digest))
    }

    /// Unpins an image. Whether it was pinned, by this name.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn unpin(&self, place: &Place, reference: &Reference) -> Result<bool, sqlx::Error> {
        let pins = self.metadata.pins().await?;
        let pinned = pins.iter().any(|pin| pin.0 == *place && pin.1 == *reference);
        if pinned {
            self.metadata.unpin(place, reference).await?;
            self.refresh_pins().await?;
        }
        Ok(pinned)
    }

    /// Tells the store which blobs are pinned now: those of what the pinned names are.
    ///
    /// # Errors
    /// The metadata failed.
    pub(crate) async fn refresh_pins(&self) -> Result<(), sqlx::Error> {
        let mut pinned = HashSet::new();
        for (place, reference) in self.metadata.pins().await? {
            if let Some(digest) = self.metadata.local_image(&place, &reference).await? {
                let contents = self.contents(&digest).await?;
                pinned.extend(contents.blobs.iter().map(|child| Key::of(&child.digest)));
            }
        }
        self.store.set_pinned(pinned);
        Ok(())
    }

    /// Removes an image, and the blobs that no other image needs. Whoever reads them now reads on.
    ///
    /// # Errors
    /// The metadata failed; the image may be partly gone, and can be evicted again.
    pub(crate) async fn evict(&self, place: &Place, reference: &Reference) -> Result<Evicted, sqlx::Error> {
        let Some(digest) = self.metadata.local_image(place, reference).await? else {
            return Ok(Evicted::Unknown);
        };
        for (pinned_at, pinned) in self.metadata.pins().await? {
            if pinned_at == *place
                && self.metadata.local_image(place, &pinned).await?.as_ref() == Some(&digest)
            {
                return Ok(Evicted::Pinned(pinned));
            }
        }
        // Uses that are noted later would bring its row back.
        self.flush().await;
        let bytes = self.remove(place, &digest).await?;
        Ok(Evicted::Gone { digest, bytes })
    }

    /// Removes a few images that nobody has asked for since `before`, and the blobs that no other image needs. A pinned one
    /// stays.
    ///
    /// # Errors
    /// As of [`Images::evict`].
    pub(crate) async fn reap(&self, before: Seconds) -> Result<(), sqlx::Error> {
        let unused = self.metadata.images_unused_since(before, REAPED_AT_ONCE).await?;
        if unused.is_empty() {
            return Ok(());
        }
        let mut pinned = HashSet::new();
        for (place, reference) in self.metadata.pins().await? {
            if let Some(digest) = self.metadata.local_image(&place, &reference).await? {
                let contents = self.contents(&digest).await?;
                pinned.extend(contents.manifests.into_iter().map(|(manifest, _)| (place.clone(), manifest)));
            }
        }
        for (place, digest) in unused {
            if pinned.contains(&(place.clone(), digest.clone())) {
                let kept = ImageUse { place, digest, used: now(), hits: 0 };
                self.metadata.write_uses(&[kept]).await?;
            } else {
                tracing::info!(upstream = %place.upstream, repository = %place.repository, %digest, "an image that nobody asks for is removed");
                self.remove(&place, &digest).await?;
            }
        }
        Ok(())
    }

    /// Removes an image, whatever holds it. How many bytes that frees.
    async fn remove(&self, place: &Place, digest: &Digest) -> Result<u64, sqlx::Error> {
        let contents = self.contents(digest).await?;
        let mut bytes = 0;
        // The index comes first: its images belong to it for as long as it is there.
        for (manifest, size) in &contents.manifests {
            if manifest == digest || !self.metadata.is_needed(manifest).await? {
                self.forget(place, manifest).await?;
                bytes += size;
            }
        }
        for child in &contents.blobs {
            if !self.metadata.is_needed(&child.digest).await? {
                self.metadata.forget_links(&child.digest).await?;
                bytes += self.store.dismiss(&Key::of(&child.digest));
            }
        }
        Ok(bytes)
    }

    async fn forget(&self, place: &Place, manifest: &Digest) -> Result<(), sqlx::Error> {
        let tags: Vec<Reference> = self
            .metadata
            .images()
            .await?
            .into_iter()
            .filter(|row| row.place == *place && row.digest == *manifest)
            .map(|row| row.reference)
            .collect();
        self.metadata.forget_image(place, manifest).await?;
        self.manifests.forget(place, manifest).await;
        for reference in &tags {
            if let Reference::Tag(tag) = reference {
                self.tags.forget(place, tag);
            }
        }
        Ok(())
    }

    /// What belongs to a manifest, and to the manifests that are here of an index.
    async fn contents(&self, root: &Digest) -> Result<Contents, sqlx::Error> {
        let mut contents = Contents::default();
        let (mut seen, mut blobs) = (HashSet::from([root.clone()]), HashSet::new());
        let mut next = vec![root.clone()];
        while let Some(digest) = next.pop()
            && contents.manifests.len() < MAX_MANIFESTS
        {
            let Some(size) = self.metadata.manifest_size(&digest).await? else { continue };
            contents.manifests.push((digest.clone(), size));
            for child in self.metadata.children(&digest).await? {
                match child.kind {
                    ChildKind::Manifest if seen.insert(child.digest.clone()) => next.push(child.digest),
                    ChildKind::Manifest => {}
                    ChildKind::Blob if blobs.insert(child.digest.clone()) => contents.blobs.push(child),
                    ChildKind::Blob => {}
                }
            }
        }
        Ok(contents)
    }
}

impl ImageRow {
    /// Whether a pin of `reference` is one of this name.
    fn is(&self, reference: &Reference) -> bool {
        self.reference == *reference || *reference == Reference::Digest(self.digest.clone())
    }
}

impl Contents {
    /// An index of which no image is here is of no use.
    fn has_an_image(&self) -> bool {
        !self.blobs.is_empty() || self.manifests.len() > 1
    }
}
