//! How the demo speaks: steps, claims that were checked, one table at the end.

use std::{fmt::Display, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::registry::Pulled;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) time: Duration,
    /// Moved between the registry and its clients.
    pub(crate) bytes: u64,
    pub(crate) came_from: String,
    pub(crate) upstream: String,
}

/// Tells the story and remembers whether all of it was true.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: usize,
    broken: usize,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn step(&mut self, title: impl Display) {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
    }

    pub(crate) fn claim(&mut self, holds: bool, claim: impl Display) {
        println!("   {} {claim}", if holds { "✓" } else { "✗ NOT TRUE:" });
        self.broken += usize::from(!holds);
    }

    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table and the verdict; tells whether every claim held.
    pub(crate) fn finish(&self) -> bool {
        let head = ["what", "time", "MB/s", "where the blobs came from", "over the upstream link"]
            .map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| {
            let speed = row.bytes as f64 / 1e6 / row.time.as_secs_f64();
            [
                row.what.to_owned(),
                seconds(row.time),
                format!("{speed:.0}"),
                row.came_from.clone(),
                row.upstream.clone(),
            ]
        }));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        println!();
        for (number, [what, time, speed, came_from, upstream]) in lines.iter().enumerate() {
            let [a, b, c, d, _] = widths;
            println!("   {what:a$}   {time:>b$}   {speed:>c$}   {came_from:d$}   {upstream}");
            if number == 0 {
                println!("   {}", widths.map(|width| "─".repeat(width)).join("   "));
            }
        }
        println!();
        match self.broken {
            0 => println!("Every claim above was checked, and every one held."),
            1 => println!("One claim above did NOT hold."),
            more => println!("{more} claims above did NOT hold."),
        }
        self.broken == 0
    }
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A bar on a terminal, nothing where standard error is something else.
pub(crate) fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "   {bar:40} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

/// How the blobs of some pulls were answered, counted from their `Cache-Status`: `"6 from the edge"`.
pub(crate) fn answers(pulls: &[Pulled]) -> String {
    let sources: Vec<_> =
        pulls.iter().flat_map(|pull| &pull.blob_statuses).map(|status| source(status)).collect();
    let count = |kind: &str| sources.iter().filter(|source| **source == kind).count();
    [ORIGIN, JOINED, EDGE, UNKNOWN]
        .into_iter()
        .filter(|kind| count(kind) > 0)
        .map(|kind| format!("{} {kind}", count(kind)))
        .collect::<Vec<_>>()
        .join(", ")
}

const ORIGIN: &str = "from the origin";
const JOINED: &str = "joined a download";
const EDGE: &str = "from the edge";
const UNKNOWN: &str = "from nobody knows where";

/// What a `Cache-Status` (RFC 9211) says of its last member, which is the edge that the client spoke to.
fn source(status: &str) -> &'static str {
    let member = status.rsplit(',').next().unwrap_or_default();
    let has = |parameter: &str| member.split(';').any(|part| part.trim() == parameter);
    if has("collapsed") {
        JOINED
    } else if has("hit") {
        EDGE
    } else if has("fwd=miss") {
        ORIGIN
    } else {
        UNKNOWN
    }
}
