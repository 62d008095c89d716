//! Accounts: what a login is compared with, and what is common to users and robots.

use std::{collections::BTreeSet, fmt};

use gossip::access::{ContentAction, Home, Principal, Robot, RobotName, SystemRoles, User};
use ipnet::IpNet;
use sqlx::{Any, Transaction};

use super::{Database, Error, commit, error::stored, retry};
use crate::time::Timestamp;

/// What became of a change to something that is shown outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed<T> {
    Done(T),
    /// There is no such thing.
    Missing,
    /// It is not, or no longer, at the version that the change was based on.
    Differs,
    /// The change would leave something that must not be.
    Refused(Refusal),
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name is taken.
    Exists,
    /// A project would be without an owner.
    LastOwner { project: String },
    /// The system would be without an admin who can log in.
    LastAdmin,
    /// There are images in the project.
    Images { repositories: u64 },
    /// What it belongs to does not exist.
    NoProject,
    /// There is no such account.
    NoAccount,
}

/// The version that a change is based on; none where any will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected(pub(crate) Option<i64>);

impl Expected {
    pub(super) fn is(self, found: i64) -> bool {
        self.0.is_none_or(|expected| expected == found)
    }
}

/// Whether an account may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    In,
    Out,
}

/// SHA-256 of a secret of 256 random bits: nobody finds such a secret by trying, so nothing slower is needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretHash(pub(crate) Vec<u8>);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// An argon2id hash as a PHC string.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash(pub(crate) String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// What proves that somebody is the owner of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Password(PasswordHash),
    Secrets { current: SecretHash, old: Option<(SecretHash, Timestamp)>, expires_at: Option<Timestamp> },
}

/// An account as a login and a token's check need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) generation: i64,
    pub(crate) disabled: bool,
    pub(crate) principal: Principal,
    pub(crate) proof: Proof,
}

impl Account {
    /// Whether it may be used now.
    pub(crate) fn is_active(&self, now: Timestamp) -> bool {
        let over = match &self.proof {
            Proof::Password(_) => false,
            Proof::Secrets { expires_at, .. } => expires_at.is_some_and(|end| end <= now),
        };
        !self.disabled && !over
    }
}

#[derive(sqlx::FromRow)]
struct AccountRow {
    id: i64,
    name: String,
    disabled: i64,
    generation: i64,
    password: Option<String>,
    admin: Option<i64>,
    auditor: Option<i64>,
    secret: Option<Vec<u8>>,
    old_secret: Option<Vec<u8>>,
    old_until: Option<i64>,
    expires_at: Option<i64>,
    actions: Option<String>,
    networks: Option<String>,
}

macro_rules! select_account {
    ($where:literal) => {
        concat!(
            "SELECT a.id, a.name, a.disabled, a.generation, l.password, l.admin, l.auditor, r.secret, r.old_secret, \
             r.old_until, r.expires_at, r.actions, r.networks FROM account a \
             LEFT JOIN login l ON l.account_id = a.id LEFT JOIN robot r ON r.account_id = a.id WHERE ",
            $where
        )
    };
}

impl Database {
    /// The account that logs in with this name.
    pub(crate) async fn account(&self, name: &str) -> Result<Option<Account>, Error> {
        let find = || async {
            let row: Option<AccountRow> =
                sqlx::query_as(select_account!("a.name = $1")).bind(name).fetch_optional(&self.read).await?;
            row.map(AccountRow::read).transpose()
        };
        retry(find).await
    }

    /// The account that a token was made for.
    pub(crate) async fn account_by_id(&self, id: i64) -> Result<Option<Account>, Error> {
        let find = || async {
            let row: Option<AccountRow> =
                sqlx::query_as(select_account!("a.id = $1")).bind(id).fetch_optional(&self.read).await?;
            row.map(AccountRow::read).transpose()
        };
        retry(find).await
    }

    /// Shuts an account out, or lets it in again. What it was given before is void either way.
    pub(crate) async fn admit(
        &self,
        name: &str,
        admission: Admission,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        retry(|| self.admit_once(name, admission, expected)).await
    }

    async fn admit_once(
        &self,
        name: &str,
        admission: Admission,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let out = admission == Admission::Out;
        let mut transaction = self.begin().await?;
        let Some(account) = lock_account(&mut transaction, name).await? else { return Ok(Changed::Missing) };
        if !expected.is(account.version) {
            return Ok(Changed::Differs);
        }
        sqlx::query("UPDATE account SET disabled = $1, generation = generation + 1 WHERE id = $2")
            .bind(i64::from(out))
            .bind(account.id)
            .execute(&mut *transaction)
            .await?;
        if out && account.is_admin && lacks_admin(&mut transaction).await? {
            return Ok(Changed::Refused(Refusal::LastAdmin));
        }
        forget_refresh_tokens(&mut transaction, account.id).await?;
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }

    /// Removes an account, its memberships and what it was given.
    pub(crate) async fn remove_account(&self, name: &str, expected: Expected) -> Result<Changed<()>, Error> {
        retry(|| self.remove_account_once(name, expected)).await
    }

    async fn remove_account_once(&self, name: &str, expected: Expected) -> Result<Changed<()>, Error> {
        let mut transaction = self.begin().await?;
        let Some(account) = lock_account(&mut transaction, name).await? else { return Ok(Changed::Missing) };
        if !expected.is(account.version) {
            return Ok(Changed::Differs);
        }
        // The projects first, in one order for everybody: their rows are what keeps two last owners from leaving at once.
        let owned: Vec<(i64, String)> = sqlx::query_as(
            "SELECT p.id, p.name FROM member m JOIN project p ON p.id = m.project_id \
             WHERE m.account_id = $1 AND m.role = 'owner' ORDER BY p.id",
        )
        .bind(account.id)
        .fetch_all(&mut *transaction)
        .await?;
        for (project, name) in owned {
            lock_project(&mut transaction, project).await?;
            if owners_besides(&mut transaction, project, account.id).await? == 0 {
                return Ok(Changed::Refused(Refusal::LastOwner { project: name }));
            }
        }
        sqlx::query("DELETE FROM account WHERE id = $1").bind(account.id).execute(&mut *transaction).await?;
        if account.is_admin && lacks_admin(&mut transaction).await? {
            return Ok(Changed::Refused(Refusal::LastAdmin));
        }
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }
}

impl AccountRow {
    fn read(self) -> Result<Account, Error> {
        let damaged = |what| Error::Damaged { what, value: self.name.clone() };
        let (principal, proof) = match (&self.password, &self.secret) {
            (Some(password), _) => {
                let name = self.name.parse().map_err(|_unreadable| damaged("user"))?;
                let roles = SystemRoles { admin: self.admin == Some(1), auditor: self.auditor == Some(1) };
                (Principal::User(User { name, roles }), Proof::Password(PasswordHash(password.clone())))
            }
            (None, Some(secret)) => {
                let name: RobotName = self.name.parse().map_err(|_unreadable| damaged("robot"))?;
                let robot = Robot {
                    home: name.project().map_or(Home::System, Home::Project),
                    name,
                    actions: read_actions(self.actions.as_deref().unwrap_or_default())?,
                    networks: read_networks(self.networks.as_deref().unwrap_or_default())?,
                };
                let old = self.old_secret.clone().zip(self.old_until);
                let proof = Proof::Secrets {
                    current: SecretHash(secret.clone()),
                    old: old.map(|(hash, until)| (SecretHash(hash), Timestamp::at(until))),
                    expires_at: self.expires_at.map(Timestamp::at),
                };
                (Principal::Robot(robot), proof)
            }
            (None, None) => return Err(damaged("account")),
        };
        Ok(Account {
            id: self.id,
            generation: self.generation,
            disabled: self.disabled != 0,
            principal,
            proof,
        })
    }
}

/// An account that this transaction has for itself until it ends.
pub(super) struct Locked {
    pub(super) id: i64,
    /// As it was before.
    pub(super) version: i64,
    pub(super) is_admin: bool,
}

/// Finds an account and counts up its version, which locks it.
pub(super) async fn lock_account(
    transaction: &mut Transaction<'static, Any>,
    name: &str,
) -> Result<Option<Locked>, Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("UPDATE account SET version = version + 1 WHERE name = $1 RETURNING id, version")
            .bind(name)
            .fetch_optional(&mut **transaction)
            .await?;
    let Some((id, version)) = row else { return Ok(None) };
    let admin: Option<i64> = sqlx::query_scalar("SELECT admin FROM login WHERE account_id = $1")
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(Some(Locked { id, version: version - 1, is_admin: admin == Some(1) }))
}

/// Makes an account; `None` where the name is taken.
pub(super) async fn insert_account(
    transaction: &mut Transaction<'static, Any>,
    name: &str,
) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar(
        "INSERT INTO account (name, disabled, generation, version, created_at) VALUES ($1, 0, 1, 1, $2) \
         ON CONFLICT (name) DO NOTHING RETURNING id",
    )
    .bind(name)
    .bind(Timestamp::now().millis())
    .fetch_optional(&mut **transaction)
    .await?)
}

/// Counts up a project's version, which locks it.
pub(super) async fn lock_project(transaction: &mut Transaction<'static, Any>, id: i64) -> Result<(), Error> {
    sqlx::query("UPDATE project SET version = version + 1 WHERE id = $1")
        .bind(id)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// How many owners a project has without this account.
pub(super) async fn owners_besides(
    transaction: &mut Transaction<'static, Any>,
    project: i64,
    account: i64,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar(
        "SELECT COUNT(*) FROM member WHERE project_id = $1 AND role = 'owner' AND account_id <> $2",
    )
    .bind(project)
    .bind(account)
    .fetch_one(&mut **transaction)
    .await?)
}

/// Whether nobody is left who administers the system. Admins are locked first, so that two do not leave at once.
pub(super) async fn lacks_admin(transaction: &mut Transaction<'static, Any>) -> Result<bool, Error> {
    sqlx::query("UPDATE login SET admin = admin WHERE admin = 1").execute(&mut **transaction).await?;
    let admins: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM login l JOIN account a ON a.id = l.account_id WHERE l.admin = 1 AND a.disabled = 0",
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(admins == 0)
}

pub(super) async fn forget_refresh_tokens(
    transaction: &mut Transaction<'static, Any>,
    account: i64,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM refresh_token WHERE account_id = $1")
        .bind(account)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) fn write_actions(actions: &BTreeSet<ContentAction>) -> String {
    serde_json::to_string(actions).expect("names serialize")
}

pub(super) fn read_actions(json: &str) -> Result<BTreeSet<ContentAction>, Error> {
    serde_json::from_str(json)
        .map_err(|_unreadable| Error::Damaged { what: "actions", value: json.to_owned() })
}

pub(super) fn write_networks(networks: &[IpNet]) -> String {
    serde_json::to_string(networks).expect("networks serialize")
}

pub(super) fn read_networks(json: &str) -> Result<Vec<IpNet>, Error> {
    serde_json::from_str(json)
        .map_err(|_unreadable| Error::Damaged { what: "networks", value: json.to_owned() })
}

/// Reads one of the texts that stand for an enum.
pub(super) fn read_role(text: &str) -> Result<gossip::access::Role, Error> {
    stored("role", text)
}
