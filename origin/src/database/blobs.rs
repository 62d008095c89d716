//! Blobs, and the links that make them visible in a repository.
//!
//! Whoever links a blob changes its row first, which is how the garbage collector notices (gc.rs).

use oci::{digest::Digest, name::RepositoryName};
use sqlx::{Any, Transaction};

use super::{
    Database, Error, commit,
    error::stored_size,
    objects::Part,
    retry,
    uploads::{self, Upload},
};
use crate::time::Timestamp;

/// What a blob consists of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BlobContent {
    pub(crate) size: u64,
    /// In order; their sizes add up to `size`.
    pub(crate) parts: Vec<Part>,
}

/// Where a blob may be mounted from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MountFrom<'a> {
    Repository(&'a RepositoryName),
    /// Any repository, where nobody is asked who they are.
    Any,
}

/// What became of a blob's removal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unlinked {
    Done,
    Unknown,
    /// A manifest of the repository needs it.
    InUse,
}

impl Database {
    /// The size of a blob that `repository` links.
    pub(crate) async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let find = || async {
            let size: Option<i64> = sqlx::query_scalar(
                "SELECT b.size FROM repository r JOIN blob_link l ON l.repository_id = r.id \
                 JOIN blob b ON b.id = l.blob_id \
                 WHERE r.name = $1 AND b.digest = $2 AND l.quarantined_at IS NULL",
            )
            .bind(repository.as_str())
            .bind(digest.as_str())
            .fetch_optional(&self.read)
            .await?;
            size.map(stored_size).transpose()
        };
        retry(find).await
    }

    /// The parts of a blob that `repository` links.
    pub(crate) async fn blob_content(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobContent>, Error> {
        let find = || async {
            let rows: Vec<(i64, Option<String>, Option<i64>)> = sqlx::query_as(
                "SELECT b.size, p.object, p.size FROM repository r JOIN blob_link l ON l.repository_id = r.id \
                 JOIN blob b ON b.id = l.blob_id LEFT JOIN blob_part p ON p.blob_id = b.id \
                 WHERE r.name = $1 AND b.digest = $2 AND l.quarantined_at IS NULL ORDER BY p.ordinal",
            )
            .bind(repository.as_str())
            .bind(digest.as_str())
            .fetch_all(&self.read)
            .await?;
            let Some((size, ..)) = rows.first() else { return Ok(None) };
            let size = stored_size(*size)?;
            let parts = rows
                .into_iter()
                .filter_map(|(_, object, size)| object.zip(size))
                .map(|(object, size)| Part::stored(&object, size))
                .collect::<Result<_, _>>()?;
            Ok(Some(BlobContent { size, parts }))
        };
        retry(find).await
    }

    /// Whether any repository has, or recently had, a blob. It says nothing about who may see it.
    pub(crate) async fn blob_exists(&self, digest: &Digest) -> Result<bool, Error> {
        let found: Option<i64> = sqlx::query_scalar("SELECT id FROM blob WHERE digest = $1")
            .bind(digest.as_str())
            .fetch_optional(&self.read)
            .await?;
        Ok(found.is_some())
    }

    /// Links a blob that exists, whose bytes the client has proven to have, and ends `upload`. `false`: it is gone, and
    /// nothing was changed.
    pub(crate) async fn link_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        upload: Option<&Upload>,
    ) -> Result<bool, Error> {
        let link = || async {
            let mut transaction = self.begin().await?;
            let Some(blob) = touch(&mut transaction, digest).await? else { return Ok(false) };
            let repository = self.repository_id(&mut transaction, repository).await?;
            link(&mut transaction, repository, blob).await?;
            if let Some(upload) = upload
                && uploads::claim(&mut transaction, upload).await?
            {
                uploads::remove(&mut transaction, upload).await?;
            }
            commit(transaction).await?;
            Ok(true)
        };
        retry(link).await
    }

    /// Links a blob of another repository. `false`: it is not there, and nothing was changed.
    pub(crate) async fn mount_blob(
        &self,
        from: MountFrom<'_>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, Error> {
        let from = match from {
            MountFrom::Repository(name) => name.as_str(),
            MountFrom::Any => "",
        };
        let mount = || async {
            let mut transaction = self.begin().await?;
            let blob: Option<i64> = sqlx::query_scalar(
                "UPDATE blob SET touched_at = $1 WHERE digest = $2 AND EXISTS (\
                 SELECT 1 FROM blob_link l JOIN repository r ON r.id = l.repository_id \
                 WHERE l.blob_id = blob.id AND l.quarantined_at IS NULL AND ($3 = '' OR r.name = $3)) RETURNING id",
            )
            .bind(Timestamp::now().millis())
            .bind(digest.as_str())
            .bind(from)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(blob) = blob else { return Ok(false) };
            let repository = self.repository_id(&mut transaction, repository).await?;
            link(&mut transaction, repository, blob).await?;
            commit(transaction).await?;
            Ok(true)
        };
        retry(mount).await
    }

    /// The id of a repository, which is made where it does not exist.
    pub(super) async fn repository_id(
        &self,
        transaction: &mut Transaction<'static, Any>,
        name: &RepositoryName,
    ) -> Result<i64, Error> {
        let select = "SELECT id FROM repository WHERE name = $1";
        let found: Option<i64> =
            sqlx::query_scalar(select).bind(name.as_str()).fetch_optional(&mut **transaction).await?;
        if let Some(id) = found {
            return Ok(id);
        }
        let project = self.project_id(transaction, name.project()).await?;
        sqlx::query(
            "INSERT INTO repository (name, created_at, project_id) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(Timestamp::now().millis())
        .bind(project)
        .execute(&mut **transaction)
        .await?;
        Ok(sqlx::query_scalar(select).bind(name.as_str()).fetch_one(&mut **transaction).await?)
    }

    /// Removes a blob from a repository, unless a manifest there needs it. Its bytes go with garbage collection.
    pub(crate) async fn unlink_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Unlinked, Error> {
        let unlink = || async {
            let mut transaction = self.begin().await?;
            let found: Option<(i64, i64)> = sqlx::query_as(
                "SELECT l.repository_id, l.blob_id FROM repository r JOIN blob_link l ON l.repository_id = r.id \
                 JOIN blob b ON b.id = l.blob_id \
                 WHERE r.name = $1 AND b.digest = $2 AND l.quarantined_at IS NULL",
            )
            .bind(repository.as_str())
            .bind(digest.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((repository, blob)) = found else { return Ok(Unlinked::Unknown) };
            sqlx::query("UPDATE blob SET touched_at = $1 WHERE id = $2")
                .bind(Timestamp::now().millis())
                .bind(blob)
                .execute(&mut *transaction)
                .await?;
            let deleted = sqlx::query("DELETE FROM blob_link WHERE repository_id = $1 AND blob_id = $2")
                .bind(repository)
                .bind(blob)
                .execute(&mut *transaction)
                .await
                .map_err(Error::from);
            match deleted {
                // The key from manifest_blob: some manifest needs the link.
                Err(error) if error.is_foreign_key_violation() => Ok(Unlinked::InUse),
                Err(error) => Err(error),
                Ok(_) => {
                    commit(transaction).await?;
                    Ok(Unlinked::Done)
                }
            }
        };
        retry(unlink).await
    }
}

/// Keeps a blob from being collected until the transaction ends, and for the grace period after it.
pub(super) async fn touch(
    transaction: &mut Transaction<'static, Any>,
    digest: &Digest,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("UPDATE blob SET touched_at = $1 WHERE digest = $2 RETURNING id")
        .bind(Timestamp::now().millis())
        .bind(digest.as_str())
        .fetch_optional(&mut **transaction)
        .await?)
}

/// Makes a blob that was touched visible in a repository.
pub(super) async fn link(
    transaction: &mut Transaction<'static, Any>,
    repository: i64,
    blob: i64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO blob_link (repository_id, blob_id, touched_at) VALUES ($1, $2, $3) \
         ON CONFLICT (repository_id, blob_id) DO UPDATE SET touched_at = excluded.touched_at, quarantined_at = NULL",
    )
    .bind(repository)
    .bind(blob)
    .bind(Timestamp::now().millis())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
