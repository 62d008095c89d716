//! Blobs: whole, in part, or only whether they are there.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use oci::{
    digest::Digest,
    error::{ApiError, ErrorCode},
    http::{Body, BodyError, empty_response},
    name::RepositoryName,
    range::{ByteRange, content_range, unsatisfied_content_range},
};
use prometheus_client::metrics::counter::Counter;

use super::{
    Answer, Call, Registry,
    answer::{identify, value},
};
use crate::database::blobs::Unlinked;

impl Registry {
    pub(super) async fn get_blob(&self, repository: &RepositoryName, digest: &Digest, call: &Call) -> Answer {
        let content = self.database.blob_content(repository, digest).await?.ok_or_else(unknown)?;
        if call.has_already(digest.as_str()) {
            return Ok(not_modified(digest));
        }
        let wanted = wanted_range(call, digest, content.size)?;
        let range = wanted.clone().unwrap_or(0..content.size);
        let body = self.storage.body(content.parts, range.clone()).await?;
        let mut response =
            Response::new(Body::stream(Counted { body, served: self.metrics.blob_bytes_served.clone() }));
        describe(&mut response, digest, range.end - range.start);
        if wanted.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(header::CONTENT_RANGE, value(&content_range(&range, content.size)));
        }
        Ok(response)
    }

    pub(super) async fn head_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        call: &Call,
    ) -> Answer {
        let size = self.database.blob_size(repository, digest).await?.ok_or_else(unknown)?;
        if call.has_already(digest.as_str()) {
            return Ok(not_modified(digest));
        }
        let mut response = empty_response(StatusCode::OK);
        describe(&mut response, digest, size);
        Ok(response)
    }

    /// Removes a blob from the repository. One that a manifest there needs is refused: the image would be broken for
    /// everybody who pulls it, so the manifest has to go first.
    pub(super) async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Answer {
        match self.database.unlink_blob(repository, digest).await? {
            Unlinked::Done => Ok(empty_response(StatusCode::ACCEPTED)),
            Unlinked::Unknown => Err(unknown()),
            Unlinked::InUse => Err(ErrorCode::Unsupported
                .error("a manifest of this repository needs the blob; delete the manifest first")),
        }
    }
}

fn unknown() -> ApiError {
    ErrorCode::BlobUnknown.error("the repository has no such blob")
}

/// The part that is asked for; `None` for the whole.
fn wanted_range(call: &Call, digest: &Digest, size: u64) -> Result<Option<Range<u64>>, ApiError> {
    let Some(range) = call.header(&header::RANGE).and_then(ByteRange::parse) else { return Ok(None) };
    // RFC 9110, section 13.1.5: the range counts only for the content that the client has a part of.
    if let Some(condition) = call.header(&header::IF_RANGE)
        && condition.trim_matches('"') != digest.as_str()
    {
        return Ok(None);
    }
    match range.resolve(size) {
        Ok(range) => Ok(Some(range)),
        Err(outside) => Err(ErrorCode::RangeInvalid
            .error(outside.to_string())
            .header(header::CONTENT_RANGE, value(&unsatisfied_content_range(size)))),
    }
}

fn describe(response: &mut Response<Body>, digest: &Digest, length: u64) {
    identify(response, digest);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
}

pub(super) fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = empty_response(StatusCode::NOT_MODIFIED);
    identify(&mut response, digest);
    response
}

/// Counts the bytes that leave.
#[derive(Debug)]
struct Counted {
    body: Body,
    served: Counter,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.served.inc_by(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
