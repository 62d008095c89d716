//! Objects in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure.
//!
//! Small objects are put in one request. Large ones go up in parts, at most [`IN_FLIGHT`] bytes of them at once; the id
//! of the multipart upload is in the database before its first part is sent, so that a crash leaves nothing behind that
//! cannot be given up later.

use std::{collections::VecDeque, fmt, ops::Range, sync::Arc, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use object_store::{
    ClientOptions, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt as _, PutPayload,
    aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use oci::http::{Body, BodyError};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};
use url::Url;

use super::StorageError;
use crate::{
    database::objects::{Garbage, ObjectName},
    settings::StorageSettings,
};

/// Bytes that are on their way to the bucket at once, for one object; one part at least.
const IN_FLIGHT: u64 = 8 << 20;

/// The size of part `index`. S3 takes 10,000 parts of 5 MiB or more, all but the last of one size on some servers: so
/// it is one size up to 39 GiB, and 195 GiB fit in all.
pub(crate) fn part_size(index: usize) -> usize {
    if index < 5_000 { 8 << 20 } else { 32 << 20 }
}

/// The bucket; a clone is the same one.
#[derive(Clone)]
pub(crate) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    prefix: Path,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}, {})", self.objects, self.prefix)
    }
}

impl Bucket {
    pub(super) fn open(url: &Url, settings: &StorageSettings) -> Result<Self, StorageError> {
        let prefix = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        let bucket = url.host_str().unwrap_or_default();
        Ok(match url.scheme() {
            "s3" => Self::of(s3(bucket, settings)?, prefix),
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                Self::of(builder.with_client_options(client(settings)).build()?, prefix)
            }
            "az" => Self::of(azure(bucket, settings)?, prefix),
            scheme => {
                let reason = format!("{scheme}:// is none of file://, s3://, gs://, az://");
                return Err(StorageError::Url { url: url.to_string(), reason });
            }
        })
    }

    fn of<S: ObjectStore + MultipartStore>(store: S, prefix: Path) -> Self {
        let store = Arc::new(store);
        Self { objects: store.clone(), multipart: store, prefix }
    }

    fn path(&self, object: &ObjectName) -> Path {
        self.prefix.clone().join("objects").join(object.shard()).join(object.as_str())
    }

    pub(super) fn create(&self, object: &ObjectName) -> RemoteWriter {
        RemoteWriter {
            bucket: self.clone(),
            path: self.path(object),
            multipart: None,
            begun: 0,
            running: VecDeque::new(),
            done: Vec::new(),
        }
    }

    pub(super) async fn body(&self, object: &ObjectName, range: Range<u64>) -> Result<Body, StorageError> {
        let left = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let stream = self.objects.get_opts(&self.path(object), options).await?.into_stream();
        Ok(Body::stream(StreamBody { stream: Mutex::new(stream.map_err(source).boxed()), left }))
    }

    pub(super) async fn delete(&self, garbage: &Garbage) -> Result<(), StorageError> {
        let path = self.path(&garbage.object);
        if let Some(multipart) = &garbage.multipart {
            gone(self.multipart.abort_multipart(&path, multipart).await)?;
        }
        gone(self.objects.delete(&path).await)
    }

    pub(super) async fn check(&self) -> Result<(), StorageError> {
        // Lists nothing: only a bucket that is not there is "not found" to that.
        let nothing = self.prefix.clone().join("check");
        self.objects.list(Some(&nothing)).next().await.transpose()?;
        Ok(())
    }
}

/// What is not there need not be deleted.
fn gone(result: object_store::Result<()>) -> Result<(), StorageError> {
    match result {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        result => Ok(result?),
    }
}

/// How long a connection to the bucket may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the bucket may pause within an answer.
const READ: Duration = Duration::from_secs(30);

/// No limit on how long an object may take, only on how long it may make no progress: the library's own limit counts the
/// whole body, and a client that takes a large layer slowly would lose it.
fn client(settings: &StorageSettings) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(READ)
}

fn s3(
    bucket: &str,
    settings: &StorageSettings,
) -> object_store::Result<impl ObjectStore + MultipartStore + use<>> {
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(client(settings));
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
    }
    builder.build()
}

fn azure(
    container: &str,
    settings: &StorageSettings,
) -> object_store::Result<impl ObjectStore + MultipartStore + use<>> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client(settings));
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let (Some(account), Some(key)) = (&settings.access_key_id, &settings.secret_access_key) {
        builder = builder.with_account(account).with_access_key(key.expose());
    }
    builder.build()
}

type Upload = JoinHandle<object_store::Result<PartId>>;

/// Writes one object. Dropped or failed before [`RemoteWriter::finish`], it leaves at most a multipart upload that
/// [`Bucket::delete`] gives up.
pub(crate) struct RemoteWriter {
    bucket: Bucket,
    path: Path,
    multipart: Option<MultipartId>,
    begun: usize,
    running: VecDeque<(u64, Upload)>,
    done: Vec<PartId>,
}

impl fmt::Debug for RemoteWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteWriter({}, {} parts)", self.path, self.begun)
    }
}

impl RemoteWriter {
    /// How many bytes the next part has, unless it is the last.
    pub(crate) fn next_part_size(&self) -> usize {
        part_size(self.begun)
    }

    /// Whether [`RemoteWriter::begin_multipart`] must come before the next part.
    pub(crate) fn is_single(&self) -> bool {
        self.multipart.is_none()
    }

    /// Announces that the object has several parts; the id must be noted before anything else is done.
    pub(crate) async fn begin_multipart(&mut self) -> Result<MultipartId, StorageError> {
        let id = self.bucket.multipart.create_multipart(&self.path).await?;
        self.multipart = Some(id.clone());
        Ok(id)
    }

    /// Sends a part on its way, when there is room for it. `memory` is given back when it has arrived.
    pub(crate) async fn put_part(
        &mut self,
        pieces: Vec<Bytes>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<(), StorageError> {
        let Some(id) = self.multipart.clone() else {
            return self.put_whole(pieces).await;
        };
        let size = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        while !self.running.is_empty()
            && self.running.iter().map(|(size, _)| size).sum::<u64>() + size > IN_FLIGHT
        {
            self.wait_for_one().await?;
        }
        let (store, path, index) = (self.bucket.multipart.clone(), self.path.clone(), self.begun);
        self.begun += 1;
        let upload = async move {
            let part = store.put_part(&path, &id, index, pieces.into_iter().collect()).await;
            drop(memory);
            part
        };
        self.running.push_back((size, tokio::spawn(upload)));
        Ok(())
    }

    async fn put_whole(&mut self, pieces: Vec<Bytes>) -> Result<(), StorageError> {
        let payload: PutPayload = pieces.into_iter().collect();
        self.bucket.objects.put(&self.path, payload).await?;
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), StorageError> {
        if let Some((_, upload)) = self.running.front_mut() {
            let part = upload.await??;
            self.running.pop_front();
            self.done.push(part);
        }
        Ok(())
    }

    /// Makes the object visible.
    pub(crate) async fn finish(mut self) -> Result<(), StorageError> {
        while !self.running.is_empty() {
            self.wait_for_one().await?;
        }
        if let Some(id) = self.multipart.take() {
            let parts = std::mem::take(&mut self.done);
            self.bucket.multipart.complete_multipart(&self.path, &id, parts).await?;
        }
        Ok(())
    }
}

impl Drop for RemoteWriter {
    fn drop(&mut self) {
        for (_, upload) in &self.running {
            upload.abort();
        }
    }
}

/// A stream of the store as a body. The lock is never waited for; it makes the body `Sync`.
struct StreamBody {
    stream: Mutex<BoxStream<'static, Result<Bytes, BodyError>>>,
    left: u64,
}

fn source(error: object_store::Error) -> BodyError {
    BodyError::Source(error.into())
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let stream = this.stream.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = std::task::ready!(stream.poll_next_unpin(cx));
        std::task::Poll::Ready(match next {
            Some(Ok(bytes)) => {
                this.left = this.left.saturating_sub(bytes.len() as u64);
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => Some(Err(error)),
            None if this.left > 0 => Some(Err(BodyError::Short)),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
