//! Manifests: exact bytes, what they refer to, and the tags that name them.
//!
//! All changes of manifests and tags are made by the functions of this file, each in one transaction.

use bytes::Bytes;
use oci::{
    digest::Digest,
    manifest::Manifest,
    name::{Reference, RepositoryName, Tag},
};
use sqlx::{Any, Transaction};

use super::{
    Database, Error, commit,
    error::{stored, stored_size},
    retry,
};
use crate::time::Timestamp;

/// A manifest as it was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// What a `HEAD` tells of a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ManifestHead {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

/// A manifest to be stored.
#[derive(Debug)]
pub(crate) struct NewManifest<'a> {
    pub(crate) repository: &'a RepositoryName,
    pub(crate) digest: &'a Digest,
    pub(crate) bytes: &'a Bytes,
    pub(crate) manifest: &'a Manifest,
    pub(crate) tags: &'a [Tag],
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Stored,
    /// The repository does not have these blobs.
    Missing(Vec<Digest>),
    /// A descriptor tells a size that the blob does not have.
    WrongSize {
        digest: Digest,
        described: u64,
        stored: u64,
    },
}

impl Database {
    /// A manifest by tag or digest.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, Error> {
        let (statement, key) = match reference {
            Reference::Tag(tag) => (
                "SELECT m.digest, m.media_type, m.bytes FROM repository r JOIN tag t ON t.repository_id = r.id \
                 JOIN manifest m ON m.id = t.manifest_id WHERE r.name = $1 AND t.name = $2",
                tag.as_str(),
            ),
            Reference::Digest(digest) => (
                "SELECT m.digest, m.media_type, m.bytes FROM repository r \
                 JOIN manifest m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = $2",
                digest.as_str(),
            ),
        };
        let find = || async {
            let row: Option<(String, String, Vec<u8>)> = sqlx::query_as(statement)
                .bind(repository.as_str())
                .bind(key)
                .fetch_optional(&self.read)
                .await?;
            let Some((digest, media_type, bytes)) = row else { return Ok(None) };
            Ok(Some(StoredManifest { digest: stored("digest", &digest)?, media_type, bytes: bytes.into() }))
        };
        retry(find).await
    }

    /// A manifest by tag or digest, without its bytes.
    pub(crate) async fn manifest_head(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, Error> {
        let (statement, key) = match reference {
            Reference::Tag(tag) => (
                "SELECT m.digest, m.media_type, m.size FROM repository r JOIN tag t ON t.repository_id = r.id \
                 JOIN manifest m ON m.id = t.manifest_id WHERE r.name = $1 AND t.name = $2",
                tag.as_str(),
            ),
            Reference::Digest(digest) => (
                "SELECT m.digest, m.media_type, m.size FROM repository r \
                 JOIN manifest m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = $2",
                digest.as_str(),
            ),
        };
        let find = || async {
            let row: Option<(String, String, i64)> = sqlx::query_as(statement)
                .bind(repository.as_str())
                .bind(key)
                .fetch_optional(&self.read)
                .await?;
            let Some((digest, media_type, size)) = row else { return Ok(None) };
            Ok(Some(ManifestHead {
                digest: stored("digest", &digest)?,
                media_type,
                size: stored_size(size)?,
            }))
        };
        retry(find).await
    }

    /// Stores a manifest and points tags to it.
    pub(crate) async fn put_manifest(&self, new: &NewManifest<'_>) -> Result<Put, Error> {
        retry(|| self.put_manifest_once(new)).await
    }

    async fn put_manifest_once(&self, new: &NewManifest<'_>) -> Result<Put, Error> {
        let mut transaction = self.begin().await?;
        let repository = self.repository_id(&mut transaction, new.repository).await?;
        let blobs = match hold_blobs(&mut transaction, repository, new.manifest).await? {
            Held::All(blobs) => blobs,
            Held::Not(refusal) => return Ok(refusal),
        };
        let manifest = insert_manifest(&mut transaction, repository, new).await?;
        for blob in blobs {
            sqlx::query(
                "INSERT INTO manifest_blob (manifest_id, repository_id, blob_id) VALUES ($1, $2, $3) \
                 ON CONFLICT (manifest_id, blob_id) DO NOTHING",
            )
            .bind(manifest)
            .bind(repository)
            .bind(blob)
            .execute(&mut *transaction)
            .await?;
        }
        for tag in new.tags {
            point_tag(&mut transaction, repository, tag, manifest).await?;
        }
        commit(transaction).await?;
        Ok(Put::Stored)
    }

    /// Removes a tag; the manifest stays. `false`: there was none.
    pub(crate) async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, Error> {
        let delete = || async {
            let result = sqlx::query(
                "DELETE FROM tag WHERE name = $1 AND repository_id = (SELECT id FROM repository WHERE name = $2)",
            )
            .bind(tag.as_str())
            .bind(repository.as_str())
            .execute(&self.write)
            .await?;
            Ok(result.rows_affected() == 1)
        };
        retry(delete).await
    }

    /// Removes a manifest and its tags. Its blobs' grace period begins. `false`: there was none.
    pub(crate) async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let delete = || async {
            let mut transaction = self.begin().await?;
            let found: Option<i64> = sqlx::query_scalar(
                "SELECT m.id FROM repository r JOIN manifest m ON m.repository_id = r.id \
                 WHERE r.name = $1 AND m.digest = $2",
            )
            .bind(repository.as_str())
            .bind(digest.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(manifest) = found else { return Ok(false) };
            // Before the manifest goes: from then on the collector may look at the links.
            sqlx::query(
                "UPDATE blob_link SET touched_at = $1 WHERE EXISTS (SELECT 1 FROM manifest_blob m \
                 WHERE m.manifest_id = $2 AND m.repository_id = blob_link.repository_id AND m.blob_id = blob_link.blob_id)",
            )
            .bind(Timestamp::now().millis())
            .bind(manifest)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM manifest WHERE id = $1")
                .bind(manifest)
                .execute(&mut *transaction)
                .await?;
            commit(transaction).await?;
            Ok(true)
        };
        retry(delete).await
    }
}

enum Held {
    All(Vec<i64>),
    Not(Put),
}

/// Finds the blobs that a manifest needs, and locks their links against collection by changing them. A link in
/// quarantine comes back: the client was told that the blob is there before it was hidden.
async fn hold_blobs(
    transaction: &mut Transaction<'static, Any>,
    repository: i64,
    manifest: &Manifest,
) -> Result<Held, Error> {
    // Always in the same order, so that two pushes with common layers do not wait for one another.
    let mut references: Vec<_> = manifest.blobs().collect();
    references.sort_unstable_by(|a, b| a.digest.cmp(&b.digest));
    references.dedup();
    let mut held = Vec::with_capacity(references.len());
    let mut missing = Vec::new();
    for reference in references {
        match hold_blob(transaction, repository, &reference.digest).await? {
            Some((_, size)) if size != reference.size => {
                return Ok(Held::Not(Put::WrongSize {
                    digest: reference.digest.clone(),
                    described: reference.size,
                    stored: size,
                }));
            }
            Some((blob, _)) => held.push(blob),
            None if reference.external => {}
            None => missing.push(reference.digest.clone()),
        }
    }
    Ok(if missing.is_empty() { Held::All(held) } else { Held::Not(Put::Missing(missing)) })
}

async fn hold_blob(
    transaction: &mut Transaction<'static, Any>,
    repository: i64,
    digest: &Digest,
) -> Result<Option<(i64, u64)>, Error> {
    let row: Option<(i64, i64)> = sqlx::query_as("SELECT id, size FROM blob WHERE digest = $1")
        .bind(digest.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some((blob, size)) = row else { return Ok(None) };
    let held = sqlx::query(
        "UPDATE blob_link SET touched_at = $1, quarantined_at = NULL WHERE repository_id = $2 AND blob_id = $3",
    )
    .bind(Timestamp::now().millis())
    .bind(repository)
    .bind(blob)
    .execute(&mut **transaction)
    .await?;
    Ok(if held.rows_affected() == 1 { Some((blob, stored_size(size)?)) } else { None })
}

async fn insert_manifest(
    transaction: &mut Transaction<'static, Any>,
    repository: i64,
    new: &NewManifest<'_>,
) -> Result<i64, Error> {
    let manifest = new.manifest;
    let annotations = (!manifest.annotations.is_empty())
        .then(|| serde_json::to_string(&manifest.annotations).expect("a map of strings serializes"));
    // The same bytes may be pushed again as another media type: the last one counts.
    Ok(sqlx::query_scalar(
        "INSERT INTO manifest (repository_id, digest, media_type, artifact_type, subject, annotations, bytes, size, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = excluded.media_type RETURNING id",
    )
    .bind(repository)
    .bind(new.digest.as_str())
    .bind(&manifest.media_type)
    .bind(manifest.referrer_type())
    .bind(manifest.subject.as_ref().map(|subject| subject.digest.as_str()))
    .bind(annotations)
    .bind(new.bytes.to_vec())
    .bind(i64::try_from(new.bytes.len()).expect("a manifest is in memory"))
    .bind(Timestamp::now().millis())
    .fetch_one(&mut **transaction)
    .await?)
}

async fn point_tag(
    transaction: &mut Transaction<'static, Any>,
    repository: i64,
    tag: &Tag,
    manifest: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO tag (repository_id, name, manifest_id, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (repository_id, name) DO UPDATE \
         SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at",
    )
    .bind(repository)
    .bind(tag.as_str())
    .bind(manifest)
    .bind(Timestamp::now().millis())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
