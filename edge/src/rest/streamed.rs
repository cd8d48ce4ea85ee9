//! Answers that are streams: messages of a gRPC stream in, entries of the codec out, as they come.
//! The first message is awaited before the status line, so that whatever a service refuses is an error and not a torn body. A
//! stream that fails later, or ends without saying so, aborts the connection: a clean end always means that it is complete.

use std::fmt::Write;
use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use matyan_proto::common::v1;
use matyan_proto::search::v1::Warning;
use serde_json::Value;
use tonic::{Status, Streaming};

use super::shared::stream_pair;
use super::table::Answer;
use crate::stream::Encoder;

/// Tells what is odd about a query.
pub(crate) const WARNINGS: &str = "x-query-warnings";

/// Proxies refuse heads that are long.
const WARNINGS_BYTES: usize = 2_048;

/// Turns the messages of one call into entries.
pub(crate) trait Rows: Send + 'static {
    type Message: Send + 'static;

    fn write(&mut self, message: Self::Message, encoder: &mut Encoder);

    /// What is odd about the query, which its first message tells.
    fn warnings(_: &Self::Message) -> &[Warning] {
        &[]
    }

    /// After the last message. False when the stream has not come to its proper end.
    fn finish(&mut self, encoder: &mut Encoder) -> bool;
}

/// The answer whose body is what `rows` makes of `messages`.
pub(crate) async fn answer<R: Rows>(messages: Streaming<R::Message>, rows: R) -> Answer {
    answer_after(Bytes::new(), messages, rows).await
}

/// The same behind some entries that are known already.
pub(crate) async fn answer_after<R: Rows>(
    before: Bytes,
    mut messages: Streaming<R::Message>,
    mut rows: R,
) -> Answer {
    let mut encoder = Encoder::new();
    let mut first = messages.message().await?;
    let warnings = first.as_ref().and_then(|first| warnings(R::warnings(first)));
    if warnings.is_some()
        && let Some(warned) = first
    {
        // Warnings come before anything was looked for: a search that fails then has no answer yet.
        rows.write(warned, &mut encoder);
        first = messages.message().await?;
    }
    let state = State { messages, rows, encoder, next: Next::Message(first) };
    let chunks = stream::try_unfold(state, State::chunk);
    let before = stream::iter((!before.is_empty()).then_some(Ok(before)));
    let mut response = response(Body::from_stream(futures::StreamExt::chain(before, chunks)));
    if let Some(warnings) = warnings {
        response.headers_mut().insert(WARNINGS, warnings);
    }
    Ok(response)
}

/// An answer that is complete already.
pub(crate) fn whole(mut encoder: Encoder) -> Response {
    response(Body::from(encoder.take()))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, octets);
    response
}

/// The messages as a JSON array in ASCII, those that there is room for; `None` without any.
fn warnings(warnings: &[Warning]) -> Option<HeaderValue> {
    let mut text = String::new();
    for warning in warnings {
        let message = ascii(&Value::from(warning.message.as_str()).to_string());
        if text.len() + message.len() < WARNINGS_BYTES {
            text.push(if text.is_empty() { '[' } else { ',' });
            text.push_str(&message);
        }
    }
    text.push(']');
    HeaderValue::from_str(&text).ok().filter(|_| text.starts_with('['))
}

/// JSON whose strings escape what is no ASCII, as headers of HTTP are.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character.is_ascii() && character != '\u{7f}' {
            true => text.push(character),
            false => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

struct State<R: Rows> {
    messages: Streaming<R::Message>,
    rows: R,
    encoder: Encoder,
    next: Next<R::Message>,
}

enum Next<M> {
    /// One that was received already; `None` is the end.
    Message(Option<M>),
    Receive,
    End,
}

impl<R: Rows> State<R> {
    /// The next piece of the body that is not empty.
    async fn chunk(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let message = match std::mem::replace(&mut self.next, Next::Receive) {
                Next::Message(message) => message,
                Next::Receive => self.messages.message().await.map_err(broken)?,
                Next::End => return Ok(None),
            };
            match message {
                Some(message) => self.rows.write(message, &mut self.encoder),
                None if self.rows.finish(&mut self.encoder) => self.next = Next::End,
                None => return Err(io::Error::other("the stream ended before its end")),
            }
            let chunk = self.encoder.take();
            if !chunk.is_empty() {
                return Ok(Some((chunk, self)));
            }
        }
    }
}

/// An error for the body of an answer whose status is out.
pub(super) fn broken(status: Status) -> io::Error {
    tracing::warn!(code = ?status.code(), message = status.message(), "a streamed answer is broken off");
    io::Error::other(status)
}

/// Progress of a search, told in trees of their own. Each has another key, or readers would merge them.
#[derive(Debug)]
pub(crate) struct Progress {
    wanted: bool,
    frames: u64,
    last: Option<(i64, i64)>,
}

impl Progress {
    pub(crate) fn new(wanted: bool) -> Self {
        Progress { wanted, frames: 0, last: None }
    }

    /// Tells how far the search is, unless that was told last.
    pub(crate) fn tell(&mut self, encoder: &mut Encoder, checked: i64, total: i64) {
        if self.last != Some((checked, total)) {
            self.frame(encoder, checked, total);
        }
    }

    /// Tells how far a search of sequences is; a message without one is a sign of life, which may tell what was told last.
    pub(crate) fn of(&mut self, encoder: &mut Encoder, progress: &v1::Progress, is_sign_of_life: bool) {
        let (checked, total) = (progress.checked as i64, progress.total as i64);
        match is_sign_of_life {
            true => self.frame(encoder, checked, total),
            false => self.tell(encoder, checked, total),
        }
    }

    /// Repeats what was told last, as a sign of life.
    pub(crate) fn heartbeat(&mut self, encoder: &mut Encoder) {
        if let Some((checked, total)) = self.last {
            self.frame(encoder, checked, total);
        }
    }

    /// The mark of a complete answer.
    pub(crate) fn done(&mut self, encoder: &mut Encoder) {
        self.frame(encoder, 0, 0);
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.last.is_none()
    }

    fn frame(&mut self, encoder: &mut Encoder, checked: i64, total: i64) {
        self.last = Some((checked, total));
        if self.wanted {
            encoder.member(&format!("progress_{}", self.frames), |it| stream_pair(it, checked, total));
            self.frames += 1;
        }
    }
}
