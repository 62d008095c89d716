//! The images that an edge knows: what belongs to each, when it was used, and what is pinned.

use oci::{
    digest::Digest,
    name::{Reference, RepositoryName, Tag},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Child, ChildKind, Metadata, Place, Write};
use crate::store::{Key, Seconds};

/// How an image was used since that was last written.
#[derive(Clone, Debug)]
pub(crate) struct ImageUse {
    pub(crate) place: Place,
    pub(crate) digest: Digest,
    pub(crate) used: Seconds,
    pub(crate) hits: u32,
}

/// A name of an image at an edge.
#[derive(Clone, Debug)]
pub(crate) struct ImageRow {
    pub(crate) place: Place,
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) used: Seconds,
    pub(crate) hits: u64,
}

impl Metadata {
    /// All images: each tag, and each manifest that neither has a tag nor belongs to another one of its repository.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn images(&self) -> Result<Vec<ImageRow>, sqlx::Error> {
        let statement = "SELECT t.upstream, t.repository, t.name, t.digest, i.used, i.hits FROM tag t
             JOIN manifest m ON m.digest = t.digest
             LEFT JOIN image i ON i.digest = unhex(substr(t.digest, instr(t.digest, ':') + 1))
                 AND i.upstream = t.upstream AND i.repository = t.repository
             ORDER BY 1, 2, 3";
        let mut images = Vec::new();
        for row in sqlx::query(statement).fetch_all(&self.read).await? {
            let (name, digest): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
            let (tag, digest): (Tag, Digest) = (parsed(name)?, parsed(digest)?);
            images.push(image(&row, Reference::Tag(tag), digest, 4)?);
        }
        let statement = "SELECT i.upstream, i.repository, i.digest, i.used, i.hits FROM image i
             WHERE NOT EXISTS (SELECT 1 FROM tag t WHERE t.upstream = i.upstream AND t.repository = i.repository
                 AND unhex(substr(t.digest, instr(t.digest, ':') + 1)) = i.digest)
             AND NOT EXISTS (SELECT 1 FROM child c JOIN image p ON p.digest = c.manifest
                 WHERE c.digest = i.digest AND p.upstream = i.upstream AND p.repository = i.repository)
             ORDER BY 1, 2, 3";
        for row in sqlx::query(statement).fetch_all(&self.read).await? {
            let digest = key(row.try_get(2)?)?.digest();
            images.push(image(&row, Reference::Digest(digest.clone()), digest, 3)?);
        }
        Ok(images)
    }

    /// What belongs to a manifest.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn children(&self, manifest: &Digest) -> Result<Vec<Child>, sqlx::Error> {
        let statement = "SELECT digest, size, kind FROM child WHERE manifest = $1";
        let rows =
            sqlx::query(statement).bind(Key::of(manifest).raw().to_vec()).fetch_all(&self.read).await?;
        let child = |row: &SqliteRow| {
            let (size, kind): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            let kind = if kind == 0 { ChildKind::Blob } else { ChildKind::Manifest };
            Ok(Child { digest: key(row.try_get(0)?)?.digest(), size: u64::try_from(size).unwrap_or(0), kind })
        };
        rows.iter().map(child).collect()
    }

    /// The length of a manifest that is here.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn manifest_size(&self, digest: &Digest) -> Result<Option<u64>, sqlx::Error> {
        let select =
            sqlx::query("SELECT length(bytes) FROM manifest WHERE digest = $1").bind(digest.as_str());
        let Some(row) = select.fetch_optional(&self.read).await? else { return Ok(None) };
        let length: i64 = row.try_get(0)?;
        Ok(u64::try_from(length).ok())
    }

    /// The digest of the image that `reference` is in `place`, if it is here.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn local_image(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<Option<Digest>, sqlx::Error> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => match self.tag(place, tag).await? {
                Some(record) => record.digest,
                None => return Ok(None),
            },
        };
        Ok(self.manifest(place, &digest).await?.map(|manifest| manifest.digest))
    }

    /// Whether an image that is here, of any place, has the content.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn is_needed(&self, digest: &Digest) -> Result<bool, sqlx::Error> {
        let statement =
            "SELECT 1 FROM child c JOIN image i ON i.digest = c.manifest WHERE c.digest = $1 LIMIT 1";
        let select = sqlx::query(statement).bind(Key::of(digest).raw().to_vec());
        Ok(select.fetch_optional(&self.read).await?.is_some())
    }

    /// Some of the images that were not used since `before`, the one used longest ago first.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn images_unused_since(
        &self,
        before: Seconds,
        limit: u32,
    ) -> Result<Vec<(Place, Digest)>, sqlx::Error> {
        let statement =
            "SELECT upstream, repository, digest FROM image WHERE used < $1 ORDER BY used LIMIT $2";
        let rows = sqlx::query(statement).bind(before).bind(limit).fetch_all(&self.read).await?;
        rows.iter().map(|row| Ok((place(row)?, key(row.try_get(2)?)?.digest()))).collect()
    }

    /// A place that links the content, one whose upstream has sent it before others.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn place_of(&self, digest: &Digest) -> Result<Option<Place>, sqlx::Error> {
        let statement =
            "SELECT upstream, repository FROM link WHERE digest = $1 ORDER BY proven DESC LIMIT 1";
        let row = sqlx::query(statement).bind(digest.as_str()).fetch_optional(&self.read).await?;
        row.as_ref().map(place).transpose()
    }

    /// Everything that is pinned.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn pins(&self) -> Result<Vec<(Place, Reference)>, sqlx::Error> {
        let rows =
            sqlx::query("SELECT upstream, repository, reference FROM pin").fetch_all(&self.read).await?;
        rows.iter().map(|row| Ok((place(row)?, parsed(row.try_get(2)?)?))).collect()
    }

    /// Pins an image.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn pin(&self, place: &Place, reference: &Reference) -> Result<(), sqlx::Error> {
        self.write(&Write::Pin { place, reference: &reference.to_string() }).await
    }

    /// Unpins an image.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn unpin(&self, place: &Place, reference: &Reference) -> Result<(), sqlx::Error> {
        self.write(&Write::Unpin { place, reference: &reference.to_string() }).await
    }

    /// Writes how images were used.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn write_uses(&self, uses: &[ImageUse]) -> Result<(), sqlx::Error> {
        self.write(&Write::Uses(uses)).await
    }

    /// Forgets an image of a place.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn forget_image(&self, place: &Place, digest: &Digest) -> Result<(), sqlx::Error> {
        self.write(&Write::ForgetImage { place, digest }).await
    }

    /// Forgets who links a blob.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn forget_links(&self, digest: &Digest) -> Result<(), sqlx::Error> {
        // All of them: what is forgotten is one look into the database away.
        self.links.invalidate_all();
        self.proofs.invalidate_all();
        self.write(&Write::ForgetLinks(digest)).await
    }
}

fn image(
    row: &SqliteRow,
    reference: Reference,
    digest: Digest,
    uses: usize,
) -> Result<ImageRow, sqlx::Error> {
    let used: Option<Seconds> = row.try_get(uses)?;
    let hits: Option<i64> = row.try_get(uses + 1)?;
    let hits = hits.and_then(|hits| u64::try_from(hits).ok()).unwrap_or(0);
    Ok(ImageRow { place: place(row)?, reference, digest, used: used.unwrap_or(0), hits })
}

/// The place in the first two columns.
fn place(row: &SqliteRow) -> Result<Place, sqlx::Error> {
    let (upstream, repository): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Place { upstream: upstream.into(), repository: parsed::<RepositoryName>(repository)? })
}

fn key(raw: &[u8]) -> Result<Key, sqlx::Error> {
    Key::from_raw(raw).ok_or_else(|| sqlx::Error::Decode("not the key of a digest".into()))
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> Result<T, sqlx::Error> {
    text.parse().map_err(|error: T::Err| sqlx::Error::Decode(Box::new(error)))
}
