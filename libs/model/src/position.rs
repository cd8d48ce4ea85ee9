//! Positions in the logs, and how far the store has applied them. They ensure that a
//! redelivered record changes nothing.
//!
//! Logs are numbered: the number increases when a topic is recreated, because its offsets then
//! start at 0 again. A cursor says what was applied to one run id. An applied row says how far
//! a whole partition is, with the digest of its last record, by which a log without an identity
//! is recognized.

use std::collections::BTreeMap;

use matyan_store::{Batch, Key, Result, Snapshot, Store, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunId},
    keys::{self, LogTopic},
    rows,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct LogPosition {
    #[n(0)]
    pub log: u32,
    #[n(1)]
    pub partition: u32,
    #[n(2)]
    pub offset: u64,
}

/// The next item to apply to a run id. Everything before it has been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Cursor {
    #[n(0)]
    pub position: LogPosition,
    /// Number of the next item inside the record at `position`.
    #[n(1)]
    pub item: u32,
    /// The run was ended because it went silent, so the next write must check whether that
    /// has to be undone. The flag is stored here because a writer that has the run in
    /// memory expects this row to be as it last wrote it.
    #[n(2)]
    #[cbor(default)]
    pub is_given_up: bool,
    /// Records are parked instead of applied; see `quarantine`. Stored here for the same reason.
    #[n(3)]
    #[cbor(default)]
    pub is_quarantined: bool,
    /// The quarantine is ending: this is the position up to which parked records are applied.
    #[n(4)]
    #[cbor(default)]
    pub is_replaying: bool,
}

impl Cursor {
    /// The cursor after the whole record at `position`.
    pub fn after(position: LogPosition) -> Self {
        Self::default().advanced_past(position)
    }

    /// Moves the cursor past the whole record at `position`, keeping the other fields.
    #[must_use]
    pub fn advanced_past(self, position: LogPosition) -> Self {
        Self { position: LogPosition { offset: position.offset + 1, ..position }, item: 0, ..self }
    }

    /// The first item of the record at `position` that has yet to be applied; `None` if all
    /// of them were. A run is in one partition of each log, so positions compare by log and
    /// offset.
    pub fn next_item(&self, position: LogPosition) -> Option<u32> {
        let (next, other) = (self.position, position);
        match (next.log, next.offset).cmp(&(other.log, other.offset)) {
            std::cmp::Ordering::Less => Some(0),
            std::cmp::Ordering::Equal => Some(self.item),
            std::cmp::Ordering::Greater => None,
        }
    }

    pub fn encode(&self) -> Value {
        rows::encode(self)
    }

    pub fn decode(key: &Key, value: &Value) -> Result<Self> {
        rows::decode(key, value)
    }
}

pub async fn cursor_get(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<Option<Cursor>> {
    rows::get(snapshot, &keys::cursor(project, id)).await
}

pub fn cursor_put(batch: &mut Batch, project: Project, id: &RunId, cursor: Cursor) {
    batch.set(keys::cursor(project, id), cursor.encode());
}

/// The log of a topic, as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LogState {
    #[n(0)]
    pub number: u32,
    /// `None` if the log has no identity.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub identity: Option<[u8; 16]>,
    #[n(2)]
    pub partitions: u32,
}

pub async fn log_get(snapshot: &dyn Snapshot, topic: LogTopic) -> Result<Option<LogState>> {
    rows::get(snapshot, &keys::log(topic)).await
}

pub fn log_put(batch: &mut Batch, topic: LogTopic, state: &LogState) {
    batch.set(keys::log(topic), rows::encode(state));
}

/// The position up to which a partition has been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct AppliedPosition {
    #[n(0)]
    pub log: u32,
    /// The lowest offset that has not been applied.
    #[n(1)]
    pub next: u64,
    #[n(2)]
    pub last: Option<LastRecord>,
}

/// The last record before `AppliedPosition::next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LastRecord {
    #[n(0)]
    pub offset: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub digest: [u8; 16],
    #[n(2)]
    pub appended_us: i64,
}

impl AppliedPosition {
    pub fn covers(&self, position: LogPosition) -> bool {
        self.log > position.log || (self.log == position.log && self.next > position.offset)
    }
}

pub async fn applied_get(
    snapshot: &dyn Snapshot,
    topic: LogTopic,
    partition: u32,
) -> Result<Option<AppliedPosition>> {
    rows::get(snapshot, &keys::applied(topic, partition)).await
}

/// The applied position of each partition that has one.
pub async fn applied_all(snapshot: &dyn Snapshot, topic: LogTopic) -> Result<BTreeMap<u32, AppliedPosition>> {
    let range = keys::applied_all(topic);
    let rows = rows::scan_all(snapshot, &range).await?;
    rows.iter()
        .map(|(key, value)| {
            let (partition,) = keys::tail(&range.start, key)?;
            Ok((partition, rows::decode(key, value)?))
        })
        .collect()
}

pub fn applied_put(batch: &mut Batch, topic: LogTopic, partition: u32, applied: &AppliedPosition) {
    batch.set(keys::applied(topic, partition), rows::encode(applied));
}

/// The number that identifies the log of a partition, or that it will get when a worker next
/// checks it. `known` describes the topic, `applied` the partition; `identity` is the current
/// identity of the log, and `end` is the offset of its next record.
pub fn partition_log(
    known: Option<LogState>,
    applied: Option<AppliedPosition>,
    identity: Option<[u8; 16]>,
    end: u64,
) -> u32 {
    let Some(known) = known else { return 0 };
    if known.identity != identity {
        return known.number + 1;
    }
    match applied {
        Some(applied) if identity.is_some() => {
            // A log that ends before the position that was applied has lost records,
            // and counts as a new one.
            known.number + u32::from(applied.log == known.number && applied.next > end)
        }
        Some(applied) if applied.next > end => known.number.max(applied.log + 1),
        // Without an identity, each partition is recognized by its own last record,
        // regardless of the other partitions. If retention has deleted that record, this
        // is not evidence of a new log. If the log had an identity, no digest was
        // stored.
        Some(applied) if applied.last.is_some_and(|last| last.digest != [0; 16]) => applied.log,
        _ => known.number,
    }
}

/// The digest of the log positions that were adopted from an archive.
pub async fn adopted_positions_get(snapshot: &dyn Snapshot) -> Result<Option<[u8; 32]>> {
    let cut: Option<minicbor::bytes::ByteArray<32>> = rows::get(snapshot, &keys::adopted_positions()).await?;
    Ok(cut.map(Into::into))
}

pub fn adopted_positions_put(batch: &mut Batch, digest: [u8; 32]) {
    batch.set(keys::adopted_positions(), rows::encode(&minicbor::bytes::ByteArray::from(digest)));
}

/// Waits until the record at `position` has been applied. The caller limits the wait by
/// dropping the future.
pub async fn applied_wait(store: &dyn Store, topic: LogTopic, position: LogPosition) -> Result<()> {
    let key = keys::applied(topic, position.partition);
    loop {
        let seen = store.snapshot().await?.get(&key).await?;
        if let Some(value) = &seen
            && rows::decode::<AppliedPosition>(&key, value)?.covers(position)
        {
            return Ok(());
        }
        store.changed(&key, seen.as_ref()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log: u32, offset: u64) -> LogPosition {
        LogPosition { log, partition: 3, offset }
    }

    #[test]
    fn a_cursor_returns_the_remaining_items_of_a_record() {
        let cursor = Cursor { position: at(1, 10), item: 4, ..Cursor::default() };
        assert_eq!(cursor.next_item(at(1, 9)), None);
        assert_eq!(cursor.next_item(at(1, 10)), Some(4));
        assert_eq!(cursor.next_item(at(1, 11)), Some(0));
        assert_eq!(Cursor::after(at(1, 10)).next_item(at(1, 10)), None);
    }

    #[test]
    fn rule_01_offsets_of_a_new_log_do_not_count_as_applied() {
        let cursor = Cursor::after(at(0, 50_000));
        assert_eq!(cursor.next_item(at(1, 0)), Some(0));
        assert_eq!(Cursor::after(at(1, 0)).next_item(at(0, 60_000)), None);
    }

    #[test]
    fn rule_01_a_partition_log_is_identified_by_what_was_applied() {
        const ID: Option<[u8; 16]> = Some([1; 16]);
        let state = |number, identity| Some(LogState { number, identity, partitions: 1 });
        let last = LastRecord { offset: 6, digest: [9; 16], appended_us: 0 };
        let applied = |log| Some(AppliedPosition { log, next: 7, last: Some(last) });
        for (known, applied, identity, end, expected) in [
            (None, None, ID, 0, 0),
            (state(4, ID), applied(4), ID, 9, 4),
            // Recreated, but not yet checked by a worker.
            (state(4, ID), applied(4), Some([2; 16]), 9, 5),
            // Replaced by a log without an identity, and vice versa.
            (state(4, ID), applied(4), None, 9, 5),
            (state(4, None), applied(4), ID, 9, 5),
            // Truncated.
            (state(4, ID), applied(4), ID, 6, 5),
            (state(4, ID), applied(3), ID, 6, 4),
            (None, None, None, 0, 0),
            (state(4, None), None, None, 3, 4),
            (state(4, None), applied(4), None, 7, 4),
            (state(4, None), applied(4), None, 6, 5),
            (state(5, None), applied(4), None, 6, 5),
            // Another partition has a new log, but this one has kept its own.
            (state(5, None), applied(4), None, 9, 4),
            (state(5, None), Some(AppliedPosition { log: 4, next: 7, last: None }), None, 9, 5),
        ] {
            assert_eq!(partition_log(known, applied, identity, end), expected, "{known:?} {applied:?} {end}");
        }
    }

    #[test]
    fn applied_covers_the_positions_before_it() {
        let applied = AppliedPosition { log: 1, next: 5, last: None };
        for (position, covered) in [(at(1, 4), true), (at(1, 5), false), (at(0, 9), true), (at(2, 0), false)]
        {
            assert_eq!(applied.covers(position), covered, "{position:?}");
        }
    }
}
