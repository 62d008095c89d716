//! `roadstead cache verify`: has an edge read all that it holds, and says what was damaged.

use std::fmt::Write as _;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::{
    cli::Access,
    command::{
        Verdict,
        api::Api,
        page,
        progress::{ASKED_EVERY, Progress},
        words,
    },
};

/// How far a verification is.
#[derive(Debug, Deserialize, Serialize)]
struct Report {
    running: bool,
    checked: u64,
    total: u64,
    bytes_checked: u64,
    bytes_total: u64,
    damaged: Vec<String>,
    #[serde(default)]
    damaged_images: Vec<String>,
    finished: Option<String>,
}

pub(super) async fn verify(access: &Access) -> anyhow::Result<Verdict> {
    let api = Api::open(access)?;
    let mut report: Report = api.post("/api/v1/cache/verify", &[], None).await?;
    let mut progress = Progress::begin("verifying");
    // What makes room meanwhile is not read, and what comes is: the last figures need not be those of the beginning.
    while report.running {
        progress.at(report.bytes_checked, report.bytes_total, &blobs(&report));
        tokio::time::sleep(ASKED_EVERY).await;
        report = api.get("/api/v1/cache/verify", &[]).await?;
    }
    // Asked once more: which images need the damaged blobs is told at the end.
    let report: Report = api.get("/api/v1/cache/verify", &[]).await?;
    progress.end(report.bytes_checked, report.bytes_total, &blobs(&report));
    if report.finished.is_none() {
        bail!("the edge does not tell how the verification ended: was it restarted? Run it again");
    }
    if access.json {
        page::print_json(&report)?
    } else {
        page::print(&summary(&report))?
    }
    Ok(if report.damaged.is_empty() { Verdict::Good } else { Verdict::Bad })
}

fn blobs(report: &Report) -> String {
    format!("{} of {} blobs", report.checked, report.total)
}

fn summary(report: &Report) -> String {
    let read = format!("{} blobs, {} were read", report.checked, words::size(report.bytes_checked));
    if report.damaged.is_empty() {
        return format!("{read}: every one is what its digest says\n");
    }
    let mut text = format!("{read}: {} damaged, set aside and not served any more\n", report.damaged.len());
    for digest in &report.damaged {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {digest}");
    }
    if report.damaged_images.is_empty() {
        text.push_str("no image that is known here needs them\n");
    } else {
        text.push_str(
            "images that need them, and get them anew from upstream at the next pull (at once if pinned):\n",
        );
        for image in &report.damaged_images {
            let _ = writeln!(text, "  {image}");
        }
    }
    text.push_str("look at the disk: its log (dmesg), its health (smartctl), its cables\n");
    text
}
