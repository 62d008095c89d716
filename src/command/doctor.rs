//! `roadstead doctor`: goes the way of a pull step by step, and says of each whether it works, what is slow, and what to do.
//!
//! Works against edges, origins, other registries, and against nothing: every wait has a deadline of seconds. Nothing is
//! changed, but that an edge writes and removes a small file to measure its disk, and keeps what is pulled through it.

mod certificate;
mod client;
mod files;
mod finding;
mod node;
mod page;
mod pull;
mod reach;
mod registry;
mod tls;
mod token;
mod upstreams;

use serde::Serialize;
use url::Url;

use super::{Verdict, api::Api, http::Http, session::Session};
use crate::cli::DoctorFlags;
use files::ClientFile;
use finding::{Finding, Findings, Level};
use pull::Pull;
use registry::Kind;

/// What was found out about one URL.
#[derive(Debug, Serialize)]
struct Examination {
    url: Url,
    kind: Kind,
    /// The worst of the findings.
    level: Level,
    /// One sentence.
    verdict: String,
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pull: Option<Pull>,
    /// What lets clients use this edge.
    files: Vec<ClientFile>,
}

/// The document for programs.
#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    examinations: &'a [Examination],
}

pub(super) async fn doctor(flags: DoctorFlags) -> anyhow::Result<Verdict> {
    let http = Http::new(flags.ca.as_deref())?;
    let mut examinations = Vec::new();
    for url in &flags.urls {
        let examination = examine(&flags, &http, url).await?;
        if !flags.json {
            super::page::print(&page::of(&examination))?;
        }
        examinations.push(examination);
    }
    let ok = examinations.iter().all(|examination| examination.level != Level::Fail);
    if flags.json {
        super::page::print_json(&Document { ok, examinations: &examinations })?;
    }
    Ok(if ok { Verdict::Good } else { Verdict::Bad })
}

async fn examine(flags: &DoctorFlags, http: &Http, url: &Url) -> anyhow::Result<Examination> {
    let mut findings = Findings::default();
    let (mut kind, mut pulled, mut files) = (Kind::Unknown, None, Vec::new());
    if way_is_open(flags, url, &mut findings).await? {
        let session = Session::open(Some(flags.api.as_ref().unwrap_or(url)))?;
        let api = Api::new(http.clone(), session);
        if let Some(found) = registry::identify(http, &api, url, &mut findings).await {
            kind = found;
            let known = match kind {
                Kind::Edge => node::examine(&api, &mut findings).await,
                Kind::Origin | Kind::Registry | Kind::Unknown => node::Known::default(),
            };
            if matches!(kind, Kind::Edge | Kind::Origin) {
                node::readiness(&api, &mut findings).await;
            }
            pulled = pull::pull(http, url, flags.image.as_deref(), &known, kind, &mut findings).await;
            if kind == Kind::Edge {
                let clients_use = flags.clients_use.as_ref().unwrap_or(url);
                files = files::for_clients(clients_use, flags.ca.as_deref(), &known.registries);
            }
        }
    }
    let (level, verdict) = (findings.worst(), findings.verdict(url, pulled.as_ref()));
    Ok(Examination { url: url.clone(), kind, level, verdict, findings: findings.all(), pull: pulled, files })
}

/// Name, connection and TLS. Whether it makes sense to go on.
async fn way_is_open(flags: &DoctorFlags, url: &Url, findings: &mut Findings) -> anyhow::Result<bool> {
    let Some(address) = reach::reach(url, findings).await else { return Ok(false) };
    if url.scheme() != "https" {
        return Ok(true);
    }
    tls::shake_hands(url, address, flags.ca.as_deref(), findings).await
}
