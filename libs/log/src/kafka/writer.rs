//! Appends. Each record is passed to librdkafka within the call, which preserves the order; its
//! delivery report completes the append.
//!
//! A producer that has met a fatal error, or has lost all brokers, is replaced by the next
//! append. Dead letters are copies that nothing waits for. They have a separate producer, so
//! that an unavailable dead-letter topic does not use up the queue of other records.

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

use super::{Settings, broker_tracker::BrokerTracker, error, log_throttle};
use crate::{Append, Error, NewRecord, Position, Result, Topic, murmur2};

type Report = oneshot::Receiver<Result<Position>>;

pub(super) struct Writer {
    settings: Settings,
    /// Number of partitions of the ingestion topic when it was opened. It is fixed, so that
    /// no key moves to a different partition if the topic grows.
    partitions: u32,
    producer: ReplaceableProducer,
    dead_letter_producer: ReplaceableProducer,
}

/// A producer that is created on first use, and replaced when it becomes unusable.
struct ReplaceableProducer {
    config: ClientConfig,
    producer: RwLock<Option<Arc<ThreadedProducer<DeliveryReports>>>>,
}

/// Passes each delivery report to the append that waits for it.
#[derive(Default)]
struct DeliveryReports {
    brokers: BrokerTracker,
}

impl ClientContext for DeliveryReports {
    fn stats(&self, statistics: Statistics) {
        self.brokers.record(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_throttle::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_throttle::error(&error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<Position>>>;

    fn delivery(&self, report: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let position = match report {
            Ok(message) => position(message.partition(), message.offset()),
            Err((source, _)) => Err(error::request(source.clone())),
        };
        // The send fails if the caller stopped waiting, which is fine.
        drop(waiting.send(position));
    }
}

impl Writer {
    pub(super) fn new(settings: &Settings, partitions: u32) -> Self {
        let producer = ReplaceableProducer::new(settings.producer());
        Self {
            settings: settings.clone(),
            partitions,
            producer,
            dead_letter_producer: ReplaceableProducer::new(settings.dead_letter_producer()),
        }
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

    /// Sends the records. Returns the pending reports of the accepted records, and the error of the
    /// first refused record.
    fn start(&self, topic: Topic, records: &[NewRecord]) -> Result<(Vec<Report>, Option<Error>)> {
        // All records are checked first, because a refused append must write nothing.
        records.iter().try_for_each(NewRecord::validate)?;
        let name = self.settings.topics.name(topic);
        let producer = if topic == Topic::DeadLetters { &self.dead_letter_producer } else { &self.producer };
        let producer = producer.get_or_replace()?;
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

    /// Blocks until all appends are acknowledged or have failed, except dead letters.
    pub(super) fn flush(&self, wait: Duration) -> Result<()> {
        let flushed = self.producer.get_or_replace()?.flush(Timeout::After(wait));
        flushed
            .map_err(|source| error::unavailable("timed out writing pending records before closing", source))
    }
}

impl ReplaceableProducer {
    fn new(config: ClientConfig) -> Self {
        Self { config, producer: RwLock::default() }
    }

    fn get_or_replace(&self) -> Result<Arc<ThreadedProducer<DeliveryReports>>> {
        const UNPOISONED: &str = "no thread panics while changing the producer";
        let current = self.producer.read().expect(UNPOISONED).clone();
        if let Some(current) = current.filter(|current| defect(current).is_none()) {
            return Ok(current);
        }
        let mut slot = self.producer.write().expect(UNPOISONED);
        // Another append may have replaced the producer in the meantime.
        if let Some(current) = &*slot {
            let Some(reason) = defect(current) else { return Ok(current.clone()) };
            tracing::error!(reason, "replacing the Kafka producer");
        }
        let new: ThreadedProducer<DeliveryReports> =
            self.config.create_with_context(DeliveryReports::default()).map_err(error::client)?;
        Ok(slot.insert(Arc::new(new)).clone())
    }
}

/// Returns the reason a producer is unusable, if it is.
fn defect(producer: &ThreadedProducer<DeliveryReports>) -> Option<String> {
    if let Some((code, reason)) = producer.client().fatal_error() {
        return Some(format!("it met a fatal error: {reason} ({code})"));
    }
    producer.client().context().brokers.are_lost().then(|| "it lost all brokers".to_owned())
}

/// Converts a reported position. librdkafka does not know the offset of a record that it sent
/// twice and the broker accepted once, so the outcome is unknown.
fn position(partition: i32, offset: i64) -> Result<Position> {
    match (u32::try_from(partition), u64::try_from(offset)) {
        (Ok(partition), Ok(offset)) => Ok(Position { partition, offset }),
        _ => Err(Error::unavailable("Kafka did not report the offset of a record")),
    }
}

fn base_record<'a, T: rdkafka::util::IntoOpaque>(
    topic: &'a str,
    record: &'a NewRecord,
    waiting: T,
) -> BaseRecord<'a, [u8], [u8], T> {
    let mut base = BaseRecord::with_opaque_to(topic, waiting).payload(&*record.value);
    // An absent key, unlike an empty one, lets the partitioner choose any partition.
    if !record.key.is_empty() {
        base = base.key(&*record.key);
    }
    if record.headers.is_empty() {
        return base;
    }
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    base.headers(
        record
            .headers
            .iter()
            .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(&**value) })),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_an_offset_is_not_acknowledged() {
        assert_eq!(position(1, 2).unwrap(), Position { partition: 1, offset: 2 });
        assert!(position(1, -1).unwrap_err().is_temporary());
    }
}
