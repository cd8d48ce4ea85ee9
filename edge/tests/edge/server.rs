//! An edge on a free port of the loopback interface, and clients for it.

use std::fmt::Debug;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use matyan_access::CallerCache;
use matyan_edge::{Edge, Metrics, Settings};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::frontier::Frontier;

/// A test that waits longer than this is stuck. This is not a performance limit.
pub(crate) const STUCK: Duration = Duration::from_secs(60);

/// Repeats a question until it is answered as expected, and fails with the last state if the test is stuck.
pub(crate) async fn eventually<E: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<(), E>) {
    let start = Instant::now();
    while let Err(state) = ask().await {
        assert!(start.elapsed() < STUCK, "timed out waiting: {what}; last state: {state:?}");
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Server {
    pub(crate) frontier: Frontier,
    pub(crate) edge: Edge,
    pub(crate) address: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let cors_origins = vec!["http://localhost:3000".to_owned()];
        let allowed_hosts = vec!["here".to_owned()];
        Self::start_with(Settings { cors_origins, allowed_hosts, ..Settings::default() }).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        Self::serve(settings, |edge| edge).await
    }

    /// A server that asks everyone who they are.
    pub(crate) async fn start_with_access(callers: CallerCache) -> Self {
        Self::start_closed(Settings::default(), callers).await
    }

    pub(crate) async fn start_closed(settings: Settings, callers: CallerCache) -> Self {
        Self::serve(settings, |edge| edge.with_access(callers)).await
    }

    async fn serve(settings: Settings, adapt: impl FnOnce(Edge) -> Edge) -> Self {
        let frontier = Frontier::new();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let edge = matyan_edge::ingest(settings, metrics, frontier.transport(), None);
        let edge = adapt(edge);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(matyan_edge::serve(listener, None, edge.clone(), stop.clone()));
        Server { frontier, edge, address, stop, serving }
    }

    pub(crate) async fn connect(&self, run_id: &str) -> Client {
        self.connect_to(&format!("/api/v1/ws/runs/{run_id}")).await.unwrap()
    }

    pub(crate) async fn connect_to(&self, path: &str) -> Result<Client, Error> {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{}{path}", self.address)).await?;
        Ok(Client { socket })
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn stopped(self) {
        timeout(STUCK, self.serving).await.expect("the server must stop").unwrap();
    }

    /// Handles one request without a socket.
    pub(crate) async fn http(&self, request: http::Request<axum::body::Body>) -> Answer {
        let response = self.edge.answer(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.http(http::Request::get(path).body(axum::body::Body::empty()).unwrap()).await
    }

    pub(crate) async fn metric(&self, name: &str) -> String {
        let text = String::from_utf8(self.get("/metrics").await.body).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no metric {name}")).rsplit(' ').next().unwrap().to_owned()
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn message(&mut self) -> Option<Result<Message, Error>> {
        timeout(STUCK, self.socket.next()).await.expect("the server must send a message")
    }

    /// The next ack; pings and pongs are skipped.
    pub(crate) async fn ack(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected an ack, found {other:?}"),
            }
        }
    }

    pub(crate) async fn ok(&mut self) {
        assert_eq!(self.ack().await, serde_json::json!({"status": "ok", "error": null}));
    }

    /// The text of an error ack.
    pub(crate) async fn error(&mut self) -> String {
        let ack = self.ack().await;
        assert_eq!(ack["status"], "error", "{ack}");
        ack["error"].as_str().unwrap().to_owned()
    }

    /// Waits for the server's close frame and the end of the connection.
    pub(crate) async fn closed(&mut self) -> (CloseCode, String) {
        let mut close = None;
        loop {
            match self.message().await {
                Some(Ok(Message::Close(Some(frame)))) => close = Some((frame.code, frame.reason.to_string())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                None => return close.expect("a close frame must precede the end"),
                Some(Err(_)) if close.is_some() => return close.unwrap(),
                other => panic!("expected a close frame, found {other:?}"),
            }
        }
    }
}
