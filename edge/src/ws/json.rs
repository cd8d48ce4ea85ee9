//! The JSON dialect of the Python client: one frame into metrics, events and rejections, each item judged on its own.
//! One pull parser of our own, because no strict parser reads what Python writes (bare NaN, integers of any size, lone
//! surrogates), and because it is also the quickest: a message costs one pass and no allocation.
//!
//! A frame is one object or an array of objects. What is no JSON at all refuses the frame; anything else refuses only its
//! item. Duplicate keys: the last one wins. Nothing is rounded: numbers keep their bits, free-form values keep integer and
//! float apart, contexts go on as the text that came.

mod cbor;
mod convert;
mod datetime;
mod item;
mod scan;
mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use matyan_proto::ingest::v1 as pb;
use matyan_proto::limits::VALUE_DEPTH;

pub(crate) use cbor::ValueError;
use item::Fields;
use scan::{Kind, Scanner};

/// How deep arrays and objects may be nested inside one field. Later readers of the value recurse.
pub const MAX_DEPTH: u16 = VALUE_DEPTH as u16;

/// Rejections that are kept with their reason; of more only the number, so that a frame of garbage costs no memory.
pub const MAX_REASONS: usize = 100;

/// "No step" and "no epoch" in a column.
pub const ABSENT: i64 = i64::MIN;

/// What a frame holds. Borrowed from it wherever the text needs no decoding.
#[derive(Debug, Default)]
pub struct Frame<'a> {
    pub metrics: Vec<Metric<'a>>,
    pub events: Vec<pb::Event>,
    /// For each event, which item of the frame it is.
    pub event_items: Vec<u32>,
    pub rejections: Rejections,
}

/// One point of one series.
#[derive(Debug, PartialEq)]
pub struct Metric<'a> {
    /// Which item of the frame it is.
    pub item: u32,
    pub name: Cow<'a, str>,
    /// JSON text; empty for no context.
    pub context: Cow<'a, str>,
    pub dtype: Cow<'a, str>,
    pub value: f64,
    /// `ABSENT` when the server is to number it.
    pub step: i64,
    /// `ABSENT` when there is none.
    pub epoch: i64,
    pub time_us: i64,
}

/// Why items can never be accepted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// The first `MAX_REASONS`.
    pub reasons: Vec<Rejection>,
    pub count: usize,
}

/// One item that can never be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its place in the frame.
    pub item: u32,
    /// Empty when the item as a whole is wrong.
    pub field: Cow<'static, str>,
    pub reason: Cow<'static, str>,
}

/// The frame as a whole cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not JSON: expected {expected} at byte {at}")]
    Syntax { at: usize, expected: &'static str },
    #[error("a frame is a message object or an array of them, not {0}")]
    NotMessages(&'static str),
    #[error("not UTF-8 from byte {0} on")]
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

    /// Keeps the reason of one that is counted otherwise. False once no more are kept.
    pub(super) fn list(&mut self, rejection: Rejection) -> bool {
        let has_room = self.reasons.len() < MAX_REASONS;
        if has_room {
            self.reasons.push(rejection);
        }
        has_room
    }
}

/// JSON text of this dialect as CBOR.
pub(crate) fn to_cbor(text: &str) -> Result<Bytes, ValueError> {
    let mut scanner = Scanner::new(text);
    scanner.blank();
    let value = scanner.value()?;
    scanner.end()?;
    cbor::transcode(&value)
}

/// Reads one text frame. Never panics, whatever the bytes.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let text = std::str::from_utf8(bytes).map_err(|error| FrameError::Utf8(error.valid_up_to()))?;
    decode_text(text)
}

/// Reads one text frame that is known to be UTF-8.
pub fn decode_text(text: &str) -> Result<Frame<'_>, FrameError> {
    let mut scanner = Scanner::new(text);
    let mut fields = Fields::new();
    let mut frame = Frame::default();
    scanner.blank();
    match scanner.peek() {
        Some(b'{') => item::read(&mut scanner, &mut fields, 0, &mut frame)?,
        Some(b'[') => read_array(&mut scanner, &mut fields, &mut frame)?,
        _ => {
            let token = scanner.value()?;
            scanner.end()?;
            return Err(FrameError::NotMessages(token.kind.noun()));
        }
    }
    scanner.end()?;
    Ok(frame)
}

fn read_array<'a>(
    scanner: &mut Scanner<'a>,
    fields: &mut Fields<'a>,
    frame: &mut Frame<'a>,
) -> Result<(), FrameError> {
    scanner.open();
    if scanner.close(b']') {
        return Ok(());
    }
    for index in 0.. {
        match scanner.peek() {
            Some(b'{') => item::read(scanner, fields, index, frame)?,
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

impl Kind {
    /// For messages: what stands there.
    fn noun(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::True | Kind::False => "a boolean",
            Kind::Integer => "an integer",
            Kind::Float => "a number",
            Kind::Text | Kind::EscapedText => "text",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}
