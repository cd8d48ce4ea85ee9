//! One WebSocket: receiving and sending frames, keep-alive, and an orderly end. A framework's
//! socket is not sufficient, for two reasons. A frame over the limit is rejected with 1009, and
//! the rest of it must be read from the raw connection so that the close frame arrives. And a
//! slow peer is distinguished from a dead one by its bytes, not by its messages.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use matyan_proto::limits::BATCH_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::budget::{BudgetShare, SocketBudget};
use super::metered_connection::MeteredConnection;

/// Maximum size of a frame by the API contract, uncompressed.
const FRAME_BYTES: usize = BATCH_BYTES;

/// Size of a read, which is also the buffer held by an idle connection. A frame of 100 messages
/// has 20 KiB.
const READ_BYTES: usize = 16 << 10;

/// Time limit for a peer to read a response, and to close after a close frame.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit to look for a frame that has already arrived.
const ARRIVED_FRAME_TIMEOUT: Duration = Duration::from_millis(20);

/// Time limit for the end of a frame that has started, once no more frames are accepted.
const LAST_FRAME_TIMEOUT: Duration = Duration::from_secs(2);

/// Idle time after which a refused peer is assumed to have sent everything.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of the reason in a close frame.
const REASON_BYTES: usize = 123;

/// A message from the peer, with its share of the budget.
#[derive(Debug)]
pub(super) enum IncomingFrame {
    Text(Utf8Bytes, BudgetShare),
    Binary(Bytes, BudgetShare),
}

/// Reasons why nothing more can be received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SocketEnd {
    /// The peer closed the connection, disconnected, or stopped responding.
    Disconnected,
    /// The peer violated the protocol but is still connected: close with this code.
    Violation(CloseCode),
}

pub(super) struct Socket<S> {
    inner: WebSocketStream<MeteredConnection<S>>,
    ping_timer: Interval,
    /// Number of bytes read when the last ping was sent.
    bytes_at_ping: Option<u64>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps a connection after its handshake.
    pub(super) async fn new(connection: S, ping_interval: Duration, budget: SocketBudget) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_frame_size(Some(FRAME_BYTES))
            .max_message_size(Some(FRAME_BYTES));
        let metered = MeteredConnection::new(connection, budget);
        let inner = WebSocketStream::from_raw_socket(metered, Role::Server, Some(config)).await;
        let mut ping_timer = interval(ping_interval);
        ping_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of an interval would otherwise complete immediately.
        ping_timer.reset();
        Socket { inner, ping_timer, bytes_at_ping: None }
    }

    /// The next data frame. Answers pings and sends its own while waiting. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<IncomingFrame, SocketEnd> {
        loop {
            tokio::select! {
                biased;
                message = self.inner.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let share = self.inner.get_mut().frame_ended(text.len());
                        return Ok(IncomingFrame::Text(text, share));
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        let share = self.inner.get_mut().frame_ended(bytes.len());
                        return Ok(IncomingFrame::Binary(bytes, share));
                    }
                    Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                        self.inner.get_mut().control_ended(payload.len());
                    }
                    // The reply to a close frame is already queued: the next
                    // read sends it and ends.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(end_of_error(&error)),
                    None => return Err(SocketEnd::Disconnected),
                },
                _ = self.ping_timer.tick() => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), SocketEnd> {
        let connection = self.inner.get_ref();
        let read = connection.bytes();
        // Not a single byte has arrived since the last ping, not even a pong.
        if self.bytes_at_ping == Some(read) && !connection.is_waiting() {
            return Err(SocketEnd::Disconnected);
        }
        self.bytes_at_ping = Some(read).filter(|_| !connection.is_waiting());
        self.send([Message::Ping(Bytes::new())]).await
    }

    /// Restarts the keep-alive timer: while the server does not read, a silent peer does
    /// not count as dead.
    pub(super) fn reset_keep_alive(&mut self) {
        self.ping_timer.reset();
        self.bytes_at_ping = None;
    }

    /// The last frame, if it has arrived or at least started. Called when no more frames will
    /// be read.
    pub(super) async fn last_frame(&mut self) -> Option<Result<IncomingFrame, SocketEnd>> {
        match timeout(ARRIVED_FRAME_TIMEOUT, self.next()).await {
            Ok(incoming) => Some(incoming),
            Err(_) if self.inner.get_ref().is_inside_frame() => {
                timeout(LAST_FRAME_TIMEOUT, self.next()).await.ok()
            }
            Err(_) => None,
        }
    }

    /// Sends all `messages`, with a single write if they fit.
    pub(super) async fn send(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<(), SocketEnd> {
        let sending = async {
            for message in messages {
                self.inner.feed(message).await?;
            }
            self.inner.flush().await
        };
        match timeout(PEER_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(SocketEnd::Disconnected),
        }
    }

    /// Sends the `last` messages and a close frame in one write, then waits for the peer to
    /// close. They are sent together so that the peer does not start another frame in
    /// between.
    pub(super) async fn close(mut self, last: Vec<Message>, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let sent = self.send(last.into_iter().chain([close])).await;
        if sent == Ok(()) && timeout(PEER_TIMEOUT, self.drain()).await.is_err() {
            tracing::debug!("peer did not close its WebSocket in time");
        }
    }

    /// Reads and discards data until the peer has closed. No response is possible, but a
    /// connection with unread bytes would be reset before the peer has read the close
    /// frame.
    async fn drain(&mut self) {
        while let Some(Ok(message)) = self.inner.next().await {
            self.inner.get_mut().frame_ended(message.len());
        }
        // After an unreadable frame, the closing handshake cannot be recognized, so idle
        // time ends the wait.
        let rest = self.inner.get_mut().unmetered();
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(Ok(1..)) = timeout(LINGER_TIMEOUT, rest.read(&mut buffer)).await {}
    }
}

/// The reason sent to a peer that violated the protocol.
pub(super) fn reason(code: CloseCode) -> String {
    match code {
        CloseCode::Size => format!("a frame may have at most {FRAME_BYTES} bytes: send smaller frames"),
        CloseCode::Invalid => "a text frame is not valid UTF-8".to_owned(),
        _ => "this is not the WebSocket protocol".to_owned(),
    }
}

fn end_of_error(error: &Error) -> SocketEnd {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => SocketEnd::Violation(CloseCode::Size),
        Error::Utf8(_) => SocketEnd::Violation(CloseCode::Invalid),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => SocketEnd::Disconnected,
        Error::Protocol(_) => SocketEnd::Violation(CloseCode::Protocol),
        _ => SocketEnd::Disconnected,
    }
}
