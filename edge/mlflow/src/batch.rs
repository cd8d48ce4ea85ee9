//! Data of one run that is published together, and that the next reader sees.

use bytes::Bytes;
use matyan_proto::ABSENT;
use matyan_proto::common::v1::{Code as ProductCode, LogPosition};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{
    Event, IngestionBatch, LogParams, Points, PublishRequest, Rejection, SeriesDef, SetRunProperty,
};
use matyan_proto::runs::v1::GetRequest;
use matyan_value::{Map, cbor};
use matyan_wire::headers::AFTER;
use prost::Message;
use tonic::Code;
use tonic::metadata::AsciiMetadataValue;

use crate::error::{MlflowError, Result, product_code};
use matyan_channels::Channels;

/// The type of the values of metrics.
const DTYPE: &str = "float";

/// A point of a metric. Steps and times are those of MLflow.
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
    /// Size of all params, as messages contain them.
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

    /// Adds a point at the next free step; its own step is the epoch.
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

/// Publishes a batch, and waits until it is applied, so that the next read of any client sees it.
pub(crate) async fn publish(channels: &Channels, run_id: &str, batch: RunBatch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let request =
        PublishRequest { run_id: run_id.to_owned(), batch: batch.encode(), ..PublishRequest::default() };
    let response = channels.ingest().publish(request).await?.into_inner();
    if let Some(rejection) = response.rejections.first() {
        return Err(rejected(rejection));
    }
    let position = response.position.ok_or_else(|| MlflowError::broken("position"))?;
    wait_applied(channels, run_id, position).await
}

fn rejected(rejection: &Rejection) -> MlflowError {
    MlflowError::invalid(format!("`{}` {}", rejection.field, rejection.reason))
}

/// Waits for a position. What is in the log is safe, so it is no error if it is applied later.
async fn wait_applied(channels: &Channels, run_id: &str, position: LogPosition) -> Result<()> {
    let mut request = tonic::Request::new(GetRequest { run_id: run_id.to_owned(), parts: None });
    let LogPosition { log, partition, offset } = position;
    let after = format!("{log}/{partition}/{offset}/{run_id}");
    // The id of a run of another client may be more than a header can carry.
    let parse = |text: String| text.parse::<AsciiMetadataValue>();
    if let Ok(after) = parse(after).or_else(|_| parse(format!("{log}/{partition}/{offset}"))) {
        request.metadata_mut().insert(AFTER, after);
    }
    match channels.runs().get(request).await {
        Ok(_) => Ok(()),
        Err(status) if product_code(&status) == Some(ProductCode::NotYetApplied) => {
            tracing::warn!(run_id, "data of an MLflow client is stored, but not yet visible");
            Ok(())
        }
        // It was deleted meanwhile.
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(status.into()),
    }
}
