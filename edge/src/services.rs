//! Dependencies of the handlers: generated clients over the transports given to this edge, and
//! the WebSockets.
//! A frontier or a backend may be missing; then its routes do not exist.

use std::sync::Arc;

use matyan_proto::apps::v1::app_service_client::AppServiceClient;
use matyan_proto::artifacts::v1::artifact_service_client::ArtifactServiceClient;
use matyan_proto::dashboards::v1::dashboard_service_client::DashboardServiceClient;
use matyan_proto::experiments::v1::experiment_service_client::ExperimentServiceClient;
use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::logs::v1::log_service_client::LogServiceClient;
use matyan_proto::notes::v1::note_service_client::NoteServiceClient;
use matyan_proto::objects::v1::object_service_client::ObjectServiceClient;
use matyan_proto::project::v1::project_service_client::ProjectServiceClient;
use matyan_proto::reports::v1::report_service_client::ReportServiceClient;
use matyan_proto::runs::v1::run_service_client::RunServiceClient;
use matyan_proto::search::v1::search_service_client::SearchServiceClient;
use matyan_proto::series::v1::series_service_client::SeriesServiceClient;
use matyan_proto::system::v1::system_service_client::SystemServiceClient;
use matyan_proto::tags::v1::tag_service_client::TagServiceClient;

use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::transport::{Transport, client};
use crate::ws::{IngestClient, Sockets};

/// The kind of port. It only determines which service answers about version and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortKind {
    Ingest,
    Query,
    Worker,
}

pub(crate) struct Services {
    port_kind: PortKind,
    settings: Arc<Settings>,
    metrics: Metrics,
    system: SystemServiceClient<Transport>,
    frontier: Option<Frontier>,
    backend: Option<Backend>,
}

struct Frontier {
    ingest: IngestClient,
    sockets: Sockets,
}

/// A client for each service of the backend. Cloned for each call, which is cheap.
pub(crate) struct Backend {
    pub(crate) apps: AppServiceClient<Transport>,
    pub(crate) artifacts: ArtifactServiceClient<Transport>,
    pub(crate) dashboards: DashboardServiceClient<Transport>,
    pub(crate) experiments: ExperimentServiceClient<Transport>,
    pub(crate) logs: LogServiceClient<Transport>,
    pub(crate) notes: NoteServiceClient<Transport>,
    pub(crate) objects: ObjectServiceClient<Transport>,
    pub(crate) project: ProjectServiceClient<Transport>,
    pub(crate) reports: ReportServiceClient<Transport>,
    pub(crate) runs: RunServiceClient<Transport>,
    pub(crate) search: SearchServiceClient<Transport>,
    pub(crate) series: SeriesServiceClient<Transport>,
    pub(crate) tags: TagServiceClient<Transport>,
}

impl Backend {
    fn new(transport: &Transport) -> Self {
        let transport = || transport.clone();
        Backend {
            apps: client!(AppServiceClient<Transport>, transport()),
            artifacts: client!(ArtifactServiceClient<Transport>, transport()),
            dashboards: client!(DashboardServiceClient<Transport>, transport()),
            experiments: client!(ExperimentServiceClient<Transport>, transport()),
            logs: client!(LogServiceClient<Transport>, transport()),
            notes: client!(NoteServiceClient<Transport>, transport()),
            objects: client!(ObjectServiceClient<Transport>, transport()),
            project: client!(ProjectServiceClient<Transport>, transport()),
            reports: client!(ReportServiceClient<Transport>, transport()),
            runs: client!(RunServiceClient<Transport>, transport()),
            search: client!(SearchServiceClient<Transport>, transport()),
            series: client!(SeriesServiceClient<Transport>, transport()),
            tags: client!(TagServiceClient<Transport>, transport()),
        }
    }
}

impl Services {
    pub(crate) fn new(
        port_kind: PortKind,
        settings: Settings,
        metrics: Metrics,
        own: &Transport,
        frontier: Option<&Transport>,
        backend: Option<&Transport>,
    ) -> Self {
        let settings = Arc::new(settings);
        let frontier = frontier.map(|transport| {
            let ingest = client!(IngestServiceClient<Transport>, transport.clone());
            let system = client!(SystemServiceClient<Transport>, transport.clone());
            let sockets = Sockets::new(ingest.clone(), system, metrics.clone(), Arc::clone(&settings));
            Frontier { ingest, sockets }
        });
        let system = client!(SystemServiceClient<Transport>, own.clone());
        Services { port_kind, settings, metrics, system, frontier, backend: backend.map(Backend::new) }
    }

    pub(crate) fn port_kind(&self) -> PortKind {
        self.port_kind
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Client of the service that this port belongs to.
    pub(crate) fn system(&self) -> SystemServiceClient<Transport> {
        self.system.clone()
    }

    pub(crate) fn has_frontier(&self) -> bool {
        self.frontier.is_some()
    }

    pub(crate) fn has_backend(&self) -> bool {
        self.backend.is_some()
    }

    pub(crate) fn backend(&self) -> &Backend {
        self.backend.as_ref().expect("routes of the backend exist only with one")
    }

    pub(crate) fn sockets(&self) -> Option<&Sockets> {
        self.frontier.as_ref().map(|frontier| &frontier.sockets)
    }

    pub(crate) fn ingest(&self) -> IngestClient {
        self.frontier.as_ref().expect("routes of the frontier exist only with one").ingest.clone()
    }
}
