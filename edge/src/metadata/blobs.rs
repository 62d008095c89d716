//! The rows of stored blobs: read page by page at the start, written in batches behind the pulls.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Metadata, Write};
use crate::store::{Changes, Key, Row};

impl Metadata {
    /// How many blobs have a row.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn count_blobs(&self) -> Result<usize, sqlx::Error> {
        let count: i64 = sqlx::query("SELECT count(*) FROM blob").fetch_one(&self.read).await?.try_get(0)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The `limit` rows behind the one of `after`, in the order of their digests.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn blobs_after(&self, after: &[u8], limit: u32) -> Result<Vec<Row>, sqlx::Error> {
        let statement = "SELECT digest, size, used, frequency, verified FROM blob WHERE digest > $1
             ORDER BY digest LIMIT $2";
        let rows = sqlx::query(statement).bind(after.to_vec()).bind(limit).fetch_all(&self.read).await?;
        rows.iter().map(row).collect()
    }

    /// One row.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn blob(&self, key: &Key) -> Result<Option<Row>, sqlx::Error> {
        let statement = "SELECT digest, size, used, frequency, verified FROM blob WHERE digest = $1";
        let found = sqlx::query(statement).bind(key.raw().to_vec()).fetch_optional(&self.read).await?;
        found.as_ref().map(row).transpose()
    }

    /// Writes what changed in the store.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn write_changes(&self, changes: &Changes) -> Result<(), sqlx::Error> {
        self.write(&Write::Changes(changes)).await
    }
}

fn row(found: &SqliteRow) -> Result<Row, sqlx::Error> {
    let raw: &[u8] = found.try_get(0)?;
    let key = Key::from_raw(raw).ok_or_else(|| sqlx::Error::Decode("not the key of a digest".into()))?;
    let size: i64 = found.try_get(1)?;
    Ok(Row {
        key,
        size: u64::try_from(size).unwrap_or(0),
        used: found.try_get(2)?,
        frequency: found.try_get(3)?,
        verified: found.try_get(4)?,
    })
}
