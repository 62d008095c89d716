//! How an upstream is, as its answers to live traffic show it: the [`Breaker`] on this node's clock, what operators see, and
//! the log lines when that changes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use oci::client::{Failure, FetchError, Silence};

use super::breaker::{Breaker, Gate, Pauses, Refusal};

/// After so many answers in a row that were of no use the upstream is said to fail; or after the first, if it has never given
/// another. One that fails for a single repository does not.
const FAILING_AFTER: u32 = 3;

/// An upstream as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It answers.
    Ok,
    /// It was never asked.
    Unknown,
    /// It does not answer.
    Silent,
    /// It said 429, and is not asked for the time that it told.
    Limited,
    /// It answers, and nothing of use.
    Failing,
}

impl Condition {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Ok, Self::Unknown, Self::Silent, Self::Limited, Self::Failing];

    /// As metrics and the API call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Silent => "silent",
            Self::Limited => "limited",
            Self::Failing => "failing",
        }
    }
}

/// What is known of an upstream's health at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// How it is.
    pub(crate) condition: Condition,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Why it is not well.
    pub(crate) reason: Option<String>,
    /// When it is asked again, where it is not asked now.
    pub(crate) retry_at: Option<SystemTime>,
    /// Until when it is limited.
    pub(crate) limited_until: Option<SystemTime>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Health {
    name: Arc<str>,
    /// Nothing stands against asking: what a pull looks at first.
    well: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    /// What the last answers showed, not counting limits, which end by themselves.
    shown: Condition,
    since: SystemTime,
    reason: Option<String>,
    failures: u32,
    limited_since: SystemTime,
}

impl Health {
    /// Of an upstream that was never asked.
    pub(crate) fn new(name: Arc<str>, pauses: Pauses) -> Self {
        let inner = Inner {
            breaker: Breaker::new(pauses),
            shown: Condition::Unknown,
            since: SystemTime::now(),
            reason: None,
            failures: 0,
            limited_since: SystemTime::UNIX_EPOCH,
        };
        Self { name, well: AtomicBool::new(true), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be asked now.
    pub(crate) fn gate(&self) -> Gate {
        if self.well.load(Ordering::Relaxed) {
            return Gate::Ask;
        }
        self.inner().breaker.look(Instant::now())
    }

    /// Somebody is about to ask.
    ///
    /// # Errors
    /// It may not be asked.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.well.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner().breaker.admit(Instant::now())
    }

    /// It is not asked, because it does not answer.
    pub(crate) fn is_silent(&self) -> bool {
        !self.well.load(Ordering::Relaxed) && self.inner().breaker.is_silent()
    }

    /// A request that was sent at `began` has no answer within the budget.
    pub(crate) fn late(&self, began: Instant) {
        let mut inner = self.inner();
        inner.breaker.late(began);
        self.well.store(inner.breaker.is_well(), Ordering::Relaxed);
    }

    /// What came of a request that was sent at `began`. `None`: something of use.
    pub(crate) fn heard(&self, began: Instant, error: Option<&FetchError>) {
        let now = Instant::now();
        let mut inner = self.inner();
        let was_silent = inner.breaker.is_silent();
        match error {
            None | Some(FetchError::SaidNo) => inner.well(now),
            Some(FetchError::Failed(Failure::RateLimited { retry_after })) => {
                let was_limited = inner.breaker.limited_until(now).is_some();
                inner.breaker.limited(now, *retry_after);
                if let Some(until) = inner.breaker.limited_until(now).filter(|_| !was_limited) {
                    inner.limited_since = SystemTime::now();
                    tracing::warn!(upstream = %self.name, seconds = (until - now).as_secs(), "the upstream's rate limit is reached; it is left alone, and what is cached is served");
                }
            }
            // Nobody was asked.
            Some(
                FetchError::Silent(Silence::NotAsked { .. })
                | FetchError::Failed(Failure::Forbidden(_) | Failure::Credentials(_)),
            ) => return,
            Some(error @ FetchError::Failed(_)) => inner.failed(now, error),
            Some(error @ FetchError::Silent(_)) => {
                inner.breaker.unanswered(began, now);
                inner.show(Condition::Silent, Some(error.to_string()));
            }
        }
        let is_silent = inner.breaker.is_silent();
        self.well.store(inner.breaker.is_well(), Ordering::Relaxed);
        drop(inner);
        match (was_silent, is_silent) {
            (false, true) => {
                tracing::warn!(upstream = %self.name, "the upstream is silent; what is cached is served without waiting for it");
            }
            (true, false) => tracing::info!(upstream = %self.name, "the upstream answers again"),
            (true, true) | (false, false) => {}
        }
    }

    /// How it is now.
    pub(crate) fn report(&self) -> Report {
        let now = Instant::now();
        let inner = self.inner();
        let at = |instant: Instant| SystemTime::now() + instant.saturating_duration_since(now);
        let after = |pause: Duration| at(now + pause);
        let limited_until = inner.breaker.limited_until(now).map(at);
        let retry_at = match inner.breaker.look(now) {
            Gate::Ask | Gate::AskBehind => None,
            Gate::Refuse(Refusal::Limited { retry_after } | Refusal::Silent { retry_after }) => {
                Some(after(retry_after))
            }
        };
        if limited_until.is_some() {
            let reason = Some("it answered 429 Too Many Requests".to_owned());
            let condition = Condition::Limited;
            return Report { condition, since: inner.limited_since, reason, retry_at, limited_until };
        }
        Report {
            condition: inner.shown,
            since: inner.since,
            reason: inner.reason.clone(),
            retry_at,
            limited_until,
        }
    }
}

impl Inner {
    fn well(&mut self, now: Instant) {
        self.breaker.answered(now);
        self.failures = 0;
        self.show(Condition::Ok, None);
    }

    fn failed(&mut self, now: Instant, error: &FetchError) {
        self.breaker.answered(now);
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILING_AFTER || self.shown != Condition::Ok {
            self.show(Condition::Failing, Some(error.to_string()));
        }
    }

    fn show(&mut self, condition: Condition, reason: Option<String>) {
        if self.shown != condition {
            self.shown = condition;
            self.since = SystemTime::now();
        }
        self.reason = reason;
    }
}
