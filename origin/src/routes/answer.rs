//! Pieces that answers of several endpoints are made of.

use http::{HeaderValue, Response, StatusCode, header};
use oci::{
    digest::Digest,
    error::{ApiError, ErrorCode},
    http::{Body, empty_response},
    route::Query,
};

use super::DOCKER_CONTENT_DIGEST;

/// A text that is known to be visible ASCII, such as a digest or a name, as a header.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}

/// An answer without a body, with a `Location`.
pub(super) fn located(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = empty_response(status);
    response.headers_mut().insert(header::LOCATION, value(location));
    response
}

/// Names the content of an answer, by which clients verify and cache it.
pub(super) fn identify(response: &mut Response<Body>, digest: &Digest) {
    let headers = response.headers_mut();
    headers.insert(&DOCKER_CONTENT_DIGEST, value(digest.as_str()));
    headers.insert(header::ETAG, value(&format!("\"{digest}\"")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// One page of a listing, as asked for by `n` and `last`.
pub(super) struct Page<'a> {
    /// Entries wanted; `0` is possible.
    pub(super) n: u32,
    /// The entry before the page; empty for the first page.
    pub(super) last: &'a str,
}

impl<'a> Page<'a> {
    /// Reads `n` and `last`; no page is longer than `most`.
    pub(super) fn of(query: &'a Query, most: u32) -> Result<Self, ApiError> {
        let n = match query.get("n") {
            None => most,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().unwrap_or(most).min(most)
            }
            Some(_) => {
                return Err(
                    ErrorCode::PaginationNumberInvalid.error("n must be a number of entries, 0 or more")
                );
            }
        };
        let last = query.get("last").unwrap_or("");
        if last.chars().any(char::is_control) {
            return Err(ErrorCode::PaginationNumberInvalid.error("last must be an entry of the listing"));
        }
        Ok(Self { n, last })
    }

    /// How many entries to ask for, to know whether there is another page.
    pub(super) fn limit(&self) -> u32 {
        if self.n == 0 { 0 } else { self.n + 1 }
    }

    /// Cuts `entries` to the page; the last of them, where there is another page.
    pub(super) fn cut<T>(&self, entries: &mut Vec<T>) -> bool {
        let more = entries.len() > self.n as usize;
        entries.truncate(self.n as usize);
        more
    }
}

/// Adds `Link: <path?…>; rel="next"` (RFC 8288).
pub(super) fn link_next(response: &mut Response<Body>, path: &str, parameters: &[(&str, &str)]) {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    response.headers_mut().insert(header::LINK, value(&format!("<{path}?{}>; rel=\"next\"", query.finish())));
}
