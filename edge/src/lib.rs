//! WebSocket, REST, streaming codec, gRPC-web, and static UI, translated to gRPC.
//! The edge makes no decisions: every response comes from a service reached through a
//! transport, and no store, log, or blob store is accessible from here.
//!
//! It has two ports, one for writing and one for reading. Each serves both APIs if it is given
//! both transports, for clients that are configured with a single URL. A worker has a third
//! port, for monitoring.

mod access_reports;
mod allowed_hosts;
mod answer_budget;
mod body_budget;
mod busy_task;
mod call_limit;
mod client_stream;
mod closed_hosts;
mod compression;
mod cors;
mod deadline;
mod edge;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod grpc_metrics;
mod html;
mod local_frontier;
mod methods;
mod metrics;
#[cfg(feature = "mlflow")]
mod mlflow;
#[cfg(feature = "optuna")]
mod optuna;
mod peer_network;
mod permission;
mod project;
mod request_caller;
mod request_id;
mod request_origin;
mod rest;
mod scope;
mod security_headers;
mod serve;
mod services;
mod session_cookie;
mod settings;
mod sign_in;
mod slow_sender;
pub mod stream;
mod tls;
mod transport;
mod ui;
mod unread_request;
mod unread_response;
mod uri_path;
#[cfg(feature = "wandb")]
mod wandb;
pub mod ws;

pub use busy_task::{BusyTaskThreads, PortTask};
pub use edge::Edge;
pub use local_frontier::{LocalFrontier, LocalStream, STREAM_METHOD};
pub use metrics::Metrics;
pub use security_headers::LOGGED_PAGE_POLICY;
pub use serve::serve;
pub use settings::{Protocol, Settings};
pub use sign_in::CALLBACK as SIGN_IN_CALLBACK;
pub use tls::{Tls, TlsError};
pub use transport::{FrontierTransport, Transport};
pub use ui::{Ui, UiError, UiSettings};

use grpc::{Grpc, TranslatedService};
use services::{PortKind, Services};

/// Builds the port that training code writes to. With a backend, it also serves queries.
pub fn ingest(
    settings: Settings,
    metrics: Metrics,
    frontier: FrontierTransport,
    backend: Option<Transport>,
) -> Edge {
    build(PortKind::Ingest, settings, metrics, frontier.calls().clone(), Some(frontier), backend)
}

/// Builds the port that users and programs read from. With a frontier, it also accepts data.
pub fn query(
    settings: Settings,
    metrics: Metrics,
    backend: Transport,
    frontier: Option<FrontierTransport>,
) -> Edge {
    build(PortKind::Query, settings, metrics, backend.clone(), frontier, Some(backend))
}

/// Builds the port of a process with neither frontier nor backend: version, health, and metrics.
pub fn worker(settings: Settings, metrics: Metrics, own: Transport) -> Edge {
    build(PortKind::Worker, settings, metrics, own, None, None)
}

fn build(
    port_kind: PortKind,
    settings: Settings,
    metrics: Metrics,
    own: Transport,
    frontier: Option<FrontierTransport>,
    backend: Option<Transport>,
) -> Edge {
    let services = Services::new(port_kind, settings, metrics, &own, frontier.as_ref(), backend.as_ref());
    let metrics = services.settings().metrics_enabled.then(|| services.metrics().grpc.clone());
    let translated = match (port_kind, &backend) {
        (PortKind::Query, Some(backend)) => translated_services(&services, backend),
        _ => Vec::new(),
    };
    let frontier = frontier.map(|frontier| frontier.calls().clone());
    Edge::new(services, Grpc::new(metrics, own, frontier, backend, translated))
}

/// The gRPC services of the protocols that this port answers.
#[cfg(feature = "optuna")]
fn translated_services(services: &Services, backend: &Transport) -> Vec<TranslatedService> {
    let is_answered = services.settings().protocols.contains(&Protocol::Optuna);
    is_answered.then(|| optuna::service(backend.clone(), services.metrics())).into_iter().collect()
}

/// The gRPC services of the protocols that this port answers.
#[cfg(not(feature = "optuna"))]
fn translated_services(_: &Services, _: &Transport) -> Vec<TranslatedService> {
    Vec::new()
}
