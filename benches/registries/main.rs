//! Roadstead measured against docker-registry, Distribution 3 and nginx, all started here, in the same run.
//! Prints one table of figures, ratios and goals and one of memory, and writes both to `benches/RESULTS.md`.
//! Exit 1 where something could not be measured, or where a hit is slower than a miss; a missed goal is only shown.
//!
//! `cargo bench --bench registries` runs all groups of rows; `… -- push cold` some of them, and writes no file then.

mod blob;
mod cold;
mod hits;
mod machine;
mod manifests;
mod node;
mod peers;
mod push;
mod registry;
mod relay;
mod report;
mod rounds;
mod together;
mod warm;
mod wire;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::blob::Filling;
use crate::peers::Peers;
use crate::report::{Report, save};
use crate::rounds::Row;

pub(crate) const GIB: u64 = 1 << 30;

/// A group of rows that share servers.
type Group = fn(&Peers, &Filling) -> Result<Vec<Row>>;

const GROUPS: [(&str, Group); 6] = [
    ("push", push::rows),
    ("warm", warm::rows),
    ("cold", cold::rows),
    ("together", together::rows),
    ("manifests", manifests::rows),
    ("hits", hits::rows),
];

fn main() -> Result<ExitCode> {
    // `cargo bench` itself passes `--bench`.
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    for name in &wanted {
        ensure!(GROUPS.iter().any(|(group, _)| group == name), "no group of rows is called {name}");
    }
    let (peers, filling) = (Peers::find()?, Filling::new());
    let mut report = Report::default();
    for (name, rows) in
        GROUPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
    {
        report.add(name, rows(&peers, &filling));
    }
    let text = report.markdown("make bench")?;
    println!("{text}");
    if wanted.is_empty() {
        save(&text)?;
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Megabytes (10^6 bytes) a second.
pub(crate) fn speed(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}
