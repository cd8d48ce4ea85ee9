//! Exports: the results of a search as a file. The search sends its messages to the same task, which
//! turns them into rows, turns batches of rows into bytes, and sends the bytes. All work for the
//! processor runs on the threads of queries.

mod file;
mod metrics;
mod objects;
mod params;
mod row_columns;
mod run_selection;
mod runs;

use file::FileExport;
use matyan_access::{CallClient, CallOrigin, Refusal, ShareLimit, SharePermit};
use matyan_export::TableFormat;
use matyan_proto::export::v1::{self as pb, export_service_server::ExportService};
use runs::{RunExport, WholeRuns};
use tonic::{Request, Response};

use super::catalog::Catalog;
use crate::server::{
    RpcResult, Server,
    error::{Error, Result},
    large_runs::{LargeRunStream, LargeRuns},
    stream::ResponseStream,
};

/// Exports at the same time: each may take some 15 MB, and the few that send large runs 30 MB. One client may
/// have twelve.
const EXPORTS: usize = 16;

/// The exports that are running.
struct ExportSlots(ShareLimit<CallClient>);

impl Default for ExportSlots {
    fn default() -> Self {
        Self(ShareLimit::new("exports", EXPORTS))
    }
}

impl ExportSlots {
    fn take(&self, origin: &CallOrigin) -> Result<SharePermit<CallClient>> {
        self.0.admit(origin.client.clone()).map_err(|refusal| {
            Error::Waiting(match refusal {
                Refusal::Full => "too many exports are running",
                Refusal::ClientFull => "too many of your exports are running",
            })
        })
    }
}

/// The service of exports.
pub(crate) struct ExportApi {
    server: Server,
    catalog: Catalog,
    slots: ExportSlots,
    /// Separate from the room of searches, which would otherwise wait for long exports.
    large_runs: LargeRuns,
}

impl ExportApi {
    pub(crate) fn new(server: Server, catalog: Catalog) -> Self {
        Self { server, catalog, slots: ExportSlots::default(), large_runs: LargeRuns::default() }
    }
}

#[tonic::async_trait]
impl ExportService for ExportApi {
    type MetricsStream = ResponseStream<pb::MetricsResponse>;
    type RunsStream = LargeRunStream<pb::RunsResponse>;
    type ObjectsStream = ResponseStream<pb::ObjectsResponse>;

    async fn metrics(&self, request: Request<pb::MetricsRequest>) -> RpcResult<Self::MetricsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let slot = self.slots.take(&call.origin)?;
        let format = table_format(request.format())?;
        let (search, sequences) = metrics::search(&self.catalog, call, request).await?;
        let file = FileExport::new(self.server.deps.clone(), format, metrics::MetricRows::new())?;
        Ok(Response::new(self.server.respond_on_query_threads(async move |sender| {
            let _slot = slot;
            let send = async move |messages| search.send(sequences, &messages, None).await;
            file.send(send, &sender, |piece| pb::MetricsResponse { piece: Some(piece) }).await
        })))
    }

    async fn runs(&self, request: Request<pb::RunsRequest>) -> RpcResult<Self::RunsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let slot = self.slots.take(&call.origin)?;
        let origin = call.origin.clone();
        let format = table_format(request.format())?;
        let export = RunExport::new(&self.catalog, &call, request).await?;
        let search = export.search(call.again()).await?;
        let deps = self.server.deps.clone();
        Ok(Response::new(self.large_runs.stream(origin, |mut room| {
            self.server.respond_on_query_threads(async move |sender| {
                let _slot = slot;
                let rows = export.rows(call, &sender).await?;
                let file = FileExport::new(deps, format, rows)?;
                // The room is held until the file is sent, not only until the search has ended.
                let room = &mut room;
                let send = async move |messages| search.send(WholeRuns, &messages, Some(room)).await;
                file.send(send, &sender, |piece| pb::RunsResponse { piece: Some(piece) }).await
            })
        })))
    }

    async fn objects(&self, request: Request<pb::ObjectsRequest>) -> RpcResult<Self::ObjectsStream> {
        let (call, request) = self.server.start_call(request).await?;
        let slot = self.slots.take(&call.origin)?;
        let format = table_format(request.format())?;
        let rows = objects::ObjectRows::new(request.r#type());
        let (search, sequences) = objects::search(&self.catalog, call, request).await?;
        let file = FileExport::new(self.server.deps.clone(), format, rows)?;
        Ok(Response::new(self.server.respond_on_query_threads(async move |sender| {
            let _slot = slot;
            let send = async move |messages| search.send(sequences, &messages, None).await;
            file.send(send, &sender, |piece| pb::ObjectsResponse { piece: Some(piece) }).await
        })))
    }
}

fn table_format(format: pb::Format) -> Result<TableFormat> {
    match format {
        pb::Format::Arrow => Ok(TableFormat::Arrow),
        pb::Format::Parquet => Ok(TableFormat::Parquet),
        pb::Format::Csv => Ok(TableFormat::Csv),
        pb::Format::RawCsv => Ok(TableFormat::RawCsv),
        pb::Format::Unspecified => {
            Err(Error::field("format", "is missing: use arrow, parquet, csv or raw-csv"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_45_a_client_leaves_exports_to_others() {
        let slots = &ExportSlots::default();
        let origin = |client| CallOrigin { client: Some(CallClient::new(client)), ..CallOrigin::default() };
        let run_many =
            |client| std::iter::repeat_with(move || slots.take(&origin(client))).map_while(Result::ok);
        let mut running: Vec<_> = run_many("many").collect();
        assert_eq!(running.len(), 12);
        running.extend(run_many("other"));
        assert_eq!(running.len(), EXPORTS);
        let refusal = slots.take(&CallOrigin::default()).err().unwrap().to_string();
        assert!(refusal.contains("too many exports are running"), "{refusal}");
        running.truncate(12);
        let refusal = slots.take(&origin("many")).err().unwrap().to_string();
        assert!(refusal.contains("too many of your exports are running"), "{refusal}");
    }
}
