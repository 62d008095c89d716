//! What requests carry and answers hold: JSON, pages of lists, versions.

use http::{HeaderValue, Response, StatusCode, header};
use ipnet::IpNet;
use oci::http::{Body, RequestBody, json_response};
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, problem::Problem};
use crate::database::accounts::Expected;

/// The longest document that a request may carry, in bytes: a few hundred networks fit.
const MAX_DOCUMENT: usize = 64 * 1024;
/// Networks of one list.
const MAX_NETWORKS: usize = 100;
/// Entries of one page where nobody says how many.
const PAGE: u32 = 100;
/// Entries of one page at most.
const MAX_PAGE: u32 = 1_000;

/// An answer of one document.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    json_response(status, serde_json::to_vec(document).expect("documents of texts and numbers serialize"))
}

/// An answer of one document that has a version.
pub(super) fn versioned(status: StatusCode, document: &impl Serialize, version: i64) -> Response<Body> {
    let mut response = json(status, document);
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes");
    response.headers_mut().insert(header::ETAG, tag);
    response
}

/// The answer to a request that made something at `path` below the API.
pub(super) fn created(document: &impl Serialize, version: i64, path: &str) -> Response<Body> {
    let mut response = versioned(StatusCode::CREATED, document, version);
    if let Ok(location) = HeaderValue::from_str(&format!("{}{path}", super::PREFIX)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// One page of a list, as asked for by `limit` and `after`.
pub(super) struct Page {
    pub(super) limit: u32,
    /// The name before the page; empty for the first.
    pub(super) after: String,
}

impl Page {
    pub(super) fn of(call: &Call<'_>) -> Result<Self, Problem> {
        let limit = match call.query.get("limit") {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_PAGE).contains(limit))
                .ok_or_else(|| Problem::invalid(format!("limit is a number from 1 to {MAX_PAGE}")))?,
        };
        let after = call.query.get("after").unwrap_or("").to_owned();
        if after.chars().any(char::is_control) {
            return Err(Problem::invalid("after is a name of the list"));
        }
        Ok(Self { limit, after })
    }

    /// An answer of these, of which one more was asked for than the page holds.
    pub(super) fn answer<T: Serialize>(
        &self,
        mut entries: Vec<T>,
        name: impl Fn(&T) -> &str,
        path: &str,
        filter: Option<(&str, &str)>,
    ) -> Response<Body> {
        let more = entries.len() > self.limit as usize;
        entries.truncate(self.limit as usize);
        let mut response = json(StatusCode::OK, &entries);
        if let (true, Some(last)) = (more, entries.last()) {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &self.limit.to_string()).append_pair("after", name(last));
            query.extend_pairs(filter);
            let link = format!("<{}{path}?{}>; rel=\"next\"", super::PREFIX, query.finish());
            if let Ok(link) = HeaderValue::from_str(&link) {
                response.headers_mut().insert(header::LINK, link);
            }
        }
        response
    }
}

/// Goes on with a list of networks that can be looked through for every request.
pub(super) fn check_networks(networks: &[IpNet]) -> Result<(), Problem> {
    if networks.len() <= MAX_NETWORKS {
        return Ok(());
    }
    Err(Problem::invalid(format!("a list has at most {MAX_NETWORKS} networks")))
}

/// The version that a change is based on (RFC 9110, section 13.1.1); none given, any will do.
pub(super) fn expected(call: &Call<'_>) -> Result<Expected, Problem> {
    let Some(value) = call.parts.headers.get(header::IF_MATCH) else { return Ok(Expected(None)) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Expected(None));
    }
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')?.parse().ok());
    // Something that is no version of ours is the version of nothing.
    Ok(Expected(Some(version.unwrap_or(-1))))
}

/// The document that a request carries. It must be sent as JSON: that is what no page in a browser can do across origins
/// without being asked for leave first, which nobody here gives.
pub(super) async fn read<T: DeserializeOwned>(
    parts: &http::request::Parts,
    body: RequestBody,
) -> Result<T, Problem> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if !matches!(kind, Some("application/json" | "application/merge-patch+json")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send a JSON document, with Content-Type: application/json",
        ));
    }
    let body = body.collect(MAX_DOCUMENT).await.map_err(|error| Problem::invalid(error.to_string()))?;
    let unreadable =
        |error: serde_json::Error| Problem::invalid(format!("the document cannot be read: {error}"));
    let document: serde_json::Value = serde_json::from_slice(&body).map_err(unreadable)?;
    // A list of values would be taken for the fields in their order.
    if !document.is_object() {
        return Err(Problem::invalid("the document is not a JSON object"));
    }
    serde_json::from_value(document).map_err(unreadable)
}
