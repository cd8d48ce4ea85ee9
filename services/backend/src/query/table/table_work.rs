//! Work on a table in slices of some milliseconds, on the threads that evaluate queries. Between two
//! slices, other searches have their turn, and the work of a client that has left ends.

use matyan_model::ids::Project;

use super::{
    eviction,
    run_table::{NeededParts, RunTable},
    run_tables::{OpenTable, RunTables},
};
use crate::server::{
    error::{Error, Result},
    evaluation::Evaluation,
};

/// Runs of a slice, if each takes about a microsecond.
pub(super) const SLICE: usize = 10_000;

pub(super) trait TableWork: Send + 'static {
    /// Upper bound of the memory that the table and the work may take after the next slice, in addition
    /// to the memory of the table before the slice.
    fn bytes(&self, table: &RunTable) -> usize;

    /// Continues for a slice. Returns whether the work is done, or `None` if a column is missing.
    fn step(&mut self, table: &mut RunTable) -> Option<bool>;
}

/// A column was dropped between its use and the request for it, which the lock of a table excludes.
pub(super) fn missing_column() -> Error {
    Error::Broken
}

/// Does all of some work on a table whose lock is held.
pub(super) async fn in_slices<W: TableWork>(
    tables: &RunTables,
    evaluation: &Evaluation,
    project: Project,
    needed: &NeededParts<'_>,
    mut open: OpenTable,
    mut work: W,
) -> Result<(OpenTable, W)> {
    loop {
        let table = open.as_mut().ok_or_else(missing_column)?;
        eviction::reserve(tables, project, table, needed, work.bytes(table)).await?;
        // A request whose client has left ends here, even if each slice is done at once.
        tokio::task::yield_now().await;
        let slice = move || {
            let is_done = open.as_mut().and_then(|table| work.step(table));
            // In the order in which they are dropped if the caller has left.
            (work, open, is_done)
        };
        let (rest, after, is_done) = evaluation.run(slice).await?;
        work = rest;
        open = after;
        if is_done.ok_or_else(missing_column)? {
            if let Some(table) = open.as_mut() {
                table.drop_surplus(needed);
            }
            return Ok((open, work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use prometheus::IntGauge;

    use super::*;
    use crate::{query::table::roster::Roster, server::stream::Streams};

    /// Work that counts its slices, and has a thousand of them.
    struct Counted(Arc<AtomicUsize>);

    impl TableWork for Counted {
        fn bytes(&self, _: &RunTable) -> usize {
            10
        }

        fn step(&mut self, _: &mut RunTable) -> Option<bool> {
            Some(self.0.fetch_add(1, Ordering::Relaxed) == 1_000)
        }
    }

    #[tokio::test]
    async fn abandoned_work_ends_after_its_slice() {
        let used = IntGauge::new("used", "used").unwrap();
        let tables = RunTables::new(Streams::default(), 1_000, used.clone());
        let roster = Roster::new(matyan_store::Version(1).stamp(0));
        let shared = tables.shared(Project(0));
        *shared.open().await = Some(RunTable::new(roster, tables.memory.reservation()));
        let evaluation = Evaluation::start(1).unwrap();
        let slices = Arc::new(AtomicUsize::new(0));
        let order = Vec::new();
        let needed = NeededParts { columns: Vec::new(), query: None, order: &order, waits: true };
        let open = shared.open().await;
        let mut work =
            Box::pin(in_slices(&tables, &evaluation, Project(0), &needed, open, Counted(slices.clone())));
        while slices.load(Ordering::Relaxed) < 3 {
            assert!(futures::poll!(&mut work).is_pending());
            tokio::task::yield_now().await;
        }
        drop(work);
        // The only thread is free again, and the table as well.
        evaluation.run(|| ()).await.unwrap();
        let after = slices.load(Ordering::Relaxed);
        assert!(after <= 4, "{after}");
        let open = shared.open().await;
        assert_eq!(used.get(), 0, "the memory of abandoned work is returned");
        let work = in_slices(&tables, &evaluation, Project(0), &needed, open, Counted(slices.clone()));
        drop(work.await.unwrap());
        assert_eq!(slices.load(Ordering::Relaxed), 1_001);
        assert_eq!(used.get(), 0, "an empty table takes no memory");
    }
}
