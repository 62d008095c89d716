//! Every object in the store, from before it is written until after it is deleted.
//!
//! `writing` -> `kept` when a part of an upload or blob names it, `garbage` when nothing may name it any more. An object
//! of a node that died is `writing` with no sign of life, and expires.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{Any, Transaction};

use super::{Database, Error, error::stored, error::stored_size, retry};
use crate::time::Timestamp;

/// The name of an object: 32 hex digits, never given twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectName(Box<str>);

impl ObjectName {
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Spreads objects evenly over 256 directories.
    pub(crate) fn shard(&self) -> &str {
        &self.0[..2]
    }
}

impl FromStr for ObjectName {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let valid = s.len() == 32 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(s.into())) } else { Err(()) }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object as a part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) object: ObjectName,
    pub(crate) size: u64,
}

impl Part {
    pub(super) fn stored(object: &str, size: i64) -> Result<Self, Error> {
        Ok(Self { object: stored("object name", object)?, size: stored_size(size)? })
    }

    pub(super) fn bound_size(&self) -> i64 {
        i64::try_from(self.size).unwrap_or(i64::MAX)
    }
}

/// An object that nothing names, to be deleted from the store.
#[derive(Debug)]
pub(crate) struct Garbage {
    pub(crate) object: ObjectName,
    /// The multipart upload to give up, where one was begun.
    pub(crate) multipart: Option<String>,
}

impl Database {
    /// Notes that `object` is about to be written.
    pub(crate) async fn begin_object(&self, object: &ObjectName) -> Result<(), Error> {
        let insert = || async {
            sqlx::query(
                "INSERT INTO object (name, state, touched_at) VALUES ($1, 'writing', $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(object.as_str())
            .bind(Timestamp::now().millis())
            .execute(&self.write)
            .await?;
            Ok(())
        };
        retry(insert).await
    }

    /// Notes how the store calls the multipart upload of `object`, before its first part is sent.
    pub(crate) async fn note_multipart(&self, object: &ObjectName, multipart: &str) -> Result<(), Error> {
        sqlx::query("UPDATE object SET multipart = $1, touched_at = $2 WHERE name = $3")
            .bind(multipart)
            .bind(Timestamp::now().millis())
            .bind(object.as_str())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// A sign of life of an object that is being written.
    pub(crate) async fn touch_object(&self, object: &ObjectName) -> Result<(), Error> {
        sqlx::query("UPDATE object SET touched_at = $1 WHERE name = $2 AND state = 'writing'")
            .bind(Timestamp::now().millis())
            .bind(object.as_str())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Gives up an object that no part names. One that had expired, and was written all the same, is noted again, so that
    /// it is deleted again.
    pub(crate) async fn discard_object(&self, object: &ObjectName) -> Result<(), Error> {
        let discard = || async {
            sqlx::query(
                "INSERT INTO object (name, state, touched_at) VALUES ($1, 'garbage', $2) \
                 ON CONFLICT (name) DO UPDATE SET state = 'garbage' WHERE object.state = 'writing'",
            )
            .bind(object.as_str())
            .bind(Timestamp::now().millis())
            .execute(&self.write)
            .await?;
            Ok(())
        };
        retry(discard).await
    }

    /// Gives up the objects whose writers have shown no sign of life for `expire`.
    pub(crate) async fn expire_objects(&self, expire: Duration) -> Result<u64, Error> {
        let result =
            sqlx::query("UPDATE object SET state = 'garbage' WHERE state = 'writing' AND touched_at < $1")
                .bind(Timestamp::now().before(expire).millis())
                .execute(&self.write)
                .await?;
        Ok(result.rows_affected())
    }

    /// Up to `limit` objects to delete.
    pub(crate) async fn garbage(&self, limit: u32) -> Result<Vec<Garbage>, Error> {
        let rows: Vec<(String, Option<String>)> = sqlx::query_as(
            "SELECT name, multipart FROM object WHERE state = 'garbage' ORDER BY touched_at LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await?;
        rows.into_iter()
            .map(|(name, multipart)| Ok(Garbage { object: stored("object name", &name)?, multipart }))
            .collect()
    }

    /// Forgets objects that are no longer in the store.
    pub(crate) async fn forget_objects(&self, objects: &[ObjectName]) -> Result<(), Error> {
        let forget = || async {
            let mut transaction = self.begin().await?;
            for object in objects {
                sqlx::query("DELETE FROM object WHERE name = $1 AND state = 'garbage'")
                    .bind(object.as_str())
                    .execute(&mut *transaction)
                    .await?;
            }
            super::commit(transaction).await
        };
        retry(forget).await
    }
}

/// Takes a written object into use. `false`: it has expired meanwhile, and its bytes may be gone.
pub(super) async fn keep(
    transaction: &mut Transaction<'static, Any>,
    object: &ObjectName,
) -> Result<bool, Error> {
    let result = sqlx::query(
        "UPDATE object SET state = 'kept', multipart = NULL WHERE name = $1 AND state = 'writing'",
    )
    .bind(object.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Gives up an object that was in use, or was to be.
pub(super) async fn discard(
    transaction: &mut Transaction<'static, Any>,
    object: &ObjectName,
) -> Result<(), Error> {
    sqlx::query("UPDATE object SET state = 'garbage' WHERE name = $1")
        .bind(object.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

#[cfg(test)]
impl Database {
    pub(crate) async fn object_state(&self, object: &ObjectName) -> Result<Option<String>, Error> {
        Ok(sqlx::query_scalar("SELECT state FROM object WHERE name = $1")
            .bind(object.as_str())
            .fetch_optional(&self.read)
            .await?)
    }
}
