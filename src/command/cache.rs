//! `roadstead cache`: what an edge holds, pins, eviction, verification.

mod pin;
mod verify;

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Verdict,
    api::Api,
    page,
    table::{Side, Table},
    words,
};
use crate::cli::{Access, CacheCommand};

/// An image as an edge lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) image: String,
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) partial_bytes: u64,
    pub(super) bytes_total: u64,
    pub(super) blobs: usize,
    pub(super) blobs_whole: usize,
    pub(super) last_used: Option<String>,
    pub(super) hits: u64,
    pub(super) pinned: bool,
    pub(super) complete: bool,
}

/// How much of a digest is shown in a table: enough to tell images apart, and to find the whole one with `--json`.
const DIGEST_SHOWN: usize = "sha256:".len() + 12;

pub(super) async fn run(command: CacheCommand) -> anyhow::Result<Verdict> {
    match command {
        CacheCommand::Ls { access } => ls(&access).await,
        CacheCommand::Stats { access } => stats(&access).await,
        CacheCommand::Pin { access, image, wait } => {
            let then = if wait { pin::Then::Wait } else { pin::Then::Return };
            pin::pin(&access, &image, then).await
        }
        CacheCommand::Unpin { access, image } => {
            Api::open(&access)?.delete("/api/v1/cache/pins", &[("image", &image)]).await?;
            said(
                &access,
                &json!({"image": image, "pinned": false}),
                &format!("{image} is not pinned any more\n"),
            )
        }
        CacheCommand::Evict { access, image } => evict(&access, &image).await,
        CacheCommand::Verify { access } => verify::verify(&access).await,
    }
}

/// The document for programs, or the page for people.
fn said(access: &Access, document: &Value, page: &str) -> anyhow::Result<Verdict> {
    if access.json {
        page::print_json(document)?
    } else {
        page::print(page)?
    }
    Ok(Verdict::Good)
}

async fn ls(access: &Access) -> anyhow::Result<Verdict> {
    let document: Value = Api::open(access)?.get("/api/v1/cache", &[]).await?;
    if access.json {
        page::print_json(&document)?;
        return Ok(Verdict::Good);
    }
    let images: Vec<Image> = serde_json::from_value(document)?;
    if images.is_empty() {
        page::tell("this edge holds no image yet");
        return Ok(Verdict::Good);
    }
    let mut table = Table::new(&[
        ("IMAGE", Side::Left),
        ("DIGEST", Side::Left),
        ("SIZE", Side::Right),
        ("HERE", Side::Left),
        ("LAST USED", Side::Left),
        ("HITS", Side::Right),
        ("PINNED", Side::Left),
    ]);
    for image in &images {
        table.row([
            image.image.clone(),
            image.digest.chars().take(DIGEST_SHOWN).collect(),
            words::size(image.bytes_total),
            here(image),
            image.last_used.as_deref().map_or_else(|| "never".to_owned(), words::ago),
            image.hits.to_string(),
            if image.pinned { "yes" } else { "" }.to_owned(),
        ]);
    }
    page::print(&table.text())?;
    Ok(Verdict::Good)
}

/// How much of an image is here.
fn here(image: &Image) -> String {
    match (image.complete, image.blobs) {
        (true, _) => "complete".to_owned(),
        // An index of which no image was pulled.
        (false, 0) => "manifest only".to_owned(),
        (false, _) => {
            let there = image.bytes + image.partial_bytes;
            format!("partial, {}", words::percent(there.min(image.bytes_total), image.bytes_total))
        }
    }
}

/// What the table of `stats` is made of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) capacity: u64,
    pub(super) keep_free: u64,
    pub(super) free: Option<u64>,
    pub(super) bytes: u64,
    pub(super) whole_bytes: u64,
    pub(super) partial_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) quarantined_bytes: u64,
    pub(super) blobs: u64,
    pub(super) partial_blobs: u64,
    pub(super) pinned_blobs: u64,
    pub(super) pinned_bytes: u64,
    pub(super) evictions: u64,
    pub(super) evicted_bytes: u64,
    pub(super) scrubbed_bytes: u64,
    pub(super) loading: bool,
}

async fn stats(access: &Access) -> anyhow::Result<Verdict> {
    let document: Value = Api::open(access)?.get("/api/v1/cache/stats", &[]).await?;
    if access.json {
        page::print_json(&document)?;
    } else {
        page::print(&serde_json::from_value::<Stats>(document)?.lines(""))?;
    }
    Ok(Verdict::Good)
}

impl Stats {
    /// The figures, a line each, behind `indent`.
    pub(super) fn lines(&self, indent: &str) -> String {
        let size = words::size;
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{indent}{name:<12}{what}");
        };
        let share = words::percent(self.bytes, self.capacity);
        line("used", format!("{} of {} ({share})", size(self.bytes), size(self.capacity)));
        line("whole", format!("{} in {} blobs", size(self.whole_bytes), self.blobs));
        line("partial", format!("{} in {} blobs", size(self.partial_bytes), self.partial_blobs));
        line("reserved", format!("{} for downloads that run", size(self.reserved_bytes)));
        line("quarantine", format!("{} of damaged blobs, set aside", size(self.quarantined_bytes)));
        line("pinned", format!("{} in {} blobs", size(self.pinned_bytes), self.pinned_blobs));
        let free = self.free.map_or_else(|| "unknown".to_owned(), size);
        line("disk free", format!("{free}, of which {} are left alone", size(self.keep_free)));
        line("evicted", format!("{} in {} blobs since the start", size(self.evicted_bytes), self.evictions));
        line("scrubbed", format!("{} since the start", size(self.scrubbed_bytes)));
        if self.loading {
            line("loading", "the index of an earlier life is still being read; the figures grow".to_owned());
        }
        text
    }
}

/// What became of an eviction.
#[derive(Deserialize)]
struct Freed {
    bytes: u64,
}

async fn evict(access: &Access, image: &str) -> anyhow::Result<Verdict> {
    let named = json!({"image": image});
    let document: Value = Api::open(access)?.post("/api/v1/cache/evict", &[], Some(&named)).await?;
    let Freed { bytes } = Freed::deserialize(&document)?;
    said(access, &document, &format!("{image} is gone: {} freed\n", words::size(bytes)))
}
