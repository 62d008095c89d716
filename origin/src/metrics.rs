//! What an origin counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a login ended: `ok`, `wrong`, `later` (too many failures before), `busy` (the queue is full), `failed`.
#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub(crate) struct LoginLabels {
    pub(crate) outcome: &'static str,
}

/// The metrics of one origin; a clone is the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) blob_bytes_served: Counter,
    pub(crate) upload_bytes_received: Counter,
    uploads_running: Gauge,
    pub(crate) gc_runs: Counter,
    pub(crate) gc_links_quarantined: Counter,
    pub(crate) gc_blobs_removed: Counter,
    pub(crate) gc_braked: Gauge,
    pub(crate) objects_deleted: Counter,
    pub(crate) uploads_expired: Counter,
    pub(crate) logins: Family<LoginLabels, Counter>,
    pub(crate) password_hashes: Counter,
    pub(crate) logins_waiting: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        counter("roadstead_blob_bytes_served", "Bytes of blobs sent to clients", &metrics.blob_bytes_served);
        counter(
            "roadstead_upload_bytes_received",
            "Bytes of blobs received from clients, kept or not",
            &metrics.upload_bytes_received,
        );
        counter("roadstead_gc_runs", "Garbage collections that this node finished", &metrics.gc_runs);
        counter(
            "roadstead_gc_links_quarantined",
            "Blobs hidden in a repository that no longer needs them",
            &metrics.gc_links_quarantined,
        );
        counter(
            "roadstead_gc_blobs_removed",
            "Blobs removed by garbage collection",
            &metrics.gc_blobs_removed,
        );
        counter("roadstead_objects_deleted", "Objects deleted from the storage", &metrics.objects_deleted);
        counter(
            "roadstead_uploads_expired",
            "Uploads dropped because nobody touched them",
            &metrics.uploads_expired,
        );
        counter(
            "roadstead_password_hashes",
            "Passwords hashed or compared; good logins are remembered for seconds and cost none",
            &metrics.password_hashes,
        );
        registry.register("roadstead_logins", "Logins with a password or a secret", metrics.logins.clone());
        registry.register(
            "roadstead_logins_waiting",
            "Logins that wait for a password to be compared",
            metrics.logins_waiting.clone(),
        );
        registry.register(
            "roadstead_uploads_running",
            "Upload bodies being received now",
            metrics.uploads_running.clone(),
        );
        registry.register(
            "roadstead_gc_braked",
            "1 while garbage collection refuses to remove as much as it finds",
            metrics.gc_braked.clone(),
        );
        metrics
    }

    /// Counts an upload body as running until the guard is dropped.
    pub(crate) fn upload_begins(&self) -> RunningUpload {
        self.uploads_running.inc();
        RunningUpload(self.uploads_running.clone())
    }
}

/// See [`Metrics::upload_begins`].
#[derive(Debug)]
pub(crate) struct RunningUpload(Gauge);

impl Drop for RunningUpload {
    fn drop(&mut self) {
        self.0.dec();
    }
}
