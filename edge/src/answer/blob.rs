//! Blobs: out of the store, out of a running download, or of a new one.

use std::ops::Range;

use http::{HeaderValue, Response, StatusCode, header};
use oci::{
    client::Silence,
    digest::Digest,
    error::{ApiError, ErrorCode},
    http::Body,
    range::{self, ByteRange, Unsatisfiable},
};

use super::{Answerer, Asked, content_headers, not_modified};
use crate::{
    cache_status::CacheStatus,
    download::{Download, Joined, Progress, Source, State, TO_THE_END, following},
    metadata::Link,
    store::{self, Key, Presence, Served, StoredBlob},
    unavailable::Unavailable,
};

/// How many downloads that other repositories' requests began, and that failed for those, a request joins before it is
/// told to come again.
const JOINS: u32 = 8;

impl Answerer {
    pub(super) async fn blob(&self, asked: Asked<'_>, digest: Digest) -> Result<Response<Body>, ApiError> {
        let answered = |why: &Unavailable| why.answer(ErrorCode::BlobUnknown);
        store::recall(&self.store, &self.metadata, &digest).await;
        loop {
            if !self.may_give(&asked, &digest).await.map_err(|why| answered(&why))? {
                return match asked.head {
                    true => self.blob_head(&asked, &digest, None).await,
                    false => self.proving(&asked, &digest).await,
                };
            }
            let link = self.link(&asked, &digest).await.map_err(|why| answered(&why))?;
            if link.is_some()
                && let Some(mut response) = not_modified(asked.headers, &digest)
            {
                self.status(&mut response, CacheStatus::Hit);
                return Ok(response);
            }
            if asked.head {
                let size = self.store.size(&digest).filter(|_| link.is_some());
                return self.blob_head(&asked, &digest, size).await;
            }
            if link.is_some()
                && let Some(stored) = self.store.get(&digest)
            {
                return self.stored(&asked, &digest, stored);
            }
            // None: a download has come to its end since the store was looked into.
            if let Some(response) = self.fetched(&asked, &digest, link).await.map_err(|why| answered(&why))? {
                return response;
            }
        }
    }

    /// How this repository links the blob, where that is known. A blob that is here for the sake of another repository is
    /// given out only after the upstream has said that this one has it too.
    async fn link(&self, asked: &Asked<'_>, digest: &Digest) -> Result<Option<Link>, Unavailable> {
        if let Some(link) = self.metadata.remembered_link(&asked.place, digest) {
            return Ok(Some(link));
        }
        let running = self.downloads.running(digest);
        let ours = running.as_ref().is_some_and(|download| *download.place() == asked.place);
        let absent = running.is_none() && self.store.presence(&[Key::of(digest)]) == [Presence::Absent];
        if ours || absent {
            // The upstream is about to say whether this repository has it: no reason to ask the database first.
            return Ok(None);
        }
        if let Some(link) = self.metadata.link(&asked.place, digest).await? {
            return Ok(Some(link));
        }
        if running.is_none() && self.store.size(digest).is_none() {
            // A part of it is here, which nobody is given: the upstream is about to say.
            return Ok(None);
        }
        let size = self.upstream_size(asked, digest).await?;
        let link = Link { digest: digest.clone(), size };
        self.metadata.keep_link(&asked.place, &link).await;
        Ok(Some(link))
    }

    /// How long the upstream says that the blob is, if it says so in time.
    async fn upstream_size(&self, asked: &Asked<'_>, digest: &Digest) -> Result<Option<u64>, Unavailable> {
        let patience = self.patience.first_byte;
        match tokio::time::timeout(patience, asked.upstream.head_blob(&asked.place.repository, digest)).await
        {
            Ok(size) => Ok(size?),
            Err(_elapsed) => Err(Unavailable::Upstream(Silence::NoAnswer(patience).into())),
        }
    }

    async fn blob_head(
        &self,
        asked: &Asked<'_>,
        digest: &Digest,
        held: Option<u64>,
    ) -> Result<Response<Body>, ApiError> {
        let (size, status) = match held {
            Some(size) => (Some(size), CacheStatus::Hit),
            None => {
                let size = self.upstream_size(asked, digest).await;
                let size = size.map_err(|why| why.answer(ErrorCode::BlobUnknown))?;
                (size, CacheStatus::Passed)
            }
        };
        let mut response = Response::new(Body::empty());
        blob_headers(&mut response, digest);
        if let Some(size) = size {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        self.status(&mut response, status);
        Ok(response)
    }

    fn stored(
        &self,
        asked: &Asked<'_>,
        digest: &Digest,
        stored: StoredBlob,
    ) -> Result<Response<Body>, ApiError> {
        let part = part(asked.headers, stored.size)?;
        let served = Served::new(self.metrics.served_cache.clone(), Some(stored.lease));
        let body = Body::file(stored.file, part.range()).watched(served);
        let mut response = part.response(body, digest);
        self.status(&mut response, CacheStatus::Hit);
        Ok(response)
    }

    async fn fetched(
        &self,
        asked: &Asked<'_>,
        digest: &Digest,
        mut link: Option<Link>,
    ) -> Result<Option<Result<Response<Body>, ApiError>>, std::sync::Arc<Unavailable>> {
        let mut joins = 0;
        loop {
            joins += 1;
            let size = link.as_ref().and_then(|link| link.size);
            let (download, status) = match self.downloads.join(&asked.place, asked.upstream, digest, size) {
                Joined::Began(download) => (download, CacheStatus::Stored),
                Joined::Collapsed(download) => (download, CacheStatus::Collapsed),
                Joined::Held => return Ok(None),
                Joined::Avoided(why) => return Err(std::sync::Arc::new(why)),
            };
            let foreign = *download.place() != asked.place;
            if foreign && !self.may_give(asked, digest).await? {
                // Another upstream's download has begun since the look at what is here.
                return Ok(None);
            }
            if foreign && link.is_none() {
                link = self.link(asked, digest).await?;
            }
            match self.opened(asked, &download).await {
                Ok(progress) => {
                    return Ok(Some(self.downloading(asked, digest, &download, &progress, status)));
                }
                // What another repository's download met says nothing about this one.
                Err(_) if foreign && joins < JOINS => {}
                Err(_) if foreign => return Err(std::sync::Arc::new(Unavailable::Busy)),
                Err(why) => return Err(why),
            }
        }
    }

    /// Waits for the first byte: as long as the download itself does, or only briefly while the upstream is silent.
    async fn opened(
        &self,
        asked: &Asked<'_>,
        download: &Download,
    ) -> Result<Progress, std::sync::Arc<Unavailable>> {
        if !asked.upstream.is_silent() {
            return self.downloads.opened(download).await;
        }
        let budget = self.patience.budget;
        let late = |_elapsed| std::sync::Arc::new(Unavailable::Upstream(Silence::NoAnswer(budget).into()));
        tokio::time::timeout(budget, self.downloads.opened(download)).await.map_err(late)?
    }

    fn downloading(
        &self,
        asked: &Asked<'_>,
        digest: &Digest,
        download: &std::sync::Arc<Download>,
        progress: &Progress,
        status: CacheStatus,
    ) -> Result<Response<Body>, ApiError> {
        let part = match progress.length {
            Some(length) => part(asked.headers, length)?,
            None => Part::Unmeasured,
        };
        let source = Source {
            upstream: asked.upstream.clone(),
            place: asked.place.clone(),
            unkept: self.metrics.unkept.clone(),
            stall: self.patience.stall,
        };
        let served = Served::new(self.metrics.served_upstream.clone(), None);
        let body = following(download, part.range(), source).watched(served);
        let mut response = part.response(body, digest);
        let unkept = matches!(progress.state, State::NoRoom(_));
        self.status(&mut response, if unkept { CacheStatus::Passed } else { status });
        Ok(response)
    }
}

/// What of a blob a client gets.
pub(super) enum Part {
    Whole {
        length: u64,
    },
    Some {
        range: Range<u64>,
        length: u64,
    },
    /// All of a blob whose length nobody told.
    Unmeasured,
}

/// What the request's `Range` asks of `length` bytes.
pub(super) fn part(headers: &http::HeaderMap, length: u64) -> Result<Part, ApiError> {
    let asked = headers.get(header::RANGE).and_then(|value| ByteRange::parse(value.to_str().ok()?));
    match asked.map(|asked| asked.resolve(length)) {
        None => Ok(Part::Whole { length }),
        Some(Ok(range)) => Ok(Part::Some { range, length }),
        Some(Err(unsatisfiable @ Unsatisfiable { length })) => {
            let told = HeaderValue::try_from(range::unsatisfied_content_range(length));
            let told = told.expect("digits are a header's text");
            Err(ErrorCode::RangeInvalid.error(unsatisfiable.to_string()).header(header::CONTENT_RANGE, told))
        }
    }
}

impl Part {
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Self::Whole { length } => 0..*length,
            Self::Some { range, .. } => range.clone(),
            Self::Unmeasured => 0..TO_THE_END,
        }
    }

    pub(super) fn response(&self, body: Body, digest: &Digest) -> Response<Body> {
        let mut response = Response::new(body);
        blob_headers(&mut response, digest);
        let headers = response.headers_mut();
        let length = match self {
            Self::Whole { length } => *length,
            Self::Unmeasured => return response,
            Self::Some { range, length } => {
                let told = HeaderValue::try_from(range::content_range(range, *length));
                headers.insert(header::CONTENT_RANGE, told.expect("digits are a header's text"));
                range.end - range.start
            }
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if matches!(self, Self::Some { .. }) {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }
}

fn blob_headers(response: &mut Response<Body>, digest: &Digest) {
    content_headers(response, digest);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000"));
}
