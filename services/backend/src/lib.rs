//! gRPC queries and control operations: reads the store, writes control changes to it, and
//! appends deletions to the log. It holds only a log writer, so it cannot read the log.

mod call;
mod convert;
mod deps;
mod error;
mod evaluation;
mod left_out_runs;
mod metrics;

mod admin;
mod apps;
mod artifacts;
mod backup;
mod dashboards;
mod entities;
mod experiments;
mod export;
mod indexed_runs;
mod live;
mod logs;
mod notes;
mod objects;
mod project;
mod reports;
mod run_lookup;
mod runs;
mod search;
mod series;
mod stream;
mod subscriptions;
mod system;
mod table;
mod tags;
mod token;
mod typed_values;
mod view;

pub use deps::{Clock, Deps};
pub use evaluation::Evaluation;
pub use metrics::Metrics;
pub use token::UriKey;

use std::sync::Arc;

use futures::future::BoxFuture;
use matyan_proto::{
    admin::v1::admin_service_server::AdminServiceServer, apps::v1::app_service_server::AppServiceServer,
    artifacts::v1::artifact_service_server::ArtifactServiceServer,
    backup::v1::backup_service_server::BackupServiceServer,
    dashboards::v1::dashboard_service_server::DashboardServiceServer,
    experiments::v1::experiment_service_server::ExperimentServiceServer,
    export::v1::export_service_server::ExportServiceServer, limits,
    live::v1::live_service_server::LiveServiceServer, logs::v1::log_service_server::LogServiceServer,
    notes::v1::note_service_server::NoteServiceServer,
    objects::v1::object_service_server::ObjectServiceServer,
    project::v1::project_service_server::ProjectServiceServer,
    reports::v1::report_service_server::ReportServiceServer, runs::v1::run_service_server::RunServiceServer,
    search::v1::search_service_server::SearchServiceServer,
    series::v1::series_service_server::SeriesServiceServer,
    system::v1::system_service_server::SystemServiceServer, tags::v1::tag_service_server::TagServiceServer,
};
use tonic::{Request, Response, Status, service::Routes};

use artifacts::ImageSlots;
use call::Call;
use export::ExportSlots;
use live::{ChangeFeeds, WatchMemory};
use project::ParamsCache;
use series::ChartMemory;
use stream::{ResponseStream, Sender, StreamEnd, Streams};
use table::RunTables;

/// The result of an rpc.
type RpcResult<T> = Result<Response<T>, Status>;

/// Returns why uploads through this server are refused now, if they are.
pub type UploadProblem = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// The services of the query side. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    deps: Arc<Deps>,
    streams: Streams,
    params: ParamsCache,
    feeds: ChangeFeeds,
    tables: RunTables,
    exports: ExportSlots,
    watch_memory: WatchMemory,
    images: ImageSlots,
    charts: ChartMemory,
    upload_problem: Option<UploadProblem>,
}

impl Backend {
    pub fn new(deps: Deps) -> Self {
        Self::with_table_bytes(deps, table::MAX_BYTES)
    }

    /// Like `new`, with another limit for the memory of tables of runs.
    pub fn with_table_bytes(mut deps: Deps, table_bytes: usize) -> Self {
        deps.evaluation.count_slices(deps.metrics.query_slices.clone());
        let streams = Streams::default();
        Self {
            tables: RunTables::new(streams.clone(), table_bytes, deps.metrics.table_bytes.clone()),
            deps: Arc::new(deps),
            streams,
            params: ParamsCache::default(),
            feeds: ChangeFeeds::default(),
            exports: ExportSlots::default(),
            watch_memory: WatchMemory::default(),
            images: ImageSlots::default(),
            charts: ChartMemory::default(),
            upload_problem: None,
        }
    }

    /// Also reports why uploads through this server are refused, as a problem of the blob store.
    #[must_use]
    pub fn with_upload_problem(self, upload_problem: UploadProblem) -> Self {
        Self { upload_problem: Some(upload_problem), ..self }
    }

    /// Ends the open-ended streams (watches, followed logs); their clients reconnect to
    /// another server. All other streams may run to completion.
    pub fn close(&self) {
        self.streams.close();
    }

    /// Ends every stream, and waits until no task of the backend is running.
    pub async fn stop(&self) {
        self.streams.stop().await;
    }

    /// Begins a call: reads its metadata, and waits for the positions that it requires. Returns
    /// it with the message of the request.
    async fn begin<T>(&self, request: Request<T>) -> Result<(Call, T), Status> {
        let (metadata, _, message) = request.into_parts();
        Ok((Call::begin(&self.deps, &metadata).await?, message))
    }

    /// Runs `work` as the task of a stream.
    fn respond<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        self.streams.respond(work)
    }

    /// Like `respond`, for jobs: they end at a message that the client does not take, and release
    /// what they hold.
    fn respond_with_job<T, F>(&self, work: impl FnOnce(Sender<T>) -> F) -> ResponseStream<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        self.streams.respond_with_job(work)
    }

    /// Every service, as one tower service.
    pub fn into_routes(self) -> Routes {
        macro_rules! server {
            ($server:ident) => {
                $server::new(self.clone())
                    .max_decoding_message_size(limits::MESSAGE_BYTES)
                    .max_encoding_message_size(limits::MESSAGE_BYTES)
            };
        }
        Routes::new(server!(RunServiceServer))
            .add_service(server!(SystemServiceServer))
            .add_service(server!(ExperimentServiceServer))
            .add_service(server!(SeriesServiceServer))
            .add_service(server!(LogServiceServer))
            .add_service(server!(LiveServiceServer))
            .add_service(server!(ObjectServiceServer))
            .add_service(server!(ArtifactServiceServer))
            .add_service(server!(SearchServiceServer))
            .add_service(server!(ExportServiceServer))
            .add_service(server!(TagServiceServer))
            .add_service(server!(NoteServiceServer))
            .add_service(server!(DashboardServiceServer))
            .add_service(server!(AppServiceServer))
            .add_service(server!(ReportServiceServer))
            .add_service(server!(ProjectServiceServer))
            .add_service(server!(AdminServiceServer))
            .add_service(server!(BackupServiceServer))
    }
}
