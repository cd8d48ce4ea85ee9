//! A sort that stops after every slice of work, so that its caller may give it up: parts are sorted,
//! and then merged in pairs.

use std::{cmp::Ordering, collections::VecDeque};

/// Items sorted in a slice.
const SORTED: usize = 8_000;

/// Comparisons of a slice that merges: about as many as in a slice that sorts.
const COMPARISONS: usize = 100_000;

/// Comparisons that find the place of an item, at most.
const SEARCH: usize = 32;

pub(super) struct SlicedSort<T> {
    /// Items that no part has yet.
    unsorted: Vec<T>,
    /// Sorted parts; the parts at the front are merged next.
    parts: VecDeque<Vec<T>>,
    merge: Option<Merge<T>>,
}

struct Merge<T> {
    longer: Vec<T>,
    shorter: Vec<T>,
    /// Number of items taken from each.
    taken: (usize, usize),
    merged: Vec<T>,
}

impl<T: Copy> SlicedSort<T> {
    /// Sorts `unsorted` into `sorted`, which may be empty.
    pub(super) fn new(sorted: Vec<T>, unsorted: Vec<T>) -> Self {
        Self { unsorted, parts: [sorted].into(), merge: None }
    }

    /// Bytes that a sort of this number of items takes.
    pub(super) fn bytes(items: usize) -> usize {
        2 * items * size_of::<T>()
    }

    /// Whether this number of items is sorted in a slice.
    pub(super) fn is_short(unsorted: usize) -> bool {
        unsorted <= SORTED
    }

    /// Continues for a slice. Returns the items once they are sorted.
    pub(super) fn step(&mut self, compare: impl Fn(&T, &T) -> Ordering) -> Option<Vec<T>> {
        if !self.unsorted.is_empty() {
            let mut part = self.unsorted.split_off(self.unsorted.len().saturating_sub(SORTED));
            part.sort_unstable_by(&compare);
            self.parts.push_back(part);
            return None;
        }
        let mut merge = match self.merge.take() {
            Some(merge) => merge,
            None => {
                let first = self.parts.pop_front().unwrap_or_default();
                let Some(second) = self.parts.pop_front() else { return Some(first) };
                Merge::new(first, second)
            }
        };
        if merge.step(compare) {
            self.parts.push_back(merge.merged)
        } else {
            self.merge = Some(merge)
        }
        None
    }
}

impl<T: Copy> Merge<T> {
    fn new(first: Vec<T>, second: Vec<T>) -> Self {
        let merged = Vec::with_capacity(first.len() + second.len());
        let (longer, shorter) = if first.len() < second.len() { (second, first) } else { (first, second) };
        Self { longer, shorter, taken: (0, 0), merged }
    }

    /// Continues for a slice. Returns whether all items are merged.
    fn step(&mut self, compare: impl Fn(&T, &T) -> Ordering) -> bool {
        let Self { longer, shorter, taken, merged } = self;
        // A few items in many: searching for their places takes fewer comparisons.
        let searches = shorter.len() < longer.len() / SEARCH;
        let mut left = COMPARISONS;
        while let Some(next) = shorter.get(taken.1) {
            if left < SEARCH {
                return false;
            }
            let rest = &longer[taken.0..];
            let place = if searches {
                rest.partition_point(|item| compare(item, next).is_lt())
            } else {
                let before = rest.iter().take(left - 1);
                let place = before.take_while(|item| compare(item, next).is_lt()).count();
                if place == left - 1 && place < rest.len() {
                    merged.extend_from_slice(&rest[..place]);
                    taken.0 += place;
                    return false;
                }
                place
            };
            left -= if searches { SEARCH } else { place + 1 };
            merged.extend_from_slice(&rest[..place]);
            merged.push(*next);
            *taken = (taken.0 + place, taken.1 + 1);
        }
        merged.extend_from_slice(&longer[taken.0..]);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Numbers without order or duplicates.
    fn scattered(count: u32) -> Vec<u32> {
        (0..count).map(|at| at.wrapping_mul(2_654_435_761)).collect()
    }

    fn check(sorted: Vec<u32>, unsorted: Vec<u32>) -> (usize, usize) {
        let mut expected = [sorted.clone(), unsorted.clone()].concat();
        expected.sort_unstable();
        let mut sort = SlicedSort::new(sorted, unsorted);
        let mut slices = 0;
        let mut all = 0;
        loop {
            let comparisons = Cell::new(0);
            let compare = |a: &u32, b: &u32| {
                comparisons.set(comparisons.get() + 1);
                a.cmp(b)
            };
            let found = sort.step(compare);
            assert!(comparisons.get() <= 2 * COMPARISONS, "a slice of {} comparisons", comparisons.get());
            slices += 1;
            all += comparisons.get();
            if let Some(found) = found {
                assert!(found == expected);
                return (slices, all);
            }
        }
    }

    #[test]
    fn a_sort_has_many_short_slices() {
        for count in [0, 1, 2, 7_999, 8_000, 8_001, 50_000] {
            check(Vec::new(), scattered(count));
        }
        let (slices, _) = check(Vec::new(), scattered(400_000));
        assert!(slices > 50, "{slices}");
    }

    #[test]
    fn a_few_changes_take_few_comparisons() {
        let mut sorted = scattered(400_000);
        let changed = sorted.split_off(399_900);
        sorted.sort_unstable();
        let (_, comparisons) = check(sorted.clone(), changed);
        assert!(comparisons < 10_000, "{comparisons}");
        check(sorted.clone(), Vec::new());
        check(sorted, scattered(500_000).split_off(400_000));
    }
}
