//! Room for the parts of tables, which is made before a part grows. Orders are dropped first: they are
//! sorted again in memory. A column costs a scan of its index, and the table of another project costs its
//! roster as well; whichever was needed longer ago is next. The matches of a query are last, because they
//! take a search to find and a byte per run to keep.

use matyan_model::ids::Project;
use tokio::time::Instant;

use super::{NeededParts, OpenTable, RunTable, RunTables, SharedTable, memory::Reservation};
use crate::error::{Error, Result};

/// The memory of a part that is being read.
pub(super) struct Room<'r> {
    pub(super) tables: &'r RunTables,
    pub(super) project: Project,
    pub(super) shared: &'r SharedTable,
    pub(super) needed: &'r NeededParts<'r>,
    pub(super) reserved: Reservation,
}

impl Room<'_> {
    /// Reserves this many bytes in all. Also lets a request end here whose client has left.
    pub(super) async fn reserve(&mut self, bytes: usize) -> Result<()> {
        tokio::task::yield_now().await;
        while !self.reserved.resize(bytes) {
            let mut open = self.shared.table.lock().await;
            if !make_room(self.tables, self.project, open.as_mut(), self.needed) {
                return Err(too_large(self.tables));
            }
        }
        Ok(())
    }
}

fn too_large(tables: &RunTables) -> Error {
    Error::SortTooLarge { limit: tables.memory.limit() }
}

/// Reserves this many bytes besides those of a table whose lock is held.
pub(super) fn reserve(
    tables: &RunTables,
    project: Project,
    table: &mut RunTable,
    needed: &NeededParts<'_>,
    more: usize,
) -> Result<()> {
    loop {
        let bytes = table.bytes().saturating_add(more);
        if table.reserved.resize(bytes) {
            return Ok(());
        }
        if !make_room(tables, project, Some(table), needed) {
            return Err(too_large(tables));
        }
    }
}

/// Drops something that a request does not need. Returns whether there was anything.
fn make_room(
    tables: &RunTables,
    project: Project,
    own: Option<&mut RunTable>,
    needed: &NeededParts<'_>,
) -> bool {
    let Some(own) = own else {
        return oldest_table(tables, project).is_some_and(|(_, mut open)| open.take().is_some());
    };
    if let Some(key) = own.oldest_order(needed) {
        own.drop_order(&key);
        return true;
    }
    let column = own.oldest_column(needed);
    if let Some((used, mut open)) = oldest_table(tables, project)
        && column.as_ref().is_none_or(|(column_used, _)| used < *column_used)
    {
        return open.take().is_some();
    }
    if let Some((_, key)) = column {
        own.drop_column(&key);
        return true;
    }
    let Some(key) = own.oldest_matches(needed) else { return false };
    own.drop_matches(&key);
    true
}

/// The table of another project that was not needed for the longest time, unless a request is
/// working on it.
fn oldest_table(tables: &RunTables, project: Project) -> Option<(Instant, OpenTable)> {
    let all = tables.lock();
    let idle = all.iter().filter(|(other, _)| **other != project).filter_map(|(_, shared)| {
        let open = shared.table.clone().try_lock_owned().ok()?;
        let is_idle = open.is_some() && shared.reading.try_lock().is_ok();
        is_idle.then(|| (shared.used(), open))
    });
    idle.min_by_key(|(used, _)| *used)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::IntGauge;

    use super::*;
    use crate::{
        stream::Streams,
        table::{
            column::{AddColumn, ReadColumn},
            memory::ManyValues,
            order::SortRuns,
            roster::Roster,
            run_value::{ColumnKey, TableValue},
            table_work::TableWork,
        },
    };

    fn table(tables: &RunTables) -> RunTable {
        let position = matyan_store::Version(1).stamp(0);
        let mut table = RunTable::new(Roster::new(position), tables.memory.reservation());
        assert!(table.reserved.resize(10_000));
        for key in [ColumnKey::Name, ColumnKey::Created] {
            let read =
                ReadColumn { position, pages: ManyValues::default(), reserved: tables.memory.reservation() };
            assert_eq!(AddColumn::new(key, read).step(&mut table), Some(true));
        }
        table
    }

    #[test]
    fn the_parts_that_are_cheapest_to_rebuild_are_dropped_first() {
        let tables = RunTables::new(Streams::default(), 1_000_000, IntGauge::new("used", "used").unwrap());
        let by = |key: ColumnKey| vec![(TableValue::Column(key), false)];
        let mut table = table(&tables);
        let mut work = SortRuns::new(by(ColumnKey::Created));
        while work.step(&mut table) == Some(false) {}
        let other = Arc::new(SharedTable {
            table: Arc::default(),
            reading: Default::default(),
            used: std::sync::Mutex::new(Instant::now()),
        });
        *other.table.try_lock().unwrap() = Some(self::table(&tables));
        tables.lock().insert(Project(2), other.clone());
        let order = by(ColumnKey::Name);
        let needed = NeededParts { columns: vec![ColumnKey::Name], query: None, order: &order };
        let mut steps = Vec::new();
        while make_room(&tables, Project(1), Some(&mut table), &needed) {
            let is_open = other.table.try_lock().unwrap().is_some();
            steps.push((table.orders.len(), table.columns.len(), is_open));
        }
        // The order, the column that was used before the other table, and the other table.
        assert_eq!(steps, [(0, 2, true), (0, 1, true), (0, 1, false)]);
    }
}
