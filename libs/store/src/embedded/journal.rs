//! Maintenance of fjall's journals (`{number}.jnl`) that fjall does not do itself. Only the newest one
//! is ever changed.
//!
//! *Long journal.* The journal is read at every opening, at about 1 µs per key, and fjall
//! starts a new one only at 64 MB. So it is emptied when a store is closed and all its content
//! is in tables.
//!
//! *Damage.* After a power failure, any pages written after the last sync may be missing, including
//! ones in the middle. fjall cuts off a journal at the first batch that it cannot decode, also one in an
//! older journal, and says nothing. So all journals are read before fjall opens them. Damage to commits
//! that a sync had covered is refused: any damage in an older journal, because fjall syncs a journal
//! before it creates the next one, and damage in the newest one if a later commit says that it was
//! synced. Otherwise the damaged batch and all later ones form a torn tail, which is cut off and kept in
//! a file next to the engine. Damage to the last synced commits looks like a torn tail, because
//! no later commit mentions them.
//!
//! *Unseen commits.* After an error, commits that were written but never visible are cut off, so
//! that their callers can be refused. So is a batch that was written in part because the disk was
//! full: fjall would stop there too, but its debug assertions do not hold in the middle of an item.
//!
//! *Failed sync.* After a failed sync, the kernel may consider pages clean that never reached
//! the disk, and no later sync writes them. So the file is rewritten from its readable content.

mod piece;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::manifest::{Damage, DamageKind};
use crate::Version;
use piece::without_padding;
pub(super) use piece::{Item, Piece, items, pieces};

const COPY_BYTES: usize = 1 << 20;

/// Reads all journals of `engine`, and cuts a torn tail off the newest one. The cut part is moved to
/// `aside`. Changes nothing if it returns damage to commits that a sync had covered.
pub(super) fn cut_torn_tail(engine: &Path, aside: &Path) -> io::Result<Option<Damage>> {
    let mut damage = None;
    let mut newest = None;
    read_all(engine, |path, content, tail| {
        match tail {
            Tail::Synced(offset) => {
                let kind = DamageKind::SyncedCommits { offset };
                damage.get_or_insert(Damage { file: path.to_owned(), kind });
            }
            // Only the newest journal has such a tail.
            Tail::Torn(offset) if damage.is_none() => move_tail(path, &content[offset..], offset, aside)?,
            Tail::Torn(_) | Tail::Clean => {}
        }
        newest = Some(path.to_owned());
        Ok(())
    })?;
    if let (None, Some(newest)) = (&damage, newest) {
        // The marks of later commits will say that everything found at this opening was synced.
        File::open(newest)?.sync_all()?;
    }
    Ok(damage)
}

/// End of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Clean,
    /// Starts at this offset, and was never synced.
    Torn(usize),
    /// Damaged from this offset on, although a sync had covered it.
    Synced(usize),
}

/// Passes the content of each journal of `engine` to `visit`, the oldest first.
pub(super) fn read_all(
    engine: &Path,
    mut visit: impl FnMut(&Path, &[u8], Tail) -> io::Result<()>,
) -> io::Result<()> {
    let mut journals = journals(engine)?;
    let Some((_, newest)) = journals.pop() else { return Ok(()) };
    let mut last = None;
    let mut last_sequence = None;
    for (_, path) in journals {
        let content = read_content(&path)?;
        let mut tail = misplaced_journal(&content, last_sequence).unwrap_or(Tail::Clean);
        for piece in pieces(&content) {
            match piece {
                Piece::Batch { sequence, mark, .. } => {
                    last = mark.map(|mark| mark.version).or(last);
                    last_sequence = Some(sequence);
                }
                Piece::Unreadable { range } if tail == Tail::Clean => tail = Tail::Synced(range.start),
                Piece::Unreadable { .. } => {}
            }
        }
        visit(&path, &content, tail)?;
    }
    let content = read_content(&newest)?;
    let tail = misplaced_journal(&content, last_sequence).unwrap_or_else(|| find_tail(&content, last));
    visit(&newest, &content, tail)
}

/// Looks for a journal that does not continue the sequence numbers of an older one. The damage may be in
/// either of them, so the batches here, which may all be sound, are not cut off.
fn misplaced_journal(journal: &[u8], last: Option<u64>) -> Option<Tail> {
    let mut batches = pieces(journal).filter_map(|piece| match piece {
        Piece::Batch { start, sequence, .. } => Some((start, sequence)),
        Piece::Unreadable { .. } => None,
    });
    let (start, first) = batches.next()?;
    last.is_some_and(|last| first <= last).then_some(Tail::Synced(start))
}

/// Looks for damage in the newest journal, whose first commit follows `last`, if that is known.
fn find_tail(journal: &[u8], last: Option<Version>) -> Tail {
    let mut last = last;
    let mut damage = None;
    let mut first_lost = None;
    for piece in pieces(journal) {
        let mark = match piece {
            Piece::Batch { mark, .. } => mark,
            Piece::Unreadable { range } => {
                damage.get_or_insert(range.start);
                continue;
            }
        };
        let Some(mark) = mark else { continue };
        if let Some(offset) = damage {
            let first_lost = *first_lost.get_or_insert_with(|| first_lost_between(last, mark.version));
            if mark.synced >= first_lost {
                return Tail::Synced(offset);
            }
        }
        last = Some(mark.version);
    }
    damage.map_or(Tail::Clean, Tail::Torn)
}

/// The first version that may be lost between the commits `last` and `next`. Versions are consecutive
/// within an opening of the store, and damage without a whole commit between the two belongs to `last`
/// or `next`.
fn first_lost_between(last: Option<Version>, next: Version) -> Version {
    let Some(last) = last else { return Version(next.0.saturating_sub(1)) };
    let opening = next.0 >> 32 << 32;
    Version((last.0 + 1).max(opening + 1).min(next.0.saturating_sub(1)))
}

fn move_tail(path: &Path, tail: &[u8], offset: usize, aside: &Path) -> io::Result<()> {
    // Nothing in the tail was acknowledged as durable, so a full disk must not prevent the opening.
    let kept = fs::write(aside, tail);
    truncate(path, offset)?;
    match kept {
        Ok(()) => {
            tracing::warn!(bytes = tail.len(), kept = %aside.display(), "cut off torn tail of the journal")
        }
        Err(error) => {
            tracing::warn!(bytes = tail.len(), %error, "cut off torn tail of the journal; failed to keep it")
        }
    }
    Ok(())
}

/// Whether any journal of `engine` holds a commit.
pub(super) fn holds_commits(engine: &Path) -> io::Result<bool> {
    for (_, path) in journals(engine)? {
        let journal = read_content(&path)?;
        if pieces(&journal).any(|piece| matches!(piece, Piece::Batch { mark: Some(_), .. })) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Empties the journal of `engine` if it is the only one: an older one exists only because it
/// is still needed. An empty file takes its place: if the power failed while the old file was cut, some of
/// its pages could be left, which would look like damage to synced commits.
pub(super) fn clear(engine: &Path) -> io::Result<()> {
    match &journals(engine)?[..] {
        [(_, journal)] => replace(engine, journal, |empty| File::create(empty)?.sync_all()),
        _ => Ok(()),
    }
}

/// Cuts off the newest journal of `engine` before the first commit after `version`, or before an
/// incomplete batch.
pub(super) fn cut_after(engine: &Path, version: Version) -> io::Result<()> {
    let path = newest_journal(engine)?;
    match length_before(&read_content(&path)?, version) {
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
    replace(engine, &path, |copy| copy_synced(&path, copy))
}

/// Replaces a journal of `engine` with the file that `write` creates and syncs.
fn replace(engine: &Path, journal: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let new = engine.join("journal.new");
    let replaced = write(&new).and_then(|()| fs::rename(&new, journal));
    if replaced.is_err() {
        // The next attempt recreates it; until then it would only take up space.
        drop(fs::remove_file(&new));
    }
    replaced?;
    File::open(engine)?.sync_all()
}

/// Copies by reading and writing. `io::copy` might let the file system share the very pages
/// that are in doubt.
fn copy_synced(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = File::create(to)?;
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
pub(super) fn journals(engine: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
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

/// Reads a journal without the space reserved after its last batch.
fn read_content(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut zeros = 0;
    loop {
        let bytes = file.read(&mut buffer)?;
        let read = &buffer[..bytes];
        if bytes == 0 {
            return Ok(content);
        }
        let used = without_padding(read);
        if used.is_empty() {
            zeros += bytes;
            continue;
        }
        content.resize(content.len() + std::mem::take(&mut zeros), 0);
        content.extend_from_slice(used);
        zeros = bytes - used.len();
    }
}

/// Length of the journal before the first commit after `version`, or before an incomplete batch.
/// None if neither exists, or if a readable batch follows the damage.
fn length_before(journal: &[u8], version: Version) -> Option<usize> {
    let mut damage = None;
    for piece in pieces(journal) {
        match piece {
            _ if damage.is_some() => return None,
            Piece::Unreadable { range } => damage = Some(range.start),
            Piece::Batch { start, mark, .. } if mark.is_some_and(|mark| mark.version > version) => {
                return Some(start);
            }
            Piece::Batch { .. } => {}
        }
    }
    damage
}

#[cfg(test)]
mod tests;
