//! Manifests and indexes, by tag and by digest, byte for byte.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use oci::{
    digest::Digest,
    error::{ApiError, ErrorCode},
    http::{Body, ReceiveError, empty_response},
    manifest::Manifest,
    name::{Reference, RepositoryName, Tag},
};

use super::{
    Answer, Call, DOCKER_CONTENT_DIGEST, Registry,
    answer::{identify, located, value},
    blobs::not_modified,
};
use crate::database::manifests::{NewManifest, Put};

static OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
static OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Tags that one push may set.
const MAX_TAGS: usize = 100;

impl Registry {
    pub(super) async fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        call: &Call,
    ) -> Answer {
        let found = self.database.manifest(repository, reference).await?.ok_or_else(unknown)?;
        if call.has_already(found.digest.as_str()) {
            return Ok(not_modified(&found.digest));
        }
        let length = found.bytes.len() as u64;
        let mut response = Response::new(Body::full(found.bytes));
        describe(&mut response, &found.digest, &found.media_type, length);
        Ok(response)
    }

    pub(super) async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        call: &Call,
    ) -> Answer {
        let found = self.database.manifest_head(repository, reference).await?.ok_or_else(unknown)?;
        if call.has_already(found.digest.as_str()) {
            return Ok(not_modified(&found.digest));
        }
        let mut response = empty_response(StatusCode::OK);
        describe(&mut response, &found.digest, &found.media_type, found.size);
        Ok(response)
    }

    pub(super) async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        call: Call,
    ) -> Answer {
        let tags = tags_of(reference, &call)?;
        let content_type = call.header(&header::CONTENT_TYPE).map(str::to_owned);
        let bytes = self.receive_manifest(call).await?;
        let digest = match reference {
            Reference::Tag(_) => Digest::sha256(&bytes),
            Reference::Digest(digest) if digest.matches(&bytes) => digest.clone(),
            Reference::Digest(digest) => {
                let found = Digest::of(digest.algorithm(), &bytes);
                return Err(ErrorCode::DigestInvalid
                    .error("the manifest does not have the digest that was named")
                    .detail(serde_json::json!({"named": digest, "found": found})));
            }
        };
        let manifest = read(&bytes, content_type.as_deref())?;
        let new =
            NewManifest { repository, digest: &digest, bytes: &bytes, manifest: &manifest, tags: &tags };
        refusal(self.database.put_manifest(&new).await?)?;
        let mut response = located(StatusCode::CREATED, &format!("/v2/{repository}/manifests/{digest}"));
        let headers = response.headers_mut();
        headers.insert(&DOCKER_CONTENT_DIGEST, value(digest.as_str()));
        if let Some(subject) = &manifest.subject {
            headers.insert(&OCI_SUBJECT, value(subject.digest.as_str()));
        }
        if call_named_tags(reference, &tags) {
            for tag in &tags {
                headers.append(&OCI_TAG, value(tag.as_str()));
            }
        }
        Ok(response)
    }

    async fn receive_manifest(&self, call: Call) -> Result<Bytes, ApiError> {
        let limit = self.settings.manifest_size;
        let size = usize::try_from(limit.0).unwrap_or(usize::MAX);
        call.body.collect(size).await.map_err(|error| match error {
            ReceiveError::TooLong(_) => ErrorCode::TooLarge
                .error(format!("the manifest is larger than {limit}, the limit of this registry")),
            ReceiveError::Stalled(_) => ErrorCode::Timeout.error("the manifest came too slowly"),
            ReceiveError::Broken(_) => ErrorCode::ManifestInvalid.error("the manifest broke off"),
        })
    }

    pub(super) async fn delete_manifest(&self, repository: &RepositoryName, reference: &Reference) -> Answer {
        let deleted = match reference {
            Reference::Tag(tag) => self.database.delete_tag(repository, tag).await?,
            Reference::Digest(digest) => self.database.delete_manifest(repository, digest).await?,
        };
        if deleted { Ok(empty_response(StatusCode::ACCEPTED)) } else { Err(unknown()) }
    }
}

fn unknown() -> ApiError {
    ErrorCode::ManifestUnknown.error("the repository has no such manifest")
}

/// The tags that a push sets: the reference, or those of `?tag=`.
fn tags_of(reference: &Reference, call: &Call) -> Result<Vec<Tag>, ApiError> {
    let mut tags = call.query.all("tag").map(str::parse).collect::<Result<Vec<Tag>, _>>()?;
    if let Reference::Tag(tag) = reference {
        tags.push(tag.clone());
    }
    if tags.len() > MAX_TAGS {
        return Err(ErrorCode::TagInvalid.error(format!("one push sets at most {MAX_TAGS} tags")));
    }
    // In one order for everybody, so that two pushes of the same tags do not wait for one another.
    tags.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    tags.dedup();
    Ok(tags)
}

/// Whether `?tag=` was used: then the answer says which tags were set.
fn call_named_tags(reference: &Reference, tags: &[Tag]) -> bool {
    match reference {
        Reference::Tag(_) => tags.len() > 1,
        Reference::Digest(_) => !tags.is_empty(),
    }
}

fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, ApiError> {
    let manifest = Manifest::parse(bytes, content_type)
        .map_err(|error| ErrorCode::ManifestInvalid.error(error.to_string()))?;
    // It is sent as a header, and both databases have to keep it.
    let presentable = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if !presentable(&manifest.media_type) || !manifest.referrer_type().is_none_or(presentable) {
        return Err(
            ErrorCode::ManifestInvalid.error("a media type in the manifest has characters that none has")
        );
    }
    Ok(manifest)
}

fn refusal(put: Put) -> Result<(), ApiError> {
    match put {
        Put::Stored => Ok(()),
        Put::Missing(digests) => Err(ErrorCode::ManifestBlobUnknown
            .error("the repository does not have blobs that the manifest names")
            .detail(serde_json::json!(
                digests.iter().map(|d| serde_json::json!({"digest": d})).collect::<Vec<_>>()
            ))),
        Put::WrongSize { digest, described, stored } => Err(ErrorCode::ManifestInvalid
            .error(format!("the manifest gives {digest} {described} bytes, and it has {stored}"))),
    }
}

fn describe(response: &mut Response<Body>, digest: &Digest, media_type: &str, length: u64) {
    identify(response, digest);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(media_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}
