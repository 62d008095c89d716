//! The bytes of blobs: objects in a local directory or in a bucket.
//!
//! An object is written once, under a name that was never used before, and is not looked at before the database names
//! it. What was acknowledged is on stable storage.

mod local;
mod parts;
mod remote;
#[cfg(test)]
mod tests;

use std::{io, ops::Range, path::Path};

use bytes::Bytes;
use oci::http::{Body, BodyError};
use url::Url;

use crate::{
    database::objects::{Garbage, ObjectName, Part},
    settings::StorageSettings,
};
pub(crate) use local::LocalWriter;
pub(crate) use remote::RemoteWriter;

/// Where objects are; a clone is the same place.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Local(local::Directory),
    Remote(remote::Bucket),
}

/// What can go wrong with the storage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// The file system failed.
    #[error("the storage failed: {0}")]
    Io(#[from] io::Error),
    /// The bucket failed.
    #[error("the storage failed: {0}")]
    Store(#[from] object_store::Error),
    /// `storage.url` cannot be used.
    #[error("storage.url {url}: {reason}")]
    Url { url: String, reason: String },
    /// The work was ended with the process.
    #[error("the node is shutting down")]
    Stopped,
}

impl From<tokio::task::JoinError> for StorageError {
    fn from(error: tokio::task::JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Self::Stopped,
        }
    }
}

/// Takes the bytes of one new object.
#[derive(Debug)]
pub(crate) enum Writer {
    Local(LocalWriter),
    Remote(RemoteWriter),
}

impl Storage {
    /// Opens the storage; without a URL, the directory `objects` in the data directory.
    ///
    /// # Errors
    /// The directory cannot be made, or the settings make no sense. A bucket is not asked here.
    pub(crate) fn open(settings: &StorageSettings, data_dir: &Path) -> Result<Self, StorageError> {
        let Some(text) = &settings.url else {
            return Ok(Self::Local(local::Directory::open(&data_dir.join("objects"))?));
        };
        let invalid = |reason: String| StorageError::Url { url: text.clone(), reason };
        let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| invalid("is no path".to_owned()))?;
            return Ok(Self::Local(local::Directory::open(&path)?));
        }
        Ok(Self::Remote(remote::Bucket::open(&url, settings)?))
    }

    /// Begins an object, which the database must know of already.
    pub(crate) fn create(&self, object: &ObjectName) -> Writer {
        match self {
            Self::Local(directory) => Writer::Local(directory.create(object)),
            Self::Remote(bucket) => Writer::Remote(bucket.create(object)),
        }
    }

    /// The bytes of `range` of a blob with these parts, as the body of an answer.
    ///
    /// # Errors
    /// The first object cannot be read. Later failures break the body off.
    pub(crate) async fn body(&self, parts: Vec<Part>, range: Range<u64>) -> Result<Body, StorageError> {
        parts::body(self.clone(), parts, range).await
    }

    /// The bytes of `range` of one object.
    async fn object_body(&self, object: ObjectName, range: Range<u64>) -> Result<Body, StorageError> {
        match self {
            Self::Local(directory) => directory.body(object, range).await,
            Self::Remote(bucket) => bucket.body(&object, range).await,
        }
    }

    /// Deletes an object and what an unfinished attempt left of it; one that is not there counts as deleted.
    pub(crate) async fn delete(&self, garbage: &Garbage) -> Result<(), StorageError> {
        match self {
            Self::Local(directory) => directory.delete(&garbage.object).await,
            Self::Remote(bucket) => bucket.delete(garbage).await,
        }
    }

    /// Whether the storage answers.
    pub(crate) async fn check(&self) -> Result<(), StorageError> {
        match self {
            Self::Local(directory) => directory.check().await,
            Self::Remote(bucket) => bucket.check().await,
        }
    }
}

/// Reads a whole blob in pieces.
pub(crate) async fn next_piece(body: &mut Body) -> Option<Result<Bytes, BodyError>> {
    use std::{future::poll_fn, pin::Pin};

    use hyper::body::Body as _;
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => return Some(Ok(data)),
            // Trailers, which no storage makes.
            Ok(Err(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}
