//! Maintenance of fjall's journal that fjall does not do itself. It always concerns the newest
//! file (`{number}.jnl`).
//!
//! *Long journal.* The journal is read at every opening, at about 1 µs per key, and fjall
//! starts a new one only at 64 MB. So it is emptied when a store is closed and all its content
//! is in tables.
//!
//! *Torn tail.* After a power failure, any pages after the last sync may be missing, including
//! ones in the middle. fjall stops at the first gap, which preserves everything before it. But
//! it refuses to open if the gap is within a value, since a complete batch then has a wrong
//! checksum. Such a batch and all later ones are cut off, as with any other gap. The exception
//! is a batch that a sync had covered, as recorded by a later batch: that is corruption, and
//! opening still fails. The part cut off is kept in a file next to the engine.
//!
//! *Unseen commits.* After an error, commits that were written but never visible are cut off,
//! so that their callers can be refused. So is a batch that was written in part, as on a full disk:
//! fjall would stop there too, but its debug assertions do not hold in the middle of an item.
//!
//! *Failed sync.* After a failed sync, the kernel may consider pages clean that never reached
//! the disk, and no later sync writes them. So the file is rewritten from its readable content.
//!
//! The relevant parts of journal format 3, with integers in little-endian:
//!
//! ```text
//! batch   start, items and clears, end
//! start   1, number of items u32, sequence number u64
//! item    2, kind u8, compression u8, keyspace u64, key length u16, length u32, stored length u32, key, stored value
//! clear   4, keyspace u64
//! end     3, xxh3 of all items and clears u64, "FJL" 3
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64;

use super::commit_mark::{CommitMark, VERSION_KEY};
use crate::Version;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
const COPY_BYTES: usize = 1 << 20;

/// Cuts off the newest journal of `engine` before its first invalid batch and moves the rest to
/// `aside`. Returns false if there is nothing to cut, or if it must not be cut.
pub(super) fn cut_torn_tail(engine: &Path, aside: &Path) -> io::Result<bool> {
    let path = newest_journal(engine)?;
    let journal = fs::read(&path)?;
    let Some(valid) = valid_length(&journal) else { return Ok(false) };
    let (_, torn) = journal.split_at(valid);
    fs::write(aside, without_padding(torn))?;
    truncate(&path, valid)?;
    tracing::warn!(bytes = without_padding(torn).len(), kept = %aside.display(), "cut off torn tail of the journal");
    Ok(true)
}

/// Empties the journal of `engine` if it is the only one: an older one exists only because it
/// is still needed.
pub(super) fn clear(engine: &Path) -> io::Result<()> {
    match &journals(engine)?[..] {
        [(_, journal)] => truncate(journal, 0),
        _ => Ok(()),
    }
}

/// Cuts off the newest journal of `engine` before the first commit after `version`, or before an
/// incomplete batch.
pub(super) fn cut_after(engine: &Path, version: Version) -> io::Result<()> {
    let path = newest_journal(engine)?;
    match length_before(&fs::read(&path)?, version) {
        Some(kept) => truncate(&path, kept),
        None => Ok(()),
    }
}

fn truncate(path: &Path, length: usize) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length as u64)?;
    file.sync_all()
}

/// Replaces the newest journal of `engine` with a copy of its readable content, in newly
/// allocated pages.
pub(super) fn rewrite(engine: &Path) -> io::Result<()> {
    let path = newest_journal(engine)?;
    let copy = engine.join("journal.new");
    let rewritten = copy_synced(&path, &copy).and_then(|()| fs::rename(&copy, &path));
    if rewritten.is_err() {
        // The next attempt recreates it; until then it would only take up space.
        drop(fs::remove_file(&copy));
    }
    rewritten?;
    File::open(engine)?.sync_all()
}

/// Copies by reading and writing. `io::copy` might let the file system share the very pages
/// that are in doubt.
fn copy_synced(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut buffer = vec![0; COPY_BYTES];
    let mut reserved = 0;
    loop {
        let bytes = from.read(&mut buffer)?;
        if bytes == 0 {
            return to.sync_all();
        }
        if buffer[..bytes].iter().all(|byte| *byte == 0) {
            // Probably the space reserved after the last batch, which need not be
            // copied.
            reserved += bytes;
            continue;
        }
        to.write_all(&vec![0; std::mem::take(&mut reserved)])?;
        to.write_all(&buffer[..bytes])?;
    }
}

fn newest_journal(engine: &Path) -> io::Result<PathBuf> {
    let newest = journals(engine)?.pop().map(|(_, path)| path);
    newest.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no journal"))
}

/// All journals of `engine`, oldest first.
fn journals(engine: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, path.extension().and_then(|end| end.to_str())) {
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

/// The journal without the space reserved after its last batch.
fn without_padding(journal: &[u8]) -> &[u8] {
    let used = journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &journal[..used]
}

/// Length of the journal before its first invalid batch. None if no batch is invalid, or if the
/// invalid one had been synced.
fn valid_length(journal: &[u8]) -> Option<usize> {
    let mut valid = 0;
    let invalid = loop {
        let batch = Batch::parse(&journal[valid..])?;
        if !batch.is_valid {
            break batch;
        }
        valid += batch.bytes;
    };
    let mut rest = &journal[valid + invalid.bytes..];
    let mut next = None;
    while let Some(batch) = Batch::parse(rest) {
        rest = &rest[batch.bytes..];
        let Some(mark) = batch.mark.filter(|_| batch.is_valid) else { continue };
        // Versions are consecutive, so the invalid batch has the version before the next
        // one, or belongs to it.
        let next = *next.get_or_insert(mark.version.0);
        if mark.synced.0 + 1 >= next {
            return None;
        }
    }
    Some(valid)
}

/// Length of the journal before the first commit after `version`, or before an incomplete batch.
/// None if neither exists.
fn length_before(journal: &[u8], version: Version) -> Option<usize> {
    let mut length = 0;
    loop {
        let rest = &journal[length..];
        let Some(batch) = Batch::parse(rest) else {
            return (!without_padding(rest).is_empty()).then_some(length);
        };
        if !batch.is_valid {
            return None;
        }
        if batch.mark.is_some_and(|mark| mark.version > version) {
            return Some(length);
        }
        length += batch.bytes;
    }
}

/// A batch that has a start and an end. Its content may be invalid.
struct Batch {
    bytes: usize,
    is_valid: bool,
    /// The mark that the store wrote with the commit.
    mark: Option<CommitMark>,
}

impl Batch {
    fn parse(journal: &[u8]) -> Option<Self> {
        let mut rest = journal;
        if rest.try_get_u8().ok()? != START {
            return None;
        }
        let expected_items = rest.try_get_u32_le().ok()?;
        rest.try_get_u64_le().ok()?;
        let content = rest;
        let (mut items, mut mark) = (0, None);
        loop {
            let read = content.len() - rest.len();
            match rest.try_get_u8().ok()? {
                ITEM => mark = parse_item(&mut rest)?.or(mark),
                CLEAR => drop(rest.try_get_u64_le().ok()?),
                END => {
                    let checksum = rest.try_get_u64_le().ok()?;
                    rest = rest.strip_prefix(TRAILER)?;
                    let is_valid = items == expected_items && checksum == xxh3_64(&content[..read]);
                    return Some(Self { bytes: journal.len() - rest.len(), is_valid, mark });
                }
                _ => return None,
            }
            items += 1;
        }
    }
}

/// Skips an item. Returns its mark if the item holds one.
fn parse_item(rest: &mut &[u8]) -> Option<Option<CommitMark>> {
    let _kind_and_compression = rest.try_get_u16_le().ok()?;
    let _keyspace = rest.try_get_u64_le().ok()?;
    let key_bytes = usize::from(rest.try_get_u16_le().ok()?);
    let _bytes = rest.try_get_u32_le().ok()?;
    let value_bytes = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    let (key, rest_of_item) = rest.split_at_checked(key_bytes)?;
    let (value, rest_of_item) = rest_of_item.split_at_checked(value_bytes)?;
    *rest = rest_of_item;
    Some(if key == VERSION_KEY { CommitMark::decode(value) } else { None })
}

#[cfg(test)]
mod tests;
