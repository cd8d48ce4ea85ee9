//! Conversion of CBOR that arrives in pieces to JSON: text is written as far as the bytes reach, so that a
//! value of any size takes the memory of its largest scalar.

use matyan_value::MAX_DEPTH;
use matyan_value::cbor::{CborError, CborItem, CborMembers, CborReader};
use matyan_value::json::{self, JsonStyle};

/// Bits of a head that say that the length follows from an end mark.
const INDEFINITE: u8 = 0x1f;

const CUT_OFF: CborError = CborError::Syntax { at: 0, reason: "it is cut off" };

/// A converter of one encoded value.
#[derive(Debug)]
pub(super) struct CborPieces {
    steps: CborSteps,
    /// Bytes of an item that is not complete.
    rest: Vec<u8>,
    /// Why the rest cannot be read; more bytes may change that.
    stopped: Option<CborError>,
}

/// The position in one encoded value, which is converted one item at a time. There is no space between the items of
/// the text, whatever the style.
#[derive(Debug)]
pub(super) struct CborSteps {
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
pub(super) enum Next {
    Value,
    /// Another member, or the end of the container.
    Member,
    Key,
    End,
}

impl CborPieces {
    /// Creates a converter at the start of a value.
    pub(super) fn new(style: JsonStyle) -> Self {
        Self { steps: CborSteps::new(style), rest: Vec::new(), stopped: None }
    }

    /// Appends the text of everything that is complete with this piece.
    pub(super) fn write(&mut self, piece: &[u8], out: &mut String) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        let mut at = 0;
        self.stopped = None;
        while self.steps.next != Next::End {
            // Starts at the item, because a reader cannot continue after its bytes were cut off.
            match self.steps.step(&bytes[at..], out) {
                Ok(length) => at += length,
                Err(error) => {
                    self.stopped = Some(error);
                    break;
                }
            }
        }
        bytes.drain(..at);
        self.rest = bytes;
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

impl CborSteps {
    /// The position at the start of a value.
    pub(super) fn new(style: JsonStyle) -> Self {
        Self { style, containers: Vec::new(), next: Next::Value }
    }

    pub(super) fn style(&self) -> JsonStyle {
        self.style
    }

    /// The kind of item at the position.
    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// Goes on after a key or a scalar that the caller converts.
    pub(super) fn pass(&mut self) {
        self.next = if self.next == Next::Key { Next::Value } else { self.after_value() };
    }

    /// Reads one item, and returns its length; or changes nothing.
    pub(super) fn step(&mut self, bytes: &[u8], out: &mut String) -> Result<usize, CborError> {
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
}
