//! Points as rows: the points of each series in messages of a search, one after the other.

use std::{collections::VecDeque, sync::Arc};

use arrow_array::{Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use matyan_proto::{
    export::v1::MetricsRequest,
    runs::v1::RunParts,
    search::v1::{self as search, MetricsResponse, metrics_request::Points},
    series::v1::{PointColumns, SeriesPoints},
};

use super::{
    file::{BATCH_ROWS, BATCH_TEXT_BYTES, RowsError, SearchStatus, TableRows},
    row_columns::{CurrentRun, RowColumns, SeriesTexts},
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

pub(super) struct MetricRows {
    schema: SchemaRef,
    run: CurrentRun,
    /// The series that is being read.
    series: Option<Arc<SeriesTexts>>,
    /// Pending points; the first `used` points of the first entry are already in a batch.
    pending: VecDeque<(Arc<SeriesTexts>, SeriesPoints)>,
    used: usize,
    columns: PointRows,
}

/// The columns of a batch.
#[derive(Default)]
struct PointRows {
    rows: RowColumns,
    values: Vec<f64>,
    /// Size of the texts, or more if some repeat.
    text_bytes: usize,
}

impl MetricRows {
    pub(super) fn new() -> Self {
        let mut fields = RowColumns::fields();
        fields.push(Field::new("value", DataType::Float64, false));
        Self {
            schema: Arc::new(Schema::new(fields)),
            run: CurrentRun::default(),
            series: None,
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
            if self.run.update(found.run) {
                self.series = None;
            }
            for points in found.points {
                // Only the first piece of a series has its name.
                if let Some(info) = &points.info {
                    self.series = Some(self.run.series(info.name.clone(), &info.context));
                }
                if let Some(series) = &self.series {
                    self.pending.push_back((series.clone(), points));
                }
            }
        }
        SearchStatus { progress: message.progress, warnings: message.warnings, done: message.done }
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, RowsError> {
        while let Some((series, points)) = self.pending.front() {
            let left = points.steps.len() - self.used;
            let count = left.min(BATCH_ROWS - self.columns.rows.steps.len());
            self.columns.push(series, points, self.used, count)?;
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
        if self.columns.rows.steps.is_empty() {
            Ok(None)
        } else {
            Ok(Some(self.columns.finish(&self.schema)?))
        }
    }
}

impl PointRows {
    fn is_full(&self) -> bool {
        self.rows.steps.len() == BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES
    }

    fn push(
        &mut self,
        series: &SeriesTexts,
        points: &SeriesPoints,
        start: usize,
        count: usize,
    ) -> Result<(), RowsError> {
        if count == 0 {
            return Ok(());
        }
        self.rows.append_series(series, count)?;
        self.text_bytes += series.bytes();
        let range = start..start + count;
        self.rows.steps.extend_from_slice(&points.steps[range.clone()]);
        self.rows.epochs.extend_from_slice(&points.epochs[range.clone()]);
        self.rows.times_us.extend_from_slice(&points.times_us[range.clone()]);
        self.values.extend_from_slice(&points.values[range]);
        Ok(())
    }

    /// The rows as a batch, after which there are none.
    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, RowsError> {
        let Self { rows, values, .. } = std::mem::take(self);
        let mut columns = rows.finish();
        columns.push(Arc::new(Float64Array::from(values)));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
