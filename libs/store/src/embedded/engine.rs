//! fjall as configured for this store: its settings, its rows, and the meaning of its errors.
//!
//! On disk: the file `lock` and the directory `engine`. Callers' keys start below 0xff and are
//! stored unchanged. The store's own rows start with 0xff: `format` (u32), `version` (see
//! `CommitMark`), which every commit writes, and `sweep` (see that module). There is only one
//! keyspace: large values are already stored separately from keys, so a second keyspace for
//! them would cost memory and gain nothing.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::BlockSizePolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode, Readable,
};

use super::commit_mark::{CommitMark, VERSION_KEY};
use super::effects::Effects;
use super::manifest::{Damage, DamageKind, KEYSPACES, Manifest};
use super::page::{PageBuilder, ReadBudget, SEPARATE_BYTES};
use super::sweep::{SWEEP_KEY, Sweep};
use super::{Settings, journal};
use crate::{Error, Key, Limits, Range, Result, Value, Version};

/// Version of the layout described above. A store with a newer one is refused.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"\xffformat";

/// Block and table size are fixed when a store is created. Blocks of 16 KiB suit documents that
/// are read sequentially.
const BLOCK_BYTES: u32 = 16 << 10;
/// Every memtable spans all keys, so every four memtables rewrite the first level, which holds
/// four tables. For 1 GB of large values over 300 MB of small rows, tables of 64 MB cost 6.7 s
/// of CPU time, and tables of 8 MB 3.8 s.
const TABLE_BYTES: u64 = 8 << 20;
/// Keeps opening after a crash within 30 ms.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Flushes and compacts. With more than one, the engine keeps the first for flushes, and that one
/// spins for as long as another compacts: it puts each request to compact back into its queue. One
/// worker creates runs with a fifth less CPU time than two.
const WORKERS: usize = 1;

/// The engine leaves it to its workers to seal a full memtable when they have time, and accepts
/// more writes until then. So the committer seals memtables itself, and waits while this many are
/// unflushed. (At four, the engine blocks writers in a loop that never ends if its workers have
/// died.)
const MEMTABLE_BYTES: u64 = 8 << 20;
const SEALED_MEMTABLES: usize = 2;
/// Memory overhead of a memtable entry in addition to its key and value, which the engine does
/// not count.
const ENTRY_BYTES: u64 = 100;
/// The engine also blocks writers in such a loop at 30 tables in the first level.
const FIRST_LEVEL_TABLES: usize = 24;
const STALL_PAUSE: Duration = Duration::from_millis(1);

pub(super) struct EngineSize {
    /// Rows, their older versions, and tombstones.
    pub(super) entries: u64,
    pub(super) memtable_entries: u64,
    pub(super) memtable_bytes: u64,
    pub(super) sealed_memtables: usize,
    /// Tombstones in tables.
    pub(super) tombstones: u64,
    /// Size of the tables.
    pub(super) bytes: u64,
    /// Earlier sets of tables that are still kept.
    pub(super) old_versions: usize,
}

#[derive(Clone)]
pub(super) struct Engine {
    database: Database,
    rows: Keyspace,
}

impl Engine {
    pub(super) fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let path = directory.join("engine");
        let marker = directory.join("engine.new");
        if !path.try_exists().map_err(io_error)? {
            return create(&path, &marker, settings);
        }
        if marker.try_exists().map_err(io_error)? {
            // Regardless of the marker, an engine that holds a commit was finished once.
            let engine = match Self::open_existing(directory, settings) {
                Ok(engine) if engine.version()? > Version::default() => engine,
                Err(error) if journal::holds_commits(&path).map_err(io_error)? => return Err(error),
                _ => return create(&path, &marker, settings),
            };
            tracing::warn!("store was marked unfinished but holds commits; removing the marker");
            std::fs::remove_file(&marker).and_then(|()| sync(directory)).map_err(io_error)?;
            return Ok(engine);
        }
        let engine = Self::open_existing(directory, settings)?;
        if engine.version()? == Version::default() {
            // The marker may have been removed in memory only. It must not reappear
            // once there are commits.
            sync(directory).map_err(io_error)?;
        }
        Ok(engine)
    }

    fn open_existing(directory: &Path, settings: &Settings) -> Result<Self> {
        let path = directory.join("engine");
        check_files(directory)?;
        if let Some(damage) = journal::cut_torn_tail(&path, &directory.join("torn")).map_err(io_error)? {
            return Err(refusal(damage, directory));
        }
        let engine = Self::open_at(&path, settings).map_err(engine_error)?;
        engine.check_format()?;
        // The journal's content was loaded into a single memtable.
        engine.make_room()?;
        engine.finish_sweep()?;
        Ok(engine)
    }

    /// Opens an engine that was closed after an error. Never creates one.
    pub(super) fn reopen(directory: &Path, settings: &Settings) -> Result<Self> {
        check_injected_fault(directory, "open")?;
        Self::open_existing(directory, settings)
    }

    /// Removes commits after `version` from the journal of a closed engine. Commits already
    /// stored elsewhere remain.
    pub(super) fn discard_after(directory: &Path, version: Version) -> Result<()> {
        journal::cut_after(&directory.join("engine"), version).map_err(io_error)
    }

    /// Rewrites the journal of a closed engine, which may have lost pages in a failed sync.
    pub(super) fn rewrite_journal(directory: &Path) -> Result<()> {
        check_injected_fault(directory, "rewrite")?;
        journal::rewrite(&directory.join("engine")).map_err(io_error)
    }

    fn open_at(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .journal_compression(CompressionType::None)
            // The committer decides when to flush and sync.
            .manual_journal_persist(true)
            .worker_threads(WORKERS)
            .open()?;
        let rows = database.keyspace("rows", || {
            KeyspaceCreateOptions::default()
                // `make_room` seals memtables instead.
                .max_memtable_size(u64::MAX)
                .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .with_kv_separation(Some(
                    KvSeparationOptions::default().separation_threshold(SEPARATE_BYTES as u32),
                ))
        })?;
        Ok(Self { database, rows })
    }

    fn check_format(&self) -> Result<()> {
        let stored = self.get_latest(FORMAT_KEY)?;
        match stored.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(bytes)) if u32::from_be_bytes(bytes) == FORMAT => Ok(()),
            Some(Ok(bytes)) => {
                let format = u32::from_be_bytes(bytes);
                Err(Error::corrupt(format!(
                    "it has format {format}, but this program supports only {FORMAT}: use a newer program"
                )))
            }
            _ => Err(Error::corrupt("its format number is missing or malformed")),
        }
    }

    /// The version of the last commit that the engine holds.
    pub(super) fn version(&self) -> Result<Version> {
        let Some(row) = self.get_latest(VERSION_KEY)? else { return Ok(Version::default()) };
        let mark =
            CommitMark::decode(&row).ok_or_else(|| Error::corrupt("its version row has the wrong size"))?;
        Ok(mark.version)
    }

    /// A view of everything written so far.
    pub(super) fn snapshot(&self) -> fjall::Snapshot {
        self.database.snapshot()
    }

    pub(super) fn get(&self, snapshot: &fjall::Snapshot, key: &[u8]) -> Result<Option<Value>> {
        Ok(snapshot.get(&self.rows, key).map_err(engine_error)?.map(to_value))
    }

    /// Continues filling a page. No iterator outlives the call: dropping one may delete
    /// files, and by then the engine that created it may be closed.
    pub(super) fn fill(
        &self,
        snapshot: &fjall::Snapshot,
        range: &Range,
        page: &mut PageBuilder,
        budget: ReadBudget,
    ) -> Result<bool> {
        let rows = snapshot.range(&self.rows, bounds(&page.unread_range(range)));
        page.read(rows, budget).map_err(engine_error)
    }

    /// Reads the latest value without a snapshot, for the committer as the only writer.
    pub(super) fn get_latest(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.rows.get(key).map_err(engine_error)?.map(to_value))
    }

    pub(super) fn keys_latest(&self, range: &Range) -> impl Iterator<Item = Result<Key>> + use<> {
        let rows = self.rows.range(bounds(range));
        rows.map(|row| row.key().map(|key| Bytes::copy_from_slice(&key)).map_err(engine_error))
    }

    /// Writes all or nothing to the journal's buffer. A commit too large for one write is
    /// finished by the next opening if this call is interrupted, and must not be visible
    /// before.
    pub(super) fn write(&self, effects: &Effects, mark: CommitMark) -> Result<()> {
        let mut batch = self.batch(effects.writes.len() + 2);
        for (key, value) in &effects.writes {
            match value {
                Some(value) => batch.insert(&self.rows, key.as_ref(), value.as_ref()),
                None => batch.remove(&self.rows, key.as_ref()),
            }
        }
        batch.insert(&self.rows, VERSION_KEY, mark.encode().as_slice());
        if effects.swept.is_empty() {
            return self.put(batch);
        }
        batch.insert(&self.rows, SWEEP_KEY, Sweep::from_effects(effects).encode());
        self.put(batch)?;
        self.finish_sweep()
    }

    fn finish_sweep(&self) -> Result<()> {
        let Some(row) = self.get_latest(SWEEP_KEY)? else { return Ok(()) };
        Sweep::decode(row)?.remove_in_chunks(
            |range| self.keys_latest(range),
            |keys| {
                let mut batch = self.batch(keys.len());
                for key in &keys {
                    batch.remove(&self.rows, key.as_ref());
                }
                self.put(batch)
            },
        )?;
        let mut batch = self.batch(1);
        batch.remove(&self.rows, SWEEP_KEY);
        self.put(batch)
    }

    /// Writes rows as they are, the store's own ones included.
    pub(super) fn write_rows(&self, rows: Vec<(Key, Value)>) -> Result<()> {
        let mut batch = self.batch(rows.len());
        for (key, value) in rows {
            batch.insert(&self.rows, key.as_ref(), value.as_ref());
        }
        self.put(batch)
    }

    fn batch(&self, writes: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.database.clone(), writes)
    }

    fn put(&self, batch: OwnedWriteBatch) -> Result<()> {
        self.make_room()?;
        check_injected_fault(self.rows.path(), "write")?;
        batch.commit().map_err(engine_error)
    }

    fn make_room(&self) -> Result<()> {
        let memtable = self.rows.tree.active_memtable();
        let is_full = memtable.size() + memtable.len() as u64 * ENTRY_BYTES >= MEMTABLE_BYTES;
        drop(memtable);
        while is_full && self.rows.sealed_memtable_count() >= SEALED_MEMTABLES
            || self.rows.l0_table_count() >= FIRST_LEVEL_TABLES
        {
            // Fails if a worker has failed, in which case there would never be room.
            self.flush()?;
            std::thread::park_timeout(STALL_PAUSE);
        }
        if is_full { self.seal_memtable() } else { Ok(()) }
    }

    /// Merges all tables, which drops deleted rows, next to other calls. The files that this replaces are
    /// deleted by `seal_memtable`.
    pub(super) fn merge_all(&self) -> Result<()> {
        self.empty_memtables()?;
        self.rows.major_compact().map_err(engine_error)?;
        // Large values are in their own files. Only another merge drops files in which the first merge
        // has left nothing.
        self.rows.major_compact().map_err(engine_error)
    }

    pub(super) fn size(&self) -> EngineSize {
        let tree = &self.rows.tree;
        let memtable = tree.active_memtable();
        EngineSize {
            entries: tree.approximate_len() as u64,
            memtable_entries: memtable.len() as u64,
            memtable_bytes: memtable.size(),
            sealed_memtables: tree.sealed_memtable_count(),
            tombstones: tree.tombstone_count(),
            bytes: tree.disk_space(),
            old_versions: tree.version_free_list_len(),
        }
    }

    /// Free space of the disk; 0 if it is unknown.
    pub(super) fn free_bytes(&self) -> u64 {
        let status = rustix::fs::statvfs(self.rows.path());
        status.map_or(0, |status| status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Lets a worker move the content of the memtable to a table, without waiting for it. If there is
    /// content, the engine also deletes files here: the files that were replaced before the oldest open
    /// snapshot was taken.
    pub(super) fn seal_memtable(&self) -> Result<()> {
        self.rows.rotate_memtable().map(drop).map_err(engine_error)
    }

    /// Lets all flushes wait while the answer is held.
    #[cfg(test)]
    pub(super) fn hold_flushes(&self) -> std::sync::MutexGuard<'_, ()> {
        self.rows.tree.get_flush_lock()
    }

    /// Moves all content to tables.
    pub(super) fn empty_memtables(&self) -> Result<()> {
        self.seal_memtable()?;
        while self.rows.sealed_memtable_count() > 0 {
            // Fails if a worker has failed, in which case this would never end.
            self.flush()?;
            std::thread::park_timeout(STALL_PAUSE);
        }
        Ok(())
    }

    /// Syncs, and leaves no work for the next opening, which would read the whole journal
    /// however little of it is needed: its content is moved to tables and the journal
    /// emptied. The caller must hold the only reference to the engine.
    pub(super) fn close(self, directory: &Path) -> Result<()> {
        self.sync()?;
        self.empty_memtables()?;
        let is_in_tables = self.rows.tree.get_highest_memtable_seqno().is_none();
        drop(self);
        if is_in_tables {
            journal::clear(&directory.join("engine")).map_err(io_error)?;
        }
        Ok(())
    }

    /// Hands writes to the operating system, so that they survive the process.
    pub(super) fn flush(&self) -> Result<()> {
        self.database.persist(PersistMode::Buffer).map_err(engine_error)
    }

    /// Makes writes survive a power failure.
    pub(super) fn sync(&self) -> Result<()> {
        check_injected_fault(self.rows.path(), "sync")?;
        self.database.persist(PersistMode::SyncData).map_err(engine_error)
    }
}

/// Tests make a step of the engine fail by creating a file `fail-{step}` in the store's
/// directory.
#[cfg(test)]
fn check_injected_fault(path: &Path, step: &str) -> Result<()> {
    let fails = path.ancestors().any(|directory| directory.join(format!("fail-{step}")).exists());
    if fails { Err(io_error(std::io::Error::other("injected fault"))) } else { Ok(()) }
}

#[cfg(not(test))]
fn check_injected_fault(_: &Path, _: &str) -> Result<()> {
    Ok(())
}

/// Creates a new engine. A marker file exists from before the first step until after the last; an
/// engine found with it is recreated. (Renaming a finished engine instead would cost a second
/// opening, after which the engine no longer writes into the space reserved in its journal.)
fn create(path: &Path, marker: &Path, settings: &Settings) -> Result<Engine> {
    let directory = path.parent().expect("the engine is in the store's directory");
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(io_error)?;
    }
    File::create(marker).and_then(|_| sync(directory)).map_err(io_error)?;
    let engine = Engine::open_at(path, settings).map_err(engine_error)?;
    engine.rows.insert(FORMAT_KEY, FORMAT.to_be_bytes()).map_err(engine_error)?;
    engine.database.persist(PersistMode::SyncAll).map_err(engine_error)?;
    // fjall syncs the content of keyspaces, but not their names.
    sync(&path.join("keyspaces")).map_err(io_error)?;
    std::fs::remove_file(marker).and_then(|()| sync(directory)).map_err(io_error)?;
    Ok(engine)
}

/// Files without which fjall would take an engine, or a keyspace in it, for unfinished, and replace it
/// with an empty one. Keyspace 0 has the names of the others, and 1 the rows.
pub(super) const REQUIRED_FILES: [&str; 3] = ["version", "keyspaces/0/current", "keyspaces/1/current"];

fn check_files(directory: &Path) -> Result<()> {
    let engine = directory.join("engine");
    for name in REQUIRED_FILES {
        let file = engine.join(name);
        if !file.try_exists().map_err(io_error)? {
            return Err(refusal(Damage { file, kind: DamageKind::Missing }, directory));
        }
    }
    for keyspace in KEYSPACES {
        Manifest::read(&engine.join(keyspace)).map_err(|damage| refusal(damage, directory))?;
    }
    Ok(())
}

/// The error for damage that opening the store would turn into a loss.
fn refusal(damage: Damage, directory: &Path) -> Error {
    Error::corrupt(format!(
        "{damage}; nothing was changed: check the disk, then restore a backup, or save everything that can be read with \
         `matyan store salvage {} --output DIR`",
        directory.display()
    ))
}

/// Makes the directory's entries survive a power failure.
fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The part of a range that holds callers' keys. Empty if the range is inverted, which
/// the engine does not accept.
fn bounds(range: &Range) -> std::ops::Range<Key> {
    let end = range.end.clone().min(Bytes::from_static(Limits::KEYS_END));
    range.start.clone().min(end.clone())..end
}

fn to_value(value: fjall::Slice) -> Value {
    if value.len() < SEPARATE_BYTES { Bytes::copy_from_slice(&value) } else { Bytes::from_owner(value) }
}

pub(super) fn io_error(error: std::io::Error) -> Error {
    engine_error(error.into())
}

/// Classifies an engine error: corruption that no retry can fix needs a human; everything else
/// may be temporary.
pub(super) fn engine_error(error: fjall::Error) -> Error {
    use fjall::{Error as Fjall, LsmError};
    let is_temporary =
        matches!(error, Fjall::Io(_) | Fjall::Poisoned | Fjall::Locked | Fjall::Storage(LsmError::Io(_)));
    let source = Some(Arc::new(error) as crate::error::Source);
    if is_temporary {
        Error::Unavailable { reason: "the storage engine failed to read or write".to_owned(), source }
    } else {
        Error::Corrupt { reason: "the storage engine cannot read its files".to_owned(), key: None, source }
    }
}
