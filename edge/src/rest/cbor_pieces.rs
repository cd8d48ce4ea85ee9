//! Conversion of CBOR that arrives in pieces to JSON: text is written as far as the bytes reach, so that a
//! value of any size takes the memory of a piece.

use matyan_value::MAX_DEPTH;
use matyan_value::cbor::{CborError, CborItem, CborMembers, CborReader, StringHead};
use matyan_value::json::{self, JsonStyle};

/// Bits of a head that say that the length follows from an end mark.
const INDEFINITE: u8 = 0x1f;

const CUT_OFF: CborError = CborError::Syntax { at: 0, reason: "it is cut off" };

const INVALID_TEXT: CborError = CborError::Syntax { at: 0, reason: "a text is not UTF-8" };

/// Length above which a key or scalar is written before it is complete.
const LONG: usize = 4 << 10;

/// A converter of one encoded value.
#[derive(Debug)]
pub(super) struct CborPieces {
    steps: CborSteps,
    long: Option<LongItem>,
    /// Bytes of an item that is not complete.
    rest: Vec<u8>,
    /// Why the rest cannot be read; more bytes may change that.
    stopped: Option<CborError>,
}

/// A long key or scalar that is being written, in quotes.
#[derive(Debug)]
struct LongItem {
    /// Number of its bytes that have not been written.
    left: usize,
    is_text: bool,
    /// Written after the last byte.
    end: &'static str,
}

/// The position in one encoded value, which is converted one item at a time. There is no space between the items of
/// the text, whatever the style.
#[derive(Debug)]
struct CborSteps {
    style: JsonStyle,
    containers: Vec<Container>,
    next: Next,
}

#[derive(Debug)]
struct Container {
    members: CborMembers,
    is_map: bool,
    /// Whether an end mark follows the last member.
    has_end_mark: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Value,
    /// Another member, or the end of the container.
    Member,
    Key,
    End,
}

impl CborPieces {
    /// Creates a converter at the start of a value.
    pub(super) fn new(style: JsonStyle) -> Self {
        Self { steps: CborSteps::new(style), long: None, rest: Vec::new(), stopped: None }
    }

    /// Appends the text of everything that is complete with this piece, and of long texts as far as they reach.
    pub(super) fn write(&mut self, piece: &[u8], out: &mut String) {
        if self.stopped == Some(INVALID_TEXT) {
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            let length = self.write_items(piece, out);
            rest.extend_from_slice(&piece[length..]);
        } else {
            rest.extend_from_slice(piece);
            rest.drain(..self.write_items(&rest, out));
        }
        self.rest = rest;
    }

    /// Writes items as far as the bytes reach, and returns their length.
    fn write_items(&mut self, bytes: &[u8], out: &mut String) -> usize {
        let mut at = 0;
        self.stopped = None;
        while self.steps.next != Next::End {
            match self.step(&bytes[at..], out) {
                Ok(length) => at += length,
                Err(error) => {
                    self.stopped = Some(error);
                    break;
                }
            }
        }
        at
    }

    /// Writes one item or a part of a long item, and returns its length; or changes nothing.
    fn step(&mut self, bytes: &[u8], out: &mut String) -> Result<usize, CborError> {
        if let Some(long) = &mut self.long {
            let length = long.write_part(bytes, self.steps.style, out)?;
            if long.left == 0 {
                out.push_str(long.end);
                self.long = None;
                self.steps.pass();
            }
            return Ok(length);
        }
        if let Some((head, long)) = LongItem::start(bytes, self.steps.next) {
            out.push('"');
            self.long = Some(long);
            return Ok(head);
        }
        // Starts at the item, because a reader cannot continue after its bytes were cut off.
        self.steps.step(bytes, out)
    }

    /// Checks that the value is complete.
    pub(super) fn finish(self) -> Result<(), CborError> {
        match self.stopped {
            Some(error) => Err(error),
            None if self.steps.next == Next::End => Ok(()),
            None => Err(CUT_OFF),
        }
    }
}

impl LongItem {
    /// The item at the start of these bytes, and the length of its head, if the item is long.
    fn start(bytes: &[u8], next: Next) -> Option<(usize, Self)> {
        let StringHead { is_text, size, length } = StringHead::read(bytes)?;
        let end = match next {
            Next::Key if is_text => "\":",
            Next::Value => "\"",
            _ => return None,
        };
        let left = usize::try_from(length).ok().filter(|length| *length >= LONG)?;
        Some((size, Self { left, is_text, end }))
    }

    /// Writes as much as there is, and returns its length.
    fn write_part(&mut self, bytes: &[u8], style: JsonStyle, out: &mut String) -> Result<usize, CborError> {
        let part = &bytes[..bytes.len().min(self.left)];
        let mut quoted = String::new();
        let length = if self.is_text {
            let text = match std::str::from_utf8(part) {
                Ok(text) => text,
                // The rest of the last character is in the next piece.
                Err(error) if error.error_len().is_none() && part.len() < self.left => {
                    std::str::from_utf8(&part[..error.valid_up_to()]).unwrap_or_default()
                }
                Err(_) => return Err(INVALID_TEXT),
            };
            json::write_text(&mut quoted, text, style);
            text.len()
        } else {
            // Base64 has four letters for three bytes.
            let length = if part.len() < self.left { part.len() / 3 * 3 } else { part.len() };
            json::write_bytes(&mut quoted, &part[..length], style);
            length
        };
        if length == 0 {
            return Err(CUT_OFF);
        }
        out.push_str(&quoted[1..quoted.len() - 1]);
        self.left -= length;
        Ok(length)
    }
}

impl CborSteps {
    /// The position at the start of a value.
    fn new(style: JsonStyle) -> Self {
        Self { style, containers: Vec::new(), next: Next::Value }
    }

    /// Goes on after a key or a scalar that the caller converts.
    fn pass(&mut self) {
        self.next = if self.next == Next::Key { Next::Value } else { self.after_value() };
    }

    /// Reads one item, and returns its length; or changes nothing.
    fn step(&mut self, bytes: &[u8], out: &mut String) -> Result<usize, CborError> {
        let mut reader = CborReader::new(bytes);
        self.next = match self.next {
            Next::Value => match reader.item()? {
                CborItem::List(members) => self.open(members, false, bytes, out)?,
                CborItem::Map(members) => self.open(members, true, bytes, out)?,
                _ => {
                    json::write_cbor(out, &bytes[..reader.position()], self.style)?;
                    self.after_value()
                }
            },
            Next::Member => {
                let container = self.containers.last_mut().expect("members are read inside of a container");
                if container.has_end_mark && bytes.is_empty() {
                    return Err(CUT_OFF);
                }
                if reader.more(&mut container.members)? {
                    out.push_str(if container.members.is_first() { "" } else { "," });
                    if container.is_map { Next::Key } else { Next::Value }
                } else {
                    out.push(if container.is_map { '}' } else { ']' });
                    self.containers.pop();
                    self.after_value()
                }
            }
            Next::Key => {
                json::write_text(out, &reader.key()?, self.style);
                out.push(':');
                Next::Value
            }
            Next::End => Next::End,
        };
        Ok(reader.position())
    }

    fn open(
        &mut self,
        members: CborMembers,
        is_map: bool,
        bytes: &[u8],
        out: &mut String,
    ) -> Result<Next, CborError> {
        if self.containers.len() == MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        out.push(if is_map { '{' } else { '[' });
        let has_end_mark = bytes.first().is_some_and(|head| head & INDEFINITE == INDEFINITE);
        self.containers.push(Container { members, is_map, has_end_mark });
        Ok(Next::Member)
    }

    fn after_value(&self) -> Next {
        if self.containers.is_empty() { Next::End } else { Next::Member }
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::{Value, cbor};

    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        for length in 1..=bytes.len() {
            let mut pieces = CborPieces::new(JsonStyle::STRICT);
            let mut written = String::new();
            for piece in bytes.chunks(length) {
                pieces.write(piece, &mut written);
            }
            pieces.finish().unwrap();
            assert_eq!(written, expected, "in pieces of {length} bytes");
        }
        let mut cut = CborPieces::new(JsonStyle::STRICT);
        cut.write(&bytes[..bytes.len() - 1], &mut String::new());
        cut.finish().unwrap_err();
    }

    #[test]
    fn a_value_is_written_however_it_is_split() {
        let text =
            r#"{"":{},"a":[1,-2.5,null,true,[],"ü\n\""],"big":18446744073709551616,"m":{"n":{"o":"p"}}}"#;
        check(&json::to_cbor(text).unwrap(), text);
        check(&[0x01], "1");
        // Of indefinite lengths: {_ "a": [_ 1, (_ "b", "c")], "d": {_ }}
        let indefinite = [
            0xbf, 0x61, b'a', 0x9f, 0x01, 0x7f, 0x61, b'b', 0x61, b'c', 0xff, 0xff, 0x61, b'd', 0xbf, 0xff,
            0xff,
        ];
        check(&indefinite, r#"{"a":[1,"bc"],"d":{}}"#);
    }

    #[test]
    fn text_is_written_before_the_value_ends() {
        let bytes = json::to_cbor(r#"{"a":["first","second"]}"#).unwrap();
        let mut pieces = CborPieces::new(JsonStyle::STRICT);
        let mut written = String::new();
        pieces.write(&bytes[..bytes.len() - 7], &mut written);
        assert_eq!(written, r#"{"a":["first","#.to_owned());
        pieces.write(&[0xff], &mut written);
        pieces.finish().unwrap_err();
    }

    #[test]
    fn rule_45_a_long_scalar_is_written_as_it_arrives() {
        for character in ["x", "\u{1}", "ü", "\u{1f600}", "a\u{1f600}"] {
            let long = character.repeat(40_000);
            let members = [
                (long.clone(), Value::Integer(1)),
                ("list".to_owned(), Value::List(vec![Value::Text(long.clone()), Value::Null])),
                ("bytes".to_owned(), Value::Bytes(long.clone().into_bytes())),
            ];
            let bytes = cbor::encode_map(&members.into_iter().collect());
            let expected = json::cbor_text(&bytes, JsonStyle::STRICT).unwrap();
            for length in [1_000, 4_096, 100_003] {
                let mut pieces = CborPieces::new(JsonStyle::STRICT);
                let mut written = String::new();
                for piece in bytes.chunks(length) {
                    pieces.write(piece, &mut written);
                    assert!(pieces.rest.len() < LONG, "{} bytes wait for more", pieces.rest.len());
                }
                pieces.finish().unwrap();
                assert!(written == expected, "{character:?} in pieces of {length} bytes");
            }
        }
    }

    #[test]
    fn a_long_text_that_is_not_utf8_is_an_error() {
        let mut bytes = cbor::encode(&Value::Text("x".repeat(2 * LONG)));
        let end = bytes.len() - 1;
        for (at, byte) in [(end, 0xc3), (end - LONG, 0xff)] {
            let before = std::mem::replace(&mut bytes[at], byte);
            let mut pieces = CborPieces::new(JsonStyle::STRICT);
            pieces.write(&bytes, &mut String::new());
            pieces.finish().unwrap_err();
            bytes[at] = before;
        }
    }
}
