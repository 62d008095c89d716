//! Manifests by tag and by digest.

use http::{HeaderValue, Response, header};
use oci::{
    error::{ApiError, ErrorCode},
    http::{Body, front::rfc3339},
    name::Reference,
};

use super::{Answerer, Asked, content_headers, not_modified};
use crate::{
    cache_status::CacheStatus,
    manifests::{Found, Source},
    metadata::StoredManifest,
    tags::{Resolved, Standing},
};

impl Answerer {
    pub(super) async fn manifest(
        &self,
        asked: Asked<'_>,
        reference: Reference,
    ) -> Result<Response<Body>, ApiError> {
        let unknown = ErrorCode::ManifestUnknown;
        let tag = match reference {
            Reference::Digest(digest) => {
                let patience = self.patience.first_byte;
                let found = self.manifests.get(&asked.place, asked.upstream, &digest, patience).await;
                let found = found.map_err(|why| why.answer(unknown))?;
                self.note_use(&asked, &found);
                let status = match found.source {
                    Source::Cache => CacheStatus::Hit,
                    Source::Upstream => CacheStatus::Stored,
                    Source::Collapsed => CacheStatus::Collapsed,
                };
                return Ok(self.manifest_response(&asked, &found.manifest, status));
            }
            Reference::Tag(tag) => tag,
        };
        let resolved = self.tags.resolve(&asked.place, asked.upstream, &tag).await;
        let resolved = resolved.map_err(|why| why.answer(unknown))?;
        let patience = self.patience.first_byte;
        let found = self.manifests.get(&asked.place, asked.upstream, &resolved.record.digest, patience).await;
        let found = found.map_err(|why| why.answer(unknown))?;
        self.note_use(&asked, &found);
        let manifest = found.manifest;
        let status = match resolved.standing {
            Standing::Confirmed => CacheStatus::Revalidated,
            Standing::Changed => CacheStatus::Changed,
            Standing::First => CacheStatus::Stored,
            Standing::Trusted => CacheStatus::Hit,
            Standing::Stale => CacheStatus::Offline,
        };
        let mut response = self.manifest_response(&asked, &manifest, status);
        tell_age(&mut response, &resolved, &asked.upstream.name);
        Ok(response)
    }

    /// A HEAD is a question about an image, and no use of it.
    fn note_use(&self, asked: &Asked<'_>, found: &Found) {
        if !asked.head {
            self.manifests.used(found);
        }
    }

    fn manifest_response(
        &self,
        asked: &Asked<'_>,
        manifest: &StoredManifest,
        status: CacheStatus,
    ) -> Response<Body> {
        let mut response = not_modified(asked.headers, &manifest.digest).unwrap_or_else(|| {
            let body = if asked.head { Body::empty() } else { Body::full(manifest.bytes.clone()) };
            let mut response = Response::new(body);
            content_headers(&mut response, &manifest.digest);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, served_as(&manifest.media_type));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(manifest.bytes.len()));
            response
        });
        self.status(&mut response, status);
        response
    }
}

/// The media type of a manifest, if it is one of JSON. Whatever else an upstream calls it, it is not passed on: a browser
/// that is led here must not take it for a page.
fn served_as(media_type: &str) -> HeaderValue {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    let passed_on = HeaderValue::from_str(media_type).ok().filter(|_| is_json);
    passed_on.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"))
}

/// `Age` where the answer rests on an earlier confirmation, and `Warning` where a newer one could not be had.
fn tell_age(response: &mut Response<Body>, resolved: &Resolved, upstream: &str) {
    if matches!(resolved.standing, Standing::Confirmed | Standing::Changed | Standing::First) {
        return;
    }
    let headers = response.headers_mut();
    headers.insert(header::AGE, HeaderValue::from(resolved.age().as_secs()));
    if resolved.standing == Standing::Stale {
        let since = rfc3339(std::time::SystemTime::now() - resolved.age());
        let warning =
            format!("299 - \"{upstream} could not confirm this tag; it was last confirmed at {since}\"");
        if let Ok(warning) = HeaderValue::try_from(warning) {
            headers.insert(header::WARNING, warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_of_json_are_passed_on() {
        for json in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8",
            "application/json",
        ] {
            assert_eq!(served_as(json), json);
        }
        for other in [
            "text/html",
            "text/html; x=application/json",
            "text/html+json",
            "image/svg+xml",
            "application/xhtml+xml",
            "application/json\n",
            "",
        ] {
            assert_eq!(served_as(other), "application/octet-stream", "{other:?}");
        }
    }
}
