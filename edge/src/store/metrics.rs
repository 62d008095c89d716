//! What the store counts.
//!
//! These hold at any moment that nothing changes:
//! - `roadstead_cache_bytes` is the sum of `roadstead_cache_state_bytes` over its states;
//! - `roadstead_cache_blobs` is the sum of `roadstead_cache_blobs_added_total` less that of
//!   `roadstead_cache_blobs_removed_total`;
//! - `roadstead_cache_evictions_total` is `roadstead_cache_blobs_removed_total{why="evicted"}`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::row::Held;

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct HowLabel {
    how: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct WhyLabel {
    why: &'static str,
}

/// How a blob came to be in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Added {
    Fetched,
    /// It was here when the node started.
    Loaded,
}

/// Why a blob is no longer in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Removed {
    /// It made room.
    Evicted,
    /// An operator said so.
    Dismissed,
    /// Its bytes were wrong.
    Damaged,
    /// Its file was not there.
    Missing,
    /// It was fetched again while it was there.
    Replaced,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    bytes: Gauge,
    blobs: Gauge,
    states: [Gauge; 4],
    added: Family<HowLabel, Counter>,
    removed: Family<WhyLabel, Counter>,
    /// Blobs that made room for others.
    pub(crate) evictions: Counter,
    /// Their bytes.
    pub(crate) evicted_bytes: Counter,
    /// Blobs whose stored bytes were wrong.
    pub(crate) quarantined: Counter,
    /// Bytes read again to see whether they are right.
    pub(crate) scrubbed_bytes: Counter,
    /// Times that the metadata had to use the space held in reserve.
    pub(crate) reserve_used: Counter,
}

impl StoreMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let states: Family<StateLabel, Gauge> = Family::default();
        let state = |state| states.get_or_create(&StateLabel { state }).clone();
        let metrics = Self {
            bytes: Gauge::default(),
            blobs: Gauge::default(),
            states: ["whole", "partial", "reserved", "quarantined"].map(state),
            added: Family::default(),
            removed: Family::default(),
            evictions: Counter::default(),
            evicted_bytes: Counter::default(),
            quarantined: Counter::default(),
            scrubbed_bytes: Counter::default(),
            reserve_used: Counter::default(),
        };
        let mut one =
            |name: &str, help: &str, metric: &Counter| registry.register(name, help, metric.clone());
        one("roadstead_cache_evictions", "Blobs that made room for others", &metrics.evictions);
        one(
            "roadstead_cache_evicted_bytes",
            "Bytes of blobs that made room for others",
            &metrics.evicted_bytes,
        );
        one("roadstead_cache_quarantined", "Blobs whose stored bytes were wrong", &metrics.quarantined);
        one(
            "roadstead_cache_scrubbed_bytes",
            "Stored bytes read again to see whether they are right",
            &metrics.scrubbed_bytes,
        );
        one(
            "roadstead_metadata_reserve_used",
            "Times that the metadata met a full disk and used the space held in reserve",
            &metrics.reserve_used,
        );
        registry.register(
            "roadstead_cache_bytes",
            "Bytes of the store: whole blobs, partial ones, what is promised to downloads, what is in quarantine",
            metrics.bytes.clone(),
        );
        registry.register("roadstead_cache_state_bytes", "The same, by what they are", states);
        registry.register("roadstead_cache_blobs", "Whole blobs in the store", metrics.blobs.clone());
        registry.register(
            "roadstead_cache_blobs_added",
            "Blobs that came into the store: fetched, or loaded at the start",
            metrics.added.clone(),
        );
        registry.register(
            "roadstead_cache_blobs_removed",
            "Blobs that left the store: evicted, dismissed, damaged, missing, replaced",
            metrics.removed.clone(),
        );
        metrics
    }

    /// Shows what there is.
    pub(super) fn publish(&self, held: Held, blobs: usize) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let by_state = [held.whole, held.partial, held.reserved, held.quarantined];
        for (shown, bytes) in self.states.iter().zip(by_state) {
            shown.set(gauge(bytes));
        }
        self.bytes.set(gauge(held.total()));
        self.blobs.set(gauge(blobs as u64));
    }

    /// Counts blobs that came.
    pub(super) fn added(&self, how: Added, blobs: u64) {
        let how = match how {
            Added::Fetched => "fetched",
            Added::Loaded => "loaded",
        };
        self.added.get_or_create(&HowLabel { how }).inc_by(blobs);
    }

    /// Counts a blob that went.
    pub(super) fn removed(&self, why: Removed, bytes: u64) {
        let why = match why {
            Removed::Evicted => {
                self.evictions.inc();
                self.evicted_bytes.inc_by(bytes);
                "evicted"
            }
            Removed::Damaged => {
                self.quarantined.inc();
                "damaged"
            }
            Removed::Dismissed => "dismissed",
            Removed::Missing => "missing",
            Removed::Replaced => "replaced",
        };
        self.removed.get_or_create(&WhyLabel { why }).inc();
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.get()
    }

    /// What is wrong with the identities, by this look at them.
    #[cfg(test)]
    pub(crate) fn contradiction(&self) -> Option<String> {
        let sum: i64 = self.states.iter().map(Gauge::get).sum();
        let added: u64 =
            ["fetched", "loaded"].iter().map(|how| self.added.get_or_create(&HowLabel { how }).get()).sum();
        let why = |why| self.removed.get_or_create(&WhyLabel { why }).get();
        let removed: u64 =
            ["evicted", "dismissed", "damaged", "missing", "replaced"].into_iter().map(why).sum();
        let blobs = u64::try_from(self.blobs.get()).expect("not negative");
        let holds =
            sum == self.bytes.get() && added - removed == blobs && self.evictions.get() == why("evicted");
        (!holds).then(|| format!("{sum} {} bytes, {added} - {removed} = {blobs} blobs", self.bytes.get()))
    }
}
