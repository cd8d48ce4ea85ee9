//! Helpers for the cases: numbered records, and a reader that follows its partitions and keeps
//! the records it received. A failed expectation panics, as in any test.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Instance;
use crate::{Delivery, NewRecord, Position, Record, Subscription, Topic, TopicInfo};

pub(super) fn record(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> NewRecord {
    NewRecord { key: key.into().into(), value: value.into().into(), headers: vec![] }
}

/// One record per number, with the number as its value.
pub(super) fn numbered(key: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<NewRecord> {
    numbers.into_iter().map(|number| record(key, number.to_be_bytes())).collect()
}

pub(super) fn number(record: &Record) -> u64 {
    u64::from_be_bytes((*record.value).try_into().expect("the value is a number"))
}

pub(super) fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(number).collect()
}

pub(super) async fn append(log: &dyn Instance, records: Vec<NewRecord>) -> Vec<Position> {
    log.writer().append(Topic::Ingestion, records).await.expect("the append succeeds")
}

/// Describes the ingestion topic. Retries while the log is unavailable, because a restarted
/// server may need a moment.
pub(super) async fn describe(log: &dyn Instance) -> TopicInfo {
    loop {
        match log.writer().describe(Topic::Ingestion).await {
            Ok(info) => return info,
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
}

/// First and end offset of the only partition.
pub(super) async fn range(log: &dyn Instance) -> (u64, u64) {
    let info = describe(log).await;
    let [partition] = info.partitions[..] else { panic!("expected one partition: {:?}", info.partitions) };
    (partition.first, partition.end)
}

/// Reads the ingestion topic, each partition from a given offset or from its first, and keeps
/// the received records.
pub(super) struct TestReader {
    subscription: Box<dyn Subscription>,
    first_offsets: Vec<u64>,
    /// Assigned partitions map to true, revoked ones to false.
    pub(super) owned: BTreeMap<u32, bool>,
    pub(super) received: BTreeMap<u32, Vec<Record>>,
    starts: BTreeMap<u32, u64>,
}

impl TestReader {
    pub(super) async fn new(log: &dyn Instance) -> Self {
        Self::starting_at(log, &[]).await
    }

    /// Reads from the given offset of each listed partition.
    pub(super) async fn starting_at(log: &dyn Instance, starts: &[(u32, u64)]) -> Self {
        let info = describe(log).await;
        Self {
            subscription: log.reader().subscribe(Topic::Ingestion).await.expect("subscribing succeeds"),
            first_offsets: info.partitions.iter().map(|partition| partition.first).collect(),
            owned: BTreeMap::new(),
            received: BTreeMap::new(),
            starts: starts.iter().copied().collect(),
        }
    }

    pub(super) async fn step(&mut self) {
        let delivery = self.next().await;
        self.handle(delivery).await;
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Delivery {
        self.subscription.next().await.expect("the delivery succeeds")
    }

    /// Handles a delivery. An assigned partition continues after its last received record.
    pub(super) async fn handle(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Assigned { partition } => {
                self.owned.insert(partition, true);
                let start = match self.received.get(&partition).and_then(|records| records.last()) {
                    Some(last) => last.offset + 1,
                    None => *self.starts.get(&partition).unwrap_or(&self.first_offsets[partition as usize]),
                };
                while let Err(error) = self.subscription.start(partition, start.into()).await {
                    assert!(error.is_temporary(), "{error}");
                }
            }
            Delivery::Revoked { partition } => {
                self.owned.insert(partition, false);
            }
            Delivery::Records { partition, records } => {
                assert_eq!(
                    self.owned.get(&partition),
                    Some(&true),
                    "records of partition {partition}, which is not assigned"
                );
                assert!(!records.is_empty(), "a delivery without records");
                let all = self.received.entry(partition).or_default();
                for record in records {
                    let last = all.last().map(|last| last.offset);
                    assert!(
                        last.is_none_or(|last| last < record.offset),
                        "offset {} after {last:?}",
                        record.offset
                    );
                    all.push(record);
                }
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.received.values().map(Vec::len).sum()
    }

    pub(super) async fn read_count(&mut self, count: usize) -> &mut Self {
        while self.count() < count {
            self.step().await;
        }
        assert_eq!(self.count(), count, "more records were delivered than are in the log");
        self
    }

    pub(super) async fn wait_for_assignments(&mut self, partitions: usize) {
        while self.owned.values().filter(|owned| **owned).count() < partitions {
            self.step().await;
        }
    }

    /// The received records of the only partition.
    pub(super) fn records(&self) -> &[Record] {
        self.received.get(&0).map_or(&[], Vec::as_slice)
    }
}

/// All records currently in the log's only partition.
pub(super) async fn read_all(log: &dyn Instance) -> Vec<Record> {
    let (first, end) = range(log).await;
    let mut reader = TestReader::new(log).await;
    while first < end && reader.records().last().is_none_or(|last| last.offset + 1 < end) {
        reader.step().await;
    }
    reader.records().to_vec()
}

/// A deterministic random number generator.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(super) fn bytes(&mut self, count: usize) -> Bytes {
        std::iter::repeat_with(|| self.below(256) as u8).take(count).collect()
    }
}
