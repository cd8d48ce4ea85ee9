//! A limit on the turns that have just begun. A turn takes memory for its task, however little it applies, and few
//! transactions are built at a time anyway.
//!
//! A turn that takes long does not count: it may wait for the folds of its run, or for another run, and others must not
//! wait for it.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

/// Maximum number of turns in progress, not counting turns that take long. It is larger than the number of transactions
/// that are built at a time, so that another turn is always ready.
pub(super) const FRESH_TURNS: usize = 256;
/// Time after which a turn takes long.
const LONG: Duration = Duration::from_millis(250);

/// Start of a turn, with a number that makes it unique.
pub(super) type TurnStart = (Instant, u64);

/// The turns in progress that do not take long yet.
#[derive(Default)]
pub(super) struct FreshTurns {
    begun: BTreeSet<TurnStart>,
    /// Number of turns so far.
    count: u64,
}

impl FreshTurns {
    /// Whether no further turn may begin now.
    pub(super) fn is_full(&mut self) -> bool {
        let now = Instant::now();
        while self.begun.first().is_some_and(|(began, _)| now.duration_since(*began) >= LONG) {
            self.begun.pop_first();
        }
        self.begun.len() >= FRESH_TURNS
    }

    pub(super) fn begin(&mut self) -> TurnStart {
        self.count += 1;
        let start = (Instant::now(), self.count);
        self.begun.insert(start);
        start
    }

    pub(super) fn end(&mut self, start: TurnStart) {
        self.begun.remove(&start);
    }

    /// Time from which the oldest of these turns takes long, so that another one may begin.
    pub(super) fn next_room(&self) -> Option<Instant> {
        self.begun.first().map(|(began, _)| *began + LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rule_40_stuck_turns_leave_room_for_others() {
        let mut turns = FreshTurns::default();
        let begin = |turns: &mut FreshTurns| {
            let begun: Vec<_> = (0..FRESH_TURNS).map(|_| turns.begin()).collect();
            assert!(turns.is_full());
            begun
        };
        let stuck = begin(&mut turns);
        let room = turns.next_room().unwrap();
        tokio::time::advance(LONG).await;
        assert!(Instant::now() >= room && !turns.is_full());
        let others = begin(&mut turns);
        turns.end(stuck[0]);
        assert!(turns.is_full(), "a turn that took long did not count");
        turns.end(others[7]);
        assert!(!turns.is_full());
    }
}
