//! What an edge knows beside blobs, durable in SQLite: manifests by their exact bytes, which repository links what, and
//! which manifest a tag was last confirmed to be.
//!
//! A manifest and its links are written in one transaction. Reads and the one writer use connections of their own, so a
//! pull never waits for a write of another.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use oci::{
    digest::Digest,
    name::{RepositoryName, Tag},
};
use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    read: SqlitePool,
    write: SqlitePool,
    /// Links lately written or read: those of the manifest that a client was given are asked for next.
    links: moka::sync::Cache<(Place, Digest), Link>,
}

/// How many links are held in memory.
const MEMORY_LINKS: u64 = 100_000;

/// A repository at an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The upstream's name.
    pub upstream: std::sync::Arc<str>,
    /// The repository there.
    pub repository: RepositoryName,
}

/// A manifest as it is kept and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is served as.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Which manifest a tag was, when it was last confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// Milliseconds since the epoch.
    pub confirmed: i64,
}

/// A blob or a manifest that a repository links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS manifest (
    digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, bytes BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER,
    PRIMARY KEY (upstream, repository, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tag (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    confirmed INTEGER NOT NULL, PRIMARY KEY (upstream, repository, name)
) WITHOUT ROWID;
";

/// Connections that read. They are few because what is hot is in memory.
const READERS: u32 = 4;

impl Metadata {
    /// Opens `<data>/metadata.db`, or makes it. A database that SQLite finds damaged is set aside and begun anew: all in
    /// it can be fetched again.
    ///
    /// # Errors
    /// The file can be neither opened nor made.
    pub(crate) async fn open(data: &Path) -> Result<Self, sqlx::Error> {
        let path = data.join("metadata.db");
        match Self::open_file(&path).await {
            Ok(metadata) => Ok(metadata),
            Err(error) if is_damage(&error) => {
                let aside = data.join("metadata.damaged");
                tracing::error!(%error, aside = %aside.display(), "the metadata is damaged; it is set aside and begun anew");
                std::fs::rename(&path, &aside)?;
                for suffix in ["-wal", "-shm"] {
                    let leftover = data.join(format!("metadata.db{suffix}"));
                    if leftover.exists() {
                        std::fs::remove_file(leftover)?;
                    }
                }
                Self::open_file(&path).await
            }
            Err(error) => Err(error),
        }
    }

    async fn open_file(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Survives a kill at any moment; a power cut may take back the newest entries, which are fetched again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::raw_sql(SCHEMA).execute(&write).await?;
        let read = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
        Ok(Self { read, write, links: moka::sync::Cache::new(MEMORY_LINKS) })
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// The manifest, if `place` links it.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn manifest(
        &self,
        place: &Place,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT m.media_type, m.bytes FROM link l JOIN manifest m ON m.digest = l.digest
             WHERE l.upstream = $1 AND l.repository = $2 AND l.digest = $3",
        )
        .bind(&*place.upstream)
        .bind(place.repository.as_str())
        .bind(digest.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.map(|row| {
            let bytes: Vec<u8> = row.try_get(1)?;
            Ok(StoredManifest { digest: digest.clone(), media_type: row.try_get(0)?, bytes: bytes.into() })
        })
        .transpose()
    }

    /// Keeps a manifest that came from `place`, with what it links. Where it cannot be written, for want of room for
    /// example, it is served all the same, and what it links is in memory.
    pub(crate) async fn keep_manifest(&self, place: &Place, manifest: &StoredManifest, links: &[Link]) {
        for link in links {
            self.remember(place, link);
        }
        told("manifest", self.write_manifest(place, manifest, links).await);
    }

    async fn write_manifest(
        &self,
        place: &Place,
        manifest: &StoredManifest,
        links: &[Link],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.write.begin().await?;
        sqlx::query(
            "INSERT INTO manifest (digest, media_type, bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(manifest.digest.as_str())
        .bind(&manifest.media_type)
        .bind(&manifest.bytes[..])
        .execute(&mut *transaction)
        .await?;
        let own = Link { digest: manifest.digest.clone(), size: Some(manifest.bytes.len() as u64) };
        for link in links.iter().chain([&own]) {
            insert_link(place, link).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Whether `place` links `digest`, and how long that is said to be.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn link(&self, place: &Place, digest: &Digest) -> Result<Option<Link>, sqlx::Error> {
        if let Some(link) = self.remembered_link(place, digest) {
            return Ok(Some(link));
        }
        let row =
            sqlx::query("SELECT size FROM link WHERE upstream = $1 AND repository = $2 AND digest = $3")
                .bind(&*place.upstream)
                .bind(place.repository.as_str())
                .bind(digest.as_str())
                .fetch_optional(&self.read)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let size: Option<i64> = row.try_get(0)?;
        let link = Link { digest: digest.clone(), size: size.and_then(|size| size.try_into().ok()) };
        self.remember(place, &link);
        Ok(Some(link))
    }

    /// The same, as far as it is in memory.
    pub(crate) fn remembered_link(&self, place: &Place, digest: &Digest) -> Option<Link> {
        self.links.get(&(place.clone(), digest.clone()))
    }

    fn remember(&self, place: &Place, link: &Link) {
        self.links.insert((place.clone(), link.digest.clone()), link.clone());
    }

    /// Keeps that `place` links a blob; only in memory where it cannot be written.
    pub(crate) async fn keep_link(&self, place: &Place, link: &Link) {
        self.remember(place, link);
        told("link", insert_link(place, link).execute(&self.write).await.map(drop));
    }

    /// What the tag was last confirmed to be.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn tag(&self, place: &Place, tag: &Tag) -> Result<Option<TagRecord>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT digest, confirmed FROM tag WHERE upstream = $1 AND repository = $2 AND name = $3",
        )
        .bind(&*place.upstream)
        .bind(place.repository.as_str())
        .bind(tag.as_str())
        .fetch_optional(&self.read)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let digest: String = row.try_get(0)?;
        let digest = digest.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Some(TagRecord { digest, confirmed: row.try_get(1)? }))
    }

    /// Keeps what the tag was confirmed to be, if it can be written.
    pub(crate) async fn keep_tag(&self, place: &Place, tag: &Tag, record: &TagRecord) {
        let written = sqlx::query(
            "INSERT INTO tag (upstream, repository, name, digest, confirmed) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (upstream, repository, name) DO UPDATE SET digest = excluded.digest, confirmed = excluded.confirmed",
        )
        .bind(&*place.upstream)
        .bind(place.repository.as_str())
        .bind(tag.as_str())
        .bind(record.digest.as_str())
        .bind(record.confirmed)
        .execute(&self.write)
        .await;
        told("tag", written.map(drop));
    }

    /// Forgets a tag, because the upstream said that there is none.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn forget_tag(&self, place: &Place, tag: &Tag) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM tag WHERE upstream = $1 AND repository = $2 AND name = $3")
            .bind(&*place.upstream)
            .bind(place.repository.as_str())
            .bind(tag.as_str())
            .execute(&self.write)
            .await
            .map(drop)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn check(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1").execute(&self.read).await.map(drop)
    }
}

/// A pull does not fail because something could not be written down.
fn told(what: &'static str, written: Result<(), sqlx::Error>) {
    if let Err(error) = written {
        tracing::error!(what, %error, "the metadata could not be written; what came is served without being kept");
    }
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn insert_link<'q>(place: &'q Place, link: &'q Link) -> Insert<'q> {
    sqlx::query(
        "INSERT INTO link (upstream, repository, digest, size) VALUES ($1, $2, $3, $4)
         ON CONFLICT (upstream, repository, digest) DO UPDATE SET size = coalesce(excluded.size, size)",
    )
    .bind(&*place.upstream)
    .bind(place.repository.as_str())
    .bind(link.digest.as_str())
    .bind(link.size.and_then(|size| i64::try_from(size).ok()))
}

/// SQLITE_CORRUPT and SQLITE_NOTADB.
fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}
