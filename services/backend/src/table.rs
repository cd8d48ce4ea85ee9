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
mod equal_runs;
mod eviction;
mod group;
mod group_equal_runs;
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
    ops::{Deref, DerefMut},
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
use memory::{Reservation, TableMemory, WakeOnDrop};
use order::{Order, OrderKey};
use refresh::{refresh_now, refreshed};
use roster::{Roster, end_position};
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
    memory: Arc<TableMemory>,
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

/// A part of a table besides its roster.
enum Part {
    Order(OrderKey),
    Column(ColumnKey),
    Matches(QueryKey),
}

/// The lock of a table. At its end, memory that was reserved for work on the table is returned, whether
/// or not the work was done.
struct OpenTable {
    table: OwnedMutexGuard<Option<RunTable>>,
    /// After the lock: the table is idle.
    _wake: WakeOnDrop,
}

/// The parts that a request needs.
struct NeededParts<'r> {
    columns: Vec<ColumnKey>,
    /// `None`: every run that is not archived.
    query: Option<&'r TableQuery>,
    order: &'r OrderKey,
    /// Whether the request waits for memory that others use.
    waits: bool,
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
                memory: self.memory.clone(),
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

    /// The table of a project with these parts, which include every change up to the call.
    async fn open(&self, deps: &Arc<Deps>, project: Project, needed: &NeededParts<'_>) -> Result<OpenTable> {
        let shared = self.shared(project);
        let position = end_position(deps.store.as_ref()).await?;
        let mut reading = None;
        loop {
            if let Some(mut open) = refreshed(self, deps, project, &shared, needed, position).await?
                && let Some(table) = open.as_mut()
                && table.has(needed)
            {
                table.mark_used(needed);
                return Ok(open);
            }
            if reading.is_none() {
                reading = Some((shared.reading.lock().await, self.memory.wake_on_drop()));
            }
            self.read_missing(deps, project, &shared, needed).await?;
        }
    }

    /// Like `open`, if the table has these parts, no other request works on it, and little is left to
    /// be done.
    async fn open_now(
        &self,
        deps: &Arc<Deps>,
        project: Project,
        needed: &NeededParts<'_>,
    ) -> Result<Option<OpenTable>> {
        let Some(shared) = self.lock().get(&project).cloned() else { return Ok(None) };
        let Some(mut open) = shared.try_open() else { return Ok(None) };
        let Some(table) = open.as_mut().filter(|table| table.has(needed)) else { return Ok(None) };
        if !refresh_now(self, deps, project, table, needed).await? || !table.is_soon_sorted(needed.order) {
            return Ok(None);
        }
        table.mark_used(needed);
        shared.mark_used();
        Ok(Some(open))
    }

    /// Reads the parts that a table lacks, without its lock. They are as of a time after the call, but
    /// changes that are made while they are read are left to later requests: there may be no end of them.
    async fn read_missing(
        &self,
        deps: &Arc<Deps>,
        project: Project,
        shared: &SharedTable,
        needed: &NeededParts<'_>,
    ) -> Result<()> {
        let position = end_position(deps.store.as_ref()).await?;
        let room = || Room { tables: self, project, shared, needed, reserved: self.memory.reservation() };
        if refreshed(self, deps, project, shared, needed, position).await?.is_none() {
            let mut room = room();
            let roster = Roster::read(deps, project, position, &mut room).await?;
            *shared.open().await = Some(RunTable::new(roster, room.reserved));
        }
        for key in &needed.columns {
            if shared.open().await.as_ref().is_none_or(|table| table.columns.contains_key(key)) {
                continue;
            }
            let read = column_reader::read(deps, project, key, position, room()).await?;
            if let Some(open) = refreshed(self, deps, project, shared, needed, position).await? {
                let work = AddColumn::new(key.clone(), read);
                in_slices(self, &deps.evaluation, project, needed, open, work).await?;
            }
        }
        let Some(query) = needed.query else { return Ok(()) };
        let lacks = |table: &RunTable| !table.matches.contains_key(query.key());
        if shared.open().await.as_ref().is_some_and(lacks) {
            let read = match_set::read(deps, project, query, position, room()).await?;
            if let Some(open) = refreshed(self, deps, project, shared, needed, position).await? {
                let work = AddMatches::new(query, read);
                in_slices(self, &deps.evaluation, project, needed, open, work).await?;
            }
        }
        Ok(())
    }
}

impl SharedTable {
    async fn open(&self) -> OpenTable {
        OpenTable { table: self.table.clone().lock_owned().await, _wake: self.memory.wake_on_drop() }
    }

    /// The lock, unless another request has it.
    fn try_open(&self) -> Option<OpenTable> {
        let table = self.table.clone().try_lock_owned().ok()?;
        Some(OpenTable { table, _wake: self.memory.wake_on_drop() })
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_used(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Deref for OpenTable {
    type Target = Option<RunTable>;

    fn deref(&self) -> &Option<RunTable> {
        &self.table
    }
}

impl DerefMut for OpenTable {
    fn deref_mut(&mut self) -> &mut Option<RunTable> {
        &mut self.table
    }
}

impl Drop for OpenTable {
    fn drop(&mut self) {
        if let Some(table) = self.table.as_mut() {
            table.settle();
        }
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

    /// The order that was needed longest ago, besides those of a request.
    fn oldest_order(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, OrderKey)> {
        let needed = needed.map(|needed| needed.order);
        let unneeded = self.orders.iter().filter(|(key, _)| Some(*key) != needed);
        unneeded.min_by_key(|(_, order)| order.used).map(|(key, order)| (order.used, key.clone()))
    }

    fn oldest_column(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, ColumnKey)> {
        let is_needed = |key| needed.is_some_and(|needed| needed.columns.contains(key));
        let unneeded = self.columns.iter().filter(|(key, _)| !is_needed(key));
        unneeded.min_by_key(|(_, column)| column.used).map(|(key, column)| (column.used, key.clone()))
    }

    fn oldest_matches(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, QueryKey)> {
        let query = needed.and_then(|needed| needed.query).map(TableQuery::key);
        let unneeded = self.matches.iter().filter(|(key, _)| Some(*key) != query);
        unneeded.min_by_key(|(_, found)| found.used).map(|(key, found)| (found.used, key.clone()))
    }

    /// Drops orders and matches of queries while there are too many.
    fn drop_surplus(&mut self, needed: &NeededParts<'_>) {
        while self.orders.len() > MAX_ORDERS
            && let Some((_, key)) = self.oldest_order(Some(needed))
        {
            self.drop_order(&key);
        }
        while self.matches.len() > MAX_ORDERS
            && let Some((_, key)) = self.oldest_matches(Some(needed))
        {
            self.drop_matches(&key);
        }
    }

    fn drop_order(&mut self, key: &OrderKey) {
        let freed = self.orders.remove(key).map_or(0, |order| order.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

    fn drop_part(&mut self, part: &Part) {
        match part {
            Part::Order(key) => self.drop_order(key),
            Part::Column(key) => self.drop_column(key),
            Part::Matches(key) => self.drop_matches(key),
        }
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
