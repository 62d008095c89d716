//! Roadstead measured against docker-registry, Distribution 3, nginx and a bare hyper server, all started here, in the same
//! run.
//! Prints one table of figures, ratios and goals and one of memory, and writes both to `benches/RESULTS.md`.
//! Exit 1 where something could not be measured, or where a hit is slower than a miss; a missed goal is only shown.
//!
//! `cargo bench --bench registries` runs all groups of rows; `… -- push cold` some of them, and writes no file then.

mod bare;
mod blob;
mod cold;
mod crowd;
mod goals;
mod hits;
mod loopback;
mod machine;
mod manifests;
mod node;
mod peers;
mod push;
mod registry;
mod relay;
mod report;
mod rounds;
mod small;
mod stock;
mod tls;
mod tls_warm;
mod together;
mod warm;
mod wire;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::blob::Filling;
use crate::peers::Peers;
use crate::report::{Extent, Report, save};
use crate::rounds::Row;
use crate::stock::Stock;

/// The bare server under test must not lose to ours for the allocator that it has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) const GIB: u64 = 1 << 30;

/// What groups of rows are made with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) peers: Peers,
    pub(crate) filling: Filling,
    pub(crate) stock: Stock,
}

/// A group of rows that share servers.
type Group = fn(&Bench) -> Result<Vec<Row>>;

const GROUPS: [(&str, Group); 10] = [
    ("push", |bench| push::rows(&bench.peers, &bench.filling)),
    ("warm", |bench| warm::rows(&bench.peers, &bench.filling)),
    ("tls", |bench| tls_warm::rows(&bench.peers, &bench.filling)),
    ("manifests", |bench| manifests::rows(&bench.peers, &bench.filling)),
    ("small", |bench| small::rows(&bench.peers, &bench.filling)),
    ("cold", cold::rows),
    ("loopback", loopback::rows),
    ("together", together::rows),
    ("crowd", |bench| crowd::rows(&bench.peers, &bench.filling)),
    ("hits", |bench| hits::rows(&bench.peers, &bench.filling)),
];

fn main() -> Result<ExitCode> {
    if env::args().nth(1).as_deref() == Some(bare::COMMAND) {
        return bare::serve(env::args_os().nth(2).context("a directory")?.into());
    }
    // `cargo bench` itself passes `--bench`.
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    for name in &wanted {
        ensure!(GROUPS.iter().any(|(group, _)| group == name), "no group of rows is called {name}");
    }
    let bench = Bench { peers: Peers::find()?, filling: Filling::new(), stock: Stock::default() };
    let mut report = Report::default();
    for (name, rows) in
        GROUPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
    {
        let begun = Instant::now();
        report.add(name, rows(&bench));
        eprintln!("[{name}: {:.0} s]", begun.elapsed().as_secs_f64());
    }
    let extent = if wanted.is_empty() { Extent::Whole } else { Extent::Some };
    let text = report.markdown("make bench", extent)?;
    println!("{text}");
    if extent == Extent::Whole {
        save(&text)?;
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Megabytes (10^6 bytes) a second.
pub(crate) fn speed(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}
