//! The runs of a table in a sort order, and the values that they are compared by.

use std::cmp::Ordering;

use tokio::time::Instant;

use super::{
    column::Column,
    equal_runs::EqualRuns,
    memory::{grow, vec_growth},
    roster::{Roster, Slot},
    run_value::{ColumnKey, TableValue},
};
use crate::listing::{Term, TermRef, compare};

/// Fraction of the runs above which sorting all of them is faster than moving the changed runs.
const SORT_FROM: usize = 8;

/// Values with their directions, the most significant first.
pub(super) type OrderKey = Vec<(TableValue, bool)>;

pub(super) struct Order {
    key: OrderKey,
    /// Every run except deleted runs, with changed runs at their old places.
    pub(super) sorted: Vec<Slot>,
    pub(super) changed: Vec<Slot>,
    /// The groups of runs with equal values, once a request has needed them. The next order has its own.
    pub(super) equal: Option<EqualRuns>,
    /// When a request last needed the order.
    pub(super) used: Instant,
}

impl Order {
    pub(super) fn new(key: OrderKey, sorted: Vec<Slot>) -> Self {
        Self { key, sorted, changed: Vec::new(), equal: None, used: Instant::now() }
    }

    pub(super) fn uses(&self, column: &ColumnKey) -> bool {
        self.key.iter().any(|(value, _)| value.uses(column))
    }

    pub(super) fn mark_changed(&mut self, slot: Slot) {
        if !self.is_outdated() {
            grow(&mut self.changed, 1);
            self.changed.push(slot);
        }
    }

    pub(super) fn key(&self) -> &OrderKey {
        &self.key
    }

    /// Whether too many runs have changed to move each of them.
    pub(super) fn is_outdated(&self) -> bool {
        self.changed.len() > self.most_changed()
    }

    /// The number of changed runs up to which each of them is moved.
    pub(super) fn most_changed(&self) -> usize {
        self.sorted.len() / SORT_FROM
    }

    pub(super) fn bytes(&self) -> usize {
        let equal = self.equal.as_ref().map_or(0, EqualRuns::bytes);
        (self.sorted.capacity() + self.changed.capacity()) * size_of::<Slot>() + equal
    }

    /// Upper bound of the memory that this number of changed runs takes.
    pub(super) fn growth(&self, runs: usize) -> usize {
        vec_growth(&self.changed, runs)
    }
}

/// A value of all runs of a table.
pub(super) enum Values<'t> {
    RunIds(&'t Roster),
    Numbers(&'t Roster),
    Durations { created: &'t Column, ended: &'t Column, active: &'t Column, now_us: i64 },
    Column(&'t Column),
}

impl<'t> Values<'t> {
    pub(super) fn get(&self, slot: Slot) -> TermRef<'t> {
        match self {
            Self::RunIds(roster) => roster.run_id(slot),
            Self::Numbers(roster) => TermRef::Integer(roster.number(slot).0.cast_signed()),
            Self::Column(column) => column.get(slot),
            Self::Durations { created, ended, active, now_us } => {
                let ended = match (active.get(slot), ended.get(slot)) {
                    (TermRef::Bool(true), _) => *now_us,
                    (_, TermRef::Integer(ended_us)) => ended_us,
                    _ => return TermRef::Absent,
                };
                match created.get(slot) {
                    TermRef::Integer(created_us) => TermRef::Integer(ended.saturating_sub(created_us)),
                    _ => TermRef::Absent,
                }
            }
        }
    }
}

/// The values of a sort order, to compare runs by them and then by id.
pub(super) struct Comparison<'t> {
    roster: &'t Roster,
    values: Vec<(Values<'t>, bool)>,
}

impl<'t> Comparison<'t> {
    /// Compares by values with their directions, the most significant first.
    pub(super) fn new(roster: &'t Roster, values: Vec<(Values<'t>, bool)>) -> Self {
        Self { roster, values }
    }

    pub(super) fn compare(&self, a: Slot, b: Slot) -> Ordering {
        self.compare_values(a, b).then_with(|| compare(self.roster.run_id(a), self.roster.run_id(b), false))
    }

    /// Compares the values of two runs.
    pub(super) fn compare_values(&self, a: Slot, b: Slot) -> Ordering {
        for (values, descending) in &self.values {
            let ordering = compare(values.get(a), values.get(b), *descending);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }

    /// Compares a run with the place of another one.
    pub(super) fn compare_with(&self, slot: Slot, terms: &[Term], run_id: &str) -> Ordering {
        self.compare_with_values(slot, terms)
            .then_with(|| compare(self.roster.run_id(slot), TermRef::Text(run_id), false))
    }

    /// Compares the values of a run with others.
    pub(super) fn compare_with_values(&self, slot: Slot, terms: &[Term]) -> Ordering {
        for ((values, descending), term) in self.values.iter().zip(terms) {
            let ordering = compare(values.get(slot), term.borrow(), *descending);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }

    pub(super) fn terms(&self, slot: Slot) -> Vec<Term> {
        self.values.iter().map(|(values, _)| values.get(slot).to_term()).collect()
    }
}
