//! A WebSocket with direct access to its bytes, so that a test can cut a frame anywhere or
//! close without a close frame.

use std::io;

use futures::{SinkExt, StreamExt};
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse, stream_request};
use prost::Message as _;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::{binary::PROTOCOL, json::url};

pub struct RawSocket {
    pub socket: WebSocketStream<TcpStream>,
}

/// Type of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

impl RawSocket {
    /// Connects with the JSON protocol.
    pub async fn json(base: &str, run_id: &str) -> Self {
        Self::connect(base, run_id, None).await
    }

    /// Connects with the binary protocol.
    pub async fn binary(base: &str, run_id: &str) -> Self {
        Self::connect(base, run_id, Some(PROTOCOL)).await
    }

    async fn connect(base: &str, run_id: &str, protocol: Option<&'static str>) -> Self {
        let mut request = url(base, run_id).into_client_request().expect("the base is a URL");
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        }
        let address = base.strip_prefix("http://").expect("the server speaks HTTP");
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let handshake = tokio_tungstenite::client_async(request, stream).await;
        Self { socket: handshake.expect("the handshake is accepted").0 }
    }

    /// Writes raw bytes, bypassing the WebSocket framing.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.socket.get_mut();
        stream.write_all(bytes).await?;
        stream.flush().await
    }

    /// Ends the TCP connection: with an orderly close, or with a reset.
    pub fn disconnect(self, resets: bool) {
        if resets {
            self.socket.get_ref().set_zero_linger().expect("the socket is open");
        }
    }

    pub async fn send(&mut self, message: Message) -> Result<(), String> {
        self.socket.send(message).await.map_err(|error| error.to_string())
    }

    /// The next data or close frame.
    pub async fn next(&mut self) -> Result<Message, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection ended".into()),
            }
        }
    }

    /// Sends a message of the binary protocol.
    pub async fn request(&mut self, message: stream_request::Message) -> Result<(), String> {
        self.send(Message::binary(encoded(message))).await
    }

    /// The next response of the binary protocol.
    pub async fn response(&mut self) -> Result<StreamResponse, String> {
        match self.next().await? {
            Message::Binary(bytes) => StreamResponse::decode(bytes).map_err(|error| error.to_string()),
            other => Err(format!("unexpected {other:?}")),
        }
    }
}

pub fn encoded(message: stream_request::Message) -> Vec<u8> {
    StreamRequest { message: Some(message) }.encode_to_vec()
}

/// A complete frame as a client encodes it.
pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    // Clients must mask their frames.
    const MASK: [u8; 4] = [0x5a, 0x00, 0xff, 0x17];
    // The FIN bit, and the opcode for text or binary.
    let mut frame = vec![if kind == Kind::Text { 0x81 } else { 0x82 }];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
