//! The node on one page, as a document: `/api/v1/status`.

use oci::http::{Check, front::rfc3339};
use serde::Serialize;

use super::{
    about::Registry,
    alarms::{self, Alarm, Facts},
    cache::{self, Stats},
};
use crate::{answer::Answerer, metadata::Place};

/// How many of the downloads that run are listed.
const DOWNLOADS_LISTED: usize = 50;

/// See the module.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    node: Node<'a>,
    ready: bool,
    checks: Vec<CheckLine>,
    cache: Stats,
    downloads: Downloads,
    served: Served,
    registries: &'a [Registry],
    alarms: Vec<Alarm>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    role: &'static str,
    version: &'static str,
    started: String,
    uptime_seconds: u64,
}

#[derive(Serialize)]
struct CheckLine {
    name: &'static str,
    state: &'static str,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Downloads that run, and the first of them.
#[derive(Serialize)]
struct Downloads {
    running: usize,
    list: Vec<Download>,
    /// Since the start: bytes that did not match their digest or length, and so were not kept.
    corrupt: u64,
    /// Since the start: bytes streamed without being kept, for want of room.
    unkept_bytes: u64,
}

#[derive(Serialize)]
struct Download {
    digest: String,
    repository: String,
    bytes: u64,
    bytes_total: Option<u64>,
}

/// Blob bytes handed to clients since the start.
#[derive(Serialize)]
struct Served {
    cache_bytes: u64,
    upstream_bytes: u64,
    /// The share of the cache; `null` before anything was served.
    hit_ratio: Option<f64>,
}

/// Finds out how the node is.
pub(super) async fn status(answerer: &Answerer) -> Status<'_> {
    let about = &answerer.about;
    let checks = answerer.checks().await;
    let cache = cache::stats(answerer);
    let metrics = &answerer.metrics;
    let facts = Facts {
        checks: &checks,
        cache: &cache,
        quarantined: metrics.store.quarantined.get(),
        reserve_used: metrics.store.reserve_used.get(),
        corrupt: metrics.downloads_corrupt.get(),
        unkept_bytes: metrics.unkept.get(),
    };
    let alarms = alarms::alarms(&facts);
    Status {
        node: Node {
            name: &about.name,
            role: "edge",
            version: env!("CARGO_PKG_VERSION"),
            started: rfc3339(about.started),
            uptime_seconds: about.since.elapsed().as_secs(),
        },
        ready: checks.iter().all(|check| check.state.is_ok() || !check.required),
        checks: checks.into_iter().map(line).collect(),
        cache,
        downloads: downloads(answerer),
        served: served(metrics.served_cache.get(), metrics.served_upstream.get()),
        registries: &about.registries,
        alarms,
    }
}

fn line(check: Check) -> CheckLine {
    let state = if check.state.is_ok() { "ok" } else { "failed" };
    CheckLine { name: check.name, state, required: check.required, message: check.state.err() }
}

fn downloads(answerer: &Answerer) -> Downloads {
    let (running, views) = answerer.downloads.views(DOWNLOADS_LISTED);
    let repository = |place: &Place| format!("{}/{}", place.upstream, place.repository);
    let list = views.into_iter().map(|view| Download {
        digest: view.digest.to_string(),
        repository: repository(&view.place),
        bytes: view.written,
        bytes_total: view.length,
    });
    Downloads {
        running,
        list: list.collect(),
        corrupt: answerer.metrics.downloads_corrupt.get(),
        unkept_bytes: answerer.metrics.unkept.get(),
    }
}

fn served(cache_bytes: u64, upstream_bytes: u64) -> Served {
    let all = cache_bytes + upstream_bytes;
    #[expect(clippy::cast_precision_loss, reason = "a ratio need not be exact")]
    let hit_ratio = (all > 0).then(|| cache_bytes as f64 / all as f64);
    Served { cache_bytes, upstream_bytes, hit_ratio }
}
