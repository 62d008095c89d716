//! What an edge knows beside the bytes of blobs, durable in SQLite: manifests by their exact bytes, which repository links
//! what, which manifest a tag was last confirmed to be, when blobs and images were used, and what is pinned.
//!
//! A manifest and its links are written in one transaction. Reads and the one writer use connections of their own, so a
//! pull never waits for a write of another. A full disk is met with space held in reserve, and at the worst with a write
//! that is not made: no pull fails for it.

mod blobs;
mod images;
mod proofs;
mod reserve;
mod write;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use oci::{
    digest::Digest,
    name::{RepositoryName, Tag},
};
use prometheus_client::metrics::counter::Counter;
use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub(crate) use images::{ImageRow, ImageUse};
use reserve::Reserve;
use write::Write;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    read: SqlitePool,
    write: SqlitePool,
    /// Links lately written or read: those of the manifest that a client was given are asked for next.
    links: moka::sync::Cache<(Place, Digest), Link>,
    /// See [`proofs`].
    proofs: moka::sync::Cache<(Arc<str>, Digest), ()>,
    reserve: Arc<Reserve>,
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
    pub media_type: Arc<str>,
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

/// What belongs to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is.
    pub kind: ChildKind,
}

/// See [`Child`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildKind {
    /// A configuration or a layer of an image.
    Blob,
    /// A manifest of an index.
    Manifest,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS manifest (
    digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, bytes BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER,
    proven INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (upstream, repository, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tag (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
    confirmed INTEGER NOT NULL, PRIMARY KEY (upstream, repository, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, frequency INTEGER NOT NULL,
    verified INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS child (
    manifest BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, kind INTEGER NOT NULL,
    PRIMARY KEY (manifest, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS child_digest ON child (digest);
CREATE TABLE IF NOT EXISTS image (
    digest BLOB NOT NULL, upstream TEXT NOT NULL, repository TEXT NOT NULL, used INTEGER NOT NULL,
    hits INTEGER NOT NULL, PRIMARY KEY (digest, upstream, repository)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS image_used ON image (used);
CREATE TABLE IF NOT EXISTS pin (
    upstream TEXT NOT NULL, repository TEXT NOT NULL, reference TEXT NOT NULL,
    PRIMARY KEY (upstream, repository, reference)
) WITHOUT ROWID;
";

/// Connections that read. They are few because what is hot is in memory.
const READERS: u32 = 4;

impl Metadata {
    /// Opens `<data>/metadata.db`, or makes it. A database that SQLite finds damaged is set aside and begun anew: all in
    /// it can be fetched again.
    ///
    /// `reserve` bytes are held for it; `reserve_used` counts how often they were needed.
    ///
    /// # Errors
    /// The file can be neither opened nor made.
    pub(crate) async fn open(data: &Path, reserve: u64, reserve_used: Counter) -> Result<Self, sqlx::Error> {
        let path = data.join("metadata.db");
        let reserve = Arc::new(Reserve::new(data, reserve, reserve_used));
        let opened = match Self::open_file(&path, reserve.clone()).await {
            // Opening writes too: the shared memory of the log, at least.
            Err(error) if is_full(&error) && reserve.release() => {
                Self::open_file(&path, reserve.clone()).await
            }
            opened => opened,
        };
        let metadata = match opened {
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
                Self::open_file(&path, reserve).await
            }
            Err(error) => Err(error),
        }?;
        metadata.renew_reserve();
        Ok(metadata)
    }

    /// Takes the reserve from the file system again, where it was given up and there is room.
    pub(crate) fn renew_reserve(&self) {
        self.reserve.renew();
    }

    async fn open_file(path: &Path, reserve: Arc<Reserve>) -> Result<Self, sqlx::Error> {
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
        proofs::prepare(&write).await?;
        let read = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
        Ok(Self {
            read,
            write,
            links: moka::sync::Cache::new(MEMORY_LINKS),
            proofs: moka::sync::Cache::new(MEMORY_LINKS),
            reserve,
        })
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
            let media_type: String = row.try_get(0)?;
            Ok(StoredManifest { digest: digest.clone(), media_type: media_type.into(), bytes: bytes.into() })
        })
        .transpose()
    }

    /// Keeps a manifest that came from `place`, with what it links and what belongs to it. Where it cannot be written, for
    /// want of room for example, it is served all the same, and what it links is in memory.
    pub(crate) async fn keep_manifest(
        &self,
        place: &Place,
        manifest: &StoredManifest,
        links: &[Link],
        children: &[Child],
    ) {
        for link in links {
            self.remember(place, link);
        }
        told("manifest", self.write(&Write::Manifest { place, manifest, links, children }).await);
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
        told("link", self.write(&Write::Link { place, link }).await);
    }

    /// Keeps that `place` links a blob that is about to be in the store: its row comes before its file, so that a kill in
    /// between leaves nothing that has to be read again.
    pub(crate) async fn keep_blob(&self, place: &Place, link: &Link) {
        self.remember(place, link);
        self.remember_proof(&place.upstream, &link.digest);
        told("blob", self.write(&Write::Blob { place, link }).await);
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
        told("tag", self.write(&Write::Tag { place, tag, record }).await);
    }

    /// Forgets a tag, because the upstream said that there is none.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn forget_tag(&self, place: &Place, tag: &Tag) -> Result<(), sqlx::Error> {
        self.write(&Write::ForgetTag { place, tag }).await
    }

    async fn write(&self, write: &Write<'_>) -> Result<(), sqlx::Error> {
        match self.attempt(write).await {
            Err(error) if is_full(&error) && self.reserve.release() => self.attempt(write).await,
            done => done,
        }
    }

    async fn attempt(&self, write: &Write<'_>) -> Result<(), sqlx::Error> {
        let mut transaction = self.write.begin().await?;
        write.run(&mut transaction).await?;
        transaction.commit().await
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

/// SQLITE_CORRUPT and SQLITE_NOTADB.
fn is_damage(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(11 | 26))
}

/// SQLITE_FULL, and SQLITE_IOERR: what a full disk is called where the log's shared memory, not a file, has to grow.
fn is_full(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(10 | 13))
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

#[cfg(test)]
mod tests;
