//! People: accounts with a password.

use sqlx::{Any, Transaction};

use super::{
    Database, Error,
    accounts::{self, Changed, Expected, PasswordHash, Refusal},
    commit, retry,
};

/// A user as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct UserRow {
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    pub(crate) admin: i64,
    pub(crate) auditor: i64,
    pub(crate) disabled: i64,
    pub(crate) version: i64,
    pub(crate) created_at: i64,
}

/// A user to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewUser<'a> {
    pub(crate) name: &'a str,
    pub(crate) email: Option<&'a str>,
    pub(crate) password: &'a PasswordHash,
    pub(crate) admin: bool,
    pub(crate) auditor: bool,
}

/// What is to be changed of a user; the rest stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserChange {
    /// `Some(None)` takes it away.
    pub(crate) email: Option<Option<String>>,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) admin: Option<bool>,
    pub(crate) auditor: Option<bool>,
    /// Shuts the user out, or lets them in again.
    pub(crate) disabled: Option<bool>,
}

macro_rules! select_user {
    ($rest:literal) => {
        concat!(
            "SELECT a.name, l.email, l.admin, l.auditor, a.disabled, a.version, a.created_at \
             FROM account a JOIN login l ON l.account_id = a.id ",
            $rest
        )
    };
}

impl Database {
    pub(crate) async fn user(&self, name: &str) -> Result<Option<UserRow>, Error> {
        let find = || async {
            Ok(sqlx::query_as(select_user!("WHERE a.name = $1"))
                .bind(name)
                .fetch_optional(&self.read)
                .await?)
        };
        retry(find).await
    }

    /// The first `limit` users behind `after`.
    pub(crate) async fn users(&self, after: &str, limit: u32) -> Result<Vec<UserRow>, Error> {
        let list = || async {
            Ok(sqlx::query_as(select_user!("WHERE a.name > $1 ORDER BY a.name LIMIT $2"))
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await?)
        };
        retry(list).await
    }

    /// Makes a user; `Refused(Exists)` where the name is taken.
    pub(crate) async fn create_user(&self, new: &NewUser<'_>) -> Result<Changed<()>, Error> {
        let create = || async {
            let mut transaction = self.begin().await?;
            let Some(id) = accounts::insert_account(&mut transaction, new.name).await? else {
                return Ok(Changed::Refused(Refusal::Exists));
            };
            insert_login(&mut transaction, id, new).await?;
            commit(transaction).await?;
            Ok(Changed::Done(()))
        };
        retry(create).await
    }

    /// Makes the first admin, unless there is one, disabled or not. `false`: there is.
    pub(crate) async fn create_first_admin(&self, new: &NewUser<'_>) -> Result<bool, Error> {
        let create = || async {
            if self.has_admin().await? {
                return Ok(false);
            }
            let mut transaction = self.begin().await?;
            // Of several nodes that start at once, one gets the name.
            let Some(id) = accounts::insert_account(&mut transaction, new.name).await? else {
                return Ok(false);
            };
            insert_login(&mut transaction, id, new).await?;
            commit(transaction).await?;
            Ok(true)
        };
        retry(create).await
    }

    pub(crate) async fn has_admin(&self) -> Result<bool, Error> {
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM login WHERE admin = 1").fetch_one(&self.read).await?;
        Ok(count > 0)
    }

    /// Changes a user. A new password makes everything void that was had with the old one; so does being shut out.
    pub(crate) async fn change_user(
        &self,
        name: &str,
        change: &UserChange,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        retry(|| self.change_user_once(name, change, expected)).await
    }

    async fn change_user_once(
        &self,
        name: &str,
        change: &UserChange,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let mut transaction = self.begin().await?;
        let Some(account) = accounts::lock_account(&mut transaction, name).await? else {
            return Ok(Changed::Missing);
        };
        if !expected.is(account.version) {
            return Ok(Changed::Differs);
        }
        let flag = |flag: Option<bool>| flag.map(i64::from);
        let changed = sqlx::query(
            "UPDATE login SET password = COALESCE($1, password), admin = COALESCE($2, admin), \
             auditor = COALESCE($3, auditor), email = CASE WHEN $4 = 1 THEN $5 ELSE email END WHERE account_id = $6",
        )
        .bind(change.password.as_ref().map(|hash| hash.0.as_str()))
        .bind(flag(change.admin))
        .bind(flag(change.auditor))
        .bind(i64::from(change.email.is_some()))
        .bind(change.email.clone().flatten())
        .bind(account.id)
        .execute(&mut *transaction)
        .await?;
        if changed.rows_affected() == 0 {
            // A robot has that name.
            return Ok(Changed::Missing);
        }
        if change.password.is_some() || change.disabled.is_some() {
            let void = "UPDATE account SET generation = generation + 1, disabled = COALESCE($1, disabled) WHERE id = $2";
            sqlx::query(void).bind(flag(change.disabled)).bind(account.id).execute(&mut *transaction).await?;
            accounts::forget_refresh_tokens(&mut transaction, account.id).await?;
        }
        let shut_out = change.admin == Some(false) || change.disabled == Some(true);
        if account.is_admin && shut_out && accounts::lacks_admin(&mut transaction).await? {
            return Ok(Changed::Refused(Refusal::LastAdmin));
        }
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }
}

async fn insert_login(
    transaction: &mut Transaction<'static, Any>,
    id: i64,
    new: &NewUser<'_>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO login (account_id, email, password, admin, auditor) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(new.email)
    .bind(new.password.0.as_str())
    .bind(i64::from(new.admin))
    .bind(i64::from(new.auditor))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
