//! One value of all runs of a table.

use matyan_model::ids::RunNumber;
use matyan_store::Stamp;

use super::{
    roster::{Roster, Slot},
    run_value::ColumnKey,
    term::{Term, TermRef},
};

pub(super) struct Column {
    /// Every change up to here is included.
    pub(super) position: Stamp,
    /// By slot; runs beyond the end have the default.
    values: Vec<Term>,
    default: Term,
    heap_bytes: usize,
    /// When a request last needed the column.
    pub(super) used: u64,
}

/// A column as read from the store.
pub(super) struct ReadColumn {
    /// A position before all snapshots that the values were read from.
    pub(super) position: Stamp,
    pub(super) values: Vec<(RunNumber, Term)>,
}

impl Column {
    /// `roster` includes every run that existed when the column was read.
    pub(super) fn new(key: &ColumnKey, roster: &Roster, read: ReadColumn) -> Self {
        // A run without an experiment sorts like one whose experiment has an empty name.
        let default = if let ColumnKey::Experiment { .. } = key { Term::text("") } else { Term::Absent };
        let mut column =
            Self { position: read.position, values: Vec::new(), default, heap_bytes: 0, used: 0 };
        column.values.resize(roster.len(), column.default.clone());
        for (number, value) in read.values {
            if let Some(slot) = roster.slot(number) {
                column.set(slot, value);
            }
        }
        column
    }

    pub(super) fn get(&self, slot: Slot) -> TermRef<'_> {
        self.values.get(slot as usize).unwrap_or(&self.default).borrow()
    }

    /// Returns whether the value is new.
    pub(super) fn set(&mut self, slot: Slot, value: Term) -> bool {
        let index = slot as usize;
        if index >= self.values.len() {
            self.values.resize(index + 1, self.default.clone());
        }
        if self.values[index] == value {
            return false;
        }
        self.heap_bytes += value.heap_bytes();
        self.heap_bytes = self.heap_bytes.saturating_sub(self.values[index].heap_bytes());
        self.values[index] = value;
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<Term>() + self.heap_bytes
    }
}
