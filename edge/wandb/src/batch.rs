//! Data of one run that is published together.

use std::collections::HashMap;

use bytes::Bytes;
use http::StatusCode;
use matyan_proto::common::v1::{Code as ProductCode, LogPosition};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{
    BlobRef, CreateRun, Event, IngestionBatch, LogParams, Points, PublishRequest, Rejection, SeriesDef,
};
use matyan_proto::limits;
use matyan_value::{Map, cbor};
use matyan_wire::content_types;
use prost::Message;

use crate::error::{Result, WandbError};
use matyan_channels::{Channels, product_code};

/// The type of the values of metrics.
const DTYPE: &str = "float";

/// Approximate maximum size of a part, unless a single event is larger.
const FULL_BYTES: usize = 4 << 20;

/// Maximum number of events of a part, because lines of a terminal may be empty.
const FULL_EVENTS: usize = limits::BATCH_EVENTS / 2;

/// Memory of a point, without its name. It is more than the encoded size.
const POINT_BYTES: usize = 40;

/// Maximum size of the bytes before an event in a batch.
const EVENT_HEAD_BYTES: usize = 8;

/// Events and points of one run, in parts that the server accepts as batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunBatch {
    full: Vec<BatchPart>,
    last: BatchPart,
}

/// The content of one batch of the server.
#[derive(Clone, Debug, Default)]
struct BatchPart {
    batch: IngestionBatch,
    points: Points,
    /// Numbers of the series by context and name.
    series: HashMap<(String, String), u32>,
    bytes: usize,
}

impl BatchPart {
    fn is_empty(&self) -> bool {
        self.batch.events.is_empty() && self.points.series.is_empty()
    }

    /// Whether this number of bytes belongs in the next part.
    fn is_full_for(&self, bytes: usize) -> bool {
        let is_full = self.bytes + bytes > FULL_BYTES
            || self.batch.events.len() >= FULL_EVENTS
            || self.batch.series.len() >= limits::SERIES_PER_RUN;
        is_full && !self.is_empty()
    }

    fn encode(mut self) -> Bytes {
        if !self.points.series.is_empty() {
            self.batch.points.push(self.points);
        }
        self.batch.encode_to_vec().into()
    }
}

impl RunBatch {
    /// The part that has room for this number of bytes.
    fn part(&mut self, bytes: usize) -> &mut BatchPart {
        if self.last.is_full_for(bytes) {
            self.full.push(std::mem::take(&mut self.last));
        }
        self.last.bytes += bytes;
        &mut self.last
    }

    /// Adds an event. An event without a time gets the time of receipt.
    pub(crate) fn add(&mut self, kind: Kind, client_time_us: Option<i64>) {
        let event = Event { client_time_us, kind: Some(kind) };
        let bytes = event.encoded_len() + EVENT_HEAD_BYTES;
        self.part(bytes).batch.events.push(event);
    }

    /// Creates the run, if it does not exist.
    pub(crate) fn create(&mut self) {
        self.add(Kind::CreateRun(CreateRun::default()), None);
    }

    /// Adds params, which `ParamChanges` has checked.
    pub(crate) fn log_params(&mut self, params: &Map) {
        self.add(Kind::LogParams(LogParams { value: cbor::encode_map(params).into() }), None);
    }

    /// Announces a file that the client uploads, or has uploaded, to the run.
    pub(crate) fn announce(&mut self, run_id: &str, path: &str) {
        self.add(
            Kind::BlobRef(BlobRef {
                key: format!("{run_id}/{path}"),
                path: path.to_owned(),
                content_type: content_types::of_name(path).to_owned(),
                size: None,
                content_hash: Bytes::new(),
            }),
            None,
        );
    }

    /// Adds a point of a metric.
    pub(crate) fn point(&mut self, name: &str, context: &str, value: f64, step: i64, time_us: i64) {
        let part = self.part(POINT_BYTES + name.len() + context.len());
        let next = u32::try_from(part.series.len()).unwrap_or(u32::MAX);
        let number = *part.series.entry((context.to_owned(), name.to_owned())).or_insert(next);
        if number == next {
            part.batch.series.push(SeriesDef {
                name: name.to_owned(),
                context: context.to_owned(),
                dtype: DTYPE.to_owned(),
            });
        } else {
            // The part already has the definition of the series.
            part.bytes -= name.len() + context.len();
        }
        part.points.series.push(number);
        part.points.values.push(value);
        part.points.steps.push(step);
        part.points.times_us.push(time_us);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.last.is_empty()
    }

    /// The parts in the order in which they are published, encoded.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Bytes> + Send {
        let parts = self.full.into_iter().chain([self.last]);
        parts.filter(|part| !part.is_empty()).map(BatchPart::encode)
    }
}

/// Publishes a batch. Returns once the batch is durable, with the position of its end; `None` if it is empty. An item
/// that the server refuses is an error, and is never left out: the client would believe that it was stored.
pub(crate) async fn publish(
    channels: &Channels,
    run_id: &str,
    batch: RunBatch,
) -> Result<Option<LogPosition>> {
    let mut last = None;
    for part in batch.into_parts() {
        let request = PublishRequest { run_id: run_id.to_owned(), batch: part, ..PublishRequest::default() };
        let response = channels.ingest().publish(request).await?.into_inner();
        if let Some(first) = response.rejections.first() {
            // Limits that a client can reach were checked earlier.
            tracing::error!(
                run_id,
                items = response.rejected_items,
                field = first.field,
                reason = first.reason,
                "the server refused items of a W&B client"
            );
            return Err(rejected(first));
        }
        last = Some(response.position.ok_or_else(|| WandbError::broken("position"))?);
    }
    Ok(last)
}

/// Whether published data can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    Visible,
    /// The data is in the log, and safe. A worker is late, or the run is in quarantine.
    Later,
}

impl Visibility {
    /// Asks the client to repeat a request whose next step needs the published data.
    pub(crate) fn check_visible(self) -> Result<()> {
        match self {
            Self::Visible => Ok(()),
            Self::Later => Err(WandbError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the data is stored, and cannot be read yet: try again",
            )),
        }
    }
}

/// Publishes a batch, and waits until it is applied, so that the next read of any client sees it.
pub(crate) async fn publish_and_wait(
    channels: &Channels,
    run_id: &str,
    batch: RunBatch,
) -> Result<Visibility> {
    match publish(channels, run_id, batch).await? {
        Some(position) => wait_applied(channels, run_id, position).await,
        None => Ok(Visibility::Visible),
    }
}

/// Waits until everything is applied that was published for a run earlier. The run must exist.
pub(crate) async fn wait_for_published(channels: &Channels, run_id: &str) -> Result<Visibility> {
    // A record without effect marks the end of the log.
    let request = PublishRequest { run_id: run_id.to_owned(), ..PublishRequest::default() };
    let response = channels.ingest().publish(request).await?.into_inner();
    let position = response.position.ok_or_else(|| WandbError::broken("position"))?;
    wait_applied(channels, run_id, position).await
}

fn rejected(rejection: &Rejection) -> WandbError {
    WandbError::invalid(format!("`{}` {}", rejection.field, rejection.reason))
}

/// Waits for a position. Data in the log is safe, so it is no error if it is applied later.
pub(crate) async fn wait_applied(
    channels: &Channels,
    run_id: &str,
    position: LogPosition,
) -> Result<Visibility> {
    match matyan_channels::wait_applied(channels, run_id, position).await {
        Ok(()) => Ok(Visibility::Visible),
        Err(status) if product_code(&status) == Some(ProductCode::NotYetApplied) => {
            tracing::warn!(run_id, "data of a W&B client is stored, but not yet visible");
            Ok(Visibility::Later)
        }
        Err(status) => Err(WandbError::from(status)),
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1::LogTerminalLine;

    use super::*;

    fn decoded(batch: RunBatch) -> Vec<IngestionBatch> {
        batch.into_parts().map(|part| IngestionBatch::decode(part).unwrap()).collect()
    }

    #[test]
    fn parts_stay_below_the_limits_of_a_batch() {
        let mut batch = RunBatch::default();
        let line = "x".repeat(limits::LOG_BYTES - 1);
        for step in 0..3 {
            batch.add(Kind::LogTerminalLine(LogTerminalLine { line: line.clone(), step }), None);
        }
        for step in 0..300_000 {
            batch.point("loss", "", 1.0, step, step);
        }
        let parts = decoded(batch);
        assert!(parts.iter().all(|part| part.encoded_len() <= limits::BATCH_BYTES));
        assert_eq!(parts.iter().map(|part| part.events.len()).sum::<usize>(), 3);
        let steps: Vec<i64> =
            parts.iter().flat_map(|part| &part.points).flat_map(|points| points.steps.clone()).collect();
        assert_eq!(steps, (0..300_000).collect::<Vec<i64>>());
        for part in parts.iter().filter(|part| !part.points.is_empty()) {
            assert_eq!(part.series.len(), 1, "each part defines its own series");
        }
    }

    #[test]
    fn a_batch_of_nothing_has_no_parts() {
        assert!(decoded(RunBatch::default()).is_empty());
    }
}
