//! Listings of tags and repositories, a page at a time, sorted bytewise.

use oci::name::RepositoryName;
use sqlx::AssertSqlSafe;

use super::{Database, Error, retry};
use crate::routes::gate::Visible;

impl Database {
    /// The first `limit` tags of a repository behind `last`; `None` where there is no such repository.
    pub(crate) async fn tags(
        &self,
        repository: &RepositoryName,
        last: &str,
        limit: u32,
    ) -> Result<Option<Vec<String>>, Error> {
        let list = || async {
            let tags: Vec<String> = sqlx::query_scalar(
                "SELECT t.name FROM repository r JOIN tag t ON t.repository_id = r.id \
                 WHERE r.name = $1 AND t.name > $2 ORDER BY t.name LIMIT $3",
            )
            .bind(repository.as_str())
            .bind(last)
            .bind(i64::from(limit))
            .fetch_all(&self.read)
            .await?;
            if !tags.is_empty() {
                return Ok(Some(tags));
            }
            let known: Option<i64> = sqlx::query_scalar("SELECT id FROM repository WHERE name = $1")
                .bind(repository.as_str())
                .fetch_optional(&self.read)
                .await?;
            Ok(known.map(|_| tags))
        };
        retry(list).await
    }

    /// The first `limit` repositories behind `last` that have an image and are in a visible project.
    pub(crate) async fn repositories(
        &self,
        last: &str,
        limit: u32,
        visible: &Visible,
    ) -> Result<Vec<String>, Error> {
        let filter = match visible {
            Visible::All => String::new(),
            Visible::These(ids) if ids.is_empty() => return Ok(Vec::new()),
            // Numbers only; neither database takes a list as one parameter.
            Visible::These(ids) => {
                let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!("AND r.project_id IN ({})", list.join(","))
            }
        };
        let statement = format!(
            "SELECT r.name FROM repository r WHERE r.name > $1 {filter} \
             AND EXISTS (SELECT 1 FROM manifest m WHERE m.repository_id = r.id) ORDER BY r.name LIMIT $2"
        );
        let list = || async {
            Ok(sqlx::query_scalar(AssertSqlSafe(statement.clone()))
                .bind(last)
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await?)
        };
        retry(list).await
    }
}
