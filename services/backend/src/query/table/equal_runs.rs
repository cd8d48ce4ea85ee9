//! The groups of runs with equal values, numbered in the order of the values. They are found once for
//! each sort order, so that a request reads the runs in the order of their slots: in a sorted order, each
//! value of a run is elsewhere in memory.

use super::roster::Slot;

/// The number of a group.
type GroupNumber = u32;

/// The group of a run that the order does not have.
const NONE: GroupNumber = GroupNumber::MAX;

/// The runs of an order, grouped by their values.
pub(super) struct EqualRuns {
    /// By slot.
    of_runs: Vec<GroupNumber>,
    /// A run of each group.
    examples: Vec<Slot>,
}

impl EqualRuns {
    /// Room for this number of runs, none of which has a group.
    pub(super) fn for_runs(count: usize) -> Self {
        Self { of_runs: vec![NONE; count], examples: Vec::new() }
    }

    /// Adds a run to the last group, or to a new one.
    pub(super) fn push(&mut self, slot: Slot, is_new_group: bool) {
        if is_new_group {
            self.examples.push(slot);
        }
        self.of_runs[slot as usize] = self.examples.len() as GroupNumber - 1;
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.examples.shrink_to_fit();
    }

    /// The index of the group of a run.
    pub(super) fn group(&self, slot: Slot) -> Option<usize> {
        self.of_runs.get(slot as usize).filter(|group| **group != NONE).map(|group| *group as usize)
    }

    /// A run of each group.
    pub(super) fn examples(&self) -> &[Slot] {
        &self.examples
    }

    pub(super) fn bytes(&self) -> usize {
        (self.of_runs.capacity() + self.examples.capacity()) * size_of::<Slot>()
    }
}
