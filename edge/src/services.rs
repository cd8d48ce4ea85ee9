//! What the handlers work with: generated clients over the transports that this edge was given, and the sockets.
//! A frontier or a backend may be missing: then its routes do not exist.

use std::sync::Arc;

use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::system::v1::system_service_client::SystemServiceClient;

use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::transport::{Transport, client};
use crate::ws::{IngestClient, Sockets};

/// Which of the two ports this is. It decides only who answers about version and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ingest,
    Query,
}

pub(crate) struct Services {
    side: Side,
    settings: Arc<Settings>,
    metrics: Metrics,
    system: SystemServiceClient<Transport>,
    frontier: Option<Frontier>,
}

struct Frontier {
    ingest: IngestClient,
    sockets: Sockets,
}

impl Services {
    pub(crate) fn new(
        side: Side,
        settings: Settings,
        metrics: Metrics,
        own: &Transport,
        frontier: Option<&Transport>,
    ) -> Self {
        let settings = Arc::new(settings);
        let frontier = frontier.map(|transport| {
            let ingest = client!(IngestServiceClient<Transport>, transport.clone());
            let system = client!(SystemServiceClient<Transport>, transport.clone());
            let sockets = Sockets::new(ingest.clone(), system, metrics.clone(), Arc::clone(&settings));
            Frontier { ingest, sockets }
        });
        let system = client!(SystemServiceClient<Transport>, own.clone());
        Services { side, settings, metrics, system, frontier }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// About the service that this port belongs to.
    pub(crate) fn system(&self) -> SystemServiceClient<Transport> {
        self.system.clone()
    }

    pub(crate) fn has_frontier(&self) -> bool {
        self.frontier.is_some()
    }

    pub(crate) fn sockets(&self) -> Option<&Sockets> {
        self.frontier.as_ref().map(|frontier| &frontier.sockets)
    }

    pub(crate) fn ingest(&self) -> IngestClient {
        self.frontier.as_ref().expect("routes of the frontier exist only with one").ingest.clone()
    }
}
