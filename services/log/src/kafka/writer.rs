//! Appending: each record goes to librdkafka inside the call, which keeps the order; its delivery report is the answer.
//! A producer that has met a fatal error is replaced by the next append.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use rdkafka::{
    ClientContext, Message,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::Timeout,
};
use tokio::sync::oneshot;

use super::{blocking, config::Settings, error};
use crate::{Append, Error, NewRecord, Position, Result};

type Report = oneshot::Receiver<Result<Position, KafkaError>>;

pub(super) struct Writer {
    settings: Settings,
    producer: RwLock<Arc<ThreadedProducer<Reports>>>,
}

/// Hands each delivery report to whoever waits for it.
#[derive(Clone)]
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<Position, KafkaError>>>;

    fn delivery(&self, report: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let position = match report {
            Ok(message) => {
                Ok(Position { partition: message.partition() as u32, offset: message.offset() as u64 })
            }
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever does not wait any more has dropped the other end; that is no failure.
        drop(waiting.send(position));
    }
}

impl Writer {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let producer = RwLock::new(Arc::new(producer(settings)?));
        Ok(Self { settings: settings.clone(), producer })
    }

    pub(super) fn append(&self, topic: &str, records: Vec<NewRecord>) -> Append {
        let started = self.start(topic, &records);
        Box::pin(async move {
            let (reports, refused) = started?;
            let mut positions = Vec::with_capacity(reports.len());
            for report in reports {
                let answer = report.await.map_err(|_| Error::unavailable("the producer was closed"))?;
                positions.push(answer.map_err(error::request)?);
            }
            refused.map_or(Ok(positions), Err)
        })
    }

    /// The reports of the records that were taken, and why the next one was not.
    fn start(&self, topic: &str, records: &[NewRecord]) -> Result<(Vec<Report>, Option<Error>)> {
        records.iter().try_for_each(NewRecord::validate)?;
        let producer = self.healthy()?;
        let mut reports = Vec::with_capacity(records.len());
        for record in records {
            let (waiting, report) = oneshot::channel();
            match producer.send(base_record(topic, record, Box::new(waiting))) {
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

    fn healthy(&self) -> Result<Arc<ThreadedProducer<Reports>>> {
        const UNPOISONED: &str = "nobody panics while changing the producer";
        let current = self.producer.read().expect(UNPOISONED).clone();
        let Some((code, reason)) = current.client().fatal_error() else { return Ok(current) };
        let mut place = self.producer.write().expect(UNPOISONED);
        if Arc::ptr_eq(&current, &place) {
            tracing::error!(%code, reason, "the producer met a fatal error and is replaced");
            *place = Arc::new(producer(&self.settings)?);
        }
        Ok(place.clone())
    }

    pub(super) async fn flush(&self, wait: Duration) -> Result<()> {
        let producer = self.healthy()?;
        let flushed = blocking(move || producer.flush(Timeout::After(wait))).await?;
        flushed
            .map_err(|source| error::unavailable("not everything was written before it was closed", source))
    }
}

fn producer(settings: &Settings) -> Result<ThreadedProducer<Reports>> {
    settings.producer().create_with_context(Reports).map_err(error::client)
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
