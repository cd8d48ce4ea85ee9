//! Runs as rows: their properties, and columns of params and metrics. A first search finds the
//! columns, a second one the rows.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, RecordBatch, TimestampMicrosecondArray,
    builder::{BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use matyan_model::series::RunRef;
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    export::v1::RunsRequest,
    runs::v1::{ParamPath, Props, Run, RunParts},
    search::v1::Query,
};
use matyan_ql::Endpoint;
use matyan_store::Snapshot;

use super::{
    file::{BATCH_ROWS, BATCH_TEXT_BYTES, RowsError, SearchStatus, TableRows},
    params::{ParamBatch, ParamType, SeenParams},
    row_columns::{context_json, time},
    run_selection::{MAX_NAMES, run_numbers},
};
use crate::{
    query::{
        candidates::{Sequence, newest_run},
        catalog::Catalog,
        plan::compile_query,
        row_stream::MessageStatus,
        search::{SearchScope, SequenceKind, SequencePage, SequenceSearch},
    },
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        stream::{Sender, StreamEnd},
    },
};

/// Cells in a batch, for tables of many columns.
const BATCH_CELLS: usize = 1 << 18;

/// A validated request.
pub(super) struct RunExport {
    catalog: Catalog,
    query: Option<Query>,
    scope: SearchScope,
    /// `None`: no params.
    param_paths: Option<Vec<ParamPath>>,
    /// With contexts in canonical form.
    metrics: Vec<SeriesKey>,
}

impl RunExport {
    pub(super) async fn new(catalog: &Catalog, call: &Call, request: RunsRequest) -> Result<Self> {
        convert::check_limit("metrics", request.metrics.len(), MAX_NAMES)?;
        if request.no_params && !request.param_paths.is_empty() {
            return Err(Error::field("no_params", "excludes `param_paths`: set one of them"));
        }
        let metrics = request
            .metrics
            .into_iter()
            .map(|key| {
                let context = convert::context(&key)?.canonical().to_owned();
                Ok(SeriesKey { context, ..key })
            })
            .collect::<Result<_>>()?;
        let runs = run_numbers(&catalog.deps, call, &request.run_ids).await?;
        let newest = Some(newest_run(&catalog.deps, call.project).await?);
        let scope = SearchScope { runs, newest };
        let param_paths = (!request.no_params).then_some(request.param_paths);
        Ok(Self { catalog: catalog.clone(), query: request.query, scope, param_paths, metrics })
    }

    /// A search for the rows.
    pub(super) async fn search(&self, call: Call) -> Result<SequenceSearch> {
        let mut parts = RunParts { props: true, ..self.params() };
        if !self.metrics.is_empty() {
            parts.series_types = vec![SeriesType::Metric.into()];
            parts.series_keys.clone_from(&self.metrics);
        }
        self.search_parts(call, parts).await
    }

    /// The params to read.
    fn params(&self) -> RunParts {
        let paths = self.param_paths.clone().unwrap_or_default();
        let all = self.param_paths.as_ref().is_some_and(Vec::is_empty);
        RunParts { params: all, param_paths: paths, ..RunParts::default() }
    }

    async fn search_parts(&self, call: Call, parts: RunParts) -> Result<SequenceSearch> {
        let page = SequencePage::new(Endpoint::Run, self.query.as_ref(), 0, String::new());
        let compiled = compile_query(&self.catalog.deps, self.query.clone(), Endpoint::Run).await?;
        let search = SequenceSearch::new(&self.catalog, call, compiled, Some(parts), page)?;
        Ok(search.within(self.scope.clone()))
    }

    /// The columns of params, from their own search.
    pub(super) async fn rows<T>(&self, call: Call, sender: &Sender<T>) -> Result<RunRows, StreamEnd> {
        if self.param_paths.is_none() {
            return Ok(RunRows::new(Vec::new(), &self.metrics));
        }
        let search = self.search_parts(call, self.params()).await?;
        let (messages, mut found) = sender.inner();
        let searching = Box::pin(async move { search.send(WholeRuns, &messages, None).await });
        let reading = async {
            let mut seen = SeenParams::default();
            while let Some(FoundRuns { runs, .. }) = found.recv().await {
                let add = move || -> Result<SeenParams> {
                    for run in &runs {
                        seen.add(&run.params)?;
                    }
                    Ok(seen)
                };
                seen = self.catalog.deps.evaluation.run(add).await??;
            }
            Ok::<_, StreamEnd>(seen)
        };
        let ((), seen) = tokio::try_join!(searching, reading)?;
        Ok(RunRows::new(seen.into_columns(), &self.metrics))
    }
}

/// Runs without sequences.
pub(super) struct WholeRuns;

pub(super) struct FoundRuns {
    runs: Vec<Run>,
    status: MessageStatus,
}

impl SequenceKind for WholeRuns {
    type Message = FoundRuns;
    type Row = Run;
    type Piece = ();
    type State = ();

    async fn read(
        &self,
        _: &Deps,
        _: &Call,
        _: &dyn Snapshot,
        _: RunRef,
        sequences: &[Sequence],
        (): &mut (),
    ) -> Result<(Vec<()>, usize)> {
        Ok((Vec::new(), sequences.len()))
    }

    fn is_partial((): &()) -> bool {
        false
    }

    fn bytes((): &()) -> usize {
        0
    }

    fn row(&self, run: Run, _: Vec<()>, _: bool) -> Run {
        run
    }

    fn message(runs: Vec<Run>, status: MessageStatus) -> FoundRuns {
        FoundRuns { runs, status }
    }
}

pub(super) struct RunRows {
    schema: SchemaRef,
    pending: VecDeque<Run>,
    batch_rows: usize,
    row_count: usize,
    text_bytes: usize,
    props: PropsBatch,
    params: ParamBatch,
    /// Columns of metrics, by their keys.
    metrics: HashMap<(String, String), usize>,
    values: Vec<Float64Builder>,
}

impl RunRows {
    fn new(params: Vec<(String, ParamType)>, metrics: &[SeriesKey]) -> Self {
        let mut fields = PropsBatch::fields();
        let batch = ParamBatch::new(&params);
        fields.extend(params.into_iter().map(|(name, of)| Field::new(name, of.data_type(), true)));
        let mut columns = HashMap::new();
        for SeriesKey { name, context } in metrics {
            let at = columns.len();
            columns.entry((name.clone(), context.clone())).or_insert_with(|| {
                let name = format!("metrics.{name} {context}");
                fields.push(Field::new(name, DataType::Float64, true));
                at
            });
        }
        Self {
            batch_rows: (BATCH_CELLS / fields.len()).min(BATCH_ROWS),
            schema: Arc::new(Schema::new(fields)),
            pending: VecDeque::new(),
            row_count: 0,
            text_bytes: 0,
            props: PropsBatch::default(),
            params: batch,
            values: columns.iter().map(|_| Float64Builder::new()).collect(),
            metrics: columns,
        }
    }

    fn push(&mut self, run: Run) -> Result<(), RowsError> {
        let props = run.props.unwrap_or_default();
        self.text_bytes += run.params.len() + props.name.len() + props.description.len();
        self.props.push(&run.run_id, &props);
        self.params.push(&run.params).map_err(RowsError::Failed)?;
        let mut row = vec![None; self.values.len()];
        for series in run.series {
            let key = (series.name, context_json(&series.context).to_owned());
            if let Some(at) = self.metrics.get(&key) {
                row[*at] = series.last;
            }
        }
        for (column, value) in self.values.iter_mut().zip(row) {
            column.append_option(value);
        }
        self.row_count += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch, RowsError> {
        self.row_count = 0;
        self.text_bytes = 0;
        let mut columns = std::mem::take(&mut self.props).finish();
        columns.extend(self.params.finish());
        columns.extend(self.values.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl TableRows for RunRows {
    type Message = FoundRuns;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn add(&mut self, FoundRuns { runs, status }: FoundRuns) -> SearchStatus {
        self.pending.extend(runs);
        let MessageStatus { progress, warnings, done, .. } = status;
        SearchStatus { progress, warnings, done }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        while let Some(run) = self.pending.pop_front() {
            self.push(run)?;
            if self.row_count == self.batch_rows || self.text_bytes >= BATCH_TEXT_BYTES {
                return Ok(Some(self.finish()?));
            }
        }
        Ok(None)
    }

    fn rest(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        if self.row_count == 0 { Ok(None) } else { Ok(Some(self.finish()?)) }
    }
}

/// The properties of the runs in a batch.
#[derive(Default)]
struct PropsBatch {
    run: StringBuilder,
    name: StringBuilder,
    experiment: StringBuilder,
    description: StringBuilder,
    tags: ListBuilder<StringBuilder>,
    created_us: Vec<i64>,
    ended_us: Vec<Option<i64>>,
    duration_s: Vec<Option<f64>>,
    active: BooleanBuilder,
    archived: BooleanBuilder,
    outcome: StringBuilder,
    parent: ParentBatch,
}

/// The parents of the runs in a batch.
#[derive(Default)]
struct ParentBatch {
    run: StringBuilder,
    /// The last step that a run shares with its parent.
    step: Int64Builder,
}

impl PropsBatch {
    fn fields() -> Vec<Field> {
        let tags = DataType::new_list(DataType::Utf8, true);
        vec![
            Field::new("run", DataType::Utf8, false),
            Field::new("name", DataType::Utf8, false),
            Field::new("experiment", DataType::Utf8, true),
            Field::new("description", DataType::Utf8, false),
            Field::new("tags", tags, false),
            Field::new("created", time(), false),
            Field::new("ended", time(), true),
            Field::new("duration", DataType::Float64, true),
            Field::new("active", DataType::Boolean, false),
            Field::new("archived", DataType::Boolean, false),
            Field::new("outcome", DataType::Utf8, true),
            Field::new("parent", DataType::Utf8, true),
            Field::new("parent_step", DataType::Int64, true),
        ]
    }

    fn push(&mut self, run_id: &str, props: &Props) {
        self.run.append_value(run_id);
        self.name.append_value(&props.name);
        self.experiment.append_option(props.experiment.as_ref().map(|experiment| &experiment.name));
        self.description.append_value(&props.description);
        self.tags.append_value(props.tags.iter().map(|tag| Some(&tag.name)));
        self.created_us.push(props.created_us);
        self.ended_us.push(props.ended_us);
        let duration_us = props.ended_us.map(|ended_us| ended_us.saturating_sub(props.created_us));
        self.duration_s.push(duration_us.map(|duration_us| duration_us as f64 / 1e6));
        self.active.append_value(props.active);
        self.archived.append_value(props.archived);
        self.outcome.append_option(props.outcome.as_ref().and_then(|outcome| outcome.kind().name()));
        self.parent.run.append_option(props.parent.as_ref().map(|parent| &parent.run_id));
        self.parent.step.append_option(props.parent.as_ref().and_then(|parent| parent.step));
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.run.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.experiment.finish()),
            Arc::new(self.description.finish()),
            Arc::new(self.tags.finish()),
            Arc::new(TimestampMicrosecondArray::from(self.created_us).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(self.ended_us).with_timezone("UTC")),
            Arc::new(arrow_array::Float64Array::from(self.duration_s)),
            Arc::new(self.active.finish()),
            Arc::new(self.archived.finish()),
            Arc::new(self.outcome.finish()),
            Arc::new(self.parent.run.finish()),
            Arc::new(self.parent.step.finish()),
        ]
    }
}
