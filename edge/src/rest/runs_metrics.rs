//! Search for metrics with their points, and the x axes of charts.

use axum::Json;
use matyan_proto::ABSENT;
use matyan_proto::common::v1::{Access, StepRange};
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
use super::column_writer::ColumnWriter;
use super::operation::Operation;
use super::runs_search::{SearchParameters, write_context, write_params, write_props};
use super::search_writer::{RowWriter, SearchPage, SearchWriter};
use super::shared::{SeriesName, int};
use super::stream_response::{self, Entries, EntryWriter, SearchResults};
use crate::error::{ApiError, ApiResult, Problem};
use crate::stream::Encoder;

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
        )
        .access(Access::Read),
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
        by_column: true,
        ..Default::default()
    };
    let found = call.services.backend().search().metrics(request).await;
    let messages = found.map_err(|status| search.error(status))?.into_inner();
    let rows = MetricRowWriter { with_x_axis, open: None };
    stream_response::search_results(messages, SearchWriter::new(rows, search.progress())).await
}

/// Writes runs with metrics.
struct MetricRowWriter {
    with_x_axis: bool,
    open: Option<OpenRun>,
}

/// A run with more series to come.
struct OpenRun {
    run: Run,
    /// Number of series written completely.
    written: i64,
    trace: Option<OpenTrace>,
}

/// A trace that is written column by column.
#[derive(Default)]
struct OpenTrace {
    /// Index of the current column.
    column: usize,
    /// `None` before the first piece of the column.
    writer: Option<ColumnWriter>,
    last_step: i64,
}

/// The columns of points.
#[derive(Clone, Copy)]
enum TraceColumn {
    Iters,
    Values,
    Epochs,
    Timestamps,
    XAxisValues,
    XAxisIters,
}

impl TraceColumn {
    /// All columns, in the order in which the columns of a long series arrive.
    const ALL: [Self; 6] =
        [Self::Iters, Self::Values, Self::Epochs, Self::Timestamps, Self::XAxisValues, Self::XAxisIters];
    /// Number of columns that do not depend on an x axis.
    const OWN: usize = 4;

    fn key(self) -> &'static str {
        match self {
            Self::Iters => "iters",
            Self::Values => "values",
            Self::Epochs => "epochs",
            Self::Timestamps => "timestamps",
            Self::XAxisValues => "x_axis_values",
            Self::XAxisIters => "x_axis_iters",
        }
    }
}

impl RowWriter for MetricRowWriter {
    type Message = MetricsResponse;
    type Row = RunMetrics;

    fn warnings(message: &MetricsResponse) -> &[Warning] {
        &message.warnings
    }

    fn into_page(message: MetricsResponse) -> SearchPage<RunMetrics> {
        let MetricsResponse { runs, progress, done, .. } = message;
        SearchPage { rows: runs, progress, done }
    }

    fn write_row(&mut self, found: RunMetrics, encoder: &mut Encoder) {
        let OpenRun { run, mut written, mut trace } = match self.open.take() {
            Some(open) => open,
            None => {
                let run = found.run.unwrap_or_default();
                encoder.member(&run.run_id, |it| {
                    it.member("params", |it| write_params(&run, it));
                    it.member("traces", Encoder::array);
                });
                OpenRun { run, written: 0, trace: None }
            }
        };
        encoder.member(&run.run_id, |it| {
            it.member("traces", |it| {
                for points in &found.points {
                    it.element(written, |it| trace = self.write_points(points, trace.take(), it));
                    written += i64::from(trace.is_none());
                }
            });
            if !found.more {
                write_props(&run, it);
            }
        });
        if trace.is_some() && !found.more {
            encoder.mark_inconsistent();
        }
        self.open = found.more.then_some(OpenRun { run, written, trace });
    }

    fn is_complete(&self) -> bool {
        self.open.is_none()
    }
}

impl MetricRowWriter {
    /// Writes a series, or a piece of one of its columns. Returns the trace if it is incomplete.
    fn write_points(
        &self,
        points: &SeriesPoints,
        open: Option<OpenTrace>,
        encoder: &mut Encoder,
    ) -> Option<OpenTrace> {
        if open.is_none() {
            write_name(points, encoder);
            if !points.more {
                write_columns(points, self.with_x_axis, encoder);
                return None;
            }
        }
        let mut trace = open.unwrap_or_default();
        let columns =
            if self.with_x_axis { &TraceColumn::ALL[..] } else { &TraceColumn::ALL[..TraceColumn::OWN] };
        trace.write_piece(columns[trace.column], points, encoder);
        (trace.column < columns.len()).then_some(trace)
    }
}

impl OpenTrace {
    /// Writes a piece of a column.
    fn write_piece(&mut self, column: TraceColumn, points: &SeriesPoints, encoder: &mut Encoder) {
        if self.writer.is_none() {
            encoder.member(column.key(), |it| self.writer = Some(ColumnWriter::begin(points.count, it)));
        }
        let Some(writer) = &mut self.writer else { return };
        match column {
            TraceColumn::Iters => writer.append(iters(points), points.more, encoder),
            TraceColumn::Values => writer.append(points.values.iter().copied(), points.more, encoder),
            TraceColumn::Epochs => writer.append(epochs(points, points.epochs.len()), points.more, encoder),
            TraceColumn::Timestamps => {
                writer.append(timestamps(points, points.times_us.len()), points.more, encoder)
            }
            TraceColumn::XAxisValues => writer.append(points.x_values.iter().copied(), points.more, encoder),
            TraceColumn::XAxisIters => writer.append(x_axis_iters(points), points.more, encoder),
        }
        if matches!(column, TraceColumn::Iters) {
            self.last_step = points.steps.last().copied().unwrap_or(self.last_step);
            if !points.more {
                write_slice(self.last_step, encoder);
            }
        }
        if !points.more {
            self.column += 1;
            self.writer = None;
        }
    }
}

fn write_name(points: &SeriesPoints, encoder: &mut Encoder) {
    let (name, context) = points.info.as_ref().map_or(("", ""), |it| (&it.name, &it.context));
    encoder.member("name", |it| it.text(name));
    encoder.member("context", |it| write_context(context, it));
}

fn write_slice(last_step: i64, encoder: &mut Encoder) {
    encoder.member("slice", |it| {
        it.array();
        for (index, value) in [0, last_step, 1].into_iter().enumerate() {
            it.element(index as i64, |it| it.int(value));
        }
    });
}

/// Writes all columns of a series.
fn write_columns(points: &SeriesPoints, with_x_axis: bool, encoder: &mut Encoder) {
    let count = points.steps.len();
    write_slice(points.steps.last().copied().unwrap_or(0), encoder);
    encoder.member("values", |it| it.doubles(points.values.iter().copied()));
    encoder.member("iters", |it| it.doubles(iters(points)));
    encoder.member("epochs", |it| it.doubles(epochs(points, count)));
    encoder.member("timestamps", |it| it.doubles(timestamps(points, count)));
    if with_x_axis {
        encoder.member("x_axis_values", |it| it.doubles(points.x_values.iter().copied()));
        encoder.member("x_axis_iters", |it| it.doubles(x_axis_iters(points)));
    }
}

fn iters(points: &SeriesPoints) -> impl ExactSizeIterator<Item = f64> {
    points.steps.iter().map(|step| *step as f64)
}

fn epochs(points: &SeriesPoints, count: usize) -> impl ExactSizeIterator<Item = f64> {
    (0..count).map(|index| known(&points.epochs, index))
}

/// Times in seconds.
fn timestamps(points: &SeriesPoints, count: usize) -> impl ExactSizeIterator<Item = f64> {
    (0..count).map(|index| known(&points.times_us, index) / 1e6)
}

fn x_axis_iters(points: &SeriesPoints) -> impl ExactSizeIterator<Item = f64> {
    let steps = &points.steps;
    points.x_places.iter().map(|place| steps.get(*place as usize).map_or(f64::NAN, |step| *step as f64))
}

/// A value of a column; NaN if it is missing, because a number array has no null.
fn known(column: &[i64], index: usize) -> f64 {
    column.get(index).filter(|value| **value != ABSENT).map_or(f64::NAN, |value| *value as f64)
}

async fn align(call: Call<NoParameters, Json<Alignment>>) -> ApiResult<Entries> {
    let Json(Alignment { align_by, runs }) = call.body;
    let runs: Vec<AlignRun> = runs.into_iter().map(AlignRun::from).collect();
    let request = AlignRequest { axis: Some(Axis::Metric(align_by)), runs: runs.clone(), by_column: true };
    let messages = call.services.backend().series().align(request).await?.into_inner();
    let writer = AlignWriter { requested: runs, run: None, open: None };
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

struct AlignWriter {
    requested: Vec<AlignRun>,
    /// Index of the run written last, and the number of its series written so far.
    run: Option<(u32, i64)>,
    /// The series being written.
    open: Option<OpenSeries>,
}

#[derive(Default)]
struct OpenSeries {
    /// Whether the x values are complete, and their steps come next.
    has_values: bool,
    /// `None` before the first piece of the column.
    writer: Option<ColumnWriter>,
}

impl EntryWriter for AlignWriter {
    type Message = AlignResponse;

    fn write(&mut self, message: AlignResponse, encoder: &mut Encoder) {
        if self.run.is_none_or(|(run, _)| run != message.run) {
            encoder.member(&message.run_id, Encoder::array);
            self.run = Some((message.run, 0));
        }
        for piece in message.series {
            self.write_piece(&piece, encoder);
        }
    }

    fn finish(&mut self, _: &mut Encoder) -> bool {
        self.open.is_none()
    }
}

impl AlignWriter {
    /// Writes a piece of the x values, or of their steps, which follow them.
    fn write_piece(&mut self, piece: &AlignedSeries, encoder: &mut Encoder) {
        let OpenSeries { has_values, writer } = self.open.take().unwrap_or_default();
        let Some(mut writer) = writer.or_else(|| self.begin_column(piece, has_values, encoder)) else {
            encoder.mark_inconsistent();
            return;
        };
        if has_values {
            writer.append(piece.steps.iter().map(|step| *step as f64), piece.more, encoder);
        } else {
            writer.append(piece.x_values.iter().copied(), piece.more, encoder);
        }
        if piece.more {
            self.open = Some(OpenSeries { has_values, writer: Some(writer) });
        } else if has_values {
            self.run = self.run.map(|(run, written)| (run, written + 1));
        } else {
            self.open = Some(OpenSeries { has_values: true, writer: None });
        }
    }

    fn begin_column(
        &mut self,
        piece: &AlignedSeries,
        has_values: bool,
        encoder: &mut Encoder,
    ) -> Option<ColumnWriter> {
        let (run, written) = self.run.unwrap_or_default();
        let requested = &self.requested[run as usize];
        let key = requested.series[piece.series as usize].key.as_ref();
        let mut writer = None;
        encoder.member(&requested.run_id, |it| {
            it.element(written, |it| {
                if let Some(key) = key.filter(|_| !has_values) {
                    it.member("name", |it| it.text(&key.name));
                    it.member("context", |it| write_context(&key.context, it));
                }
                let column = if has_values { "x_axis_iters" } else { "x_axis_values" };
                it.member(column, |it| writer = Some(ColumnWriter::begin(piece.count, it)));
            });
        });
        writer
    }
}
