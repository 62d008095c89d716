//! How an edge starts that holds a million blobs: how soon it is ready, how soon it serves one of them, how soon it knows
//! them all, and what it then takes of memory. Exit 1 where a goal is missed.
//!
//! `cargo bench --bench start`; `BLOBS=` makes it another number.

mod edge;
mod filling;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{edge::Edge, filling::Registry};

/// The goals for a million blobs.
const START: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(1);
const MEMORY: u64 = 300 << 20;

fn main() -> Result<ExitCode> {
    let blobs: u64 = match env::var("BLOBS") {
        Ok(text) => text.parse().context("BLOBS must be a number")?,
        Err(_) => 1_000_000,
    };
    let data = tempfile::tempdir()?;
    let registry = Registry::start(b"a blob that the edge has pulled")?;
    let mut edge = Edge::start(data.path(), registry.address)?;
    let path = format!("/v2/team/app/blobs/{}", registry.digest);
    ensure!(edge.get(&path)?.0 == 200, "the edge pulls");
    edge.waits_for_blobs(1)?;
    edge.ends()?;

    eprintln!("start: making {blobs} blobs");
    filling::fill(&data.path().join("blobs/sha256"), blobs)?;
    eprintln!("start: the edge takes them in");
    let mut edge = Edge::start(data.path(), registry.address)?;
    edge.waits_for_blobs(blobs + 1)?;
    edge.ends()?;

    let began = Instant::now();
    let mut edge = Edge::start(data.path(), registry.address)?;
    let ready = began.elapsed();
    let (status, length) = edge.get(&path)?;
    let served = began.elapsed();
    ensure!(status == 200 && length == registry.length, "it serves what it had: {status}");
    ensure!(registry.requests() == 1, "without asking for it again: {} requests", registry.requests());
    edge.waits_for_blobs(blobs + 1)?;
    let known = began.elapsed();
    let (resident, peak) = (edge.memory("VmRSS")?, edge.memory("VmHWM")?);
    println!("## Start with {blobs} blobs\n");
    println!("| what | measured | goal | met |\n|---|---|---|---|");
    let line = |what: &str, figure: String, goal: String, met: bool| {
        println!("| {what} | {figure} | {goal} | {} |", if met { "yes" } else { "**no**" });
    };
    let time = |what: &str, took: Duration, goal: Duration| {
        line(what, format!("{:.2} s", took.as_secs_f64()), format!("{goal:?}"), took < goal);
    };
    let bytes = |what: &str, taken: u64| {
        line(what, format!("{} MiB", taken >> 20), format!("{} MiB", MEMORY >> 20), taken < MEMORY);
    };
    time("ready", ready, READY);
    time("the first blob is served, from its row and its file", served, READY);
    time("all are known", known, START);
    bytes("resident memory then", resident);
    bytes("the most until then", peak);
    edge.ends()?;
    let holds = ready < READY && served < READY && known < START && peak < MEMORY;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
