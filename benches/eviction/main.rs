//! How many pulls a cache of a given size answers by itself, by who has to leave it: LRU, moka's W-TinyLFU, and the edge's
//! own policy, on the same trace of registry pulls. Prints a table; nothing is timed, so a busy machine does not matter.
//!
//! `cargo bench --bench eviction`; `SEED=` and `PULLS=` make another trace.

mod caches;
mod trace;

use std::env;

use anyhow::{Context as _, Result};

use crate::caches::{Cache, Lru, Moka, Ours, Tally};
use crate::trace::{Event, Trace};

/// Parts of all bytes of the trace that a cache may hold, in percent.
const CAPACITIES: [u64; 4] = [2, 5, 10, 25];

fn main() -> Result<()> {
    let seed = number("SEED", 1)?;
    let trace = Trace::generate(seed, usize::try_from(number("PULLS", 60_000)?)?);
    println!("## Hit ratios by who has to leave\n");
    println!(
        "Trace: seed {seed}, {} pulls of {} images, {} requests for {} blobs of {:.0} GB. Zipf over the images of a datacenter, \
         shared base layers, releases that take the place of others, one-off CI pulls, scans; clients that have base layers \
         already do not ask for them.\n",
        trace.pulls,
        trace.images.len(),
        trace.requests(),
        trace.blobs.len(),
        trace.bytes() as f64 / 1e9
    );
    println!("| capacity | policy | requests hit | bytes hit |\n|---|---|---|---|");
    for percent in CAPACITIES {
        let capacity = trace.bytes() / 100 * percent;
        row(percent, "LRU", run(&trace, Lru::new(capacity)));
        row(percent, "moka 0.12 (W-TinyLFU)", run(&trace, Moka::new(capacity)));
        row(percent, "edge, blobs alone", run(&trace, Ours::new(capacity, caches::Images::Ignored)));
        row(
            percent,
            "edge, as it is: a manifest favours its blobs",
            run(&trace, Ours::new(capacity, caches::Images::Favoured)),
        );
    }
    Ok(())
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} must be a number")),
        Err(_) => Ok(default),
    }
}

/// Plays the whole trace.
fn run(trace: &Trace, mut cache: impl Cache) -> Tally {
    let mut tally = Tally::default();
    for event in &trace.events {
        match *event {
            Event::Manifest(image) => cache.manifest(&trace.images[image]),
            Event::Blob(blob) => {
                let size = trace.blobs[blob];
                tally.count(size, cache.ask(blob, size));
            }
        }
    }
    tally
}

fn row(percent: u64, policy: &str, tally: Tally) {
    println!("| {percent} % | {policy} | {:.1} % | {:.1} % |", tally.requests_hit(), tally.bytes_hit());
}
