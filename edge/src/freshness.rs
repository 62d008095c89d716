//! Whether a tag that the cache knows may be served as it is: a pure decision.

use std::time::Duration;

use crate::settings::Freshness;

/// What to do with a request for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Serve what is cached.
    Trust,
    /// Serve what is cached, and ask the upstream behind the answer.
    TrustAndConfirm,
    /// The upstream is known to be silent: serve what is cached, say that it is stale, and ask behind the answer.
    ServeStale,
    /// Ask the upstream, and wait so long at the most; then serve what is cached, if anything is.
    Confirm {
        /// How long.
        patience: Duration,
    },
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// How the upstream's tags are kept fresh.
    pub policy: Freshness,
    /// How long ago the cached tag was confirmed; `None` if none is cached.
    pub age: Option<Duration>,
    /// The upstream did not answer when it was last asked.
    pub silent: bool,
    /// `freshness.budget`.
    pub budget: Duration,
    /// `download.first_byte`.
    pub first_byte: Duration,
}

/// Decides.
pub(crate) fn plan(situation: Situation) -> Plan {
    let Situation { policy, age, silent, budget, first_byte } = situation;
    let Some(age) = age else {
        // Nothing to fall back on: worth waiting for, unless nothing is to be expected.
        return Plan::Confirm { patience: if silent { budget } else { first_byte } };
    };
    match policy {
        Freshness::LocalFirst => Plan::TrustAndConfirm,
        Freshness::Bounded(bound) if age < bound => Plan::Trust,
        Freshness::Bounded(_) | Freshness::Strict if silent => Plan::ServeStale,
        Freshness::Bounded(_) | Freshness::Strict => Plan::Confirm { patience: budget },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_its_plan() {
        let (budget, first_byte) = (Duration::from_millis(300), Duration::from_secs(5));
        let bounded = Freshness::Bounded(Duration::from_secs(60));
        let young = Some(Duration::from_secs(59));
        let old = Some(Duration::from_secs(60));
        let wait = Plan::Confirm { patience: budget };
        for (policy, age, silent, expected) in [
            (Freshness::Strict, young, false, wait),
            (Freshness::Strict, young, true, Plan::ServeStale),
            (bounded, young, false, Plan::Trust),
            (bounded, young, true, Plan::Trust),
            (bounded, old, false, wait),
            (bounded, old, true, Plan::ServeStale),
            (Freshness::LocalFirst, old, false, Plan::TrustAndConfirm),
            (Freshness::LocalFirst, old, true, Plan::TrustAndConfirm),
            (Freshness::LocalFirst, None, false, Plan::Confirm { patience: first_byte }),
            (Freshness::Strict, None, true, wait),
        ] {
            assert_eq!(
                plan(Situation { policy, age, silent, budget, first_byte }),
                expected,
                "{policy:?} {age:?} {silent}"
            );
        }
    }
}
