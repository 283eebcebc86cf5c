//! Sets of blocks of 64 KiB, as runs: what was changed on a disk, and what has to be looked at.
//!
//! Invariant: runs are sorted, do not touch and are not empty, so equal sets are equal values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Granularity of everything that is counted, compared and sent.
pub(crate) const BLOCK_BYTES: u64 = 65_536;

/// By disk target.
pub(crate) type Blocks = BTreeMap<String, Runs>;

/// Blocks of one disk: first of a run, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Every block that one of these ranges touches; offset and length in bytes.
    pub(crate) fn touched(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let touched = ranges.into_iter().filter(|(_, length)| *length > 0);
        Self::joined(touched.map(|(offset, length)| (offset / BLOCK_BYTES, (offset + length).div_ceil(BLOCK_BYTES))).collect())
    }

    /// From first blocks and those after the last ones.
    fn joined(mut spans: Vec<(u64, u64)>) -> Self {
        spans.sort_unstable();
        let mut runs: Vec<(u64, u64)> = vec![];
        for (from, to) in spans {
            match runs.last_mut() {
                Some((first, count)) if from <= *first + *count => *count = (*count).max(to - *first),
                Some(_) | None => runs.push((from, to - from)),
            }
        }
        Self(runs)
    }

    /// Blocks of either.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self::joined(self.0.iter().chain(&other.0).map(|(first, count)| (*first, first + count)).collect())
    }

    /// The runs in bytes: offset and length.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, count)| (first * BLOCK_BYTES, count * BLOCK_BYTES))
    }

    /// How many blocks.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn contains(&self, block: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= block);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(first, count)| block < first + count)
    }

    /// The blocks of each window of `window` blocks that has any.
    pub(crate) fn windows(&self, window: u64) -> Vec<Self> {
        let mut windows: Vec<(u64, Vec<(u64, u64)>)> = vec![];
        for (first, count) in &self.0 {
            let (mut at, end) = (*first, first + count);
            while at < end {
                let number = at / window;
                let next = ((number + 1) * window).min(end);
                match windows.last_mut() {
                    Some((last, runs)) if *last == number => runs.push((at, next - at)),
                    Some(_) | None => windows.push((number, vec![(at, next - at)])),
                }
                at = next;
            }
        }
        windows.into_iter().map(|(_, runs)| Self(runs)).collect()
    }

    /// From the first block to behind the last one; `None` if there is no block.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let (first, _) = self.0.first()?;
        self.0.last().map(|(last, count)| (*first, last + count))
    }

    /// One bit a block, of `count` blocks from `first` on, the lowest bit first.
    pub(crate) fn bits(&self, first: u64, count: u64) -> Vec<u8> {
        let mut bits = vec![0; usize::try_from(count.div_ceil(8)).unwrap_or(0)];
        for (run, length) in &self.0 {
            for block in (*run).max(first)..(run + length).min(first + count) {
                let at = block - first;
                if let Some(byte) = usize::try_from(at / 8).ok().and_then(|at| bits.get_mut(at)) {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        bits
    }

    /// What [`Runs::bits`] has written, where its first bit is block `first`.
    pub(crate) fn of_bits(first: u64, bits: &[u8]) -> Self {
        let set = (first..).zip(bits.iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)));
        Self::joined(set.filter(|(_, set)| *set).map(|(block, _)| (block, block + 1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_touched_block_is_in_once() {
        let runs = Runs::touched([(3 * BLOCK_BYTES, 1), (0, BLOCK_BYTES + 1), (4 * BLOCK_BYTES, BLOCK_BYTES), (0, 0)]);
        assert_eq!(runs, Runs(vec![(0, 2), (3, 2)]));
        assert_eq!((runs.count(), runs.span()), (4, Some((0, 5))));
        let inside: Vec<u64> = (0..7).filter(|b| runs.contains(*b)).collect();
        assert_eq!(inside, [0, 1, 3, 4]);
        assert_eq!(Runs::default().span(), None);
    }

    #[test]
    fn a_union_has_the_blocks_of_both_and_no_other() {
        let (a, b) = (Runs(vec![(0, 2), (10, 5)]), Runs(vec![(2, 1), (12, 9)]));
        assert_eq!(a.and(&b), Runs(vec![(0, 3), (10, 11)]));
        assert_eq!(a.and(&b), b.and(&a));
        assert_eq!(a.and(&Runs::default()), a);
    }

    #[test]
    fn windows_split_a_set_and_lose_nothing() {
        let runs = Runs(vec![(1, 1), (3, 10), (40, 2)]);
        let windows = runs.windows(8);
        assert_eq!(windows, [Runs(vec![(1, 1), (3, 5)]), Runs(vec![(8, 5)]), Runs(vec![(40, 2)])]);
        assert_eq!(windows.iter().fold(Runs::default(), |all, w| all.and(w)), runs);
    }

    #[test]
    fn bits_read_back_as_the_same_set() {
        let runs = Runs(vec![(1, 1), (3, 10), (40, 2)]);
        assert_eq!(Runs::of_bits(0, &runs.bits(0, 64)), runs);
        assert_eq!(Runs::of_bits(8, &runs.bits(8, 20)), Runs(vec![(8, 5)]));
        assert_eq!(runs.bits(0, 9), [0b1111_1010, 1]);
    }
}
