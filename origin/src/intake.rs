//! Receives the body of an upload: hashes it, and writes it to a new object, while the next bytes come in.
//!
//! Hashing and writing happen a chunk at a time on the blocking pool, so that a slow client holds no thread. What one
//! upload holds in memory is bounded by its chunks, and what all hold together by `registry.upload_memory`: a client
//! that is ahead of the storage waits. Nothing of a body that broke off is kept.

mod sink;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use oci::{
    digest::{Algorithm, Digest, Hasher},
    error::{ApiError, ErrorCode},
    http::{BodyError, ReceiveError, RequestBody},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::{
    database::{
        self, Database,
        objects::{ObjectName, Part},
        uploads::Upload,
    },
    metrics::Metrics,
    settings::{RegistrySettings, UploadSettings},
    storage::{self, Storage, StorageError},
};
use sink::{Chunk, Sink};

/// How long an upload waits for memory that others hold before it is turned away.
const MEMORY_PATIENCE: Duration = Duration::from_secs(30);
/// Seconds after which a client that was turned away may come again.
const RETRY_AFTER: u32 = 5;

/// Where received bytes go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination<'a> {
    /// To a new object, which becomes a part of this upload, or a blob by itself.
    Object(Option<&'a Upload>),
    /// Nowhere: the blob is there, the client only proves that it has the bytes.
    Nowhere,
}

/// A body that was received whole, and is durable.
#[derive(Debug)]
pub(crate) struct Received {
    /// Has taken in the body.
    pub(crate) hasher: Hasher,
    /// Bytes of the body.
    pub(crate) size: u64,
    /// The object that holds them, where they were not empty and not for nowhere.
    pub(crate) part: Option<Part>,
}

/// Why a body was not received; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error(transparent)]
    Client(#[from] ReceiveError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("reading what was stored failed: {0}")]
    Stored(#[from] BodyError),
    /// `registry.uploads` bodies are being received.
    #[error("this node receives as many uploads as it may")]
    Uploads,
    /// `registry.upload_memory` is in use, and did not become free.
    #[error("this node's memory for uploads is in use")]
    Memory,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Intake {
    database: Database,
    storage: Storage,
    metrics: Metrics,
    bodies: Semaphore,
    memory: Arc<Semaphore>,
    /// A writer gives a sign of life this often.
    heartbeat: Duration,
    /// Told when something became garbage.
    garbage: Arc<Notify>,
}

impl Intake {
    pub(crate) fn new(
        database: Database,
        storage: Storage,
        metrics: Metrics,
        settings: &RegistrySettings,
        upload: &UploadSettings,
        garbage: Arc<Notify>,
    ) -> Self {
        let memory =
            usize::try_from(settings.upload_memory.0).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            database,
            storage,
            metrics,
            bodies: Semaphore::new(settings.uploads as usize),
            memory: Arc::new(Semaphore::new(memory)),
            heartbeat: upload.expire.0 / 4,
            garbage,
        }
    }

    /// Receives `body`, going on with `hasher`.
    ///
    /// # Errors
    /// Nothing of the body is kept.
    ///
    /// # Cancel safety
    /// Not cancel safe: an object that was begun is given up only when it expires. Run it in a task of its own.
    pub(crate) async fn receive(
        &self,
        body: &mut RequestBody,
        hasher: Hasher,
        destination: Destination<'_>,
    ) -> Result<Received, IntakeError> {
        let _slot = self.bodies.try_acquire().map_err(|_full| IntakeError::Uploads)?;
        let _running = self.metrics.upload_begins();
        let Some(first) = body.next().await? else { return Ok(Received { hasher, size: 0, part: None }) };
        let Destination::Object(upload) = destination else {
            let sink = Sink::nowhere(hasher);
            let (hasher, size) = self.fill(body, first, sink, None).await?;
            return Ok(Received { hasher, size, part: None });
        };
        let object = ObjectName::new();
        self.database.begin_object(&object).await?;
        let sink = Sink::object(hasher, self.storage.create(&object), self.database.clone(), object.clone());
        match self.fill(body, first, sink, Some((&object, upload))).await {
            Ok((hasher, size)) => Ok(Received { hasher, size, part: Some(Part { object, size }) }),
            Err(error) => {
                self.discard(&object).await;
                Err(error)
            }
        }
    }

    /// Gives up an object that was received and is not used.
    pub(crate) async fn discard(&self, object: &ObjectName) {
        if let Err(error) = self.database.discard_object(object).await {
            tracing::warn!(error = %error, object = %object, "an unused object stays until it expires");
        }
        self.garbage.notify_one();
    }

    async fn fill(
        &self,
        body: &mut RequestBody,
        first: Bytes,
        mut sink: Sink,
        writing: Option<(&ObjectName, Option<&Upload>)>,
    ) -> Result<(Hasher, u64), IntakeError> {
        let mut chunk = Chunk::default();
        let mut size = 0;
        let mut alive = Instant::now();
        let mut next = Some(first);
        while let Some(mut piece) = next {
            size += piece.len() as u64;
            self.metrics.upload_bytes_received.inc_by(piece.len() as u64);
            while !piece.is_empty() {
                let room = sink.chunk_size() - chunk.len();
                let taken = piece.split_to(room.min(piece.len()));
                let memory = self.memory_for(taken.len(), &mut chunk, &mut sink).await?;
                chunk.push(taken, memory);
                if chunk.len() == sink.chunk_size() {
                    sink.put(std::mem::take(&mut chunk)).await?;
                }
            }
            if let Some((object, upload)) = writing
                && alive.elapsed() > self.heartbeat
            {
                self.database.touch_object(object).await?;
                if let Some(upload) = upload {
                    self.database.touch_upload(upload).await?;
                }
                alive = Instant::now();
            }
            next = body.next().await?;
        }
        Ok((sink.finish(chunk).await?, size))
    }

    /// Memory for `count` more bytes. Where there is none, what is held goes to the storage first, if it can.
    async fn memory_for(
        &self,
        count: usize,
        chunk: &mut Chunk,
        sink: &mut Sink,
    ) -> Result<OwnedSemaphorePermit, IntakeError> {
        let count = u32::try_from(count).expect("a piece is at most a chunk long");
        if let Ok(permit) = self.memory.clone().try_acquire_many_owned(count) {
            return Ok(permit);
        }
        if sink.takes_any_size() && chunk.len() > 0 {
            sink.put(std::mem::take(chunk)).await?;
            sink.settle().await?;
        }
        match tokio::time::timeout(MEMORY_PATIENCE, self.memory.clone().acquire_many_owned(count)).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_elapsed) => Err(IntakeError::Memory),
        }
    }

    /// The digest of stored parts, where another algorithm is asked for than ran while they were received.
    pub(crate) async fn hash_again(
        &self,
        parts: Vec<Part>,
        algorithm: Algorithm,
    ) -> Result<Digest, IntakeError> {
        let size = parts.iter().map(|part| part.size).sum();
        let mut body = self.storage.body(parts, 0..size).await?;
        let mut sink = Sink::nowhere(Hasher::new(algorithm));
        let mut chunk = Chunk::default();
        while let Some(piece) = storage::next_piece(&mut body).await {
            let piece = piece?;
            let memory = self.memory_for(piece.len(), &mut chunk, &mut sink).await?;
            chunk.push(piece, memory);
            if chunk.len() >= sink.chunk_size() {
                sink.put(std::mem::take(&mut chunk)).await?;
            }
        }
        Ok(sink.finish(chunk).await?.finish())
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Client(ReceiveError::Stalled(_)) => {
                ErrorCode::Timeout.error("the body came too slowly")
            }
            IntakeError::Client(ReceiveError::Broken(_)) => {
                ErrorCode::BlobUploadInvalid.error("the body broke off")
            }
            IntakeError::Client(ReceiveError::TooLong(_)) => {
                ErrorCode::TooLarge.error("the body is too long")
            }
            IntakeError::Database(error) => error.into(),
            IntakeError::Storage(error) => error.into(),
            IntakeError::Stored(error) => {
                tracing::error!(error = %error, "stored bytes could not be read");
                ErrorCode::Internal.error("the registry's storage failed; its log says why")
            }
            IntakeError::Uploads | IntakeError::Memory => {
                tracing::warn!(error = %error, "an upload was turned away");
                ErrorCode::Unavailable.error(error.to_string()).retry_after(RETRY_AFTER)
            }
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        tracing::error!(error = %error, "a request failed at the storage");
        match &error {
            StorageError::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                ErrorCode::Unavailable.error("the registry's storage is full").retry_after(RETRY_AFTER)
            }
            StorageError::Io(_) | StorageError::Url { .. } => {
                ErrorCode::Internal.error("the registry's storage failed; its log says why")
            }
            StorageError::Store(_) | StorageError::Stopped => ErrorCode::Unavailable
                .error("the registry's storage does not answer; try again")
                .retry_after(RETRY_AFTER),
        }
    }
}
