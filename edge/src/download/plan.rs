//! Which part of a blob is fetched next, and by how many requests at a time. Pure: takes what happened and the time, and
//! says what to do.
//!
//! A blob of known length is fetched in parts, from the front. The first part is small; later ones are what the upstream
//! brings in [`PART_TIME`], so that on a slow link a reader far ahead waits for few bytes, and on a fast one few requests
//! are made. One request runs at a time until it is seen that more help: each is tried for a moment, and given up if the
//! bytes do not come faster for it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::ranges::Ranges;

/// The first part, and the smallest.
pub(super) const FIRST_PART: u64 = 8 << 20;
/// The largest part: what may be asked for again when one request breaks is the rest of one.
const LARGEST_PART: u64 = 64 << 20;
/// How long a part should take.
const PART_TIME: Duration = Duration::from_secs(4);
/// Over how long the speed is measured before another request is tried, or judged.
const MEASURED: Duration = Duration::from_millis(500);
/// A download that ends within this time at its present speed gets no further request.
const WORTH: Duration = Duration::from_secs(1);
/// The share that a further request must bring, of what it would bring if it were as fast as each of the others, to be kept.
const GAIN: f64 = 0.5;
/// How long nothing is tried after a further request did not help.
const SETTLED: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where it is not known the blob is fetched by one request to its end.
    length: Option<u64>,
    here: Ranges,
    claims: Vec<Claim>,
    next_id: u64,
    pace: Pace,
}

/// A part that a request fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    id: u64,
    /// Its bytes; to the end of the blob where that is `u64::MAX`.
    pub(super) range: Range<u64>,
    pub(super) place: Place,
}

/// Where in a blob a part lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It begins with the first byte that lacks.
    Front,
    /// Another request has to fetch what lacks before it.
    Ahead,
}

impl Plan {
    /// A plan for a blob of which `here` was fetched in an earlier life, with at most `parallel` requests at a time.
    pub(super) fn new(length: Option<u64>, here: Ranges, parallel: usize, now: Instant) -> Self {
        Self { length, here, claims: Vec::new(), next_id: 0, pace: Pace::new(parallel, now) }
    }

    /// The upstream has told the length.
    pub(super) fn measured(&mut self, length: Option<u64>) {
        self.length = self.length.or(length);
    }

    /// The upstream ignores ranges: one request brings everything.
    pub(super) fn without_ranges(&mut self) {
        self.pace.most = 1;
        self.pace.requests = 1;
    }

    /// Whether every byte is here.
    pub(super) fn is_complete(&self) -> bool {
        self.length.is_some_and(|length| self.here.prefix() >= length)
    }

    /// How many requests are worth running now. `received` counts all bytes that came so far.
    pub(super) fn wanted(&mut self, received: u64, now: Instant) -> usize {
        let left = self.length.map_or(0, |length| length.saturating_sub(self.here.bytes()));
        self.pace.wanted(received, left, now)
    }

    /// The first part that is neither here nor being fetched.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let start = self.free_from(0)?;
        self.take(start)
    }

    /// The part at `offset`, for a reader that waits there far ahead of the rest; `None` where it is on its way.
    pub(super) fn claim_at(&mut self, offset: u64) -> Option<Claim> {
        let length = self.length.filter(|length| offset < *length)?;
        let on_its_way = self.claims.iter().any(|claim| claim.range.contains(&offset));
        (self.pace.most > 1 && !on_its_way && self.here.around(offset).is_none())
            .then(|| self.take(offset.min(length - 1)))
            .flatten()
    }

    fn take(&mut self, start: u64) -> Option<Claim> {
        let end = match self.length {
            None => u64::MAX,
            Some(_) if self.pace.most == 1 => u64::MAX,
            Some(length) => {
                let taken = self.claims.iter().map(|claim| claim.range.start).filter(|taken| *taken > start);
                let bound = taken.chain(self.here.next_after(start)).min().unwrap_or(length).min(length);
                let end = start.saturating_add(self.pace.part());
                // No crumbs: what would be left of the gap is taken with it.
                if end.saturating_add(FIRST_PART / 2) >= bound { bound } else { end }
            }
        };
        let place = if start == self.here.prefix() { Place::Front } else { Place::Ahead };
        let claim = Claim { id: self.next_id, range: start..end, place };
        self.next_id += 1;
        self.claims.push(claim.clone());
        Some(claim)
    }

    /// The first byte from `offset` on that is neither here nor being fetched.
    fn free_from(&self, mut offset: u64) -> Option<u64> {
        loop {
            let here = self.here.around(offset).map(|range| range.end);
            let claimed =
                self.claims.iter().find(|claim| claim.range.contains(&offset)).map(|claim| claim.range.end);
            match here.max(claimed) {
                Some(end) => offset = end,
                None if self.length.is_some_and(|length| offset >= length) || offset == u64::MAX => {
                    return None;
                }
                None => return Some(offset),
            }
        }
    }

    /// A request has ended; it brought its part up to `reached`.
    pub(super) fn ended(&mut self, claim: &Claim, reached: u64) {
        self.claims.retain(|running| running.id != claim.id);
        self.here.insert(claim.range.start..reached);
    }
}

/// How fast bytes come, and what follows from it.
#[derive(Debug)]
struct Pace {
    most: usize,
    requests: usize,
    since: Instant,
    received: u64,
    /// Bytes a second, at the last look.
    speed: Option<f64>,
    /// The speed before the last request was added.
    before: Option<f64>,
    settled_until: Option<Instant>,
}

impl Pace {
    fn new(most: usize, now: Instant) -> Self {
        let most = most.max(1);
        Self { most, requests: 1, since: now, received: 0, speed: None, before: None, settled_until: None }
    }

    fn part(&self) -> u64 {
        let Some(speed) = self.speed else { return FIRST_PART };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped right behind")]
        let part = (speed * PART_TIME.as_secs_f64()) as u64 / self.requests as u64;
        part.clamp(FIRST_PART, LARGEST_PART)
    }

    #[expect(clippy::cast_precision_loss, reason = "speeds to compare with each other")]
    fn wanted(&mut self, received: u64, left: u64, now: Instant) -> usize {
        let elapsed = now.duration_since(self.since);
        if elapsed < MEASURED {
            return self.requests;
        }
        let speed = received.saturating_sub(self.received) as f64 / elapsed.as_secs_f64();
        (self.since, self.received, self.speed) = (now, received, Some(speed));
        match self.before.take() {
            Some(before) if speed < before * (1.0 + GAIN / (self.requests - 1).max(1) as f64) => {
                self.requests -= 1;
                self.settled_until = Some(now + SETTLED);
            }
            _ => self.try_more(speed, left, now),
        }
        self.requests
    }

    fn try_more(&mut self, speed: f64, left: u64, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a time to compare with another")]
        let long = left as f64 > speed * WORTH.as_secs_f64();
        let settled = self.settled_until.is_some_and(|until| now < until);
        if long && !settled && speed > 0.0 && self.requests < self.most {
            self.before = Some(speed);
            self.requests += 1;
        }
    }
}

#[cfg(test)]
mod tests;
