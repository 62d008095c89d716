//! Hashes chunks and writes them, one behind the other, while the caller collects the next one.

use std::io;

use bytes::Bytes;
use oci::digest::Hasher;
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use super::IntakeError;
use crate::{
    database::{Database, objects::ObjectName},
    storage::{LocalWriter, RemoteWriter, StorageError, Writer},
};

/// Bytes that are hashed and written at once, where the storage has no wish of its own: large enough that the change of
/// threads does not count, small enough to stay in the processor's cache between the two.
const CHUNK_BYTES: usize = 1 << 20;

/// Received bytes, and the memory that they were granted.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pieces: Vec<Bytes>,
    len: usize,
    memory: Option<OwnedSemaphorePermit>,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, piece: Bytes, memory: OwnedSemaphorePermit) {
        self.len += piece.len();
        self.pieces.push(piece);
        match &mut self.memory {
            Some(held) => held.merge(memory),
            None => self.memory = Some(memory),
        }
    }
}

/// What goes to the blocking pool with each chunk and comes back.
struct Worker {
    hasher: Hasher,
    file: Option<LocalWriter>,
}

impl Worker {
    fn take(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.hasher.update(piece);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write(pieces))
    }
}

enum Lane {
    Idle(Box<Worker>),
    Busy(JoinHandle<io::Result<Box<Worker>>>),
}

/// A bucket and the row of the object in it.
struct Remote {
    writer: RemoteWriter,
    database: Database,
    object: ObjectName,
}

/// See the module.
pub(super) struct Sink {
    lane: Option<Lane>,
    remote: Option<Remote>,
}

/// Why the lane is always there: each method that takes it puts it back, or fails and is not called again.
const LANE: &str = "a sink is not used after it failed";

impl Sink {
    /// Hashes only.
    pub(super) fn nowhere(hasher: Hasher) -> Self {
        Self { lane: Some(Lane::Idle(Box::new(Worker { hasher, file: None }))), remote: None }
    }

    /// Hashes, and writes to `writer`.
    pub(super) fn object(hasher: Hasher, writer: Writer, database: Database, object: ObjectName) -> Self {
        match writer {
            Writer::Local(file) => {
                Self { lane: Some(Lane::Idle(Box::new(Worker { hasher, file: Some(file) }))), remote: None }
            }
            Writer::Remote(writer) => Self {
                lane: Some(Lane::Idle(Box::new(Worker { hasher, file: None }))),
                remote: Some(Remote { writer, database, object }),
            },
        }
    }

    /// How long the next chunk is, unless it is the last.
    pub(super) fn chunk_size(&self) -> usize {
        self.remote.as_ref().map_or(CHUNK_BYTES, |remote| remote.writer.next_part_size())
    }

    /// Whether a chunk may be shorter than that.
    pub(super) fn takes_any_size(&self) -> bool {
        self.remote.is_none()
    }

    /// Takes a chunk that is not the last; waits for the one before it.
    pub(super) async fn put(&mut self, chunk: Chunk) -> Result<(), IntakeError> {
        if let Some(remote) = &mut self.remote
            && remote.writer.is_single()
        {
            let id = remote.writer.begin_multipart().await?;
            remote.database.note_multipart(&remote.object, &id).await?;
        }
        self.put_any(chunk).await
    }

    async fn put_any(&mut self, chunk: Chunk) -> Result<(), IntakeError> {
        let mut worker = self.idle().await?;
        let Chunk { pieces, memory, .. } = chunk;
        // Whoever is slower gives the memory back: the bucket, where there is one.
        let (for_bucket, memory) = match &self.remote {
            Some(_) => (Some((pieces.clone(), memory)), None),
            None => (None, memory),
        };
        self.lane = Some(Lane::Busy(tokio::task::spawn_blocking(move || {
            worker.take(&pieces)?;
            drop(memory);
            Ok(worker)
        })));
        if let (Some(remote), Some((pieces, memory))) = (&mut self.remote, for_bucket) {
            remote.writer.put_part(pieces, memory).await?;
        }
        Ok(())
    }

    /// Waits until what was put has been written, where that is done here.
    pub(super) async fn settle(&mut self) -> Result<(), IntakeError> {
        let worker = self.idle().await?;
        self.lane = Some(Lane::Idle(worker));
        Ok(())
    }

    async fn idle(&mut self) -> Result<Box<Worker>, IntakeError> {
        match self.lane.take().expect(LANE) {
            Lane::Idle(worker) => Ok(worker),
            Lane::Busy(job) => Ok(job.await.map_err(StorageError::from)?.map_err(StorageError::from)?),
        }
    }

    /// Takes the last chunk, makes the object durable, and gives the hasher back.
    pub(super) async fn finish(mut self, last: Chunk) -> Result<Hasher, IntakeError> {
        if last.len > 0 {
            self.put_any(last).await?;
        }
        let Worker { hasher, file } = *self.idle().await?;
        if let Some(file) = file {
            tokio::task::spawn_blocking(move || file.finish())
                .await
                .map_err(StorageError::from)?
                .map_err(StorageError::from)?;
        }
        if let Some(remote) = self.remote {
            remote.writer.finish().await?;
        }
        Ok(hasher)
    }
}
