//! Garbage collection, one statement per step, while clients push and pull.
//!
//! 1. `quarantine`: links that no manifest of their repository needs and that nobody touched for the grace period are
//!    hidden. A client that was told just before that the blob is there still has the whole quarantine to name it in a
//!    manifest, which brings the link back.
//! 2. `unlink`: links whose quarantine is over go.
//! 3. `remove_blobs`: blobs without a link go, and their objects become garbage.
//!
//! Under PostgreSQL, a statement sees other tables as they were when it began, even after it has waited for a row. So steps
//! 1 and 3 mark rows, which locks them, and then look again, in a statement that sees what was committed meanwhile, and
//! take the mark back where somebody has taken the row into use. Everybody who does changes the row itself first, and
//! so either is seen, or waits, and then sees what was done. Nothing of this rests on the length of the grace period.

use std::time::Duration;

use super::{Database, Error, commit, retry};
use crate::time::Timestamp;

/// What collection would free in one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimable {
    /// The repository's name.
    pub repository: String,
    /// Blobs that no manifest there needs.
    pub blobs: u64,
    /// Their bytes; those of a blob that other repositories have too are not freed.
    pub bytes: u64,
}

/// A count of what a step would take, and of all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) taken: u64,
    pub(crate) all: u64,
}

/// The links that step 1 takes; `$1` is the end of the grace period.
macro_rules! unneeded_links {
    () => {
        "FROM blob_link l WHERE l.quarantined_at IS NULL AND l.touched_at < $1 AND NOT EXISTS (\
         SELECT 1 FROM manifest_blob m WHERE m.repository_id = l.repository_id AND m.blob_id = l.blob_id)"
    };
}

impl Database {
    /// How many links step 1 would hide.
    pub(crate) async fn unneeded_links(&self, grace: Duration) -> Result<Share, Error> {
        let taken: i64 = sqlx::query_scalar(concat!("SELECT COUNT(*) ", unneeded_links!()))
            .bind(Timestamp::now().before(grace).millis())
            .fetch_one(&self.read)
            .await?;
        let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM blob_link").fetch_one(&self.read).await?;
        Ok(Share { taken: taken.unsigned_abs(), all: all.unsigned_abs() })
    }

    /// Step 1.
    pub(crate) async fn quarantine(&self, grace: Duration) -> Result<u64, Error> {
        retry(|| self.quarantine_once(grace)).await
    }

    async fn quarantine_once(&self, grace: Duration) -> Result<u64, Error> {
        let now = Timestamp::now();
        let mut transaction = self.begin().await?;
        let hidden = sqlx::query(
            "UPDATE blob_link SET quarantined_at = $2 WHERE quarantined_at IS NULL AND touched_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM manifest_blob m \
             WHERE m.repository_id = blob_link.repository_id AND m.blob_id = blob_link.blob_id)",
        )
        .bind(now.before(grace).millis())
        .bind(now.millis())
        .execute(&mut *transaction)
        .await?;
        let needed = sqlx::query(
            "UPDATE blob_link SET quarantined_at = NULL WHERE quarantined_at IS NOT NULL \
             AND EXISTS (SELECT 1 FROM manifest_blob m \
             WHERE m.repository_id = blob_link.repository_id AND m.blob_id = blob_link.blob_id)",
        )
        .execute(&mut *transaction)
        .await?;
        commit(transaction).await?;
        Ok(hidden.rows_affected().saturating_sub(needed.rows_affected()))
    }

    /// Step 2.
    pub(crate) async fn unlink_quarantined(&self, quarantine: Duration) -> Result<u64, Error> {
        let unlink = || async {
            let result = sqlx::query("DELETE FROM blob_link WHERE quarantined_at < $1")
                .bind(Timestamp::now().before(quarantine).millis())
                .execute(&self.write)
                .await?;
            Ok(result.rows_affected())
        };
        retry(unlink).await
    }

    /// Step 3: the number of blobs that went.
    pub(crate) async fn remove_blobs(&self, grace: Duration) -> Result<u64, Error> {
        retry(|| self.remove_blobs_once(grace)).await
    }

    async fn remove_blobs_once(&self, grace: Duration) -> Result<u64, Error> {
        let mut transaction = self.begin().await?;
        // The mark: sizes are never negative otherwise.
        let marked = sqlx::query(
            "UPDATE blob SET size = -size - 1 WHERE size >= 0 AND touched_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM blob_link l WHERE l.blob_id = blob.id)",
        )
        .bind(Timestamp::now().before(grace).millis())
        .execute(&mut *transaction)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(0);
        }
        let linked = sqlx::query(
            "UPDATE blob SET size = -size - 1 WHERE size < 0 \
             AND EXISTS (SELECT 1 FROM blob_link l WHERE l.blob_id = blob.id)",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE object SET state = 'garbage' WHERE name IN (\
             SELECT p.object FROM blob_part p JOIN blob b ON b.id = p.blob_id WHERE b.size < 0)",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM blob WHERE size < 0").execute(&mut *transaction).await?;
        commit(transaction).await?;
        Ok(marked.rows_affected().saturating_sub(linked.rows_affected()))
    }

    /// How many blobs step 3 would remove.
    pub(crate) async fn unlinked_blobs(&self, grace: Duration) -> Result<Share, Error> {
        let taken: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM blob WHERE touched_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM blob_link l WHERE l.blob_id = blob.id)",
        )
        .bind(Timestamp::now().before(grace).millis())
        .fetch_one(&self.read)
        .await?;
        let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM blob").fetch_one(&self.read).await?;
        Ok(Share { taken: taken.unsigned_abs(), all: all.unsigned_abs() })
    }

    /// What step 1 would hide now, by repository; nothing is changed.
    pub(crate) async fn reclaimable(&self, grace: Duration) -> Result<Vec<Reclaimable>, Error> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT r.name, COUNT(*), CAST(SUM(b.size) AS BIGINT) FROM blob_link l \
             JOIN repository r ON r.id = l.repository_id JOIN blob b ON b.id = l.blob_id \
             WHERE l.quarantined_at IS NULL AND l.touched_at < $1 AND NOT EXISTS (SELECT 1 FROM manifest_blob m \
             WHERE m.repository_id = l.repository_id AND m.blob_id = l.blob_id) GROUP BY r.name ORDER BY r.name",
        )
        .bind(Timestamp::now().before(grace).millis())
        .fetch_all(&self.read)
        .await?;
        let line = |(repository, blobs, bytes): (String, i64, i64)| Reclaimable {
            repository,
            blobs: blobs.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
        };
        Ok(rows.into_iter().map(line).collect())
    }
}
