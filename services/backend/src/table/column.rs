//! One value of all runs of a table.

use matyan_model::ids::RunNumber;
use matyan_store::Stamp;
use tokio::time::Instant;

use super::{
    RunTable,
    memory::{ManyValues, Reservation, grow, grown_capacity, vec_growth},
    roster::Slot,
    run_value::ColumnKey,
    table_work::{SLICE, TableWork},
    term::{Term, TermRef},
};

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
    fn new(key: &ColumnKey, runs: usize, position: Stamp) -> Self {
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
fn default_term(key: &ColumnKey) -> Term {
    // A run without an experiment sorts like one whose experiment has an empty name.
    if let ColumnKey::Experiment { .. } = key { Term::text("") } else { Term::Absent }
}

/// Adds a column. The roster must have been brought up to date after the column was read, so that it
/// has every run of the column.
pub(super) struct AddColumn {
    key: ColumnKey,
    position: Stamp,
    column: Option<Column>,
    /// The last one is added next.
    pages: ManyValues<ReadValues>,
    /// The memory of the pages, until it belongs to the table.
    reserved: Option<Reservation>,
}

impl AddColumn {
    pub(super) fn new(key: ColumnKey, read: ReadColumn) -> Self {
        let ReadColumn { position, mut pages, reserved } = read;
        pages.reverse();
        Self { key, position, column: None, pages, reserved: Some(reserved) }
    }
}

impl TableWork for AddColumn {
    fn bytes(&self, table: &RunTable) -> usize {
        // Texts move from the pages to the column.
        let runs = table.roster.len();
        grown_capacity(runs) * size_of::<Term>() + runs * default_term(&self.key).heap_bytes()
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        let (runs, position) = (table.roster.len(), self.position);
        let column = self.column.get_or_insert_with(|| Column::new(&self.key, runs, position));
        let mut done = 0;
        while done < SLICE
            && let Some(page) = self.pages.pop()
        {
            done += page.len();
            for (number, value) in page {
                if let Some(slot) = table.roster.slot(number) {
                    column.set(slot, value);
                }
            }
        }
        if !self.pages.is_empty() {
            return Some(false);
        }
        table.columns.insert(self.key.clone(), self.column.take()?);
        if let Some(reserved) = self.reserved.take() {
            table.reserved.merge(reserved);
        }
        Some(true)
    }
}
