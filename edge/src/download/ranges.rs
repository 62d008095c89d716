//! A set of byte ranges, kept sorted, disjoint and joined: what of a blob is here. Pure.

use std::ops::Range;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The bytes before `end`.
    pub(super) fn up_to(end: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(0..end);
        ranges
    }

    /// Adds a range; one that touches others becomes one with them.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let behind = self.0.partition_point(|held| held.start <= range.end);
        let touched = &self.0[first..behind];
        let start = touched.first().map_or(range.start, |held| held.start.min(range.start));
        let end = touched.last().map_or(range.end, |held| held.end.max(range.end));
        self.0.splice(first..behind, std::iter::once(start..end));
    }

    /// How many bytes from the start on are here without a gap.
    pub(super) fn prefix(&self) -> u64 {
        self.0.first().filter(|first| first.start == 0).map_or(0, |first| first.end)
    }

    /// What is here behind the first gap.
    pub(super) fn ahead(&self) -> &[Range<u64>] {
        let skip = usize::from(self.prefix() > 0);
        &self.0[skip..]
    }

    /// The range that holds the byte at `offset`.
    pub(super) fn around(&self, offset: u64) -> Option<&Range<u64>> {
        let at = self.0.partition_point(|held| held.end <= offset);
        self.0.get(at).filter(|held| held.start <= offset)
    }

    /// Where the first range behind `offset` begins.
    pub(super) fn next_after(&self, offset: u64) -> Option<u64> {
        let at = self.0.partition_point(|held| held.start <= offset);
        self.0.get(at).map(|held| held.start)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// How many bytes that are.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|held| held.end - held.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_of_the_bytes_that_were_inserted(parts in prop::collection::vec((0_u64..200, 0_u64..40), 0..40)) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 256];
            for (start, length) in parts {
                ranges.insert(start..start + length);
                (start..start + length).for_each(|at| bytes[usize::try_from(at).expect("small")] = true);
            }
            let held = |at: u64| bytes[usize::try_from(at).expect("small")];
            for at in 0..255 {
                prop_assert_eq!(ranges.around(at).is_some(), held(at));
            }
            prop_assert_eq!(ranges.prefix(), (0..255).take_while(|at| held(*at)).count() as u64);
            prop_assert_eq!(ranges.bytes(), (0..255).filter(|at| held(*at)).count() as u64);
            let starts: Vec<u64> = ranges.iter().map(|held| held.start).collect();
            let joined = ranges.iter().zip(ranges.iter().skip(1)).all(|(one, next)| one.end < next.start);
            prop_assert!(joined, "{:?}", ranges);
            for at in 0..255 {
                prop_assert_eq!(ranges.next_after(at), starts.iter().copied().find(|start| *start > at));
            }
        }
    }
}
