//! The work of finding the groups of runs with equal values, in steps.

use super::{
    equal_runs::EqualRuns,
    order::OrderKey,
    roster::Slot,
    run_table::RunTable,
    table_work::{SLICE, TableWork},
};

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
        let found = self.found.get_or_insert_with(|| EqualRuns::for_runs(table.roster.len()));
        let comparison = table.comparison(&self.key)?;
        let sorted = table.sorted(&self.key);
        let end = sorted.len().min(self.done + SLICE);
        for slot in &sorted[self.done..end] {
            let last = found.examples().last();
            let is_new = last.is_none_or(|last| comparison.compare_values(*last, *slot).is_ne());
            found.push(*slot, is_new);
        }
        self.done = end;
        if end < sorted.len() {
            return Some(false);
        }
        let mut found = self.found.take()?;
        found.shrink_to_fit();
        table.set_equal_runs(&self.key, found);
        Some(true)
    }
}
