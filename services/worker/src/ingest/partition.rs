//! One partition that this worker reads: what is under way, and up to where everything is applied.

use std::collections::VecDeque;

use matyan_log::Record;
use matyan_model::position::{Applied, LastRecord};

use super::identity::Begun;

pub(super) struct Partition {
    begun: Begun,
    /// Taken and not yet below the applied position, in offset order.
    under_way: VecDeque<UnderWay>,
    /// Behind the last record that was taken.
    next: u64,
}

struct UnderWay {
    record: LastRecord,
    is_done: bool,
}

/// The first records of a partition tell whether the log is the one that the store knows.
pub(super) enum Verified {
    Good(Vec<Record>),
    OtherLog,
}

impl Partition {
    pub(super) fn new(begun: Begun) -> Self {
        Self { begun, under_way: VecDeque::new(), next: begun.start }
    }

    pub(super) fn log(&self) -> u32 {
        self.begun.log
    }

    /// Compares the record that was read again with the one that was applied last, and takes it off.
    pub(super) fn verify(&mut self, mut records: Vec<Record>) -> Verified {
        let Some(expected) = self.begun.expected.take() else { return Verified::Good(records) };
        let Some(first) = records.first() else {
            self.begun.expected = Some(expected);
            return Verified::Good(records);
        };
        if first.offset != expected.offset || digest(first) != expected.digest {
            return Verified::OtherLog;
        }
        records.remove(0);
        Verified::Good(records)
    }

    /// Takes a record up, unless it was taken before.
    pub(super) fn take(&mut self, record: &Record) -> bool {
        if record.offset < self.next {
            return false;
        }
        self.next = record.offset + 1;
        let digest = if self.begun.has_identity { [0; 16] } else { digest(record) };
        let record = LastRecord { offset: record.offset, digest, appended_us: record.appended_us };
        self.under_way.push_back(UnderWay { record, is_done: false });
        true
    }

    /// When the oldest record came that was taken and is not applied.
    pub(super) fn oldest_unapplied_us(&self) -> Option<i64> {
        self.under_way.iter().find(|under_way| !under_way.is_done).map(|oldest| oldest.record.appended_us)
    }

    /// Notes that a record is applied; tells the new position if that moved it.
    pub(super) fn done(&mut self, offset: u64) -> Option<Applied> {
        let place = self.under_way.binary_search_by_key(&offset, |under_way| under_way.record.offset).ok()?;
        self.under_way[place].is_done = true;
        let mut last = None;
        while self.under_way.front().is_some_and(|front| front.is_done) {
            last = self.under_way.pop_front().map(|front| front.record);
        }
        last.map(|last| Applied { log: self.begun.log, next: last.offset + 1, last: Some(last) })
    }
}

/// What tells one record from another at the same offset.
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

    fn partition(expected: Option<LastRecord>) -> Partition {
        Partition::new(Begun { log: 3, start: 0, expected, has_identity: false })
    }

    #[test]
    fn rule_10_the_lowest_unapplied_offset_is_told() {
        let mut partition = partition(None);
        assert!([4, 5, 9].into_iter().all(|offset| partition.take(&record(offset, "v"))));
        assert!(!partition.take(&record(5, "v")), "it was delivered again");
        assert_eq!(partition.done(9), None);
        assert_eq!(partition.done(4).map(|applied| (applied.log, applied.next)), Some((3, 5)));
        assert_eq!(partition.done(7), None, "it was never taken");
        assert_eq!(partition.done(5).map(|applied| applied.next), Some(10));
    }

    #[test]
    fn rule_01_another_record_at_the_applied_offset_is_another_log() {
        let applied = record(7, "a");
        let expected = LastRecord { offset: 7, digest: digest(&applied), appended_us: 0 };
        let verify = |records: Vec<Record>| match partition(Some(expected)).verify(records) {
            Verified::Good(records) => Some(records.len()),
            Verified::OtherLog => None,
        };
        assert_eq!(verify(vec![applied.clone(), record(8, "b")]), Some(1));
        assert_eq!(verify(vec![record(7, "b")]), None);
        assert_eq!(verify(vec![record(8, "a")]), None);
    }
}
