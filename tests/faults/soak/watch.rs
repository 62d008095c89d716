//! Memory and open files of an edge over the time of a soak.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::harness::{
    node::Node,
    process::{PATIENCE, wait_for},
};

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// What resident memory may grow from a fifth of the time to the end: a share of it, and what an allocator keeps.
const MEMORY_SHARE: f64 = 1.25;
const MEMORY_SLACK: u64 = 16 << 20;

/// What open files may grow: connections of clients that happen to be there.
const FILES_SLACK: usize = 32;

/// An edge at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    memory: u64,
    files: usize,
}

/// What was seen of an edge.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    lasts: Duration,
    idle_files: usize,
    samples: Vec<Sample>,
}

impl Watch {
    pub(super) fn new(edge: &Node, lasts: Duration) -> Self {
        Self { began: Instant::now(), lasts, idle_files: files(edge), samples: Vec::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() > self.lasts
    }

    pub(super) fn look(&mut self, edge: &Node) {
        let at = self.began.elapsed();
        if self.samples.last().is_none_or(|last| at > last.at + EVERY) {
            self.samples.push(Sample { at, memory: edge.memory("VmRSS"), files: files(edge) });
        }
    }

    /// Panics where the edge has more than at a fifth of the time, or more open files than before it all.
    pub(super) fn assert_nothing_grew(&self, edge: &Node) {
        let [early, late] = [(0.15, 0.25), (0.9, 1.1)].map(|(from, to)| self.median(from, to));
        println!(
            "  memory: {} MiB at a fifth of the time, {} MiB at the end",
            early.memory >> 20,
            late.memory >> 20
        );
        println!(
            "  open files: {} idle, {} at a fifth of the time, {} at the end",
            self.idle_files, early.files, late.files
        );
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size in memory")]
        let allowed = (early.memory as f64 * MEMORY_SHARE) as u64 + MEMORY_SLACK;
        assert!(late.memory <= allowed, "{late:?}, {early:?}");
        assert!(late.files <= early.files + FILES_SLACK, "{late:?}, {early:?}");
        // Stalled clients are dropped after `limits.idle_timeout`, pooled connections to the upstream later.
        wait_for(&format!("{} open files become {}", files(edge), self.idle_files), PATIENCE, || {
            (files(edge) <= self.idle_files + FILES_SLACK).then_some(())
        });
    }

    /// The middle of what was seen between two shares of the time.
    fn median(&self, from: f64, to: f64) -> Sample {
        let within =
            |sample: &&Sample| (from..to).contains(&(sample.at.as_secs_f64() / self.lasts.as_secs_f64()));
        let mut samples: Vec<Sample> = self.samples.iter().filter(within).copied().collect();
        assert!(!samples.is_empty(), "nothing was seen between {from} and {to} of {:?}", self.lasts);
        let middle = samples.len() / 2;
        samples.sort_by_key(|sample| sample.files);
        let files = samples[middle].files;
        samples.sort_by_key(|sample| sample.memory);
        Sample { files, ..samples[middle] }
    }
}

fn files(edge: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", edge.pid())).expect("the edge runs").count()
}
