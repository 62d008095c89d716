//! Work that one node at a time does: whoever holds the lease. A dead node's lease runs out.

use std::time::Duration;

use super::{Database, Error};
use crate::time::Timestamp;

impl Database {
    /// Takes or renews the lease `name` for `span`; `false` while another holder has it.
    pub(crate) async fn take_lease(&self, name: &str, holder: &str, span: Duration) -> Result<bool, Error> {
        let now = Timestamp::now();
        let result = sqlx::query(
            "INSERT INTO lease (name, holder, expires_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE lease.expires_at < $4 OR lease.holder = excluded.holder",
        )
        .bind(name)
        .bind(holder)
        .bind(now.after(span).millis())
        .bind(now.millis())
        .execute(&self.write)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// Gives a lease back before it runs out.
    pub(crate) async fn release_lease(&self, name: &str, holder: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM lease WHERE name = $1 AND holder = $2")
            .bind(name)
            .bind(holder)
            .execute(&self.write)
            .await?;
        Ok(())
    }
}
