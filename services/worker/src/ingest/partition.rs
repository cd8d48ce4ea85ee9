//! A partition that this worker reads: the records in flight, the position up to which everything is
//! applied, and which part of it is read next.
//!
//! Records of a run that has no room are left in the log (`ActiveRuns`). The worker then alternates:
//! it reads new records, and returns to those that it left, so that neither wait for the other.

use std::{collections::VecDeque, time::Duration};

use matyan_log::Record;
use matyan_model::position::{AppliedPosition, LastRecord, LogPosition};
use tokio::time::Instant;

use super::{active_runs::ActiveRuns, log_identity::PartitionStart};

pub(super) struct Partition {
    start: PartitionStart,
    /// Taken records that are not yet below the applied position, in offset order. Adjacent
    /// completed ones may be merged.
    in_flight: VecDeque<InFlightRecord>,
    /// Length at which adjacent completed records are merged. This bounds the queue while a
    /// single stuck run holds back the position.
    join_at: usize,
    /// Offset after the last record tracked.
    next: u64,
    /// Offset after the last record read; lower than `next` while records that were left in the log
    /// are read.
    read_to: u64,
    /// Bytes read since the last seek.
    read_bytes: usize,
    /// Time of the last seek.
    turned_at: Instant,
    /// Whether records were read and not tracked, because too many are in flight.
    is_stalled: bool,
}

const JOIN_FROM: usize = 1 << 16;
/// Maximum number of tracked records.
const MAX_IN_FLIGHT: usize = 1 << 18;

/// Bytes read before the worker turns to the other part of a partition.
const PART_BYTES: usize = 8 << 20;
/// Time for reading new records while others that were left in the log could be taken.
const NEW_RECORDS_TIME: Duration = Duration::from_millis(20);
/// Time of waiting for the first of them: longer than a fetch from Kafka takes.
const NEW_RECORDS_WAIT: Duration = Duration::from_millis(50);

/// Result of tracking a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    New,
    /// It was read before.
    Known,
    /// Too many records are in flight: it must be read again.
    Stalled,
}

struct InFlightRecord {
    record: LastRecord,
    is_done: bool,
}

/// Result of comparing the first record of a partition with the one that the store expects.
pub(super) enum FirstRecord {
    Expected(Vec<Record>),
    OtherLog,
}

impl Partition {
    pub(super) fn new(start: PartitionStart) -> Self {
        Self {
            start,
            in_flight: VecDeque::new(),
            join_at: JOIN_FROM,
            next: start.offset,
            read_to: start.offset,
            read_bytes: 0,
            turned_at: Instant::now(),
            is_stalled: false,
        }
    }

    pub(super) fn log(&self) -> u32 {
        self.start.log
    }

    /// Compares the re-read record with the last applied one, and removes it.
    pub(super) fn verify(&mut self, mut records: Vec<Record>) -> FirstRecord {
        let Some(expected) = self.start.expected.take() else { return FirstRecord::Expected(records) };
        let Some(first) = records.first() else {
            self.start.expected = Some(expected);
            return FirstRecord::Expected(records);
        };
        if first.offset != expected.offset || digest(first) != expected.digest {
            return FirstRecord::OtherLog;
        }
        // This record is already applied; it was reread only to identify the log.
        records.remove(0);
        FirstRecord::Expected(records)
    }

    /// Notes which records were read.
    pub(super) fn note_read(&mut self, records: &[Record]) {
        if let Some(last) = records.last() {
            self.read_to = last.offset + 1;
            self.read_bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
        }
    }

    /// The offset from which to read next, if that is not the current one.
    pub(super) fn seek(&mut self, number: u32, runs: &mut ActiveRuns) -> Option<u64> {
        let is_over = self.read_bytes >= PART_BYTES;
        if self.read_to < self.next {
            if !is_over && runs.is_returning(number) {
                return None;
            }
            runs.skip(number, self.read_to);
            return Some(self.turn_to(self.next));
        }
        runs.caught_up(number);
        if self.is_stalled && self.in_flight.len() < MAX_IN_FLIGHT / 2 {
            self.is_stalled = false;
            return Some(self.turn_to(self.next));
        }
        let first = runs.first_deferred(number)?;
        let is_over = is_over || self.is_stalled || Instant::now() >= self.turn_at();
        is_over.then(|| {
            runs.rewind(number, first);
            self.turn_to(first)
        })
    }

    fn turn_to(&mut self, offset: u64) -> u64 {
        (self.read_to, self.read_bytes, self.turned_at) = (offset, 0, Instant::now());
        offset
    }

    /// When to call `seek` again, even if nothing else happens.
    pub(super) fn next_seek(&self, number: u32, runs: &ActiveRuns) -> Option<Instant> {
        let is_waiting = self.read_to >= self.next && runs.first_deferred(number).is_some();
        is_waiting.then(|| self.turn_at())
    }

    /// When to stop reading new records.
    fn turn_at(&self) -> Instant {
        self.turned_at + if self.read_bytes > 0 { NEW_RECORDS_TIME } else { NEW_RECORDS_WAIT }
    }

    /// Starts tracking a record, unless it is known.
    pub(super) fn track(&mut self, record: &Record) -> Tracking {
        if record.offset < self.next {
            return Tracking::Known;
        }
        if self.in_flight.len() >= self.join_at {
            self.join_done();
        }
        self.is_stalled |= self.in_flight.len() >= MAX_IN_FLIGHT;
        if self.is_stalled {
            return Tracking::Stalled;
        }
        self.next = record.offset + 1;
        let digest = if self.start.has_identity { [0; 16] } else { digest(record) };
        let record = LastRecord { offset: record.offset, digest, appended_us: record.appended_us };
        self.in_flight.push_back(InFlightRecord { record, is_done: false });
        Tracking::New
    }

    fn join_done(&mut self) {
        let mut joined: VecDeque<InFlightRecord> = VecDeque::new();
        for one in self.in_flight.drain(..) {
            match joined.back_mut() {
                Some(last) if last.is_done && one.is_done => *last = one,
                _ => joined.push_back(one),
            }
        }
        self.join_at = JOIN_FROM.max(2 * joined.len());
        self.in_flight = joined;
    }

    /// Append time of the oldest record that was taken but not yet applied.
    pub(super) fn oldest_unapplied_us(&self) -> Option<i64> {
        self.in_flight.iter().find(|in_flight| !in_flight.is_done).map(|oldest| oldest.record.appended_us)
    }

    /// Marks a record as applied and returns the new position if that moved it. Records of
    /// a previous log are ignored.
    pub(super) fn complete(&mut self, position: LogPosition) -> Option<AppliedPosition> {
        if position.log != self.start.log {
            return None;
        }
        let offset = |in_flight: &InFlightRecord| in_flight.record.offset;
        let index = self.in_flight.binary_search_by_key(&position.offset, offset).ok()?;
        self.in_flight[index].is_done = true;
        let mut last = None;
        while self.in_flight.front().is_some_and(|front| front.is_done) {
            last = self.in_flight.pop_front().map(|front| front.record);
        }
        last.map(|last| AppliedPosition { log: self.start.log, next: last.offset + 1, last: Some(last) })
    }
}

/// Distinguishes different records at the same offset.
pub(crate) fn digest(record: &Record) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(record.key.len() as u64).to_le_bytes()).update(&record.key).update(&record.value);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: u64, value: &'static str) -> Record {
        Record {
            offset,
            key: Bytes::from("k"),
            value: Bytes::from(value),
            headers: Vec::new(),
            appended_us: 0,
        }
    }

    fn at(offset: u64) -> LogPosition {
        LogPosition { log: 3, partition: 0, offset }
    }

    fn partition(expected: Option<LastRecord>) -> Partition {
        Partition::new(PartitionStart { log: 3, offset: 0, expected, has_identity: false })
    }

    #[test]
    fn rule_10_the_lowest_unapplied_offset_is_reported() {
        let mut partition = partition(None);
        for offset in [4, 5, 9] {
            assert_eq!(partition.track(&record(offset, "v")), Tracking::New);
        }
        assert_eq!(partition.track(&record(5, "v")), Tracking::Known, "it is a redelivery");
        assert_eq!(partition.complete(at(9)), None);
        assert_eq!(partition.complete(LogPosition { log: 2, ..at(4) }), None, "it belongs to another log");
        assert_eq!(partition.complete(at(4)).map(|applied| (applied.log, applied.next)), Some((3, 5)));
        assert_eq!(partition.complete(at(7)), None, "it was never taken");
        assert_eq!(partition.complete(at(5)).map(|applied| applied.next), Some(10));
    }

    #[test]
    fn little_is_kept_after_a_stuck_record() {
        let mut partition = partition(None);
        assert_eq!(partition.track(&record(0, "v")), Tracking::New);
        for offset in 1..4 * JOIN_FROM as u64 {
            assert_eq!(partition.track(&record(offset, "v")), Tracking::New);
            assert_eq!(partition.complete(at(offset)), None);
        }
        assert!(partition.in_flight.len() <= JOIN_FROM, "{}", partition.in_flight.len());
        assert_eq!(partition.complete(at(0)).map(|applied| applied.next), Some(4 * JOIN_FROM as u64));
    }

    #[test]
    fn rule_01_another_record_at_the_applied_offset_is_another_log() {
        let applied = record(7, "a");
        let expected = LastRecord { offset: 7, digest: digest(&applied), appended_us: 0 };
        let verify = |records: Vec<Record>| match partition(Some(expected)).verify(records) {
            FirstRecord::Expected(records) => Some(records.len()),
            FirstRecord::OtherLog => None,
        };
        assert_eq!(verify(vec![applied.clone(), record(8, "b")]), Some(1));
        assert_eq!(verify(vec![record(7, "b")]), None);
        assert_eq!(verify(vec![record(8, "a")]), None);
    }
}
