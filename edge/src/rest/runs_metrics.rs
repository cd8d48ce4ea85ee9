//! Search for metrics with their points, and the x axes of charts.

use std::sync::Arc;

use http::Method;
use matyan_proto::common::v1::StepRange;
use matyan_proto::runs::v1::{Run, RunParts};
use matyan_proto::search::v1::metrics_request::Points;
use matyan_proto::search::v1::{MetricsRequest, MetricsResponse, RunMetrics, Warning};
use matyan_proto::series::v1::align_request::Axis;
use matyan_proto::series::v1::{
    AlignRequest, AlignResponse, AlignRun, AlignSeries, AlignedSeries, PointColumns, SeriesPoints,
};
use serde_json::Value;

use super::call::Call;
use super::request_schema::{Member, RequestSchema};
use super::runs_search::{query, search_error, write_context, write_params, write_props};
use super::shared::series_key;
use super::stream_response::{self, EntryWriter, ProgressWriter};
use super::table::{Answer, Operation, Output, Parameter, ParameterKind};
use crate::error::{ApiError, Problem};
use crate::services::Services;
use crate::stream::Encoder;

/// Marks a missing value in a column of epochs or times.
const ABSENT: i64 = i64::MIN;

const ALIGN: RequestSchema = RequestSchema::Record(&[
    Member::required("align_by", RequestSchema::Text),
    Member::required("runs", RequestSchema::List(&ALIGN_RUN)),
]);

const ALIGN_RUN: RequestSchema = RequestSchema::Record(&[
    Member::required("run_id", RequestSchema::Text),
    Member::required("traces", RequestSchema::List(&ALIGN_TRACE)),
]);

const ALIGN_TRACE: RequestSchema = RequestSchema::Record(&[
    Member::required("name", RequestSchema::Text),
    Member::required("context", RequestSchema::AnyObject),
    Member::required("slice", RequestSchema::Tuple(&RequestSchema::Int, 3)),
]);

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::GET,
            "/runs/search/metric",
            "Metric series that match a query, with their points, as a stream",
            |services, call| Box::pin(search(services, call)),
        )
        .zoned()
        .output(Output::SearchResults)
        .query(&[
            Parameter::new("q", ParameterKind::Text, Some("")),
            Parameter::new("p", ParameterKind::Int, Some("50")),
            Parameter::new("x_axis", ParameterKind::Text, None),
            Parameter::new("skip_system", ParameterKind::Bool, Some("true")),
            Parameter::new("report_progress", ParameterKind::Bool, Some("true")),
            Parameter::new("trace_chunk_size", ParameterKind::Int, Some("10")),
        ]),
        Operation::new(
            Method::POST,
            "/runs/search/metric/align",
            "X axis values of series from another metric, as a stream",
            |services, call| Box::pin(align(services, call)),
        )
        .output(Output::Bytes)
        .json(&ALIGN),
    ]
}

async fn search(services: Arc<Services>, call: Call) -> Answer {
    let points = call.int("p").unwrap_or_default();
    if points < 1 {
        let message = "Input should be greater than or equal to 1".to_owned();
        return Err(ApiError::validation(&[Problem { field: "p".to_owned(), message }]));
    }
    let density = u32::try_from(points).unwrap_or(u32::MAX);
    let parts = RunParts {
        props: true,
        params: true,
        system_params: !call.bool("skip_system"),
        ..Default::default()
    };
    let x_axis = call.text("x_axis").map(str::to_owned);
    let request = MetricsRequest {
        query: Some(query(&call)),
        parts: Some(parts),
        points: Some(Points::Density(density)),
        columns: Some(PointColumns { values: true, epochs: true, times: true }),
        x_axis: x_axis.clone(),
        ..Default::default()
    };
    let found = services.backend().search().metrics(request).await;
    let messages = found.map_err(|status| search_error(status, &call))?.into_inner();
    let writer = MetricSearchWriter {
        progress: ProgressWriter::new(call.bool("report_progress")),
        with_x_axis: x_axis.is_some(),
        open: None,
        done: false,
    };
    stream_response::answer(messages, writer).await
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

async fn align(services: Arc<Services>, call: Call) -> Answer {
    let requested = call.json["runs"].as_array().cloned().unwrap_or_default();
    let runs = requested.iter().map(align_run).collect();
    let axis = Axis::Metric(call.member("align_by").unwrap_or_default().to_owned());
    let request = AlignRequest { axis: Some(axis), runs, by_column: true };
    let messages = services.backend().series().align(request).await?.into_inner();
    stream_response::answer(
        messages,
        AlignWriter { requested, run: None, open: None, is_inconsistent: false },
    )
    .await
}

fn align_run(run: &Value) -> AlignRun {
    let series = |trace: &Value| {
        // The stop of a slice is inclusive; 0 means no limit.
        let stop = trace["slice"][1].as_i64().filter(|stop| *stop > 0);
        let steps = stop.map(|stop| StepRange { start: None, stop: Some(stop.saturating_add(1)) });
        AlignSeries { key: Some(series_key(trace)), steps }
    };
    AlignRun {
        run_id: run["run_id"].as_str().unwrap_or_default().to_owned(),
        series: run["traces"].as_array().into_iter().flatten().map(series).collect(),
    }
}

/// An array of doubles is one entry, whose length precedes its bytes; the bytes are passed on
/// as they arrive.
struct AlignWriter {
    requested: Vec<Value>,
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
        let trace = &requested["traces"][piece.series as usize];
        let mut fits = false;
        encoder.member(requested["run_id"].as_str().unwrap_or_default(), |it| {
            it.element(written, |it| {
                if !has_values {
                    it.member("name", |it| it.text(trace["name"].as_str().unwrap_or_default()));
                    it.member("context", |it| write_context(&trace["context"].to_string(), it));
                }
                let column = if has_values { "x_axis_iters" } else { "x_axis_values" };
                it.member(column, |it| fits = it.begin_doubles(piece.count));
            });
        });
        self.is_inconsistent |= !fits;
        piece.count
    }
}
