//! Projects, and what somebody is in them.

use gossip::access::{Project, ProjectName, Role, Visibility};
use ipnet::IpNet;
use sqlx::{Any, Transaction};

use super::{
    Database, Error,
    accounts::{self, Changed, Expected, Refusal},
    commit,
    error::stored,
    retry,
};
use crate::time::Timestamp;

/// Who makes projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projects {
    /// A push to one that does not exist (`--no-auth`).
    MadeByPush,
    /// An admin.
    MadeByAdmin,
}

/// A project, and what an account is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) project: Project,
    pub(crate) role: Option<Role>,
}

/// A project as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectRow {
    pub(crate) name: String,
    pub(crate) visibility: Visibility,
    pub(crate) anonymous_networks: Vec<IpNet>,
    /// Those with an image.
    pub(crate) repositories: u64,
    /// Of its blobs, each counted once.
    pub(crate) bytes: u64,
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
}

/// What is to be changed of a project; the rest stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectChange {
    pub(crate) visibility: Option<Visibility>,
    pub(crate) anonymous_networks: Option<Vec<IpNet>>,
}

/// What becomes of images in a project that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// They keep it from being removed.
    Keep,
    /// They go with it.
    Remove,
}

type Row = (String, String, String, i64, i64, i64, i64);

macro_rules! select_project {
    ($rest:literal) => {
        concat!(
            "SELECT p.name, p.visibility, p.anonymous_networks, \
             (SELECT COUNT(*) FROM repository r WHERE r.project_id = p.id \
              AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository_id = r.id)), \
             (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blob b WHERE b.id IN \
              (SELECT l.blob_id FROM blob_link l JOIN repository r ON r.id = l.repository_id \
               WHERE r.project_id = p.id AND l.quarantined_at IS NULL)), \
             p.version, p.created_at FROM project p ",
            $rest
        )
    };
}

impl Database {
    /// A project by name, and what `account` is in it.
    pub(crate) async fn standing(
        &self,
        project: &ProjectName,
        account: Option<i64>,
    ) -> Result<Option<Standing>, Error> {
        let find = || async {
            let row: Option<(String, String, String, Option<String>)> = sqlx::query_as(
                "SELECT p.name, p.visibility, p.anonymous_networks, m.role FROM project p \
                 LEFT JOIN member m ON m.project_id = p.id AND m.account_id = $2 WHERE p.name = $1",
            )
            .bind(project.as_str())
            .bind(account.unwrap_or(NOBODY))
            .fetch_optional(&self.read)
            .await?;
            row.map(|(name, visibility, networks, role)| standing(&name, &visibility, &networks, role))
                .transpose()
        };
        retry(find).await
    }

    /// Every project behind `after`, and what `account` is in it.
    pub(crate) async fn standings(
        &self,
        account: Option<i64>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(i64, Standing)>, Error> {
        let list = || async {
            let rows: Vec<(i64, String, String, String, Option<String>)> = sqlx::query_as(
                "SELECT p.id, p.name, p.visibility, p.anonymous_networks, m.role FROM project p \
                 LEFT JOIN member m ON m.project_id = p.id AND m.account_id = $1 \
                 WHERE p.name > $2 ORDER BY p.name LIMIT $3",
            )
            .bind(account.unwrap_or(NOBODY))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
            rows.into_iter()
                .map(|(id, name, visibility, networks, role)| {
                    Ok((id, standing(&name, &visibility, &networks, role)?))
                })
                .collect()
        };
        retry(list).await
    }

    pub(crate) async fn project(&self, name: &ProjectName) -> Result<Option<ProjectRow>, Error> {
        let find = || async {
            let row: Option<Row> = sqlx::query_as(select_project!("WHERE p.name = $1"))
                .bind(name.as_str())
                .fetch_optional(&self.read)
                .await?;
            row.map(read).transpose()
        };
        retry(find).await
    }

    /// The first `limit` projects behind `after`.
    pub(crate) async fn projects(&self, after: &str, limit: u32) -> Result<Vec<ProjectRow>, Error> {
        let list = || async {
            let rows: Vec<Row> =
                sqlx::query_as(select_project!("WHERE p.name > $1 ORDER BY p.name LIMIT $2"))
                    .bind(after)
                    .bind(i64::from(limit))
                    .fetch_all(&self.read)
                    .await?;
            rows.into_iter().map(read).collect()
        };
        retry(list).await
    }

    /// Makes a project; `Refused(Exists)` where there is one.
    pub(crate) async fn create_project(
        &self,
        name: &ProjectName,
        visibility: Visibility,
        anonymous_networks: &[IpNet],
    ) -> Result<Changed<()>, Error> {
        let create = || async {
            let made: Option<i64> = sqlx::query_scalar(
                "INSERT INTO project (name, visibility, anonymous_networks, version, created_at) \
                 VALUES ($1, $2, $3, 1, $4) ON CONFLICT (name) DO NOTHING RETURNING id",
            )
            .bind(name.as_str())
            .bind(visibility_text(visibility))
            .bind(accounts::write_networks(anonymous_networks))
            .bind(Timestamp::now().millis())
            .fetch_optional(&self.write)
            .await?;
            Ok(made.map_or(Changed::Refused(Refusal::Exists), |_id| Changed::Done(())))
        };
        retry(create).await
    }

    pub(crate) async fn change_project(
        &self,
        name: &ProjectName,
        change: &ProjectChange,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let update = || async {
            let mut transaction = self.begin().await?;
            let Some((id, version)) = find_and_lock(&mut transaction, name).await? else {
                return Ok(Changed::Missing);
            };
            if !expected.is(version) {
                return Ok(Changed::Differs);
            }
            sqlx::query(
                "UPDATE project SET visibility = COALESCE($1, visibility), \
                 anonymous_networks = COALESCE($2, anonymous_networks) WHERE id = $3",
            )
            .bind(change.visibility.map(visibility_text))
            .bind(change.anonymous_networks.as_deref().map(accounts::write_networks))
            .bind(id)
            .execute(&mut *transaction)
            .await?;
            commit(transaction).await?;
            Ok(Changed::Done(()))
        };
        retry(update).await
    }

    /// Removes a project with its robots and members, and what is in it. Bytes go with garbage collection.
    pub(crate) async fn remove_project(
        &self,
        name: &ProjectName,
        images: Images,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let remove = || async {
            match self.remove_project_once(name, images, expected).await {
                // A push linked something meanwhile: look again.
                Err(error) if error.is_foreign_key_violation() => Err(Error::Overtaken),
                result => result,
            }
        };
        retry(remove).await
    }

    async fn remove_project_once(
        &self,
        name: &ProjectName,
        images: Images,
        expected: Expected,
    ) -> Result<Changed<()>, Error> {
        let mut transaction = self.begin().await?;
        let Some((id, version)) = find_and_lock(&mut transaction, name).await? else {
            return Ok(Changed::Missing);
        };
        if !expected.is(version) {
            return Ok(Changed::Differs);
        }
        let repositories: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM repository r WHERE r.project_id = $1 \
             AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository_id = r.id)",
        )
        .bind(id)
        .fetch_one(&mut *transaction)
        .await?;
        if repositories > 0 && images == Images::Keep {
            return Ok(Changed::Refused(Refusal::Images { repositories: repositories.unsigned_abs() }));
        }
        empty(&mut transaction, id).await?;
        sqlx::query("DELETE FROM account WHERE id IN (SELECT account_id FROM robot WHERE project_id = $1)")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM project WHERE id = $1").bind(id).execute(&mut *transaction).await?;
        commit(transaction).await?;
        Ok(Changed::Done(()))
    }

    /// The id of a project, which is made where that is how projects are made.
    pub(super) async fn project_id(
        &self,
        transaction: &mut Transaction<'static, Any>,
        name: &str,
    ) -> Result<i64, Error> {
        if self.projects == Projects::MadeByPush {
            sqlx::query(
                "INSERT INTO project (name, visibility, anonymous_networks, version, created_at) \
                 VALUES ($1, 'private', '[]', 1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name)
            .bind(Timestamp::now().millis())
            .execute(&mut **transaction)
            .await?;
        }
        let found: Option<i64> = sqlx::query_scalar("SELECT id FROM project WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut **transaction)
            .await?;
        found.ok_or_else(|| Error::NoProject(name.to_owned()))
    }
}

/// No account has this id.
const NOBODY: i64 = -1;

fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Private => "private",
        Visibility::Public => "public",
    }
}

fn read_visibility(text: &str) -> Result<Visibility, Error> {
    match text {
        "private" => Ok(Visibility::Private),
        "public" => Ok(Visibility::Public),
        other => Err(Error::Damaged { what: "visibility", value: other.to_owned() }),
    }
}

fn standing(name: &str, visibility: &str, networks: &str, role: Option<String>) -> Result<Standing, Error> {
    let project = Project {
        name: stored("project", name)?,
        visibility: read_visibility(visibility)?,
        anonymous_networks: accounts::read_networks(networks)?,
    };
    Ok(Standing { project, role: role.as_deref().map(accounts::read_role).transpose()? })
}

fn read(
    (name, visibility, networks, repositories, bytes, version, created_at): Row,
) -> Result<ProjectRow, Error> {
    Ok(ProjectRow {
        name,
        visibility: read_visibility(&visibility)?,
        anonymous_networks: accounts::read_networks(&networks)?,
        repositories: repositories.unsigned_abs(),
        bytes: bytes.unsigned_abs(),
        version,
        created_at: Timestamp::at(created_at),
    })
}

/// Finds a project and counts up its version, which locks it; its version before.
pub(super) async fn find_and_lock(
    transaction: &mut Transaction<'static, Any>,
    name: &ProjectName,
) -> Result<Option<(i64, i64)>, Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as("UPDATE project SET version = version + 1 WHERE name = $1 RETURNING id, version")
            .bind(name.as_str())
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(row.map(|(id, version)| (id, version - 1)))
}

/// Takes everything out of a project. Blobs are touched, so that they stay for the grace period.
async fn empty(transaction: &mut Transaction<'static, Any>, project: i64) -> Result<(), Error> {
    let touched = "UPDATE blob SET touched_at = $2 WHERE id IN (SELECT l.blob_id FROM blob_link l \
                   JOIN repository r ON r.id = l.repository_id WHERE r.project_id = $1)";
    sqlx::query(touched).bind(project).bind(Timestamp::now().millis()).execute(&mut **transaction).await?;
    for statement in [
        "DELETE FROM manifest WHERE repository_id IN (SELECT id FROM repository WHERE project_id = $1)",
        "DELETE FROM blob_link WHERE repository_id IN (SELECT id FROM repository WHERE project_id = $1)",
        "UPDATE object SET state = 'garbage' WHERE name IN (SELECT p.object FROM upload_part p \
         JOIN upload u ON u.id = p.upload_id JOIN repository r ON r.id = u.repository_id WHERE r.project_id = $1)",
        "DELETE FROM upload WHERE repository_id IN (SELECT id FROM repository WHERE project_id = $1)",
        "DELETE FROM repository WHERE project_id = $1",
    ] {
        sqlx::query(statement).bind(project).execute(&mut **transaction).await?;
    }
    Ok(())
}
