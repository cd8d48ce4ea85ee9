//! Rows of a damaged store: all versions in its tables and journals, merged by key.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use lsm_tree::merge::{BoxedIterator, Merger};
use lsm_tree::{Cache, Checksum, DescriptorTable, InternalValue, Table, ValueType};
use xxhash_rust::xxh3::Xxh3;

use super::super::engine::io_error;
use super::super::journal::{self, Item, Piece, Tail, pieces};
use super::super::manifest::{ListedFile, Manifest, ROWS};
use super::{Loss, LossKind};
use crate::{Key, Result, Value, Version};

const CACHE_BYTES: u64 = 16 << 20;
const OPEN_FILES: usize = 256;
/// Number of the keyspace with the rows.
const ROWS_KEYSPACE: u64 = 1;
/// Block of a large value: these bytes, xxh3 of key and value u128, sequence number u64, key length u16,
/// length u32, compressed length u32, key, compressed value. Integers are in little-endian.
const BLOB_MAGIC: &[u8] = b"BLOB";
const BLOB_HEADER_BYTES: usize = 38;

pub(super) struct RowSources {
    tables: Vec<ReadTable>,
    /// Versions in the journals, in order.
    journal: Vec<InternalValue>,
    pub(super) blobs: BlobFiles,
}

struct ReadTable {
    table: Table,
    damaged_blocks: Arc<AtomicU64>,
}

pub(super) enum RowValue {
    Inline(Value),
    /// A reference to a blob file.
    InFile(Value),
}

impl RowSources {
    pub(super) fn open(engine: &Path, losses: &mut Vec<Loss>) -> Result<Self> {
        let keyspace = engine.join(ROWS);
        let manifest = match Manifest::read(&keyspace) {
            Ok(manifest) => manifest,
            Err(damage) => {
                let kind = LossKind::Manifest { reason: damage.kind.to_string() };
                losses.push(Loss { file: damage.file, kind });
                all_files(&keyspace).map_err(io_error)?
            }
        };
        let tables = open_tables(&manifest.tables, losses);
        // Everything up to the newest version in tables is in tables. Journals have older versions, too,
        // whose deletions may already be gone.
        let in_tables = tables.iter().map(|read| read.table.get_highest_seqno()).max();
        let journal = read_journals(engine, in_tables, losses)?;
        let blobs = BlobFiles { directory: keyspace.join("blobs"), damaged: BTreeMap::new() };
        Ok(Self { tables, journal, blobs })
    }

    /// The newest version of each row that is not deleted.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Key, RowValue)> + use<> {
        let mut sources: Vec<BoxedIterator<'static>> = Vec::new();
        for ReadTable { table, damaged_blocks } in &self.tables {
            let damaged_blocks = damaged_blocks.clone();
            // The iterator continues with the next block after an error.
            sources.push(Box::new(table.range::<std::ops::RangeFull>(..).filter(move |row| {
                if row.is_err() {
                    damaged_blocks.fetch_add(1, Ordering::Relaxed);
                }
                row.is_ok()
            })));
        }
        sources.push(Box::new(self.journal.clone().into_iter().map(Ok)));
        let mut last = None;
        // No error is left in the sources.
        Merger::new(sources).flatten().filter_map(move |row| {
            let key = Key::copy_from_slice(&row.key.user_key);
            if last.as_ref() == Some(&key) {
                return None;
            }
            last = Some(key.clone());
            let value = Value::copy_from_slice(&row.value);
            match row.key.value_type {
                ValueType::Value => Some((key, RowValue::Inline(value))),
                ValueType::Indirection => Some((key, RowValue::InFile(value))),
                ValueType::Tombstone | ValueType::WeakTombstone => None,
            }
        })
    }

    /// Adds what reading the rows has found.
    pub(super) fn report(self, losses: &mut Vec<Loss>) {
        for ReadTable { table, damaged_blocks } in self.tables {
            let count = damaged_blocks.load(Ordering::Relaxed);
            if count > 0 {
                losses.push(Loss { file: table.path.to_path_buf(), kind: LossKind::Blocks { count } });
            }
        }
        for (file, count) in self.blobs.damaged {
            losses.push(Loss { file, kind: LossKind::Values { count } });
        }
    }
}

/// All files of a keyspace whose manifest cannot be read.
fn all_files(keyspace: &Path) -> std::io::Result<Manifest> {
    let mut manifest = Manifest::default();
    for entry in fs::read_dir(keyspace.join("tables"))? {
        manifest.tables.push(ListedFile { path: entry?.path(), checksum: 0, sequence: 0 });
    }
    Ok(manifest)
}

fn open_tables(listed: &[ListedFile], losses: &mut Vec<Loss>) -> Vec<ReadTable> {
    let cache = Arc::new(Cache::with_capacity_bytes(CACHE_BYTES));
    let files = Arc::new(DescriptorTable::new(OPEN_FILES));
    let mut tables = Vec::new();
    for ListedFile { path, checksum, sequence } in listed {
        let checksum = Checksum::from_raw(*checksum);
        let opened = Table::recover(
            path.clone(),
            checksum,
            *sequence,
            0,
            cache.clone(),
            Some(files.clone()),
            false,
            false,
        );
        match opened {
            Ok(table) => tables.push(ReadTable { table, damaged_blocks: Arc::default() }),
            Err(error) => {
                losses.push(Loss { file: path.clone(), kind: LossKind::Table { reason: error.to_string() } });
            }
        }
    }
    tables
}

/// Reads the versions in journals that are newer than `in_tables`.
fn read_journals(
    engine: &Path,
    in_tables: Option<u64>,
    losses: &mut Vec<Loss>,
) -> Result<Vec<InternalValue>> {
    let mut rows = Vec::new();
    let mut last = None;
    let read = journal::read_all(engine, |path, content, tail| {
        // Commits that were never synced are left to the log, which still has them.
        let content = match tail {
            Tail::Torn(offset) => &content[..offset],
            Tail::Clean | Tail::Synced(_) => content,
        };
        let mut gap = None;
        for piece in pieces(content) {
            let (start, mark) = match piece {
                Piece::Batch { start, mark, .. } => (start, mark),
                Piece::Unreadable { range } => {
                    gap = Some(range);
                    continue;
                }
            };
            let (sequence, items) = journal::items(&content[start..]);
            let is_in_tables = in_tables.is_some_and(|in_tables| sequence <= in_tables);
            let follows_tables = in_tables.is_some_and(|in_tables| sequence <= in_tables + 1);
            if let Some(range) = gap.take().filter(|_| !follows_tables) {
                let commits = mark.and_then(|mark| missing_between(last, mark.version));
                let kind = LossKind::Commits { offset: range.start, bytes: range.len(), commits };
                losses.push(Loss { file: path.to_owned(), kind });
            }
            last = mark.map(|mark| mark.version).or(last);
            if !is_in_tables {
                rows.extend(items.filter_map(|item| to_version(&item, sequence)));
            }
        }
        if let Some(range) = gap {
            let kind = LossKind::Commits { offset: range.start, bytes: range.len(), commits: None };
            losses.push(Loss { file: path.to_owned(), kind });
        }
        Ok(())
    });
    read.map_err(io_error)?;
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(rows)
}

/// Number of commits between two commits of one opening of the store.
fn missing_between(last: Option<Version>, next: Version) -> Option<u64> {
    let last = last.filter(|last| last.0 >> 32 == next.0 >> 32)?;
    next.0.checked_sub(last.0 + 1)
}

fn to_version(item: &Item<'_>, sequence: u64) -> Option<InternalValue> {
    let kind = ValueType::try_from(item.kind).ok().filter(|_| item.keyspace == ROWS_KEYSPACE)?;
    Some(InternalValue::from_components(item.key, item.value, sequence, kind))
}

/// Blob files, and the number of values in each that could not be read.
pub(super) struct BlobFiles {
    directory: PathBuf,
    damaged: BTreeMap<PathBuf, u64>,
}

impl BlobFiles {
    pub(super) fn read(&mut self, key: &[u8], reference: &[u8]) -> Option<Value> {
        let mut rest = reference;
        let offset = take_varint(&mut rest);
        let path = match take_varint(&mut rest) {
            Some(file) => self.directory.join(file.to_string()),
            None => self.directory.clone(),
        };
        let value = read_blob(&path, key, offset, take_varint(&mut rest));
        if value.is_none() {
            *self.damaged.entry(path).or_default() += 1;
        }
        value
    }
}

fn read_blob(path: &Path, key: &[u8], offset: Option<u64>, bytes: Option<u64>) -> Option<Value> {
    let bytes = BLOB_HEADER_BYTES + key.len() + usize::try_from(bytes?).ok()?;
    let mut block = vec![0; bytes];
    File::open(path).ok()?.read_exact_at(&mut block, offset?).ok()?;
    let mut rest = block.strip_prefix(BLOB_MAGIC)?;
    let checksum = rest.try_get_u128_le().ok()?;
    let _sequence = rest.try_get_u64_le().ok()?;
    let _key_bytes = rest.try_get_u16_le().ok()?;
    let size = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    let _compressed = rest.try_get_u32_le().ok()?;
    let value = rest.strip_prefix(key)?;
    let mut hasher = Xxh3::new();
    hasher.update(key);
    hasher.update(value);
    if hasher.digest128() != checksum {
        return None;
    }
    // The engine compresses all large values.
    lz4_flex::decompress(value, size).ok().map(Bytes::from)
}

/// Takes an integer of seven bits per byte, the lowest first.
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
