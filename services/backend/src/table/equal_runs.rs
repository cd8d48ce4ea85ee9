//! The groups of runs with equal values, numbered in the order of the values. They are found once for
//! each sort order, so that a request reads the runs in the order of their slots: in a sorted order, each
//! value of a run is elsewhere in memory.

use super::{
    RunTable,
    order::OrderKey,
    roster::Slot,
    table_work::{SLICE, TableWork},
};

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

/// Groups the runs of an order that was just brought up to date, unless they are.
pub(super) struct GroupEqualRuns {
    key: OrderKey,
    /// Number of runs done, in the order.
    done: usize,
    found: Option<EqualRuns>,
}

impl GroupEqualRuns {
    pub(super) fn new(key: OrderKey) -> Self {
        Self { key, done: 0, found: None }
    }
}

impl TableWork for GroupEqualRuns {
    fn bytes(&self, table: &RunTable) -> usize {
        // A number for each run, and at most as many groups, in a vector that grows.
        4 * table.roster.len() * size_of::<Slot>()
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        if table.equal_runs(&self.key).is_some() {
            return Some(true);
        }
        let found = self.found.get_or_insert_with(|| EqualRuns {
            of_runs: vec![NONE; table.roster.len()],
            examples: Vec::new(),
        });
        let comparison = table.comparison(&self.key)?;
        let sorted = table.sorted(&self.key);
        let end = sorted.len().min(self.done + SLICE);
        for slot in &sorted[self.done..end] {
            let is_new =
                found.examples.last().is_none_or(|last| comparison.compare_values(*last, *slot).is_ne());
            if is_new {
                found.examples.push(*slot);
            }
            found.of_runs[*slot as usize] = found.examples.len() as GroupNumber - 1;
        }
        self.done = end;
        if end < sorted.len() {
            return Some(false);
        }
        let mut found = self.found.take()?;
        found.examples.shrink_to_fit();
        table.set_equal_runs(&self.key, found);
        Some(true)
    }
}
