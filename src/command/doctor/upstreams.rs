//! The upstreams of an edge, each tried by the edge itself, step by step.

use serde::Deserialize;

use super::finding::Findings;
use crate::command::{
    api::{Api, CallError},
    status::{
        Registry,
        upstreams::{RateLimit, State, Upstream},
    },
    words,
};

/// A step that takes longer is called slow.
const SLOW_MS: f64 = 1000.0;
/// Clocks may differ by so much, in seconds.
const SKEW_SECONDS: f64 = 5.0;
/// With less than this share of its requests left, a registry is about to refuse.
const FEW_LEFT: u64 = 10;

/// What an edge found out about one upstream.
#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default)]
    steps: Vec<Step>,
    rate_limit: Option<RateLimit>,
    clock_skew_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    ok: bool,
    ms: Option<f64>,
    detail: Option<String>,
}

pub(super) async fn examine(api: &Api, registries: &[Registry], findings: &mut Findings) {
    let upstreams: Vec<Upstream> = match api.get("/api/v1/upstreams", &[]).await {
        Ok(upstreams) => upstreams,
        Err(error) => {
            let names: Vec<&str> = registries.iter().map(|registry| registry.name.as_str()).collect();
            let why = match error {
                CallError::NoApi { .. } => "an edge of this version does not tell".to_owned(),
                CallError::Refused { detail, .. } => detail,
                error @ (CallError::Unreachable { .. } | CallError::Unreadable { .. }) => error.to_string(),
            };
            findings.ok(
                "upstream",
                format!("it stands in front of {}; how they are is not known: {why}", names.join(", ")),
            );
            return;
        }
    };
    for upstream in &upstreams {
        state(upstream, findings);
        match api.post::<Probe>("/api/v1/upstreams/probe", &[("name", &upstream.name)], None).await {
            Ok(probe) => tell(upstream, &probe, findings),
            Err(error) => findings.warn(
                "upstream",
                format!("{} could not be tried: {error}", upstream.name),
                "look into the edge's log, and run this again",
            ),
        }
    }
}

/// How it was met by the pulls of late; whether it is well now is found out by the probe.
fn state(upstream: &Upstream, findings: &mut Findings) {
    let reason = upstream.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let since =
        upstream.since.as_deref().map(|since| format!(" since {}", words::ago(since))).unwrap_or_default();
    match upstream.state {
        State::Ok | State::Unknown => {}
        State::Limited => {
            let until =
                upstream.retry_at.as_deref().map(|at| format!("; it is asked again {}", words::ago(at)));
            findings.warn(
                "upstream",
                format!(
                    "{} limits how often it is asked{since}{reason}{}",
                    upstream.name,
                    until.unwrap_or_default()
                ),
                format!(
                    "cached images are served; give the edge an account there (upstream.{0:?}.username and \
                     .password_file), or a longer upstream.{0:?}.freshness",
                    upstream.name
                ),
            );
        }
        State::Silent | State::Failing => findings.warn(
            "upstream",
            format!("pulls have found {} {}{since}{reason}", upstream.name, upstream.state.word()),
            "cached images are served meanwhile; the steps below say whether it is so now",
        ),
    }
}

fn tell(upstream: &Upstream, probe: &Probe, findings: &mut Findings) {
    let name = &upstream.name;
    if let Some(broken) = probe.steps.iter().find(|step| !step.ok) {
        let detail = broken.detail.as_deref().unwrap_or("no reason was told");
        findings.fail(
            "upstream",
            format!("{name}: {} fails: {detail}; what is not cached cannot be pulled", told(&broken.step)),
            action(&broken.step, upstream),
        );
    } else {
        let times =
            probe.steps.iter().filter_map(|step| Some(format!("{} {}", step.step, words::ms(step.ms?))));
        let who = match upstream.authenticated {
            Some(true) => ", with the account of upstream settings",
            Some(false) => ", anonymously",
            None => "",
        };
        findings.ok("upstream", format!("{name} is well{who}: {}", times.collect::<Vec<_>>().join(", ")));
    }
    for step in probe.steps.iter().filter(|step| step.ok && step.ms.is_some_and(|ms| ms > SLOW_MS)) {
        findings.warn(
            "upstream",
            format!("{name}: {} took {}", told(&step.step), words::ms(step.ms.unwrap_or_default())),
            "what is cached does not wait for it; a longer freshness asks it less often",
        );
    }
    limit(name, probe.rate_limit.as_ref().or(upstream.rate_limit.as_ref()), findings);
    if let Some(skew) = probe.clock_skew_seconds.filter(|skew| skew.abs() > SKEW_SECONDS) {
        findings.warn(
            "clock",
            format!("the clocks of the edge and of {name} are {skew:.0} seconds apart"),
            "have the edge follow a time server (chrony, systemd-timesyncd): tokens and certificates are refused otherwise",
        );
    }
}

fn limit(name: &str, limit: Option<&RateLimit>, findings: &mut Findings) {
    let Some(told) = limit.and_then(RateLimit::told) else { return };
    let few = limit.and_then(|limit| Some(limit.remaining? * 100 < limit.limit? * FEW_LEFT)).unwrap_or(false);
    if few {
        findings.warn(
            "upstream",
            format!("{name}: {told}"),
            format!("give the edge an account there: upstream.{name:?}.username and .password_file"),
        );
    } else {
        findings.ok("upstream", format!("{name}: {told}"));
    }
}

fn told(step: &str) -> &str {
    match step {
        "resolve" => "resolving its name",
        "connect" => "connecting",
        "tls" => "TLS",
        "version" => "asking for the registry's version",
        "authenticate" => "logging in",
        other => other,
    }
}

fn action(step: &str, upstream: &Upstream) -> String {
    let Upstream { name, url, .. } = upstream;
    let url = url.as_deref().unwrap_or("its address");
    match step {
        "resolve" => {
            format!("look at DNS on the edge: getent ahosts for the host of {url}, and /etc/resolv.conf")
        }
        "connect" => format!("see that {url} runs, and look at route and firewall between the edge and it"),
        "tls" => {
            format!("give the authority's certificate as upstream.{name:?}.ca, and look at the edge's clock")
        }
        "version" => {
            format!("is {url} a registry, or does a proxy or portal answer? Correct upstream.{name:?}.url")
        }
        "authenticate" => {
            format!("renew upstream.{name:?}.username and .password_file, and see that the account may pull")
        }
        _ => "look into the edge's log".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::doctor::finding::Level;

    fn found(probe: serde_json::Value) -> Vec<(Level, String)> {
        let upstream: Upstream =
            serde_json::from_value(json!({"name": "r.example", "url": "https://r.example"})).expect("one");
        let probe: Probe = serde_json::from_value(probe).expect("a probe");
        let mut findings = Findings::default();
        tell(&upstream, &probe, &mut findings);
        findings
            .all()
            .into_iter()
            .map(|finding| (finding.level, finding.message + &finding.action.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_step_that_fails_says_what_to_do_and_a_slow_one_is_told() {
        let steps = json!([{"step": "resolve", "ok": true, "ms": 1.0}, {"step": "connect", "ok": true, "ms": 1500.0, "detail": null},
            {"step": "tls", "ok": false, "ms": 3.0, "detail": "unknown issuer"}]);
        let told = found(
            json!({"name": "r.example", "steps": steps, "rate_limit": null, "clock_skew_seconds": -70}),
        );
        assert_eq!(
            told.iter().map(|(level, _)| *level).collect::<Vec<_>>(),
            [Level::Fail, Level::Warn, Level::Warn]
        );
        assert!(told[0].1.contains("unknown issuer") && told[0].1.contains(".ca"), "{told:?}");
        assert!(told[1].1.contains("1.50 s"), "{told:?}");
        assert!(told[2].1.contains("70 seconds apart"), "{told:?}");
    }

    #[test]
    fn a_limit_that_is_nearly_used_up_is_a_warning() {
        let left = |remaining: u64| {
            found(json!({"steps": [], "rate_limit": {"limit": 100, "remaining": remaining, "seen": null}}))
        };
        assert_eq!(left(9)[1].0, Level::Warn);
        assert_eq!(left(10)[1].0, Level::Ok);
    }
}
