//! The laws of a plan, and what it does on links of several kinds.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// Runs a plan on a link where each request brings `each` bytes a second and all together at most `all`; how long it takes,
/// and the most requests at a time.
fn fetched(length: u64, parallel: usize, each: u64, all: u64) -> (Duration, usize) {
    let step = Duration::from_millis(1);
    let begun = Instant::now();
    let mut now = begun;
    let mut plan = Plan::new(Some(length), Ranges::default(), parallel, now);
    let (mut running, mut received, mut most): (Vec<(Claim, u64)>, u64, usize) = (Vec::new(), 0, 0);
    while !plan.is_complete() {
        let wanted = plan.wanted(received, now);
        while running.len() < wanted
            && let Some(claim) = plan.claim()
        {
            running.push((claim.clone(), claim.range.start));
        }
        most = most.max(running.len());
        now += step;
        let speed = each.min(all / running.len().max(1) as u64);
        for (claim, reached) in &mut running {
            let bytes = (speed / 1000).min(claim.range.end.min(length) - *reached);
            *reached += bytes;
            received += bytes;
        }
        let (ended, rest): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|(claim, reached)| *reached == claim.range.end.min(length));
        ended.iter().for_each(|(claim, reached)| plan.ended(claim, *reached));
        running = rest;
    }
    assert_eq!(received, length, "each byte once");
    (now - begun, most)
}

#[test]
fn more_requests_are_kept_only_where_they_bring_more() {
    let (time, most) = fetched(1024 * MIB, 4, 20 * MIB, 1000 * MIB);
    assert_eq!(most, 4);
    assert!(time < Duration::from_secs(17), "{time:?}, by one request 51 s");
    // A link that one request fills: a second one is tried now and then, no third.
    let (time, most) = fetched(1024 * MIB, 4, 50 * MIB, 50 * MIB);
    assert!(most <= 2, "{most}");
    assert!(time < Duration::from_secs(22), "{time:?}");
    // Over before it could matter.
    assert_eq!(fetched(1024 * MIB, 4, 2000 * MIB, 2000 * MIB).1, 1);
    assert_eq!(fetched(1024 * MIB, 1, 20 * MIB, 1000 * MIB).1, 1);
}

#[test]
fn a_reader_far_ahead_gets_its_part_unless_it_is_on_its_way() {
    let now = Instant::now();
    let mut plan = Plan::new(Some(1024 * MIB), Ranges::default(), 4, now);
    let first = plan.claim().expect("all is to be fetched");
    assert_eq!(first.range, 0..FIRST_PART);
    assert_eq!(plan.claim_at(3 * MIB), None, "on its way");
    let far = plan.claim_at(500 * MIB).expect("nobody fetches it");
    assert_eq!(far.range, 500 * MIB..500 * MIB + FIRST_PART);
    assert_eq!(plan.claim_at(1024 * MIB), None, "behind the end");
    plan.ended(&far, 502 * MIB);
    assert_eq!(plan.claim_at(501 * MIB), None, "it is here");
    assert_eq!(plan.claim_at(502 * MIB).expect("the rest").range.start, 502 * MIB);
    plan.without_ranges();
    assert_eq!(plan.claim_at(700 * MIB), None, "the upstream gives no parts");
}

#[test]
fn a_blob_of_unknown_length_is_one_part() {
    let mut plan = Plan::new(None, Ranges::up_to(5), 4, Instant::now());
    let claim = plan.claim().expect("the rest");
    assert_eq!(claim.range, 5..u64::MAX);
    assert_eq!(plan.claim(), None);
    assert_eq!(plan.claim_at(100), None);
    plan.ended(&claim, 70);
    assert!(!plan.is_complete());
    plan.measured(Some(70));
    assert!(plan.is_complete());
}

proptest! {
    #[test]
    fn every_byte_is_fetched_once_whatever_breaks(
        length in 1_u64..200 * MIB,
        here in 0_u64..30 * MIB,
        breaks in prop::collection::vec((0_usize..4, 0.0_f64..1.0), 0..200),
        wishes in prop::collection::vec(0.0_f64..1.0, 0..10),
    ) {
        let mut plan = Plan::new(Some(length), Ranges::up_to(here.min(length)), 4, Instant::now());
        let (mut running, mut received) = (Vec::new(), here.min(length));
        let mut breaks = breaks.into_iter();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a range")]
        let share = |of: u64, share: f64| (of as f64 * share) as u64;
        for wish in wishes {
            running.extend(plan.claim_at(share(length, wish)));
        }
        while !plan.is_complete() {
            while running.len() < 4 && let Some(claim) = plan.claim() {
                running.push(claim);
            }
            prop_assert!(!running.is_empty(), "nothing is fetched, and something lacks");
            let (which, reached) = breaks.next().unwrap_or((0, 1.0));
            let claim = running.remove(which.min(running.len() - 1));
            let size = claim.range.end - claim.range.start;
            let brought = if reached == 1.0 { size } else { share(size, reached) };
            received += brought;
            plan.ended(&claim, claim.range.start + brought);
        }
        prop_assert_eq!(received, length);
    }
}
