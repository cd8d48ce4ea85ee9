//! Appending: each record goes to librdkafka inside the call, which keeps the order; its delivery report is the answer.
//! A producer that has met a fatal error, or knows no broker any more, is replaced by the next append. Dead letters are copies
//! that nobody waits for: they have a producer of their own, so that a topic of theirs that is away takes no place from
//! anything else.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::Timeout,
};
use tokio::sync::oneshot;

use super::{brokers::Brokers, config::Settings, error, told};
use crate::{Append, Error, NewRecord, Position, Result, Topic, murmur2};

type Report = oneshot::Receiver<Result<Position>>;

pub(super) struct Writer {
    settings: Settings,
    /// Of the ingestion topic, as it was opened: a topic that grows meanwhile moves no key.
    partitions: u32,
    producer: Replaceable,
    copier: Replaceable,
}

/// Made when it is first needed, and anew when it is of no further use.
struct Replaceable {
    config: ClientConfig,
    producer: RwLock<Option<Arc<ThreadedProducer<Reports>>>>,
}

/// Hands each delivery report to whoever waits for it.
#[derive(Default)]
struct Reports {
    brokers: Brokers,
}

impl ClientContext for Reports {
    fn stats(&self, statistics: Statistics) {
        self.brokers.heard(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        told::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told::error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<Position>>>;

    fn delivery(&self, report: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let position = match report {
            Ok(message) => position(message.partition(), message.offset()),
            Err((source, _)) => Err(error::request(source.clone())),
        };
        // Whoever does not wait any more has dropped the other end; that is no failure.
        drop(waiting.send(position));
    }
}

impl Writer {
    pub(super) fn new(settings: &Settings, partitions: u32) -> Self {
        let producer = Replaceable::new(settings.producer());
        Self { settings: settings.clone(), partitions, producer, copier: Replaceable::new(settings.copier()) }
    }

    pub(super) fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        let started = self.start(topic, &records);
        Box::pin(async move {
            let (reports, refused) = started?;
            let mut positions = Vec::with_capacity(reports.len());
            for report in reports {
                let answer = report.await.map_err(|_| Error::unavailable("the producer was closed"))?;
                positions.push(answer?);
            }
            refused.map_or(Ok(positions), Err)
        })
    }

    /// The reports of the records that were taken, and why the next one was not.
    fn start(&self, topic: Topic, records: &[NewRecord]) -> Result<(Vec<Report>, Option<Error>)> {
        records.iter().try_for_each(NewRecord::validate)?;
        let name = self.settings.topics.name(topic);
        let producer = if topic == Topic::DeadLetters { &self.copier } else { &self.producer };
        let producer = producer.healthy()?;
        let mut reports = Vec::with_capacity(records.len());
        for record in records {
            let (waiting, report) = oneshot::channel();
            let mut base = base_record(name, record, Box::new(waiting));
            if topic == Topic::Ingestion && !record.key.is_empty() {
                base = base.partition(murmur2::partition(&record.key, self.partitions) as i32);
            }
            match producer.send(base) {
                Ok(()) => reports.push(report),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let error =
                        Error::unavailable("too many records are waiting to be written: try again later");
                    return Ok((reports, Some(error)));
                }
                Err((source, _)) => return Ok((reports, Some(error::request(source)))),
            }
        }
        Ok((reports, None))
    }

    /// Blocks until everything is answered, dead letters excepted.
    pub(super) fn flush(&self, wait: Duration) -> Result<()> {
        let flushed = self.producer.healthy()?.flush(Timeout::After(wait));
        flushed
            .map_err(|source| error::unavailable("not everything was written before it was closed", source))
    }
}

impl Replaceable {
    fn new(config: ClientConfig) -> Self {
        Self { config, producer: RwLock::default() }
    }

    fn healthy(&self) -> Result<Arc<ThreadedProducer<Reports>>> {
        const UNPOISONED: &str = "nobody panics while changing the producer";
        let current = self.producer.read().expect(UNPOISONED).clone();
        if let Some(current) = current.filter(|current| defect(current).is_none()) {
            return Ok(current);
        }
        let mut place = self.producer.write().expect(UNPOISONED);
        if let Some(current) = &*place {
            let Some(reason) = defect(current) else { return Ok(current.clone()) };
            tracing::error!(reason, "the producer is replaced");
        }
        let made: ThreadedProducer<Reports> =
            self.config.create_with_context(Reports::default()).map_err(error::client)?;
        Ok(place.insert(Arc::new(made)).clone())
    }
}

/// Why a producer is of no further use.
fn defect(producer: &ThreadedProducer<Reports>) -> Option<String> {
    if let Some((code, reason)) = producer.client().fatal_error() {
        return Some(format!("it met a fatal error: {reason} ({code})"));
    }
    producer.client().context().brokers.are_lost().then(|| "it knows no broker any more".to_owned())
}

/// librdkafka does not know the offset of what it has written twice and the broker has taken once: then it may be in the log.
fn position(partition: i32, offset: i64) -> Result<Position> {
    match (u32::try_from(partition), u64::try_from(offset)) {
        (Ok(partition), Ok(offset)) => Ok(Position { partition, offset }),
        _ => Err(Error::unavailable("Kafka did not tell where it put a record")),
    }
}

fn base_record<'a, T: rdkafka::util::IntoOpaque>(
    topic: &'a str,
    record: &'a NewRecord,
    waiting: T,
) -> BaseRecord<'a, [u8], [u8], T> {
    let mut base = BaseRecord::with_opaque_to(topic, waiting).payload(&*record.value);
    // Without a key, not with an empty one: then the partitioner chooses any.
    if !record.key.is_empty() {
        base = base.key(&*record.key);
    }
    if record.headers.is_empty() {
        return base;
    }
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    let insert = |headers: OwnedHeaders, (key, value): &(String, bytes::Bytes)| {
        headers.insert(Header { key, value: Some(&**value) })
    };
    base.headers(record.headers.iter().fold(empty, insert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_an_offset_is_not_answered() {
        assert_eq!(position(1, 2).unwrap(), Position { partition: 1, offset: 2 });
        assert!(position(1, -1).unwrap_err().is_temporary());
    }
}
