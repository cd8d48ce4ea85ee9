//! WebSockets for ingestion: each socket is a client of `IngestService.Stream`, in JSON or in
//! protobuf.
//! The handshake is accepted, or refused with 503, the only refusal after which clients reconnect. It asks
//! the frontier whether data of the run is accepted, because a client that is refused later may lose a frame.

pub mod batch;
mod binary;
mod budget;
mod connection;
mod connection_deps;
mod dictionary_budget;
mod item_index;
mod metered_connection;
mod producer;
mod session;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::pending;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use matyan_access::{Refusal, ShareLimit};
use matyan_channels::LargeWork;
use matyan_proto::common::v1::Access;
use matyan_proto::ingest::v1::AdmitRequest;
use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::system::v1::ReadinessRequest;
use matyan_proto::system::v1::system_service_client::SystemServiceClient;
use matyan_wire::headers::BINARY_SUBPROTOCOL;
use matyan_wire::trace::TARGET;
use matyan_wire::{headers, server_version};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::Span;

use crate::call_limit::{self, Client, Permit};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::permission::RefusedCall;
use crate::request_id;
use crate::scope::Scope;
use crate::settings::Settings;
use crate::transport::{FrontierTransport, Transport, client};
use budget::MemoryBudget;
use connection_deps::ConnectionDeps;
use dictionary_budget::DictionaryBudget;
use socket::Socket;

pub(crate) type IngestClient = IngestServiceClient<Transport>;

const VERSION: HeaderName = HeaderName::from_static(headers::VERSION);
const OWN_VERSION: HeaderValue = HeaderValue::from_static(server_version::OWN);

const WEBSOCKETS: &str = "WebSockets";

/// Lifetime of a readiness result, and timeout for getting it, so that a thousand clients that
/// reconnect at the same time cause one check.
const READINESS_TTL: Duration = Duration::from_secs(1);

/// Limit on the time of the question whether the frontier accepts data of a run. Longer than the frontier takes to
/// look up a project, and shorter than the patience of clients with a handshake, which is 10 s.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// Accepts WebSockets and owns their tasks.
pub(crate) struct Sockets {
    frontier: FrontierTransport,
    system: SystemServiceClient<Transport>,
    metrics: Metrics,
    settings: Arc<Settings>,
    limit: ShareLimit<Client>,
    large_work: LargeWork,
    budget: MemoryBudget,
    dictionaries: DictionaryBudget,
    readiness: Mutex<Option<(Instant, bool)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Json,
    Binary,
}

impl Sockets {
    pub(crate) fn new(
        frontier: FrontierTransport,
        system: SystemServiceClient<Transport>,
        metrics: Metrics,
        settings: Arc<Settings>,
        large_work: LargeWork,
    ) -> Self {
        Sockets {
            frontier,
            system,
            metrics,
            limit: ShareLimit::new(WEBSOCKETS, settings.max_connections),
            large_work,
            budget: MemoryBudget::new(settings.total_bytes),
            dictionaries: DictionaryBudget::new(settings.dictionary_bytes),
            settings,
            readiness: Mutex::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Stops reading frames, acknowledges those already read, closes every socket, and
    /// waits until all are closed.
    pub(crate) async fn drain(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Handles a request on the path of a run's socket.
    pub(crate) async fn accept<B>(
        &self,
        run_id: String,
        mut request: Request<B>,
    ) -> Result<Response, ApiError> {
        let handshake = Handshake::read(request.method(), request.headers())?;
        let scope = Scope::current();
        let caller = scope.check(Access::Ingest).await?;
        let client = Client::of(caller.as_deref(), request.extensions().get().copied());
        let permit = self.admit(client.clone()).await?;
        let calls = self.frontier.calls().in_scope(scope.clone());
        self.check_run(client!(IngestClient, calls), &run_id).await?;
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "this connection cannot be upgraded to a WebSocket",
            ));
        };
        let streams = self.frontier.streams_in_scope(scope.clone());
        let revoked = revoked(scope);
        let deps = ConnectionDeps {
            run_id,
            streams,
            metrics: self.metrics.clone(),
            budget: self.budget.of_client(client),
            dictionaries: self.dictionaries.clone(),
            large_work: self.large_work.clone(),
            hold: self.settings.hold,
            stop: self.stop.clone(),
        };
        let id = request_id::request_id(request.headers());
        let span =
            tracing::info_span!(parent: None, "connection", id = id.to_str().ok(), run_id = deps.run_id);
        let serving = serve(upgrade, handshake.protocol, deps, revoked, self.settings.ping_interval, permit);
        self.tasks.spawn(request_id::run_in_span(id, span, serving));
        Ok(handshake.answer())
    }

    /// Returns a permit for one more connection, or 503.
    async fn admit(&self, client: Option<Client>) -> Result<Permit, ApiError> {
        let refusal = match self.limit.admit(client.clone()) {
            Ok(permit) if !self.stop.is_cancelled() && self.is_ready().await => return Ok(permit),
            Ok(_) => Refusal::Full,
            Err(refusal) => refusal,
        };
        self.metrics.ws_refused.inc();
        Err(call_limit::refused(refusal, client.as_ref(), WEBSOCKETS).into())
    }

    /// Refuses a run whose data the frontier does not accept at present. A permanent error is left to the first frame, and
    /// so is a frontier that does not answer.
    async fn check_run(&self, mut ingest: IngestClient, run_id: &str) -> Result<(), ApiError> {
        let request = AdmitRequest { run_id: run_id.to_owned() };
        match timeout(ADMIT_TIMEOUT, ingest.admit(request)).await {
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                self.metrics.ws_refused.inc();
                Err(status.into())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns whether the frontier can accept data. Checked at most once per second.
    async fn is_ready(&self) -> bool {
        // The lock is held during the check, so that concurrent handshakes share its result.
        let mut cached = self.readiness.lock().await;
        if let Some((checked_at, ready)) = *cached
            && checked_at.elapsed() < READINESS_TTL
        {
            return ready;
        }
        let mut system = self.system.clone();
        let ready = match timeout(READINESS_TTL, system.readiness(ReadinessRequest::default())).await {
            Ok(Ok(answer)) => answer.into_inner().ready,
            Ok(Err(_)) | Err(_) => false,
        };
        *cached = Some((Instant::now(), ready));
        ready
    }
}

/// Waits until a socket may no longer be open. Its stream to the frontier ends as well, but a socket that has
/// sent nothing has none. While rights cannot be looked up, a socket stays open: its client keeps its data.
fn revoked(scope: Scope) -> RefusedCall {
    if !scope.is_checked() {
        return pending().boxed();
    }
    let revoked = async move {
        loop {
            let status = scope.refused(Access::Ingest).await;
            if status.code() != Code::Unavailable {
                return status;
            }
        }
    };
    revoked.boxed()
}

/// The span of a frame, from reading to acknowledging it. It starts a new trace, because a
/// trace of the whole connection would last for days.
fn frame_span(run_id: &str, bytes: usize) -> Span {
    tracing::info_span!(target: TARGET, parent: None, "frame", otel.kind = "server", run_id, bytes)
}

async fn serve(
    upgrade: OnUpgrade,
    protocol: Protocol,
    deps: ConnectionDeps,
    revoked: RefusedCall,
    ping_interval: Duration,
    permit: Permit,
) {
    let connection = match upgrade.await {
        Ok(connection) => TokioIo::new(connection),
        Err(error) => {
            tracing::debug!(%error, "connection ended before the WebSocket upgrade");
            return;
        }
    };
    let _open_connection = OpenConnection::new(deps.metrics.clone(), permit);
    let socket = Socket::new(connection, ping_interval, deps.budget.clone()).await;
    match protocol {
        Protocol::Json => connection::serve(socket, deps, revoked).await,
        Protocol::Binary => binary::serve(socket, deps, revoked).await,
    }
}

/// Counts an open connection until it is dropped.
struct OpenConnection {
    metrics: Metrics,
    since: Instant,
    _permit: Permit,
}

impl OpenConnection {
    fn new(metrics: Metrics, permit: Permit) -> Self {
        metrics.ws_connections.inc();
        OpenConnection { metrics, since: Instant::now(), _permit: permit }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.ws_connections.dec();
        self.metrics.ws_connection_seconds.observe(self.since.elapsed().as_secs_f64());
    }
}

/// The parameters of a valid upgrade request.
struct Handshake {
    accept_key: String,
    protocol: Protocol,
}

impl Handshake {
    fn read(method: &Method, headers: &HeaderMap) -> Result<Self, ApiError> {
        let lists = |name, token: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        let wants_upgrade = lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket");
        if method != Method::GET || !wants_upgrade {
            return Err(ApiError::no_route());
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        match (key, headers.get(header::SEC_WEBSOCKET_VERSION)) {
            (Some(key), Some(version)) if version == "13" => Ok(Handshake {
                accept_key: derive_accept_key(key.as_bytes()),
                protocol: if lists(header::SEC_WEBSOCKET_PROTOCOL, BINARY_SUBPROTOCOL) {
                    Protocol::Binary
                } else {
                    Protocol::Json
                },
            }),
            _ => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "a WebSocket handshake needs a Sec-WebSocket-Key and Sec-WebSocket-Version: 13",
            )),
        }
    }

    fn answer(self) -> Response {
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept_key).expect("base64 is a valid header value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(VERSION, OWN_VERSION);
        if self.protocol == Protocol::Binary {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY_SUBPROTOCOL));
        }
        response
    }
}
