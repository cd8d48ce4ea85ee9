//! The JSON protocol of a server without the binary subprotocol, such as a Matyan 0.3 frontier.
//!
//! One frame is outstanding at a time. A batch becomes the same frames whenever it is encoded, so
//! after a lost connection, or in the next process, the same bytes are sent again. An ack says
//! either that all items of a frame are stored, or it is an error, which can mean three things:
//!
//! | error text | meaning | consequence |
//! |---|---|---|
//! | `item 3: value: …; item 7: …` | these items are invalid, all others are stored | they are reported |
//! | of the validator of Matyan 0.3 | one item is invalid, and the rest of the frame is lost | the items are sent one by one |
//! | anything else | the log could not be written | the frame is sent again, on a new connection |
//!
//! Data that was stored before an error is stored twice if it is sent again. That does no harm, except to
//! log records, and to points for which the server assigns the steps.

mod frame;

use std::time::Duration;

use futures::{FutureExt as _, Sink, SinkExt, Stream, StreamExt};
use matyan_proto::ingest::v1::{IngestionBatch, Rejection, SeriesDef};
use matyan_wire::client_json::ack::{Ack, RefusedItem, refused_items};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::sender::idle_messages::IdleMessages;
use frame::{FrameWriter, JsonFrame};

/// Time to wait for an ack. Servers hold a frame for up to 40 s while their log is away; a server that says
/// nothing for longer is gone.
const ACK_LIMIT: Duration = Duration::from_secs(60);

/// Words in every error of the validator of Matyan 0.3.
const VALIDATOR: &str = "validation error";

/// Most bytes of an answer that are quoted in an error.
const QUOTED_BYTES: usize = 200;
/// Most bytes of the reason that are kept of a rejection.
const REASON_BYTES: usize = 2 << 10;

/// The reason why a connection cannot be used any more. The batch has to be sent again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// It broke, or the server closed it.
    #[error("the connection was lost: {0}")]
    Disconnected(String),
    /// The server cannot store data now.
    #[error("the server cannot store data: {0}")]
    Unavailable(String),
    /// No ack in time.
    #[error("the server has not answered for {} s", ACK_LIMIT.as_secs())]
    Silent,
    /// An answer that is not an ack.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// An open connection that speaks JSON.
pub(crate) struct JsonSession<S> {
    socket: S,
    ack_limit: Duration,
    /// Messages since the last ack.
    idle_messages: IdleMessages,
}

impl<S> JsonSession<S>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Sink<Message, Error = tungstenite::Error> + Unpin,
{
    /// Uses a socket after its handshake.
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, ack_limit: ACK_LIMIT, idle_messages: IdleMessages::default() }
    }

    /// Sends a batch and waits until it is stored. Returns the items that can never be accepted,
    /// numbered as in the batch. `dictionary` holds all definitions up to and including the definitions of the
    /// batch.
    pub(crate) async fn deliver(
        &mut self,
        batch: &IngestionBatch,
        dictionary: &[SeriesDef],
    ) -> Result<Vec<Rejection>, SessionError> {
        let mut frames = FrameWriter::default();
        frames.write_batch(batch, dictionary);
        let (frames, mut rejections) = frames.finish();
        for frame in &frames {
            self.deliver_frame(frame, &mut rejections).await?;
        }
        rejections.sort_by_key(|rejection| rejection.item);
        Ok(rejections)
    }

    async fn deliver_frame(
        &mut self,
        frame: &JsonFrame,
        rejections: &mut Vec<Rejection>,
    ) -> Result<(), SessionError> {
        let Ack::Refused(error) = self.exchange(&frame.text()).await? else { return Ok(()) };
        if let Some(refused) = refused_items(&error) {
            // No more items than were sent.
            rejections.extend(refused.into_iter().take(frame.len()).map(|item| refusal(item, frame)));
            return Ok(());
        }
        if !error.contains(VALIDATOR) {
            return Err(SessionError::Unavailable(beginning(&error, QUOTED_BYTES)));
        }
        for item in 0..frame.len() {
            // Frames of one item are sent as a bare object, as the published client does.
            if let Ack::Refused(error) = self.exchange(frame.item_text(item)).await? {
                if !error.contains(VALIDATOR) {
                    return Err(SessionError::Unavailable(beginning(&error, QUOTED_BYTES)));
                }
                rejections.push(rejection(frame.item_number(item), 1, "", &error));
            }
        }
        Ok(())
    }

    /// Sends one frame and waits for its ack.
    async fn exchange(&mut self, text: &str) -> Result<Ack, SessionError> {
        // An ack that has already arrived cannot belong to this frame.
        if let Some(error) = self.idle().now_or_never() {
            return Err(error);
        }
        let limit = self.ack_limit;
        let exchange = async {
            self.socket.send(Message::text(text)).await.map_err(lost)?;
            self.ack().await
        };
        tokio::time::timeout(limit, exchange).await.map_err(|_| SessionError::Silent)?
    }

    async fn ack(&mut self) -> Result<Ack, SessionError> {
        loop {
            // Other runs share this thread, and messages that have already arrived are read without waiting.
            tokio::task::coop::consume_budget().await;
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    self.idle_messages.reset();
                    return parse_ack(&text);
                }
                // Reading answers pings.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    if self.idle_messages.count(Instant::now()) {
                        return Err(SessionError::Unexpected("messages that say nothing new".into()));
                    }
                }
                Some(Ok(Message::Binary(_))) => {
                    return Err(SessionError::Unexpected("a binary frame".into()));
                }
                Some(Ok(Message::Close(reason))) => {
                    let reason =
                        reason.map_or_else(|| "closed by the server".to_owned(), |it| it.to_string());
                    return Err(SessionError::Disconnected(reason));
                }
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(SessionError::Disconnected("closed by the server".into())),
            }
        }
    }

    /// Reads while no ack is expected, so that pings are answered. Returns when the connection cannot
    /// be used any more.
    pub(crate) async fn idle(&mut self) -> SessionError {
        match self.ack().await {
            Ok(_) => SessionError::Unexpected("an ack without a frame".into()),
            Err(error) => error,
        }
    }

    /// Closes the connection.
    pub(crate) async fn close(mut self) {
        // Everything that was sent is acknowledged, so a failure loses nothing.
        drop(self.socket.close().await);
    }
}

fn lost(error: tungstenite::Error) -> SessionError {
    SessionError::Disconnected(error.to_string())
}

fn parse_ack(text: &str) -> Result<Ack, SessionError> {
    Ack::parse(text).ok_or_else(|| SessionError::Unexpected(beginning(text, QUOTED_BYTES)))
}

fn beginning(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

fn rejection(item: u32, count: u32, field: &str, reason: &str) -> Rejection {
    let field = beginning(field, REASON_BYTES);
    let reason = beginning(reason, REASON_BYTES);
    Rejection { item, count, field, reason }
}

fn refusal(item: RefusedItem<'_>, frame: &JsonFrame) -> Rejection {
    // Items that are only counted are taken to be the last ones, because they are listed in order.
    let last = frame.len().saturating_sub(item.count as usize);
    let number = frame.item_number(item.index.unwrap_or(last));
    rejection(number, item.count, item.field, item.reason)
}

#[cfg(test)]
mod tests;
