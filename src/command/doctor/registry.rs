//! What answers there: an edge, an origin, another registry, or something that is none; and its clock.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::finding::Findings;
use crate::command::{
    api::{Api, CallError},
    http::{Http, NoAnswer, at},
    status::Readiness,
    words,
};

/// How long a node may take to answer a question that costs it nothing.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Clocks may differ by so much before it is told: half of `auth.leeway`.
const SKEW: Duration = Duration::from_secs(5);

/// What a URL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Edge,
    Origin,
    /// One that is not of Roadstead.
    Registry,
    Unknown,
}

/// What a node says of itself.
#[derive(Debug, Deserialize)]
struct Node {
    role: String,
    #[serde(default)]
    name: String,
    version: String,
}

/// Asks who is there. `None` where it is no registry.
pub(super) async fn identify(http: &Http, api: &Api, url: &Url, findings: &mut Findings) -> Option<Kind> {
    let before = SystemTime::now();
    let answer = match http.get(&at(url, "/v2/", &[]), HeaderMap::new(), ANSWER).await {
        Ok(answer) => answer,
        Err(why) => {
            no_answer(url, &why, findings);
            return None;
        }
    };
    clock(&answer, before, findings);
    if !is_registry(url, &answer, findings) {
        return None;
    }
    let kind = who(http, api, url).await;
    match &kind {
        (Kind::Edge, told) => findings.ok("registry", format!("an edge of Roadstead{told}")),
        (Kind::Origin, told) => findings.ok("registry", format!("an origin of Roadstead{told}")),
        (Kind::Registry | Kind::Unknown, _) => {
            findings.ok(
                "registry",
                "a registry, not one of Roadstead: only the way to it and a pull can be looked at",
            );
        }
    }
    Some(kind.0)
}

fn no_answer(url: &Url, why: &NoAnswer, findings: &mut Findings) {
    let action = match why {
        NoAnswer::Silent(_) => {
            "see what the process behind this port does (its log, its load); clients hang here as well, unless \
             hosts.toml has a dial_timeout and another host"
        }
        NoAnswer::Unreachable(_) if url.scheme() == "http" => {
            "see what listens there: if it speaks TLS, write https://"
        }
        NoAnswer::Unreachable(_) => "see what listens there, and its log",
    };
    findings.fail("registry", format!("{url} gives no HTTP answer: {why}"), action);
}

fn is_registry(url: &Url, answer: &Response<Bytes>, findings: &mut Findings) -> bool {
    let kind =
        answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let marked = answer.headers().contains_key("docker-distribution-api-version");
    let html = kind.starts_with("text/html");
    match answer.status() {
        StatusCode::OK | StatusCode::UNAUTHORIZED if !html || marked => {
            if answer.status() == StatusCode::UNAUTHORIZED {
                findings.ok("registry", "it asks who is there, and says where a token is to be had");
            }
            true
        }
        status => {
            let what = if html { "a web page" } else { "no registry's answer" };
            findings.fail(
                "registry",
                format!("{url}v2/ answers {status} with {what}"),
                "is this the right address? A proxy or a portal in between answers like that as well",
            );
            false
        }
    }
}

/// What it is, and what it says of itself.
async fn who(http: &Http, api: &Api, url: &Url) -> (Kind, String) {
    match api.get::<Node>("/api/v1/node", &[]).await {
        Ok(Node { role, name, version }) => {
            let kind = if role == "origin" { Kind::Origin } else { Kind::Edge };
            return (kind, format!(": {name}, version {version}"));
        }
        // It is served to clients on the node itself only.
        Err(CallError::Refused { status: StatusCode::FORBIDDEN, .. }) => return (Kind::Edge, String::new()),
        Err(_) => {}
    }
    // An edge says what it is not where a registry would list its repositories.
    let catalog = http.get(&at(url, "/v2/_catalog", &[]), HeaderMap::new(), ANSWER).await;
    if catalog.is_ok_and(|answer| String::from_utf8_lossy(answer.body()).contains("a mirror has no catalog"))
    {
        return (Kind::Edge, String::new());
    }
    match api.get_whatever::<Readiness>("/readyz").await {
        Ok(readiness) if readiness.checks.iter().any(|check| check.name == "database") => {
            (Kind::Origin, String::new())
        }
        Ok(_) | Err(_) => (Kind::Registry, String::new()),
    }
}

/// Compares the clock of the other side with ours: the answer was written between the question and now.
fn clock(answer: &Response<Bytes>, before: SystemTime, findings: &mut Findings) {
    let date = answer
        .headers()
        .get(header::DATE)
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let Some(date) = date else { return };
    // It is told in whole seconds.
    let ahead = date.duration_since(SystemTime::now()).unwrap_or_default();
    let behind = before.duration_since(date + Duration::from_secs(1)).unwrap_or_default();
    let (skew, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if skew > SKEW {
        findings.warn(
            "clock",
            format!("its clock is {} {word} this machine's", words::span(skew)),
            "have both machines follow a time server (chrony, systemd-timesyncd): tokens and certificates are refused otherwise",
        );
    } else {
        findings.ok("clock", "its clock and this machine's agree");
    }
}
