//! Points as rows: the points of each series in messages of a search, one after the other.

use std::{collections::VecDeque, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    builder::StringDictionaryBuilder, types::Int32Type,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use matyan_model::series::ABSENT;
use matyan_proto::{
    export::v1::MetricsRequest,
    runs::v1::RunParts,
    search::v1::{self as search, MetricsResponse, metrics_request::Points},
    series::v1::{PointColumns, SeriesPoints},
};

use super::{
    file::{BATCH_ROWS, BATCH_TEXT_BYTES, RowsError, SearchStatus, TableRows},
    run_selection::{MAX_NAMES, run_numbers},
};
use crate::{
    query::{
        catalog::Catalog,
        search::{MetricSequences, SearchScope, SequenceSearch, search_metrics},
    },
    server::{call::Call, convert, error::Result},
};

/// The search for the points of a request.
pub(super) async fn search(
    catalog: &Catalog,
    call: Call,
    request: MetricsRequest,
) -> Result<(SequenceSearch, MetricSequences)> {
    convert::check_limit("names", request.names.len(), MAX_NAMES)?;
    let runs = run_numbers(&catalog.deps, &call, &request.run_ids).await?;
    let scope = SearchScope { runs, newest: None };
    let names = request.names;
    let request = search::MetricsRequest {
        query: request.query,
        parts: Some(RunParts { props: true, ..RunParts::default() }),
        points: Some(Points::Density(0)),
        columns: Some(PointColumns { values: true, epochs: true, times: true }),
        steps: request.steps,
        ..search::MetricsRequest::default()
    };
    let (search, sequences) = search_metrics(catalog, call, request).await?;
    Ok((search.within(scope), sequences.with_names(names)))
}

/// A type for texts that repeat.
pub(super) fn repeated_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A time in UTC with microseconds.
pub(super) fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A context as JSON: the store has no text for an empty one.
pub(super) fn context_json(stored: &str) -> &str {
    if stored.is_empty() { "{}" } else { stored }
}

/// The texts of all rows of a series.
struct SeriesLabels {
    run: Arc<str>,
    experiment: Option<Arc<str>>,
    name: String,
    context: String,
}

pub(super) struct MetricRows {
    schema: SchemaRef,
    /// The run that is being read.
    run: Arc<str>,
    experiment: Option<Arc<str>>,
    /// The series that is being read.
    labels: Option<Arc<SeriesLabels>>,
    /// Pending points; the first `used` points of the first entry are already in a batch.
    pending: VecDeque<(Arc<SeriesLabels>, SeriesPoints)>,
    used: usize,
    columns: PointRows,
}

/// The columns of a batch.
#[derive(Default)]
struct PointRows {
    run: StringDictionaryBuilder<Int32Type>,
    experiment: StringDictionaryBuilder<Int32Type>,
    name: StringDictionaryBuilder<Int32Type>,
    context: StringDictionaryBuilder<Int32Type>,
    steps: Vec<i64>,
    epochs: Vec<Option<i64>>,
    times_us: Vec<Option<i64>>,
    values: Vec<f64>,
    /// Size of the texts, or more if some repeat.
    text_bytes: usize,
}

impl MetricRows {
    pub(super) fn new() -> Self {
        let schema = Schema::new(vec![
            Field::new("run", repeated_text(), false),
            Field::new("experiment", repeated_text(), true),
            Field::new("name", repeated_text(), false),
            Field::new("context", repeated_text(), false),
            Field::new("step", DataType::Int64, false),
            Field::new("epoch", DataType::Int64, true),
            Field::new("time", time(), true),
            Field::new("value", DataType::Float64, false),
        ]);
        Self {
            schema: Arc::new(schema),
            run: "".into(),
            experiment: None,
            labels: None,
            pending: VecDeque::new(),
            used: 0,
            columns: PointRows::default(),
        }
    }
}

impl TableRows for MetricRows {
    type Message = MetricsResponse;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn add(&mut self, message: MetricsResponse) -> SearchStatus {
        for found in message.runs {
            let run = found.run.unwrap_or_default();
            // Only the first message of a run has its properties.
            if let Some(props) = run.props {
                self.run = run.run_id.into();
                self.experiment = props.experiment.map(|experiment| experiment.name.into());
                self.labels = None;
            }
            for points in found.points {
                // Only the first piece of a series has its name.
                if let Some(info) = &points.info {
                    self.labels = Some(Arc::new(SeriesLabels {
                        run: self.run.clone(),
                        experiment: self.experiment.clone(),
                        name: info.name.clone(),
                        context: context_json(&info.context).to_owned(),
                    }));
                }
                if let Some(labels) = &self.labels {
                    self.pending.push_back((labels.clone(), points));
                }
            }
        }
        SearchStatus { progress: message.progress, warnings: message.warnings, done: message.done }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        while let Some((labels, points)) = self.pending.front() {
            let left = points.steps.len() - self.used;
            let count = left.min(BATCH_ROWS - self.columns.steps.len());
            self.columns.push(labels, points, self.used, count)?;
            self.used += count;
            if count == left {
                self.pending.pop_front();
                self.used = 0;
            }
            if self.columns.is_full() {
                return Ok(Some(self.columns.finish(&self.schema)?));
            }
        }
        Ok(None)
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        if self.columns.steps.is_empty() { Ok(None) } else { Ok(Some(self.columns.finish(&self.schema)?)) }
    }
}

impl PointRows {
    fn is_full(&self) -> bool {
        self.steps.len() == BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES
    }

    fn push(
        &mut self,
        labels: &SeriesLabels,
        points: &SeriesPoints,
        start: usize,
        count: usize,
    ) -> Result<(), RowsError> {
        let SeriesLabels { run, experiment, name, context } = labels;
        if count == 0 {
            return Ok(());
        }
        self.run.append_n(run, count)?;
        match experiment {
            Some(experiment) => {
                self.experiment.append_n(experiment, count)?;
            }
            None => self.experiment.append_nulls(count),
        }
        self.name.append_n(name, count)?;
        self.context.append_n(context, count)?;
        let experiment_bytes = experiment.as_ref().map_or(0, |experiment| experiment.len());
        self.text_bytes += run.len() + experiment_bytes + name.len() + context.len();
        let known = |value: &i64| (*value != ABSENT).then_some(*value);
        let range = start..start + count;
        self.steps.extend_from_slice(&points.steps[range.clone()]);
        self.epochs.extend(points.epochs[range.clone()].iter().map(known));
        self.times_us.extend(points.times_us[range.clone()].iter().map(known));
        self.values.extend_from_slice(&points.values[range]);
        Ok(())
    }

    /// The rows as a batch, after which there are none.
    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, RowsError> {
        let Self { mut run, mut experiment, mut name, mut context, steps, epochs, times_us, values, .. } =
            std::mem::take(self);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(run.finish()),
            Arc::new(experiment.finish()),
            Arc::new(name.finish()),
            Arc::new(context.finish()),
            Arc::new(Int64Array::from(steps)),
            Arc::new(Int64Array::from(epochs)),
            Arc::new(TimestampMicrosecondArray::from(times_us).with_timezone("UTC")),
            Arc::new(Float64Array::from(values)),
        ];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
