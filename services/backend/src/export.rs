//! Exports: what a search finds, as a file. The search sends its messages to the same task, which
//! turns them into rows, batches of rows into bytes, and sends those. Everything that uses the
//! processor runs on the threads of queries.

mod file;
mod metrics;
mod objects;
mod params;
mod runs;

use std::sync::Arc;

use file::FileExport;
use matyan_export::TableFormat;
use matyan_model::ids::RunNumber;
use matyan_proto::{
    export::v1::{self as pb, export_service_server::ExportService},
    limits,
};
use runs::{RunExport, WholeRuns};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response};

use crate::{
    Backend, Deps, RpcResult,
    call::Call,
    convert,
    error::{Error, Result},
    stream::ResponseStream,
};

/// Exports at the same time: each may take some 15 MB.
const EXPORTS: usize = 16;

/// Rows in a batch.
const BATCH_ROWS: usize = 8 * 1024;

/// Bytes of texts after which a batch ends.
const BATCH_TEXT_BYTES: usize = 1 << 20;

/// Names of metrics in a request.
const MAX_NAMES: usize = 1_000;

/// The number of exports that are running.
#[derive(Clone)]
pub(crate) struct ExportSlots(Arc<Semaphore>);

impl Default for ExportSlots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPORTS)))
    }
}

impl ExportSlots {
    fn take(&self) -> Result<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().map_err(|_| Error::Waiting("too many exports are running"))
    }
}

#[tonic::async_trait]
impl ExportService for Backend {
    type MetricsStream = ResponseStream<pb::MetricsResponse>;
    type RunsStream = ResponseStream<pb::RunsResponse>;
    type ObjectsStream = ResponseStream<pb::ObjectsResponse>;

    async fn metrics(&self, request: Request<pb::MetricsRequest>) -> RpcResult<Self::MetricsStream> {
        let (call, request) = self.begin(request).await?;
        let slot = self.exports.take()?;
        let format = table_format(request.format())?;
        let (search, sequences) = metrics::search(self, call, request).await?;
        let file = FileExport::new(self.deps.clone(), format, metrics::MetricRows::new())?;
        let wrap = |piece| pb::MetricsResponse { piece: Some(piece) };
        Ok(Response::new(self.respond(async move |sender| {
            let _slot = slot;
            file.send(async move |messages| search.send(sequences, &messages).await, &sender, wrap).await
        })))
    }

    async fn runs(&self, request: Request<pb::RunsRequest>) -> RpcResult<Self::RunsStream> {
        let (call, request) = self.begin(request).await?;
        let slot = self.exports.take()?;
        let format = table_format(request.format())?;
        let export = RunExport::new(self, &call, request).await?;
        let search = export.search(call.again()).await?;
        let deps = self.deps.clone();
        let wrap = |piece| pb::RunsResponse { piece: Some(piece) };
        Ok(Response::new(self.respond(async move |sender| {
            let _slot = slot;
            let rows = export.rows(call, &sender).await?;
            let file = FileExport::new(deps, format, rows)?;
            file.send(async move |messages| search.send(WholeRuns, &messages).await, &sender, wrap).await
        })))
    }

    async fn objects(&self, request: Request<pb::ObjectsRequest>) -> RpcResult<Self::ObjectsStream> {
        let (call, request) = self.begin(request).await?;
        let slot = self.exports.take()?;
        let (format, rows) = (table_format(request.format())?, objects::ObjectRows::new(request.r#type()));
        let (search, sequences) = objects::search(self, call, request).await?;
        let file = FileExport::new(self.deps.clone(), format, rows)?;
        let wrap = |piece| pb::ObjectsResponse { piece: Some(piece) };
        Ok(Response::new(self.respond(async move |sender| {
            let _slot = slot;
            file.send(async move |messages| search.send(sequences, &messages).await, &sender, wrap).await
        })))
    }
}

fn table_format(format: pb::Format) -> Result<TableFormat> {
    match format {
        pb::Format::Arrow => Ok(TableFormat::Arrow),
        pb::Format::Parquet => Ok(TableFormat::Parquet),
        pb::Format::Csv => Ok(TableFormat::Csv),
        pb::Format::Unspecified => Err(Error::field("format", "is missing: use arrow, parquet or csv")),
    }
}

/// The numbers of the runs with these ids, ascending; `None` for all runs.
async fn run_numbers(deps: &Deps, call: &Call, run_ids: &[String]) -> Result<Option<Vec<RunNumber>>> {
    convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
    if run_ids.is_empty() {
        return Ok(None);
    }
    let mut numbers = Vec::with_capacity(run_ids.len());
    for run_id in run_ids {
        numbers.push(deps.find_run(call, run_id).await?.number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}
