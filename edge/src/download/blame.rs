//! Who sent wrong bytes: an upstream is not asked again at once for a blob that it got wrong. Bounded, and forgotten with time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use oci::digest::Digest;

/// Blobs remembered.
const MOST: u64 = 10_000;
/// After so long without a further wrong answer the earlier ones count no more.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Each further wrong answer doubles the time, up to this many times.
const DOUBLINGS: u32 = 6;

/// See the module.
#[derive(Debug)]
pub(super) struct Blames {
    by_blob: moka::sync::Cache<(Arc<str>, Digest), Blame>,
    first: Duration,
}

#[derive(Clone, Debug)]
struct Blame {
    times: u32,
    until: Instant,
}

impl Blames {
    /// Nobody is blamed. After the first wrong answer an upstream is not asked for the blob for `first`.
    pub(super) fn new(first: Duration) -> Self {
        Self {
            by_blob: moka::sync::Cache::builder().max_capacity(MOST).time_to_live(FORGOTTEN).build(),
            first,
        }
    }

    /// `upstream` got the blob wrong; how long it is not asked for it.
    pub(super) fn blame(&self, upstream: &Arc<str>, digest: &Digest, now: Instant) -> Duration {
        let key = (upstream.clone(), digest.clone());
        let times = self.by_blob.get(&key).map_or(0, |blame| blame.times);
        let pause = self.first.saturating_mul(1 << times.min(DOUBLINGS));
        self.by_blob.insert(key, Blame { times: times.saturating_add(1), until: now + pause });
        pause
    }

    /// How long `upstream` is still not to be asked for the blob.
    pub(super) fn avoided(&self, upstream: &Arc<str>, digest: &Digest, now: Instant) -> Option<Duration> {
        let blame = self.by_blob.get(&(upstream.clone(), digest.clone()))?;
        blame.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// The blob came right.
    pub(super) fn absolve(&self, upstream: &Arc<str>, digest: &Digest) {
        self.by_blob.invalidate(&(upstream.clone(), digest.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_answer_is_avoided_longer_until_one_is_right() {
        let blames = Blames::new(Duration::from_secs(5));
        let (upstream, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (digest, now) = (Digest::sha256(b"x"), Instant::now());
        assert_eq!(blames.avoided(&upstream, &digest, now), None);
        assert_eq!(blames.blame(&upstream, &digest, now), Duration::from_secs(5));
        assert_eq!(blames.avoided(&upstream, &digest, now), Some(Duration::from_secs(5)));
        assert_eq!(blames.avoided(&other, &digest, now), None, "another one is asked");
        let later = now + Duration::from_secs(5);
        assert_eq!(blames.avoided(&upstream, &digest, later), None);
        assert_eq!(blames.blame(&upstream, &digest, later), Duration::from_secs(10));
        (0..40).for_each(|_| assert!(blames.blame(&upstream, &digest, later) <= Duration::from_secs(320)));
        blames.absolve(&upstream, &digest);
        assert_eq!(blames.avoided(&upstream, &digest, later), None);
        assert_eq!(blames.blame(&upstream, &digest, later), Duration::from_secs(5));
    }
}
