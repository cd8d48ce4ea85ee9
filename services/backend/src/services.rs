//! The list of the gRPC services.

use matyan_proto::{
    access::v1::{
        access_service_server::AccessServiceServer, audit_service_server::AuditServiceServer,
        login_service_server::LoginServiceServer, resolve_service_server::ResolveServiceServer,
        sign_in_service_server::SignInServiceServer,
    },
    admin::v1::admin_service_server::AdminServiceServer,
    apps::v1::app_service_server::AppServiceServer,
    artifacts::v1::artifact_service_server::ArtifactServiceServer,
    backup::v1::backup_service_server::BackupServiceServer,
    dashboards::v1::dashboard_service_server::DashboardServiceServer,
    documents::v1::document_service_server::DocumentServiceServer,
    experiments::v1::experiment_service_server::ExperimentServiceServer,
    export::v1::export_service_server::ExportServiceServer,
    limits,
    live::v1::live_service_server::LiveServiceServer,
    logs::v1::log_service_server::LogServiceServer,
    metrics::v1::metric_service_server::MetricServiceServer,
    notes::v1::note_service_server::NoteServiceServer,
    objects::v1::object_service_server::ObjectServiceServer,
    project::v1::project_service_server::ProjectServiceServer,
    reports::v1::report_service_server::ReportServiceServer,
    runs::v1::run_service_server::RunServiceServer,
    search::v1::search_service_server::SearchServiceServer,
    series::v1::series_service_server::SeriesServiceServer,
    studies::v1::study_service_server::StudyServiceServer,
    system::v1::system_service_server::SystemServiceServer,
    tags::v1::tag_service_server::TagServiceServer,
};
use tonic::service::Routes;

use crate::{
    access::{AccessApi, AuditApi, LoginApi, ResolveApi, SignInApi},
    admin::AdminApi,
    artifacts::ArtifactApi,
    backup::BackupApi,
    changes::Watches,
    edit::{
        documents::{AppApi, DashboardApi, DocumentApi, ReportApi},
        experiments::ExperimentApi,
        metric_goals::MetricApi,
        notes::NoteApi,
        project::ProjectApi,
        runs::RunApi,
        tags::TagApi,
    },
    logs::LogApi,
    query::{catalog::Catalog, export::ExportApi, search::SearchApi, table},
    series::{SeriesApi, objects::ObjectApi},
    server::{Server, audit::AuditLog, deps::Deps},
    studies::StudyApi,
    subscriptions::LiveApi,
    system::{IngestionProblem, SystemApi, UploadProblem},
};

/// The services of the query side. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Backend {
    server: Server,
    /// All services but the system service.
    routes: Routes,
    system: SystemApi,
}

/// A service as tonic runs it, with the limits that all services have.
macro_rules! limited {
    ($server:ident, $api:expr) => {
        $server::new($api)
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES)
    };
}

impl Backend {
    pub fn new(deps: Deps) -> Self {
        Self::with_table_bytes(deps, table::MAX_BYTES)
    }

    /// Like `new`, with another limit for the memory of tables of runs.
    pub fn with_table_bytes(deps: Deps, table_bytes: usize) -> Self {
        let server = Server::new(deps);
        let catalog = Catalog::new(&server, table_bytes);
        let watches = Watches::new(server.clone());
        let run = RunApi::new(server.clone(), watches.clone());
        let project = ProjectApi::new(server.clone(), catalog.params.clone());
        let series = SeriesApi::new(server.clone(), watches.clone());
        let search = SearchApi::new(server.clone(), catalog.clone(), watches.clone());
        let export = ExportApi::new(server.clone(), catalog.clone());
        let live = LiveApi::new(server.clone(), catalog, watches);
        let routes = Routes::new(limited!(RunServiceServer, run))
            .add_service(limited!(ExperimentServiceServer, ExperimentApi::new(server.clone())))
            .add_service(limited!(StudyServiceServer, StudyApi::new(server.clone())))
            .add_service(limited!(TagServiceServer, TagApi::new(server.clone())))
            .add_service(limited!(NoteServiceServer, NoteApi::new(server.clone())))
            .add_service(limited!(DashboardServiceServer, DashboardApi::new(server.clone())))
            .add_service(limited!(AppServiceServer, AppApi::new(server.clone())))
            .add_service(limited!(DocumentServiceServer, DocumentApi::new(server.clone())))
            .add_service(limited!(ReportServiceServer, ReportApi::new(server.clone())))
            .add_service(limited!(ProjectServiceServer, project))
            .add_service(limited!(MetricServiceServer, MetricApi::new(server.clone())))
            .add_service(limited!(SeriesServiceServer, series))
            .add_service(limited!(ObjectServiceServer, ObjectApi::new(server.clone())))
            .add_service(limited!(LogServiceServer, LogApi::new(server.clone())))
            .add_service(limited!(ArtifactServiceServer, ArtifactApi::new(server.clone())))
            .add_service(limited!(SearchServiceServer, search))
            .add_service(limited!(ExportServiceServer, export))
            .add_service(limited!(LiveServiceServer, live))
            .add_service(limited!(AccessServiceServer, AccessApi::new(server.clone())))
            .add_service(limited!(AuditServiceServer, AuditApi::new(server.clone())))
            .add_service(limited!(ResolveServiceServer, ResolveApi::new(server.clone())))
            .add_service(limited!(LoginServiceServer, LoginApi::new(server.clone())))
            .add_service(limited!(SignInServiceServer, SignInApi::new(server.clone())))
            .add_service(limited!(AdminServiceServer, AdminApi::new(server.clone())))
            .add_service(limited!(BackupServiceServer, BackupApi::new(server.clone())));
        let system = SystemApi { deps: server.deps.clone(), upload_problem: None, ingestion_problem: None };
        Self { server, routes, system }
    }

    /// Also reports, as a problem of the blob store, why uploads through this server are refused.
    #[must_use]
    pub fn with_upload_problem(mut self, upload_problem: UploadProblem) -> Self {
        self.system.upload_problem = Some(upload_problem);
        self
    }

    /// Also reports problems of the ingestion of this process.
    #[must_use]
    pub fn with_ingestion_problem(mut self, ingestion_problem: IngestionProblem) -> Self {
        self.system.ingestion_problem = Some(ingestion_problem);
        self
    }

    /// Ends the open-ended streams (watches, followed logs); their clients reconnect to
    /// another server. All other streams may run to completion.
    pub fn close(&self) {
        self.server.streams.close();
    }

    /// Ends every stream, and waits until no task of the backend is running.
    pub async fn stop(&self) {
        self.server.streams.stop().await;
    }

    /// The audit log of calls, which the process writes around all services.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.server.deps.clone(), self.server.streams.clone())
    }

    /// All services as one tower service.
    pub fn into_routes(self) -> Routes {
        self.routes.add_service(limited!(SystemServiceServer, self.system))
    }
}
