//! JSON that may be too long for memory: lists of the items of a stream of messages, and other
//! answers, written as messages arrive.
//! As with every stream, the first message is awaited before the status line; an error after
//! that aborts the connection.

use std::io;
use std::marker::PhantomData;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{TryStreamExt as _, future, stream};
use http::{HeaderValue, header};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;
use tonic::Streaming;

use super::answer::Answer;
use super::stream_response::abort_error;
use crate::error::ApiResult;

/// An answer that ends with a list, which is written item by item.
pub(super) trait Envelope: Serialize + JsonSchema {
    type Item: Serialize;
}

impl<T: Serialize + JsonSchema> Envelope for Vec<T> {
    type Item = T;
}

/// The JSON of an `E`, written piece by piece.
pub(super) struct JsonStream<E> {
    body: Body,
    envelope: PhantomData<fn(E)>,
}

impl<E> JsonStream<E> {
    /// The text of an `E` in pieces. The first pieces have already been received without an error.
    pub(super) fn of_pieces(pieces: BoxStream<'static, ApiResult<Bytes>>) -> Self {
        let pieces = pieces.map_err(|error| {
            tracing::warn!(message = error.message(), "streamed response aborted");
            io::Error::other("the answer cannot be completed")
        });
        // A piece without bytes would look like the end of the body to some transports.
        let pieces = pieces.try_filter(|piece| future::ready(!piece.is_empty()));
        JsonStream { body: Body::from_stream(pieces), envelope: PhantomData }
    }
}

impl<E: JsonSchema> Answer for JsonStream<E> {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn schema(schemas: &mut SchemaGenerator) -> Value {
        schemas.subschema_for::<E>().to_value()
    }
}

/// JSON text under construction, which is taken piece by piece.
#[derive(Debug, Default)]
pub(super) struct JsonItems {
    out: Vec<u8>,
    needs_comma: bool,
    /// The member `next_cursor` after the list.
    next_cursor: Option<String>,
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

    /// Sets the member `next_cursor`, which is written after the list.
    pub(super) fn set_next_cursor(&mut self, cursor: String) {
        self.next_cursor = Some(cursor);
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }
}

/// Responds with `envelope`, whose list is empty, and the items of all messages in its list.
pub(super) async fn answer<E: Envelope, M: Send + 'static>(
    envelope: E,
    mut messages: Streaming<M>,
    items: impl Fn(M) -> ApiResult<Vec<E::Item>> + Send + 'static,
) -> ApiResult<JsonStream<E>> {
    let first = messages.message().await?;
    answer_from(&envelope, first, messages, move |message, out| {
        for item in items(message)?.iter() {
            out.push(item);
        }
        Ok(())
    })
}

/// Like `answer`, for a stream whose first message, or end, has already been received, and for
/// items that may be written in several pieces.
pub(super) fn answer_from<E: Envelope, M: Send + 'static>(
    envelope: &E,
    first: Option<M>,
    messages: Streaming<M>,
    mut write: impl FnMut(M, &mut JsonItems) -> ApiResult<()> + Send + 'static,
) -> ApiResult<JsonStream<E>> {
    let envelope = serde_json::to_string(envelope).expect("map keys are text");
    let list_end = envelope.rfind(']').expect("an envelope ends with its list");
    let suffix = envelope[list_end..].to_owned();
    let mut items = JsonItems::default();
    items.text(&envelope[..list_end]);
    answer_pieces(items, first, messages, move |message, items| match message {
        Some(message) => write(message, items),
        None => {
            let mut suffix = suffix.clone();
            if let Some(cursor) = items.next_cursor.take() {
                // It starts with the bracket of the list.
                suffix.insert_str(1, &format!(r#","next_cursor":{}"#, Value::from(cursor)));
            }
            items.text(&suffix);
            Ok(())
        }
    })
}

/// Responds with the text of an `E`, which `write` continues with each message, and ends after the last
/// one.
pub(super) fn answer_pieces<E, M: Send + 'static>(
    begun: JsonItems,
    first: Option<M>,
    messages: Streaming<M>,
    write: impl FnMut(Option<M>, &mut JsonItems) -> ApiResult<()> + Send + 'static,
) -> ApiResult<JsonStream<E>> {
    let mut pieces = JsonPieces { messages, write, is_ended: false, items: begun };
    pieces.add(first)?;
    let body = Body::from_stream(stream::try_unfold(pieces, JsonPieces::chunk));
    Ok(JsonStream { body, envelope: PhantomData })
}

struct JsonPieces<M, W> {
    messages: Streaming<M>,
    write: W,
    /// Whether the last message has been received.
    is_ended: bool,
    items: JsonItems,
}

impl<M, W> JsonPieces<M, W>
where
    W: FnMut(Option<M>, &mut JsonItems) -> ApiResult<()>,
{
    /// Writes the next message, or the end. Fails if the message cannot be converted to
    /// JSON.
    fn add(&mut self, message: Option<M>) -> ApiResult<()> {
        self.is_ended = message.is_none();
        (self.write)(message, &mut self.items)
    }

    /// The next chunk of the body.
    async fn chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while self.items.out.is_empty() && !self.is_ended {
            let message = self.messages.message().await.map_err(abort_error)?;
            self.add(message).map_err(|_| io::Error::other("an item cannot be converted to JSON"))?;
        }
        let chunk = self.items.take();
        Ok((!chunk.is_empty()).then_some((chunk, self)))
    }
}
