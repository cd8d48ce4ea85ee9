//! Data of one run that is published together.

use bytes::Bytes;
use matyan_proto::common::v1::{Code as ProductCode, LogPosition};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{
    BlobRef, CreateRun, Event, IngestionBatch, LogParams, Points, PublishRequest, PublishResponse, Rejection,
    SeriesDef,
};
use matyan_proto::runs::v1::GetRequest;
use matyan_value::{Map, Value, cbor};
use matyan_wire::headers::AFTER;
use prost::Message;
use std::collections::HashMap;
use tonic::Code;

use crate::error::{Result, WandbError, product_code};
use matyan_channels::Channels;

/// The type of the values of metrics.
const DTYPE: &str = "float";

/// A batch is published once it has about so many bytes.
const FULL_BYTES: usize = 4 << 20;

/// A batch is published once it has so many events: lines of a terminal may be empty.
const FULL_EVENTS: usize = matyan_proto::limits::BATCH_EVENTS / 2;

/// The field of a rejection of all items.
const WHOLE_BATCH: &str = "batch";

/// Memory of a point, besides its name.
const POINT_BYTES: usize = 40;

/// Events and points of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunBatch {
    batch: IngestionBatch,
    points: Points,
    /// Numbers of the series by context and name.
    series: HashMap<(String, String), u32>,
    bytes: usize,
}

impl RunBatch {
    /// Adds an event. Without a time, it has the time of receipt.
    pub(crate) fn add(&mut self, kind: Kind, client_time_us: Option<i64>) {
        let event = Event { client_time_us, kind: Some(kind) };
        self.bytes += event.encoded_len();
        self.batch.events.push(event);
    }

    /// Creates the run, if it does not exist.
    pub(crate) fn create(&mut self) {
        self.add(Kind::CreateRun(CreateRun::default()), None);
    }

    /// Sets the param at a path. A map replaces the one that is there.
    pub(crate) fn set(&mut self, path: &[&str], value: Value) {
        let nested =
            path.iter().rev().fold(value, |value, name| Value::Map(Map::from([((*name).to_owned(), value)])));
        if let Value::Map(map) = nested {
            self.add(Kind::LogParams(LogParams { value: cbor::encode_map(&map).into() }), None);
        }
    }

    /// Announces a file that the client uploads, or has uploaded, to the run.
    pub(crate) fn announce(&mut self, run_id: &str, path: &str) {
        self.add(
            Kind::BlobRef(BlobRef {
                key: format!("{run_id}/{path}"),
                path: path.to_owned(),
                content_type: content_type(path).to_owned(),
                size: None,
                content_hash: Bytes::new(),
            }),
            None,
        );
    }

    /// Adds a point of a metric.
    pub(crate) fn point(&mut self, name: &str, context: &str, value: f64, step: i64, time_us: i64) {
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let number = *self.series.entry((context.to_owned(), name.to_owned())).or_insert(next);
        if number == next {
            self.bytes += name.len() + context.len();
            self.batch.series.push(SeriesDef {
                name: name.to_owned(),
                context: context.to_owned(),
                dtype: DTYPE.to_owned(),
            });
        }
        self.points.series.push(number);
        self.points.values.push(value);
        self.points.steps.push(step);
        self.points.times_us.push(time_us);
        self.bytes += POINT_BYTES;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.events.is_empty() && self.points.series.is_empty()
    }

    /// Whether it should be published before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.batch.events.len() >= FULL_EVENTS
    }

    pub(crate) fn encode(mut self) -> Bytes {
        if !self.points.series.is_empty() {
            self.batch.points.push(self.points);
        }
        self.batch.encode_to_vec().into()
    }
}

/// Publishes a batch. Returns once it is durable. Items that are invalid are left out: an error would end the upload of
/// the whole run.
pub(crate) async fn publish(
    channels: &Channels,
    run_id: &str,
    batch: RunBatch,
) -> Result<Option<LogPosition>> {
    let Some(response) = send(channels, run_id, batch).await? else { return Ok(None) };
    if let Some(first) = response.rejections.first() {
        if first.field == WHOLE_BATCH {
            return Err(rejected(first));
        }
        tracing::warn!(
            run_id,
            items = response.rejected_items,
            field = first.field,
            reason = first.reason,
            "left out invalid items of a W&B client"
        );
    }
    Ok(response.position)
}

/// Publishes a batch of which all items must be valid, and waits until it is applied, so that the next read of any client
/// sees it.
pub(crate) async fn publish_and_wait(channels: &Channels, run_id: &str, batch: RunBatch) -> Result<()> {
    let Some(response) = send(channels, run_id, batch).await? else { return Ok(()) };
    if let Some(first) = response.rejections.first() {
        return Err(rejected(first));
    }
    let position = response.position.ok_or_else(|| WandbError::broken("position"))?;
    wait_applied(channels, run_id, position).await
}

async fn send(channels: &Channels, run_id: &str, batch: RunBatch) -> Result<Option<PublishResponse>> {
    if batch.is_empty() {
        return Ok(None);
    }
    let request =
        PublishRequest { run_id: run_id.to_owned(), batch: batch.encode(), ..PublishRequest::default() };
    Ok(Some(channels.ingest().publish(request).await?.into_inner()))
}

fn rejected(rejection: &Rejection) -> WandbError {
    WandbError::invalid(format!("`{}` {}", rejection.field, rejection.reason))
}

/// Waits for a position. What is in the log is safe, so it is no error if it is applied later.
pub(crate) async fn wait_applied(channels: &Channels, run_id: &str, position: LogPosition) -> Result<()> {
    let mut request = tonic::Request::new(GetRequest { run_id: run_id.to_owned(), parts: None });
    let LogPosition { log, partition, offset } = position;
    let after = format!("{log}/{partition}/{offset}/{run_id}");
    let after = after.parse().or_else(|_| format!("{log}/{partition}/{offset}").parse());
    if let Ok(after) = after {
        request.metadata_mut().insert(AFTER, after);
    }
    match channels.runs().get(request).await {
        Ok(_) => Ok(()),
        Err(status) if product_code(&status) == Some(ProductCode::NotYetApplied) => {
            tracing::warn!(run_id, "data of a W&B client is stored, but not yet visible");
            Ok(())
        }
        Err(status) => match status.code() {
            // It was deleted meanwhile, or the token only writes.
            Code::NotFound | Code::PermissionDenied => Ok(()),
            _ => Err(WandbError::from(status)),
        },
    }
}

/// The type of a file by its name.
pub(crate) fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => "application/json",
        Some("jsonl" | "log" | "txt" | "md" | "py" | "yaml" | "yml" | "patch" | "csv") => "text/plain",
        Some("html") => "text/html",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("svg") => "image/svg+xml",
        Some("webp") => "image/webp",
        Some("wav") => "audio/wav",
        Some("mp3") => "audio/mpeg",
        Some("mp4") => "video/mp4",
        Some("webm") => "video/webm",
        _ => "application/octet-stream",
    }
}
