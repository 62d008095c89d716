//! Signing keys, and the tokens that clients keep.

use std::{fmt, time::Duration};

use super::{Database, Error, commit, retry};
use crate::time::Timestamp;

/// A key as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredKey {
    pub(crate) seed: Vec<u8>,
    pub(crate) signs_from: Timestamp,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredKey({:?})", self.signs_from)
    }
}

/// Refresh tokens of one account; beyond it, those that end first are forgotten.
const MAX_REFRESH_TOKENS: i64 = 200;

impl Database {
    /// All keys, the newest first.
    pub(crate) async fn signing_keys(&self) -> Result<Vec<StoredKey>, Error> {
        let list = || async {
            let rows: Vec<(Vec<u8>, i64)> =
                sqlx::query_as("SELECT seed, signs_from FROM signing_key ORDER BY signs_from DESC, id")
                    .fetch_all(&self.read)
                    .await?;
            let key = |(seed, signs_from)| StoredKey { seed, signs_from: Timestamp::at(signs_from) };
            Ok(rows.into_iter().map(key).collect())
        };
        retry(list).await
    }

    /// Adds a key, if the newest is still the one that `after` says; `false` where another node was faster.
    pub(crate) async fn add_signing_key(
        &self,
        id: &str,
        key: &StoredKey,
        after: Option<Timestamp>,
    ) -> Result<bool, Error> {
        let add = || async {
            let added = sqlx::query(
                "INSERT INTO signing_key (id, seed, signs_from, created_at) SELECT $1, $2, $3, $4 \
                 WHERE (SELECT COALESCE(MAX(signs_from), -1) FROM signing_key) = $5",
            )
            .bind(id)
            .bind(key.seed.clone())
            .bind(key.signs_from.millis())
            .bind(Timestamp::now().millis())
            .bind(after.map_or(-1, Timestamp::millis))
            .execute(&self.write)
            .await?;
            Ok(added.rows_affected() == 1)
        };
        retry(add).await
    }

    /// Removes keys that have stopped signing before `end`: those with a newer one that signs since then.
    pub(crate) async fn remove_signing_keys(&self, end: Timestamp) -> Result<u64, Error> {
        let remove = || async {
            let removed = sqlx::query(
                "DELETE FROM signing_key WHERE EXISTS (SELECT 1 FROM signing_key newer \
                 WHERE newer.signs_from > signing_key.signs_from AND newer.signs_from < $1)",
            )
            .bind(end.millis())
            .execute(&self.write)
            .await?;
            Ok(removed.rows_affected())
        };
        retry(remove).await
    }

    /// Keeps a refresh token of an account.
    pub(crate) async fn add_refresh_token(
        &self,
        hash: &str,
        account: i64,
        generation: i64,
        life: Duration,
    ) -> Result<(), Error> {
        let add = || async {
            let mut transaction = self.begin().await?;
            sqlx::query(
                "DELETE FROM refresh_token WHERE account_id = $1 AND hash IN (SELECT hash FROM refresh_token \
                 WHERE account_id = $1 ORDER BY expires_at DESC LIMIT 1000000 OFFSET $2)",
            )
            .bind(account)
            .bind(MAX_REFRESH_TOKENS - 1)
            .execute(&mut *transaction)
            .await?;
            sqlx::query(
                "INSERT INTO refresh_token (hash, account_id, generation, expires_at) VALUES ($1, $2, $3, $4)",
            )
            .bind(hash)
            .bind(account)
            .bind(generation)
            .bind(Timestamp::now().after(life).millis())
            .execute(&mut *transaction)
            .await?;
            commit(transaction).await
        };
        retry(add).await
    }

    /// The account, and its generation then, that a refresh token was made for.
    pub(crate) async fn refresh_token(&self, hash: &str) -> Result<Option<(i64, i64)>, Error> {
        let find = || async {
            Ok(sqlx::query_as(
                "SELECT account_id, generation FROM refresh_token WHERE hash = $1 AND expires_at > $2",
            )
            .bind(hash)
            .bind(Timestamp::now().millis())
            .fetch_optional(&self.read)
            .await?)
        };
        retry(find).await
    }

    /// Removes refresh tokens that are over.
    pub(crate) async fn expire_refresh_tokens(&self) -> Result<u64, Error> {
        let removed = sqlx::query("DELETE FROM refresh_token WHERE expires_at <= $1")
            .bind(Timestamp::now().millis())
            .execute(&self.write)
            .await?;
        Ok(removed.rows_affected())
    }
}
