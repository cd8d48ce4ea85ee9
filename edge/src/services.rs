//! Dependencies of the handlers: generated clients over the transports given to this edge, and
//! the WebSockets. A frontier or a backend may be missing, in which case its routes do not
//! exist.

use std::sync::Arc;

use matyan_channels::LargeWork;
use matyan_proto::access::v1::audit_service_client::AuditServiceClient;
use matyan_proto::access::v1::sign_in_service_client::SignInServiceClient;
use matyan_proto::admin::v1::admin_service_client::AdminServiceClient;
use matyan_proto::apps::v1::app_service_client::AppServiceClient;
use matyan_proto::artifacts::v1::artifact_service_client::ArtifactServiceClient;
use matyan_proto::dashboards::v1::dashboard_service_client::DashboardServiceClient;
use matyan_proto::experiments::v1::experiment_service_client::ExperimentServiceClient;
use matyan_proto::export::v1::export_service_client::ExportServiceClient;
use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::logs::v1::log_service_client::LogServiceClient;
use matyan_proto::metrics::v1::metric_service_client::MetricServiceClient;
use matyan_proto::notes::v1::note_service_client::NoteServiceClient;
use matyan_proto::objects::v1::object_service_client::ObjectServiceClient;
use matyan_proto::project::v1::project_service_client::ProjectServiceClient;
use matyan_proto::reports::v1::report_service_client::ReportServiceClient;
use matyan_proto::runs::v1::run_service_client::RunServiceClient;
use matyan_proto::search::v1::search_service_client::SearchServiceClient;
use matyan_proto::series::v1::series_service_client::SeriesServiceClient;
use matyan_proto::system::v1::system_service_client::SystemServiceClient;
use matyan_proto::tags::v1::tag_service_client::TagServiceClient;

use crate::body_budget::BodyBudget;
use crate::call_limit::CallLimit;
use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::settings::Settings;
use crate::transport::{FrontierTransport, Transport, client};
use crate::ws::{IngestClient, Sockets};

/// The kind of port. It only determines which service reports version and health.
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
    bodies: BodyBudget,
    calls: CallLimit,
    large_work: LargeWork,
    system: SystemServiceClient<Transport>,
    frontier: Option<Frontier>,
    backend: Option<Backend>,
}

struct Frontier {
    transport: Transport,
    sockets: Sockets,
}

/// Clients of the backend's services, in the project of the current request. A client is little
/// more than a transport, so it is created for each call.
pub(crate) struct Backend(Transport);

impl Backend {
    pub(crate) fn admin(&self) -> AdminServiceClient<Transport> {
        client!(AdminServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Transport> {
        client!(AuditServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn apps(&self) -> AppServiceClient<Transport> {
        client!(AppServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Transport> {
        client!(ArtifactServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn dashboards(&self) -> DashboardServiceClient<Transport> {
        client!(DashboardServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn experiments(&self) -> ExperimentServiceClient<Transport> {
        client!(ExperimentServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn export(&self) -> ExportServiceClient<Transport> {
        client!(ExportServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn logs(&self) -> LogServiceClient<Transport> {
        client!(LogServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn metrics(&self) -> MetricServiceClient<Transport> {
        client!(MetricServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn notes(&self) -> NoteServiceClient<Transport> {
        client!(NoteServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn objects(&self) -> ObjectServiceClient<Transport> {
        client!(ObjectServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn project(&self) -> ProjectServiceClient<Transport> {
        client!(ProjectServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn reports(&self) -> ReportServiceClient<Transport> {
        client!(ReportServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Transport> {
        client!(RunServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn search(&self) -> SearchServiceClient<Transport> {
        client!(SearchServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn series(&self) -> SeriesServiceClient<Transport> {
        client!(SeriesServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn sign_in(&self) -> SignInServiceClient<Transport> {
        client!(SignInServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }

    pub(crate) fn tags(&self) -> TagServiceClient<Transport> {
        client!(TagServiceClient<Transport>, self.0.in_scope(Scope::current()))
    }
}

impl Services {
    pub(crate) fn new(
        port_kind: PortKind,
        settings: Settings,
        metrics: Metrics,
        own: &Transport,
        frontier: Option<&FrontierTransport>,
        backend: Option<&Transport>,
    ) -> Self {
        let settings = Arc::new(settings);
        metrics.open_to_network.set(settings.is_on_network.into());
        let large_work = LargeWork::new();
        let frontier = frontier.map(|frontier| {
            let transport = frontier.calls().clone();
            let system = client!(SystemServiceClient<Transport>, transport.clone());
            let metrics = metrics.clone();
            let settings = Arc::clone(&settings);
            let sockets = Sockets::new(frontier.clone(), system, metrics, settings, large_work.clone());
            Frontier { transport, sockets }
        });
        let system = client!(SystemServiceClient<Transport>, own.clone());
        let bodies = BodyBudget::new(settings.body_bytes);
        let calls = CallLimit::new(&settings);
        let backend = backend.cloned().map(Backend);
        Services { port_kind, settings, metrics, bodies, calls, large_work, system, frontier, backend }
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

    /// Memory of the request bodies of this port.
    pub(crate) fn bodies(&self) -> &BodyBudget {
        &self.bodies
    }

    /// The limit on calls of this port.
    pub(crate) fn calls(&self) -> &CallLimit {
        &self.calls
    }

    /// Runs work over large messages, a few at a time.
    pub(crate) fn large_work(&self) -> &LargeWork {
        &self.large_work
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

    /// The transports to the backend and the frontier, for the calls of a translator in a scope.
    #[cfg(any(feature = "mlflow", feature = "wandb"))]
    pub(crate) fn scoped_transports(&self, scope: Scope) -> (Transport, Transport) {
        let scope = scope.of_translator();
        let backend = self.backend().0.in_scope(scope.clone());
        let frontier = self.frontier.as_ref().expect("protocols of other trackers need a frontier");
        (backend, frontier.transport.in_scope(scope))
    }

    /// Client of the frontier, in the project of the current request.
    pub(crate) fn ingest(&self) -> IngestClient {
        let frontier = self.frontier.as_ref().expect("routes of the frontier exist only with one");
        client!(IngestServiceClient<Transport>, frontier.transport.in_scope(Scope::current()))
    }
}
