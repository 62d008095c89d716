//! What an edge says of its own state: checks, upstreams, store. Its API answers on the node itself only; from elsewhere that is
//! said, and where to look instead.

use serde::Deserialize;
use serde_json::Value;

use super::{finding::Findings, upstreams};
use crate::command::{
    api::{Api, CallError},
    cache::Image,
    status::{Readiness, Registry, Status},
    words,
};

/// Above this a disk is slow for a store: every blob that is kept is synced once.
const SLOW_FSYNC_MS: f64 = 200.0;
/// The same for writing or reading one mebibyte.
const SLOW_MEBIBYTE_MS: f64 = 100.0;

/// What is known of an edge from its API.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) registries: Vec<Registry>,
    /// A whole image that was used lately.
    pub(super) image: Option<String>,
}

/// A measurement of the disk.
#[derive(Deserialize)]
struct Probed {
    bytes: u64,
    write_ms: f64,
    fsync_ms: f64,
    read_ms: f64,
}

/// `/readyz`.
pub(super) async fn readiness(api: &Api, findings: &mut Findings) {
    let Ok(readiness) = api.get_whatever::<Readiness>("/readyz").await else {
        findings.ok("ready", "it shows no checks here (admin.listen puts them elsewhere; --api names that)");
        return;
    };
    for check in &readiness.checks {
        let since = check.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        let why = check.message.as_deref().unwrap_or("it does not say why");
        let action =
            "look into the node's log (journalctl -u roadstead-edge), and at the disk of its data directory";
        match (check.state.as_str(), check.required) {
            ("ok", _) => findings.ok("ready", format!("its check {} is good{since}", check.name)),
            (_, true) => {
                findings.fail("ready", format!("its check {} fails{since}: {why}", check.name), action)
            }
            (_, false) => {
                findings.warn("ready", format!("its check {} fails{since}: {why}", check.name), action)
            }
        }
    }
}

/// Upstreams and store, where the API is reachable from here.
pub(super) async fn examine(api: &Api, findings: &mut Findings) -> Known {
    let status: Status = match api.get("/api/v1/status", &[]).await {
        Ok(status) => status,
        Err(error) => {
            closed(&error, findings);
            return Known::default();
        }
    };
    upstreams::examine(api, &status.registries, findings).await;
    space(&status, findings);
    disk(api, findings).await;
    for alarm in &status.alarms {
        findings.warn("store", alarm.message.clone(), alarm.action.clone());
    }
    Known { registries: status.registries, image: image(api).await }
}

fn closed(error: &CallError, findings: &mut Findings) {
    let message = match error {
        CallError::Refused { detail, .. } => format!("upstreams and store cannot be looked at from here: {detail}"),
        CallError::Unreachable { .. } | CallError::NoApi { .. } | CallError::Unreadable { .. } => {
            "upstreams and store cannot be looked at: the node's API is not at this address; --api names another".to_owned()
        }
    };
    findings.ok("store", format!("{message}; run `roadstead doctor` on the node itself for them"));
}

fn space(status: &Status, findings: &mut Findings) {
    let cache = &status.cache;
    let free = cache.free.map_or_else(|| "an unknown number of bytes".to_owned(), words::size);
    findings.ok(
        "store",
        format!(
            "{} of {} used by {} blobs; the file system has {free} left",
            words::size(cache.bytes),
            words::size(cache.capacity),
            cache.blobs
        ),
    );
}

async fn disk(api: &Api, findings: &mut Findings) {
    let probed: Probed = match api.post("/api/v1/store/probe", &[], None).await {
        Ok(probed) => probed,
        Err(error @ CallError::NoApi { .. }) => {
            findings.ok("store", format!("its disk cannot be measured: {error}"));
            return;
        }
        Err(error) => {
            findings.fail(
                "store",
                format!("its disk cannot be measured: {error}"),
                "look at the disk of the data directory: df -h, df -i, dmesg",
            );
            return;
        }
    };
    let Probed { bytes, write_ms, fsync_ms, read_ms } = probed;
    let [write, fsync, read] = [write_ms, fsync_ms, read_ms].map(words::ms);
    let told =
        format!("its disk wrote {} in {write}, synced it in {fsync}, read it in {read}", words::size(bytes));
    if fsync_ms > SLOW_FSYNC_MS || write_ms > SLOW_MEBIBYTE_MS || read_ms > SLOW_MEBIBYTE_MS {
        findings.warn(
            "store",
            format!("{told}, which is slow"),
            "see what else uses that disk (iostat -x 1, iotop); put the data directory on a local SSD",
        );
    } else {
        findings.ok("store", told);
    }
}

/// The whole image that was used last.
async fn image(api: &Api) -> Option<String> {
    let listed: Value = api.get("/api/v1/cache", &[]).await.ok()?;
    let images: Vec<Image> = serde_json::from_value(listed).ok()?;
    let whole = images.into_iter().filter(|image| image.complete);
    // RFC 3339 in UTC sorts as it reads.
    whole.max_by(|a, b| a.last_used.cmp(&b.last_used)).map(|image| image.image)
}
