//! One value of all runs of a table.

use matyan_model::ids::RunNumber;
use matyan_store::Stamp;
use tokio::time::Instant;

use super::{
    memory::{ManyValues, Reservation, grow, grown_capacity, vec_growth},
    roster::Slot,
    run_value::ColumnKey,
};
use crate::listing::{Term, TermRef};

pub(super) struct Column {
    /// Every change up to here is included.
    pub(super) position: Stamp,
    /// By slot; runs beyond the end have the default.
    values: ManyValues<Term>,
    default: Term,
    heap_bytes: usize,
    /// When a request last needed the column.
    pub(super) used: Instant,
}

/// Values as read from the store.
pub(super) type ReadValues = Vec<(RunNumber, Term)>;

/// A column as read from the store.
pub(super) struct ReadColumn {
    /// A position before all snapshots that the values were read from.
    pub(super) position: Stamp,
    pub(super) pages: ManyValues<ReadValues>,
    /// The memory of the pages.
    pub(super) reserved: Reservation,
}

impl Column {
    pub(super) fn new(key: &ColumnKey, runs: usize, position: Stamp) -> Self {
        let default = default_term(key);
        let values = ManyValues::new(Vec::with_capacity(grown_capacity(runs)));
        let mut column = Self { position, values, heap_bytes: 0, default, used: Instant::now() };
        column.resize(runs);
        column
    }

    fn resize(&mut self, runs: usize) {
        let more = runs - self.values.len();
        self.heap_bytes += more * self.default.heap_bytes();
        grow(&mut self.values, more);
        self.values.resize(runs, self.default.clone());
    }

    pub(super) fn get(&self, slot: Slot) -> TermRef<'_> {
        self.values.get(slot as usize).unwrap_or(&self.default).borrow()
    }

    /// Returns whether the value is new.
    pub(super) fn set(&mut self, slot: Slot, value: Term) -> bool {
        let index = slot as usize;
        if index >= self.values.len() {
            self.resize(index + 1);
        }
        if self.values[index] == value {
            return false;
        }
        self.heap_bytes = self.heap_bytes + value.heap_bytes() - self.values[index].heap_bytes();
        self.values[index] = value;
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<Term>() + self.heap_bytes
    }

    /// Upper bound of the memory that new values of some runs take, if there are then `runs`.
    pub(super) fn growth(&self, runs: usize, changed: usize) -> usize {
        let added = runs.saturating_sub(self.values.len());
        vec_growth(&self.values, added) + added * self.default.heap_bytes() + changed * Term::MAX_HEAP_BYTES
    }
}

/// The value of a run that a column was read without.
pub(super) fn default_term(key: &ColumnKey) -> Term {
    // A run without an experiment sorts like one whose experiment has an empty name.
    if let ColumnKey::Experiment { .. } = key { Term::text("") } else { Term::Absent }
}
