//! The store over the operator API: what is here, pins, eviction, verification.

use http::{Method, Request, Response, StatusCode};
use oci::{
    http::{Body, RequestBody, front::rfc3339},
    route::Query,
};
use serde::{Deserialize, Serialize};

use super::{
    document, json,
    names::{self, Host},
    problem::Problem,
};
use crate::{
    answer::Answerer,
    images::{Evicted, Listed},
    store::Report,
};

/// One line of the list of images.
#[derive(Serialize)]
struct Image {
    /// As a client would write it at this edge.
    image: String,
    digest: String,
    /// Of manifests and whole blobs.
    bytes: u64,
    /// Of what came of the others, whether it is coming or broke off.
    partial_bytes: u64,
    /// Of all, whether here or not.
    bytes_total: u64,
    blobs: usize,
    blobs_whole: usize,
    /// `null` if no client was given its manifest yet.
    last_used: Option<String>,
    /// How often clients were given its manifest by GET.
    hits: u64,
    pinned: bool,
    /// Every blob is whole here.
    complete: bool,
}

/// `/api/v1/cache/stats`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Stats {
    pub(super) capacity: u64,
    pub(super) keep_free: u64,
    /// What the file system has left for us.
    pub(super) free: Option<u64>,
    pub(super) bytes: u64,
    pub(super) whole_bytes: u64,
    pub(super) partial_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) quarantined_bytes: u64,
    pub(super) blobs: usize,
    pub(super) partial_blobs: usize,
    pub(super) pinned_blobs: usize,
    pub(super) pinned_bytes: u64,
    pub(super) evictions: u64,
    pub(super) evicted_bytes: u64,
    pub(super) scrubbed_bytes: u64,
    /// The index of an earlier life is still being read.
    pub(super) loading: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    image: String,
}

#[derive(Serialize)]
struct Pinned<'a> {
    image: &'a str,
    digest: String,
}

/// How far a verification is, and whose blobs are damaged.
#[derive(Serialize)]
struct Verification {
    #[serde(flatten)]
    report: Report,
    /// The images that need one of the damaged blobs; empty until it has ended.
    damaged_images: Vec<String>,
}

#[derive(Serialize)]
struct Freed<'a> {
    image: &'a str,
    digest: String,
    bytes: u64,
}

/// Answers a request to `/api/v1/cache/<path>`.
pub(super) async fn answer(
    answerer: &Answerer,
    path: &str,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Problem> {
    let method = request.method().clone();
    let host = Host::of(&request);
    let query = Query::parse(request.uri().query());
    let named = query.get("image").unwrap_or_default();
    match (path, method) {
        ("", Method::GET) => json(StatusCode::OK, &list(answerer).await?),
        ("image", Method::GET) => json(StatusCode::OK, &one(answerer, &host, named).await?),
        ("stats", Method::GET) => json(StatusCode::OK, &stats(answerer)),
        ("pins", Method::GET) => json(StatusCode::OK, &pins(answerer).await?),
        ("pins", Method::POST) => pin(answerer, &host, &document::<Named>(request).await?.image).await,
        ("pins", Method::DELETE) => unpin(answerer, &host, named).await,
        ("evict", Method::POST) => evict(answerer, &host, &document::<Named>(request).await?.image).await,
        ("verify", Method::GET) => json(StatusCode::OK, &verification(answerer).await?),
        ("verify", Method::POST) => json(StatusCode::ACCEPTED, &verify(answerer)),
        ("" | "image" | "stats", _) => Err(Problem::method_not_allowed("GET")),
        ("pins", _) => Err(Problem::method_not_allowed("GET, POST, DELETE")),
        ("evict", _) => Err(Problem::method_not_allowed("POST")),
        ("verify", _) => Err(Problem::method_not_allowed("GET, POST")),
        _ => Err(Problem::not_found(format!("there is nothing at {}", request.uri().path()))),
    }
}

async fn list(answerer: &Answerer) -> Result<Vec<Image>, Problem> {
    let listed = answerer.images.list().await?;
    Ok(listed.into_iter().map(|listed| image(answerer, listed)).collect())
}

async fn one(answerer: &Answerer, host: &Host, image_name: &str) -> Result<Image, Problem> {
    let (place, reference) = names::understand(answerer, host, image_name)?;
    let found = answerer.images.look(&place, &reference).await?;
    found.map(|listed| image(answerer, listed)).ok_or_else(|| unknown(image_name))
}

fn image(answerer: &Answerer, listed: Listed) -> Image {
    let Listed { row, bytes, partial_bytes, bytes_total, blobs, blobs_whole, lacking, complete, pinned } =
        listed;
    let used = std::time::UNIX_EPOCH + std::time::Duration::from_secs(row.used.into());
    // A blob that is on its way is not among the partial ones until its download has ended.
    let arriving: u64 = lacking.iter().map(|digest| answerer.downloads.written(digest)).sum();
    Image {
        image: names::name(answerer, &row.place, &row.reference),
        digest: row.digest.to_string(),
        bytes,
        partial_bytes: partial_bytes + arriving,
        bytes_total,
        blobs,
        blobs_whole,
        last_used: (row.used > 0).then(|| rfc3339(used)),
        hits: row.hits,
        pinned,
        complete,
    }
}

pub(super) fn stats(answerer: &Answerer) -> Stats {
    let figures = answerer.store.figures();
    let metrics = &answerer.metrics.store;
    Stats {
        capacity: figures.capacity,
        keep_free: figures.keep_free,
        free: figures.free,
        bytes: figures.held.total(),
        whole_bytes: figures.held.whole,
        partial_bytes: figures.held.partial,
        reserved_bytes: figures.held.reserved,
        quarantined_bytes: figures.held.quarantined,
        blobs: figures.blobs,
        partial_blobs: figures.partials,
        pinned_blobs: figures.pinned,
        pinned_bytes: figures.pinned_bytes,
        evictions: metrics.evictions.get(),
        evicted_bytes: metrics.evicted_bytes.get(),
        scrubbed_bytes: metrics.scrubbed_bytes.get(),
        loading: figures.loading,
    }
}

async fn pins(answerer: &Answerer) -> Result<Vec<String>, Problem> {
    let pins = answerer.metadata.pins().await?;
    Ok(pins.iter().map(|(place, reference)| names::name(answerer, place, reference)).collect())
}

async fn pin(answerer: &Answerer, host: &Host, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = names::understand(answerer, host, image)?;
    let Some(digest) = answerer.images.pin(&place, &reference).await? else { return Err(unknown(image)) };
    // What is lacking of it is fetched from now on, not at the next look.
    answerer.store.lacking.notify_one();
    json(StatusCode::OK, &Pinned { image, digest: digest.to_string() })
}

async fn unpin(answerer: &Answerer, host: &Host, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = names::understand(answerer, host, image)?;
    if answerer.images.unpin(&place, &reference).await? {
        return Ok(oci::http::empty_response(StatusCode::NO_CONTENT));
    }
    Err(Problem::not_found(format!(
        "{image} is not pinned by this name; `roadstead cache ls` shows what is pinned"
    )))
}

async fn evict(answerer: &Answerer, host: &Host, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = names::understand(answerer, host, image)?;
    match answerer.images.evict(&place, &reference).await? {
        Evicted::Gone { digest, bytes } => {
            json(StatusCode::OK, &Freed { image, digest: digest.to_string(), bytes })
        }
        Evicted::Unknown => Err(unknown(image)),
        Evicted::Pinned(pinned) => {
            let pinned = names::name(answerer, &place, &pinned);
            Err(Problem::new(
                StatusCode::CONFLICT,
                format!("{image} is pinned as {pinned}: unpin that first"),
            ))
        }
    }
}

fn verify(answerer: &Answerer) -> Report {
    if answerer.scrubber.begin() {
        answerer.tasks.spawn(answerer.scrubber.clone().verify());
    }
    answerer.scrubber.report()
}

async fn verification(answerer: &Answerer) -> Result<Verification, Problem> {
    let report = answerer.scrubber.report();
    let mut damaged_images = Vec::new();
    if !report.running && !report.damaged.is_empty() {
        let damaged = report.damaged.iter().cloned().collect();
        let holding = answerer.images.holding(&damaged).await?;
        damaged_images.extend(holding.iter().map(|row| names::name(answerer, &row.place, &row.reference)));
    }
    Ok(Verification { report, damaged_images })
}

fn unknown(image: &str) -> Problem {
    Problem::not_found(format!("{image} is not in this cache: pull it through this edge first"))
}
