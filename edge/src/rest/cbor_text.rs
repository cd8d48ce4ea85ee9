//! Conversion of stored CBOR to JSON in pieces, each of which is written when it is asked for: the text of a large value
//! takes several times the memory of its CBOR, and a client may read it slowly, or not at all.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes};
use matyan_value::cbor::{CborError, CborItem, CborReader};
use matyan_value::json::{self, JsonStyle};

use super::cbor_pieces::{CborSteps, Next};

/// Text after which a piece ends. A longer key or scalar is converted in parts of as many bytes.
const PIECE_BYTES: usize = 48 << 10;

/// An empty map in CBOR.
const EMPTY_MAP: &[u8] = &[0xa0];

/// The text of one encoded value.
#[derive(Debug)]
pub(super) struct CborText {
    /// The part that is not converted yet.
    cbor: Bytes,
    steps: CborSteps,
    long: Option<LongItem>,
}

/// A long key or scalar that is being written, in quotes.
#[derive(Debug)]
struct LongItem {
    /// The part of its content that is not written yet.
    rest: Bytes,
    is_text: bool,
    /// Written after the last part.
    end: &'static str,
}

impl CborText {
    /// The text of a value. Like an empty context, no bytes are an empty object.
    pub(super) fn new(cbor: Bytes, style: JsonStyle) -> Self {
        let cbor = if cbor.is_empty() { Bytes::from_static(EMPTY_MAP) } else { cbor };
        Self { cbor, steps: CborSteps::new(style), long: None }
    }

    /// Converts the next piece; `None` after the end.
    pub(super) fn piece(&mut self) -> Result<Option<String>, CborError> {
        let mut out = String::with_capacity(2 * self.cbor.len().min(PIECE_BYTES));
        while out.len() < PIECE_BYTES {
            match &mut self.long {
                Some(long) => {
                    long.write_part(&mut out, self.steps.style());
                    if long.rest.is_empty() {
                        out.push_str(long.end);
                        self.long = None;
                    }
                }
                None if self.steps.next() == Next::End => break,
                None => self.write_item(&mut out)?,
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }

    fn write_item(&mut self, out: &mut String) -> Result<(), CborError> {
        let length = match self.start_long(out)? {
            Some(length) => length,
            None => self.steps.step(&self.cbor, out)?,
        };
        self.cbor.advance(length);
        Ok(())
    }

    /// Starts the next item if it is a long one, and returns its length.
    fn start_long(&mut self, out: &mut String) -> Result<Option<usize>, CborError> {
        if self.cbor.len() <= PIECE_BYTES {
            return Ok(None);
        }
        let mut reader = CborReader::new(&self.cbor);
        let (content, is_text, end) = match self.steps.next() {
            Next::Key => (text_bytes(reader.key()?), true, "\":"),
            Next::Value => match reader.item()? {
                CborItem::Text(text) => (text_bytes(text), true, "\""),
                CborItem::Bytes(bytes) => (bytes, false, "\""),
                _ => return Ok(None),
            },
            Next::Member | Next::End => return Ok(None),
        };
        if content.len() <= PIECE_BYTES {
            return Ok(None);
        }
        let rest = match content {
            Cow::Borrowed(content) => self.cbor.slice_ref(content),
            Cow::Owned(content) => content.into(),
        };
        let length = reader.position();
        out.push('"');
        self.long = Some(LongItem { rest, is_text, end });
        self.steps.pass();
        Ok(Some(length))
    }
}

impl LongItem {
    fn write_part(&mut self, out: &mut String, style: JsonStyle) {
        let mut length = self.rest.len().min(PIECE_BYTES);
        if self.is_text {
            // Characters are not split: their other bytes start with the bits 10.
            while self.rest.get(length).is_some_and(|byte| byte & 0xc0 == 0x80) {
                length -= 1;
            }
        }
        let part = self.rest.split_to(length);
        let mut quoted = String::new();
        if self.is_text {
            let text = std::str::from_utf8(&part).expect("the reader has checked the text");
            json::write_text(&mut quoted, text, style);
        } else {
            json::write_bytes(&mut quoted, &part, style);
        }
        out.push_str(&quoted[1..quoted.len() - 1]);
    }
}

fn text_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::{Value, cbor};

    use super::*;

    /// The styles of answers.
    const STYLES: [JsonStyle; 3] = [JsonStyle::STRICT, JsonStyle::AIM, JsonStyle::BARE];

    fn written(cbor: &[u8], style: JsonStyle) -> Result<String, CborError> {
        let mut text = CborText::new(Bytes::copy_from_slice(cbor), style);
        let mut all = String::new();
        while let Some(piece) = text.piece()? {
            // Of one byte, at most six are made.
            assert!(piece.len() <= 7 * PIECE_BYTES, "a piece has {} bytes", piece.len());
            all.push_str(&piece);
        }
        assert_eq!(text.piece(), Ok(None));
        Ok(all)
    }

    fn check(cbor: &[u8]) {
        for style in STYLES {
            assert!(written(cbor, style).unwrap() == json::cbor_text(cbor, style).unwrap(), "{style:?}");
        }
    }

    #[test]
    fn the_text_is_the_same_as_in_one_piece() {
        check(&[]);
        for text in [
            "{}",
            "[]",
            "7",
            r#"{"": {}, "a": [[], {}, [1, -2.5, [null, true]]], "ü\n\"": "ü\n\"", "big": 18446744073709551616}"#,
            r#"{"nan": NaN, "more": [Infinity, -Infinity, 1e300]}"#,
        ] {
            check(&json::to_cbor(text).unwrap());
        }
        // {_ "a": [_ 1, (_ "b", "c")], "d": h'01ff', "e": 0("t")}
        check(&[
            0xbf, 0x61, b'a', 0x9f, 0x01, 0x7f, 0x61, b'b', 0x61, b'c', 0xff, 0xff, 0x61, b'd', 0x42, 0x01,
            0xff, 0x61, b'e', 0xc0, 0x61, b't', 0xff,
        ]);
    }

    #[test]
    fn many_members_and_long_ones_are_split() {
        let members: Vec<String> =
            (0..20_000).map(|index| format!(r#""key {index}": [{index}, "x"]"#)).collect();
        check(&json::to_cbor(&format!("{{{}}}", members.join(","))).unwrap());
        for character in ["x", "\u{1}", "ü", "\u{1f600}", "a\u{1f600}"] {
            let long = character.repeat(3 * PIECE_BYTES + 1);
            let scalars = vec![Value::Text(long.clone()), Value::Integer(1), Value::Text(long.clone())];
            check(&cbor::encode(&Value::List(scalars)));
            check(&cbor::encode(&Value::Text(long.clone())));
            let key = format!("{{{}: 1, \"z\": 2}}", json::value_text(&Value::Text(long), JsonStyle::STRICT));
            check(&json::to_cbor(&key).unwrap());
        }
        check(&cbor::encode(&Value::List(vec![Value::Bytes(vec![0xa5; 2 * PIECE_BYTES + 1]), Value::Null])));
        // In two parts of an indefinite length.
        let part = cbor::encode(&Value::Text("ü".repeat(PIECE_BYTES)));
        let parts: [&[u8]; 4] = [&[0x82, 0x7f], &part, &part, &[0xff, 0x01]];
        check(&parts.concat());
    }

    #[test]
    fn a_damaged_value_is_an_error() {
        let deep = vec![0x81; 100_000];
        let mut late = json::to_cbor(&format!(r#"[{}2]"#, "1,".repeat(200_000))).unwrap();
        late.pop();
        let damaged: [&[u8]; 6] = [&[0xa1], &[0xa1, 0x01, 0x01], &[0x82, 0x01], &[0x9f, 0x01], &deep, &late];
        for cbor in damaged {
            assert!(json::cbor_text(cbor, JsonStyle::STRICT).is_err());
            assert!(written(cbor, JsonStyle::STRICT).is_err());
        }
    }
}
