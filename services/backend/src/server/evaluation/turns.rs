//! The order of slices that wait for a thread: the search that has used the least time comes first, so that a small
//! search does not wait for large ones. In every fourth turn, the slice that has waited longest runs, so large searches
//! go on whatever else comes.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::{Condvar, Mutex};

/// In one of this number of turns, the slice that has waited longest runs.
const LONGEST_WAIT_TURN: u64 = 4;

/// Slices that wait, from many tasks to many threads.
pub(super) struct Turns<J> {
    line: Mutex<Line<J>>,
    changed: Condvar,
}

struct Line<J> {
    waiting: BTreeMap<Place, J>,
    /// The places by their numbers, which ascend in the order of arrival.
    arrivals: BTreeMap<u64, Place>,
    next_number: u64,
    turns: u64,
    is_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Time that the search had used before.
    used: Duration,
    number: u64,
}

/// A slice in the line, which leaves it when this value is dropped.
pub(super) struct WaitingSlice<'t, J> {
    turns: &'t Turns<J>,
    place: Place,
}

impl<J> WaitingSlice<'_, J> {
    /// Takes the slice out of the line. `None` if its turn has come.
    pub(super) fn take(self) -> Option<J> {
        self.turns.line.lock().remove(self.place)
    }
}

impl<J> Drop for WaitingSlice<'_, J> {
    fn drop(&mut self) {
        let left = self.turns.line.lock().remove(self.place);
        // The line is no longer locked: the slice may hold much.
        drop(left);
    }
}

impl<J> Turns<J> {
    pub(super) fn new() -> Self {
        let line = Line {
            waiting: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next_number: 0,
            turns: 0,
            is_closed: false,
        };
        Self { line: Mutex::new(line), changed: Condvar::new() }
    }

    /// Adds a slice of a search that has used this time.
    pub(super) fn add(&self, used: Duration, slice: J) -> WaitingSlice<'_, J> {
        let place = self.line.lock().add(used, slice);
        self.changed.notify_one();
        WaitingSlice { turns: self, place }
    }

    /// Waits for the next slice. `None` once there are no more, and the line is closed.
    pub(super) fn next(&self) -> Option<J> {
        let mut line = self.line.lock();
        loop {
            if let Some(slice) = line.next() {
                return Some(slice);
            }
            if line.is_closed {
                return None;
            }
            self.changed.wait(&mut line);
        }
    }

    /// Ends the threads that wait for slices.
    pub(super) fn close(&self) {
        self.line.lock().is_closed = true;
        self.changed.notify_all();
    }
}

impl<J> Line<J> {
    fn add(&mut self, used: Duration, slice: J) -> Place {
        let place = Place { used, number: self.next_number };
        self.next_number += 1;
        self.waiting.insert(place, slice);
        self.arrivals.insert(place.number, place);
        place
    }

    fn next(&mut self) -> Option<J> {
        let (least_used, _) = self.waiting.first_key_value()?;
        let (_, longest) = self.arrivals.first_key_value()?;
        self.turns += 1;
        let place = if self.turns.is_multiple_of(LONGEST_WAIT_TURN) { *longest } else { *least_used };
        self.remove(place)
    }

    fn remove(&mut self, place: Place) -> Option<J> {
        self.arrivals.remove(&place.number);
        self.waiting.remove(&place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn taken(turns: &Turns<&'static str>) -> Vec<&'static str> {
        turns.close();
        std::iter::from_fn(|| turns.next()).collect()
    }

    #[test]
    fn rule_45_a_small_search_does_not_wait_for_large_ones() {
        let turns = Turns::new();
        let _waiting = [
            turns.add(MS(500), "large"),
            turns.add(MS(100), "medium"),
            turns.add(MS(0), "small"),
            turns.add(MS(0), "second small"),
        ];
        assert_eq!(taken(&turns), ["small", "second small", "medium", "large"]);
    }

    #[test]
    fn a_large_search_goes_on_beside_small_ones() {
        let turns = Turns::new();
        let _large = turns.add(MS(500), "large");
        let mut before = 0;
        loop {
            let _small = turns.add(MS(0), "small");
            if turns.next() == Some("large") {
                break;
            }
            before += 1;
        }
        assert_eq!(before, LONGEST_WAIT_TURN - 1);
    }

    #[test]
    fn an_abandoned_slice_leaves_the_line() {
        let turns = Turns::new();
        let left = turns.add(MS(0), "left");
        let _stayed = turns.add(MS(0), "stayed");
        drop(left);
        assert_eq!(taken(&turns), ["stayed"]);
        assert!(turns.line.lock().arrivals.is_empty());
    }

    #[test]
    fn a_slice_leaves_the_line_once() {
        let turns = Turns::new();
        let first = turns.add(MS(0), "first");
        let second = turns.add(MS(0), "second");
        assert_eq!(second.take(), Some("second"));
        assert_eq!(turns.next(), Some("first"));
        assert_eq!(first.take(), None);
    }
}
