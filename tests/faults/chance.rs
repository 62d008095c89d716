//! Chance that can be had again: numbers that follow from a seed, which is printed.

use crate::harness::noise::Noise;

/// Pseudo-random numbers.
#[derive(Clone, Debug)]
pub(super) struct Chance(Noise);

impl Chance {
    /// By the seed in `SEED`, or else by one that differs from run to run. It is printed, to be seen when the test fails.
    pub(super) fn seeded(what: &str) -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("SEED={seed:?} is no number")),
            Err(_) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.expect("the clock is past 1970").subsec_nanos())
            }
        };
        println!("{what}: SEED={seed}");
        Self::new(seed)
    }

    pub(super) fn new(seed: u64) -> Self {
        Self(Noise::new(seed))
    }

    /// A number below `limit`, which is at least 1.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let bytes = self.0.bytes(8).try_into().expect("eight bytes");
        // The high bits: the low ones of a xorshift are its weak ones.
        let number = u64::from_le_bytes(bytes) >> 11;
        usize::try_from(number % limit.max(1) as u64).expect("below the limit")
    }

    /// Whether something happens that does so this often in a hundred.
    pub(super) fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the first `count`, each less likely than the one before, as images are asked for: Zipf with exponent 1.
    pub(super) fn zipf(&mut self, count: usize) -> usize {
        let total: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
        let mut point = self.below(1 << 30) as f64 / f64::from(1 << 30) * total;
        for rank in 1..=count {
            point -= 1.0 / rank as f64;
            if point < 0.0 {
                return rank - 1;
            }
        }
        count - 1
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.0.bytes(count)
    }
}
