//! Search for metrics with their points, and the x axes of charts.

use axum::Json;
use matyan_proto::common::v1::StepRange;
use matyan_proto::runs::v1::Run;
use matyan_proto::search::v1::metrics_request::Points;
use matyan_proto::search::v1::{MetricsRequest, MetricsResponse, RunMetrics, Warning};
use matyan_proto::series::v1::align_request::Axis;
use matyan_proto::series::v1::{
    AlignRequest, AlignResponse, AlignRun, AlignSeries, AlignedSeries, PointColumns, SeriesPoints,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::call::{Call, NoParameters, TimeZone};
use super::operation::Operation;
use super::runs_search::{SearchParameters, write_context, write_params, write_props};
use super::shared::{SeriesName, int};
use super::stream_response::{self, Entries, EntryWriter, ProgressWriter, SearchResults};
use crate::error::{ApiError, ApiResult, Problem};
use crate::stream::Encoder;

/// Marks a missing value in a column of epochs or times.
const ABSENT: i64 = i64::MIN;

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/runs/search/metric",
            "Metric series that match a query, with their points, as a stream",
            search,
        ),
        Operation::post(
            "/runs/search/metric/align",
            "X axis values of series from another metric, as a stream",
            align,
        ),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct MetricSearchParameters {
    #[serde(default = "int::<50>")]
    p: i64,
    x_axis: Option<String>,
    #[serde(flatten)]
    search: SearchParameters,
    /// Accepted because clients send it, but without effect.
    #[serde(default = "int::<10>", rename = "trace_chunk_size")]
    _trace_chunk_size: i64,
    #[serde(flatten)]
    zone: TimeZone,
}

#[derive(Deserialize, JsonSchema)]
struct Alignment {
    align_by: String,
    runs: Vec<AlignedRun>,
}

#[derive(Deserialize, JsonSchema)]
struct AlignedRun {
    run_id: String,
    traces: Vec<AlignedTrace>,
}

/// A series with its first step, last step, and step size.
#[derive(Deserialize, JsonSchema)]
struct AlignedTrace {
    #[serde(flatten)]
    series: SeriesName,
    slice: [i64; 3],
}

async fn search(call: Call<MetricSearchParameters>) -> ApiResult<SearchResults> {
    let MetricSearchParameters { p: points, x_axis, search, zone, .. } = call.parameters;
    if points < 1 {
        let message = "Input should be greater than or equal to 1".to_owned();
        return Err(ApiError::validation(&[Problem { field: "p".to_owned(), message }]));
    }
    let density = u32::try_from(points).unwrap_or(u32::MAX);
    let with_x_axis = x_axis.is_some();
    let request = MetricsRequest {
        query: Some(search.query(&zone)),
        parts: Some(search.parts()),
        points: Some(Points::Density(density)),
        columns: Some(PointColumns { values: true, epochs: true, times: true }),
        x_axis,
        ..Default::default()
    };
    let found = call.services.backend().search().metrics(request).await;
    let messages = found.map_err(|status| search.error(status))?.into_inner();
    let writer = MetricSearchWriter { progress: search.progress(), with_x_axis, open: None, done: false };
    stream_response::search_results(messages, writer).await
}

struct MetricSearchWriter {
    progress: ProgressWriter,
    with_x_axis: bool,
    /// A run with more series to come, and the number of series written so far.
    open: Option<(Run, i64)>,
    done: bool,
}

impl EntryWriter for MetricSearchWriter {
    type Message = MetricsResponse;

    fn warnings(message: &MetricsResponse) -> &[Warning] {
        &message.warnings
    }

    fn write(&mut self, message: MetricsResponse, encoder: &mut Encoder) {
        let is_keep_alive = message.runs.is_empty() && !message.done;
        for found in message.runs {
            self.write_run(found, encoder);
        }
        // A progress entry in the middle of a run would split its tree.
        if let (Some(progress), None) = (&message.progress, &self.open) {
            self.progress.write_search_progress(encoder, progress, is_keep_alive);
        }
        self.done |= message.done;
    }

    fn finish(&mut self, encoder: &mut Encoder) -> bool {
        self.progress.write_end(encoder);
        self.done && self.open.is_none()
    }
}

impl MetricSearchWriter {
    fn write_run(&mut self, found: RunMetrics, encoder: &mut Encoder) {
        let (run, sent) = match self.open.take() {
            Some(open) => open,
            None => {
                let run = found.run.unwrap_or_default();
                encoder.member(&run.run_id, |it| {
                    it.member("params", |it| write_params(&run, it));
                    it.member("traces", Encoder::array);
                });
                (run, 0)
            }
        };
        encoder.member(&run.run_id, |it| {
            it.member("traces", |it| {
                for (index, points) in (sent..).zip(&found.points) {
                    it.element(index, |it| write_trace(points, self.with_x_axis, it));
                }
            });
            if !found.more {
                write_props(&run, it);
            }
        });
        self.open = found.more.then_some((run, sent + found.points.len() as i64));
    }
}

fn write_trace(points: &SeriesPoints, with_x_axis: bool, encoder: &mut Encoder) {
    let (name, context) = points.info.as_ref().map_or(("", ""), |it| (&it.name, &it.context));
    let steps = &points.steps;
    encoder.member("name", |it| it.text(name));
    encoder.member("context", |it| write_context(context, it));
    encoder.member("slice", |it| {
        it.array();
        for (index, value) in [0, steps.last().copied().unwrap_or(0), 1].into_iter().enumerate() {
            it.element(index as i64, |it| it.int(value));
        }
    });
    encoder.member("values", |it| it.doubles(points.values.iter().copied()));
    encoder.member("iters", |it| it.doubles(steps.iter().map(|step| *step as f64)));
    // A number array has no null, so missing values become NaN.
    let known = |column: &[i64], index: usize| {
        column.get(index).filter(|value| **value != ABSENT).map_or(f64::NAN, |value| *value as f64)
    };
    let epoch = |index| known(&points.epochs, index);
    encoder.member("epochs", |it| it.doubles((0..steps.len()).map(epoch)));
    let time = |index| known(&points.times_us, index) / 1e6;
    encoder.member("timestamps", |it| it.doubles((0..steps.len()).map(time)));
    if with_x_axis {
        let x_step = |place: &u32| steps.get(*place as usize).map_or(f64::NAN, |step| *step as f64);
        encoder.member("x_axis_values", |it| it.doubles(points.x_values.iter().copied()));
        encoder.member("x_axis_iters", |it| it.doubles(points.x_places.iter().map(x_step)));
    }
}

async fn align(call: Call<NoParameters, Json<Alignment>>) -> ApiResult<Entries> {
    let Json(Alignment { align_by, runs }) = call.body;
    let runs: Vec<AlignRun> = runs.into_iter().map(AlignRun::from).collect();
    let request = AlignRequest { axis: Some(Axis::Metric(align_by)), runs: runs.clone(), by_column: true };
    let messages = call.services.backend().series().align(request).await?.into_inner();
    let writer = AlignWriter { requested: runs, run: None, open: None, is_inconsistent: false };
    stream_response::answer(messages, writer).await
}

impl From<AlignedRun> for AlignRun {
    fn from(AlignedRun { run_id, traces }: AlignedRun) -> Self {
        AlignRun { run_id, series: traces.into_iter().map(AlignSeries::from).collect() }
    }
}

impl From<AlignedTrace> for AlignSeries {
    fn from(AlignedTrace { series, slice: [_, stop, _] }: AlignedTrace) -> Self {
        // The stop of a slice is inclusive; 0 means no limit.
        let steps = (stop > 0).then(|| StepRange { start: None, stop: Some(stop.saturating_add(1)) });
        AlignSeries { key: Some(series.into()), steps }
    }
}

/// An array of doubles is one entry, whose length precedes its bytes; the bytes are passed on
/// as they arrive.
struct AlignWriter {
    requested: Vec<AlignRun>,
    /// Index of the run written last, and the number of its series written so far.
    run: Option<(u32, i64)>,
    /// The series being written.
    open: Option<OpenSeries>,
    /// True if an entry did not match its announced length, so that the rest of the body
    /// would be unreadable.
    is_inconsistent: bool,
}

#[derive(Default)]
struct OpenSeries {
    /// Whether the x values are complete, and their steps come next.
    has_values: bool,
    /// Number of values of the column still to come; `None` before the first.
    remaining: Option<u64>,
}

impl EntryWriter for AlignWriter {
    type Message = AlignResponse;

    fn write(&mut self, message: AlignResponse, encoder: &mut Encoder) {
        if self.run.is_none_or(|(run, _)| run != message.run) {
            encoder.member(&message.run_id, Encoder::array);
            self.run = Some((message.run, 0));
        }
        for piece in message.series {
            if !self.is_inconsistent {
                self.write_piece(&piece, encoder);
            }
        }
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        !self.is_inconsistent && self.open.is_none()
    }
}

impl AlignWriter {
    /// Writes a piece of the x values, or of their steps, which follow them.
    fn write_piece(&mut self, piece: &AlignedSeries, encoder: &mut Encoder) {
        let OpenSeries { has_values, remaining } = self.open.take().unwrap_or_default();
        let remaining = remaining.unwrap_or_else(|| self.begin_column(piece, has_values, encoder));
        let numbers: Vec<u8> = match has_values {
            false => piece.x_values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            true => piece.steps.iter().flat_map(|step| (*step as f64).to_le_bytes()).collect(),
        };
        let count = numbers.len() as u64 / 8;
        self.is_inconsistent |= count > remaining || !piece.more && count < remaining;
        if self.is_inconsistent {
            return;
        }
        encoder.append_raw(&numbers);
        if piece.more {
            self.open = Some(OpenSeries { has_values, remaining: Some(remaining - count) });
        } else if has_values {
            self.run = self.run.map(|(run, written)| (run, written + 1));
        } else {
            self.open = Some(OpenSeries { has_values: true, remaining: None });
        }
    }

    /// Begins a column, and returns the number of its values.
    fn begin_column(&mut self, piece: &AlignedSeries, has_values: bool, encoder: &mut Encoder) -> u64 {
        let (run, written) = self.run.unwrap_or_default();
        let requested = &self.requested[run as usize];
        let key = requested.series[piece.series as usize].key.as_ref();
        let mut fits = false;
        encoder.member(&requested.run_id, |it| {
            it.element(written, |it| {
                if let Some(key) = key.filter(|_| !has_values) {
                    it.member("name", |it| it.text(&key.name));
                    it.member("context", |it| write_context(&key.context, it));
                }
                let column = if has_values { "x_axis_iters" } else { "x_axis_values" };
                it.member(column, |it| fits = it.begin_doubles(piece.count));
            });
        });
        self.is_inconsistent |= !fits;
        piece.count
    }
}
