//! The tables of all projects, and the locks of each.
//!
//! A request takes the locks in this order: `reading` of a table, while it reads missing parts; `table`,
//! for a step of work on the parts; the map of all tables, while it makes room. While a request holds the
//! map, it only tries to take the locks of tables, so that two requests never wait for each other.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use matyan_model::ids::Project;
use parking_lot::{Mutex, MutexGuard};
use prometheus::IntGauge;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use super::{
    memory::{TableMemory, WakeOnDrop},
    roster::MAX_TABLE_BYTES,
    run_table::RunTable,
};
use crate::server::stream::Streams;

/// A table that no request needs is dropped after this time.
const KEPT: Duration = Duration::from_secs(600);

/// Interval between checks for such tables.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The tables of all projects.
#[derive(Clone)]
pub(crate) struct RunTables {
    streams: Streams,
    tables: Arc<Mutex<HashMap<Project, Arc<SharedTable>>>>,
    pub(super) memory: Arc<TableMemory>,
}

/// The table of a project, and the state that can be read without its lock.
pub(super) struct SharedTable {
    pub(super) table: Arc<AsyncMutex<Option<RunTable>>>,
    /// Held while missing parts are read, and until they are used, so that requests which need the
    /// same part wait for it. Requests that have all parts do not take it.
    pub(super) reading: AsyncMutex<()>,
    used: Mutex<Instant>,
    pub(super) memory: Arc<TableMemory>,
}

/// The lock of a table. At its end, memory that was reserved for work on the table is returned, whether
/// or not the work was done.
pub(super) struct OpenTable {
    table: OwnedMutexGuard<Option<RunTable>>,
    /// After the lock: the table is idle.
    _wake: WakeOnDrop,
}

impl RunTables {
    /// `used` shows the memory of all tables.
    pub(crate) fn new(streams: Streams, max_bytes: usize, used: IntGauge) -> Self {
        let memory = TableMemory::new(max_bytes.min(MAX_TABLE_BYTES), used);
        Self { streams, tables: Arc::default(), memory: Arc::new(memory) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Project, Arc<SharedTable>>> {
        self.tables.lock()
    }

    pub(super) fn shared(&self, project: Project) -> Arc<SharedTable> {
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
}

impl SharedTable {
    pub(super) async fn open(&self) -> OpenTable {
        OpenTable { table: self.table.clone().lock_owned().await, _wake: self.memory.wake_on_drop() }
    }

    /// The lock, unless another request has it.
    pub(super) fn try_open(&self) -> Option<OpenTable> {
        let table = self.table.clone().try_lock_owned().ok()?;
        Some(OpenTable { table, _wake: self.memory.wake_on_drop() })
    }

    pub(super) fn used(&self) -> Instant {
        *self.used.lock()
    }

    pub(super) fn mark_used(&self) {
        *self.used.lock() = Instant::now();
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
