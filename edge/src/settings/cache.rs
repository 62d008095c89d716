//! The settings of the store.

use std::time::Duration;

use oci::settings::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The store of blobs.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// How many bytes of blobs are kept, partial ones included. By default 80 % of the file system of the data directory.
    pub capacity: Option<Size>,
    /// How many bytes of the file system are left alone. By default 5 % of it.
    pub keep_free: Option<Size>,
    /// How long a partial blob that nobody asks for again is kept, to be resumed. All of them go before a whole blob does
    /// when room is needed.
    pub keep_partial: Span,
    /// How long an image that nobody asks for is kept where there is room; its manifest and its tags too, which take no part
    /// in `capacity`. Pinned images stay.
    pub keep_images: Span,
    /// How many bytes a second are read again behind the pulls to see whether they still are what their digest says. What is
    /// damaged is set aside, and fetched again when it is asked for. 0: nothing is read again unless an operator asks.
    pub scrub_rate: Size,
    /// How long a blob that was seen to be right is not looked at again.
    pub scrub_interval: Span,
    /// How many bytes of damaged blobs are kept in `quarantine/` for somebody to look at; the oldest go first, and all of
    /// them before any other content when room is needed.
    pub quarantine: Size,
    /// How many bytes are held in reserve for the metadata, to be given up when the file system is full. A fiftieth of the
    /// file system at the most.
    pub metadata_reserve: Size,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            capacity: None,
            keep_free: None,
            keep_partial: Span(Duration::from_secs(24 * 3600)),
            keep_images: Span(Duration::from_secs(180 * 24 * 3600)),
            scrub_rate: Size::mib(20),
            scrub_interval: Span(Duration::from_secs(30 * 24 * 3600)),
            quarantine: Size::mib(1024),
            metadata_reserve: Size::mib(16),
        }
    }
}
