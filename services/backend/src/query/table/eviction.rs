//! Room for the parts of tables, which is made before a part grows. Orders are dropped first: they are
//! sorted again in memory. Then the column that was needed longest ago goes, and a table of another
//! project once it has no columns and is the oldest, because it costs its roster. The matches of a query
//! are last, because they take a search to find and a byte per run to keep. Tables that requests are
//! working on keep everything: a request waits for them, for some seconds.

use std::time::Duration;

use matyan_model::ids::Project;
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout_at},
};

use super::{
    memory::Reservation,
    run_table::{NeededParts, Part, RunTable},
    run_tables::{RunTables, SharedTable},
};
use crate::server::error::{Error, Result};

/// Longest wait for memory that other requests use.
const MAX_WAIT: Duration = Duration::from_secs(5);

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
        let mut wait = MemoryWait::new(self.tables, self.needed);
        loop {
            // Created first, so that nothing that happens from here on is missed.
            let freed = self.tables.memory.freed();
            if self.reserved.resize(bytes) {
                return Ok(());
            }
            if !make_room(self.tables, self.project, None, self.needed) {
                wait.next(freed, bytes.saturating_add(self.table_bytes())).await?;
            }
        }
    }

    /// The memory of the table of the project, unless a request is working on it.
    fn table_bytes(&self) -> usize {
        let _other_requests = self.tables.lock();
        let open = self.shared.table.try_lock();
        open.ok().and_then(|table| Some(table.as_ref()?.reserved.bytes())).unwrap_or_default()
    }
}

/// Reserves this many bytes in addition to the bytes of a table whose lock is held.
pub(super) async fn reserve(
    tables: &RunTables,
    project: Project,
    table: &mut RunTable,
    needed: &NeededParts<'_>,
    more: usize,
) -> Result<()> {
    let mut wait = MemoryWait::new(tables, needed);
    loop {
        let freed = tables.memory.freed();
        let bytes = table.bytes().saturating_add(more);
        if table.reserved.resize(bytes) {
            return Ok(());
        }
        if !make_room(tables, project, Some(table), needed) {
            wait.next(freed, bytes).await?;
        }
    }
}

/// The wait of a request for memory.
struct MemoryWait<'t> {
    tables: &'t RunTables,
    /// `None` if the request does not wait.
    end: Option<Instant>,
}

impl<'t> MemoryWait<'t> {
    fn new(tables: &'t RunTables, needed: &NeededParts<'_>) -> Self {
        Self { tables, end: needed.waits.then(|| Instant::now() + MAX_WAIT) }
    }

    /// Waits for `freed`. Fails if the wait has taken too long, or if all the memory is too little for
    /// this many bytes.
    async fn next(&mut self, freed: impl Future<Output = ()>, bytes: usize) -> Result<()> {
        let limit = self.tables.memory.limit();
        match self.end.filter(|_| bytes <= limit) {
            Some(end) if timeout_at(end, freed).await.is_ok() => Ok(()),
            _ => Err(Error::SortTooLarge { limit }),
        }
    }
}

/// A table that no request is working on.
struct IdleTable {
    open: OwnedMutexGuard<Option<RunTable>>,
    used: Instant,
    is_own: bool,
}

/// Drops something that a request does not need, and no other request is working on. Returns whether
/// there was anything. `held` is the table of the project, if the request has its lock.
fn make_room(
    tables: &RunTables,
    project: Project,
    held: Option<&mut RunTable>,
    needed: &NeededParts<'_>,
) -> bool {
    // Locked until the end, so that no other request takes the locks of idle tables for work.
    let all = tables.lock();
    let idle = all.iter().filter_map(|(other, shared)| {
        let is_own = *other == project;
        // A request needs the parts that it has read until it has read the others.
        let is_idle = is_own || shared.reading.try_lock().is_ok();
        let open = is_idle.then(|| shared.table.clone().try_lock_owned().ok())??;
        Some(IdleTable { open, used: shared.used(), is_own })
    });
    let mut idle: Vec<IdleTable> = idle.collect();
    let Some((index, part)) = oldest_unneeded(&idle, held.as_deref(), needed) else { return false };
    let open = index.map(|index| &mut *idle[index].open);
    match (open, part) {
        (Some(open), None) => *open = None,
        (open, part) => {
            let table = open.and_then(Option::as_mut).or(held);
            if let (Some(table), Some(part)) = (table, &part) {
                table.drop_part(part);
            }
        }
    }
    true
}

/// The part that is dropped next, or none for all of a table, and the index of the table among the idle
/// ones, or none for `held`.
fn oldest_unneeded(
    idle: &[IdleTable],
    held: Option<&RunTable>,
    needed: &NeededParts<'_>,
) -> Option<(Option<usize>, Option<Part>)> {
    let others = idle.iter().enumerate().filter_map(|(index, other)| {
        let dropped_at = (!other.is_own).then_some(other.used);
        Some((Some(index), other.open.as_ref()?, dropped_at))
    });
    let all: Vec<_> = held.map(|table| (None, table, None)).into_iter().chain(others).collect();
    // Nothing is needed in the tables of other projects.
    let keep = |used: &Option<Instant>| used.is_none().then_some(needed);
    let orders = all.iter().filter_map(|(index, table, used)| {
        let (order_used, key) = table.oldest_order(keep(used))?;
        Some((order_used, (*index, Some(Part::Order(key)))))
    });
    let columns = all.iter().filter_map(|(index, table, used)| match table.oldest_column(keep(used)) {
        Some((column_used, key)) => Some((column_used, (*index, Some(Part::Column(key))))),
        None => used.map(|used| (used, (*index, None))),
    });
    let matches = all.iter().filter_map(|(index, table, used)| {
        let (matches_used, key) = table.oldest_matches(keep(used))?;
        Some((matches_used, (*index, Some(Part::Matches(key)))))
    });
    let oldest = orders.min_by_key(|(used, _)| *used);
    let oldest = oldest.or_else(|| columns.min_by_key(|(used, _)| *used));
    oldest.or_else(|| matches.min_by_key(|(used, _)| *used)).map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;
    use crate::{
        query::table::{
            add_column::AddColumn,
            column::ReadColumn,
            memory::ManyValues,
            order::OrderKey,
            roster::Roster,
            run_value::{ColumnKey, TableValue},
            sort_runs::SortRuns,
            table_work::TableWork,
        },
        server::stream::Streams,
    };

    const COLUMNS: [ColumnKey; 2] = [ColumnKey::Name, ColumnKey::Created];

    fn tables(bytes: usize) -> (RunTables, IntGauge) {
        let used = IntGauge::new("used", "used").unwrap();
        (RunTables::new(Streams::default(), bytes, used.clone()), used)
    }

    fn by(key: &ColumnKey) -> OrderKey {
        vec![(TableValue::Column(key.clone()), false)]
    }

    /// A table of no runs, with two columns and an order by the last of them.
    fn table(tables: &RunTables) -> RunTable {
        let position = matyan_store::Version(1).stamp(0);
        let mut table = RunTable::new(Roster::new(position), tables.memory.reservation());
        assert!(table.reserved.resize(10_000));
        for key in COLUMNS {
            let pages = ManyValues::default();
            let reserved = tables.memory.reservation();
            let read = ReadColumn { position, pages, reserved };
            assert_eq!(AddColumn::new(key, read).step(&mut table), Some(true));
        }
        let mut work = SortRuns::new(by(&COLUMNS[1]));
        while work.step(&mut table) == Some(false) {}
        table.settle();
        table
    }

    #[tokio::test]
    async fn the_parts_that_are_cheapest_to_rebuild_are_dropped_first() {
        let (tables, _) = tables(1_000_000);
        let mut table = self::table(&tables);
        let other = tables.shared(Project(2));
        *other.open().await = Some(self::table(&tables));
        let order = by(&COLUMNS[0]);
        let needed = NeededParts { columns: vec![ColumnKey::Name], query: None, order: &order, waits: true };
        let mut steps = Vec::new();
        while make_room(&tables, Project(1), Some(&mut table), &needed) {
            let parts = |table: &RunTable| (table.orders.len(), table.columns.len());
            steps.push((parts(&table), other.open().await.as_ref().map(parts)));
        }
        let expected = [
            // The orders, the older one first.
            ((0, 2), Some((1, 2))),
            ((0, 2), Some((0, 2))),
            // The columns, older columns first, except the column that is needed.
            ((0, 1), Some((0, 2))),
            ((0, 1), Some((0, 1))),
            ((0, 1), Some((0, 0))),
            // A whole table.
            ((0, 1), None),
        ];
        assert_eq!(steps, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_memory_that_others_use() {
        let (tables, used) = tables(10_000);
        let other = tables.shared(Project(2));
        *other.open().await = Some(self::table(&tables));
        let mut working = other.open().await;
        assert!(working.as_mut().unwrap().reserved.resize(9_000));
        let order = Vec::new();
        let needed = NeededParts { columns: Vec::new(), query: None, order: &order, waits: true };
        let mut own =
            RunTable::new(Roster::new(matyan_store::Version(1).stamp(0)), tables.memory.reservation());
        let refused = reserve(&tables, Project(1), &mut own, &needed, 10_001).await;
        assert!(matches!(refused, Err(Error::SortTooLarge { limit: 10_000 })), "more than all is refused");
        let hasty = NeededParts { waits: false, columns: Vec::new(), ..needed };
        let began = Instant::now();
        let refused = reserve(&tables, Project(1), &mut own, &hasty, 9_900).await;
        assert!(refused.is_err() && Instant::now() == began, "a plain page does not wait");
        let refused = reserve(&tables, Project(1), &mut own, &needed, 9_900).await;
        assert!(refused.is_err() && began.elapsed() >= MAX_WAIT, "the wait ends");

        let shared = tables.shared(Project(1));
        let mut waits = Box::pin(reserve(&tables, Project(1), &mut own, &needed, 9_900));
        assert!(futures::poll!(&mut waits).is_pending());
        let project = Project(1);
        let reserved = tables.memory.reservation();
        let mut room = Room { tables: &tables, project, shared: &shared, needed: &needed, reserved };
        let mut reads = Box::pin(room.reserve(5_000));
        for _ in 0..3 {
            assert!(futures::poll!(&mut reads).is_pending());
        }
        // The work is abandoned. The other parts of the table are dropped as well.
        drop(working);
        waits.await.unwrap();
        assert_eq!(used.get(), 9_900);
        assert!(other.open().await.as_ref().is_some_and(|table| table.columns.is_empty()));
        drop(own);
        reads.await.unwrap();
        assert_eq!(Instant::now() - began, MAX_WAIT, "both were woken");
    }

    /// A request that has read one part and reads another needs both.
    #[tokio::test(start_paused = true)]
    async fn the_parts_of_a_request_that_reads_are_kept_until_it_ends() {
        let (tables, _) = tables(10_000);
        let other = tables.shared(Project(2));
        *other.open().await = Some(self::table(&tables));
        let reading = (other.reading.lock().await, tables.memory.wake_on_drop());
        let order = Vec::new();
        let needed = NeededParts { columns: Vec::new(), query: None, order: &order, waits: true };
        let shared = tables.shared(Project(1));
        let project = Project(1);
        let reserved = tables.memory.reservation();
        let mut room = Room { tables: &tables, project, shared: &shared, needed: &needed, reserved };
        let began = Instant::now();
        let mut reads = Box::pin(room.reserve(10_000));
        for _ in 0..3 {
            assert!(futures::poll!(&mut reads).is_pending());
        }
        drop(reading);
        reads.await.unwrap();
        assert_eq!(Instant::now(), began);
        assert!(other.open().await.as_ref().is_some_and(|table| table.columns.is_empty()));
    }
}
