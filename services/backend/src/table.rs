//! Tables of runs in memory: the values that lists are sorted and grouped by, so that a page costs
//! the page wherever it is in a list.
//!
//! A table belongs to a project and has parts: the `roster` of its runs, a `column` for each value,
//! a `match_set` for each query, an `order` for each sort order. A part is read from the indexes when
//! a request first needs it. From then on the change feed of the store says which runs to read again,
//! so a table needs no notice from other processes, and a new process starts without one. A table
//! proposes runs, like an index; their documents decide.
//!
//! Deliberately absent: tables on disk. What a restart loses is read again in a second.

mod column;
mod column_reader;
mod cursor;
mod eviction;
mod group;
mod match_set;
mod memory;
mod order;
mod page;
mod refresh;
mod roster;
mod run_value;
mod sliced_sort;
mod table_work;
mod term;

pub(crate) use {
    cursor::{Cursor, GroupToken, MAX_VALUES, request_digest},
    group::{GroupNumber, GroupQuery, GroupRow, GroupStart},
    match_set::TableQuery,
    page::{PageStart, Selection, TablePage},
    run_value::{RunValue, SortKey, ValueSource},
    term::{TEXT_BYTES, Term},
};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matyan_model::ids::Project;
use prometheus::IntGauge;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use crate::{Deps, error::Result, stream::Streams};
use column::{AddColumn, Column};
use eviction::Room;
use match_set::{AddMatches, MatchSet, QueryKey};
use memory::{Reservation, TableMemory};
use order::{Order, OrderKey};
use refresh::{refresh_now, refreshed};
use roster::Roster;
use run_value::ColumnKey;
use table_work::in_slices;

/// Memory of all tables.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// Orders kept for a table, and match sets.
const MAX_ORDERS: usize = 16;

/// A table that no request needs is dropped after this time.
const KEPT: Duration = Duration::from_secs(600);

/// Interval between checks for such tables.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The tables of all projects.
#[derive(Clone)]
pub(crate) struct RunTables {
    streams: Streams,
    tables: Arc<Mutex<HashMap<Project, Arc<SharedTable>>>>,
    memory: Arc<TableMemory>,
}

/// The table of a project, and what is known about it without its lock.
struct SharedTable {
    table: Arc<AsyncMutex<Option<RunTable>>>,
    /// Held while missing parts are read, and until they are used, so that requests which need the
    /// same part wait for it. Requests that have all parts do not take it.
    reading: AsyncMutex<()>,
    used: Mutex<Instant>,
}

/// The runs of a project, with the values that requests have asked for.
pub(crate) struct RunTable {
    roster: Roster,
    columns: HashMap<ColumnKey, Column>,
    matches: HashMap<QueryKey, MatchSet>,
    orders: HashMap<OrderKey, Order>,
    /// At least the size of all parts.
    reserved: Reservation,
}

/// The lock of a table that has every part a request needs, as of a time after the request began.
type OpenTable = OwnedMutexGuard<Option<RunTable>>;

/// The parts that a request needs.
struct NeededParts<'r> {
    columns: Vec<ColumnKey>,
    /// `None`: every run that is not archived.
    query: Option<&'r TableQuery>,
    order: &'r OrderKey,
}

impl RunTables {
    /// `used` shows the memory of all tables.
    pub(crate) fn new(streams: Streams, max_bytes: usize, used: IntGauge) -> Self {
        Self { streams, tables: Arc::default(), memory: Arc::new(TableMemory::new(max_bytes, used)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Project, Arc<SharedTable>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self, project: Project) -> Arc<SharedTable> {
        let mut tables = self.lock();
        if tables.is_empty() {
            let tables = self.clone();
            self.streams.spawn(|stop| async move {
                while let Some(()) = stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await {
                    if tables.drop_unused() {
                        return;
                    }
                }
            });
        }
        let shared = tables.entry(project).or_insert_with(|| {
            Arc::new(SharedTable {
                table: Arc::default(),
                reading: AsyncMutex::default(),
                used: Mutex::new(Instant::now()),
            })
        });
        shared.mark_used();
        shared.clone()
    }

    /// Returns whether no table is left; the check for unused tables then ends.
    fn drop_unused(&self) -> bool {
        let mut tables = self.lock();
        tables.retain(|_, table| table.used().elapsed() < KEPT);
        tables.is_empty()
    }

    /// The table of a project, with these parts up to date.
    async fn open(&self, deps: &Arc<Deps>, project: Project, needed: &NeededParts<'_>) -> Result<OpenTable> {
        let shared = self.shared(project);
        let mut reading = None;
        loop {
            if let Some(mut open) = refreshed(self, deps, project, &shared, needed).await?
                && let Some(table) = open.as_mut()
                && table.has(needed)
            {
                table.mark_used(needed);
                return Ok(open);
            }
            if reading.is_none() {
                reading = Some(shared.reading.lock().await);
            }
            self.read_missing(deps, project, &shared, needed).await?;
        }
    }

    /// Like `open`, if the table has these parts, and no other request works on it.
    async fn open_now(
        &self,
        deps: &Arc<Deps>,
        project: Project,
        needed: &NeededParts<'_>,
    ) -> Result<Option<OpenTable>> {
        let Some(shared) = self.lock().get(&project).cloned() else { return Ok(None) };
        let Ok(mut open) = shared.table.clone().try_lock_owned() else { return Ok(None) };
        let Some(table) = open.as_mut().filter(|table| table.has(needed)) else { return Ok(None) };
        if !refresh_now(self, deps, project, table, needed).await? {
            return Ok(None);
        }
        table.mark_used(needed);
        shared.mark_used();
        Ok(Some(open))
    }

    /// Reads the parts that a table lacks, without its lock.
    async fn read_missing(
        &self,
        deps: &Arc<Deps>,
        project: Project,
        shared: &SharedTable,
        needed: &NeededParts<'_>,
    ) -> Result<()> {
        let room = || Room { tables: self, project, shared, needed, reserved: self.memory.reservation() };
        if shared.table.lock().await.is_none() {
            let mut room = room();
            let roster = Roster::read(deps, project, &mut room).await?;
            *shared.table.lock().await = Some(RunTable::new(roster, room.reserved));
        }
        for key in &needed.columns {
            if shared.table.lock().await.as_ref().is_none_or(|table| table.columns.contains_key(key)) {
                continue;
            }
            let read = column_reader::read(deps, project, key, room()).await?;
            if let Some(open) = refreshed(self, deps, project, shared, needed).await? {
                let work = AddColumn::new(key.clone(), read);
                in_slices(self, &deps.evaluation, project, needed, open, work).await?;
            }
        }
        let Some(query) = needed.query else { return Ok(()) };
        let lacks = |table: &RunTable| !table.matches.contains_key(query.key());
        if shared.table.lock().await.as_ref().is_some_and(lacks) {
            let read = match_set::read(deps, project, query, room()).await?;
            if let Some(open) = refreshed(self, deps, project, shared, needed).await? {
                let work = AddMatches::new(query, read);
                in_slices(self, &deps.evaluation, project, needed, open, work).await?;
            }
        }
        Ok(())
    }
}

impl SharedTable {
    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_used(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl RunTable {
    fn new(roster: Roster, reserved: Reservation) -> Self {
        let (columns, matches, orders) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut table = Self { roster, columns, matches, orders, reserved };
        table.settle();
        table
    }

    fn has(&self, needed: &NeededParts<'_>) -> bool {
        needed.columns.iter().all(|key| self.columns.contains_key(key))
            && needed.query.is_none_or(|query| self.matches.contains_key(query.key()))
    }

    fn mark_used(&mut self, needed: &NeededParts<'_>) {
        let now = Instant::now();
        for key in &needed.columns {
            if let Some(column) = self.columns.get_mut(key) {
                column.used = now;
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key())) {
            matches.used = now;
        }
        if let Some(order) = self.orders.get_mut(needed.order) {
            order.used = now;
        }
    }

    /// Returns the memory that was reserved for work on the table.
    fn settle(&mut self) {
        let bytes = self.bytes();
        debug_assert!(bytes <= self.reserved.bytes(), "{bytes} bytes were not all reserved");
        self.reserved.shrink(bytes);
    }

    fn bytes(&self) -> usize {
        self.roster.bytes()
            + self.columns.values().map(Column::bytes).sum::<usize>()
            + self.matches.values().map(MatchSet::bytes).sum::<usize>()
            + self.orders.values().map(Order::bytes).sum::<usize>()
    }

    fn oldest_order(&self, needed: &NeededParts<'_>) -> Option<OrderKey> {
        let unneeded = self.orders.iter().filter(|(key, _)| *key != needed.order);
        unneeded.min_by_key(|(_, order)| order.used).map(|(key, _)| key.clone())
    }

    fn oldest_column(&self, needed: &NeededParts<'_>) -> Option<(Instant, ColumnKey)> {
        let unneeded = self.columns.iter().filter(|(key, _)| !needed.columns.contains(key));
        unneeded.min_by_key(|(_, column)| column.used).map(|(key, column)| (column.used, key.clone()))
    }

    fn oldest_matches(&self, needed: &NeededParts<'_>) -> Option<QueryKey> {
        let query = needed.query.map(|query| query.key());
        let unneeded = self.matches.iter().filter(|(key, _)| Some(*key) != query);
        unneeded.min_by_key(|(_, found)| found.used).map(|(key, _)| key.clone())
    }

    /// Drops orders and matches of queries while there are too many.
    fn drop_surplus(&mut self, needed: &NeededParts<'_>) {
        while self.orders.len() > MAX_ORDERS
            && let Some(key) = self.oldest_order(needed)
        {
            self.drop_order(&key);
        }
        while self.matches.len() > MAX_ORDERS
            && let Some(key) = self.oldest_matches(needed)
        {
            self.drop_matches(&key);
        }
    }

    fn drop_order(&mut self, key: &OrderKey) {
        let freed = self.orders.remove(key).map_or(0, |order| order.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

    /// Drops a column, and the orders that would not learn of its changes.
    fn drop_column(&mut self, key: &ColumnKey) {
        let users = self.orders.keys().filter(|order| order.iter().any(|(value, _)| value.uses(key)));
        for order in users.cloned().collect::<Vec<_>>() {
            self.drop_order(&order);
        }
        let freed = self.columns.remove(key).map_or(0, |column| column.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

    fn drop_matches(&mut self, key: &QueryKey) {
        let freed = self.matches.remove(key).map_or(0, |found| found.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }
}
