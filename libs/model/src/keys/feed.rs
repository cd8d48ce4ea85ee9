//! Keys of rows that are read in the order of arrival: changes of runs, written lines, parked
//! items.

use foundationdb_tuple::{pack, unpack};
use matyan_store::{Key, Range, Result, Stamp, Version};
use minicbor::{Decode, Encode};

use super::{RunRow, Space, corrupt, run, subtree, tail};
use crate::ids::{Project, RunId, RunNumber};

/// The part of a change key before its stamp.
pub fn change_prefix(project: Project) -> Key {
    super::project(project, Space::Change, ())
}

/// The part of a change key after its stamp.
pub fn change_suffix(number: RunNumber) -> Key {
    pack(&(number.0,)).into()
}

/// Changes in commit order. The prefix is followed by the ten bytes of the stamp and the tail
/// (number: u64).
pub fn changes(project: Project) -> Range {
    Range::prefix(change_prefix(project))
}

/// The first key after all changes of this commit.
pub fn change_end(project: Project, stamp: Stamp) -> Key {
    let mut key = change_prefix(project).to_vec();
    key.extend_from_slice(&stamp.0);
    key.push(0xff);
    key.into()
}

pub fn decode_change(project: Project, key: &Key) -> Result<(Stamp, RunNumber)> {
    let rest = key.strip_prefix(change_prefix(project).as_ref()).ok_or_else(|| corrupt(key))?;
    let (stamp, suffix) = rest.split_first_chunk().ok_or_else(|| corrupt(key))?;
    let (number,) = unpack(suffix).map_err(|_| corrupt(key))?;
    Ok((Stamp(*stamp), RunNumber(number)))
}

/// Position of an item inside the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct ItemPosition {
    #[n(0)]
    pub log: u32,
    #[n(1)]
    pub partition: u32,
    #[n(2)]
    pub offset: u64,
    #[n(3)]
    pub item: u32,
}

pub fn parked_piece(project: Project, id: &RunId, at: ItemPosition, piece: u32) -> Key {
    let rest = (id.as_str(), at.log, at.partition, at.offset, at.item, piece);
    super::project(project, Space::Parked, rest)
}

/// All parked items.
pub fn parked(project: Project) -> Range {
    subtree(super::project(project, Space::Parked, ()))
}

pub fn parked_run(project: Project, id: &RunId) -> Range {
    subtree(super::project(project, Space::Parked, (id.as_str(),)))
}

pub fn parked_item(project: Project, id: &RunId, at: ItemPosition) -> Range {
    let rest = (id.as_str(), at.log, at.partition, at.offset, at.item);
    subtree(super::project(project, Space::Parked, rest))
}

/// The first number in place of a log for items that were restored from an archive. Numbers of logs are
/// lower.
pub const RESTORED_LOG: u32 = 1 << 31;

/// The position of the first item that is restored with a run.
pub fn restored_first(run: RunNumber) -> ItemPosition {
    // Numbers of runs are times, and not above the largest signed integer.
    let log = RESTORED_LOG | (run.0 >> 32) as u32;
    ItemPosition { log, partition: run.0 as u32, ..ItemPosition::default() }
}

/// The parked items of a run that come from the log.
pub fn parked_logged(project: Project, id: &RunId) -> Range {
    Range::new(parked_run(project, id).start, parked_restored(project, id).start)
}

/// The parked items of a run id that were restored from archives.
pub fn parked_restored(project: Project, id: &RunId) -> Range {
    let first = ItemPosition { log: RESTORED_LOG, ..ItemPosition::default() };
    Range::new(parked_piece(project, id, first, 0), parked_run(project, id).end)
}

/// The parked items that were restored with the run of this number.
pub fn parked_restored_with(project: Project, id: &RunId, run: RunNumber) -> Range {
    let ItemPosition { log, partition, .. } = restored_first(run);
    subtree(super::project(project, Space::Parked, (id.as_str(), log, partition)))
}

/// The run id, item, and piece of a key of a parked item; `prefix` is the start of `parked`.
pub fn decode_parked(prefix: &Key, key: &Key) -> Result<(RunId, ItemPosition, u32)> {
    let (id, log, partition, offset, item, piece): (String, u32, u32, u64, u32, u32) = tail(prefix, key)?;
    Ok((RunId::new(id), ItemPosition { log, partition, offset, item }, piece))
}

/// Number of changes; an atomic counter.
pub fn change_count(project: Project) -> Key {
    super::project(project, Space::ChangeMark, (0_u16,))
}

pub fn changes_trimmed(project: Project) -> Key {
    super::project(project, Space::ChangeMark, (1_u16,))
}

/// Time until which someone waits for new data.
pub fn live_readers(project: Project) -> Key {
    super::project(project, Space::ChangeMark, (3_u16,))
}

/// A mark of the counter of changes, at a version of the store.
pub fn change_counter_mark(project: Project, version: Version) -> Key {
    super::project(project, Space::ChangeMark, (2_u16, version.0))
}

/// The marks of the counter, oldest first.
pub fn change_counter_marks(project: Project) -> Range {
    subtree(super::project(project, Space::ChangeMark, (2_u16,)))
}

pub fn decode_change_counter_mark(project: Project, key: &Key) -> Result<Version> {
    let (version,) = tail(&change_counter_marks(project).start, key)?;
    Ok(Version(version))
}

pub fn line_written(project: Project, number: RunNumber, sequence: u64) -> Key {
    run(project, number, RunRow::LineWritten, (sequence,))
}

/// The tail is (sequence: u64), after `lines_written_prefix`.
pub fn lines_written_between(project: Project, number: RunNumber, first: u64, end: u64) -> Range {
    Range::new(line_written(project, number, first), line_written(project, number, end))
}

pub fn lines_written_prefix(project: Project, number: RunNumber) -> Key {
    run(project, number, RunRow::LineWritten, ())
}

pub fn parked_by_time(project: Project, received_us: i64, id: &RunId, at: ItemPosition) -> Key {
    let rest = (received_us, id.as_str(), at.log, at.partition, at.offset, at.item);
    super::project(project, Space::ParkedByTime, rest)
}

/// Oldest first.
pub fn parked_by_time_all(project: Project) -> Range {
    subtree(super::project(project, Space::ParkedByTime, ()))
}

/// The time, run id, and item of a key; `prefix` is the start of `parked_by_time_all`.
pub fn decode_parked_by_time(prefix: &Key, key: &Key) -> Result<(i64, RunId, ItemPosition)> {
    let (time_us, id, log, partition, offset, item): (i64, String, u32, u32, u64, u32) = tail(prefix, key)?;
    Ok((time_us, RunId::new(id), ItemPosition { log, partition, offset, item }))
}
