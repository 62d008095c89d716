//! The breaker on a clock of the test's own.

use super::*;

const BUDGET: Duration = Duration::from_millis(300);

/// A breaker, and a clock.
struct Course {
    breaker: Breaker,
    start: Instant,
}

impl Course {
    fn new() -> Self {
        let pauses = Pauses {
            budget: BUDGET,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(8),
            longest_limited: Duration::from_secs(900),
        };
        Self { breaker: Breaker::new(pauses), start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn look(&self, ms: u64) -> Gate {
        self.breaker.look(self.at(ms))
    }

    fn is_refused(&self, ms: u64) -> bool {
        matches!(self.look(ms), Gate::Refuse(_))
    }

    /// Nothing came of a request.
    fn in_vain(&mut self, from: u64, to: u64) {
        self.breaker.unanswered(self.at(from), self.at(to));
    }
}

#[test]
fn one_request_that_times_out_opens_it_and_a_late_one_already_lets_nobody_wait() {
    let mut course = Course::new();
    assert_eq!(course.look(0), Gate::Ask);
    course.breaker.late(course.at(0));
    assert_eq!(course.look(300), Gate::AskBehind);
    course.in_vain(0, 1000);
    let retry_after = Duration::from_secs(1);
    assert_eq!(course.look(1000), Gate::Refuse(Refusal::Silent { retry_after }));
    assert!(course.is_refused(1999));
}

#[test]
fn after_each_pause_one_request_goes_through_and_the_pauses_grow_up_to_a_bound() {
    let mut course = Course::new();
    course.in_vain(0, 1000);
    let mut now = 1000;
    for pause in [1000, 2000, 4000, 8000, 8000, 8000] {
        assert!(course.is_refused(now + pause - 1), "{pause}");
        now += pause;
        assert_eq!(course.look(now), Gate::AskBehind, "{pause}");
        let at = course.at(now);
        assert_eq!(course.breaker.admit(at), Ok(()));
        assert!(course.breaker.admit(at).is_err(), "only one");
        course.in_vain(now, now + 500);
        now += 500;
    }
}

#[test]
fn any_answer_closes_it() {
    let mut course = Course::new();
    course.in_vain(0, 1000);
    let at = course.at(2000);
    course.breaker.admit(at).expect("the pause is over");
    course.breaker.answered(course.at(2100));
    assert_eq!(course.look(2100), Gate::Ask);
    assert!(course.breaker.is_well());
    // And the next silence begins with a short pause.
    course.in_vain(3000, 4000);
    assert_eq!(course.look(5000), Gate::AskBehind);
}

#[test]
fn a_probe_that_is_never_heard_of_again_does_not_keep_it_open_for_ever() {
    let mut course = Course::new();
    course.in_vain(0, 1000);
    let at = course.at(2000);
    course.breaker.admit(at).expect("the pause is over");
    assert!(course.is_refused(2999));
    assert_eq!(course.look(3000), Gate::AskBehind);
}

#[test]
fn a_request_that_failed_while_others_were_answered_says_nothing() {
    let mut course = Course::new();
    course.breaker.answered(course.at(500));
    course.breaker.late(course.at(0));
    course.in_vain(0, 5000);
    assert_eq!(course.look(5000), Gate::Ask);
    // One that was sent after the last answer does.
    course.in_vain(600, 5600);
    assert!(course.is_refused(5600));
}

#[test]
fn many_requests_that_end_in_one_silence_count_once() {
    let mut course = Course::new();
    for at in 0..50 {
        course.in_vain(at, 1000 + at);
    }
    // Those that were on their way when it opened at 1000 do not make the pause longer.
    assert_eq!(course.look(2000), Gate::AskBehind);
}

#[test]
fn what_fails_at_once_costs_nothing_and_opens_nothing() {
    let mut course = Course::new();
    for at in 0..10_000 {
        course.in_vain(at, at + 1);
    }
    assert_eq!(course.look(10_001), Gate::Ask);
    // A refused connection tells that somebody is there again.
    course.in_vain(20_000, 21_000);
    let at = course.at(22_000);
    course.breaker.admit(at).expect("the pause is over");
    course.in_vain(22_000, 22_001);
    assert_eq!(course.look(22_001), Gate::Ask);
}

#[test]
fn failures_that_each_cost_a_little_open_it_when_they_have_cost_a_budget() {
    let mut course = Course::new();
    for n in 0..2 {
        course.in_vain(n * 1000, n * 1000 + 100);
        assert_eq!(course.look(n * 1000 + 100), Gate::Ask);
    }
    course.in_vain(2000, 2100);
    assert!(course.is_refused(2100));
    let mut course = Course::new();
    for n in 0..20 {
        course.in_vain(n * 1000, n * 1000 + 100);
        course.breaker.answered(course.at(n * 1000 + 500));
    }
    assert_eq!(course.look(30_000), Gate::Ask);
}

#[test]
fn a_rate_limit_holds_for_as_long_as_it_says_within_bounds() {
    for (told, expected) in [
        (Some(7), 7),
        (Some(0), 1),
        (Some(86_400), 900),
        // Not told: it is guessed.
        (None, 10),
    ] {
        let mut course = Course::new();
        course.breaker.limited(course.at(0), told.map(Duration::from_secs));
        let retry_after = Duration::from_secs(expected);
        assert_eq!(course.look(0), Gate::Refuse(Refusal::Limited { retry_after }), "{told:?}");
        assert!(course.is_refused(expected * 1000 - 1));
        assert_eq!(course.look(expected * 1000), Gate::Ask, "{told:?}");
        assert!(!course.breaker.is_silent());
    }
}

#[test]
fn limits_without_a_time_grow_and_those_of_one_moment_count_once() {
    let mut course = Course::new();
    for _ in 0..20 {
        course.breaker.limited(course.at(0), None);
    }
    assert_eq!(course.look(20_000), Gate::Ask);
    course.breaker.limited(course.at(20_000), None);
    assert!(course.is_refused(39_999));
    course.breaker.answered(course.at(41_000));
    course.breaker.limited(course.at(42_000), None);
    assert_eq!(course.look(52_000), Gate::Ask, "an answer in between begins anew");
}

#[test]
fn an_answer_to_an_earlier_request_does_not_end_a_limit() {
    let mut course = Course::new();
    course.breaker.limited(course.at(0), Some(Duration::from_secs(60)));
    course.breaker.answered(course.at(1000));
    assert!(course.is_refused(59_999));
    assert!(!course.breaker.is_well());
}
