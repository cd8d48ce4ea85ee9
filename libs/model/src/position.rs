//! Positions in the logs, and how far the store has applied them. They ensure that a
//! redelivered record changes nothing.
//!
//! A log is known by its identity, and nothing else. In the store each log has a number, which is
//! shorter and ordered: it increases when a topic is recreated, because its offsets then restart at 0,
//! and for a partition that lost its tail, because offsets are then used twice. A cursor is the
//! position up to which records were applied to one run id. An applied row is the position of a whole
//! partition, with its log.

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

    /// Whether this cursor comes before another of the same run.
    pub fn is_before(&self, other: &Self) -> bool {
        self.order() < other.order()
    }

    fn order(&self) -> (u32, u64, u32) {
        (self.position.log, self.position.offset, self.item)
    }

    /// The first item of the record at `position` that has yet to be applied; `None` if all
    /// of them were. A run is in one partition of each log, so positions compare by log and
    /// offset.
    pub fn next_item(&self, position: LogPosition) -> Option<u32> {
        let next = self.position;
        match (next.log, next.offset).cmp(&(position.log, position.offset)) {
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
    /// `None` in a store from before Kafka's topics were known by their ids.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub identity: Option<[u8; 16]>,
    #[n(2)]
    pub partitions: u32,
    /// The number that this log had before a partition of it lost its tail for the first time; `None` if
    /// none did.
    #[cbor(n(3), default)]
    pub first_number: Option<u32>,
    /// Drawn at random when this log first got another number because of a lost tail. Two stores that
    /// share it give the same numbers to the same records.
    #[cbor(n(4), default, with = "minicbor::bytes")]
    pub numbering: Option<[u8; 16]>,
}

/// The numbers that a log has in another store, or had earlier or later in this one, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumbersThere {
    /// They mean the same as here. Ours end at `newest`.
    Same { newest: u32 },
    /// They were counted in another way. The current log had this number here from the start.
    Other { oldest: u32 },
}

impl LogState {
    /// This log under the next number, for a partition that has lost its tail. Others keep theirs.
    /// `random` identifies the numbers from here on, unless they have an identity.
    #[must_use]
    pub fn renumbered(self, random: [u8; 16]) -> Self {
        Self {
            number: self.number + 1,
            first_number: self.first_number.or(Some(self.number)),
            numbering: self.numbering.or(Some(random)),
            ..self
        }
    }

    /// The way to read numbers of this log that come from a store with this `numbering`. If the numbering
    /// differs from the numbering of this store, numbers may agree by chance only. Such positions then
    /// count as the oldest in this log, so that no record is taken for an applied record; some records may
    /// be applied twice.
    pub fn numbers_of(self, numbering: Option<[u8; 16]>) -> NumbersThere {
        if numbering.is_some() && numbering == self.numbering {
            NumbersThere::Same { newest: self.number }
        } else {
            NumbersThere::Other { oldest: self.first_number.unwrap_or(self.number) }
        }
    }
}

pub async fn log_get(snapshot: &dyn Snapshot, topic: LogTopic) -> Result<Option<LogState>> {
    rows::get(snapshot, &keys::log(topic)).await
}

pub fn log_put(batch: &mut Batch, topic: LogTopic, state: &LogState) {
    batch.set(keys::log(topic), rows::encode(state));
}

/// Whether a log was replaced by another, which is read since then.
pub async fn log_is_replaced(snapshot: &dyn Snapshot, topic: LogTopic, identity: &[u8; 16]) -> Result<bool> {
    Ok(snapshot.get(&keys::replaced_log(topic, identity)).await?.is_some())
}

/// Notes that the log with this number was replaced by another.
pub fn log_put_replaced(batch: &mut Batch, topic: LogTopic, identity: &[u8; 16], number: u32) {
    batch.set(keys::replaced_log(topic, identity), rows::encode(&number));
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
    /// The log that `log` is the number of. `None` in older stores, and until a partition is read.
    #[cbor(n(3), default, with = "minicbor::bytes")]
    pub identity: Option<[u8; 16]>,
    /// The log has lost its records from this offset on. Records before it are still read; then the
    /// partition is not read until an operator decides to continue.
    #[cbor(n(4), default)]
    pub shortened_to: Option<u64>,
    /// The log was read from its middle: this is when the first record there was appended.
    #[cbor(n(5), default)]
    pub middle_us: Option<i64>,
    /// The first offset under this number, if the partition had a lower one before it lost its tail.
    /// Everything before it was applied.
    #[cbor(n(6), default)]
    pub begins: Option<u64>,
    /// The last record that was read, if it is after `last`: a run that waits holds the position back, and
    /// records of other runs have been applied since.
    #[cbor(n(7), default)]
    pub read: Option<LastRecord>,
    /// Nothing of the partition was applied, and an operator has decided to read it from here on, without its
    /// first records, which are gone.
    #[cbor(n(8), default)]
    pub is_middle: bool,
}

impl AppliedPosition {
    /// The decision to read a partition from an offset on, although nothing before the offset was applied.
    pub fn from_middle(log: u32, next: u64, identity: Option<[u8; 16]>) -> Self {
        Self { log, next, identity, is_middle: true, ..Self::default() }
    }
}

/// The last record before `AppliedPosition::next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LastRecord {
    #[n(0)]
    pub offset: u64,
    /// Number 1 was a digest of the record in older stores.
    #[n(2)]
    pub appended_us: i64,
    /// The number of the leader that wrote it, in a log whose leaders change.
    #[cbor(n(3), default)]
    pub leader_epoch: Option<i32>,
}

impl AppliedPosition {
    /// Whether this position is in the log that `state` describes, rather than in one before it.
    pub fn is_of(&self, state: &LogState) -> bool {
        match (self.identity, state.identity) {
            (Some(own), Some(identity)) => own == identity,
            (None, Some(_)) => self.log == state.number,
            (_, None) => self.identity.is_none(),
        }
    }

    /// The last record that was read, and may have been applied.
    pub fn last_read(&self) -> Option<LastRecord> {
        self.read.or(self.last)
    }

    /// The offset after everything that was read, and may have been applied.
    pub fn read_to(&self) -> u64 {
        self.read.map_or(self.next, |read| self.next.max(read.offset + 1))
    }

    pub fn covers(&self, position: LogPosition) -> bool {
        let next = self.shortened_to.unwrap_or(u64::MAX).min(self.next);
        self.log > position.log || (self.log == position.log && next > position.offset)
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

/// The number of the log of a partition, or the number that the log will get when a worker next
/// reads it. `known` describes the topic, `applied` the partition; `identity` is the current
/// identity of the log.
pub fn partition_log(known: Option<LogState>, applied: Option<AppliedPosition>, identity: [u8; 16]) -> u32 {
    let Some(known) = known else { return 0 };
    if let Some(applied) = applied {
        let is_of_older_store = known.identity.is_none() && applied.identity.is_none();
        if applied.identity == Some(identity) || is_of_older_store {
            return applied.log;
        }
    }
    known.number + u32::from(known.identity.is_some_and(|known| known != identity))
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

/// Waits until the record of a run at `position` has been applied, or parked with the run. The caller
/// limits the wait by dropping the future.
pub async fn cursor_wait(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    position: LogPosition,
) -> Result<()> {
    let key = keys::cursor(project, id);
    loop {
        let seen = store.snapshot().await?.get(&key).await?;
        if let Some(value) = &seen
            && Cursor::decode(&key, value)?.next_item(position).is_none()
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
    fn rule_42_a_log_is_known_by_its_identity() {
        const ID: [u8; 16] = [1; 16];
        const OTHER: [u8; 16] = [2; 16];
        let state =
            |number, identity| Some(LogState { number, identity, partitions: 1, ..LogState::default() });
        let applied =
            |log, identity| Some(AppliedPosition { log, next: 7, identity, ..AppliedPosition::default() });
        for (known, applied, expected) in [
            (None, None, 0),
            (state(4, Some(ID)), None, 4),
            (state(4, Some(ID)), applied(4, Some(ID)), 4),
            // This partition continued after it had lost its tail, or another one did.
            (state(5, Some(ID)), applied(5, Some(ID)), 5),
            (state(5, Some(ID)), applied(4, Some(ID)), 4),
            // Recreated, but not yet read by a worker.
            (state(4, Some(OTHER)), applied(4, Some(OTHER)), 5),
            // Recreated, and another partition was read first.
            (state(5, Some(ID)), applied(4, Some(OTHER)), 5),
            // An older store of a log with an identity.
            (state(4, Some(ID)), applied(4, None), 4),
            (state(4, Some(ID)), applied(3, None), 4),
            // An older store of a log that had none: each partition had its own number.
            (state(5, None), None, 5),
            (state(5, None), applied(4, None), 4),
        ] {
            assert_eq!(partition_log(known, applied, ID), expected, "{known:?} {applied:?}");
        }
    }

    #[test]
    fn rule_36_numbers_mean_the_same_only_in_one_numbering() {
        const OURS: [u8; 16] = [1; 16];
        const THEIRS: [u8; 16] = [2; 16];
        let state = LogState { number: 4, ..LogState::default() };
        for numbering in [None, Some(OURS)] {
            assert_eq!(state.numbers_of(numbering), NumbersThere::Other { oldest: 4 });
        }
        let after = state.renumbered(OURS).renumbered(THEIRS);
        assert_eq!((after.number, after.first_number, after.numbering), (6, Some(4), Some(OURS)));
        assert_eq!(after.numbers_of(Some(OURS)), NumbersThere::Same { newest: 6 });
        // Before the first loss, and in another store.
        for numbering in [None, Some(THEIRS)] {
            assert_eq!(after.numbers_of(numbering), NumbersThere::Other { oldest: 4 });
        }
    }

    #[test]
    fn rule_42_a_position_is_of_the_log_with_its_identity() {
        const ID: [u8; 16] = [1; 16];
        fn check(log: u32, own: Option<[u8; 16]>, identity: Option<[u8; 16]>, expected: bool) {
            let applied = AppliedPosition { log, identity: own, ..AppliedPosition::default() };
            let state = LogState { number: 4, identity, ..LogState::default() };
            assert_eq!(applied.is_of(&state), expected, "{log} {own:?} {identity:?}");
        }
        // It kept its number when another partition lost its tail.
        check(3, Some(ID), Some(ID), true);
        check(3, Some([2; 16]), Some(ID), false);
        // Rows of older stores.
        check(4, None, Some(ID), true);
        check(3, None, Some(ID), false);
        check(3, None, None, true);
    }

    /// Rows of older stores, byte for byte.
    #[test]
    fn rule_44_applied_positions_of_older_stores_are_read() {
        let key: Key = vec![1].into();
        let mut old = vec![1, 0x83, 4, 7, 0x83, 6, 0x50];
        old.extend([9; 16]);
        old.push(0x18);
        old.push(99);
        let read: AppliedPosition = rows::decode(&key, &old).unwrap();
        let last = Some(LastRecord { offset: 6, appended_us: 99, leader_epoch: None });
        let expected = AppliedPosition { log: 4, next: 7, last, ..AppliedPosition::default() };
        assert_eq!(read, expected);
        assert_eq!(rows::decode::<AppliedPosition>(&key, &rows::encode(&expected)).unwrap(), expected);
    }

    #[test]
    fn applied_covers_the_positions_before_it() {
        let applied = AppliedPosition { log: 1, next: 5, ..AppliedPosition::default() };
        for (position, covered) in [(at(1, 4), true), (at(1, 5), false), (at(0, 9), true), (at(2, 0), false)]
        {
            assert_eq!(applied.covers(position), covered, "{position:?}");
        }
    }
}
