//! The page for people.

use std::{fmt::Write as _, time::Duration};

use url::Url;

use super::{Download, Status, Upstreams};
use crate::command::{
    page::{Paint, painted},
    words,
};

/// How many downloads are listed.
const DOWNLOADS_SHOWN: usize = 10;
/// How much of a digest is shown.
const DIGEST_SHOWN: usize = "sha256:".len() + 12;

/// The page.
pub(super) fn of(url: &Url, status: &Status, upstreams: &Upstreams) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = write_page(&mut page, url, status, upstreams);
    page
}

fn write_page(page: &mut String, url: &Url, status: &Status, upstreams: &Upstreams) -> std::fmt::Result {
    let node = &status.node;
    let ready = if status.ready { painted(Paint::Good, "ready") } else { painted(Paint::Bad, "not ready") };
    let up = words::span(Duration::from_secs(node.uptime_seconds));
    writeln!(page, "{} at {url}: {ready}", painted(Paint::Strong, &node.name))?;
    writeln!(page, "  {} of version {}, up for {up} (since {})", node.role, node.version, node.started)?;

    title(page, "checks")?;
    for check in &status.checks {
        let state =
            if check.state == "ok" { painted(Paint::Good, "ok    ") } else { painted(Paint::Bad, "failed") };
        let since = check.since.as_deref().map(|since| format!("since {since}")).unwrap_or_default();
        let optional = if check.required || check.state == "ok" { "" } else { " (it serves all the same)" };
        let why = check.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        writeln!(page, "  {:<12}{state} {since}{optional}{why}", check.name)?;
    }

    title(page, "cache")?;
    page.push_str(&status.cache.lines("  "));
    match status.served.hit_ratio {
        Some(ratio) => writeln!(
            page,
            "  hit ratio   {:.1} % of bytes: {} from the cache, {} as they came from upstream",
            ratio * 100.0,
            words::size(status.served.cache_bytes),
            words::size(status.served.upstream_bytes)
        )?,
        None => writeln!(page, "  hit ratio   nothing was served yet")?,
    }

    title(page, "downloads")?;
    writeln!(page, "  {} running", status.downloads.running)?;
    for download in status.downloads.list.iter().take(DOWNLOADS_SHOWN) {
        writeln!(page, "  {}", download_line(download))?;
    }

    title(page, "upstreams")?;
    write_upstreams(page, status, upstreams)?;

    title(page, "alarms")?;
    if status.alarms.is_empty() {
        writeln!(page, "  none")?;
    }
    for alarm in &status.alarms {
        let paint = if alarm.severity == "critical" { Paint::Bad } else { Paint::Warn };
        writeln!(page, "  {} {}", painted(paint, &alarm.severity), alarm.message)?;
        writeln!(page, "    -> {}", alarm.action)?;
    }
    Ok(())
}

fn title(page: &mut String, title: &str) -> std::fmt::Result {
    writeln!(page, "\n{}", painted(Paint::Strong, title))
}

fn download_line(download: &Download) -> String {
    let digest: String = download.digest.chars().take(DIGEST_SHOWN).collect();
    let bytes = words::size(download.bytes);
    let of = match download.bytes_total {
        Some(total) => {
            format!("{bytes} of {} ({})", words::size(total), words::percent(download.bytes, total))
        }
        None => bytes,
    };
    format!("{digest} of {}: {of}", download.repository)
}

fn write_upstreams(page: &mut String, status: &Status, upstreams: &Upstreams) -> std::fmt::Result {
    let marked =
        |name: &str, default: bool| if default { format!("{name} (default)") } else { name.to_owned() };
    match upstreams {
        Upstreams::Known(upstreams) => {
            for upstream in upstreams {
                let paint = if alarming(upstream.state) { Paint::Warn } else { Paint::Good };
                let name = marked(&upstream.name, upstream.default);
                let state = painted(paint, upstream.state.word());
                let url = upstream.url.as_deref().unwrap_or_default();
                let detail = upstream.detail();
                let comma = if detail.is_empty() { "" } else { ", " };
                writeln!(page, "  {name} at {url}: {state}{comma}{detail}")?;
            }
        }
        Upstreams::Unknown(why) => {
            for registry in &status.registries {
                let name = marked(&registry.name, registry.default);
                writeln!(page, "  {name} at {}", registry.url.as_deref().unwrap_or("?"))?;
            }
            writeln!(page, "  {why}")?;
        }
    }
    Ok(())
}

fn alarming(state: super::upstreams::State) -> bool {
    use super::upstreams::State;
    match state {
        State::Ok | State::Unknown => false,
        State::Silent | State::Limited | State::Failing => true,
    }
}
