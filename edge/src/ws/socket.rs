//! One WebSocket: receiving and sending frames, keep-alive, and an orderly end.
//! A framework's socket does not suffice for two reasons. A frame over the limit is answered
//! with 1009, and the rest of it has to be read from the raw connection so that the answer
//! arrives. And a slow peer is distinguished from a dead one by its bytes, not by its messages.

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

use super::budget::{Budget, Metered, Share};

/// Maximum size of a frame by the API contract, uncompressed.
const FRAME_BYTES: usize = BATCH_BYTES;

/// Size of a read, which is also the buffer held by an idle connection. A frame of 100 messages
/// has 20 KiB.
const READ_BYTES: usize = 16 << 10;

/// Time limit for a peer to read a response, and to close after a close frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time limit to look for a frame that has already arrived.
const GLANCE: Duration = Duration::from_millis(20);

/// Time limit for the end of a frame that has begun, once no more frames are accepted.
const LAST_FRAME: Duration = Duration::from_secs(2);

/// Idle time after which a refused peer is assumed to have sent everything.
const LINGER: Duration = Duration::from_secs(1);

/// Maximum length of the reason in a close frame.
const REASON_BYTES: usize = 123;

/// A message from the peer, with its share of the budget.
#[derive(Debug)]
pub(super) enum Incoming {
    Text(Utf8Bytes, Share),
    Binary(Bytes, Share),
}

/// Reasons why nothing more can be received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed the connection, disconnected, or stopped responding.
    Gone,
    /// The peer violated the protocol but is still connected: close with this code.
    Refuse(CloseCode),
}

pub(super) struct Socket<S> {
    inner: WebSocketStream<Metered<S>>,
    tick: Interval,
    /// Number of bytes read when the last ping was sent.
    pinged_at: Option<u64>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Wraps a connection after its handshake.
    pub(super) async fn new(connection: S, ping_interval: Duration, budget: Budget) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_frame_size(Some(FRAME_BYTES))
            .max_message_size(Some(FRAME_BYTES));
        let metered = Metered::new(connection, budget);
        let inner = WebSocketStream::from_raw_socket(metered, Role::Server, Some(config)).await;
        let mut tick = interval(ping_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        Socket { inner, tick, pinged_at: None }
    }

    /// The next data frame. Answers pings and sends its own while waiting. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Incoming, End> {
        loop {
            tokio::select! {
                biased;
                message = self.inner.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let share = self.inner.get_mut().frame_ended(text.len());
                        return Ok(Incoming::Text(text, share));
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        let share = self.inner.get_mut().frame_ended(bytes.len());
                        return Ok(Incoming::Binary(bytes, share));
                    }
                    Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                        self.inner.get_mut().control_ended(payload.len());
                    }
                    // The answer to a close frame is already queued: the
                    // next read sends it and ends.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(end(&error)),
                    None => return Err(End::Gone),
                },
                _ = self.tick.tick() => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        let connection = self.inner.get_ref();
        let read = connection.bytes();
        if self.pinged_at == Some(read) && !connection.waits() {
            return Err(End::Gone);
        }
        self.pinged_at = Some(read).filter(|_| !connection.waits());
        self.send([Message::Ping(Bytes::new())]).await
    }

    /// Restarts the keep-alive timer: while the server does not read, a silent peer is not
    /// dead.
    pub(super) fn excuse(&mut self) {
        self.tick.reset();
        self.pinged_at = None;
    }

    /// The last frame, if it has arrived or at least begun. Called when no more frames will
    /// be read.
    pub(super) async fn last(&mut self) -> Option<Result<Incoming, End>> {
        match timeout(GLANCE, self.next()).await {
            Ok(incoming) => Some(incoming),
            Err(_) if self.inner.get_ref().is_inside_frame() => timeout(LAST_FRAME, self.next()).await.ok(),
            Err(_) => None,
        }
    }

    /// Sends all `messages`, with a single write if they fit.
    pub(super) async fn send(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), End> {
        let sending = async {
            for message in messages {
                self.inner.feed(message).await?;
            }
            self.inner.flush().await
        };
        match timeout(PATIENCE, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Sends the `last` messages and a close frame in one write, then waits for the peer to
    /// close. They are sent together so that the peer does not begin another frame in
    /// between.
    pub(super) async fn close(mut self, last: Vec<Message>, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let told = self.send(last.into_iter().chain([close])).await;
        if told == Ok(()) && timeout(PATIENCE, self.drain()).await.is_err() {
            tracing::debug!("peer did not close its WebSocket in time");
        }
    }

    /// Reads and discards data until the peer has closed. None of it can be answered, but a
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
        while let Ok(Ok(1..)) = timeout(LINGER, rest.read(&mut buffer)).await {}
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

fn end(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Refuse(CloseCode::Size),
        Error::Utf8(_) => End::Refuse(CloseCode::Invalid),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => End::Gone,
        Error::Protocol(_) => End::Refuse(CloseCode::Protocol),
        _ => End::Gone,
    }
}
