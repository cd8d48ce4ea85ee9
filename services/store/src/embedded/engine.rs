//! fjall as this store uses it: its settings, its rows, and what its errors mean.
//!
//! On disk: `lock` and the directory `engine`. Callers' keys begin below 0xff and are stored as they are; the store's own
//! rows begin with 0xff: `format` (u32), and `version` (u64) of the last commit, written by each of them. The engine is
//! made aside and renamed, so that a crash leaves no half of one. There is one keyspace: large values are separated from
//! keys, so a second one for them would add memory and gain nothing.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::BlockSizePolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable,
};

use super::Settings;
use super::effects::Writes;
use super::page::{Budget, PageBuilder, SEPARATE_BYTES};
use crate::{Error, Key, Limits, Range, Result, Value, Version};

/// The layout described above. A newer one is refused.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"\xffformat";
const VERSION_KEY: &[u8] = b"\xffversion";

/// Defaults of the engine cost 178 to 244 MB after 1 GB written, these 40 to 49. They are fixed when a store is made.
const MEMTABLE_BYTES: u64 = 8 << 20;
const BLOCK_BYTES: u32 = 16 << 10;
/// Keeps opening after a crash at 30 ms.
const JOURNAL_BYTES: u64 = 64 << 20;
/// One flushes while the other compacts.
const WORKERS: usize = 2;

/// The engine halts writers in a loop without an end at 4 sealed memtables or 30 runs, also when its workers have died.
/// One commit adds at most 2 and a few, so the committer waits here instead, where it sees that.
const SEALED_MEMTABLES: usize = 2;
const FIRST_LEVEL_TABLES: usize = 24;
const STALL_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub(super) struct Engine {
    database: Database,
    rows: Keyspace,
}

impl Engine {
    pub(super) fn open(directory: &Path, settings: &Settings) -> Result<Self> {
        let path = directory.join("engine");
        if !path.exists() {
            create(directory, &path, settings)?;
        }
        let engine = Self::open_at(&path, settings).map_err(failure)?;
        engine.check_format()?;
        Ok(engine)
    }

    fn open_at(path: &Path, settings: &Settings) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .worker_threads(WORKERS)
            .open()?;
        let rows = database.keyspace("rows", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .with_kv_separation(Some(
                    KvSeparationOptions::default().separation_threshold(SEPARATE_BYTES as u32),
                ))
        })?;
        Ok(Self { database, rows })
    }

    fn check_format(&self) -> Result<()> {
        let stored = self.get_own(FORMAT_KEY)?.map(u32::from_be_bytes);
        match stored {
            Some(FORMAT) => Ok(()),
            Some(newer) => Err(Error::corrupt(format!(
                "it is in format {newer}, this program knows {FORMAT}: use a newer program"
            ))),
            None => Err(Error::corrupt("it has no format number")),
        }
    }

    /// The version of the last commit that the engine holds.
    pub(super) fn version(&self) -> Result<Version> {
        Ok(Version(self.get_own(VERSION_KEY)?.map_or(0, u64::from_be_bytes)))
    }

    fn get_own<const N: usize>(&self, key: &[u8]) -> Result<Option<[u8; N]>> {
        let Some(value) = self.rows.get(key).map_err(failure)? else { return Ok(None) };
        let bytes = <[u8; N]>::try_from(&*value);
        bytes.map(Some).map_err(|_| Error::corrupt(format!("row {} has a wrong size", key.escape_ascii())))
    }

    /// A view of everything written so far.
    pub(super) fn snapshot(&self) -> fjall::Snapshot {
        self.database.snapshot()
    }

    pub(super) fn get(&self, snapshot: &fjall::Snapshot, key: &[u8]) -> Result<Option<Value>> {
        Ok(snapshot.get(&self.rows, key).map_err(failure)?.map(value))
    }

    /// Goes on with a page. No iterator outlives the call: one may delete files when it is dropped, and the engine that
    /// made it may be closed by then.
    pub(super) fn fill(
        &self,
        snapshot: &fjall::Snapshot,
        range: &Range,
        page: &mut PageBuilder,
        budget: Budget,
    ) -> Result<bool> {
        let rows = snapshot.range(&self.rows, bounds(&page.rest(range)));
        page.read(rows, budget).map_err(failure)
    }

    /// What the committer, being the only writer, reads without a snapshot.
    pub(super) fn get_latest(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.rows.get(key).map_err(failure)?.map(value))
    }

    pub(super) fn keys_latest(&self, range: &Range) -> impl Iterator<Item = Result<Key>> + use<> {
        let rows = self.rows.range(bounds(range));
        rows.map(|row| row.key().map(|key| Bytes::copy_from_slice(&key)).map_err(failure))
    }

    /// Writes all or nothing into the buffer of the journal, with the version that this makes.
    pub(super) fn write(&self, writes: &Writes, version: Version) -> Result<()> {
        self.wait_for_room()?;
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), writes.len() + 1);
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.rows, key.as_ref(), value.as_ref()),
                None => batch.remove(&self.rows, key.as_ref()),
            }
        }
        batch.insert(&self.rows, VERSION_KEY, version.0.to_be_bytes().as_slice());
        batch.commit().map_err(failure)
    }

    fn wait_for_room(&self) -> Result<()> {
        while self.rows.sealed_memtable_count() >= SEALED_MEMTABLES
            || self.rows.l0_table_count() >= FIRST_LEVEL_TABLES
        {
            // Fails when a worker has, which would never make room.
            self.flush()?;
            std::thread::park_timeout(STALL_PAUSE);
        }
        Ok(())
    }

    /// Hands what was written to the operating system: from here it outlives the process.
    pub(super) fn flush(&self) -> Result<()> {
        self.database.persist(PersistMode::Buffer).map_err(failure)
    }

    /// Makes what was written outlive the machine.
    pub(super) fn sync(&self) -> Result<()> {
        self.database.persist(PersistMode::SyncData).map_err(failure)
    }
}

fn create(directory: &Path, path: &Path, settings: &Settings) -> Result<()> {
    let io = |error: std::io::Error| failure(error.into());
    let aside = directory.join("engine.new");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(io)?;
    }
    let engine = Engine::open_at(&aside, settings).map_err(failure)?;
    engine.rows.insert(FORMAT_KEY, FORMAT.to_be_bytes()).map_err(failure)?;
    engine.database.persist(PersistMode::SyncAll).map_err(failure)?;
    drop(engine);
    std::fs::rename(&aside, path).map_err(io)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// The part of a range that holds callers' keys; empty if it is upside down, which the engine would not forgive.
fn bounds(range: &Range) -> std::ops::Range<Key> {
    let end = range.end.clone().min(Bytes::from_static(Limits::KEYS_END));
    range.start.clone().min(end.clone())..end
}

fn value(value: fjall::Slice) -> Value {
    if value.len() < SEPARATE_BYTES { Bytes::copy_from_slice(&value) } else { Bytes::from_owner(value) }
}

/// Damage that a second try cannot heal needs a human; everything else may pass.
pub(super) fn failure(error: fjall::Error) -> Error {
    use fjall::{Error as Fjall, LsmError};
    let passes =
        matches!(error, Fjall::Io(_) | Fjall::Poisoned | Fjall::Locked | Fjall::Storage(LsmError::Io(_)));
    let source = Some(Arc::new(error) as crate::error::Source);
    if passes {
        Error::Unavailable { reason: "the engine failed to read or write".to_owned(), source }
    } else {
        Error::Corrupt { reason: "the engine cannot read its files".to_owned(), source }
    }
}
