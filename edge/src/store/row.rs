//! What index and metadata tell each other of blobs.

use super::key::Key;

/// Seconds since the epoch.
pub(crate) type Seconds = u32;

/// What is kept of a blob beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) size: u64,
    /// When it was used last.
    pub(crate) used: Seconds,
    /// How often it was used of late.
    pub(crate) frequency: u8,
    /// When its bytes were last seen to have its digest.
    pub(crate) verified: Seconds,
}

/// Bytes by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) whole: u64,
    pub(crate) partial: u64,
    /// Promised to downloads.
    pub(crate) reserved: u64,
    pub(crate) quarantined: u64,
}

impl Held {
    pub(crate) fn total(self) -> u64 {
        self.whole + self.partial + self.reserved + self.quarantined
    }
}

/// What is to be written to the metadata.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) rows: Vec<Row>,
    pub(crate) gone: Vec<Key>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.gone.is_empty()
    }
}
