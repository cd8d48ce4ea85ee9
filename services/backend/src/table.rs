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
mod group;
mod match_set;
mod order;
mod page;
mod refresh;
mod roster;
mod run_value;
mod term;

pub(crate) use {
    cursor::{Cursor, GroupToken, MAX_VALUES, request_digest},
    group::{GroupNumber, GroupQuery, GroupRow, GroupStart},
    match_set::TableQuery,
    page::{PageStart, Selection},
    run_value::{RunValue, SortKey, ValueSource},
    term::{TEXT_BYTES, Term},
};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matyan_model::ids::Project;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use crate::{
    Deps,
    error::{Error, Result},
    stream::Streams,
};
use column::Column;
use match_set::{MatchSet, QueryKey};
use order::{Order, OrderKey};
use roster::Roster;
use run_value::ColumnKey;

/// Memory of all tables.
const MAX_BYTES: usize = 256 << 20;

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
}

/// The table of a project, and what is known about it without its lock.
struct SharedTable {
    table: Arc<AsyncMutex<Option<RunTable>>>,
    /// Held while a missing part is read, so that requests which need the same part wait for it.
    /// Requests that have all parts do not take it.
    reading: AsyncMutex<()>,
    usage: Mutex<Usage>,
}

struct Usage {
    bytes: usize,
    used: Instant,
}

/// The runs of a project, with the values that requests have asked for.
pub(crate) struct RunTable {
    roster: Roster,
    columns: HashMap<ColumnKey, Column>,
    matches: HashMap<QueryKey, MatchSet>,
    orders: HashMap<OrderKey, Order>,
    /// Counts requests, to find the part that was not used for the longest time.
    clock: u64,
}

/// The lock of a table that has every part a request needs, as of a time after the request began.
type OpenTable = OwnedMutexGuard<Option<RunTable>>;

/// The parts that a request needs.
struct NeededParts<'r> {
    columns: Vec<ColumnKey>,
    /// `None`: every run that is not archived.
    query: Option<&'r TableQuery>,
}

impl RunTables {
    pub(crate) fn new(streams: Streams) -> Self {
        Self { streams, tables: Arc::default() }
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
                usage: Mutex::new(Usage { bytes: 0, used: Instant::now() }),
            })
        });
        shared.usage().used = Instant::now();
        shared.clone()
    }

    /// Whether a request has needed the table of a project recently.
    pub(crate) fn has(&self, project: Project) -> bool {
        self.lock().contains_key(&project)
    }

    /// Returns whether no table is left; the check for unused tables then ends.
    fn drop_unused(&self) -> bool {
        let mut tables = self.lock();
        tables.retain(|_, table| table.usage().used.elapsed() < KEPT);
        tables.is_empty()
    }

    /// Drops tables of other projects while all of them take too much memory.
    fn make_room(&self, project: Project) {
        let mut tables = self.lock();
        while tables.values().map(|table| table.usage().bytes).sum::<usize>() > MAX_BYTES {
            let others = tables.iter().filter(|(other, _)| **other != project);
            let Some(unused) = others.min_by_key(|(_, table)| table.usage().used).map(|(other, _)| *other)
            else {
                break;
            };
            tables.remove(&unused);
        }
    }

    /// The table of a project, with these parts up to date.
    async fn open(&self, deps: &Arc<Deps>, project: Project, needed: &NeededParts<'_>) -> Result<OpenTable> {
        let shared = self.shared(project);
        loop {
            let mut open = shared.table.clone().lock_owned().await;
            if let Some(table) = open.as_mut()
                && !table.refresh(deps, project, needed).await?
            {
                // Some changes are gone, or reading the table again is faster than following them.
                *open = None;
            }
            if let Some(table) = open.as_mut()
                && table.has(needed)
            {
                table.mark_used(needed);
                let bytes = table.shrink(needed);
                shared.usage().bytes = bytes;
                if bytes > MAX_BYTES {
                    *open = None;
                    shared.usage().bytes = 0;
                    return Err(Error::SortTooLarge { limit: MAX_BYTES });
                }
                self.make_room(project);
                return Ok(open);
            }
            drop(open);
            let _reading = shared.reading.lock().await;
            self.read_missing(deps, project, &shared, needed).await?;
        }
    }

    /// Reads the parts that a table lacks, without its lock.
    async fn read_missing(
        &self,
        deps: &Arc<Deps>,
        project: Project,
        shared: &SharedTable,
        needed: &NeededParts<'_>,
    ) -> Result<()> {
        if shared.table.lock().await.is_none() {
            let roster = Roster::read(deps, project).await?;
            *shared.table.lock().await = Some(RunTable::new(roster));
        }
        for key in &needed.columns {
            if shared.table.lock().await.as_ref().is_none_or(|table| table.columns.contains_key(key)) {
                continue;
            }
            let read = column_reader::read(deps, project, key, MAX_BYTES).await?;
            if let Some(table) = shared.table.lock().await.as_mut()
                && table.refresh_roster(deps, project).await?
            {
                table.add_column(key.clone(), read);
            }
        }
        if let Some(query) = needed.query
            && shared
                .table
                .lock()
                .await
                .as_ref()
                .is_some_and(|table| !table.matches.contains_key(query.key()))
        {
            let read = match_set::read(deps, project, query).await?;
            if let Some(table) = shared.table.lock().await.as_mut()
                && table.refresh_roster(deps, project).await?
            {
                table.add_matches(query, read);
            }
        }
        Ok(())
    }
}

impl SharedTable {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunTable {
    fn new(roster: Roster) -> Self {
        let (columns, matches, orders) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { roster, columns, matches, orders, clock: 0 }
    }

    fn has(&self, needed: &NeededParts<'_>) -> bool {
        needed.columns.iter().all(|key| self.columns.contains_key(key))
            && needed.query.is_none_or(|query| self.matches.contains_key(query.key()))
    }

    fn mark_used(&mut self, needed: &NeededParts<'_>) {
        self.clock += 1;
        for key in &needed.columns {
            if let Some(column) = self.columns.get_mut(key) {
                column.used = self.clock;
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key())) {
            matches.used = self.clock;
        }
    }

    /// Drops parts that this request does not need while there are too many. Returns the size of
    /// the rest.
    fn shrink(&mut self, needed: &NeededParts<'_>) -> usize {
        while self.orders.len() > MAX_ORDERS
            && let Some(key) =
                self.orders.iter().min_by_key(|(_, order)| order.used).map(|(key, _)| key.clone())
        {
            self.orders.remove(&key);
        }
        while self.matches.len() > MAX_ORDERS
            && let Some(key) =
                self.matches.iter().min_by_key(|(_, found)| found.used).map(|(key, _)| key.clone())
        {
            self.matches.remove(&key);
        }
        let mut bytes = self.bytes();
        while bytes > MAX_BYTES / 2 {
            let unused = self.columns.iter().filter(|(key, _)| !needed.columns.contains(key));
            let Some(key) = unused.min_by_key(|(_, column)| column.used).map(|(key, _)| key.clone()) else {
                break;
            };
            self.columns.remove(&key);
            self.orders.retain(|_, order| !order.uses(&key));
            bytes = self.bytes();
        }
        bytes
    }

    fn bytes(&self) -> usize {
        self.roster.bytes()
            + self.columns.values().map(Column::bytes).sum::<usize>()
            + self.matches.values().map(MatchSet::bytes).sum::<usize>()
            + self.orders.values().map(Order::bytes).sum::<usize>()
    }
}
