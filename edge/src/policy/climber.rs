//! How large the window should be: learnt by hill climbing on the hit ratio.
//!
//! After a sample of requests the window is moved by a step; where the hit ratio rose, on in the same direction, else back.
//! Steps become smaller until the load changes.

use super::Asked;

/// Requests in a sample, for each entry that is held.
const SAMPLE_PER_ENTRY: u64 = 10;
/// The smallest sample.
const MIN_SAMPLE: u64 = 1000;
/// The first step, in parts of 10,000 of the capacity.
const FIRST_STEP: f64 = 0.0625;
/// What remains of a step at the next one.
const DECAY: f64 = 0.98;
/// A hit ratio that moves by this much between two samples is another load: begin with large steps again.
const RESTART: f64 = 0.05;

/// See the module.
#[derive(Debug)]
pub(super) struct Climber {
    capacity: f64,
    hits: u64,
    requests: u64,
    last_ratio: f64,
    step: f64,
}

impl Climber {
    pub(super) fn new(capacity: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a share of it is wanted")]
        let capacity = capacity as f64;
        Self { capacity, hits: 0, requests: 0, last_ratio: 0.0, step: FIRST_STEP * capacity }
    }

    /// Counts a request; at the end of a sample, by how much the window should change.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a ratio, and a share of a capacity"
    )]
    pub(super) fn count(&mut self, asked: Asked, entries: usize) -> Option<i64> {
        self.requests += 1;
        self.hits += u64::from(asked == Asked::Hit);
        if self.requests < (entries as u64 * SAMPLE_PER_ENTRY).max(MIN_SAMPLE) {
            return None;
        }
        let ratio = self.hits as f64 / self.requests as f64;
        let change = ratio - self.last_ratio;
        let move_by = if change >= 0.0 { self.step } else { -self.step };
        self.step = if change.abs() >= RESTART {
            (FIRST_STEP * self.capacity).copysign(move_by)
        } else {
            DECAY * move_by
        };
        (self.last_ratio, self.hits, self.requests) = (ratio, 0, 0);
        Some(move_by as i64)
    }
}
