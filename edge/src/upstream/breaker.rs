//! Whether an upstream may be asked now: a pure decision from how it answered of late.
//!
//! It is *silent* when its last requests cost time and brought nothing, and *limited* when it said 429. While it is either,
//! nobody asks it. Silence ends by itself: when a pause is over one request of the live traffic goes through; if that brings
//! nothing the next pause is twice as long. A failure that comes at once, such as a refused connection, costs nothing to
//! meet again and is no silence.

use std::time::{Duration, Instant};

/// A failure that comes sooner costs nobody anything worth saving.
const COSTS_NOTHING: Duration = Duration::from_millis(50);
/// How long an upstream that says 429 and not for how long is left alone at first; doubles with each.
const LIMITED: Duration = Duration::from_secs(10);
/// The shortest time that a 429 counts.
const LIMITED_LEAST: Duration = Duration::from_secs(1);

/// How long to leave an upstream alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    /// Time spent in vain after which it counts as silent.
    pub(crate) budget: Duration,
    /// After that.
    pub(crate) first: Duration,
    /// After many.
    pub(crate) longest: Duration,
    /// After a 429, whatever it says.
    pub(crate) longest_limited: Duration,
}

/// Whether to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Ask.
    Ask,
    /// Ask, but let nobody wait for it who can be served otherwise.
    AskBehind,
    /// Do not ask.
    Refuse(Refusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is silent.
    Silent {
        /// How long until it may be asked again.
        retry_after: Duration,
    },
    /// It said 429.
    Limited {
        /// How long until it may be asked again.
        retry_after: Duration,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    pauses: Pauses,
    state: State,
    /// When it last answered, whatever it said.
    heard: Option<Instant>,
    /// Time spent in vain since then.
    wasted: Duration,
    limited_until: Option<Instant>,
    /// How often in a row it said 429.
    limits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It answers.
    Well,
    /// It is late with an answer, and may still give it.
    Late,
    /// It is silent.
    Silent { since: Instant, pause: Duration, until: Instant },
}

impl Breaker {
    /// Nothing is known: it may be asked.
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self {
            pauses,
            state: State::Well,
            heard: None,
            wasted: Duration::ZERO,
            limited_until: None,
            limits: 0,
        }
    }

    /// Whether it may be asked.
    pub(crate) fn look(&self, now: Instant) -> Gate {
        if let Some(until) = self.limited_until.filter(|until| now < *until) {
            return Gate::Refuse(Refusal::Limited { retry_after: until - now });
        }
        match self.state {
            State::Well => Gate::Ask,
            State::Late => Gate::AskBehind,
            State::Silent { until, .. } if now < until => {
                Gate::Refuse(Refusal::Silent { retry_after: until - now })
            }
            State::Silent { .. } => Gate::AskBehind,
        }
    }

    /// Somebody is about to ask. The first one after a pause goes through; the others wait for the next pause to end, in
    /// case nothing is ever heard of that one.
    ///
    /// # Errors
    /// It may not be asked.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Refusal> {
        if let Gate::Refuse(refusal) = self.look(now) {
            return Err(refusal);
        }
        if let State::Silent { until, pause, .. } = &mut self.state {
            *until = now + *pause;
        }
        Ok(())
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.heard = Some(now);
        self.wasted = Duration::ZERO;
        self.state = State::Well;
        if self.limited_until.is_some_and(|until| until <= now) {
            self.limited_until = None;
            self.limits = 0;
        }
    }

    /// It said 429, and after which time to come again, if it did. It is left alone for so long, within bounds.
    pub(crate) fn limited(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.heard = Some(now);
        self.wasted = Duration::ZERO;
        self.state = State::Well;
        // Answers to requests that went out together count once.
        if self.limited_until.is_none_or(|until| until <= now) {
            self.limits = self.limits.saturating_add(1);
        }
        let untold = LIMITED.saturating_mul(2_u32.saturating_pow(self.limits.saturating_sub(1)));
        let pause = retry_after.unwrap_or(untold).max(LIMITED_LEAST).min(self.pauses.longest_limited);
        self.limited_until = self.limited_until.max(Some(now + pause));
    }

    /// A request that was sent at `began` has no answer within the budget, and may still get one.
    pub(crate) fn late(&mut self, began: Instant) {
        if self.state == State::Well && self.heard.is_none_or(|heard| heard < began) {
            self.state = State::Late;
        }
    }

    /// A request that was sent at `began` has no answer, and gets none.
    pub(crate) fn unanswered(&mut self, began: Instant, now: Instant) {
        // Others were answered meanwhile: it is that request's trouble.
        if self.heard.is_some_and(|heard| heard >= began) {
            return;
        }
        let took = now.saturating_duration_since(began);
        match self.state {
            // One of those that showed the silence; it shows it no better.
            State::Silent { since, .. } if began < since => {}
            _ if took < COSTS_NOTHING => self.state = State::Well,
            State::Silent { since, pause, .. } => {
                let pause = pause.saturating_mul(2).min(self.pauses.longest);
                self.state = State::Silent { since, pause, until: now + pause };
            }
            State::Well | State::Late => {
                self.wasted = self.wasted.saturating_add(took);
                if self.wasted >= self.pauses.budget {
                    let pause = self.pauses.first;
                    self.state = State::Silent { since: now, pause, until: now + pause };
                }
            }
        }
    }

    /// Until when it is limited.
    pub(crate) fn limited_until(&self, now: Instant) -> Option<Instant> {
        self.limited_until.filter(|until| now < *until)
    }

    /// Whether it is silent, pause over or not.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.state, State::Silent { .. })
    }

    /// Whether it may be asked without looking again, until something else is heard of it.
    pub(crate) fn is_well(&self) -> bool {
        self.state == State::Well && self.limited_until.is_none()
    }
}

#[cfg(test)]
mod tests;
