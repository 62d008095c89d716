//! Uploads: in one request, in a stream, in chunks, or by mounting a blob of another repository.

use std::ops::Range;

use gossip::access::Action;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use oci::{
    digest::{Algorithm, Digest, Hasher},
    error::{ApiError, ErrorCode},
    http::{Body, empty_response},
    name::RepositoryName,
    range::parse_chunk_range,
};

use super::{
    Answer, Call, DOCKER_CONTENT_DIGEST, Registry,
    answer::{located, value},
};
use crate::{
    database::{
        blobs::MountFrom,
        objects::Part,
        uploads::{Change, Completion, Upload},
    },
    intake::{Destination, Received},
};

static DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Registry {
    pub(super) async fn post_upload(&self, repository: &RepositoryName, mut call: Call) -> Answer {
        if let Some(digest) = call.query.get("mount") {
            // Whatever is wrong with a mount, the client gets a session and uploads the blob itself.
            if let Ok(digest) = digest.parse::<Digest>()
                && self.mount(repository, &digest, &call).await?
            {
                return Ok(created(repository, &digest));
            }
        } else if let Some(digest) = call.query.get("digest") {
            let digest: Digest = digest.parse()?;
            // A client that names the digest, and sends no bytes, wants to send them to a session.
            if call.body.length() != Some(0) || digest == Digest::of(digest.algorithm(), b"") {
                return self.receive_blob(repository, &digest, None, &mut call).await;
            }
        }
        let algorithm = match call.query.get("digest-algorithm") {
            Some(name) => name.parse()?,
            None => Algorithm::Sha256,
        };
        let upload = self.database.create_upload(repository, algorithm).await?;
        Ok(accepted(repository, &upload, StatusCode::ACCEPTED))
    }

    /// Mounts a blob of a repository that the caller may pull from; which one has to be said where callers are asked who
    /// they are.
    async fn mount(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        call: &Call,
    ) -> Result<bool, ApiError> {
        let from = match call.query.get("from").map(str::parse::<RepositoryName>) {
            Some(Ok(name)) => Some(name),
            Some(Err(_)) => return Ok(false),
            None => None,
        };
        let from = match &from {
            Some(name) if call.pass.may(name, Action::Pull).await? => MountFrom::Repository(name),
            None if call.pass.is_open() => MountFrom::Any,
            Some(_) | None => return Ok(false),
        };
        Ok(self.database.mount_blob(from, repository, digest).await?)
    }

    pub(super) async fn get_upload(&self, repository: &RepositoryName, id: &str) -> Answer {
        let upload = self.upload(repository, id).await?;
        Ok(accepted(repository, &upload, StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_upload(&self, repository: &RepositoryName, id: &str) -> Answer {
        let upload = self.upload(repository, id).await?;
        match self.database.drop_upload(&upload).await? {
            Change::Done => {
                self.jobs.garbage_is_there();
                Ok(empty_response(StatusCode::NO_CONTENT))
            }
            Change::Lost => Err(self.overtaken(repository, id).await),
        }
    }

    pub(super) async fn patch_upload(&self, repository: &RepositoryName, id: &str, mut call: Call) -> Answer {
        let upload = self.upload(repository, id).await?;
        let range = chunk_range(repository, &upload, &call)?;
        let destination = Destination::Object(Some(&upload));
        let received = self.intake.receive(&mut call.body, upload.hasher.clone(), destination).await?;
        self.check_length(repository, &upload, range, &received).await?;
        let Received { hasher, part: Some(part), .. } = received else {
            return Ok(accepted(repository, &upload, StatusCode::ACCEPTED));
        };
        match self.database.append(&upload, &part, &hasher).await {
            Ok(Some(after)) => Ok(accepted(repository, &after, StatusCode::ACCEPTED)),
            Ok(None) => {
                self.intake.discard(&part.object).await;
                Err(self.overtaken(repository, id).await)
            }
            // Where nobody knows whether it was committed the object stays; it expires if it is in no upload.
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn put_upload(&self, repository: &RepositoryName, id: &str, mut call: Call) -> Answer {
        let digest = call.query.get("digest").ok_or_else(|| {
            ErrorCode::DigestInvalid.error("an upload is completed by PUT with ?digest= of the whole blob")
        })?;
        let digest: Digest = digest.parse()?;
        let upload = self.upload(repository, id).await?;
        self.receive_blob(repository, &digest, Some(&upload), &mut call).await
    }

    async fn upload(&self, repository: &RepositoryName, id: &str) -> Result<Upload, ApiError> {
        let upload = self.database.find_upload(repository, id).await?;
        upload.ok_or_else(|| ErrorCode::BlobUploadUnknown.error("there is no such upload in this repository"))
    }

    /// Receives the last bytes, or all of them, and makes a blob if they have this digest.
    async fn receive_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        upload: Option<&Upload>,
        call: &mut Call,
    ) -> Answer {
        let range = match upload {
            Some(upload) => chunk_range(repository, upload, call)?,
            None => None,
        };
        let begun = upload.filter(|upload| upload.size > 0);
        let hasher = begun.map_or_else(|| Hasher::new(digest.algorithm()), |upload| upload.hasher.clone());
        let known = begun.is_none() && self.database.blob_exists(digest).await?;
        let destination = if known { Destination::Nowhere } else { Destination::Object(upload) };
        let received = self.intake.receive(&mut call.body, hasher, destination).await?;
        if let Some(upload) = upload {
            self.check_length(repository, upload, range, &received).await?;
        }
        let size = begun.map_or(0, |upload| upload.size) + received.size;
        let part = received.part;
        let found = self.digest_of(received.hasher, begun, part.as_ref(), digest.algorithm()).await?;
        if found != *digest {
            return Err(self.mismatch(upload, part.as_ref(), digest, &found).await);
        }
        if known {
            return match self.database.link_blob(repository, digest, upload).await? {
                true => Ok(created(repository, digest)),
                // Collected while its bytes were received for nowhere.
                false => Err(ErrorCode::Unavailable
                    .error("the blob was just removed; push it again")
                    .retry_after(1)),
            };
        }
        let completion = Completion { repository, upload, last: part.as_ref(), digest, size };
        match self.database.complete(&completion).await? {
            Change::Done => {
                self.jobs.garbage_is_there();
                Ok(created(repository, digest))
            }
            Change::Lost => {
                if let Some(part) = &part {
                    self.intake.discard(&part.object).await;
                }
                Err(self.overtaken(repository, upload.map_or("", |upload| &upload.id)).await)
            }
        }
    }

    /// The digest of all bytes, by `algorithm`; from the stored bytes where another one ran.
    async fn digest_of(
        &self,
        hasher: Hasher,
        begun: Option<&Upload>,
        last: Option<&Part>,
        algorithm: Algorithm,
    ) -> Result<Digest, ApiError> {
        if hasher.algorithm() == algorithm {
            return Ok(hasher.finish());
        }
        let mut parts = match begun {
            Some(upload) => self.database.upload_parts(upload).await?,
            None => Vec::new(),
        };
        parts.extend(last.cloned());
        Ok(self.intake.hash_again(parts, algorithm).await?)
    }

    /// The upload and its bytes are dropped: a client begins again after a wrong digest.
    async fn mismatch(
        &self,
        upload: Option<&Upload>,
        last: Option<&Part>,
        named: &Digest,
        found: &Digest,
    ) -> ApiError {
        if let Some(part) = last {
            self.intake.discard(&part.object).await;
        }
        if let Some(upload) = upload
            && let Err(error) = self.database.drop_upload(upload).await
        {
            tracing::warn!(error = %error, upload = upload.id, "an upload with a wrong digest stays until it expires");
        }
        self.jobs.garbage_is_there();
        ErrorCode::DigestInvalid
            .error("the bytes do not have the digest that was named")
            .detail(serde_json::json!({"named": named, "found": found}))
    }

    /// A chunk whose length was not known before has to be as long as its `Content-Range` said.
    async fn check_length(
        &self,
        repository: &RepositoryName,
        upload: &Upload,
        range: Option<Range<u64>>,
        received: &Received,
    ) -> Result<(), ApiError> {
        if range.is_none_or(|range| range.end - range.start == received.size) {
            return Ok(());
        }
        if let Some(part) = &received.part {
            self.intake.discard(&part.object).await;
        }
        Err(out_of_order(repository, upload, "the chunk is not as long as its Content-Range says"))
    }

    /// Another request changed the upload while this one ran.
    async fn overtaken(&self, repository: &RepositoryName, id: &str) -> ApiError {
        match self.upload(repository, id).await {
            Ok(now) => {
                out_of_order(repository, &now, "another request went on with this upload at the same time")
            }
            Err(error) => error,
        }
    }
}

/// The part of the blob that a chunk says to be, checked against where the upload is.
fn chunk_range(
    repository: &RepositoryName,
    upload: &Upload,
    call: &Call,
) -> Result<Option<Range<u64>>, ApiError> {
    let Some(header) = call.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let refuse = |message: &'static str| Err(out_of_order(repository, upload, message));
    let Some(range) = header.to_str().ok().and_then(parse_chunk_range) else {
        return refuse("Content-Range of a chunk is <first>-<last>");
    };
    if range.start != upload.size {
        return refuse("the chunk does not begin where the upload ends");
    }
    if call.body.length().is_some_and(|length| length != range.end - range.start) {
        return refuse("Content-Length is not that of Content-Range");
    }
    Ok(Some(range))
}

/// `416`, with where the upload stands; it can go on from there.
fn out_of_order(repository: &RepositoryName, upload: &Upload, message: &'static str) -> ApiError {
    ErrorCode::BlobUploadInvalid
        .error(message)
        .status(StatusCode::RANGE_NOT_SATISFIABLE)
        .header(header::RANGE, received_range(upload))
        .header(header::LOCATION, value(&location(repository, upload)))
}

fn location(repository: &RepositoryName, upload: &Upload) -> String {
    format!("/v2/{repository}/blobs/uploads/{}", upload.id)
}

/// `0-<last byte>`; `0-0` is also said of an empty upload, since there is no other way to say it.
fn received_range(upload: &Upload) -> HeaderValue {
    value(&format!("0-{}", upload.size.saturating_sub(1)))
}

fn accepted(repository: &RepositoryName, upload: &Upload, status: StatusCode) -> Response<Body> {
    let mut response = located(status, &location(repository, upload));
    let headers = response.headers_mut();
    headers.insert(header::RANGE, received_range(upload));
    headers.insert(&DOCKER_UPLOAD_UUID, value(&upload.id));
    response
}

fn created(repository: &RepositoryName, digest: &Digest) -> Response<Body> {
    let mut response = located(StatusCode::CREATED, &format!("/v2/{repository}/blobs/{digest}"));
    response.headers_mut().insert(&DOCKER_CONTENT_DIGEST, value(digest.as_str()));
    response
}
