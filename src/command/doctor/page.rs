//! An examination, for people.

use std::fmt::Write as _;

use super::{Examination, finding::Level, pull::Pull};
use crate::command::{
    page::{Paint, painted},
    table::{Side, Table},
    words,
};

/// How much of a digest is shown.
const DIGEST_SHOWN: usize = "sha256:".len() + 12;

/// The page.
pub(super) fn of(examination: &Examination) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = write_page(&mut page, examination);
    page
}

fn write_page(page: &mut String, examination: &Examination) -> std::fmt::Result {
    writeln!(page, "{}", painted(Paint::Strong, examination.url.as_str()))?;
    for finding in &examination.findings {
        let level = match finding.level {
            Level::Ok => painted(Paint::Good, "ok  "),
            Level::Warn => painted(Paint::Warn, "warn"),
            Level::Fail => painted(Paint::Bad, "FAIL"),
        };
        writeln!(page, "  {level}  {:<9} {}", finding.check, finding.message)?;
        if let Some(action) = &finding.action {
            writeln!(page, "                  -> {action}")?;
        }
    }
    if let Some(pull) = &examination.pull {
        write_pull(page, pull)?;
    }
    let paint = match examination.level {
        Level::Ok => Paint::Good,
        Level::Warn => Paint::Warn,
        Level::Fail => Paint::Bad,
    };
    writeln!(page, "\n{}\n", painted(paint, &examination.verdict))?;
    if let Some(host) = examination.url.host_str().filter(|host| is_loopback(host))
        && !examination.files.is_empty()
    {
        writeln!(
            page,
            "These files name the edge as {host}, which it is on this machine only: --clients-use URL changes that.\n"
        )?;
    }
    for file in &examination.files {
        writeln!(page, "{}", painted(Paint::Strong, &format!("--- {} ({})", file.path, file.client)))?;
        if let Some(note) = &file.note {
            writeln!(page, "({note})")?;
        }
        writeln!(page, "{}", file.text)?;
    }
    Ok(())
}

fn write_pull(page: &mut String, pull: &Pull) -> std::fmt::Result {
    writeln!(page, "\n  pull of {}", pull.image)?;
    let mut table = Table::new(&[
        ("  STEP", Side::Left),
        ("DIGEST", Side::Left),
        ("FIRST BYTE", Side::Right),
        ("BYTES", Side::Right),
        ("RATE", Side::Right),
        ("WHERE FROM", Side::Left),
    ]);
    for step in &pull.steps {
        let digest = step.digest.as_deref().unwrap_or_default();
        let partly = if step.verified { "" } else { " (the beginning only)" };
        table.row([
            format!("  {}", step.step),
            digest.chars().take(DIGEST_SHOWN).collect(),
            words::ms(step.first_byte_ms),
            if step.bytes > 0 { words::size(step.bytes) } else { String::new() },
            step.bytes_per_second.map(|rate| format!("{:.1} MB/s", rate / 1e6)).unwrap_or_default(),
            format!("{}{partly}", step.meaning.as_deref().unwrap_or_default()),
        ]);
    }
    page.push_str(&table.text());
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
