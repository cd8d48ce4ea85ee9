//! Free-form values out of CBOR: as strict JSON text, and as entries of the streaming codec.
//! Read in place and written in one pass: a thousand runs of 200 params are never built as trees. JSON has no NaN and no
//! infinities: they become null, or words where the reader is the Aim bundle.

use std::borrow::Cow;
use std::io::Write;

use bytes::Bytes;
use minicbor::Decoder;
use minicbor::data::{IanaTag, Type};
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::stream::Encoder;
use crate::ws::json::{ValueError, to_cbor};

/// Values nested deeper were never accepted; reading recurses.
const MAX_DEPTH: usize = 256;

/// How JSON text is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// NaN and infinities as the text `"NaN"`, `"inf"`, `"-inf"` instead of null.
    pub(crate) words: bool,
    /// A blank behind commas and colons, as Python writes.
    pub(crate) spaced: bool,
}

/// A stored value cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadValue {
    #[error("not CBOR")]
    Cbor(#[from] minicbor::decode::Error),
    #[error("nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("a map key that is no text")]
    Key,
    #[error("not JSON")]
    Json(#[from] ValueError),
    #[error("cannot be written")]
    Write(#[from] std::io::Error),
}

impl From<BadValue> for ApiError {
    fn from(error: BadValue) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a stored value cannot be shown");
        ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
    }
}

/// CBOR as JSON text. No bytes are an empty object.
pub(crate) fn json_text(cbor: &[u8], style: Style) -> Result<String, BadValue> {
    if cbor.is_empty() {
        return Ok("{}".to_owned());
    }
    let mut out = Vec::with_capacity(cbor.len() * 2);
    write_json(&mut Decoder::new(cbor), &mut out, style, 0)?;
    Ok(String::from_utf8(out).expect("only text is written"))
}

/// One number as JSON.
pub(crate) fn number(value: f64, style: Style) -> serde_json::Value {
    match value {
        // Null is what JSON has for numbers that are not finite.
        _ if value.is_finite() || !style.words => value.into(),
        _ if value.is_nan() => "NaN".into(),
        _ if value > 0.0 => "inf".into(),
        _ => "-inf".into(),
    }
}

/// The same, to stand inside a larger answer.
pub(crate) fn json(cbor: &[u8], style: Style) -> Result<Box<RawValue>, BadValue> {
    Ok(RawValue::from_string(json_text(cbor, style)?).expect("what is written is JSON"))
}

/// A context, which is JSON text with NaN and infinities, as strict JSON. No text is no context.
pub(crate) fn context_json(context: &str, style: Style) -> Result<Box<RawValue>, BadValue> {
    json(&context_cbor(context)?, style)
}

/// CBOR as entries below the place where `encoder` stands.
pub(crate) fn stream(cbor: &[u8], encoder: &mut Encoder) -> Result<(), BadValue> {
    if cbor.is_empty() {
        encoder.empty_object();
        return Ok(());
    }
    write_entries(&mut Decoder::new(cbor), encoder, 0)
}

/// A context as entries.
pub(crate) fn stream_context(context: &str, encoder: &mut Encoder) -> Result<(), BadValue> {
    stream(&context_cbor(context)?, encoder)
}

fn context_cbor(context: &str) -> Result<Bytes, BadValue> {
    if context.is_empty() { Ok(Bytes::new()) } else { Ok(to_cbor(context)?) }
}

fn write_json(
    decoder: &mut Decoder<'_>,
    out: &mut Vec<u8>,
    style: Style,
    depth: usize,
) -> Result<(), BadValue> {
    if depth > MAX_DEPTH {
        return Err(BadValue::TooDeep);
    }
    let (comma, colon): (&[u8], &[u8]) = if style.spaced { (b", ", b": ") } else { (b",", b":") };
    match scalar(decoder)? {
        Some(Scalar::Null) => out.extend_from_slice(b"null"),
        Some(Scalar::Bool(value)) => write!(out, "{value}")?,
        Some(Scalar::Int(value)) => write!(out, "{value}")?,
        Some(Scalar::Big(digits)) => out.extend_from_slice(digits.as_bytes()),
        Some(Scalar::Float(value)) => write_float(value, out, style)?,
        Some(Scalar::Text(text)) => write_text(&text, out)?,
        None if is_array(decoder)? => {
            let mut items = Items::new(decoder.array()?);
            out.push(b'[');
            while items.next(decoder)? {
                out.extend_from_slice(if items.is_first() { b"" } else { comma });
                write_json(decoder, out, style, depth + 1)?;
            }
            out.push(b']');
        }
        None => {
            let mut members = Items::new(decoder.map()?);
            out.push(b'{');
            while members.next(decoder)? {
                out.extend_from_slice(if members.is_first() { b"" } else { comma });
                write_text(&key(decoder)?, out)?;
                out.extend_from_slice(colon);
                write_json(decoder, out, style, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_float(value: f64, out: &mut Vec<u8>, style: Style) -> Result<(), BadValue> {
    if value.is_finite() || !style.words {
        // Writes null for what is not finite.
        serde_json::to_writer(out, &value).map_err(std::io::Error::from)?;
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"inf\"" } else { b"\"-inf\"" });
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), BadValue> {
    Ok(serde_json::to_writer(out, text).map_err(std::io::Error::from)?)
}

fn write_entries(decoder: &mut Decoder<'_>, encoder: &mut Encoder, depth: usize) -> Result<(), BadValue> {
    if depth > MAX_DEPTH {
        return Err(BadValue::TooDeep);
    }
    match decoder.datatype()? {
        Type::U8 | Type::U16 | Type::U32 | Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
            encoder.int(decoder.i64()?);
        }
        Type::F16 | Type::F32 | Type::F64 => encoder.float(decoder.f64()?),
        Type::String => encoder.text(decoder.str()?),
        Type::Array | Type::ArrayIndef => {
            let mut items = Items::new(decoder.array()?);
            encoder.array();
            let mut outcome = Ok(());
            for index in 0.. {
                if outcome.is_err() || !items.next(decoder)? {
                    break;
                }
                encoder.element(index, |it| outcome = write_entries(decoder, it, depth + 1));
            }
            outcome?;
        }
        Type::Map | Type::MapIndef => {
            let mut members = Items::new(decoder.map()?);
            let before = encoder.len();
            while members.next(decoder)? {
                write_member(decoder, encoder, depth)?;
            }
            if encoder.len() == before {
                encoder.empty_object();
            }
        }
        _ => match scalar(decoder)? {
            Some(scalar) => write_scalar(scalar, encoder),
            // Behind a tag.
            None => write_entries(decoder, encoder, depth + 1)?,
        },
    }
    Ok(())
}

fn write_member(decoder: &mut Decoder<'_>, encoder: &mut Encoder, depth: usize) -> Result<(), BadValue> {
    let key = match leaf(decoder) {
        Some(Leaf::Text(key)) => Cow::Borrowed(key),
        Some(_) => return Err(BadValue::Key),
        None => match key(decoder)? {
            Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
            Cow::Owned(key) => Cow::Owned(key.into_bytes()),
        },
    };
    if key.is_empty() {
        // A member without a name cannot be encoded.
        return Ok(decoder.skip()?);
    }
    match leaf(decoder) {
        Some(Leaf::Null) => encoder.null_member(&key),
        Some(Leaf::Bool(value)) => encoder.bool_member(&key, value),
        Some(Leaf::Int(value)) => encoder.int_member(&key, value),
        Some(Leaf::Float(value)) => encoder.float_member(&key, value),
        Some(Leaf::Text(value)) => encoder.text_member(&key, value),
        None => {
            let mut outcome = Ok(());
            encoder.below(&key, |it| outcome = write_entries(decoder, it, depth + 1));
            outcome?;
        }
    }
    Ok(())
}

/// The values that params nearly always are, in the form in which they are stored.
enum Leaf<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8.
    Text(&'a [u8]),
}

/// Takes such a value; `None` takes nothing, and leaves all else, and what is broken, to those who read any encoding.
/// An answer has hundreds of thousands of them, of a few bytes each.
fn leaf<'a>(decoder: &mut Decoder<'a>) -> Option<Leaf<'a>> {
    let at = decoder.position();
    let (leaf, length) = match *decoder.input().get(at..)? {
        [byte @ ..=0x17, ..] => (Leaf::Int(byte.into()), 1),
        [0x18, a, ..] => (Leaf::Int(a.into()), 2),
        [0x19, a, b, ..] => (Leaf::Int(u16::from_be_bytes([a, b]).into()), 3),
        [0x1a, a, b, c, d, ..] => (Leaf::Int(u32::from_be_bytes([a, b, c, d]).into()), 5),
        [byte @ 0x20..=0x37, ..] => (Leaf::Int(0x1f - i64::from(byte)), 1),
        [byte @ 0x60..=0x77, ref rest @ ..] => (text(rest, byte - 0x60)?, 1 + usize::from(byte - 0x60)),
        [0x78, length, ref rest @ ..] => (text(rest, length)?, 2 + usize::from(length)),
        [byte @ 0xf4..=0xf5, ..] => (Leaf::Bool(byte == 0xf5), 1),
        [0xf6, ..] => (Leaf::Null, 1),
        [0xfb, a, b, c, d, e, f, g, h, ..] => (Leaf::Float(f64::from_be_bytes([a, b, c, d, e, f, g, h])), 9),
        _ => return None,
    };
    decoder.set_position(at + length);
    Some(leaf)
}

fn text(bytes: &[u8], length: u8) -> Option<Leaf<'_>> {
    let text = bytes.get(..length.into())?;
    // Nearly all is ASCII, which is seen sooner.
    (text.is_ascii() || std::str::from_utf8(text).is_ok()).then_some(Leaf::Text(text))
}

fn write_scalar(scalar: Scalar<'_>, encoder: &mut Encoder) {
    match scalar {
        Scalar::Null => encoder.null(),
        Scalar::Bool(value) => encoder.bool(value),
        Scalar::Int(value) => match i64::try_from(value) {
            Ok(value) => encoder.int(value),
            Err(_) => encoder.float(value as f64),
        },
        // Integers beyond 64 bits have no encoding: the nearest float stands for them.
        Scalar::Big(digits) => encoder.float(digits.parse().unwrap_or(f64::NAN)),
        Scalar::Float(value) => encoder.float(value),
        Scalar::Text(text) => encoder.text(&text),
    }
}

/// A value that holds no others.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    /// Decimal digits of an integer beyond 64 bits.
    Big(String),
    Float(f64),
    Text(Cow<'a, str>),
}

/// The scalar that comes next; `None` before an array or a map.
fn scalar<'a>(decoder: &mut Decoder<'a>) -> Result<Option<Scalar<'a>>, BadValue> {
    Ok(Some(match decoder.datatype()? {
        Type::Null => decoder.null().map(|()| Scalar::Null)?,
        Type::Undefined => decoder.undefined().map(|()| Scalar::Null)?,
        Type::Bool => Scalar::Bool(decoder.bool()?),
        Type::F16 | Type::F32 | Type::F64 => Scalar::Float(decoder.f64()?),
        Type::String => Scalar::Text(decoder.str()?.into()),
        Type::StringIndef => Scalar::Text(decoder.str_iter()?.collect::<Result<String, _>>()?.into()),
        Type::Bytes => Scalar::Text(hex(decoder.bytes()?).into()),
        Type::Array | Type::ArrayIndef | Type::Map | Type::MapIndef => return Ok(None),
        Type::Tag => {
            let tag = decoder.tag()?;
            if tag == IanaTag::PosBignum.tag() {
                Scalar::Big(decimal(decoder.bytes()?, false))
            } else if tag == IanaTag::NegBignum.tag() {
                Scalar::Big(decimal(decoder.bytes()?, true))
            } else {
                return scalar(decoder);
            }
        }
        _ => Scalar::Int(decoder.int()?.into()),
    }))
}

fn is_array(decoder: &Decoder<'_>) -> Result<bool, BadValue> {
    Ok(matches!(decoder.datatype()?, Type::Array | Type::ArrayIndef))
}

fn key<'a>(decoder: &mut Decoder<'a>) -> Result<Cow<'a, str>, BadValue> {
    if decoder.datatype()? == Type::String {
        return Ok(decoder.str()?.into());
    }
    match scalar(decoder)? {
        Some(Scalar::Text(text)) => Ok(text),
        _ => Err(BadValue::Key),
    }
}

/// Walks the members of a container of known or unknown length.
struct Items {
    length: Option<u64>,
    taken: u64,
}

impl Items {
    fn new(length: Option<u64>) -> Self {
        Items { length, taken: 0 }
    }

    /// Whether another member follows; steps over the end of a container of unknown length.
    fn next(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, BadValue> {
        let more = match self.length {
            Some(length) => self.taken < length,
            None if decoder.datatype()? == Type::Break => {
                decoder.skip()?;
                false
            }
            None => true,
        };
        self.taken += u64::from(more);
        Ok(more)
    }

    fn is_first(&self) -> bool {
        self.taken == 1
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A big-endian number in decimal; a negative one counts down from -1.
fn decimal(magnitude: &[u8], negative: bool) -> String {
    const CHUNK: u64 = 1_000_000_000_000_000_000;
    let mut limbs: Vec<u64> = magnitude
        .rchunks(8)
        .map(|chunk| chunk.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        .collect();
    if negative {
        for limb in &mut limbs {
            let (value, carried) = limb.overflowing_add(1);
            *limb = value;
            if !carried {
                break;
            }
        }
        if limbs.iter().all(|limb| *limb == 0) {
            limbs.push(1);
        }
    }
    let mut chunks = Vec::new();
    while limbs.iter().any(|limb| *limb > 0) {
        let mut rest = 0_u128;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 64 | u128::from(*limb);
            *limb = (value / u128::from(CHUNK)) as u64;
            rest = value % u128::from(CHUNK);
        }
        chunks.push(rest as u64);
    }
    let mut digits = String::from(if negative { "-" } else { "" });
    digits.push_str(&chunks.pop().unwrap_or(0).to_string());
    for chunk in chunks.iter().rev() {
        digits.push_str(&format!("{chunk:018}"));
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Key, Value, decode};

    fn cbor(json: &str) -> Bytes {
        to_cbor(json).unwrap()
    }

    #[test]
    fn json_comes_back_as_it_went_in() {
        let check = |json: &str| assert_eq!(json_text(&cbor(json), Style::default()).unwrap(), json);
        check(r#"{"a":null,"b":[true,false,[]],"c":{},"d":"q\"\\\n\u0001é🚀"}"#);
        check(r#"{"i":1,"f":1.0,"n":-0.0,"m":-5,"x":0.1,"u":18446744073709551615}"#);
        check(r#"{"big":12345678901234567890123,"neg":-18446744073709551617}"#);
        check(r#"{"p":1000000000000000000000000000000000000,"o":340282366920938463463374607431768211455}"#);
        check(
            r#"{"o":-340282366920938463463374607431768211456,"z":99999999999999999999999999999999999999999}"#,
        );
    }

    #[test]
    fn what_is_not_finite_is_null_or_a_word() {
        let value = cbor(r#"{"a": [NaN, Infinity, -Infinity], "b": 1}"#);
        let written = |words, spaced| json_text(&value, Style { words, spaced }).unwrap();
        assert_eq!(written(false, false), r#"{"a":[null,null,null],"b":1}"#);
        assert_eq!(written(true, true), r#"{"a": ["NaN", "inf", "-inf"], "b": 1}"#);
        assert_eq!(json_text(&[], Style::default()).unwrap(), "{}");
        assert_eq!(context_json(r#"{"x": NaN}"#, Style::default()).unwrap().get(), r#"{"x":null}"#);
        assert_eq!(context_json("", Style::default()).unwrap().get(), "{}");
    }

    #[test]
    fn values_of_every_encoding_are_read() {
        // An indefinite map with an indefinite text, an indefinite list, a half float, bytes and a tagged date.
        let value = [
            0xbf, 0x61, b'a', 0x7f, 0x61, b'x', 0x61, b'y', 0xff, 0x61, b'b', 0x9f, 0xf9, 0x3c, 0x00, 0xf7,
            0xff, 0x61, b'c', 0x42, 0x01, 0xff, 0x61, b'd', 0xc0, 0x61, b't', 0xff,
        ];
        assert_eq!(
            json_text(&value, Style::default()).unwrap(),
            r#"{"a":"xy","b":[1.0,null],"c":"01ff","d":"t"}"#
        );
    }

    #[test]
    fn broken_values_are_errors() {
        let broken: [&[u8]; 4] = [&[0xa1], &[0xa1, 0x01, 0x01], &[0x82, 0x01], &[0x9f, 0x01]];
        for value in broken {
            assert!(json_text(value, Style::default()).is_err(), "{value:?}");
            assert!(stream(value, &mut Encoder::new()).is_err(), "{value:?}");
        }
        // {1: "a", "b": 2, "c": 3}
        let numbered = [0xbf, 0x01, 0x61, b'a', 0x61, b'b', 0x02, 0x61, b'c', 0x03, 0xff];
        assert!(matches!(stream(&numbered, &mut Encoder::new()), Err(BadValue::Key)));
        let deep = vec![0x81; 100_000];
        assert!(matches!(json_text(&deep, Style::default()), Err(BadValue::TooDeep)));
        assert!(matches!(stream(&deep, &mut Encoder::new()), Err(BadValue::TooDeep)));
    }

    #[test]
    fn values_become_entries() {
        let mut encoder = Encoder::new();
        let json = r#"{"": 1, "a": {"": 2}, "b": [1, 18446744073709551615, -18446744073709551617], "c": {}, "d": NaN}"#;
        stream(&cbor(json), &mut encoder).unwrap();
        let entries = decode(&encoder.take()).unwrap();
        let text = |name: &str| Key::Text(name.into());
        let expected = [
            (vec![text("a")], Value::Object),
            (vec![text("b")], Value::Array),
            (vec![text("b"), Key::Index(0)], Value::Int(1)),
            (vec![text("b"), Key::Index(1)], Value::Float(18_446_744_073_709_551_615.0)),
            (vec![text("b"), Key::Index(2)], Value::Float(-18_446_744_073_709_551_617.0)),
            (vec![text("c")], Value::Object),
        ];
        for (entry, (path, value)) in entries.iter().zip(&expected) {
            assert_eq!((&entry.path, &entry.value), (path, value));
        }
        assert_eq!(entries.len(), 7);
        assert!(matches!(entries[6].value, Value::Float(value) if value.is_nan()));
    }
}
