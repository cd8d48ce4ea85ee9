//! Conversion of JSON text to CBOR and back in a single pass, without a `Value`, so that a response
//! with a thousand runs needs no memory except for its bytes. Only `rewrite` builds a `Value`,
//! because it sorts keys; its inputs are contexts, which are short.
//!
//! Containers in CBOR have definite lengths: one byte is reserved for the head, and more are
//! inserted only for containers of more than 23 members.

use std::{collections::HashSet, ops::Range};

use super::{
    JsonError, JsonSyntaxError,
    read::{float, parse},
    scan::{JsonKind, JsonScanner, JsonToken},
    write::{self, JsonStyle},
};
use crate::{
    MAX_DEPTH, MAX_DIGITS,
    bigint::{self, magnitude},
    cbor::{self, CborError, CborItem, CborReader},
};

/// Maximum number of members of a map whose keys are compared in pairs, which is then faster than
/// hashing.
const FEW_MEMBERS: usize = 16;

/// Converts JSON text to CBOR. Types and bits of numbers are kept.
///
/// ```
/// # use matyan_value::json;
/// // If a key occurs several times, the last value counts.
/// assert_eq!(json::to_cbor(r#"{"a": 1, "a": 2}"#), Ok(vec![0xa1, 0x61, b'a', 2]));
/// ```
pub fn to_cbor(text: &str) -> Result<Vec<u8>, JsonError> {
    let mut scanner = JsonScanner::new(text);
    scanner.blank();
    let value = scanner.value()?;
    scanner.end()?;
    token_to_cbor(&value)
}

/// Converts a scanned value to CBOR.
pub fn token_to_cbor(token: &JsonToken<'_>) -> Result<Vec<u8>, JsonError> {
    if usize::from(token.depth) > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    let mut writer = CborWriter { out: Vec::with_capacity(token.text.len()), members: Vec::new() };
    match token.kind {
        JsonKind::Array | JsonKind::Object => writer.value(&mut JsonScanner::new(token.text))?,
        _ => writer.scalar(token)?,
    }
    Ok(writer.out)
}

struct CborWriter {
    out: Vec<u8>,
    /// Members of the open maps, innermost last.
    members: Vec<Member>,
}

/// Position of a member in the output.
struct Member {
    key: Range<usize>,
    end: usize,
}

impl CborWriter {
    fn value(&mut self, scanner: &mut JsonScanner<'_>) -> Result<(), JsonError> {
        match scanner.peek() {
            Some(b'{') => self.map(scanner),
            Some(b'[') => self.array(scanner),
            _ => self.scalar(&scanner.value()?),
        }
    }

    fn scalar(&mut self, token: &JsonToken<'_>) -> Result<(), JsonError> {
        let out = &mut self.out;
        match token.kind {
            JsonKind::Null => cbor::write_null(out),
            JsonKind::True => cbor::write_bool(out, true),
            JsonKind::False => cbor::write_bool(out, false),
            JsonKind::Integer => write_digits(out, token.text)?,
            JsonKind::Float => cbor::write_float(out, float(token)),
            JsonKind::Text | JsonKind::EscapedText => cbor::write_text(out, &token.decode()),
            // Callers pass containers to `map` and `array`.
            JsonKind::Array | JsonKind::Object => return Err(JsonError::TooDeep),
        }
        Ok(())
    }

    fn array(&mut self, scanner: &mut JsonScanner<'_>) -> Result<(), JsonError> {
        let start = self.begin();
        let mut count = 0;
        scanner.open();
        let mut more = !scanner.close(b']');
        while more {
            self.value(scanner)?;
            count += 1;
            more = scanner.next_or_close(b']')?;
        }
        self.finish(cbor::LIST, start, count);
        Ok(())
    }

    fn map(&mut self, scanner: &mut JsonScanner<'_>) -> Result<(), JsonError> {
        let start = self.begin();
        let outer = self.members.len();
        scanner.open();
        let mut more = !scanner.close(b'}');
        while more {
            let key_start = self.out.len();
            let key = scanner.key()?;
            cbor::write_text(&mut self.out, &key.decode());
            let key = key_start..self.out.len();
            self.value(scanner)?;
            self.members.push(Member { key, end: self.out.len() });
            more = scanner.next_or_close(b'}')?;
        }
        let members: Vec<Member> = self.members.drain(outer..).collect();
        let repeated = overwritten(&self.out, &members);
        remove(&mut self.out, repeated.iter().map(|index| members[*index].key.start..members[*index].end));
        self.finish(cbor::MAP, start, members.len() - repeated.len());
        Ok(())
    }

    /// Reserves one byte for the head, and returns the position after it.
    fn begin(&mut self) -> usize {
        self.out.push(0);
        self.out.len()
    }

    /// Writes the head of a container whose members start at `start`.
    fn finish(&mut self, major: u8, start: usize, count: usize) {
        let mut head = Vec::with_capacity(9);
        cbor::write_head(&mut head, major, count as u64);
        self.out.splice(start - 1..start, head);
    }
}

fn write_digits(out: &mut Vec<u8>, text: &str) -> Result<(), JsonError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > MAX_DIGITS {
        return Err(JsonError::TooManyDigits);
    }
    match text.parse() {
        Ok(small) => cbor::write_integer(out, small),
        Err(_) => {
            let negative = digits.len() < text.len();
            cbor::write_big(out, negative, &magnitude(digits, negative));
        }
    }
    Ok(())
}

/// Returns the members whose keys are repeated later, in ascending order.
fn overwritten(out: &[u8], members: &[Member]) -> Vec<usize> {
    let key = |member: &Member| &out[member.key.clone()];
    if members.len() <= FEW_MEMBERS {
        let is_repeated = |index: &usize| {
            let own = key(&members[*index]);
            members[index + 1..].iter().any(|later| key(later) == own)
        };
        return (0..members.len()).filter(is_repeated).collect();
    }
    let mut later = HashSet::with_capacity(members.len());
    let mut repeated: Vec<usize> =
        (0..members.len()).rev().filter(|index| !later.insert(key(&members[*index]))).collect();
    repeated.reverse();
    repeated
}

/// Removes ranges in ascending order. Each remaining byte is moved only once, because a frame may
/// repeat a key a million times.
fn remove(out: &mut Vec<u8>, ranges: impl Iterator<Item = Range<usize>>) {
    let mut ranges = ranges.peekable();
    let Some(first) = ranges.peek() else { return };
    let mut end = first.start;
    while let Some(range) = ranges.next() {
        let next = ranges.peek().map_or(out.len(), |next| next.start);
        out.copy_within(range.end..next, end);
        end += next - range.end;
    }
    out.truncate(end);
}

/// Converts an encoded value to JSON text. Empty input counts as an empty object.
///
/// ```
/// # use matyan_value::json::{self, JsonStyle};
/// assert_eq!(json::cbor_text(&[0xa1, 0x61, b'a', 0x01], JsonStyle::SPACED).as_deref(), Ok(r#"{"a": 1}"#));
/// ```
pub fn cbor_text(cbor: &[u8], style: JsonStyle) -> Result<String, CborError> {
    if cbor.is_empty() {
        return Ok("{}".to_owned());
    }
    let mut out = String::with_capacity(cbor.len() * 2);
    write_cbor(&mut out, cbor, style)?;
    Ok(out)
}

/// Appends an encoded value as JSON text.
pub fn write_cbor(out: &mut String, cbor: &[u8], style: JsonStyle) -> Result<(), CborError> {
    write_item(out, &mut CborReader::new(cbor), style)
}

fn write_item(out: &mut String, reader: &mut CborReader<'_>, style: JsonStyle) -> Result<(), CborError> {
    match reader.item()? {
        CborItem::Null => out.push_str("null"),
        CborItem::Bool(bool) => write::write_bool(out, bool),
        CborItem::Integer(integer) => write::write_integer(out, integer),
        CborItem::Big { negative, magnitude } => out.push_str(&bigint::decimal(negative, &magnitude)),
        CborItem::Float(float) => write::write_float(out, float, style),
        CborItem::Text(text) => write::write_text(out, &text, style),
        CborItem::Bytes(bytes) => write::write_bytes(out, &bytes, style),
        CborItem::List(mut members) => {
            out.push('[');
            while reader.more(&mut members)? {
                out.push_str(if members.is_first() { "" } else { style.comma });
                write_item(out, reader, style)?;
            }
            out.push(']');
        }
        CborItem::Map(mut members) => {
            out.push('{');
            while reader.more(&mut members)? {
                out.push_str(if members.is_first() { "" } else { style.comma });
                write::write_text(out, &reader.key()?, style);
                out.push_str(style.colon);
                write_item(out, reader, style)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Converts JSON text to another style, and sorts its keys. Like an empty context, an empty
/// text counts as an empty object.
///
/// ```
/// # use matyan_value::json::{self, JsonStyle};
/// assert_eq!(json::rewrite(r#"{"x": NaN}"#, JsonStyle::STRICT).as_deref(), Ok(r#"{"x":null}"#));
/// ```
pub fn rewrite(text: &str, style: JsonStyle) -> Result<String, JsonError> {
    if text.is_empty() { Ok("{}".to_owned()) } else { Ok(write::value_text(&parse(text)?, style)) }
}

/// Appends well-formed text as strict JSON: replaces NaN and the infinities by null, and keeps
/// everything else.
///
/// ```
/// let mut out = String::new();
/// matyan_value::json::write_strict(&mut out, r#"{"NaN" : [-Infinity, 1.50]}"#)?;
/// assert_eq!(out, r#"{"NaN" : [null, 1.50]}"#);
/// # Ok::<(), matyan_value::json::JsonSyntaxError>(())
/// ```
pub fn write_strict(out: &mut String, text: &str) -> Result<(), JsonSyntaxError> {
    let mut scanner = JsonScanner::new(text);
    let mut copied = 0;
    while let Some(byte) = scanner.peek() {
        let start = scanner.position();
        match byte {
            b'"' => {
                scanner.value()?;
            }
            // Outside of strings, only `NaN` and `Infinity` start with a capital N or I.
            b'N' | b'I' => {
                scanner.value()?;
                out.push_str(text[copied..start].trim_end_matches('-'));
                out.push_str("null");
                copied = scanner.position();
            }
            _ => scanner.step(),
        }
    }
    out.push_str(&text[copied..]);
    Ok(())
}
