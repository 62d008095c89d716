//! Slows down whoever guesses passwords: one account from one address, and nobody else.
//!
//! Attempts are counted when they are made, so that guesses made at once count one by one. What is remembered is a few
//! bytes for each pair, under a keyed hash of it, in two generations: however many names are tried, memory stays bounded.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::passwords::Asker;

/// Failures that cost nothing but the work.
const FREE: u32 = 10;
/// Failures are forgotten this long after the last one, or after the end of its pause.
const MEMORY: Duration = Duration::from_secs(60);
/// The first pause; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: the owner of the account may sit behind the same address.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Pairs of one generation; when there are more, the generation before is forgotten.
const GENERATION: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(crate) struct Brake {
    keys: RandomState,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    current: HashMap<Pair, Record>,
    before: HashMap<Pair, Record>,
}

/// An account and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair(u64);

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    /// No attempt is taken before then.
    open_from: Instant,
}

impl Brake {
    pub(crate) fn new() -> Self {
        Self { keys: RandomState::new(), generations: Mutex::default() }
    }

    /// Who tries to be whom.
    pub(crate) fn pair(&self, account: &str, from: Option<IpAddr>) -> Pair {
        Pair(self.keys.hash_one((account, Asker::of(from))))
    }

    /// Counts an attempt as failed, until [`Self::forgive`] or [`Self::take_back`]; or says how long to wait first.
    pub(crate) fn attempt(&self, pair: Pair, now: Instant) -> Result<(), Duration> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = match generations.take(pair) {
            Some(record) if now < record.open_from => {
                generations.put(pair, record);
                return Err(record.open_from - now);
            }
            Some(record) if now < record.open_from + MEMORY => record.failures,
            Some(_) | None => 0,
        };
        let failures = failures.saturating_add(1);
        generations.put(pair, Record { failures, open_from: now + pause(failures) });
        Ok(())
    }

    /// The attempt succeeded: whoever knows the password may have forgotten it before.
    pub(crate) fn forgive(&self, pair: Pair) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.take(pair);
    }

    /// The attempt came to nothing, through no fault of whoever made it.
    pub(crate) fn take_back(&self, pair: Pair, now: Instant) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = generations.take(pair)
            && record.failures > 1
        {
            generations.put(pair, Record { failures: record.failures - 1, open_from: now });
        }
    }

    /// How many pairs are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.current.len() + generations.before.len()
    }
}

impl Generations {
    fn take(&mut self, pair: Pair) -> Option<Record> {
        self.current.remove(&pair).or_else(|| self.before.remove(&pair))
    }

    fn put(&mut self, pair: Pair, record: Record) {
        if self.current.len() >= GENERATION {
            self.before = std::mem::take(&mut self.current);
        }
        self.current.insert(pair, record);
    }
}

fn pause(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(over) => FIRST_PAUSE.saturating_mul(1 << over.min(16)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn answers_come_later_and_later_for_who_guesses_and_for_nobody_else() {
        let (brake, start) = (Brake::new(), Instant::now());
        let guesser = brake.pair("ann", address(1));
        for _ in 0..FREE {
            assert_eq!(brake.attempt(guesser, start), Ok(()));
        }
        let mut now = start;
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            let wait = brake.attempt(guesser, now).expect_err("too many failures");
            assert!(wait > last || wait == LONGEST_PAUSE, "{wait:?} after {last:?}");
            last = wait;
            now += wait;
            assert_eq!(brake.attempt(guesser, now), Ok(()));
        }
        assert_eq!(brake.attempt(brake.pair("ann", address(2)), now), Ok(()), "the owner, elsewhere");
        assert_eq!(brake.attempt(brake.pair("bob", address(1)), now), Ok(()), "somebody else there");
        let later = now + LONGEST_PAUSE + MEMORY;
        for _ in 0..FREE {
            assert_eq!(brake.attempt(guesser, later), Ok(()), "it is forgotten in time");
        }
    }

    #[test]
    fn guesses_made_at_once_count_one_by_one() {
        let (brake, now) = (Brake::new(), Instant::now());
        let pair = brake.pair("ann", address(1));
        let taken = (0..256).filter(|_| brake.attempt(pair, now).is_ok()).count();
        assert_eq!(taken, FREE as usize);
    }

    #[test]
    fn nothing_is_left_of_a_good_login_or_of_one_that_was_turned_away() {
        let (brake, now) = (Brake::new(), Instant::now());
        let pair = brake.pair("ann", address(1));
        for _ in 0..FREE {
            assert_eq!(brake.attempt(pair, now), Ok(()));
        }
        brake.take_back(pair, now);
        assert_eq!(brake.attempt(pair, now), Ok(()));
        brake.forgive(pair);
        assert_eq!(brake.remembered(), 0);
        assert_eq!(brake.attempt(pair, now), Ok(()));
        brake.take_back(pair, now);
        assert_eq!(brake.remembered(), 0);
    }

    #[test]
    fn a_flood_of_names_takes_no_more_memory_than_two_generations() {
        let (brake, now) = (Brake::new(), Instant::now());
        for number in 0..3 * GENERATION {
            let pair = brake.pair(&format!("user{number}"), address(1));
            assert_eq!(brake.attempt(pair, now), Ok(()));
        }
        assert!(brake.remembered() <= 2 * GENERATION, "{}", brake.remembered());
        assert!(size_of::<(Pair, Record)>() <= 32);
    }

    #[test]
    fn the_addresses_of_one_client_are_one() {
        let brake = Brake::new();
        let of = |text: &str| brake.pair("ann", Some(text.parse().expect("an address")));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
