//! Who is what in a project.

use gossip::access::{ProjectName, Role};

use super::{
    Database, Error,
    accounts::{self, Changed, Expected, Refusal},
    commit, projects, retry,
};
use crate::time::Timestamp;

/// A member as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
}

type Row = (String, String, i64, i64);

fn read((name, role, version, created_at): Row) -> Result<MemberRow, Error> {
    Ok(MemberRow { name, role: accounts::read_role(&role)?, version, created_at: Timestamp::at(created_at) })
}

macro_rules! select_member {
    ($rest:literal) => {
        concat!(
            "SELECT a.name, m.role, m.version, m.created_at FROM member m JOIN account a ON a.id = m.account_id \
             JOIN project p ON p.id = m.project_id WHERE p.name = $1 AND ",
            $rest
        )
    };
}

impl Database {
    /// The first `limit` members behind `after`.
    pub(crate) async fn members(
        &self,
        project: &ProjectName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<MemberRow>, Error> {
        let list = || async {
            let rows: Vec<Row> = sqlx::query_as(select_member!("a.name > $2 ORDER BY a.name LIMIT $3"))
                .bind(project.as_str())
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await?;
            rows.into_iter().map(read).collect()
        };
        retry(list).await
    }

    pub(crate) async fn member(&self, project: &ProjectName, name: &str) -> Result<Option<MemberRow>, Error> {
        let find = || async {
            let row: Option<Row> = sqlx::query_as(select_member!("a.name = $2"))
                .bind(project.as_str())
                .bind(name)
                .fetch_optional(&self.read)
                .await?;
            row.map(read).transpose()
        };
        retry(find).await
    }

    /// Makes an account a member, or gives a member another role.
    pub(crate) async fn set_member(
        &self,
        project: &ProjectName,
        name: &str,
        role: Role,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        retry(|| self.set_member_once(project, name, role, expected)).await
    }

    async fn set_member_once(
        &self,
        project: &ProjectName,
        name: &str,
        role: Role,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let mut transaction = self.begin().await?;
        // The project's row first: it keeps two owners from giving up at once.
        let Some((id, _)) = projects::find_and_lock(&mut transaction, project).await? else {
            return Ok(Changed::Refused(Refusal::NoProject));
        };
        let account: Option<i64> = sqlx::query_scalar("SELECT id FROM account WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(account) = account else { return Ok(Changed::Refused(Refusal::NoAccount)) };
        let found: Option<(String, i64)> =
            sqlx::query_as("SELECT role, version FROM member WHERE project_id = $1 AND account_id = $2")
                .bind(id)
                .bind(account)
                .fetch_optional(&mut *transaction)
                .await?;
        if let (Some(_), version) = (expected.0, found.as_ref().map(|(_, version)| *version)) {
            match version {
                None => return Ok(Changed::Missing),
                Some(version) if !expected.is(version) => return Ok(Changed::Differs),
                Some(_) => {}
            }
        }
        let was_owner = found.is_some_and(|(role, _)| role == Role::Owner.as_str());
        if was_owner
            && role != Role::Owner
            && accounts::owners_besides(&mut transaction, id, account).await? == 0
        {
            return Ok(Changed::Refused(Refusal::LastOwner { project: project.to_string() }));
        }
        sqlx::query(
            "INSERT INTO member (project_id, account_id, role, version, created_at) VALUES ($1, $2, $3, 1, $4) \
             ON CONFLICT (project_id, account_id) DO UPDATE SET role = excluded.role, version = member.version + 1",
        )
        .bind(id)
        .bind(account)
        .bind(role.as_str())
        .bind(Timestamp::now().millis())
        .execute(&mut *transaction)
        .await?;
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }

    /// Ends a membership.
    pub(crate) async fn remove_member(
        &self,
        project: &ProjectName,
        name: &str,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let remove = || async {
            let mut transaction = self.begin().await?;
            let Some((id, _)) = projects::find_and_lock(&mut transaction, project).await? else {
                return Ok(Changed::Missing);
            };
            let found: Option<(i64, String, i64)> = sqlx::query_as(
                "SELECT m.account_id, m.role, m.version FROM member m JOIN account a ON a.id = m.account_id \
                 WHERE m.project_id = $1 AND a.name = $2",
            )
            .bind(id)
            .bind(name)
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((account, role, version)) = found else { return Ok(Changed::Missing) };
            if !expected.is(version) {
                return Ok(Changed::Differs);
            }
            if role == Role::Owner.as_str()
                && accounts::owners_besides(&mut transaction, id, account).await? == 0
            {
                return Ok(Changed::Refused(Refusal::LastOwner { project: project.to_string() }));
            }
            sqlx::query("DELETE FROM member WHERE project_id = $1 AND account_id = $2")
                .bind(id)
                .bind(account)
                .execute(&mut *transaction)
                .await?;
            commit(transaction).await?;
            Ok(Changed::Done(()))
        };
        retry(remove).await
    }
}
