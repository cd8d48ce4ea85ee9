//! JSON lists that may be too long for memory: the items of a stream of messages, written as
//! they arrive.
//! As with every stream, the first message is awaited before the status line; an error after
//! that aborts the connection.

use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use serde::Serialize;
use tonic::Streaming;

use super::stream_response::abort_error;
use super::table::Answer;
use crate::error::ApiError;

/// JSON text under construction, which is taken piece by piece.
#[derive(Debug, Default)]
pub(super) struct JsonItems {
    out: Vec<u8>,
    needs_comma: bool,
}

impl JsonItems {
    /// Appends an item, preceded by a comma unless it is the first.
    pub(super) fn push(&mut self, item: &impl Serialize) {
        self.comma();
        serde_json::to_writer(&mut self.out, item)
            .expect("map keys are text, and writing to memory cannot fail");
    }

    pub(super) fn comma(&mut self) {
        if std::mem::replace(&mut self.needs_comma, true) {
            self.out.push(b',');
        }
    }

    /// Appends text other than an item. The next item starts a new list.
    pub(super) fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.needs_comma = false;
    }

    /// Appends the end of a nested list, which is itself an item.
    pub(super) fn end_item(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.needs_comma = true;
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }
}

/// Responds with the items of all messages, between `prefix` and `suffix`.
pub(super) async fn answer<M, W>(
    prefix: &str,
    mut messages: Streaming<M>,
    write: W,
    suffix: &'static str,
) -> Answer
where
    M: Send + 'static,
    W: FnMut(M, &mut JsonItems) -> Result<(), ApiError> + Send + 'static,
{
    let first = messages.message().await?;
    answer_from(prefix, first, messages, write, suffix)
}

/// Like `answer`, for a stream whose first message, or end, has already been received.
pub(super) fn answer_from<M, W>(
    prefix: &str,
    first: Option<M>,
    messages: Streaming<M>,
    write: W,
    suffix: &'static str,
) -> Answer
where
    M: Send + 'static,
    W: FnMut(M, &mut JsonItems) -> Result<(), ApiError> + Send + 'static,
{
    let mut list = ListState { messages, write, suffix: Some(suffix), items: JsonItems::default() };
    list.items.text(prefix);
    list.add(first)?;
    Ok(json(Body::from_stream(stream::try_unfold(list, ListState::chunk))))
}

struct ListState<M, W> {
    messages: Streaming<M>,
    write: W,
    /// `None` once the last message has been received.
    suffix: Option<&'static str>,
    items: JsonItems,
}

impl<M, W> ListState<M, W>
where
    W: FnMut(M, &mut JsonItems) -> Result<(), ApiError>,
{
    /// Writes the next message, or the end. Fails if the message cannot be converted to
    /// JSON.
    fn add(&mut self, message: Option<M>) -> Result<(), ApiError> {
        match message {
            Some(message) => (self.write)(message, &mut self.items),
            None => {
                self.items.text(self.suffix.take().unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The next chunk of the body.
    async fn chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while self.items.out.is_empty() && self.suffix.is_some() {
            let message = self.messages.message().await.map_err(abort_error)?;
            self.add(message).map_err(|_| io::Error::other("an item cannot be converted to JSON"))?;
        }
        let chunk = self.items.take();
        Ok((!chunk.is_empty()).then_some((chunk, self)))
    }
}

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
