//! The log's own fjall database: one keyspace per slot (offset → record), and one for metadata.
//!
//! ```text
//! meta  "format"                1 byte: the version of this layout
//! meta  "identity"              16 bytes, created with the log
//! meta  "ingestion-partitions"  u32, little-endian
//! meta  "first/" + keyspace     first readable offset, and bytes of all records before it; u64, little-endian
//! ```
//!
//! All functions here block. Two behaviors of fjall are avoided. First, its commit sleeps until
//! four sealed memtables become three, which is forever if flushing has failed. So memtables
//! are rotated here, and only if there is room. Second, deleting single records would leave as
//! many tombstones, so whole tables before the first offset are dropped instead
//! (`drop_trimmed_tables`). Offsets only grow, so tables do not overlap and compaction merely moves
//! them.

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

/// Size at which memtables are rotated, so that a busy log stays within the memory budget.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// With a third sealed memtable, fjall is one step away from putting writers to sleep.
const SEALED_MEMTABLES: usize = 2;

/// The minimum that fjall accepts.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Readers read forwards and only once, so the cache needs to hold only index blocks.
const CACHE_BYTES: u64 = 2 << 20;

const BLOCK_BYTES: u32 = 64 << 10;

pub(super) struct Engine {
    db: Database,
    meta: Keyspace,
    slots: Vec<Keyspace>,
    names: Vec<String>,
    identity: [u8; 16],
}

/// First offset and end offset of a slot, as stored in the engine.
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

    /// Extends the end by a record of this size, and returns the record's offset.
    pub(super) fn advance(&mut self, size: usize) -> u64 {
        let offset = self.end;
        self.end += 1;
        self.bytes_before_end += size as u64;
        offset
    }
}

/// Writes that are applied atomically.
pub(super) struct WriteSet(OwnedWriteBatch);

impl WriteSet {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Creates an empty log atomically: an unfinished `draft` left by a crash is discarded by the
/// next attempt.
pub(super) fn create(draft: &Path, path: &Path, layout: Layout, identity: [u8; 16]) -> Result<()> {
    let failed_io = |source: io::Error| engine_error(source.into());
    if draft.exists() {
        fs::remove_dir_all(draft).map_err(failed_io)?;
    }
    write_identity(draft, layout, identity).map_err(engine_error)?;
    fs::rename(draft, path).map_err(failed_io)?;
    let parent = path.parent().expect("the engine is in the log's directory");
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed_io)
}

fn write_identity(path: &Path, layout: Layout, identity: [u8; 16]) -> fjall::Result<()> {
    let db = open_database(path)?;
    let meta = db.keyspace("meta", keyspace_options)?;
    let mut batch = db.batch();
    batch.insert(&meta, "format", [FORMAT]);
    batch.insert(&meta, "identity", identity);
    batch.insert(&meta, "ingestion-partitions", layout.ingestion_partitions.to_le_bytes());
    batch.commit()?;
    db.persist(PersistMode::SyncAll)
}

impl Engine {
    /// Opens the engine. Fails if its format or number of partitions differs from the
    /// configured one.
    pub(super) fn open(path: &Path, layout: Layout) -> Result<Self> {
        let db = match open_database(path) {
            Err(fjall::Error::JournalRecovery(cause)) => {
                if !journal::cut_torn_tail(path).map_err(|source| engine_error(source.into()))? {
                    return Err(engine_error(fjall::Error::JournalRecovery(cause)));
                }
                tracing::warn!("dropped the last write, which was torn by a crash and never acknowledged");
                open_database(path)
            }
            opened => opened,
        };
        let db = db.map_err(engine_error)?;
        let meta = db.keyspace("meta", keyspace_options).map_err(engine_error)?;
        let identity = read_identity(&meta, layout)?;
        let names = layout.names();
        let slots = names
            .iter()
            .map(|name| db.keyspace(name, keyspace_options))
            .collect::<fjall::Result<_>>()
            .map_err(engine_error)?;
        Ok(Self { db, meta, slots, names, identity })
    }

    /// Reopens the engine after a failure. The journal is rewritten first, because the
    /// failure may have damaged it.
    pub(super) fn reopen(path: &Path, layout: Layout) -> Result<Self> {
        journal::rewrite(path).map_err(|source| engine_error(source.into()))?;
        Self::open(path, layout)
    }

    pub(super) fn identity(&self) -> [u8; 16] {
        self.identity
    }

    pub(super) fn extent(&self, slot: usize) -> Result<Extent> {
        let key = self.first_key(slot);
        let is_trimmed = self.meta.contains_key(&key).map_err(engine_error)?;
        let row: [u8; 16] = if is_trimmed { meta_row(&self.meta, &key)? } else { [0; 16] };
        let row = u128::from_le_bytes(row);
        let (first, bytes_before_first) = (row as u64, (row >> 64) as u64);
        let empty = Extent { first, bytes_before_first, end: first, bytes_before_end: bytes_before_first };
        let Some(last) = self.slots[slot].last_key_value() else { return Ok(empty) };
        let (key, value) = last.into_inner().map_err(engine_error)?;
        let last = decode_offset(&key)?;
        // Only whole tables are dropped, so trimmed records may still be stored.
        if last < first {
            return Ok(empty);
        }
        let bytes_before_end = record::bytes_before(last, &value)? + value.len() as u64;
        Ok(Extent { end: last + 1, bytes_before_end, ..empty })
    }

    pub(super) fn writes(&self) -> WriteSet {
        WriteSet(self.db.batch())
    }

    pub(super) fn insert(&self, writes: &mut WriteSet, slot: usize, offset: u64, stored: Vec<u8>) {
        writes.0.insert(&self.slots[slot], offset.to_be_bytes(), stored);
    }

    /// Removes a record that was never readable or acknowledged. These are the only deletes
    /// of single records.
    pub(super) fn remove(&self, writes: &mut WriteSet, slot: usize, offset: u64) {
        writes.0.remove(&self.slots[slot], offset.to_be_bytes());
    }

    pub(super) fn set_first(&self, writes: &mut WriteSet, slot: usize, first: u64, bytes_before: u64) {
        let row = [first.to_le_bytes(), bytes_before.to_le_bytes()].concat();
        writes.0.insert(&self.meta, self.first_key(slot), row);
    }

    pub(super) fn commit(&self, writes: WriteSet) -> fjall::Result<()> {
        writes.0.commit()
    }

    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncData)
    }

    /// True if a commit would not have to wait for a flush.
    pub(super) fn can_commit(&self) -> bool {
        self.slots.iter().all(|slot| slot.sealed_memtable_count() < SEALED_MEMTABLES)
    }

    /// Fails if flushing has failed.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::Buffer)
    }

    /// Seals large memtables, which fjall then flushes on its own thread.
    pub(super) fn rotate(&self) -> fjall::Result<()> {
        for slot in &self.slots {
            if slot.tree.active_memtable().size() >= MEMTABLE_BYTES {
                slot.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Reads records from `from` up to and excluding `end`: at least one if any exists, and
    /// about `max_bytes` at most.
    pub(super) fn read(&self, slot: usize, from: u64, end: u64, max_bytes: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        for row in self.slots[slot].range(from.to_be_bytes()..end.to_be_bytes()) {
            let (key, value) = row.into_inner().map_err(engine_error)?;
            bytes += value.len();
            records.push(record::decode(decode_offset(&key)?, Bytes::from_owner(value))?);
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(records)
    }

    /// The size of all records before the first one at or after `from`. None if no such
    /// record exists before `end`.
    pub(super) fn bytes_before(&self, slot: usize, from: u64, end: u64) -> Result<Option<u64>> {
        let Some(row) = self.slots[slot].range(from.to_be_bytes()..end.to_be_bytes()).next() else {
            return Ok(None);
        };
        let (key, value) = row.into_inner().map_err(engine_error)?;
        record::bytes_before(decode_offset(&key)?, &value).map(Some)
    }

    /// Frees the disk space of tables that end before `first`.
    pub(super) fn drop_trimmed_tables(&self, slot: usize, first: u64) -> fjall::Result<()> {
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
            "it has format {format}, but this program supports only format {FORMAT}: use the program that wrote it"
        )));
    }
    let made_with = u32::from_le_bytes(meta_row(meta, "ingestion-partitions")?);
    if made_with != layout.ingestion_partitions {
        return Err(Error::Topic {
            reason: format!(
                "the log was created with {made_with} ingestion partitions, but {} are configured: the number cannot change, so \
                 set it back to {made_with}",
                layout.ingestion_partitions
            ),
        });
    }
    meta_row(meta, "identity")
}

fn meta_row<const BYTES: usize>(meta: &Keyspace, name: &str) -> Result<[u8; BYTES]> {
    let row = meta.get(name).map_err(engine_error)?;
    let row = row.ok_or_else(|| Error::corrupt(format!("its row `{name}` is missing")))?;
    (*row)
        .try_into()
        .map_err(|_| Error::corrupt(format!("its row `{name}` has {} bytes instead of {BYTES}", row.len())))
}

/// No filters, because records are not looked up by key, and no compression, because records
/// are already compressed where that pays off.
fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        // Automatic rotation is off: `rotate` seals memtables instead.
        .max_memtable_size(u64::MAX)
        .manual_journal_persist(true)
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_compression_policy(CompressionPolicy::disabled())
        .filter_policy(FilterPolicy::disabled())
}

fn decode_offset(key: &[u8]) -> Result<u64> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| Error::corrupt("a key is not a valid offset"))
}

/// Converts an error of the engine.
pub(super) fn engine_error(source: fjall::Error) -> Error {
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
        return Error::InUse { reason: "the log's engine is open in another process".into() };
    }
    let source: Option<Source> = Some(Arc::new(source));
    if is_unreadable {
        return Error::Corrupt { reason: "the storage engine cannot read its files".into(), source };
    }
    Error::Unavailable { reason: "the storage engine failed".into(), source }
}
