//! Uploads under way. All of an upload's state is here and in the store, so any node continues it, before or after a
//! restart. Each change compares and sets the upload's version: of two that run at once, one happens.

use std::time::Duration;

use oci::{
    digest::{Algorithm, Digest, Hasher},
    name::RepositoryName,
};
use sqlx::{Any, Transaction};

use super::{
    Database, Error, blobs, commit,
    error::{stored, stored_size},
    objects::{self, Part},
    retry,
};
use crate::time::Timestamp;

/// An upload as it stood when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    /// Has taken in all bytes so far.
    pub(crate) hasher: Hasher,
    /// Bytes so far.
    pub(crate) size: u64,
    version: i64,
}

impl Upload {
    fn bound_size(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }
}

/// What is to become a blob.
#[derive(Debug)]
pub(crate) struct Completion<'a> {
    pub(crate) repository: &'a RepositoryName,
    /// The upload whose parts come first; it ends with this.
    pub(crate) upload: Option<&'a Upload>,
    /// The object written last, if any.
    pub(crate) last: Option<&'a Part>,
    /// Of all the bytes.
    pub(crate) digest: &'a Digest,
    /// Of all the bytes.
    pub(crate) size: u64,
}

/// What became of a change to an upload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Done,
    /// Another request has changed or ended the upload meanwhile.
    Lost,
}

impl Database {
    /// Begins an upload.
    pub(crate) async fn create_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, Error> {
        let upload = Upload {
            id: uuid::Uuid::new_v4().to_string(),
            hasher: Hasher::new(algorithm),
            size: 0,
            version: 0,
        };
        let create = || async {
            let mut transaction = self.begin().await?;
            let repository = self.repository_id(&mut transaction, repository).await?;
            sqlx::query(
                "INSERT INTO upload (id, repository_id, algorithm, hash_state, size, version, touched_at) \
                 VALUES ($1, $2, $3, $4, 0, 0, $5)",
            )
            .bind(&upload.id)
            .bind(repository)
            .bind(algorithm.as_str())
            .bind(upload.hasher.save())
            .bind(Timestamp::now().millis())
            .execute(&mut *transaction)
            .await?;
            commit(transaction).await
        };
        retry(create).await?;
        Ok(upload)
    }

    /// An upload of this repository.
    pub(crate) async fn find_upload(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Option<Upload>, Error> {
        let find = || async {
            let row: Option<(String, Vec<u8>, i64, i64)> = sqlx::query_as(
                "SELECT u.algorithm, u.hash_state, u.size, u.version \
                 FROM upload u JOIN repository r ON r.id = u.repository_id WHERE u.id = $1 AND r.name = $2",
            )
            .bind(id)
            .bind(repository.as_str())
            .fetch_optional(&self.read)
            .await?;
            let Some((algorithm, state, size, version)) = row else { return Ok(None) };
            let algorithm: Algorithm = stored("algorithm", &algorithm)?;
            let hasher = Hasher::restore(algorithm, &state)
                .map_err(|error| Error::Damaged { what: "upload", value: error.to_string() })?;
            Ok(Some(Upload { id: id.to_owned(), hasher, size: stored_size(size)?, version }))
        };
        retry(find).await
    }

    /// The objects of an upload, in order.
    pub(crate) async fn upload_parts(&self, upload: &Upload) -> Result<Vec<Part>, Error> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT object, size FROM upload_part WHERE upload_id = $1 ORDER BY ordinal")
                .bind(&upload.id)
                .fetch_all(&self.read)
                .await?;
        rows.into_iter().map(|(object, size)| Part::stored(&object, size)).collect()
    }

    /// Appends a written object; `after` is the upload as it then is.
    pub(crate) async fn append(
        &self,
        before: &Upload,
        part: &Part,
        hasher: &Hasher,
    ) -> Result<Option<Upload>, Error> {
        let after = Upload {
            id: before.id.clone(),
            hasher: hasher.clone(),
            size: before.size + part.size,
            version: before.version + 1,
        };
        let append = || async {
            let mut transaction = self.begin().await?;
            let updated = sqlx::query(
                "UPDATE upload SET hash_state = $1, size = $2, version = $3, touched_at = $4 \
                 WHERE id = $5 AND version = $6",
            )
            .bind(hasher.save())
            .bind(after.bound_size())
            .bind(after.version)
            .bind(Timestamp::now().millis())
            .bind(&before.id)
            .bind(before.version)
            .execute(&mut *transaction)
            .await?;
            if updated.rows_affected() == 0 || !objects::keep(&mut transaction, &part.object).await? {
                return Ok(Change::Lost);
            }
            sqlx::query("INSERT INTO upload_part (upload_id, ordinal, object, size) VALUES ($1, $2, $3, $4)")
                .bind(&before.id)
                .bind(before.version)
                .bind(part.object.as_str())
                .bind(part.bound_size())
                .execute(&mut *transaction)
                .await?;
            commit(transaction).await?;
            Ok(Change::Done)
        };
        Ok(match retry(append).await? {
            Change::Done => Some(after),
            Change::Lost => None,
        })
    }

    /// A sign of life of an upload whose next part is being received.
    pub(crate) async fn touch_upload(&self, upload: &Upload) -> Result<(), Error> {
        sqlx::query("UPDATE upload SET touched_at = $1 WHERE id = $2 AND version = $3")
            .bind(Timestamp::now().millis())
            .bind(&upload.id)
            .bind(upload.version)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Makes the bytes of an upload a blob of its repository. Where the blob exists already it is linked, and the new
    /// objects are given up.
    pub(crate) async fn complete(&self, completion: &Completion<'_>) -> Result<Change, Error> {
        retry(|| self.complete_once(completion)).await
    }

    async fn complete_once(&self, completion: &Completion<'_>) -> Result<Change, Error> {
        let mut transaction = self.begin().await?;
        let mut parts = Vec::new();
        if let Some(upload) = completion.upload {
            if !claim(&mut transaction, upload).await? {
                return Ok(Change::Lost);
            }
            parts = remove(&mut transaction, upload).await?;
        }
        if let Some(last) = completion.last {
            if !objects::keep(&mut transaction, &last.object).await? {
                return Ok(Change::Lost);
            }
            parts.push(last.clone());
        }
        let blob = match insert_blob(&mut transaction, completion).await? {
            Some(new) => {
                insert_parts(&mut transaction, new, &parts).await?;
                new
            }
            None => {
                for part in &parts {
                    objects::discard(&mut transaction, &part.object).await?;
                }
                match blobs::touch(&mut transaction, completion.digest).await? {
                    Some(existing) => existing,
                    // Collected between the two statements; nothing was committed.
                    None => return Err(Error::Overtaken),
                }
            }
        };
        let repository = self.repository_id(&mut transaction, completion.repository).await?;
        blobs::link(&mut transaction, repository, blob).await?;
        commit(transaction).await?;
        Ok(Change::Done)
    }

    /// Drops an upload and gives up its objects. `Lost`: it is not as it was read.
    pub(crate) async fn drop_upload(&self, upload: &Upload) -> Result<Change, Error> {
        let drop = || async {
            let mut transaction = self.begin().await?;
            if !claim(&mut transaction, upload).await? {
                return Ok(Change::Lost);
            }
            for part in remove(&mut transaction, upload).await? {
                objects::discard(&mut transaction, &part.object).await?;
            }
            commit(transaction).await?;
            Ok(Change::Done)
        };
        retry(drop).await
    }

    /// Drops the uploads that nobody has touched for `expire`, and tells how many.
    pub(crate) async fn expire_uploads(&self, expire: Duration) -> Result<u64, Error> {
        let expire = || async {
            let mut transaction = self.begin().await?;
            // The version that nobody has read: whoever holds an older one loses.
            let claimed = sqlx::query("UPDATE upload SET version = -1 WHERE touched_at < $1")
                .bind(Timestamp::now().before(expire).millis())
                .execute(&mut *transaction)
                .await?;
            if claimed.rows_affected() == 0 {
                return Ok(0);
            }
            sqlx::query(
                "UPDATE object SET state = 'garbage' WHERE name IN (\
                 SELECT p.object FROM upload_part p JOIN upload u ON u.id = p.upload_id WHERE u.version = -1)",
            )
            .execute(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM upload WHERE version = -1").execute(&mut *transaction).await?;
            commit(transaction).await?;
            Ok(claimed.rows_affected())
        };
        retry(expire).await
    }
}

/// Takes an upload for this transaction alone; `false` where it is no longer as it was read.
pub(super) async fn claim(
    transaction: &mut Transaction<'static, Any>,
    upload: &Upload,
) -> Result<bool, Error> {
    let result = sqlx::query("UPDATE upload SET version = version + 1 WHERE id = $1 AND version = $2")
        .bind(&upload.id)
        .bind(upload.version)
        .execute(&mut **transaction)
        .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes a claimed upload, and returns its parts.
pub(super) async fn remove(
    transaction: &mut Transaction<'static, Any>,
    upload: &Upload,
) -> Result<Vec<Part>, Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT object, size FROM upload_part WHERE upload_id = $1 ORDER BY ordinal")
            .bind(&upload.id)
            .fetch_all(&mut **transaction)
            .await?;
    sqlx::query("DELETE FROM upload WHERE id = $1").bind(&upload.id).execute(&mut **transaction).await?;
    rows.into_iter().map(|(object, size)| Part::stored(&object, size)).collect()
}

/// The id of the new blob; `None` where it exists.
async fn insert_blob(
    transaction: &mut Transaction<'static, Any>,
    completion: &Completion<'_>,
) -> Result<Option<i64>, Error> {
    let now = Timestamp::now().millis();
    Ok(sqlx::query_scalar(
        "INSERT INTO blob (digest, size, created_at, touched_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (digest) DO NOTHING RETURNING id",
    )
    .bind(completion.digest.as_str())
    .bind(i64::try_from(completion.size).unwrap_or(i64::MAX))
    .bind(now)
    .bind(now)
    .fetch_optional(&mut **transaction)
    .await?)
}

async fn insert_parts(
    transaction: &mut Transaction<'static, Any>,
    blob: i64,
    parts: &[Part],
) -> Result<(), Error> {
    for (ordinal, part) in (0_i64..).zip(parts) {
        sqlx::query("INSERT INTO blob_part (blob_id, ordinal, object, size) VALUES ($1, $2, $3, $4)")
            .bind(blob)
            .bind(ordinal)
            .bind(part.object.as_str())
            .bind(part.bound_size())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
