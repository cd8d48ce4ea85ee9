//! Conversion of stored CBOR to JSON in pieces, each of which is written when it is asked for: the text of a large value
//! takes several times the memory of its CBOR, and a client may read it slowly, or not at all.

use bytes::Bytes;
use matyan_value::cbor::CborError;
use matyan_value::json::JsonStyle;

use super::cbor_pieces::CborPieces;

/// CBOR that is converted at a time.
const PIECE_BYTES: usize = 48 << 10;

/// An empty map in CBOR.
const EMPTY_MAP: &[u8] = &[0xa0];

/// The text of one encoded value.
#[derive(Debug)]
pub(super) struct CborText {
    /// The part that is not converted yet.
    cbor: Bytes,
    /// `None` after the end.
    pieces: Option<CborPieces>,
}

impl CborText {
    /// The text of a value. Like an empty context, no bytes are an empty object.
    pub(super) fn new(cbor: Bytes, style: JsonStyle) -> Self {
        let cbor = if cbor.is_empty() { Bytes::from_static(EMPTY_MAP) } else { cbor };
        Self { cbor, pieces: Some(CborPieces::new(style)) }
    }

    /// Converts the next piece; `None` after the end.
    pub(super) fn piece(&mut self) -> Result<Option<String>, CborError> {
        let Some(mut pieces) = self.pieces.take() else { return Ok(None) };
        let mut out = String::with_capacity(2 * self.cbor.len().min(PIECE_BYTES));
        while out.is_empty() && !self.cbor.is_empty() {
            let piece = self.cbor.split_to(self.cbor.len().min(PIECE_BYTES));
            pieces.write(&piece, &mut out);
        }
        if self.cbor.is_empty() {
            pieces.finish()?;
        } else {
            self.pieces = Some(pieces);
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::{Value, cbor, json};

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
