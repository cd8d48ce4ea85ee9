//! Streamed responses: messages of a gRPC stream in, entries of the codec out, as they arrive.
//! The first message is awaited before the status line, so that a rejected request is a proper
//! error and not a truncated body. A stream that fails later, or ends without its final
//! message, aborts the connection: a clean end always means that the response is complete.

use std::fmt::Write;
use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, header};
use matyan_proto::common::v1;
use matyan_proto::search::v1::Warning;
use matyan_wire::headers::QUERY_WARNINGS;
use matyan_wire::search_stream::PROGRESS;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use tonic::{Status, Streaming};

use super::answer::Answer;
use super::call::Dialect;
use super::shared::write_pair;
use crate::error::ApiResult;
use crate::stream::Encoder;

/// Size limit for warnings, because proxies reject long response heads.
const WARNINGS_BYTES: usize = 2_048;

/// Turns the messages of one call into entries.
pub(crate) trait EntryWriter: Send + 'static {
    type Message: Send + 'static;

    fn write(&mut self, message: Self::Message, encoder: &mut Encoder);

    /// Warnings about the query, from the first message of the search.
    fn warnings(_: &Self::Message) -> &[Warning] {
        &[]
    }

    /// Called after the last message. Returns false if the stream is incomplete.
    fn finish(&mut self, encoder: &mut Encoder) -> bool;
}

/// An answer of entries of the codec.
pub(crate) struct Entries(Body);

impl Answer for Entries {
    const MEDIA_TYPE: &str = "application/octet-stream";

    fn into_response(self) -> Response {
        let mut response = Response::new(self.0);
        let octets = HeaderValue::from_static(Self::MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, octets);
        response
    }
}

impl Entries {
    /// Entries that are already complete.
    pub(crate) fn complete(mut encoder: Encoder) -> Self {
        Entries(Body::from(encoder.take()))
    }
}

/// The entries found by a query, with a header for warnings about the query.
pub(crate) struct SearchResults {
    entries: Entries,
    warnings: Option<HeaderValue>,
}

impl Answer for SearchResults {
    const MEDIA_TYPE: &str = Entries::MEDIA_TYPE;

    fn into_response(self) -> Response {
        let mut response = self.entries.into_response();
        response.headers_mut().extend(self.warnings.map(|it| (HeaderName::from_static(QUERY_WARNINGS), it)));
        response
    }

    fn describe(dialect: Dialect, schemas: &mut SchemaGenerator) -> Map<String, Value> {
        let mut responses = Entries::describe(dialect, schemas);
        for response in responses.values_mut() {
            response["headers"] = json!({QUERY_WARNINGS: {
                "description": "warnings about the query: a JSON array of messages, in ASCII",
                "schema": {"type": "string"},
            }});
        }
        responses
    }
}

/// Responds with the entries that `writer` makes of `messages`.
pub(crate) async fn answer<R: EntryWriter>(messages: Streaming<R::Message>, writer: R) -> ApiResult<Entries> {
    Ok(search_results(messages, writer).await?.entries)
}

/// Like `answer`, with the warnings of a search.
pub(crate) async fn search_results<R: EntryWriter>(
    mut messages: Streaming<R::Message>,
    mut writer: R,
) -> ApiResult<SearchResults> {
    let mut encoder = Encoder::new();
    let mut first = messages.message().await?;
    let warnings = first.as_ref().and_then(|first| warnings(R::warnings(first)));
    if warnings.is_some()
        && let Some(warning_message) = first
    {
        // Warnings arrive before the search starts. Wait for the next message too, so
        // that a search that fails is still a proper error.
        writer.write(warning_message, &mut encoder);
        first = messages.message().await?;
    }
    let state = ResponseState { messages, writer, encoder, next: NextMessage::Message(first) };
    let chunks = stream::try_unfold(state, ResponseState::chunk);
    Ok(SearchResults { entries: Entries(Body::from_stream(chunks)), warnings })
}

/// The warnings as a JSON array in ASCII, as many as fit; `None` if there are none.
fn warnings(warnings: &[Warning]) -> Option<HeaderValue> {
    let mut text = String::new();
    for warning in warnings {
        let message = escape_non_ascii(&Value::from(warning.message.as_str()).to_string());
        if text.len() + message.len() < WARNINGS_BYTES {
            text.push(if text.is_empty() { '[' } else { ',' });
            text.push_str(&message);
        }
    }
    text.push(']');
    HeaderValue::from_str(&text).ok().filter(|_| text.starts_with('['))
}

/// Escapes non-ASCII characters in JSON, because HTTP headers are ASCII.
fn escape_non_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            text.push(character)
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

struct ResponseState<R: EntryWriter> {
    messages: Streaming<R::Message>,
    writer: R,
    encoder: Encoder,
    next: NextMessage<R::Message>,
}

enum NextMessage<M> {
    /// A message that was already received; `None` is the end.
    Message(Option<M>),
    Receive,
    End,
}

impl<R: EntryWriter> ResponseState<R> {
    /// The next non-empty chunk of the body.
    async fn chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let message = match std::mem::replace(&mut self.next, NextMessage::Receive) {
                NextMessage::Message(message) => message,
                NextMessage::Receive => self.messages.message().await.map_err(abort_error)?,
                NextMessage::End => return Ok(None),
            };
            match message {
                Some(message) => self.writer.write(message, &mut self.encoder),
                None if self.writer.finish(&mut self.encoder) => self.next = NextMessage::End,
                None => return Err(io::Error::other("the stream ended before its final message")),
            }
            if self.encoder.is_inconsistent() {
                return Err(io::Error::other("an entry does not have its announced length"));
            }
            let chunk = self.encoder.take();
            // A message may produce no entries, such as progress that was not requested.
            if !chunk.is_empty() {
                return Ok(Some((chunk, self)));
            }
        }
    }
}

/// The error for the body of a response whose status was already sent.
pub(super) fn abort_error(status: Status) -> io::Error {
    tracing::warn!(code = ?status.code(), message = status.message(), "streamed response aborted");
    io::Error::other(status)
}

/// Progress of a search, written as separate trees. Each has a new key, or readers would merge
/// them.
#[derive(Debug)]
pub(crate) struct ProgressWriter {
    is_requested: bool,
    entries: u64,
    last: Option<(i64, i64)>,
}

impl ProgressWriter {
    pub(crate) fn new(is_requested: bool) -> Self {
        ProgressWriter { is_requested, entries: 0, last: None }
    }

    /// Writes the progress, unless it is unchanged.
    pub(crate) fn write_if_changed(&mut self, encoder: &mut Encoder, checked: i64, total: i64) {
        if self.last != Some((checked, total)) {
            self.write_entry(encoder, checked, total);
        }
    }

    /// Writes the progress of a search for sequences. A keep-alive message is written even
    /// if the progress is unchanged.
    pub(crate) fn write_search_progress(
        &mut self,
        encoder: &mut Encoder,
        progress: &v1::Progress,
        is_keep_alive: bool,
    ) {
        let checked = progress.checked as i64;
        let total = progress.total as i64;
        if is_keep_alive {
            self.write_entry(encoder, checked, total)
        } else {
            self.write_if_changed(encoder, checked, total)
        }
    }

    /// Repeats the last progress as a keep-alive.
    pub(crate) fn write_keep_alive(&mut self, encoder: &mut Encoder) {
        if let Some((checked, total)) = self.last {
            self.write_entry(encoder, checked, total);
        }
    }

    /// Writes the entry that marks a complete response.
    pub(crate) fn write_end(&mut self, encoder: &mut Encoder) {
        self.write_entry(encoder, 0, 0);
    }

    pub(crate) fn is_unwritten(&self) -> bool {
        self.last.is_none()
    }

    fn write_entry(&mut self, encoder: &mut Encoder, checked: i64, total: i64) {
        self.last = Some((checked, total));
        if self.is_requested {
            encoder.member(&format!("{PROGRESS}{}", self.entries), |it| write_pair(it, checked, total));
            self.entries += 1;
        }
    }
}
