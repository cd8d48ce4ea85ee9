//! Guarantee 2: records with the same key stay in order, regardless of how they are appended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Fixture, Shape,
    support::{TestReader, append, describe, number, numbered, numbers, read_all, record},
};
use crate::{PartitionDescription, Position, Topic, murmur2};

const PARTITIONS: u32 = 5;

fn partitioned() -> Shape {
    Shape { partitions: PARTITIONS, ..Shape::default() }
}

pub(super) async fn ordered_within_an_append(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(partitioned()).await;
    let records: Vec<_> = (0..1000_u64).map(|n| record(format!("run-{}", n % 7), n.to_be_bytes())).collect();
    let positions = append(&*log, records).await;
    let mut reader = TestReader::new(&*log).await;
    reader.read_count(1000).await;
    for (number, position) in positions.iter().enumerate() {
        let found = at(&reader, *position);
        assert_eq!(found, Some(number as u64), "positions are in the order of the records");
    }
    check_keys(&reader);
}

pub(super) async fn ordered_when_pipelined(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(Shape::default()).await;
    let writer = log.writer();
    let started: Vec<_> = (0..2000).map(|n| writer.append(Topic::Ingestion, numbered("run", [n]))).collect();
    // The results may be awaited in any order; only the order of the calls matters.
    for append in started.into_iter().rev() {
        append.await.expect("the append succeeds");
    }
    assert_eq!(numbers(&read_all(&*log).await), (0..2000).collect::<Vec<_>>());
}

pub(super) async fn ordered_by_many_writers(fixture: Arc<dyn Fixture>) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 100;
    let log = fixture.create(partitioned()).await;
    let write = |key: u64| {
        let writer = log.writer();
        async move {
            let mut last = None;
            for number in 0..EACH {
                let positions =
                    writer.append(Topic::Ingestion, numbered(&format!("run-{key}"), [number])).await;
                let [position] = positions.expect("the append succeeds")[..] else {
                    panic!("expected one position")
                };
                assert!(last.is_none_or(|last| last < position), "{position:?} does not follow {last:?}");
                last = Some(position);
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|key| tokio::spawn(write(key))).collect();
    for writer in writers {
        writer.await.expect("the writer does not panic");
    }
    let mut reader = TestReader::new(&*log).await;
    reader.read_count((WRITERS * EACH) as usize).await;
    check_keys(&reader);
}

/// All writers of a topic, of any kind, must assign a run to the same partition.
pub(super) async fn ordered_keys_agree_with_kafka(fixture: Arc<dyn Fixture>) {
    let log = fixture.create(partitioned()).await;
    let partitions = describe(&*log).await.partitions.len() as u32;
    let keys: Vec<_> = (0..200).map(|number| format!("run-{number}")).collect();
    let positions = append(&*log, keys.iter().map(|key| record(key.as_str(), "")).collect()).await;
    for (key, position) in keys.iter().zip(positions) {
        assert_eq!(position.partition, murmur2::partition(key.as_bytes(), partitions), "{key}");
    }
}

pub(super) async fn ordered_over_thousands_of_keys(fixture: Arc<dyn Fixture>) {
    const KEYS: u64 = 5000;
    const EACH: u64 = 4;
    let log = fixture.create(partitioned()).await;
    let writer = log.writer();
    let started: Vec<_> = (0..EACH)
        .flat_map(|number| {
            (0..KEYS / 50)
                .map(|part| {
                    let keys = part * 50..part * 50 + 50;
                    let records =
                        keys.map(|key| record(format!("run-{key}"), number.to_be_bytes())).collect();
                    writer.append(Topic::Ingestion, records)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    for append in started {
        append.await.expect("the append succeeds");
    }
    let mut reader = TestReader::new(&*log).await;
    reader.read_count((KEYS * EACH) as usize).await;
    assert_eq!(check_keys(&reader), KEYS as usize);
    let info = describe(&*log).await;
    assert_eq!(reader.received.len(), info.partitions.len(), "every partition is used");
    for partition in 0..=info.partitions.len() {
        let one = writer.describe_partition(Topic::Ingestion, partition as u32).await;
        let expected = PartitionDescription {
            identity: info.identity,
            partitions: info.partitions.len() as u32,
            bounds: info.partitions.get(partition).copied(),
        };
        assert_eq!(one.expect("describing succeeds"), expected);
    }
}

/// Checks that every key is in one partition, with its numbers in order and without duplicates.
/// Returns the number of keys.
fn check_keys(reader: &TestReader) -> usize {
    let mut partitions: BTreeMap<&[u8], BTreeSet<u32>> = BTreeMap::new();
    let mut by_key: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for (partition, records) in &reader.received {
        for record in records {
            partitions.entry(&record.key).or_default().insert(*partition);
            by_key.entry(&record.key).or_default().push(number(record));
        }
    }
    assert!(
        partitions.values().all(|of_key| of_key.len() == 1),
        "a key is in more than one partition: {partitions:?}"
    );
    for (key, numbers) in &by_key {
        assert!(numbers.is_sorted(), "{key:?} is out of order: {numbers:?}");
        assert_eq!(
            numbers.iter().collect::<BTreeSet<_>>().len(),
            numbers.len(),
            "{key:?} has duplicates: {numbers:?}"
        );
    }
    by_key.len()
}

fn at(reader: &TestReader, position: Position) -> Option<u64> {
    let records = reader.received.get(&position.partition)?;
    let found = records.binary_search_by_key(&position.offset, |record| record.offset).ok()?;
    Some(number(&records[found]))
}
