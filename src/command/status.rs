//! `roadstead status`: a node on one page.
//!
//! The node says how it is at `/api/v1/status` and `/readyz`, and how its upstreams are at `/api/v1/upstreams`. A node that
//! lacks one of the latter two is shown without it, and the page says so.

mod page;
pub(super) mod upstreams;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Verdict,
    api::{Api, CallError},
    cache::Stats,
};
use crate::cli::Access;
use upstreams::Upstream;

/// `/api/v1/status`, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) node: Node,
    #[serde(default)]
    pub(super) ready: bool,
    #[serde(default)]
    pub(super) checks: Vec<Check>,
    #[serde(default)]
    pub(super) cache: Stats,
    #[serde(default)]
    pub(super) downloads: Downloads,
    #[serde(default)]
    pub(super) served: Served,
    #[serde(default)]
    pub(super) registries: Vec<Registry>,
    #[serde(default)]
    pub(super) alarms: Vec<Alarm>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) version: String,
    pub(super) started: String,
    pub(super) uptime_seconds: u64,
}

/// A line of `/readyz`, or of `/api/v1/status`, which does not know since when.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) required: bool,
    pub(super) since: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Downloads {
    pub(super) running: u64,
    pub(super) list: Vec<Download>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Download {
    pub(super) digest: String,
    pub(super) repository: String,
    pub(super) bytes: u64,
    pub(super) bytes_total: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Served {
    pub(super) cache_bytes: u64,
    pub(super) upstream_bytes: u64,
    pub(super) hit_ratio: Option<f64>,
}

/// A registry that an edge stands in front of.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Registry {
    pub(super) name: String,
    pub(super) url: Option<String>,
    #[serde(default)]
    pub(super) default: bool,
}

/// Something that somebody should look at.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Alarm {
    pub(super) name: String,
    pub(super) severity: String,
    pub(super) message: String,
    pub(super) action: String,
}

/// `/readyz`.
#[derive(Debug, Deserialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) checks: Vec<Check>,
}

/// How the upstreams are, or why that is not known.
#[derive(Debug)]
pub(super) enum Upstreams {
    Known(Vec<Upstream>),
    Unknown(String),
}

/// A document with what of it is understood.
struct Read<T> {
    document: Value,
    understood: T,
}

pub(super) async fn status(access: &Access) -> anyhow::Result<Verdict> {
    let api = Api::open(access)?;
    let document: Value = api.get("/api/v1/status", &[]).await?;
    let mut status = Status::deserialize(&document)?;
    if let Ok(Readiness { ready, checks }) = readiness(&api).await {
        (status.ready, status.checks) = (ready, checks);
    }
    let upstreams = upstreams(&api).await;
    status.alarms.extend(upstreams::alarms(&upstreams.understood));
    if access.json {
        let mut document = document;
        document["ready"] = status.ready.into();
        document["checks"] = serde_json::to_value(&status.checks)?;
        document["alarms"] = serde_json::to_value(&status.alarms)?;
        document["upstreams"] = upstreams.document;
        super::page::print_json(&document)?;
    } else {
        super::page::print(&page::of(api.url(), &status, &upstreams.understood))?;
    }
    Ok(Verdict::Good)
}

/// `/readyz` answers 503 where the node is not ready, with the same document.
async fn readiness(api: &Api) -> Result<Readiness, CallError> {
    api.get_whatever("/readyz").await
}

async fn upstreams(api: &Api) -> Read<Upstreams> {
    match api.get::<Value>("/api/v1/upstreams", &[]).await {
        Ok(document) => match serde_json::from_value(document.clone()) {
            Ok(upstreams) => Read { document, understood: Upstreams::Known(upstreams) },
            Err(error) => {
                unknown(format!("what this node says of its upstreams cannot be understood: {error}"))
            }
        },
        Err(error) => {
            unknown(format!("this node does not tell how its upstreams are ({error}); its log does"))
        }
    }
}

fn unknown(why: String) -> Read<Upstreams> {
    Read { document: json!(null), understood: Upstreams::Unknown(why) }
}
