//! The cursor of a run id: the position in the log up to which a writer has applied it.

use matyan_model::{
    keys,
    position::{Cursor, LogPosition},
};
use matyan_store::Value;

use crate::apply::transaction::RunTransaction;

#[derive(Debug, Default)]
pub(crate) struct RunCursor {
    cursor: Cursor,
    /// The stored row, which the next transaction expects.
    row: Option<Value>,
}

impl RunCursor {
    pub(crate) fn stored(cursor: Option<Cursor>, row: Option<Value>) -> Self {
        Self { cursor: cursor.unwrap_or_default(), row }
    }

    pub(crate) fn row(&self) -> &Option<Value> {
        &self.row
    }

    /// The item at which to continue a record; `None` if the whole record is applied.
    pub(crate) fn next_item(&self, position: LogPosition) -> Option<u32> {
        self.cursor.next_item(position)
    }

    /// Moves past a record.
    pub(crate) fn advance_past(&mut self, position: LogPosition) {
        self.cursor = self.cursor.advanced_past(position);
    }

    /// Moves to an item inside a record.
    pub(crate) fn move_into(&mut self, position: LogPosition, item: u32) {
        self.cursor = Cursor { position, item, ..self.cursor };
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.cursor.is_quarantined
    }

    /// Whether the parked records of a run are being applied.
    pub(crate) fn is_replaying(&self) -> bool {
        self.cursor.is_replaying
    }

    pub(crate) fn get(&self) -> Cursor {
        self.cursor
    }

    /// Returns whether the run had been given up, and resumes it.
    pub(crate) fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.cursor.is_given_up)
    }

    /// Writes the row if it has changed.
    pub(crate) fn write(&mut self, transaction: &mut RunTransaction<'_>) {
        let row = self.cursor.encode();
        if self.row.as_ref() != Some(&row) {
            let run = transaction.run();
            transaction.batch().set(keys::cursor(run.project, &run.id), row.clone());
            self.row = Some(row);
        }
    }
}
