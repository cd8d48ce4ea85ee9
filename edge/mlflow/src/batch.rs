//! Data of one run that is published together, and that the next reader sees.

use bytes::Bytes;
use matyan_proto::ABSENT;
use matyan_proto::common::v1::{Code as ProductCode, LogPosition};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{
    Event, IngestionBatch, LogParams, Points, PublishRequest, Rejection, SeriesDef, SetRunProperty,
};
use matyan_value::{Map, cbor};
use prost::Message;

use crate::error::{MlflowError, Result};
use matyan_channels::{Channels, product_code, wait_applied};

/// The type of the values of metrics.
const DTYPE: &str = "float";

/// Number of waits for a request that should not be repeated. Each takes five seconds, and clients wait two minutes for
/// an answer.
const PATIENT_WAITS: usize = 12;

/// A point of a metric, with MLflow's step and time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) value: f64,
    pub(crate) step: i64,
    pub(crate) time_ms: i64,
}

/// Events and points of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunBatch {
    batch: IngestionBatch,
    points: Points,
    /// Size of all params, encoded in messages.
    pub(crate) params_bytes: usize,
}

impl RunBatch {
    /// Adds an event. Without a time, it has the time of receipt.
    pub(crate) fn add(&mut self, kind: Kind, time_ms: Option<i64>) {
        let client_time_us = time_ms.map(|time_ms| time_ms.saturating_mul(1_000));
        self.batch.events.push(Event { client_time_us, kind: Some(kind) });
    }

    /// Sets params.
    pub(crate) fn set(&mut self, params: &Map) {
        let value = cbor::encode_map(params);
        self.params_bytes += value.len();
        self.add(Kind::LogParams(LogParams { value: value.into() }), None);
    }

    pub(crate) fn set_properties(&mut self, properties: SetRunProperty) {
        self.add(Kind::SetRunProperty(properties), None);
    }

    /// Defines a series and returns its number in this batch.
    pub(crate) fn series(&mut self, name: &str, context: &str) -> u32 {
        let number = self.batch.series.len();
        self.batch.series.push(SeriesDef {
            name: name.to_owned(),
            context: context.to_owned(),
            dtype: DTYPE.to_owned(),
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// Adds a point at its step.
    pub(crate) fn point(&mut self, series: u32, point: Point) {
        self.push(series, point, point.step, ABSENT);
    }

    /// Adds a point at the next free step; the step of the point becomes the epoch.
    pub(crate) fn appended_point(&mut self, series: u32, point: Point) {
        self.push(series, point, ABSENT, point.step);
    }

    fn push(&mut self, series: u32, point: Point, step: i64, epoch: i64) {
        self.points.series.push(series);
        self.points.values.push(point.value);
        self.points.steps.push(step);
        self.points.epochs.push(epoch);
        self.points.times_us.push(point.time_ms.saturating_mul(1_000));
    }

    fn is_empty(&self) -> bool {
        self.batch.events.is_empty() && self.points.series.is_empty()
    }

    fn encode(mut self) -> Bytes {
        if !self.points.series.is_empty() {
            self.batch.points.push(self.points);
        }
        self.batch.encode_to_vec().into()
    }
}

/// Publishes a batch, all of it or nothing, and waits until it is applied, so that the next read of any client sees
/// it. If the batch is applied late, the answer is an error that clients repeat: a repeated request waits for the
/// data in the log (`RunSnapshot::read_for_write`) before it decides what else to store.
pub(crate) async fn publish(channels: &Channels, run_id: &str, batch: RunBatch) -> Result<()> {
    publish_with_waits(channels, run_id, batch, 1).await
}

/// Publishes a batch like `publish`, but waits longer, for requests that should not be repeated: the creation of
/// a run, which creates another run each time, and uploads, which send a whole file.
pub(crate) async fn publish_patiently(channels: &Channels, run_id: &str, batch: RunBatch) -> Result<()> {
    publish_with_waits(channels, run_id, batch, PATIENT_WAITS).await
}

async fn publish_with_waits(channels: &Channels, run_id: &str, batch: RunBatch, waits: usize) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let position = append(channels, run_id, batch.encode()).await?;
    for _ in 1..waits {
        match wait_applied(channels, run_id, position).await {
            Err(status) if product_code(&status) == Some(ProductCode::NotYetApplied) => {}
            applied => return applied.map_err(MlflowError::from),
        }
    }
    wait_applied(channels, run_id, position).await.map_err(MlflowError::from)
}

/// Appends a record without effect to the log of a run. Once the record is applied, so is everything that was published
/// for the run earlier, also by other processes, and also by a call that has failed.
pub(crate) async fn append_barrier(channels: &Channels, run_id: &str) -> Result<LogPosition> {
    append(channels, run_id, Bytes::new()).await
}

/// Appends a batch to the log of a run.
async fn append(channels: &Channels, run_id: &str, batch: Bytes) -> Result<LogPosition> {
    let request = PublishRequest {
        run_id: run_id.to_owned(),
        batch,
        all_or_nothing: true,
        ..PublishRequest::default()
    };
    let response = channels.ingest().publish(request).await?.into_inner();
    match response.rejections.first() {
        Some(rejection) => Err(rejected(rejection)),
        None => response.position.ok_or_else(|| MlflowError::broken("position")),
    }
}

fn rejected(rejection: &Rejection) -> MlflowError {
    MlflowError::invalid(format!("`{}` {}", rejection.field, rejection.reason))
}
