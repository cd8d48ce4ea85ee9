//! The runs that a watcher has been shown, each of which is reported once when it leaves.

use std::collections::HashSet;

use matyan_model::ids::RunNumber;

/// Maximum number of runs remembered.
const REMEMBERED: usize = 100_000;

pub(super) enum ShownRuns {
    /// The watcher knows these runs.
    Known(HashSet<RunNumber>),
    /// The watcher may know any run, except the runs that have left.
    Unknown { departed: HashSet<RunNumber> },
}

impl ShownRuns {
    pub(super) fn unknown() -> Self {
        Self::Unknown { departed: HashSet::new() }
    }

    /// The number of runs remembered.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Known(runs) | Self::Unknown { departed: runs } => runs.len(),
        }
    }

    pub(super) fn add(&mut self, number: RunNumber) {
        match self {
            Self::Known(shown) if shown.len() >= REMEMBERED => *self = Self::unknown(),
            Self::Known(shown) => drop(shown.insert(number)),
            Self::Unknown { departed } => drop(departed.remove(&number)),
        }
    }

    /// Removes a run that has left; returns whether to report that.
    pub(super) fn remove(&mut self, number: RunNumber) -> bool {
        match self {
            Self::Known(shown) => shown.remove(&number),
            Self::Unknown { departed } => {
                if departed.len() >= REMEMBERED {
                    // Costs at most a repeated report.
                    *departed = HashSet::new();
                }
                departed.insert(number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_leaves_once_and_only_if_it_may_be_known() {
        let run = RunNumber(1);
        let other = RunNumber(2);
        let mut known = ShownRuns::Known(HashSet::new());
        known.add(run);
        assert!(known.remove(run) && !known.remove(run) && !known.remove(other));
        let mut unknown = ShownRuns::unknown();
        assert!(unknown.remove(run) && !unknown.remove(run));
        unknown.add(run);
        assert!(unknown.remove(run));
        for number in 0..=REMEMBERED as u64 {
            known.add(RunNumber(number));
        }
        assert!(known.remove(RunNumber(u64::MAX)), "with too many runs, any may be known");
    }
}
