//! Which upstream has sent the bytes of a blob.
//!
//! A repository links a blob because a manifest of its registry names it, or because the registry says that it has it. Both
//! are claims, which anybody can make who has a registry, or may push to one. So they count for bytes that came from the same
//! upstream, whose own permissions they stand under, and for no others: a blob of one upstream is not given out on the word
//! of another one before that has sent the same bytes once.

use std::sync::Arc;

use oci::digest::Digest;
use sqlx::SqlitePool;

use super::{Link, Metadata, Place, Write, told};

/// Makes what the schema did not have from the beginning. A blob that only one upstream has links to came from there.
pub(super) async fn prepare(database: &SqlitePool) -> Result<(), sqlx::Error> {
    let known = sqlx::query("SELECT 1 FROM pragma_table_info('link') WHERE name = 'proven'");
    if known.fetch_optional(database).await?.is_none() {
        let mut transaction = database.begin().await?;
        sqlx::raw_sql(ADD).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    sqlx::raw_sql(INDEX).execute(database).await.map(drop)
}

const ADD: &str = "
ALTER TABLE link ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;
UPDATE link SET proven = 1 WHERE digest IN (SELECT digest FROM link GROUP BY digest HAVING count(DISTINCT upstream) = 1);
";

const INDEX: &str = "CREATE INDEX IF NOT EXISTS link_proven ON link (digest, upstream) WHERE proven = 1";

impl Metadata {
    /// Whether `upstream` has sent the bytes of this blob.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn is_proven(&self, upstream: &Arc<str>, digest: &Digest) -> Result<bool, sqlx::Error> {
        if self.proofs.contains_key(&(upstream.clone(), digest.clone())) {
            return Ok(true);
        }
        let statement = "SELECT 1 FROM link WHERE digest = $1 AND upstream = $2 AND proven = 1 LIMIT 1";
        let found = sqlx::query(statement).bind(digest.as_str()).bind(&**upstream);
        let is_proven = found.fetch_optional(&self.read).await?.is_some();
        if is_proven {
            self.remember_proof(upstream, digest);
        }
        Ok(is_proven)
    }

    /// Keeps that the upstream of `place` has sent the bytes of a blob, which are here already.
    pub(crate) async fn keep_proof(&self, place: &Place, link: &Link) {
        self.remember(place, link);
        self.remember_proof(&place.upstream, &link.digest);
        told("proof", self.write(&Write::Proof { place, link }).await);
    }

    pub(super) fn remember_proof(&self, upstream: &Arc<str>, digest: &Digest) {
        self.proofs.insert((upstream.clone(), digest.clone()), ());
    }
}
