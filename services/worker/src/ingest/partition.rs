//! A partition that this worker reads: the records that are not applied, the position up to which
//! everything is applied, and the part of the partition that is read next.
//!
//! Records of a run that has no room are left in the log (`ActiveRuns`). The worker then alternates:
//! it reads new records, and returns to the records that it left, so that neither wait for the other.

use std::{collections::BTreeMap, time::Duration};

use matyan_log::Record;
use matyan_model::position::{AppliedPosition, LastRecord, LogPosition};
use tokio::time::Instant;

use super::{
    active_runs::ActiveRuns,
    log_identity::{PartitionStart, StopPoint},
    read_point::{ReadPoint, ReadRecord},
};

pub(super) struct Partition {
    start: PartitionStart,
    /// Records that were taken and are not yet applied, by offset. Their number is bounded by the window.
    unapplied: BTreeMap<u64, UnappliedRecord>,
    /// The point after the last record read for the first time.
    next: ReadPoint,
    /// The point up to which the partition is read now; lower than `next` while records that were left in
    /// the log are read.
    read_to: ReadPoint,
    /// Offset of the last position that was reported.
    reported: u64,
    /// Offset after the last record that was read when it was reported.
    reported_read: u64,
    turn: ReadTurn,
    /// Time of the next attempt to read from `read_to`, if records are held back.
    retry_at: Option<Instant>,
}

/// Progress since the last seek.
struct ReadTurn {
    started: Instant,
    bytes: usize,
    /// Time after which the first record arrived.
    latency: Duration,
}

struct UnappliedRecord {
    appended_us: i64,
    /// The record before this one.
    before: Option<LastRecord>,
}

/// Bytes read before the worker turns to the other part of a partition.
const PART_BYTES: usize = 8 << 20;
/// Minimum time for reading new records while others that were left in the log could be taken.
const NEW_RECORDS_TIME: Duration = Duration::from_millis(20);
/// Minimum time for reading new records, given as a multiple of the time until the first of them arrives:
/// seeks discard the records that were fetched ahead, so they must be rare where they take long.
const NEW_RECORDS_LATENCIES: u32 = 8;
/// Time of waiting for the first new record: longer than a fetch from Kafka takes.
const NEW_RECORDS_WAIT: Duration = Duration::from_millis(50);
/// Longest time from the first to the last record that a producer sends before it waits for answers.
const PIPELINE_US: i64 = 600_000_000;
/// Time for which records are held back, also after a failed seek.
const HOLD_BACK_TIME: Duration = Duration::from_millis(500);

impl Partition {
    pub(super) fn new(start: PartitionStart) -> Self {
        let point = ReadPoint { offset: start.offset, before: start.before };
        Self {
            start,
            unapplied: BTreeMap::new(),
            next: point,
            read_to: point,
            reported: start.offset,
            reported_read: start.offset,
            turn: ReadTurn { started: Instant::now(), bytes: 0, latency: Duration::ZERO },
            retry_at: None,
        }
    }

    pub(super) fn log(&self) -> u32 {
        self.start.log
    }

    pub(super) fn identity(&self) -> [u8; 16] {
        self.start.identity
    }

    /// Notes that records were delivered.
    pub(super) fn note_read(&mut self, records: &[Record]) {
        if self.turn.bytes == 0 && !records.is_empty() {
            // A longer time was a wait for a record to be appended.
            self.turn.latency = self.turn.started.elapsed().min(NEW_RECORDS_WAIT);
        }
        self.turn.bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
    }

    /// The point from which to read next, if that is not the current one.
    pub(super) fn seek(&mut self, number: u32, runs: &mut ActiveRuns) -> Option<ReadPoint> {
        if let Some(retry_at) = self.retry_at {
            return (Instant::now() >= retry_at).then_some(self.read_to);
        }
        let is_over = self.turn.bytes >= PART_BYTES;
        if self.read_to.offset < self.next.offset {
            if !is_over && runs.is_returning(number) {
                return None;
            }
            runs.skip(number, self.read_to);
            return Some(self.turn_to(self.next));
        }
        runs.caught_up(number);
        let first = runs.first_deferred(number)?;
        (Instant::now() >= self.turn_at()).then(|| {
            runs.rewind(number, first.offset);
            self.turn_to(first)
        })
    }

    fn turn_to(&mut self, point: ReadPoint) -> ReadPoint {
        self.read_to = point;
        self.turn = ReadTurn { started: Instant::now(), bytes: 0, latency: Duration::ZERO };
        point
    }

    /// Notes that the last seek has succeeded.
    pub(super) fn note_seek(&mut self) {
        self.retry_at = None;
    }

    /// Leaves the next record and all later records in the log until a later seek. Records that arrive until
    /// then are out of order.
    pub(super) fn hold_back(&mut self) {
        self.retry_at = Some(Instant::now() + HOLD_BACK_TIME);
    }

    /// Whether the next records are the records that were sought.
    pub(super) fn is_readable(&self) -> bool {
        self.retry_at.is_none()
    }

    /// Time of the next call of `seek`, even if nothing else happens.
    pub(super) fn next_seek(&self, number: u32, runs: &ActiveRuns) -> Option<Instant> {
        let is_waiting = self.read_to.offset >= self.next.offset && runs.first_deferred(number).is_some();
        self.retry_at.or_else(|| is_waiting.then(|| self.turn_at()))
    }

    /// Time when reading of new records stops.
    fn turn_at(&self) -> Instant {
        let ReadTurn { started, bytes, latency } = self.turn;
        let time = (NEW_RECORDS_LATENCIES * latency).max(NEW_RECORDS_TIME);
        started + if bytes > 0 { time } else { NEW_RECORDS_WAIT }
    }

    /// Whether a record is before the lost tail, if there is one.
    pub(super) fn contains(&self, record: &Record) -> bool {
        self.start.end.is_none_or(|end| record.offset < end)
    }

    /// The point where the partition stops, if it is applied as far as was last reported.
    pub(super) fn stop(&self, partition: u32) -> StopPoint {
        self.start.stop_at(partition, self.reported)
    }

    /// Whether the log has lost its tail, and everything before the tail was applied.
    pub(super) fn has_ended(&self) -> bool {
        self.start.end.is_some_and(|end| self.reported >= end)
    }

    /// Whether the records before a record, of the pipeline of its producer, may be missing because the
    /// log is read from its middle.
    pub(super) fn is_after_middle(&self, record: &Record) -> bool {
        self.start.middle_us.is_some_and(|middle| record.appended_us.saturating_sub(middle) < PIPELINE_US)
    }

    /// Whether a record is read for the first time.
    pub(super) fn is_new(&self, record: &Record) -> bool {
        record.offset >= self.next.offset
    }

    /// Notes that a record is read now.
    pub(super) fn read(&mut self, record: &Record) -> ReadRecord {
        if self.start.is_middle {
            self.start.middle_us.get_or_insert(record.appended_us);
        }
        let Record { offset, appended_us, leader_epoch, .. } = *record;
        let last = LastRecord { offset, appended_us, leader_epoch };
        let end = ReadPoint { offset: record.offset + 1, before: Some(last) };
        let at = ReadPoint { offset: record.offset, before: self.read_to.before };
        let is_new = self.is_new(record);
        self.read_to = end;
        if is_new {
            self.next = end;
        }
        ReadRecord { is_new, at, end }
    }

    /// Notes that a record is taken.
    pub(super) fn take(&mut self, record: &ReadRecord) {
        let appended_us = record.end.before.map_or(0, |last| last.appended_us);
        self.unapplied.insert(record.at.offset, UnappliedRecord { appended_us, before: record.at.before });
    }

    /// Append time of the oldest record that was taken but not yet applied.
    pub(super) fn oldest_unapplied_us(&self) -> Option<i64> {
        self.unapplied.first_key_value().map(|(_, oldest)| oldest.appended_us)
    }

    /// Marks a record as applied. Records of a previous log are ignored.
    pub(super) fn complete(&mut self, position: LogPosition) {
        if position.log == self.start.log {
            self.unapplied.remove(&position.offset);
        }
    }

    /// The position up to which everything is applied, if it has moved or more was read. `deferred` is the
    /// first record that was left in the log.
    pub(super) fn applied(&mut self, deferred: Option<ReadPoint>) -> Option<AppliedPosition> {
        let unapplied = self
            .unapplied
            .first_key_value()
            .map(|(offset, record)| ReadPoint { offset: *offset, before: record.before });
        let points = [Some(self.next), unapplied, deferred];
        let last = points.into_iter().flatten().min_by_key(|point| point.offset)?.before;
        let next = last.map_or(self.start.offset, |last| last.offset + 1);
        if next <= self.reported && self.next.offset <= self.reported_read {
            return None;
        }
        self.reported = next;
        self.reported_read = self.next.offset;
        let PartitionStart { log, identity, middle_us, .. } = self.start;
        let read = self.next.before.filter(|read| read.offset >= next);
        let identity = Some(identity);
        Some(AppliedPosition { log, next, last, identity, middle_us, read, ..AppliedPosition::default() })
    }
}

#[cfg(test)]
mod tests;
