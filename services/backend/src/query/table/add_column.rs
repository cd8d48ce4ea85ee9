//! The work of adding a column to a table, in slices.

use matyan_store::Stamp;

use super::{
    column::{Column, ReadColumn, ReadValues, default_term},
    memory::{ManyValues, Reservation, grown_capacity},
    run_table::RunTable,
    run_value::ColumnKey,
    table_work::{SLICE, TableWork},
};
use crate::listing::Term;

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
        let runs = table.roster.len();
        let position = self.position;
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
