//! Manifests that name another as their subject.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use oci::{digest::Digest, name::RepositoryName};

use super::{
    Database, Error,
    error::{stored, stored_size},
    retry,
};

/// A line of the referrers listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Referrer {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferrersQuery<'a> {
    pub(crate) repository: &'a RepositoryName,
    pub(crate) subject: &'a Digest,
    /// Only this type, where given.
    pub(crate) artifact_type: Option<&'a str>,
    /// Behind this digest; empty for the beginning.
    pub(crate) last: &'a str,
    pub(crate) limit: u32,
}

/// Some of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Referrers {
    pub(crate) referrers: Vec<Referrer>,
    /// Whether there are more than was room for.
    pub(crate) cut: bool,
}

type Row = (String, String, i64, Option<String>, Option<String>);

impl Database {
    /// The referrers in the order of their digests; no more are read once their annotations have `room` bytes.
    pub(crate) async fn referrers(&self, query: ReferrersQuery<'_>, room: usize) -> Result<Referrers, Error> {
        let list = || async {
            let mut rows = sqlx::query_as::<_, Row>(
                "SELECT m.digest, m.media_type, m.size, m.artifact_type, m.annotations \
                 FROM repository r JOIN manifest m ON m.repository_id = r.id \
                 WHERE r.name = $1 AND m.subject = $2 AND m.digest > $3 AND ($4 = '' OR m.artifact_type = $4) \
                 ORDER BY m.digest LIMIT $5",
            )
            .bind(query.repository.as_str())
            .bind(query.subject.as_str())
            .bind(query.last)
            .bind(query.artifact_type.unwrap_or(""))
            .bind(i64::from(query.limit))
            .fetch(&self.read);
            let (mut referrers, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.try_next().await? {
                if bytes > room {
                    return Ok(Referrers { referrers, cut: true });
                }
                bytes += row.4.as_ref().map_or(0, String::len);
                referrers.push(referrer(row)?);
            }
            Ok(Referrers { referrers, cut: false })
        };
        retry(list).await
    }
}

fn referrer((digest, media_type, size, artifact_type, annotations): Row) -> Result<Referrer, Error> {
    let annotations = match annotations {
        Some(json) => serde_json::from_str(&json)
            .map_err(|error| Error::Damaged { what: "annotations", value: error.to_string() })?,
        None => BTreeMap::new(),
    };
    Ok(Referrer {
        digest: stored("digest", &digest)?,
        media_type,
        size: stored_size(size)?,
        artifact_type,
        annotations,
    })
}
