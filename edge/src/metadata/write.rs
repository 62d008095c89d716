//! Everything that is written, each as the statements of one transaction.

use oci::{digest::Digest, name::Tag};
use sqlx::SqliteConnection;

use super::{Child, ChildKind, ImageUse, Link, Place, StoredManifest, TagRecord};
use crate::store::{Changes, Key, Row, now};

/// One write.
pub(super) enum Write<'a> {
    Manifest {
        place: &'a Place,
        manifest: &'a StoredManifest,
        links: &'a [Link],
        children: &'a [Child],
    },
    Link {
        place: &'a Place,
        link: &'a Link,
    },
    Blob {
        place: &'a Place,
        link: &'a Link,
    },
    /// The upstream has sent the whole blob.
    Proof {
        place: &'a Place,
        link: &'a Link,
    },
    Tag {
        place: &'a Place,
        tag: &'a Tag,
        record: &'a TagRecord,
    },
    ForgetTag {
        place: &'a Place,
        tag: &'a Tag,
    },
    Changes(&'a Changes),
    Uses(&'a [ImageUse]),
    Pin {
        place: &'a Place,
        reference: &'a str,
    },
    Unpin {
        place: &'a Place,
        reference: &'a str,
    },
    /// Forgets that `place` has an image; and the manifest, where no other place has it.
    ForgetImage {
        place: &'a Place,
        digest: &'a Digest,
    },
    /// Forgets who links a blob that is not here any more.
    ForgetLinks(&'a Digest),
}

impl Write<'_> {
    pub(super) async fn run(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Manifest { place, manifest, links, children } => {
                write_manifest(connection, place, manifest, links, children).await
            }
            Self::Link { place, link } => insert_link(connection, place, link).await,
            Self::Blob { place, link } => {
                insert_link(connection, place, link).await?;
                prove(connection, place, link).await?;
                let Some(size) = link.size else { return Ok(()) };
                let row =
                    Row { key: Key::of(&link.digest), size, used: now(), frequency: 1, verified: now() };
                upsert_blob(connection, &row).await
            }
            Self::Proof { place, link } => {
                insert_link(connection, place, link).await?;
                prove(connection, place, link).await
            }
            Self::Tag { place, tag, record } => write_tag(connection, place, tag, record).await,
            Self::ForgetTag { place, tag } => {
                let statement = "DELETE FROM tag WHERE upstream = $1 AND repository = $2 AND name = $3";
                at(statement, place).bind(tag.as_str()).execute(connection).await.map(drop)
            }
            Self::Changes(changes) => write_changes(connection, changes).await,
            Self::Uses(uses) => write_uses(connection, uses).await,
            Self::Pin { place, reference } => {
                let statement = "INSERT INTO pin (upstream, repository, reference) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                at(statement, place).bind(*reference).execute(connection).await.map(drop)
            }
            Self::Unpin { place, reference } => {
                let statement = "DELETE FROM pin WHERE upstream = $1 AND repository = $2 AND reference = $3";
                at(statement, place).bind(*reference).execute(connection).await.map(drop)
            }
            Self::ForgetImage { place, digest } => forget_image(connection, place, digest).await,
            Self::ForgetLinks(digest) => {
                let delete = sqlx::query("DELETE FROM link WHERE digest = $1").bind(digest.as_str());
                delete.execute(connection).await.map(drop)
            }
        }
    }
}

type Statement<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// A statement whose first two parameters are a place.
fn at<'q>(statement: &'static str, place: &'q Place) -> Statement<'q> {
    sqlx::query(statement).bind(&*place.upstream).bind(place.repository.as_str())
}

/// A number of bytes as SQLite has it.
fn integer(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn raw(digest: &Digest) -> Vec<u8> {
    Key::of(digest).raw().to_vec()
}

async fn write_manifest(
    connection: &mut SqliteConnection,
    place: &Place,
    manifest: &StoredManifest,
    links: &[Link],
    children: &[Child],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO manifest (digest, media_type, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(manifest.digest.as_str())
    .bind(&*manifest.media_type)
    .bind(&manifest.bytes[..])
    .execute(&mut *connection)
    .await?;
    let own = Link { digest: manifest.digest.clone(), size: Some(manifest.bytes.len() as u64) };
    for link in links.iter().chain([&own]) {
        insert_link(connection, place, link).await?;
    }
    for child in children {
        let statement =
            "INSERT INTO child (manifest, digest, size, kind) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let kind = match child.kind {
            ChildKind::Blob => 0,
            ChildKind::Manifest => 1,
        };
        let insert = sqlx::query(statement).bind(raw(&manifest.digest)).bind(raw(&child.digest));
        insert.bind(integer(child.size)).bind(kind).execute(&mut *connection).await?;
    }
    let statement = "INSERT INTO image (upstream, repository, digest, used, hits) VALUES ($1, $2, $3, $4, 0)
         ON CONFLICT DO UPDATE SET used = excluded.used";
    at(statement, place).bind(raw(&manifest.digest)).bind(now()).execute(connection).await.map(drop)
}

async fn insert_link(
    connection: &mut SqliteConnection,
    place: &Place,
    link: &Link,
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO link (upstream, repository, digest, size) VALUES ($1, $2, $3, $4)
         ON CONFLICT (upstream, repository, digest) DO UPDATE SET size = coalesce(excluded.size, size)";
    let insert = at(statement, place).bind(link.digest.as_str()).bind(link.size.map(integer));
    insert.execute(connection).await.map(drop)
}

async fn prove(connection: &mut SqliteConnection, place: &Place, link: &Link) -> Result<(), sqlx::Error> {
    let statement = "UPDATE link SET proven = 1 WHERE upstream = $1 AND repository = $2 AND digest = $3";
    at(statement, place).bind(link.digest.as_str()).execute(connection).await.map(drop)
}

async fn write_tag(
    connection: &mut SqliteConnection,
    place: &Place,
    tag: &Tag,
    record: &TagRecord,
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO tag (upstream, repository, name, digest, confirmed) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (upstream, repository, name) DO UPDATE SET digest = excluded.digest, confirmed = excluded.confirmed";
    let insert = at(statement, place).bind(tag.as_str()).bind(record.digest.as_str()).bind(record.confirmed);
    insert.execute(connection).await.map(drop)
}

async fn upsert_blob(connection: &mut SqliteConnection, row: &Row) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO blob (digest, size, used, frequency, verified) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (digest) DO UPDATE SET size = excluded.size, used = excluded.used, frequency = excluded.frequency,
         verified = excluded.verified";
    let insert = sqlx::query(statement).bind(row.key.raw().to_vec()).bind(integer(row.size));
    let insert = insert.bind(row.used).bind(row.frequency).bind(row.verified);
    insert.execute(connection).await.map(drop)
}

/// Rows come by the thousand, every few seconds, beside the pulls. Each statement costs two changes of threads, more than its
/// row; so there is one for all rows, which are in one parameter.
async fn write_changes(connection: &mut SqliteConnection, changes: &Changes) -> Result<(), sqlx::Error> {
    let delete = "DELETE FROM blob WHERE digest IN (SELECT unhex(value) FROM json_each($1))";
    let gone: Vec<String> = changes.gone.iter().map(Key::hex).collect();
    sqlx::query(delete).bind(json(&gone)).execute(&mut *connection).await?;
    let rows: Vec<_> = changes
        .rows
        .iter()
        .map(|row| (row.key.hex(), integer(row.size), row.used, row.frequency, row.verified))
        .collect();
    let rows = json(&rows);
    // `WHERE true`: without it SQLite takes ON for a join's.
    let upsert = "INSERT INTO blob (digest, size, used, frequency, verified)
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) WHERE true
         ON CONFLICT (digest) DO UPDATE SET size = excluded.size, used = excluded.used, frequency = excluded.frequency,
         verified = excluded.verified";
    sqlx::query(upsert).bind(&rows).execute(&mut *connection).await?;
    // A hit on a blob is a use of the images that it belongs to.
    let update = "UPDATE image SET used = max(image.used, hit.used) FROM (
             SELECT child.manifest AS manifest, max(value ->> 2) AS used
             FROM json_each($1) JOIN child ON child.digest = unhex(value ->> 0) GROUP BY child.manifest
         ) AS hit WHERE image.digest = hit.manifest";
    sqlx::query(update).bind(&rows).execute(&mut *connection).await.map(drop)
}

fn json(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).expect("text and numbers are JSON")
}

async fn write_uses(connection: &mut SqliteConnection, uses: &[ImageUse]) -> Result<(), sqlx::Error> {
    for one in uses {
        let statement =
            "INSERT INTO image (upstream, repository, digest, used, hits) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO UPDATE SET used = max(used, excluded.used), hits = hits + excluded.hits";
        let upsert = at(statement, &one.place).bind(raw(&one.digest)).bind(one.used).bind(one.hits);
        upsert.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn forget_image(
    connection: &mut SqliteConnection,
    place: &Place,
    digest: &Digest,
) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM image WHERE upstream = $1 AND repository = $2 AND digest = $3",
        "DELETE FROM link WHERE upstream = $1 AND repository = $2 AND digest = $4",
        "DELETE FROM tag WHERE upstream = $1 AND repository = $2 AND digest = $4",
    ] {
        at(statement, place).bind(raw(digest)).bind(digest.as_str()).execute(&mut *connection).await?;
    }
    for statement in [
        "DELETE FROM child WHERE manifest = $1 AND NOT EXISTS (SELECT 1 FROM image WHERE digest = $1)",
        "DELETE FROM manifest WHERE digest = $2 AND NOT EXISTS (SELECT 1 FROM image WHERE digest = $1)",
    ] {
        sqlx::query(statement).bind(raw(digest)).bind(digest.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}
