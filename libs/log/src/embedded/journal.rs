//! Two repairs of fjall's journal that fjall does not do itself, both on the newest file
//! (`{number}.jnl`).
//!
//! *Torn tail.* If the power fails during a write, any pages of the last batch may be missing.
//! fjall drops a batch that ends too early, but refuses to open if the missing pages are in the
//! middle, since it then finds a complete batch with a wrong checksum. The log syncs each batch
//! before it writes the next, so an invalid batch is unacknowledged if nothing follows it, and
//! can be dropped. Anything else is real corruption, and opening still fails.
//!
//! *Failed sync.* After a failed sync, the kernel may consider pages clean that never reached
//! the disk, and no later sync writes them. So the file is rewritten from its readable content.
//!
//! The relevant parts of journal format 3, with integers in little-endian:
//!
//! ```text
//! batch   start, then items and clears, then end
//! start   1, u32 number of items, u64 sequence number
//! item    2, u8 kind, u8 compression, u64 keyspace, u16 key length, u32 length, u32 stored length, key, stored value
//! clear   4, u64 keyspace
//! end     3, u64 xxh3 of all items and clears, "FJL" 3
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Buf;
use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const END_MAGIC: [u8; 4] = *b"FJL\x03";

/// Result of parsing one batch.
#[derive(Debug, PartialEq, Eq)]
enum Batch {
    Valid { bytes: usize },
    WrongChecksum { bytes: usize },
    Incomplete,
}

/// Cuts off a last batch with a wrong checksum. Returns true if it found one.
pub(super) fn cut_torn_tail(engine: &Path) -> io::Result<bool> {
    let path = newest_journal(engine)?;
    let Some(start) = torn_batch_start(&fs::read(&path)?) else { return Ok(false) };
    let file = File::options().write(true).open(path)?;
    file.set_len(start as u64)?;
    file.sync_all()?;
    Ok(true)
}

/// Rewrites the newest journal completely into a new file that replaces it.
pub(super) fn rewrite(engine: &Path) -> io::Result<()> {
    let path = newest_journal(engine)?;
    let content = fs::read(&path)?;
    // After the last batch, which ends in a nonzero byte, there is only reserved space.
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let copy = engine.join("journal.new");
    let written = write_synced(&copy, &content[..used]).and_then(|()| fs::rename(&copy, &path));
    if written.is_err() && copy.exists() {
        fs::remove_file(&copy)?;
    }
    written?;
    File::open(engine)?.sync_all()
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn newest_journal(engine: &Path) -> io::Result<PathBuf> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| is_journal)
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no journal"))
}

/// Position of the last batch, if it is complete, has a wrong checksum, and nothing follows it.
fn torn_batch_start(mut journal: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match parse_batch(journal) {
            Batch::Valid { bytes } => {
                at += bytes;
                journal = &journal[bytes..];
            }
            Batch::WrongChecksum { bytes } => {
                return journal[bytes..].iter().all(|byte| *byte == 0).then_some(at);
            }
            Batch::Incomplete => return None,
        }
    }
}

fn parse_batch(journal: &[u8]) -> Batch {
    parse(journal).unwrap_or(Batch::Incomplete)
}

fn parse(journal: &[u8]) -> Option<Batch> {
    let mut rest = journal;
    if rest.try_get_u8().ok()? != START {
        return None;
    }
    skip(&mut rest, 4 + 8)?;
    let mut hash = Xxh3::new();
    loop {
        let item = rest;
        match rest.try_get_u8().ok()? {
            ITEM => {
                skip(&mut rest, 1 + 1 + 8)?;
                let key = rest.try_get_u16_le().ok()?;
                skip(&mut rest, 4)?;
                let value = rest.try_get_u32_le().ok()?;
                skip(&mut rest, key as usize + value as usize)?;
            }
            CLEAR => skip(&mut rest, 8)?,
            END => {
                let expected = rest.try_get_u64_le().ok()?;
                rest = rest.strip_prefix(&END_MAGIC)?;
                let bytes = journal.len() - rest.len();
                let is_valid = hash.digest() == expected;
                return Some(if is_valid { Batch::Valid { bytes } } else { Batch::WrongChecksum { bytes } });
            }
            _ => return None,
        }
        hash.update(&item[..item.len() - rest.len()]);
    }
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};
    use tempfile::TempDir;

    use super::*;

    const VALUE_BYTES: usize = 20_000;
    const BATCHES: u64 = 5;

    fn database(path: &Path) -> fjall::Result<(Database, fjall::Keyspace)> {
        let database = Database::builder(path).journal_compression(fjall::CompressionType::None).open()?;
        let keyspace = database.keyspace("records", KeyspaceCreateOptions::default)?;
        Ok((database, keyspace))
    }

    fn filled() -> TempDir {
        let directory = TempDir::new().unwrap();
        let (database, keyspace) = database(directory.path()).unwrap();
        for number in 0..BATCHES {
            let mut batch = database.batch();
            batch.insert(&keyspace, number.to_be_bytes(), vec![7; VALUE_BYTES]);
            batch.insert(&keyspace, [number as u8], "small");
            batch.remove(&keyspace, "absent");
            batch.commit().unwrap();
            database.persist(PersistMode::SyncData).unwrap();
        }
        directory
    }

    fn readable(path: &Path) -> fjall::Result<usize> {
        database(path)?.1.len()
    }

    /// Zeroes bytes of the newest journal, like a page that never reached the disk.
    fn clear_bytes(path: &Path, at: usize, bytes: usize) {
        let journal = newest_journal(path).unwrap();
        let mut content = fs::read(&journal).unwrap();
        content[at..at + bytes].fill(0);
        fs::write(journal, content).unwrap();
    }

    fn starts(path: &Path) -> Vec<usize> {
        let content = fs::read(newest_journal(path).unwrap()).unwrap();
        let mut starts = vec![0];
        while let Batch::Valid { bytes } = parse_batch(&content[starts[starts.len() - 1]..]) {
            starts.push(starts[starts.len() - 1] + bytes);
        }
        starts
    }

    #[test]
    fn every_batch_of_a_real_journal_is_parsed() {
        let directory = filled();
        assert_eq!(starts(directory.path()).len() as u64, BATCHES + 1);
        assert!(!cut_torn_tail(directory.path()).unwrap());
        assert_eq!(readable(directory.path()).unwrap() as u64, 2 * BATCHES);
    }

    #[test]
    fn a_page_lost_from_the_last_batch_costs_only_that_batch() {
        let directory = filled();
        let last = starts(directory.path())[BATCHES as usize - 1];
        clear_bytes(directory.path(), last + VALUE_BYTES / 2, 4096);
        assert!(readable(directory.path()).is_err(), "fjall now repairs this itself: remove the repair");
        assert!(cut_torn_tail(directory.path()).unwrap());
        assert_eq!(readable(directory.path()).unwrap() as u64, 2 * (BATCHES - 1));
    }

    #[test]
    fn corruption_in_the_middle_is_refused() {
        let directory = filled();
        let middle = starts(directory.path())[2];
        clear_bytes(directory.path(), middle + VALUE_BYTES / 2, 4096);
        assert!(!cut_torn_tail(directory.path()).unwrap());
        assert!(readable(directory.path()).is_err());
    }

    #[test]
    fn a_renewed_journal_has_the_same_content_in_a_new_file() {
        use std::os::unix::fs::MetadataExt;

        let directory = filled();
        let before = fs::metadata(newest_journal(directory.path()).unwrap()).unwrap();
        rewrite(directory.path()).unwrap();
        let after = fs::metadata(newest_journal(directory.path()).unwrap()).unwrap();
        assert_ne!(before.ino(), after.ino());
        assert_eq!(readable(directory.path()).unwrap() as u64, 2 * BATCHES);
    }
}
