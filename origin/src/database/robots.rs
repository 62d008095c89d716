//! Programs: accounts with a random secret, of a project or of the system.

use std::{collections::BTreeSet, time::Duration};

use gossip::access::{ContentAction, RobotName};
use ipnet::IpNet;

use super::{
    Database, Error,
    accounts::{self, Changed, Expected, Refusal, SecretHash},
    commit, retry,
};
use crate::time::Timestamp;

/// A robot as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RobotRow {
    pub(crate) name: String,
    pub(crate) actions: BTreeSet<ContentAction>,
    pub(crate) networks: Vec<IpNet>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) disabled: bool,
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
}

/// A robot to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewRobot<'a> {
    pub(crate) name: &'a RobotName,
    pub(crate) secret: &'a SecretHash,
    pub(crate) actions: &'a BTreeSet<ContentAction>,
    pub(crate) networks: &'a [IpNet],
    pub(crate) expires_at: Option<Timestamp>,
}

type Row = (String, String, String, Option<i64>, i64, i64, i64);

macro_rules! select_robot {
    ($rest:literal) => {
        concat!(
            "SELECT a.name, r.actions, r.networks, r.expires_at, a.disabled, a.version, a.created_at \
             FROM account a JOIN robot r ON r.account_id = a.id ",
            $rest
        )
    };
}

impl Database {
    pub(crate) async fn robot(&self, name: &RobotName) -> Result<Option<RobotRow>, Error> {
        let find = || async {
            let row: Option<Row> = sqlx::query_as(select_robot!("WHERE a.name = $1"))
                .bind(name.as_str())
                .fetch_optional(&self.read)
                .await?;
            row.map(read).transpose()
        };
        retry(find).await
    }

    /// The first `limit` robots behind `after`: those of a project, or all.
    pub(crate) async fn robots(
        &self,
        project: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<RobotRow>, Error> {
        let list = || async {
            let rows: Vec<Row> = sqlx::query_as(select_robot!(
                "LEFT JOIN project p ON p.id = r.project_id \
                 WHERE a.name > $1 AND ($2 = '' OR p.name = $2) ORDER BY a.name LIMIT $3"
            ))
            .bind(after)
            .bind(project.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
            rows.into_iter().map(read).collect()
        };
        retry(list).await
    }

    pub(crate) async fn create_robot(&self, new: &NewRobot<'_>) -> Result<Changed<()>, Error> {
        retry(|| self.create_robot_once(new)).await
    }

    async fn create_robot_once(&self, new: &NewRobot<'_>) -> Result<Changed<()>, Error> {
        let mut transaction = self.begin().await?;
        let project: Option<i64> = match new.name.project() {
            None => None,
            Some(name) => {
                let found = sqlx::query_scalar("SELECT id FROM project WHERE name = $1")
                    .bind(name.as_str())
                    .fetch_optional(&mut *transaction)
                    .await?;
                match found {
                    None => return Ok(Changed::Refused(Refusal::NoProject)),
                    found => found,
                }
            }
        };
        let Some(id) = accounts::insert_account(&mut transaction, new.name.as_str()).await? else {
            return Ok(Changed::Refused(Refusal::Exists));
        };
        sqlx::query(
            "INSERT INTO robot (account_id, project_id, secret, expires_at, actions, networks) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(project)
        .bind(new.secret.0.clone())
        .bind(new.expires_at.map(Timestamp::millis))
        .bind(accounts::write_actions(new.actions))
        .bind(accounts::write_networks(new.networks))
        .execute(&mut *transaction)
        .await?;
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }

    /// Gives a robot another secret; the one before counts for `overlap` longer. Without an overlap everything is void
    /// at once that was had with it.
    pub(crate) async fn rotate_robot(
        &self,
        name: &RobotName,
        secret: &SecretHash,
        overlap: Duration,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let rotate = || async {
            let mut transaction = self.begin().await?;
            let Some(account) = accounts::lock_account(&mut transaction, name.as_str()).await? else {
                return Ok(Changed::Missing);
            };
            if !expected.is(account.version) {
                return Ok(Changed::Differs);
            }
            let until = Timestamp::now().after(overlap);
            sqlx::query(
                "UPDATE robot SET old_secret = secret, old_until = $1, secret = $2 WHERE account_id = $3",
            )
            .bind(until.millis())
            .bind(secret.0.clone())
            .bind(account.id)
            .execute(&mut *transaction)
            .await?;
            if overlap.is_zero() {
                sqlx::query("UPDATE account SET generation = generation + 1 WHERE id = $1")
                    .bind(account.id)
                    .execute(&mut *transaction)
                    .await?;
            }
            // What clients have kept was had with the old secret.
            sqlx::query("UPDATE refresh_token SET expires_at = $1 WHERE account_id = $2 AND expires_at > $1")
                .bind(until.millis())
                .bind(account.id)
                .execute(&mut *transaction)
                .await?;
            commit(transaction).await?;
            Ok(Changed::Done(()))
        };
        retry(rotate).await
    }
}

fn read(
    (name, actions, networks, expires_at, disabled, version, created_at): Row,
) -> Result<RobotRow, Error> {
    Ok(RobotRow {
        name,
        actions: accounts::read_actions(&actions)?,
        networks: accounts::read_networks(&networks)?,
        expires_at: expires_at.map(Timestamp::at),
        disabled: disabled != 0,
        version,
        created_at: Timestamp::at(created_at),
    })
}
