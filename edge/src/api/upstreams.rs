//! The upstreams over the operator API: how each is, as live traffic shows it, and asking one now.

use http::{Method, Request, Response, StatusCode};
use oci::{
    client::{Probe, RateLimit, StepName},
    http::{Body, RequestBody, front::rfc3339},
    route::Query,
};
use serde::Serialize;

use super::{json, problem::Problem};
use crate::{answer::Answerer, settings::Freshness, upstream::Upstream};

/// One of `/api/v1/upstreams`.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    url: &'a str,
    /// Names that say no registry mean this one.
    default: bool,
    /// `ok`, `unknown`, `silent`, `limited` or `failing`.
    state: &'static str,
    since: String,
    reason: Option<String>,
    freshness: Freshness,
    authenticated: bool,
    /// When it is asked again, where it is not asked now.
    retry_at: Option<String>,
    rate_limit: Option<Limit>,
}

/// What an upstream told of its rate limit.
#[derive(Serialize)]
struct Limit {
    limit: Option<u64>,
    remaining: Option<u64>,
    window_seconds: Option<u64>,
    seen: String,
}

/// `/api/v1/upstreams/probe`.
#[derive(Serialize)]
struct Probed<'a> {
    name: &'a str,
    steps: Vec<Step>,
    rate_limit: Option<Limit>,
    /// By how much the upstream's clock is ahead.
    clock_skew_seconds: Option<i64>,
}

#[derive(Serialize)]
struct Step {
    /// `resolve`, `connect`, `tls`, `version` or `authenticate`.
    step: &'static str,
    ok: bool,
    ms: f64,
    detail: String,
}

/// Answers a request to `/api/v1/upstreams/<path>`.
pub(super) async fn answer(
    answerer: &Answerer,
    path: &str,
    request: &Request<RequestBody>,
) -> Result<Response<Body>, Problem> {
    match (path, request.method()) {
        ("", &Method::GET) => list(answerer),
        ("probe", &Method::POST) => {
            let query = Query::parse(request.uri().query());
            let name = query.get("name").unwrap_or_default();
            // Only what is configured: an operator who is led to this path by somebody must not ask strangers.
            let upstream = answerer.upstreams.find(Some(name)).ok_or_else(|| {
                Problem::not_found(format!(
                    "{name:?} is no upstream of this edge; GET /api/v1/upstreams has them"
                ))
            })?;
            json(StatusCode::OK, &probed(&upstream.name, upstream.probe().await))
        }
        ("", _) => Err(Problem::method_not_allowed("GET")),
        ("probe", _) => Err(Problem::method_not_allowed("POST")),
        _ => Err(Problem::not_found(format!("there is nothing at {}", request.uri().path()))),
    }
}

fn list(answerer: &Answerer) -> Result<Response<Body>, Problem> {
    let mut upstreams: Vec<_> = answerer.upstreams.listed().collect();
    upstreams.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<_> =
        upstreams.iter().map(|upstream| shown(upstream, answerer.upstreams.is_default(upstream))).collect();
    json(StatusCode::OK, &shown)
}

fn shown(upstream: &Upstream, default: bool) -> Shown<'_> {
    let report = upstream.report();
    Shown {
        name: &upstream.name,
        url: upstream.url().as_str().trim_end_matches('/'),
        default,
        state: report.condition.as_str(),
        since: rfc3339(report.since),
        reason: report.reason,
        freshness: upstream.freshness,
        authenticated: upstream.is_authenticated,
        retry_at: report.retry_at.map(rfc3339),
        rate_limit: upstream.rate_limit().map(limit),
    }
}

fn limit(told: RateLimit) -> Limit {
    Limit {
        limit: told.limit,
        remaining: told.remaining,
        window_seconds: told.window.map(|window| window.as_secs()),
        seen: rfc3339(told.seen),
    }
}

fn probed(name: &str, probe: Probe) -> Probed<'_> {
    let steps = probe.steps.into_iter().map(|step| {
        let (ok, detail) = match step.outcome {
            Ok(detail) => (true, detail),
            Err(why) => (false, why),
        };
        let step_name = match step.name {
            StepName::Resolve => "resolve",
            StepName::Connect => "connect",
            StepName::Tls => "tls",
            StepName::Version => "version",
            StepName::Authenticate => "authenticate",
        };
        Step { step: step_name, ok, ms: step.took.as_secs_f64() * 1000.0, detail }
    });
    Probed {
        name,
        steps: steps.collect(),
        rate_limit: probe.rate_limit.map(limit),
        clock_skew_seconds: probe.clock_skew,
    }
}
