//! What was found at one step, and the verdict over all of them.

use serde::Serialize;
use url::Url;

use super::pull::Pull;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// Pulls work, and something is slow, or about to fail.
    Warn,
    /// Pulls fail, all or some.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at: `name`, `connect`, `tls`, `registry`, `ready`, `upstream`, `store`, `clock`, `pull`.
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    /// What to do about it; always there where the level is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<String>,
}

/// All of them, in the order of the way.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// As it should be.
    pub(super) fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Ok, message: message.into(), action: None });
    }

    /// Slow, or about to fail.
    pub(super) fn warn(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        action: impl Into<String>,
    ) {
        self.0.push(Finding {
            check,
            level: Level::Warn,
            message: message.into(),
            action: Some(action.into()),
        });
    }

    /// Broken.
    pub(super) fn fail(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        action: impl Into<String>,
    ) {
        self.0.push(Finding {
            check,
            level: Level::Fail,
            message: message.into(),
            action: Some(action.into()),
        });
    }

    pub(super) fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    pub(super) fn all(self) -> Vec<Finding> {
        self.0
    }

    /// One sentence for all of it.
    pub(super) fn verdict(&self, url: &Url, pulled: Option<&Pull>) -> String {
        let first = |level| self.0.iter().find(|finding| finding.level == level);
        let whole = pulled.is_some_and(|pull| pull.whole);
        match (first(Level::Fail), first(Level::Warn)) {
            (Some(found), _) if whole => {
                format!("a pull through {url} worked just now, and others will not: {}", found.message)
            }
            (Some(found), _) => format!("a pull through {url} fails: {}", found.message),
            (None, Some(found)) => {
                format!("a pull through {url} works, with a reservation: {}", found.message)
            }
            (None, None) if whole => format!("a pull through {url} works"),
            (None, None) => format!("nothing speaks against a pull through {url}; none was tried"),
        }
    }
}
