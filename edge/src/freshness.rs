//! Whether a tag that the cache knows may be served as it is: a pure decision.

use std::time::Duration;

use crate::{
    settings::Freshness,
    upstream::{Gate, Refusal},
};

/// What to do with a request for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Serve what is cached.
    Trust,
    /// Serve what is cached, and ask the upstream behind the answer.
    TrustAndConfirm,
    /// Serve what is cached, and say that it is stale: the upstream may not be asked now.
    ServeStale,
    /// The upstream answers late or not at all: the same, and ask it behind the answer.
    ServeStaleAndConfirm,
    /// Nothing is cached, and the upstream may not be asked now.
    Refuse(Refusal),
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
    /// Whether the upstream may be asked.
    pub gate: Gate,
    /// `freshness.budget`.
    pub budget: Duration,
    /// `download.first_byte`.
    pub first_byte: Duration,
}

/// Decides.
pub(crate) fn plan(situation: Situation) -> Plan {
    let Situation { policy, age, gate, budget, first_byte } = situation;
    let Some(age) = age else {
        return match gate {
            Gate::Refuse(refusal) => Plan::Refuse(refusal),
            // Nothing to fall back on: worth waiting for.
            Gate::Ask | Gate::AskBehind => Plan::Confirm { patience: first_byte },
        };
    };
    match (policy, gate) {
        (Freshness::Bounded(bound), _) if age < bound => Plan::Trust,
        (Freshness::LocalFirst, Gate::Refuse(_)) => Plan::Trust,
        (Freshness::LocalFirst, Gate::Ask | Gate::AskBehind) => Plan::TrustAndConfirm,
        (Freshness::Bounded(_) | Freshness::Strict, Gate::Refuse(_)) => Plan::ServeStale,
        (Freshness::Bounded(_) | Freshness::Strict, Gate::AskBehind) => Plan::ServeStaleAndConfirm,
        (Freshness::Bounded(_) | Freshness::Strict, Gate::Ask) => Plan::Confirm { patience: budget },
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
        let refusal = Refusal::Silent { retry_after: Duration::from_secs(1) };
        let (ask, behind, refuse) = (Gate::Ask, Gate::AskBehind, Gate::Refuse(refusal));
        for (policy, age, gate, expected) in [
            (Freshness::Strict, young, ask, wait),
            (Freshness::Strict, young, behind, Plan::ServeStaleAndConfirm),
            (Freshness::Strict, young, refuse, Plan::ServeStale),
            (bounded, young, ask, Plan::Trust),
            (bounded, young, behind, Plan::Trust),
            (bounded, young, refuse, Plan::Trust),
            (bounded, old, ask, wait),
            (bounded, old, behind, Plan::ServeStaleAndConfirm),
            (bounded, old, refuse, Plan::ServeStale),
            (Freshness::LocalFirst, old, ask, Plan::TrustAndConfirm),
            (Freshness::LocalFirst, old, behind, Plan::TrustAndConfirm),
            // What may not be asked is not asked behind the answer either.
            (Freshness::LocalFirst, old, refuse, Plan::Trust),
            (Freshness::LocalFirst, None, ask, Plan::Confirm { patience: first_byte }),
            (Freshness::Strict, None, behind, Plan::Confirm { patience: first_byte }),
            (Freshness::Strict, None, refuse, Plan::Refuse(refusal)),
            (Freshness::LocalFirst, None, refuse, Plan::Refuse(refusal)),
        ] {
            assert_eq!(
                plan(Situation { policy, age, gate, budget, first_byte }),
                expected,
                "{policy:?} {age:?} {gate:?}"
            );
        }
    }
}
