//! Objects: found by a query, or read by sequence and step; and their payloads.

use axum::Json;
use axum::response::Response;
use http::{HeaderValue, header};
use matyan_proto::artifacts::v1::{BlobsRequest, BlobsResponse};
use matyan_proto::common::v1::{Access, IndexRange, SeriesKey, SeriesType, StepRange};
use matyan_proto::objects::v1::object::Kind as ObjectKind;
use matyan_proto::objects::v1::{
    BatchRequest, BatchResponse, Object, Selection, Sequence, Step, StepRequest, StepResponse,
};
use matyan_proto::runs::v1::{GetRequest, Run};
use matyan_proto::search::v1::{ObjectsRequest, ObjectsResponse, RunObjects, Warning};
use matyan_value::json::{self, JsonStyle};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Answer;
use super::call::{Call, NoParameters, TimeZone};
use super::operation::Operation;
use super::runs_search::{SearchParameters, write_context, write_params, write_props};
use super::search_writer::{RowWriter, SearchPage, SearchWriter};
use super::shared::{SeriesName, density, index_range, int, seconds, step_range, write_pair};
use super::stream_response::{self, Entries, EntryWriter, SearchResults};
use crate::error::{ApiError, ApiResult};
use crate::stream::Encoder;

pub(crate) fn operations() -> Vec<Operation> {
    let types = [
        ("images", SeriesType::Images),
        ("texts", SeriesType::Texts),
        ("distributions", SeriesType::Distributions),
        ("audios", SeriesType::Audios),
        ("figures", SeriesType::Figures),
        ("htmls", SeriesType::Htmls),
        ("point_clouds", SeriesType::PointClouds),
    ];
    let mut operations: Vec<_> = types.into_iter().flat_map(|(name, it)| operations_of(name, it)).collect();
    for name in ["images", "audios", "htmls", "point_clouds"] {
        let path = format!("/runs/{name}/get-batch");
        let operation = Operation::post(&path, "Payloads by URI, as a stream", blobs);
        operations.push(operation.access(Access::Read));
    }
    operations
}

/// The operations of one type.
fn operations_of(name: &str, series_type: SeriesType) -> [Operation; 3] {
    [
        Operation::get(
            &format!("/runs/search/{name}"),
            &format!("Search for sequences of {name}, as a stream"),
            move |call| search(call, series_type),
        ),
        Operation::post(
            &format!("/runs/{{id}}/{name}/get-batch"),
            &format!("Steps of sequences of {name} of one run, as a stream"),
            move |call| batch(call, series_type),
        )
        .access(Access::Read),
        Operation::post(
            &format!("/runs/{{id}}/{name}/get-step"),
            &format!("One step of sequences of {name} of one run, as a stream"),
            move |call| step(call, series_type),
        )
        .access(Access::Read),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct ObjectSearchParameters {
    #[serde(flatten)]
    search: SearchParameters,
    #[serde(flatten)]
    selection: SelectionParameters,
    #[serde(flatten)]
    zone: TimeZone,
}

#[derive(Deserialize, JsonSchema)]
struct BatchParameters {
    id: String,
    #[serde(flatten)]
    selection: SelectionParameters,
}

#[derive(Deserialize, JsonSchema)]
struct StepParameters {
    id: String,
    #[serde(default = "int::<-1>")]
    record_step: i64,
    #[serde(flatten)]
    indexes: IndexParameters,
}

#[derive(Deserialize, JsonSchema)]
struct SelectionParameters {
    #[serde(default)]
    record_range: String,
    #[serde(default = "int::<50>")]
    record_density: i64,
    #[serde(flatten)]
    indexes: IndexParameters,
}

#[derive(Deserialize, JsonSchema)]
struct IndexParameters {
    #[serde(default)]
    index_range: String,
    #[serde(default = "int::<5>")]
    index_density: i64,
}

impl TryFrom<SelectionParameters> for Selection {
    type Error = ApiError;

    fn try_from(parameters: SelectionParameters) -> ApiResult<Self> {
        let SelectionParameters { record_range, record_density, indexes } = parameters;
        Ok(Selection {
            record_range: step_range(&record_range)?,
            record_density: density(record_density),
            index_range: index_range(&indexes.index_range)?,
            index_density: density(indexes.index_density),
        })
    }
}

/// Returns whether a step may have several objects of this type.
fn is_list(series_type: SeriesType) -> bool {
    !matches!(series_type, SeriesType::Distributions | SeriesType::Figures)
}

async fn search(call: Call<ObjectSearchParameters>, series_type: SeriesType) -> ApiResult<SearchResults> {
    let ObjectSearchParameters { search, selection, zone } = call.parameters;
    let selection = Selection::try_from(selection)?;
    let request = ObjectsRequest {
        query: Some(search.query(&zone)),
        r#type: series_type.into(),
        selection: Some(selection),
        parts: Some(search.parts()),
        ..Default::default()
    };
    let found = call.services.backend().search().objects(request).await;
    let messages = found.map_err(|status| search.error(status))?.into_inner();
    let rows = ObjectRowWriter { series_type, selection, open: None };
    stream_response::search_results(messages, SearchWriter::new(rows, search.progress())).await
}

/// Writes runs with objects.
struct ObjectRowWriter {
    series_type: SeriesType,
    selection: Selection,
    open: Option<OpenRun>,
}

/// A run with more sequences to come.
#[derive(Default)]
struct OpenRun {
    run: Run,
    sent: i64,
    /// The steps of an unfinished sequence, whose values are already written.
    sequence: Option<Vec<Step>>,
    steps: Option<(i64, i64)>,
    longest: u32,
}

impl RowWriter for ObjectRowWriter {
    type Message = ObjectsResponse;
    type Row = RunObjects;

    fn warnings(message: &ObjectsResponse) -> &[Warning] {
        &message.warnings
    }

    fn into_page(message: ObjectsResponse) -> SearchPage<RunObjects> {
        let ObjectsResponse { runs, progress, done, .. } = message;
        SearchPage { rows: runs, progress, done }
    }

    fn write_row(&mut self, found: RunObjects, encoder: &mut Encoder) {
        let mut open = self.open.take().unwrap_or_else(|| {
            let run = found.run.clone().unwrap_or_default();
            encoder.member(&run.run_id, |it| {
                it.member("params", |it| write_params(&run, it));
                it.member("traces", Encoder::array);
            });
            OpenRun { run, ..Default::default() }
        });
        let added = found.record_range_total.as_ref().and_then(|it| it.start.zip(it.stop));
        open.steps = match (open.steps, added) {
            (Some(all), Some(added)) => Some((all.0.min(added.0), all.1.max(added.1))),
            (all, added) => all.or(added),
        };
        open.longest = open.longest.max(found.index_total);
        let run_id = open.run.run_id.clone();
        encoder.member(&run_id, |it| {
            it.member("traces", |it| {
                for sequence in found.sequences {
                    it.element(open.sent, |it| self.write_sequence(sequence, &mut open.sequence, it));
                    open.sent += i64::from(open.sequence.is_none());
                }
            });
            if !found.more {
                write_props(&open.run, it);
                it.member("ranges", |it| self.write_ranges(&open, it));
            }
        });
        self.open = found.more.then_some(open);
    }

    fn is_complete(&self) -> bool {
        self.open.is_none()
    }
}

impl ObjectRowWriter {
    /// `open` has the steps whose values are already written.
    fn write_sequence(&self, mut sequence: Sequence, open: &mut Option<Vec<Step>>, encoder: &mut Encoder) {
        drop_lost(&mut sequence.steps, self.series_type);
        let mut steps = open.take().unwrap_or_else(|| {
            encoder.member("name", |it| it.text(&sequence.name));
            encoder.member("context", |it| write_context(&sequence.context, it));
            encoder.member("values", Encoder::array);
            Vec::new()
        });
        encoder.member("values", |it| {
            for (index, step) in (steps.len() as i64..).zip(&sequence.steps) {
                it.element(index, |it| write_objects(step, self.series_type, it));
            }
        });
        steps.extend(sequence.steps.into_iter().map(|step| Step { objects: Vec::new(), ..step }));
        if sequence.more {
            *open = Some(steps);
            return;
        }
        let steps = &steps[..];
        write_list(encoder, "iters", steps, |step, it| it.int(step.step));
        write_list(encoder, "epochs", steps, |step, it| match step.epoch {
            Some(epoch) => it.int(epoch),
            None => it.null(),
        });
        write_list(encoder, "timestamps", steps, |step, it| match step.time_us {
            Some(time) => it.float(seconds(time)),
            None => it.null(),
        });
    }

    fn write_ranges(&self, open: &OpenRun, encoder: &mut Encoder) {
        let (first, stop) = open.steps.unwrap_or((0, 0));
        let used = self.selection.record_range.unwrap_or_default();
        encoder.member("record_range_total", |it| write_pair(it, first, stop));
        encoder.member("record_range_used", |it| {
            write_pair(it, used.start.unwrap_or(first), used.stop.unwrap_or(stop));
        });
        if is_list(self.series_type) {
            let longest = i64::from(open.longest.max(1));
            encoder.member("index_range_total", |it| write_pair(it, 0, longest));
            encoder
                .member("index_range_used", |it| write_index_used(it, self.selection.index_range, longest));
        }
    }
}

fn write_index_used(encoder: &mut Encoder, requested: Option<IndexRange>, longest: i64) {
    let requested = requested.unwrap_or_default();
    write_pair(encoder, requested.start.map_or(0, i64::from), requested.stop.map_or(longest, i64::from));
}

fn write_list<T>(encoder: &mut Encoder, key: &str, items: &[T], write: impl Fn(&T, &mut Encoder)) {
    encoder.member(key, |it| {
        it.array();
        for (index, item) in items.iter().enumerate() {
            it.element(index as i64, |it| write(item, it));
        }
    });
}

/// Drops the steps whose single object is lost or unreadable. The UI of Aim takes each value to be an
/// object, and would show nothing of the series.
fn drop_lost(steps: &mut Vec<Step>, series_type: SeriesType) {
    if !is_list(series_type) {
        steps.retain(|step| !step.objects.is_empty());
    }
}

/// Writes the objects of one step: a list, or a single object.
fn write_objects(step: &Step, series_type: SeriesType, encoder: &mut Encoder) {
    match step.objects.first() {
        Some(object) if !is_list(series_type) => write_object(object, encoder),
        _ => {
            encoder.array();
            for (index, object) in step.objects.iter().enumerate() {
                encoder.element(index as i64, |it| write_object(object, it));
            }
        }
    }
}

fn write_object(object: &Object, encoder: &mut Encoder) {
    let index = i64::from(object.index);
    let size = |value: Option<u32>, it: &mut Encoder| match value {
        Some(value) => it.int(value.into()),
        None => it.null(),
    };
    match &object.kind {
        Some(ObjectKind::Image(image)) => {
            encoder.member("caption", |it| it.text(&image.caption));
            encoder.member("width", |it| size(image.width, it));
            encoder.member("height", |it| size(image.height, it));
            encoder.member("format", |it| it.text(&image.format));
            encoder.member("blob_uri", |it| it.text(&image.blob_uri));
            encoder.member("index", |it| it.int(index));
        }
        Some(ObjectKind::Audio(audio)) => {
            encoder.member("caption", |it| it.text(&audio.caption));
            encoder.member("format", |it| it.text(&audio.format));
            encoder.member("blob_uri", |it| it.text(&audio.blob_uri));
            encoder.member("index", |it| it.int(index));
        }
        Some(ObjectKind::Text(text)) => {
            encoder.member("data", |it| it.text(&text.data));
            encoder.member("index", |it| it.int(index));
        }
        Some(ObjectKind::Distribution(distribution)) => {
            encoder.member("data", |it| it.doubles(distribution.weights.iter().copied()));
            encoder.member("bin_count", |it| it.int(distribution.weights.len() as i64));
            write_list(encoder, "range", &[distribution.low, distribution.high], |bound, it| {
                it.float(*bound)
            });
        }
        Some(ObjectKind::Figure(figure)) => {
            let data = json::cbor_text(&figure.data, JsonStyle::SPACED).unwrap_or_else(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "failed to convert figure to JSON");
                // An empty figure keeps the rest of the response readable.
                r#"{"data": [], "layout": {}}"#.to_owned()
            });
            encoder.member("data", |it| it.text(&data));
            encoder.member("index", |it| it.int(index));
        }
        Some(ObjectKind::Html(html)) => {
            encoder.member("caption", |it| it.text(&html.caption));
            encoder.member("blob_uri", |it| it.text(&html.blob_uri));
            encoder.member("index", |it| it.int(index));
        }
        Some(ObjectKind::PointCloud(cloud)) => {
            encoder.member("caption", |it| it.text(&cloud.caption));
            encoder.member("point_count", |it| size(cloud.point_count, it));
            encoder.member("format", |it| it.text(&cloud.format));
            encoder.member("blob_uri", |it| it.text(&cloud.blob_uri));
            encoder.member("index", |it| it.int(index));
        }
        None => encoder.empty_object(),
    }
}

async fn batch(
    call: Call<BatchParameters, Json<Vec<SeriesName>>>,
    series_type: SeriesType,
) -> ApiResult<Entries> {
    let BatchParameters { id, selection } = call.parameters;
    let Json(sequences) = call.body;
    let selection = Selection::try_from(selection)?;
    let request = BatchRequest {
        run_id: id,
        r#type: series_type.into(),
        sequences: sequences.into_iter().map(SeriesKey::from).collect(),
        selection: Some(selection),
    };
    let messages = call.services.backend().objects().batch(request).await?.into_inner();
    let writer = ObjectBatchWriter { series_type, index_range: selection.index_range, open: None };
    stream_response::answer(messages, writer).await
}

struct ObjectBatchWriter {
    series_type: SeriesType,
    index_range: Option<IndexRange>,
    /// The steps of an unfinished sequence, and the length of its longest list.
    open: Option<(Vec<i64>, u32)>,
}

impl EntryWriter for ObjectBatchWriter {
    type Message = BatchResponse;

    fn write(&mut self, message: BatchResponse, encoder: &mut Encoder) {
        let mut sequence = message.sequence.unwrap_or_default();
        drop_lost(&mut sequence.steps, self.series_type);
        let (mut steps, longest) = self.open.take().unwrap_or_else(|| {
            encoder.member("name", |it| it.text(&sequence.name));
            encoder.member("context", |it| write_context(&sequence.context, it));
            encoder.member("values", Encoder::array);
            (Vec::new(), 0)
        });
        encoder.member("values", |it| {
            for (index, step) in (steps.len()..).zip(&sequence.steps) {
                it.element(index as i64, |it| write_objects(step, self.series_type, it));
            }
        });
        steps.extend(sequence.steps.iter().map(|step| step.step));
        let longest = longest.max(sequence.index_total);
        if !message.last {
            self.open = Some((steps, longest));
            return;
        }
        write_list(encoder, "iters", &steps, |step, it| it.int(*step));
        let used =
            steps.first().zip(steps.last()).map_or((0, 0), |(first, last)| (*first, last.saturating_add(1)));
        // At least 1, also for a range without steps: the UI offers indexes from 0 to one less.
        let longest = is_list(self.series_type).then_some(i64::from(longest.max(1)));
        write_batch_ranges(encoder, used, sequence.record_range_total, self.index_range, longest);
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        self.open.is_none()
    }
}

/// `longest` is absent for types with one object per step.
fn write_batch_ranges(
    encoder: &mut Encoder,
    used: (i64, i64),
    total: Option<StepRange>,
    index_range: Option<IndexRange>,
    longest: Option<i64>,
) {
    let total = total.unwrap_or_default();
    encoder.member("record_range_used", |it| write_pair(it, used.0, used.1));
    encoder.member("record_range_total", |it| {
        write_pair(it, total.start.unwrap_or(0), total.stop.unwrap_or(0));
    });
    encoder.member("index_range_used", |it| match longest {
        Some(longest) => write_index_used(it, index_range, longest),
        None => it.null(),
    });
    encoder.member("index_range_total", |it| match longest {
        Some(longest) => write_pair(it, 0, longest),
        None => it.null(),
    });
}

async fn step(
    call: Call<StepParameters, Json<Vec<SeriesName>>>,
    series_type: SeriesType,
) -> ApiResult<Entries> {
    let StepParameters { id, record_step, indexes } = call.parameters;
    let Json(sequences) = call.body;
    let index_range = index_range(&indexes.index_range)?;
    let backend = call.services.backend();
    if record_step < -1 {
        // No sequence has such a step, but an unknown run is still an error.
        backend.runs().get(GetRequest { run_id: id, parts: None }).await?;
        return Ok(Entries::complete(Encoder::new()));
    }
    let request = StepRequest {
        run_id: id,
        r#type: series_type.into(),
        sequences: sequences.into_iter().map(SeriesKey::from).collect(),
        step: (record_step >= 0).then_some(record_step),
        index_range,
        index_density: density(indexes.index_density),
    };
    let messages = backend.objects().step(request).await?.into_inner();
    stream_response::answer(messages, ObjectStepWriter { series_type, index_range }).await
}

struct ObjectStepWriter {
    series_type: SeriesType,
    index_range: Option<IndexRange>,
}

impl EntryWriter for ObjectStepWriter {
    type Message = StepResponse;

    fn write(&mut self, message: StepResponse, encoder: &mut Encoder) {
        let sequence = message.sequence.unwrap_or_default();
        let Some(step) = sequence.steps.first() else { return };
        encoder.member("name", |it| it.text(&sequence.name));
        encoder.member("context", |it| write_context(&sequence.context, it));
        write_list(encoder, "values", &step.objects, write_object);
        write_list(encoder, "iters", &[step.step], |step, it| it.int(*step));
        let longest = is_list(self.series_type).then_some(i64::from(step.object_count));
        let used = (step.step, step.step.saturating_add(1));
        write_batch_ranges(encoder, used, sequence.record_range_total, self.index_range, longest);
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        true
    }
}

/// Payloads, which the browser must not store.
struct Payloads(Entries);

impl Answer for Payloads {
    const MEDIA_TYPE: &str = Entries::MEDIA_TYPE;

    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

async fn blobs(call: Call<NoParameters, Json<Vec<String>>>) -> ApiResult<Payloads> {
    let Json(uris) = call.body;
    let request = BlobsRequest { uris: uris.clone() };
    let messages = call.services.backend().artifacts().blobs(request).await?.into_inner();
    let writer = BlobWriter { uris, remaining: 0 };
    Ok(Payloads(stream_response::answer(messages, writer).await?))
}

/// A payload is one entry, whose length precedes its bytes; the bytes are passed on as they
/// arrive.
struct BlobWriter {
    uris: Vec<String>,
    /// Number of bytes of the entry still to come.
    remaining: u64,
}

impl EntryWriter for BlobWriter {
    type Message = BlobsResponse;

    fn write(&mut self, message: BlobsResponse, encoder: &mut Encoder) {
        let Some(uri) = self.uris.get(message.index as usize) else { return };
        // Nothing remains of the previous payload, so this is the first chunk of the next.
        let is_first = self.remaining == 0;
        let bytes = message.chunk.len() as u64;
        if is_first {
            self.remaining = message.size;
            encoder.begin_bytes(uri, message.size);
        }
        if bytes > self.remaining || message.last != (bytes == self.remaining) {
            encoder.mark_inconsistent();
            return;
        }
        encoder.append_raw(&message.chunk);
        self.remaining -= bytes;
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        self.remaining == 0
    }
}
