//! The binary subprotocol of the WebSocket, as `docs/concepts/websocket.md` describes it.

use bytes::Bytes;
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use matyan_proto::ingest::v1::{StreamRequest, StreamResponse};
use prost::Message as _;
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::sender::{
    link::{LinkEnd, RequestSink, ResponseStream},
    websocket::Socket,
};

/// Requests as frames.
pub(crate) struct BinaryRequests(SplitSink<Socket, Message>);

/// Responses as frames.
pub(crate) struct BinaryResponses(SplitStream<Socket>);

/// Both directions of an open socket.
pub(crate) fn split(socket: Socket) -> (BinaryRequests, BinaryResponses) {
    let (sink, stream) = socket.split();
    (BinaryRequests(sink), BinaryResponses(stream))
}

impl RequestSink for BinaryRequests {
    async fn send(&mut self, request: StreamRequest) -> Result<(), String> {
        self.0.send(Message::binary(request.encode_to_vec())).await.map_err(|error| error.to_string())
    }

    async fn ping(&mut self) -> Result<(), String> {
        self.0.send(Message::Ping(Bytes::new())).await.map_err(|error| error.to_string())
    }

    async fn close(&mut self) {
        // The server has everything: whether it also learns of the end does not matter.
        self.0.close().await.ok();
    }
}

impl ResponseStream for BinaryResponses {
    const SHOWS_PINGS: bool = true;

    async fn next(&mut self) -> Result<Option<StreamResponse>, LinkEnd> {
        match self.0.next().await {
            Some(Ok(Message::Binary(frame))) => match StreamResponse::decode(frame) {
                Ok(response) => Ok(Some(response)),
                Err(error) => Err(LinkEnd::Lost(format!("the server sent an invalid response: {error}"))),
            },
            Some(Ok(Message::Close(frame))) => Err(close_reason(frame.as_ref())),
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(lost(&error)),
            None => Err(LinkEnd::Lost("the connection ended".to_owned())),
        }
    }
}

fn lost(error: &tungstenite::Error) -> LinkEnd {
    LinkEnd::Lost(error.to_string())
}

fn close_reason(frame: Option<&CloseFrame>) -> LinkEnd {
    let Some(frame) = frame else { return LinkEnd::Lost("the server closed the connection".to_owned()) };
    let reason = format!("the server closed the connection ({}): {}", u16::from(frame.code), frame.reason);
    let is_refused = |code: &str| frame.code == CloseCode::Policy && frame.reason.starts_with(code);
    if is_refused("OUT_OF_SEQUENCE") {
        LinkEnd::Refused(reason)
    } else if ["NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"].into_iter().any(is_refused) {
        LinkEnd::NeedsCorrection(reason)
    } else {
        LinkEnd::Lost(reason)
    }
}
