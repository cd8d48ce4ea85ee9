//! Runs that have changed and have not been sent yet, in the order of their first change.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use matyan_model::ids::RunNumber;
use matyan_store::Stamp;
use tokio::time::Instant;

use super::change_feed::ChangedRun;

/// A run to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueRun {
    pub(crate) number: RunNumber,
    /// Points that it shares as a branch have changed.
    pub(crate) shared_points: bool,
}

struct PendingRun {
    number: RunNumber,
    first: Stamp,
    due: Instant,
}

#[derive(Default)]
pub(crate) struct PendingRuns {
    order: VecDeque<PendingRun>,
    /// Whether points have changed that the run shares.
    numbers: HashMap<RunNumber, bool>,
}

impl PendingRuns {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Adds a run. A run that is already waiting keeps the due time of its first change.
    pub(crate) fn add(&mut self, changed: ChangedRun, due: Instant) {
        let ChangedRun { number, stamp, is_shared } = changed;
        match self.numbers.entry(number) {
            Entry::Occupied(mut waiting) => *waiting.get_mut() |= is_shared,
            Entry::Vacant(new) => {
                new.insert(is_shared);
                self.order.push_back(PendingRun { number, first: stamp, due });
            }
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.order.front().map(|entry| entry.due)
    }

    /// Takes up to `count` runs that are due.
    pub(crate) fn take(&mut self, now: Instant, count: usize) -> Vec<DueRun> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(entry) = self.order.pop_front_if(|entry| entry.due <= now)
        {
            let shared_points = self.numbers.remove(&entry.number).unwrap_or_default();
            taken.push(DueRun { number: entry.number, shared_points });
        }
        taken
    }

    /// The position immediately before the first unsent change.
    pub(crate) fn position_before_first(&self) -> Option<Stamp> {
        self.order.front().map(|entry| predecessor(entry.first))
    }
}

fn predecessor(Stamp(mut bytes): Stamp) -> Stamp {
    for byte in bytes.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            break;
        }
    }
    Stamp(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stamp(last: u8) -> Stamp {
        Stamp([0, 0, 0, 0, 0, 0, 0, 1, 0, last])
    }

    fn changed(number: u64, at: u8, is_shared: bool) -> ChangedRun {
        ChangedRun { stamp: stamp(at), number: RunNumber(number), is_shared }
    }

    fn due(number: u64, shared_points: bool) -> DueRun {
        DueRun { number: RunNumber(number), shared_points }
    }

    #[test]
    fn runs_are_taken_in_the_order_of_their_first_changes() {
        let mut pending = PendingRuns::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for (run, due) in [
            (changed(1, 1, false), now),
            (changed(2, 2, true), now),
            (changed(1, 3, true), later),
            (changed(2, 3, false), later),
            (changed(3, 4, false), later),
        ] {
            pending.add(run, due);
        }
        assert_eq!((pending.len(), pending.position_before_first()), (3, Some(stamp(0))));
        assert_eq!(pending.take(now, 1), [due(1, true)]);
        assert_eq!(pending.position_before_first(), Some(stamp(1)));
        assert_eq!(pending.take(now, 9), [due(2, true)]);
        assert_eq!(pending.due(), Some(later));
        pending.add(changed(1, 5, false), later);
        assert_eq!(pending.take(later, 9), [due(3, false), due(1, false)]);
        assert_eq!(pending.position_before_first(), None);
    }

    #[test]
    fn decrementing_a_stamp_borrows() {
        assert_eq!(
            predecessor(Stamp([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            Stamp([0, 255, 255, 255, 255, 255, 255, 255, 255, 255])
        );
        assert_eq!(predecessor(stamp(7)), stamp(6));
    }
}
