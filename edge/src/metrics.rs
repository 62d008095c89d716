//! What an edge counts.
//!
//! These hold whenever no request runs, and a test checks them after a mixed load:
//! - `roadstead_blob_bytes_served_total`, summed over `source`, is the bytes of blobs that clients received, plus, of
//!   bodies that a client did not wait for, what had left the node before it noticed;
//! - `roadstead_cache_answers_total{kind,status}` is the number of answers with that word in `Cache-Status`; summed over
//!   `status` it is `roadstead_http_requests_total{route}` of the same kind without errors;
//! - `roadstead_upstream_bytes_received_total` is what upstreams sent as bodies of manifests and blobs, kept or not;
//! - those of the store are in [`crate::store::StoreMetrics`]'s module.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{cache_status::AnswerCounts, store::StoreMetrics};

/// Where served bytes came from.
#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct SourceLabel {
    source: &'static str,
}

/// An upstream by its name.
#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct UpstreamLabel {
    upstream: String,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct OutcomeLabel {
    upstream: String,
    outcome: &'static str,
}

/// The counters of an edge.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Blob bytes handed to clients out of the store.
    pub served_cache: Counter,
    /// Blob bytes handed to clients out of a download from an upstream.
    pub served_upstream: Counter,
    received: Family<UpstreamLabel, Counter>,
    answers: Family<OutcomeLabel, Counter>,
    said_no_again: Family<UpstreamLabel, Counter>,
    /// Downloads that run now.
    pub downloads_running: Gauge,
    /// Requests that wait for the first byte of a download.
    pub downloads_waiting: Gauge,
    /// Downloads that brought wrong bytes.
    pub downloads_corrupt: Counter,
    blamed: Family<UpstreamLabel, Counter>,
    /// What the store counts.
    pub store: StoreMetrics,
    /// Bytes streamed to a client without being kept, for want of room.
    pub unkept: Counter,
    /// Answers by what the cache did for them.
    pub answers_of_cache: AnswerCounts,
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let served: Family<SourceLabel, Counter> = Family::default();
        // One after the other: each answer holds a lock on the family until its statement ends.
        let served_cache = served.get_or_create(&SourceLabel { source: "cache" }).clone();
        let served_upstream = served.get_or_create(&SourceLabel { source: "upstream" }).clone();
        let metrics = Self {
            served_cache,
            served_upstream,
            received: Family::default(),
            answers: Family::default(),
            said_no_again: Family::default(),
            downloads_running: Gauge::default(),
            downloads_waiting: Gauge::default(),
            downloads_corrupt: Counter::default(),
            blamed: Family::default(),
            store: StoreMetrics::register(registry),
            unkept: Counter::default(),
            answers_of_cache: AnswerCounts::register(registry),
        };
        registry.register(
            "roadstead_blob_bytes_served",
            "Blob bytes handed to clients, by where they came from",
            served,
        );
        registry.register(
            "roadstead_upstream_bytes_received",
            "Bytes of manifests and blobs that came from an upstream",
            metrics.received.clone(),
        );
        registry.register(
            "roadstead_upstream_answers",
            "What upstreams said: ok, said_no, failed, silent",
            metrics.answers.clone(),
        );
        registry.register(
            "roadstead_upstream_said_no_again",
            "Questions answered with a no that the upstream had said not long before, without asking it again",
            metrics.said_no_again.clone(),
        );
        registry.register(
            "roadstead_downloads_running",
            "Downloads that run now",
            metrics.downloads_running.clone(),
        );
        registry.register(
            "roadstead_downloads_waiting",
            "Requests that wait for the first byte of a download",
            metrics.downloads_waiting.clone(),
        );
        registry.register(
            "roadstead_upstream_blamed",
            "Blobs that an upstream got wrong, in bytes or in length",
            metrics.blamed.clone(),
        );
        registry.register(
            "roadstead_downloads_corrupt",
            "Downloads whose bytes did not match their digest or length",
            metrics.downloads_corrupt.clone(),
        );
        registry.register(
            "roadstead_unkept_bytes",
            "Blob bytes streamed to clients without being kept, for want of room",
            metrics.unkept.clone(),
        );
        metrics
    }

    /// The bytes received from `upstream`.
    pub(crate) fn received(&self, upstream: &str) -> Counter {
        self.received.get_or_create(&UpstreamLabel { upstream: upstream.to_owned() }).clone()
    }

    /// Counts a blob that `upstream` got wrong.
    pub(crate) fn blamed(&self, upstream: &str) {
        self.blamed.get_or_create(&UpstreamLabel { upstream: upstream.to_owned() }).inc();
    }

    /// Counts a *no* of `upstream` that was given out again.
    pub(crate) fn said_no_again(&self, upstream: &str) {
        self.said_no_again.get_or_create(&UpstreamLabel { upstream: upstream.to_owned() }).inc();
    }

    /// Counts what `upstream` said.
    pub(crate) fn answered(&self, upstream: &str, outcome: &'static str) {
        self.answers.get_or_create(&OutcomeLabel { upstream: upstream.to_owned(), outcome }).inc();
    }
}
