//! Free-form values in answers: as strict JSON text, and as entries of the streaming codec. Both
//! are written while CBOR is read: a thousand runs of 200 params are never built as trees.

use std::borrow::Cow;

use matyan_value::Value;
use matyan_value::cbor::{CborError, CborItem, CborLeaf, CborReader};
use matyan_value::json::{self, JsonError, JsonStyle};
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::stream::Encoder;

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredValueError {
    #[error("failed to read stored CBOR")]
    Cbor(#[from] CborError),
    #[error("failed to read a stored context")]
    Json(#[from] JsonError),
}

impl From<StoredValueError> for ApiError {
    fn from(error: StoredValueError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to convert a stored value");
        ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    }
}

/// Returns CBOR as JSON for a larger answer. No bytes are an empty object.
pub(crate) fn json(cbor: &[u8], style: JsonStyle) -> Result<Box<RawValue>, StoredValueError> {
    Ok(raw(json::cbor_text(cbor, style)?))
}

/// Returns a context as strict JSON. No text is an empty object.
pub(crate) fn context_json(context: &str, style: JsonStyle) -> Result<Box<RawValue>, StoredValueError> {
    Ok(raw(json::rewrite(context, style)?))
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("the writer writes JSON")
}

/// Writes CBOR as entries below the current position of `encoder`.
pub(crate) fn stream(cbor: &[u8], encoder: &mut Encoder) -> Result<(), StoredValueError> {
    if cbor.is_empty() {
        encoder.empty_object();
        return Ok(());
    }
    Ok(write_entries(&mut CborReader::new(cbor), encoder)?)
}

/// Writes a context as entries.
pub(crate) fn stream_context(context: &str, encoder: &mut Encoder) -> Result<(), StoredValueError> {
    stream(&context_cbor(context)?, encoder)
}

/// Returns a context as CBOR, for `stream`.
pub(crate) fn context_cbor(context: &str) -> Result<Vec<u8>, StoredValueError> {
    Ok(if context.is_empty() { Vec::new() } else { json::to_cbor(context)? })
}

fn write_entries(reader: &mut CborReader<'_>, encoder: &mut Encoder) -> Result<(), CborError> {
    match reader.item()? {
        CborItem::Null => encoder.null(),
        CborItem::Bool(value) => encoder.bool(value),
        CborItem::Integer(value) => encoder.int(value),
        CborItem::Big { negative, magnitude } => encoder.float(nearest_float(negative, &magnitude)),
        CborItem::Float(value) => encoder.float(value),
        CborItem::Text(text) => encoder.text(&text),
        CborItem::Bytes(bytes) => encoder.text(&hex(&bytes)),
        CborItem::List(mut members) => {
            encoder.array();
            let mut outcome = Ok(());
            for index in 0.. {
                if outcome.is_err() || !reader.more(&mut members)? {
                    break;
                }
                encoder.element(index, |it| outcome = write_entries(reader, it));
            }
            outcome?;
        }
        CborItem::Map(mut members) => {
            let before = encoder.len();
            while reader.more(&mut members)? {
                write_member(reader, encoder)?;
            }
            if encoder.len() == before {
                encoder.empty_object();
            }
        }
    }
    Ok(())
}

/// Writes one member. An answer has hundreds of thousands of them, of a few bytes each.
fn write_member(reader: &mut CborReader<'_>, encoder: &mut Encoder) -> Result<(), CborError> {
    let at = reader.position();
    let key = match reader.stored_leaf() {
        Some(CborLeaf::Text(key)) => Cow::Borrowed(key),
        Some(_) => return Err(CborError::Key { at }),
        None => match reader.key()? {
            Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
            Cow::Owned(key) => Cow::Owned(key.into_bytes()),
        },
    };
    if key.is_empty() {
        // A member without a name cannot be encoded.
        let item = reader.item()?;
        return reader.skip(item);
    }
    match reader.stored_leaf() {
        Some(CborLeaf::Null) => encoder.null_member(&key),
        Some(CborLeaf::Bool(value)) => encoder.bool_member(&key, value),
        Some(CborLeaf::Integer(value)) => encoder.int_member(&key, value),
        Some(CborLeaf::Float(value)) => encoder.float_member(&key, value),
        Some(CborLeaf::Text(value)) => encoder.text_member(&key, value),
        None => {
            let mut outcome = Ok(());
            encoder.below(&key, |it| outcome = write_entries(reader, it));
            outcome?;
        }
    }
    Ok(())
}

/// Returns the float for an integer beyond 64 bits, which has no encoding.
fn nearest_float(negative: bool, magnitude: &[u8]) -> f64 {
    match Value::integer(negative, magnitude) {
        Value::Integer(small) => small as f64,
        Value::Big(big) => big.to_f64(),
        _ => f64::NAN,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Key, Value as Leaf, decode};

    #[test]
    fn numbers_that_are_not_finite_depend_on_the_style() {
        let written = |style| json::rewrite("[NaN, 1.0]", style).unwrap();
        assert_eq!(written(JsonStyle::STRICT), "[null,1.0]");
        assert_eq!(context_json(r#"{"x": NaN}"#, JsonStyle::STRICT).unwrap().get(), r#"{"x":null}"#);
        assert_eq!(context_json("", JsonStyle::STRICT).unwrap().get(), "{}");
    }

    #[test]
    fn values_of_every_encoding_are_read() {
        // An indefinite map with an indefinite text, an indefinite list, a half float, bytes and a
        // tagged date.
        let value = [
            0xbf, 0x61, b'a', 0x7f, 0x61, b'x', 0x61, b'y', 0xff, 0x61, b'b', 0x9f, 0xf9, 0x3c, 0x00, 0xf7,
            0xff, 0x61, b'c', 0x42, 0x01, 0xff, 0x61, b'd', 0xc0, 0x61, b't', 0xff,
        ];
        let text = json(&value, JsonStyle::STRICT).unwrap();
        assert_eq!(text.get(), r#"{"a":"xy","b":[1.0,null],"c":"01ff","d":"t"}"#);
        let mut encoder = Encoder::new();
        stream(&value, &mut encoder).unwrap();
        assert_eq!(decode(&encoder.take()).unwrap().len(), 6);
    }

    #[test]
    fn malformed_values_are_errors() {
        let malformed: [&[u8]; 4] = [&[0xa1], &[0xa1, 0x01, 0x01], &[0x82, 0x01], &[0x9f, 0x01]];
        for value in malformed {
            assert!(json(value, JsonStyle::STRICT).is_err(), "{value:?}");
            assert!(stream(value, &mut Encoder::new()).is_err(), "{value:?}");
        }
        // {1: "a", "b": 2, "c": 3}
        let numbered = [0xbf, 0x01, 0x61, b'a', 0x61, b'b', 0x02, 0x61, b'c', 0x03, 0xff];
        let error = stream(&numbered, &mut Encoder::new());
        assert!(matches!(error, Err(StoredValueError::Cbor(CborError::Key { at: 1 }))));
        let deep = vec![0x81; 100_000];
        let is_too_deep = |error| matches!(error, Err(StoredValueError::Cbor(CborError::TooDeep)));
        assert!(is_too_deep(json(&deep, JsonStyle::STRICT).map(drop)));
        assert!(is_too_deep(stream(&deep, &mut Encoder::new())));
    }

    #[test]
    fn values_become_entries() {
        let mut encoder = Encoder::new();
        let text = r#"{"": 1, "a": {"": 2}, "b": [1, 18446744073709551615, -18446744073709551617], "c": {}, "d": NaN}"#;
        stream(&json::to_cbor(text).unwrap(), &mut encoder).unwrap();
        let entries = decode(&encoder.take()).unwrap();
        let key = |name: &str| Key::Text(name.into());
        let expected = [
            (vec![key("a")], Leaf::Object),
            (vec![key("b")], Leaf::Array),
            (vec![key("b"), Key::Index(0)], Leaf::Int(1)),
            (vec![key("b"), Key::Index(1)], Leaf::Float(18_446_744_073_709_551_615.0)),
            (vec![key("b"), Key::Index(2)], Leaf::Float(-18_446_744_073_709_551_617.0)),
            (vec![key("c")], Leaf::Object),
        ];
        for (entry, (path, value)) in entries.iter().zip(&expected) {
            assert_eq!((&entry.path, &entry.value), (path, value));
        }
        assert_eq!(entries.len(), 7);
        assert!(matches!(entries[6].value, Leaf::Float(value) if value.is_nan()));
    }
}
