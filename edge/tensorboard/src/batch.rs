//! Data of one run that is published together.

use std::collections::HashMap;

use bytes::Bytes;
use matyan_channels::Channels;
use matyan_proto::{
    ingest::v1::{Event, IngestionBatch, LogParams, Points, PublishRequest, SeriesDef, event::Kind},
    limits,
};
use matyan_tfrecord::Point;
use matyan_value::{Map, cbor};
use prost::Message;
use tonic::Status;

/// Approximate maximum size of a part, unless a single event is larger.
const FULL_BYTES: usize = 4 << 20;

/// Maximum number of events of a part.
const FULL_EVENTS: usize = limits::BATCH_EVENTS / 2;

/// Memory of a point, without its name. It is more than the encoded size.
const POINT_BYTES: usize = 40;

/// Maximum size of the bytes before an event in a batch.
const EVENT_HEAD_BYTES: usize = 8;

/// Events and points of one run, in parts that the server accepts as batches.
#[derive(Debug, Default)]
pub(crate) struct RunBatch {
    full: Vec<Bytes>,
    batch: IngestionBatch,
    points: Points,
    /// Numbers of the series of the last part by name.
    series: HashMap<String, u32>,
    bytes: usize,
}

impl RunBatch {
    /// Makes room for this number of bytes.
    fn reserve(&mut self, bytes: usize) {
        let is_full = self.bytes + bytes > FULL_BYTES
            || self.batch.events.len() >= FULL_EVENTS
            || self.batch.series.len() >= limits::SERIES_PER_RUN;
        if is_full {
            self.end_part();
        }
        self.bytes += bytes;
    }

    fn end_part(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let points = std::mem::take(&mut self.points);
        if !points.series.is_empty() {
            batch.points.push(points);
        }
        if !batch.events.is_empty() || !batch.points.is_empty() {
            self.full.push(batch.encode_to_vec().into());
        }
        self.series.clear();
        self.bytes = 0;
    }

    /// Adds an event. An event without a time gets the time of receipt.
    pub(crate) fn add(&mut self, kind: Kind, client_time_us: Option<i64>) {
        let event = Event { client_time_us, kind: Some(kind) };
        self.reserve(event.encoded_len() + EVENT_HEAD_BYTES);
        self.batch.events.push(event);
    }

    pub(crate) fn log_params(&mut self, params: &Map) {
        self.add(Kind::LogParams(LogParams { value: cbor::encode_map(params).into() }), None);
    }

    /// Adds a point of the metric `name`.
    pub(crate) fn point(&mut self, name: &str, point: &Point) {
        let is_known = self.series.contains_key(name);
        self.reserve(if is_known { POINT_BYTES } else { POINT_BYTES + name.len() });
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let number = *self.series.entry(name.to_owned()).or_insert(next);
        if number == next {
            self.batch.series.push(SeriesDef { name: name.to_owned(), ..SeriesDef::default() });
        }
        self.points.series.push(number);
        self.points.values.push(point.value);
        self.points.steps.push(point.step);
        self.points.times_us.push(point.time_us);
    }

    /// The parts in the order in which they are published, encoded.
    fn into_parts(mut self) -> Vec<Bytes> {
        self.end_part();
        self.full
    }
}

/// The number of items that the server has refused, and the reason for the first refused item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) items: u32,
    pub(crate) reason: String,
}

/// Publishes a batch. Returns once the batch is durable.
pub(crate) async fn publish(
    channels: &Channels,
    run_id: &str,
    batch: RunBatch,
) -> Result<Option<Refusal>, Status> {
    let mut refusal: Option<Refusal> = None;
    for batch in batch.into_parts() {
        let request = PublishRequest { run_id: run_id.to_owned(), batch, ..PublishRequest::default() };
        let response = channels.ingest().publish(request).await?.into_inner();
        if let Some(first) = response.rejections.first() {
            let refusal = refusal.get_or_insert_with(|| Refusal {
                items: 0,
                reason: format!("`{}` {}", first.field, first.reason),
            });
            refusal.items = refusal.items.saturating_add(response.rejected_items);
        }
    }
    Ok(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(batch: RunBatch) -> Vec<IngestionBatch> {
        batch.into_parts().into_iter().map(|part| IngestionBatch::decode(part).unwrap()).collect()
    }

    #[test]
    fn parts_stay_below_the_limits_and_keep_the_order() {
        let mut batch = RunBatch::default();
        for step in 0..300_000 {
            let point = Point { tag: String::new(), value: 1.0, step, time_us: step };
            batch.point(if step % 2 == 0 { "even" } else { "odd" }, &point);
        }
        let parts = decoded(batch);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.encoded_len() <= limits::BATCH_BYTES));
        assert!(parts.iter().all(|part| part.series.len() == 2), "each part defines its own series");
        let points = parts.iter().flat_map(|part| &part.points);
        let steps: Vec<i64> = points.flat_map(|points| points.steps.clone()).collect();
        assert_eq!(steps, (0..300_000).collect::<Vec<i64>>());
    }

    #[test]
    fn an_empty_batch_has_no_parts() {
        assert!(decoded(RunBatch::default()).is_empty());
    }
}
