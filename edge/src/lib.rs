//! WebSocket, REST, streaming codec, gRPC-web and static UI, translated onto gRPC.
//! It decides nothing: every answer comes from a service behind a transport, and no store, log or blob is reachable from here.
//!
//! Two ports, one for writing and one for reading, and each speaks both sides where it is given both transports: clients that
//! know a single URL send everything there. A worker has a third, to be watched by.

mod cors;
mod edge;
mod error;
mod grpc;
mod identify;
mod metrics;
mod prompt;
mod rest;
mod serve;
mod services;
mod settings;
pub mod stream;
mod tls;
mod transport;
mod ui;
pub mod ws;

pub use edge::Edge;
pub use metrics::Metrics;
pub use serve::serve;
pub use settings::Settings;
pub use tls::{Tls, TlsError};
pub use transport::Transport;
pub use ui::{Ui, UiError, UiSettings};

use grpc::Grpc;
use services::{Services, Side};

/// Params of a run, as the API answers them, as JSON text. `None` for what is not CBOR of this API.
pub fn params_json(cbor: &[u8]) -> Option<String> {
    rest::values::json_text(cbor, rest::values::Style::default()).ok()
}

/// A context, which may hold NaN and infinities, as the API answers it: JSON text. `None` for what is no context.
pub fn context_json(context: &str) -> Option<String> {
    let json = rest::values::context_json(context, rest::values::Style::default()).ok()?;
    Some(json.get().to_owned())
}

/// The port that training code writes to. With a backend it answers queries as well.
pub fn ingest(settings: Settings, metrics: Metrics, frontier: Transport, backend: Option<Transport>) -> Edge {
    build(Side::Ingest, settings, metrics, frontier.clone(), Some(frontier), backend)
}

/// The port that people and programs read from. With a frontier it takes data as well.
pub fn query(settings: Settings, metrics: Metrics, backend: Transport, frontier: Option<Transport>) -> Edge {
    build(Side::Query, settings, metrics, backend.clone(), frontier, Some(backend))
}

/// The port of a process that has neither: what it is, whether it works, and its metrics.
pub fn worker(settings: Settings, metrics: Metrics, own: Transport) -> Edge {
    build(Side::Worker, settings, metrics, own, None, None)
}

fn build(
    side: Side,
    settings: Settings,
    metrics: Metrics,
    own: Transport,
    frontier: Option<Transport>,
    backend: Option<Transport>,
) -> Edge {
    let services = Services::new(side, settings, metrics, &own, frontier.as_ref(), backend.as_ref());
    Edge::new(services, Grpc::new(own, frontier, backend))
}
