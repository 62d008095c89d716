//! How often something was asked for of late: a count-min sketch of four-bit counters, halved now and then.

/// Uses that are counted, for each entry held, before all counts are halved.
const SAMPLE_PER_ENTRY: usize = 10;
/// The smallest sample.
const MIN_SAMPLE: usize = 1000;
/// The smallest table, in words of 16 counters.
const MIN_WORDS: usize = 1 << 10;
/// The largest count.
const MAX: u64 = 15;
/// In each counter, all bits but the highest.
const HALVED: u64 = 0x7777_7777_7777_7777;
/// Odd numbers that make four hashes of one.
const SEEDS: [u64; 4] =
    [0xc3a5_c85c_97cb_3127, 0xb492_b66f_be98_f273, 0x9ae1_6a3b_2f90_404f, 0xcbf2_9ce4_8422_2325];

/// See the module.
#[derive(Debug)]
pub(super) struct Sketch {
    words: Vec<u64>,
    counted: usize,
}

/// Where one of the four counters is.
struct Place {
    word: usize,
    shift: u32,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self { words: vec![0; MIN_WORDS], counted: 0 }
    }

    pub(super) fn for_entries(entries: usize) -> Self {
        Self { words: vec![0; entries.next_power_of_two().max(MIN_WORDS)], counted: 0 }
    }

    /// Whether the counts of so many entries do not blur each other.
    pub(super) fn fits(&self, entries: usize) -> bool {
        entries <= self.words.len()
    }

    pub(super) fn increment(&mut self, hash: u64) {
        self.counted += 1;
        for row in 0..SEEDS.len() {
            let Place { word, shift } = self.place(hash, row);
            if (self.words[word] >> shift) & MAX < MAX {
                self.words[word] += 1 << shift;
            }
        }
    }

    /// Makes the count of `hash` at least `frequency`.
    pub(super) fn raise(&mut self, hash: u64, frequency: u8) {
        let wanted = u64::from(frequency).min(MAX);
        for row in 0..SEEDS.len() {
            let Place { word, shift } = self.place(hash, row);
            let found = (self.words[word] >> shift) & MAX;
            self.words[word] += wanted.saturating_sub(found) << shift;
        }
    }

    pub(super) fn estimate(&self, hash: u64) -> u8 {
        let counts = (0..SEEDS.len()).map(|row| {
            let Place { word, shift } = self.place(hash, row);
            (self.words[word] >> shift) & MAX
        });
        u8::try_from(counts.min().unwrap_or(0)).unwrap_or(u8::MAX)
    }

    /// Halves all counts, once enough of them were made since the last time.
    pub(super) fn age_if_due(&mut self, entries: usize) {
        if self.counted < (entries * SAMPLE_PER_ENTRY).max(MIN_SAMPLE) {
            return;
        }
        for word in &mut self.words {
            *word = (*word >> 1) & HALVED;
        }
        self.counted /= 2;
    }

    fn place(&self, hash: u64, row: usize) -> Place {
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(SEEDS[row]);
        let mixed = mixed ^ (mixed >> 29);
        let within = u32::try_from(mixed & 3).unwrap_or(0) + 4 * u32::try_from(row).unwrap_or(0);
        let word = usize::try_from(mixed >> 8).unwrap_or(usize::MAX) & (self.words.len() - 1);
        Place { word, shift: within * 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        n.wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(17)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    #[test]
    fn a_count_is_never_too_low_seldom_too_high_and_halved_in_time() {
        let mut sketch = Sketch::for_entries(1 << 12);
        for n in 0..1000 {
            for _ in 0..=(n % 8) {
                sketch.increment(hash(n));
            }
        }
        let mut too_high = 0;
        for n in 0..1000 {
            let (found, made) = (u64::from(sketch.estimate(hash(n))), n % 8 + 1);
            assert!(found >= made, "{n}: {found} of {made}");
            too_high += usize::from(found > made);
        }
        assert!(too_high < 20, "{too_high} of 1000");
        sketch.age_if_due(100);
        assert_eq!(sketch.estimate(hash(7)), 4);
    }

    #[test]
    fn counts_end_at_fifteen_and_can_be_raised() {
        let mut sketch = Sketch::new();
        (0..40).for_each(|_| sketch.increment(hash(1)));
        assert_eq!(sketch.estimate(hash(1)), 15);
        sketch.raise(hash(2), 9);
        sketch.raise(hash(2), 3);
        assert_eq!(sketch.estimate(hash(2)), 9);
    }
}
