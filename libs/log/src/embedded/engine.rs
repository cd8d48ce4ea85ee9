//! The log's own fjall database: a keyspace per slot (offset → record), and one for what the log knows about itself.
//!
//! ```text
//! meta  "format"                1 byte: the number of this layout
//! meta  "identity"              16 bytes, made with the log
//! meta  "ingestion-partitions"  u32, little-endian
//! meta  "first/" + keyspace     first offset that may be read, and bytes of all records before it; u64, little-endian
//! ```
//!
//! Everything here blocks. Two habits of fjall are avoided: its commit sleeps until four sealed memtables become three, for
//! ever when flushing has failed, so memtables are rotated here and only when there is room (`settle`); and deleting record
//! by record would leave as many tombstones, so whole tables are dropped behind the first offset (`drop_tables`). Offsets
//! only grow, so tables do not overlap and compaction only ever moves them.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    config::{BlockSizePolicy, CompressionPolicy, FilterPolicy},
};

use super::{journal, layout::Layout, record};
use crate::{Error, Record, Result, error::Source};

const FORMAT: u8 = 1;

/// Rotated this often, the memtables of a busy log stay within the memory budget.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// A third one waiting to be flushed would be one step from fjall's own sleep.
const SEALED_MEMTABLES: usize = 2;

/// The least that fjall takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Readers go through it once, forwards: it holds index blocks.
const CACHE_BYTES: u64 = 2 << 20;

const BLOCK_BYTES: u32 = 64 << 10;

pub(super) struct Engine {
    db: Database,
    meta: Keyspace,
    slots: Vec<Keyspace>,
    names: Vec<String>,
    identity: [u8; 16],
}

/// Where a slot begins and ends, as the engine has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) bytes_before_first: u64,
    pub(super) end: u64,
    pub(super) bytes_before_end: u64,
}

impl Extent {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_before_end - self.bytes_before_first
    }

    /// Makes room for a record of this size, and tells its offset.
    pub(super) fn advance(&mut self, size: usize) -> u64 {
        let offset = self.end;
        self.end += 1;
        self.bytes_before_end += size as u64;
        offset
    }
}

/// Written together, or not at all.
pub(super) struct Writes(OwnedWriteBatch);

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes an empty log, whole or not at all: what a crash leaves in `draft` is thrown away by the next attempt.
pub(super) fn create(draft: &Path, path: &Path, layout: Layout, identity: [u8; 16]) -> Result<()> {
    let failed_io = |source: io::Error| failed(source.into());
    if draft.exists() {
        fs::remove_dir_all(draft).map_err(failed_io)?;
    }
    write_identity(draft, layout, identity).map_err(failed)?;
    fs::rename(draft, path).map_err(failed_io)?;
    let parent = path.parent().expect("the engine lies in the log's directory");
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed_io)
}

fn write_identity(path: &Path, layout: Layout, identity: [u8; 16]) -> fjall::Result<()> {
    let db = open_database(path)?;
    let meta = db.keyspace("meta", options)?;
    let mut batch = db.batch();
    batch.insert(&meta, "format", [FORMAT]);
    batch.insert(&meta, "identity", identity);
    batch.insert(&meta, "ingestion-partitions", layout.ingestion_partitions.to_le_bytes());
    batch.commit()?;
    db.persist(PersistMode::SyncAll)
}

impl Engine {
    /// What it was made with is refused if it is not what is set now.
    pub(super) fn open(path: &Path, layout: Layout) -> Result<Self> {
        let db = match open_database(path) {
            Err(fjall::Error::JournalRecovery(cause)) => {
                if !journal::cut_torn_tail(path).map_err(|source| failed(source.into()))? {
                    return Err(failed(fjall::Error::JournalRecovery(cause)));
                }
                tracing::warn!("the last write was torn by a crash and is dropped: nobody was told of it");
                open_database(path)
            }
            opened => opened,
        };
        let db = db.map_err(failed)?;
        let meta = db.keyspace("meta", options).map_err(failed)?;
        let identity = read_identity(&meta, layout)?;
        let names = layout.names();
        let slots = names
            .iter()
            .map(|name| db.keyspace(name, options))
            .collect::<fjall::Result<_>>()
            .map_err(failed)?;
        Ok(Self { db, meta, slots, names, identity })
    }

    /// Opens it again after a failure, so that nothing is relied on that the failure may have spoiled.
    pub(super) fn reopen(path: &Path, layout: Layout) -> Result<Self> {
        journal::renew(path).map_err(|source| failed(source.into()))?;
        Self::open(path, layout)
    }

    pub(super) fn identity(&self) -> [u8; 16] {
        self.identity
    }

    pub(super) fn extent(&self, slot: usize) -> Result<Extent> {
        let key = self.first_key(slot);
        let is_trimmed = self.meta.contains_key(&key).map_err(failed)?;
        let row: [u8; 16] = if is_trimmed { meta_row(&self.meta, &key)? } else { [0; 16] };
        let row = u128::from_le_bytes(row);
        let (first, bytes_before_first) = (row as u64, (row >> 64) as u64);
        let untouched =
            Extent { first, bytes_before_first, end: first, bytes_before_end: bytes_before_first };
        let Some(last) = self.slots[slot].last_key_value() else { return Ok(untouched) };
        let (key, value) = last.into_inner().map_err(failed)?;
        let last = offset(&key)?;
        if last < first {
            return Ok(untouched);
        }
        let bytes_before_end = record::bytes_before(last, &value)? + value.len() as u64;
        Ok(Extent { end: last + 1, bytes_before_end, ..untouched })
    }

    pub(super) fn writes(&self) -> Writes {
        Writes(self.db.batch())
    }

    pub(super) fn insert(&self, writes: &mut Writes, slot: usize, offset: u64, stored: Vec<u8>) {
        writes.0.insert(&self.slots[slot], offset.to_be_bytes(), stored);
    }

    /// Of records that nobody has read and nobody was told of: the only deletes that there are.
    pub(super) fn remove(&self, writes: &mut Writes, slot: usize, offset: u64) {
        writes.0.remove(&self.slots[slot], offset.to_be_bytes());
    }

    pub(super) fn set_first(&self, writes: &mut Writes, slot: usize, first: u64, bytes_before: u64) {
        let row = [first.to_le_bytes(), bytes_before.to_le_bytes()].concat();
        writes.0.insert(&self.meta, self.first_key(slot), row);
    }

    pub(super) fn commit(&self, writes: Writes) -> fjall::Result<()> {
        writes.0.commit()
    }

    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncData)
    }

    /// True when a commit would not have to wait for a flush.
    pub(super) fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.sealed_memtable_count() < SEALED_MEMTABLES)
    }

    /// Fails when flushing has failed.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::Buffer)
    }

    /// Seals memtables that have become large, for fjall's own thread to flush.
    pub(super) fn rotate(&self) -> fjall::Result<()> {
        for slot in &self.slots {
            if slot.tree.active_memtable().size() >= MEMTABLE_BYTES {
                slot.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Records from `from` up to and without `end`, at least one if there is one, about `max_bytes` at most.
    pub(super) fn read(&self, slot: usize, from: u64, end: u64, max_bytes: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        for row in self.slots[slot].range(from.to_be_bytes()..end.to_be_bytes()) {
            let (key, value) = row.into_inner().map_err(failed)?;
            bytes += value.len();
            records.push(record::decode(offset(&key)?, Bytes::from_owner(value))?);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(records)
    }

    /// The size of all records before the first one at or behind `from`; None if there is none before `end`.
    pub(super) fn bytes_before(&self, slot: usize, from: u64, end: u64) -> Result<Option<u64>> {
        let Some(row) = self.slots[slot].range(from.to_be_bytes()..end.to_be_bytes()).next() else {
            return Ok(None);
        };
        let (key, value) = row.into_inner().map_err(failed)?;
        record::bytes_before(offset(&key)?, &value).map(Some)
    }

    /// Frees the disk of what lies in tables that end before `first`.
    pub(super) fn drop_tables(&self, slot: usize, first: u64) -> fjall::Result<()> {
        Ok(self.slots[slot].tree.drop_range(..first.to_be_bytes())?)
    }

    fn first_key(&self, slot: usize) -> String {
        format!("first/{}", self.names[slot])
    }
}

fn open_database(path: &Path) -> fjall::Result<Database> {
    Database::builder(path)
        .manual_journal_persist(true)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNAL_BYTES)
        .cache_size(CACHE_BYTES)
        .worker_threads(1)
        .open()
}

fn read_identity(meta: &Keyspace, layout: Layout) -> Result<[u8; 16]> {
    let [format] = meta_row(meta, "format")?;
    if format != FORMAT {
        return Err(Error::corrupt(format!(
            "it is written in format {format}, and this program reads format {FORMAT}: use the program that wrote it"
        )));
    }
    let made_with = u32::from_le_bytes(meta_row(meta, "ingestion-partitions")?);
    if made_with != layout.ingestion_partitions {
        return Err(Error::Topic {
            reason: format!(
                "the log was made with {made_with} ingestion partitions, and {} are set: their number never changes, so set \
                 it to {made_with} again",
                layout.ingestion_partitions
            ),
        });
    }
    meta_row(meta, "identity")
}

fn meta_row<const BYTES: usize>(meta: &Keyspace, name: &str) -> Result<[u8; BYTES]> {
    let row = meta.get(name).map_err(failed)?;
    let row = row.ok_or_else(|| Error::corrupt(format!("its row `{name}` is missing")))?;
    (*row)
        .try_into()
        .map_err(|_| Error::corrupt(format!("its row `{name}` has {} bytes instead of {BYTES}", row.len())))
}

/// No filter and no compression: offsets are never looked up, and records come compressed where that pays.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(u64::MAX)
        .manual_journal_persist(true)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_compression_policy(CompressionPolicy::disabled())
        .filter_policy(FilterPolicy::disabled())
}

fn offset(key: &[u8]) -> Result<u64> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| Error::corrupt("a key is not an offset"))
}

/// What an engine's error means for whoever opened it or reads from it.
pub(super) fn failed(source: fjall::Error) -> Error {
    use fjall::Error as Cause;
    let is_unreadable = matches!(
        source,
        Cause::JournalRecovery(_)
            | Cause::InvalidVersion(_)
            | Cause::Decompress(_)
            | Cause::InvalidTrailer
            | Cause::InvalidTag(_)
            | Cause::Unrecoverable
    );
    if matches!(source, Cause::Locked) {
        return Error::InUse { reason: "another process has the log's engine open".into() };
    }
    let source: Option<Source> = Some(Arc::new(source));
    if is_unreadable {
        return Error::Corrupt { reason: "the engine cannot read its files".into(), source };
    }
    Error::Unavailable { reason: "its engine failed".into(), source }
}
