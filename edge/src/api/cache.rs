//! The store over the operator API: what is here, pins, eviction, verification.

use http::{Method, Request, Response, StatusCode};
use oci::{
    http::{Body, RequestBody, front::rfc3339},
    name::Reference,
    route::Query,
};
use serde::{Deserialize, Serialize};

use super::{document, json, problem::Problem};
use crate::{
    answer::Answerer,
    images::{Evicted, Listed},
    metadata::Place,
    naming,
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
    partial_bytes: u64,
    last_used: String,
    /// How often clients were given its manifest by GET.
    hits: u64,
    pinned: bool,
    /// Every blob is whole here.
    complete: bool,
}

/// `/api/v1/cache/stats`.
#[derive(Serialize)]
struct Stats {
    capacity: u64,
    keep_free: u64,
    /// What the file system has left for us.
    free: Option<u64>,
    bytes: u64,
    whole_bytes: u64,
    partial_bytes: u64,
    reserved_bytes: u64,
    quarantined_bytes: u64,
    blobs: usize,
    partial_blobs: usize,
    pinned_blobs: usize,
    pinned_bytes: u64,
    evictions: u64,
    scrubbed_bytes: u64,
    /// The index of an earlier life is still being read.
    loading: bool,
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
    match (path, method) {
        ("", Method::GET) => json(StatusCode::OK, &list(answerer).await?),
        ("stats", Method::GET) => json(StatusCode::OK, &stats(answerer)),
        ("pins", Method::GET) => json(StatusCode::OK, &pins(answerer).await?),
        ("pins", Method::POST) => pin(answerer, &document::<Named>(request).await?.image).await,
        ("pins", Method::DELETE) => {
            let query = Query::parse(request.uri().query());
            unpin(answerer, query.get("image").unwrap_or_default()).await
        }
        ("evict", Method::POST) => evict(answerer, &document::<Named>(request).await?.image).await,
        ("verify", Method::GET) => json(StatusCode::OK, &answerer.scrubber.report()),
        ("verify", Method::POST) => json(StatusCode::ACCEPTED, &verify(answerer)),
        ("" | "stats", _) => Err(Problem::method_not_allowed("GET")),
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

fn image(answerer: &Answerer, listed: Listed) -> Image {
    let Listed { row, bytes, partial_bytes, complete, pinned } = listed;
    let used = std::time::UNIX_EPOCH + std::time::Duration::from_secs(row.used.into());
    Image {
        image: name(answerer, &row.place, &row.reference),
        digest: row.digest.to_string(),
        bytes,
        partial_bytes,
        last_used: rfc3339(used),
        hits: row.hits,
        pinned,
        complete,
    }
}

fn stats(answerer: &Answerer) -> Stats {
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
        scrubbed_bytes: metrics.scrubbed_bytes.get(),
        loading: figures.loading,
    }
}

async fn pins(answerer: &Answerer) -> Result<Vec<String>, Problem> {
    let pins = answerer.metadata.pins().await?;
    Ok(pins.iter().map(|(place, reference)| name(answerer, place, reference)).collect())
}

async fn pin(answerer: &Answerer, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = understand(answerer, image)?;
    match answerer.images.pin(&place, &reference).await? {
        Some(digest) => json(StatusCode::OK, &Pinned { image, digest: digest.to_string() }),
        None => Err(unknown(image)),
    }
}

async fn unpin(answerer: &Answerer, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = understand(answerer, image)?;
    if answerer.images.unpin(&place, &reference).await? {
        return Ok(oci::http::empty_response(StatusCode::NO_CONTENT));
    }
    Err(Problem::not_found(format!(
        "{image} is not pinned by this name; `cache pins` has the names that are"
    )))
}

async fn evict(answerer: &Answerer, image: &str) -> Result<Response<Body>, Problem> {
    let (place, reference) = understand(answerer, image)?;
    match answerer.images.evict(&place, &reference).await? {
        Evicted::Gone { digest, bytes } => {
            json(StatusCode::OK, &Freed { image, digest: digest.to_string(), bytes })
        }
        Evicted::Unknown => Err(unknown(image)),
        Evicted::Pinned(pinned) => {
            let pinned = name(answerer, &place, &pinned);
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

fn unknown(image: &str) -> Problem {
    Problem::not_found(format!("{image} is not in this cache: pull it through this edge first"))
}

/// What an operator means by the name of an image: what a client would mean by it here.
fn understand(answerer: &Answerer, image: &str) -> Result<(Place, Reference), Problem> {
    let wrong =
        |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("{image:?} names no image: {why}"));
    let (name, reference) = match image.split_once('@') {
        Some((name, digest)) => (name, digest),
        None => match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (image, "latest"),
        },
    };
    let reference: Reference = reference.parse().map_err(|error| wrong(format!("{error}")))?;
    let path = format!("/v2/{name}");
    let named = naming::split(&path, None).map_err(|error| wrong(error.message().to_owned()))?;
    let repository = named.path.strip_prefix("/v2/").unwrap_or_default().parse();
    let repository = repository.map_err(|error| wrong(format!("{error}")))?;
    let upstream = match named.registry.as_deref() {
        Some(registry) => answerer.upstreams.of_name(registry),
        None => answerer.upstreams.find(None),
    };
    let Some(upstream) = upstream else {
        return Err(Problem::not_found(format!(
            "{image}: this edge does not stand in front of that registry"
        )));
    };
    Ok((Place { upstream: upstream.name.clone(), repository: upstream.repository(repository) }, reference))
}

/// The name that a client would use at this edge.
fn name(answerer: &Answerer, place: &Place, reference: &Reference) -> String {
    let default = answerer.upstreams.find(None).is_some_and(|upstream| upstream.name == place.upstream);
    let registry = if default { String::new() } else { format!("{}/", place.upstream) };
    let mark = match reference {
        Reference::Tag(_) => ':',
        Reference::Digest(_) => '@',
    };
    format!("{registry}{}{mark}{reference}", place.repository)
}
