//! The upstreams of an edge as it meets them, and what to do about those that are not well.

use serde::Deserialize;

use super::{Alarm, Upstreams};
use crate::command::words;

/// One of `/api/v1/upstreams`.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::command) struct Upstream {
    pub(in crate::command) name: String,
    pub(in crate::command) url: Option<String>,
    #[serde(default)]
    pub(in crate::command) default: bool,
    #[serde(default)]
    pub(in crate::command) state: State,
    pub(in crate::command) since: Option<String>,
    pub(in crate::command) reason: Option<String>,
    #[serde(default)]
    pub(in crate::command) authenticated: Option<bool>,
    pub(in crate::command) retry_at: Option<String>,
    pub(in crate::command) rate_limit: Option<RateLimit>,
}

/// How it answered last.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::command) enum State {
    Ok,
    Silent,
    /// It wants to be asked less.
    Limited,
    Failing,
    /// It was not asked yet.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a registry says that it will still answer.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::command) struct RateLimit {
    pub(in crate::command) limit: Option<u64>,
    pub(in crate::command) remaining: Option<u64>,
    pub(in crate::command) seen: Option<String>,
}

impl State {
    pub(in crate::command) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "not asked yet",
            Self::Silent => "silent",
            Self::Limited => "limited",
            Self::Failing => "failing",
        }
    }
}

impl Upstream {
    /// Since when, until when and why, as far as it is known.
    pub(super) fn detail(&self) -> String {
        let since = self.since.as_deref().map(|since| format!("since {} ({since})", words::ago(since)));
        let until = self.retry_at.as_deref().map(|at| format!("asked again {} ({at})", words::ago(at)));
        let limit = self.rate_limit.as_ref().and_then(RateLimit::told);
        let parts = [since, until, self.reason.clone(), limit];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

impl RateLimit {
    /// `98 of 100 requests left`.
    pub(in crate::command) fn told(&self) -> Option<String> {
        let (limit, remaining) = (self.limit?, self.remaining?);
        let seen = self.seen.as_deref().map(|seen| format!(", as of {}", words::ago(seen)));
        Some(format!("{remaining} of {limit} requests left{}", seen.unwrap_or_default()))
    }
}

/// One for each upstream that is not well.
pub(super) fn alarms(upstreams: &Upstreams) -> Vec<Alarm> {
    match upstreams {
        Upstreams::Known(upstreams) => upstreams.iter().filter_map(alarm).collect(),
        Upstreams::Unknown(_) => Vec::new(),
    }
}

fn alarm(upstream: &Upstream) -> Option<Alarm> {
    let (name, action) = match upstream.state {
        State::Ok | State::Unknown => return None,
        State::Silent => (
            "upstream_silent",
            "what is cached is served without waiting for it; look at network, DNS and firewall between this node and \
             it, or run `roadstead doctor` here, which tries each step",
        ),
        State::Limited => (
            "upstream_limited",
            "what is cached is served; give the edge an account there (upstream.<name>.username, .password_file), or \
             a longer freshness, so that it asks less",
        ),
        State::Failing => (
            "upstream_failing",
            "what is cached is served; run `roadstead doctor` on this node: it says which step fails",
        ),
    };
    let detail = upstream.detail();
    let since = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    Some(Alarm {
        name: name.to_owned(),
        severity: "warning".to_owned(),
        message: format!("the upstream {} is {}{since}", upstream.name, upstream.state.word()),
        action: action.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_edge_says_of_upstreams_is_understood_with_and_without_every_field() {
        let said = json!([
            {"name": "docker.io", "url": "https://registry-1.docker.io", "default": true, "state": "limited",
             "since": "2026-01-01T00:00:00Z", "reason": "429", "freshness": "60s", "authenticated": false,
             "retry_at": "2026-01-01T00:10:00Z", "rate_limit": {"limit": 100, "remaining": 0, "seen": null}},
            {"name": "r.example", "state": "something new"},
            {"name": "q.example", "state": "ok", "since": null, "rate_limit": null},
        ]);
        let upstreams: Vec<Upstream> = serde_json::from_value(said).expect("understood");
        assert_eq!(upstreams[1].state, State::Unknown);
        let found = alarms(&Upstreams::Known(upstreams));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "upstream_limited");
        assert!(found[0].message.contains("docker.io") && found[0].message.contains("0 of 100"), "{found:?}");
    }
}
