//! Guarantee 1 with a real kill: several writers, SIGKILL at an arbitrary moment, and a check
//! of every acknowledged record.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::task::JoinSet;

use super::{
    Fixture,
    support::{Random, TestReader, describe, record},
};
use crate::{LogWriter, NewRecord, Position, Topic, TopicInfo};

const WRITERS: u64 = 8;
const ROUNDS: u64 = 4;
const KEY_PREFIX: &str = "writer-";

/// An append that was acknowledged before the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedRecord {
    pub writer: u64,
    pub number: u64,
    pub position: Position,
}

/// Writes with several concurrent writers, and reports each result. Ends when appends fail, or
/// when dropped.
pub async fn write_until_killed(
    log: Arc<dyn LogWriter>,
    report: impl Fn(AcknowledgedRecord) + Clone + Send + 'static,
) {
    let writers: JoinSet<()> = (0..WRITERS)
        .map(|writer| {
            let log = log.clone();
            let report = report.clone();
            async move {
                for number in 0.. {
                    let Ok(positions) = log.append(Topic::Ingestion, vec![numbered(writer, number)]).await
                    else {
                        return;
                    };
                    report(AcknowledgedRecord { writer, number, position: positions[0] });
                }
            }
        })
        .collect();
    writers.join_all().await;
}

/// A record determined by its numbers, with a value of up to 20 kB.
fn numbered(writer: u64, number: u64) -> NewRecord {
    let mut random = Random::new(writer << 32 | number);
    let bytes = random.below(20) * random.below(1000);
    let value = [number.to_be_bytes().as_slice(), &random.bytes(bytes as usize)].concat();
    record(format!("{KEY_PREFIX}{writer}"), value)
}

pub(super) async fn durable_after_kill(fixture: Arc<dyn Fixture>) {
    for round in 0..ROUNDS {
        let count = 20 + Random::new(round).below(500) as usize;
        let (log, acknowledged) = fixture.kill(count).await;
        assert!(acknowledged.len() >= count, "only {} of {count} were acknowledged", acknowledged.len());
        let info = describe(&*log).await;
        let mut reader = TestReader::new(&*log).await;
        while !has_read_all(&reader, &info) {
            reader.step().await;
        }
        check(&reader, &acknowledged);
    }
}

fn has_read_all(reader: &TestReader, info: &TopicInfo) -> bool {
    info.partitions.iter().zip(0..).all(|(partition, number)| {
        let last = reader.received.get(&number).and_then(|records| records.last());
        partition.end == partition.first || last.is_some_and(|last| last.offset + 1 >= partition.end)
    })
}

fn check(reader: &TestReader, acknowledged: &[AcknowledgedRecord]) {
    let mut by_position = BTreeMap::new();
    let mut by_writer: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (partition, records) in &reader.received {
        for record in records {
            let key = std::str::from_utf8(&record.key).expect("the key is valid UTF-8");
            let writer = key
                .strip_prefix(KEY_PREFIX)
                .and_then(|number| number.parse().ok())
                .expect("the key names a writer");
            let number =
                u64::from_be_bytes(record.value[..8].try_into().expect("the value begins with a number"));
            assert_eq!(record.value, numbered(writer, number).value, "{writer}/{number} is unchanged");
            by_position.insert(Position { partition: *partition, offset: record.offset }, (writer, number));
            by_writer.entry(writer).or_default().push(number);
        }
    }
    for AcknowledgedRecord { writer, number, position } in acknowledged {
        assert_eq!(
            by_position.get(position),
            Some(&(*writer, *number)),
            "{writer}/{number} was acknowledged at {position:?}"
        );
    }
    for (writer, numbers) in by_writer {
        assert!(numbers.is_sorted(), "records of writer {writer} are out of order: {numbers:?}");
        assert_eq!(
            numbers.iter().collect::<BTreeSet<_>>().len(),
            numbers.len(),
            "a record of writer {writer} is duplicated"
        );
        let answered = acknowledged.iter().filter(|acknowledged| acknowledged.writer == writer).count();
        assert!(numbers.len() <= answered + 1, "writer {writer} had more than one append in flight");
    }
}
