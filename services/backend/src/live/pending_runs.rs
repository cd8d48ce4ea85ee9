//! Runs that have changed and have not been sent yet, in the order of their first change.

use std::collections::{HashSet, VecDeque};

use matyan_model::ids::RunNumber;
use matyan_store::Stamp;
use tokio::time::Instant;

struct PendingRun {
    number: RunNumber,
    first: Stamp,
    due: Instant,
}

#[derive(Default)]
pub(crate) struct PendingRuns {
    order: VecDeque<PendingRun>,
    numbers: HashSet<RunNumber>,
}

impl PendingRuns {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Adds a run. A run that is already waiting keeps the due time of its first change.
    pub(crate) fn add(&mut self, number: RunNumber, first: Stamp, due: Instant) {
        if self.numbers.insert(number) {
            self.order.push_back(PendingRun { number, first, due });
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.order.front().map(|entry| entry.due)
    }

    /// Takes up to `count` runs that are due.
    pub(crate) fn take(&mut self, now: Instant, count: usize) -> Vec<RunNumber> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(entry) = self.order.pop_front_if(|entry| entry.due <= now)
        {
            self.numbers.remove(&entry.number);
            taken.push(entry.number);
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

    #[test]
    fn runs_are_taken_in_the_order_of_their_first_changes() {
        let mut pending = PendingRuns::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for (number, at, due) in [(1, 1, now), (2, 2, now), (1, 3, later), (3, 4, later)] {
            pending.add(RunNumber(number), stamp(at), due);
        }
        assert_eq!((pending.len(), pending.position_before_first()), (3, Some(stamp(0))));
        assert_eq!(pending.take(now, 1), [RunNumber(1)]);
        assert_eq!(pending.position_before_first(), Some(stamp(1)));
        assert_eq!(pending.take(now, 9), [RunNumber(2)]);
        assert_eq!(pending.due(), Some(later));
        pending.add(RunNumber(1), stamp(5), later);
        assert_eq!(pending.take(later, 9), [RunNumber(3), RunNumber(1)]);
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
