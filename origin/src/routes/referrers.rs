//! The manifests that refer to another one (distribution specification, "Listing Referrers").
//!
//! What clients pushed by the older tag schema, an index tagged `sha256-<hex>`, is part of the answer.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, StatusCode, header};
use oci::{
    digest::Digest,
    error::ErrorCode,
    http::json_response,
    manifest::{Manifest, media_type},
    name::{Reference, RepositoryName},
};
use serde::Serialize;

use super::{
    Answer, Call, Registry,
    answer::{Page, link_next},
};
use crate::database::referrers::{Referrer, ReferrersQuery};

static OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Descriptors of one page at most.
const PAGE: u32 = 1_000;
/// Bytes of descriptors of one page at most: an answer is itself an index, and clients take 4 MiB of one.
const PAGE_BYTES: usize = (4 << 20) - 4096;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: &'a [Box<serde_json::value::RawValue>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// A descriptor of the answer, as JSON.
struct Entry {
    digest: Digest,
    json: Box<serde_json::value::RawValue>,
}

impl Registry {
    pub(super) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        call: &Call,
    ) -> Answer {
        let page = Page::of(&call.query, PAGE)?;
        let filter = call.query.get("artifactType").filter(|filter| !filter.is_empty());
        if filter.is_some_and(|filter| filter.chars().any(char::is_control)) {
            return Err(ErrorCode::BadRequest.error("artifactType is not a media type"));
        }
        let query = ReferrersQuery {
            repository,
            subject,
            artifact_type: filter,
            last: page.last,
            limit: page.limit(),
        };
        let listed = self.database.referrers(query, PAGE_BYTES).await?;
        let mut tagged = self.by_tag_schema(repository, subject, filter, page.last).await?;
        if let (true, Some(last)) = (listed.cut, listed.referrers.last()) {
            // What lies behind the cut is for the next page, which knows what lies between.
            tagged.retain(|entry| entry.digest.as_str() <= last.digest.as_str());
        }
        let mut entries = merged(listed.referrers.iter().map(entry).collect(), tagged);
        let mut more = page.cut(&mut entries) | listed.cut;
        more |= cut_bytes(&mut entries);
        let last = entries.last().map(|entry| entry.digest.to_string());
        let manifests: Vec<_> = entries.into_iter().map(|entry| entry.json).collect();
        let index = Index { schema_version: 2, media_type: media_type::IMAGE_INDEX, manifests: &manifests };
        let document = serde_json::to_vec(&index).expect("JSON values serialize");
        let mut response = json_response(StatusCode::OK, document);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::IMAGE_INDEX));
        if filter.is_some() {
            headers.insert(&OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        if let (true, Some(last)) = (more, last) {
            let n = page.n.to_string();
            let mut parameters = vec![("n", n.as_str()), ("last", last.as_str())];
            parameters.extend(filter.map(|filter| ("artifactType", filter)));
            link_next(&mut response, &format!("/v2/{repository}/referrers/{subject}"), &parameters);
        }
        Ok(response)
    }

    /// The descriptors of the index that clients keep under the tag schema, where there is one.
    async fn by_tag_schema(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        filter: Option<&str>,
        last: &str,
    ) -> Result<Vec<Entry>, crate::database::Error> {
        // The specification cuts the name to the length of a tag; no registered digest is longer.
        let name: String = format!("{}-{}", subject.algorithm(), subject.hex()).chars().take(128).collect();
        let Ok(tag) = name.parse() else { return Ok(Vec::new()) };
        let Some(found) = self.database.manifest(repository, &Reference::Tag(tag)).await? else {
            return Ok(Vec::new());
        };
        let Ok(index) = Manifest::parse(&found.bytes, Some(&found.media_type)) else { return Ok(Vec::new()) };
        if !index.is_index() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for descriptor in &index.descriptors {
            let kind = descriptor.artifact_type().as_ref().map(ToString::to_string);
            let Ok(digest) = descriptor.digest().to_string().parse::<Digest>() else { continue };
            let wanted =
                filter.is_none_or(|filter| kind.as_deref() == Some(filter)) && digest.as_str() > last;
            if wanted && let Ok(json) = serde_json::value::to_raw_value(descriptor) {
                entries.push(Entry { digest, json });
            }
        }
        Ok(entries)
    }
}

fn entry(referrer: &Referrer) -> Entry {
    let descriptor = Descriptor {
        media_type: &referrer.media_type,
        digest: &referrer.digest,
        size: referrer.size,
        artifact_type: referrer.artifact_type.as_deref(),
        annotations: &referrer.annotations,
    };
    let json = serde_json::value::to_raw_value(&descriptor).expect("strings serialize");
    Entry { digest: referrer.digest.clone(), json }
}

/// Both lists in the order of digests, each digest once; what the registry knows itself counts more.
fn merged(listed: Vec<Entry>, tagged: Vec<Entry>) -> Vec<Entry> {
    let mut entries = listed;
    let mut known: BTreeSet<Digest> = entries.iter().map(|entry| entry.digest.clone()).collect();
    entries.extend(tagged.into_iter().filter(|entry| known.insert(entry.digest.clone())));
    entries.sort_by(|a, b| a.digest.as_str().cmp(b.digest.as_str()));
    entries
}

/// Cuts the page to what clients take; whether there was more. One descriptor is always left.
fn cut_bytes(entries: &mut Vec<Entry>) -> bool {
    let mut bytes = 0;
    let fitting = entries
        .iter()
        .take_while(|entry| {
            bytes += entry.json.get().len() + 1;
            bytes <= PAGE_BYTES
        })
        .count()
        .max(1);
    let more = entries.len() > fitting;
    entries.truncate(fitting);
    more
}
