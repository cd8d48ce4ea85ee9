//! A JSON WebSocket client that behaves like the published one: one frame outstanding, and one
//! acknowledgment for each.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, header::AUTHORIZATION},
    },
};

pub struct JsonWriter {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The server's response to a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    Ok,
    /// The error text.
    Error(String),
}

/// The URL of a run's WebSocket for an `http://` base.
pub fn url(base: &str, run_id: &str) -> String {
    format!("{}/api/v1/ws/runs/{run_id}", base.replacen("http", "ws", 1))
}

/// The handshake of a run's WebSocket, with a token for a server that asks for one.
pub fn handshake(base: &str, run_id: &str, token: Option<&str>) -> Result<Request, String> {
    let mut request = url(base, run_id).into_client_request().map_err(|error| error.to_string())?;
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

impl JsonWriter {
    pub async fn connect(base: &str, run_id: &str) -> Result<Self, String> {
        Self::connect_with_token(base, run_id, None).await
    }

    pub async fn connect_with_token(base: &str, run_id: &str, token: Option<&str>) -> Result<Self, String> {
        let request = handshake(base, run_id, token)?;
        let (socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| e.to_string())?;
        Ok(Self { socket })
    }

    /// Sends one frame and waits for its acknowledgment. An error means that the outcome is
    /// unknown.
    pub async fn send(&mut self, frame: &Value) -> Result<Ack, String> {
        self.send_text(frame.to_string()).await
    }

    pub async fn send_text(&mut self, frame: String) -> Result<Ack, String> {
        self.socket.send(Message::text(frame)).await.map_err(|e| e.to_string())?;
        self.ack().await
    }

    pub async fn ack(&mut self) -> Result<Ack, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return parse(&text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => return Err(format!("unexpected {other:?}")),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection ended".into()),
            }
        }
    }
}

fn parse(text: &str) -> Result<Ack, String> {
    let ack: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
    match (ack["status"].as_str(), ack["error"].as_str()) {
        (Some("ok"), None) => Ok(Ack::Ok),
        (Some("error"), Some(error)) => Ok(Ack::Error(error.into())),
        _ => Err(format!("not an acknowledgement: {text}")),
    }
}

pub const CLIENT_TIME: &str = "2026-01-02T03:04:05.678901+00:00";

pub fn create_run() -> Value {
    json!({"type": "create_run", "client_datetime": CLIENT_TIME, "force_resume": false})
}

pub fn finish_run() -> Value {
    json!({"type": "finish_run", "client_datetime": CLIENT_TIME})
}

/// A metric point. Without a step, the server assigns the next free one.
pub fn metric(name: &str, value: f64, step: Option<i64>) -> Value {
    json!({
        "type": "log_metric", "name": name, "value": value, "step": step, "epoch": null, "context": null,
        "dtype": "float", "client_datetime": CLIENT_TIME,
    })
}

pub fn log_record(message: &str, timestamp: f64) -> Value {
    json!({"type": "log_record", "message": message, "level": 20, "timestamp": timestamp})
}
