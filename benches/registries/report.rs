//! The table: on the terminal and in `benches/RESULTS.md`, the same text.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::machine::describe;
use crate::rounds::{Footprint, Row};

const MIB: f64 = 1_048_576.0;

/// What a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// Some groups of rows.
    Some,
}

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// Rows that could not be measured, with the reason.
    broken: Vec<(String, String)>,
}

impl Report {
    /// Keeps what a group of rows gave.
    pub(crate) fn add(&mut self, group: &str, rows: Result<Vec<Row>>) {
        match rows {
            Ok(rows) => self.rows.extend(rows),
            Err(error) => {
                eprintln!("{group}: {error:#}");
                self.broken.push((group.to_owned(), format!("{error:#}")));
            }
        }
    }

    /// Whether everything was measured and no hit was slower than a miss.
    pub(crate) fn holds(&self) -> bool {
        let verdicts = self.rows.iter().flat_map(|row| {
            row.figures.iter().flat_map(move |f| f.goals.iter().map(move |goal| row.judge(f, goal)))
        });
        self.broken.is_empty() && verdicts.into_iter().all(|verdict| verdict.met || !verdict.must)
    }

    /// The whole report as Markdown.
    pub(crate) fn markdown(&self, command: &str, extent: Extent) -> Result<String> {
        let mut text = String::from("# Measured against other registries\n\n");
        writeln!(text, "{}\n", describe(command)?)?;
        text.push_str(HOW);
        text.push_str("\n## Figures\n\n| what | who | median | range | ratio | goal | met |\n|---|---|--:|--:|--:|--:|---|\n");
        for row in &self.rows {
            figures(&mut text, row)?;
        }
        let missed = self.rows.iter().filter(|row| row.misses());
        for (row, limit) in missed.filter_map(|row| Some((row, row.limit.as_ref()?))) {
            writeln!(text, "\nMissed: *{}*. {limit}", row.title)?;
        }
        if extent == Extent::Whole {
            text.push_str(&a_million_blobs());
        }
        text.push_str("\n## Memory and processor time of each node\n\n| what | node | resident, peak | resident, after | processor a round |\n|---|---|--:|--:|--:|\n");
        for row in &self.rows {
            for footprint in &row.footprints {
                footprint_line(&mut text, &row.title, footprint)?;
            }
        }
        for (group, error) in &self.broken {
            writeln!(text, "\nNot measured: {group}: {error}")?;
        }
        Ok(text)
    }
}

/// Writes the report where the repository keeps it.
pub(crate) fn save(text: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// How an edge starts with a million blobs, which `benches/run` has measured just before and written to STORE.md.
fn a_million_blobs() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/STORE.md");
    let store = fs::read_to_string(path).unwrap_or_default();
    let section = store.split("\n## ").find(|section| section.starts_with("Start with"));
    section.map_or(String::new(), |section| format!("\n## {}\n", section.trim_end()))
}

const HOW: &str = "\
All servers run in the same run on loopback, each in its own directory, and take turns round by round. The load side\n\
throws bodies away inside the kernel and so costs little; it shares the machine's cores with the servers. Every image\n\
and blob is first pulled once and compared with what was pushed. A ratio is the median of the rounds' ratios, with its\n\
range behind it: samples that follow each other meet the same noise. Without a goal it is to the row's first line.\n\
The second table tells what each process took; the rest of the machine should be near zero there, else something else\n\
was running and the figures are worth little (writing to disk is the kernel's own work and counts there too).\n";

fn figures(text: &mut String, row: &Row) -> Result<()> {
    let base = row.figures.first().map(|first| first.name);
    for (at, figures) in row.figures.iter().enumerate() {
        let (median, unit) = (figures.median(), row.unit);
        let range = format!("{} - {}", unit.show(figures.least()), unit.show(figures.most()));
        let start = format!(
            "| {} | {} | {} | {range} |",
            if at == 0 { &row.title } else { "" },
            figures.name,
            unit.show(median)
        );
        if figures.goals.is_empty() {
            let ratio = base.filter(|_| at > 0).map(|name| row.show_ratio(figures, name)).unwrap_or_default();
            writeln!(text, "{start} {ratio} | | |")?;
        }
        for goal in &figures.goals {
            let verdict = row.judge(figures, goal);
            writeln!(
                text,
                "{start} {} | {} | {} |",
                verdict.ratio,
                verdict.goal,
                if verdict.met { "yes" } else { "**no**" }
            )?;
        }
    }
    Ok(())
}

fn footprint_line(text: &mut String, title: &str, footprint: &Footprint) -> Result<()> {
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB);
    let (peak, now) =
        footprint.memory.map_or_else(Default::default, |m| (mebibytes(m.peak), mebibytes(m.now)));
    writeln!(text, "| {title} | {} | {peak} | {now} | {:.2} s |", footprint.node, footprint.processor)?;
    Ok(())
}
