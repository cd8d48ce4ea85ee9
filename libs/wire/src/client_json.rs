//! The JSON protocol of Matyan 0.3 between clients and servers. A server decodes a frame into
//! metrics, events, and rejections, and answers with an ack; a client writes messages and reads acks.
//! Each item is validated independently. Decoding a message takes one pass of the `matyan-value`
//! scanner, and no allocation.
//!
//! A frame is one object or an array of objects. Invalid JSON rejects the whole frame; any
//! other problem rejects only its item. Duplicate keys: the last one wins. Nothing is rounded:
//! numbers keep their bits, free-form values keep integers and floats apart, and contexts are
//! passed on in their original form.

mod message;

mod convert;

pub mod ack;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use matyan_proto::ingest::v1 as pb;
use matyan_value::json::{JsonScanner, JsonSyntaxError};

use message::Members;
pub use write::{Unwritable, event_messages, point_message};

/// Maximum number of rejections kept with their reason. Others are only counted, so that a frame of
/// garbage costs no memory.
pub const MAX_REASONS: usize = 100;

/// The contents of a frame, borrowed from it wherever the text needs no decoding.
#[derive(Debug, Default)]
pub struct Frame<'a> {
    pub metrics: Vec<Metric<'a>>,
    pub events: Vec<pb::Event>,
    /// For each event, its index in the frame.
    pub event_items: Vec<u32>,
    pub rejections: Rejections,
}

/// One point of one series.
#[derive(Debug, PartialEq)]
pub struct Metric<'a> {
    /// Its index in the frame.
    pub item: u32,
    pub name: Cow<'a, str>,
    /// JSON text; empty for no context.
    pub context: Cow<'a, str>,
    pub dtype: Cow<'a, str>,
    pub value: f64,
    /// `ABSENT` if the server assigns the step.
    pub step: i64,
    /// `ABSENT` if it has none.
    pub epoch: i64,
    pub time_us: i64,
}

/// Items that can never be accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// The first `MAX_REASONS` rejections.
    pub reasons: Vec<Rejection>,
    pub count: usize,
}

/// One item that can never be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its index in the frame.
    pub item: u32,
    /// Empty if the item as a whole is invalid.
    pub field: Cow<'static, str>,
    pub reason: Cow<'static, str>,
}

/// A frame that cannot be decoded at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not JSON: expected {} at byte {}", .0.expected, .0.at)]
    Syntax(#[from] JsonSyntaxError),
    #[error("a frame must be a message object or an array of them, not {0}")]
    NotMessages(&'static str),
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
}

impl Rejections {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn push(&mut self, rejection: Rejection) {
        self.count += 1;
        self.list(rejection);
    }

    /// Records the reason of a rejection that is counted elsewhere. Returns false once no
    /// more are recorded.
    pub fn list(&mut self, rejection: Rejection) -> bool {
        let has_room = self.reasons.len() < MAX_REASONS;
        if has_room {
            self.reasons.push(rejection);
        }
        has_room
    }
}

/// Decodes one text frame. Never panics on any input.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let text = std::str::from_utf8(bytes).map_err(|error| FrameError::Utf8(error.valid_up_to()))?;
    decode_text(text)
}

/// Decodes one text frame that is known to be UTF-8.
pub fn decode_text(text: &str) -> Result<Frame<'_>, FrameError> {
    let mut scanner = JsonScanner::new(text);
    let mut members = Members::new();
    let mut frame = Frame::default();
    scanner.blank();
    match scanner.peek() {
        Some(b'{') => message::read(&mut scanner, &mut members, 0, &mut frame)?,
        Some(b'[') => read_array(&mut scanner, &mut members, &mut frame)?,
        _ => {
            // Text that is not valid JSON is reported as such, and not as the wrong type.
            let token = scanner.value()?;
            scanner.end()?;
            return Err(FrameError::NotMessages(token.kind.noun()));
        }
    }
    scanner.end()?;
    Ok(frame)
}

fn read_array<'a>(
    scanner: &mut JsonScanner<'a>,
    members: &mut Members<'a>,
    frame: &mut Frame<'a>,
) -> Result<(), FrameError> {
    scanner.open();
    if scanner.close(b']') {
        return Ok(());
    }
    for index in 0.. {
        match scanner.peek() {
            Some(b'{') => message::read(scanner, members, index, frame)?,
            _ => {
                let token = scanner.value()?;
                let reason = Cow::Owned(format!("a message is an object, not {}", token.kind.noun()));
                frame.rejections.push(Rejection { item: index, field: "".into(), reason });
            }
        }
        if !scanner.next_or_close(b']')? {
            break;
        }
    }
    Ok(())
}
