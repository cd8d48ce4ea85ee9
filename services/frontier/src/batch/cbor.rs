//! Free-form values in CBOR: whether one is sound, and its JSON for envelopes. Nothing is built in memory.
//!
//! Sound is: well-formed, one value and nothing behind it, keys of maps are text, nested no deeper than the limit. What
//! JSON cannot hold becomes what Matyan 0.3 made of it: numbers that are not finite and undefined become null; bytes
//! become base64 text; tags other than bignums are dropped.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use matyan_proto::limits;
use minicbor::{
    Decoder,
    data::{IanaTag, Type},
    decode::Error,
};

use super::Problem;

pub(super) fn check_map(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    if !matches!(Decoder::new(bytes).datatype(), Ok(Type::Map | Type::MapIndef)) {
        return Err(Problem::new(field, "is not a map in CBOR"));
    }
    check(field, bytes)
}

pub(super) fn check_list(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    if !matches!(Decoder::new(bytes).datatype(), Ok(Type::Array | Type::ArrayIndef)) {
        return Err(Problem::new(field, "is not an array in CBOR"));
    }
    check(field, bytes)
}

fn check(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    let mut decoder = Decoder::new(bytes);
    let invalid = |error: Error| Problem::new(field, format!("is not sound CBOR: {error}"));
    walk(&mut decoder, 0, &mut Silence).map_err(invalid)?;
    match decoder.position() == bytes.len() {
        true => Ok(()),
        false => Err(Problem::new(field, "has bytes behind its value")),
    }
}

/// The text at a key of a checked map. Of equal keys the last one counts.
pub(super) fn map_text<'b>(bytes: &'b [u8], key: &str) -> Option<Cow<'b, str>> {
    let mut decoder = Decoder::new(bytes);
    let length = decoder.map().ok()?;
    let (mut seen, mut found) = (0, None);
    while more(&mut decoder, length, seen).ok()? {
        seen += 1;
        let is_wanted = text(&mut decoder).ok()? == key;
        let is_text = matches!(decoder.datatype().ok()?, Type::String | Type::StringIndef);
        if is_wanted && is_text {
            found = Some(text(&mut decoder).ok()?);
        } else {
            decoder.skip().ok()?;
            found = if is_wanted { None } else { found };
        }
    }
    found
}

/// Appends a checked value as JSON.
pub(crate) fn write_json(bytes: &[u8], json: &mut Vec<u8>) {
    walk(&mut Decoder::new(bytes), 0, &mut Json(json)).expect("the value was checked when its batch came");
}

/// Who is told what a walk comes by.
trait Visitor {
    fn literal(&mut self, text: &str);
    fn integer(&mut self, negative: bool, magnitude: &[u8]);
    fn float(&mut self, float: f64);
    fn text(&mut self, text: &str);
    fn bytes(&mut self, bytes: &[u8]);
}

struct Silence;

impl Visitor for Silence {
    fn literal(&mut self, _text: &str) {}
    fn integer(&mut self, _negative: bool, _magnitude: &[u8]) {}
    fn float(&mut self, _float: f64) {}
    fn text(&mut self, _text: &str) {}
    fn bytes(&mut self, _bytes: &[u8]) {}
}

struct Json<'j>(&'j mut Vec<u8>);

impl Visitor for Json<'_> {
    fn literal(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The value is the magnitude, or -1 minus it.
    fn integer(&mut self, negative: bool, magnitude: &[u8]) {
        if negative {
            self.0.push(b'-');
        }
        self.0.extend_from_slice(decimal(magnitude, negative).as_bytes());
    }

    fn float(&mut self, float: f64) {
        write_float(float, self.0);
    }

    fn text(&mut self, text: &str) {
        write_text(text, self.0);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.text(&BASE64_STANDARD.encode(bytes));
    }
}

pub(crate) fn write_text(text: &str, json: &mut Vec<u8>) {
    serde_json::to_writer(json, text).expect("text is always JSON");
}

/// Not finite: null, as Matyan 0.3 has it.
pub(crate) fn write_float(float: f64, json: &mut Vec<u8>) {
    serde_json::to_writer(json, &float).expect("a float is always JSON");
}

/// Decimal digits of a big-endian magnitude, one more if asked. Nine digits a step, as `Limits.integer_bytes` allows 5,000.
fn decimal(magnitude: &[u8], plus_one: bool) -> String {
    const BASE: u64 = 1_000_000_000;
    let mut digits: Vec<u64> = vec![0];
    let mut shift_in = |bits: usize, mut carry: u64| {
        for digit in &mut digits {
            carry += *digit << bits;
            *digit = carry % BASE;
            carry /= BASE;
        }
        if carry > 0 {
            digits.push(carry);
        }
    };
    let (head, words) = magnitude.as_rchunks::<3>();
    head.iter().for_each(|byte| shift_in(8, u64::from(*byte)));
    words.iter().for_each(|[a, b, c]| shift_in(24, u64::from(u32::from_be_bytes([0, *a, *b, *c]))));
    shift_in(0, u64::from(plus_one));
    let mut text = digits.pop().expect("there is at least one").to_string();
    digits.iter().rev().for_each(|digit| text.push_str(&format!("{digit:09}")));
    text
}

fn walk(decoder: &mut Decoder<'_>, depth: usize, visitor: &mut impl Visitor) -> Result<(), Error> {
    match decoder.datatype()? {
        Type::Null | Type::Undefined => {
            decoder.skip()?;
            visitor.literal("null");
        }
        Type::Bool => visitor.literal(if decoder.bool()? { "true" } else { "false" }),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => visitor.integer(false, &decoder.u64()?.to_be_bytes()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
            let magnitude = -1 - i128::from(decoder.int()?);
            visitor.integer(true, &magnitude.to_be_bytes());
        }
        Type::F16 => visitor.float(f64::from(decoder.f16()?)),
        Type::F32 => visitor.float(f64::from(decoder.f32()?)),
        Type::F64 => visitor.float(decoder.f64()?),
        Type::Bytes | Type::BytesIndef => visitor.bytes(&bytes(decoder)?),
        Type::String | Type::StringIndef => visitor.text(&text(decoder)?),
        Type::Array | Type::ArrayIndef => walk_list(decoder, deeper(depth)?, visitor)?,
        Type::Map | Type::MapIndef => walk_map(decoder, deeper(depth)?, visitor)?,
        Type::Tag => walk_tagged(decoder, depth, visitor)?,
        other => return Err(Error::message(format!("{other} at byte {} means nothing", decoder.position()))),
    }
    Ok(())
}

fn walk_list(decoder: &mut Decoder<'_>, depth: usize, visitor: &mut impl Visitor) -> Result<(), Error> {
    let length = decoder.array()?;
    let mut seen = 0;
    visitor.literal("[");
    while more(decoder, length, seen)? {
        visitor.literal(if seen > 0 { "," } else { "" });
        walk(decoder, depth, visitor)?;
        seen += 1;
    }
    visitor.literal("]");
    Ok(())
}

fn walk_map(decoder: &mut Decoder<'_>, depth: usize, visitor: &mut impl Visitor) -> Result<(), Error> {
    let length = decoder.map()?;
    let mut seen = 0;
    visitor.literal("{");
    while more(decoder, length, seen)? {
        if !matches!(decoder.datatype()?, Type::String | Type::StringIndef) {
            return Err(Error::message(format!("the map key at byte {} is not text", decoder.position())));
        }
        visitor.literal(if seen > 0 { "," } else { "" });
        visitor.text(&text(decoder)?);
        visitor.literal(":");
        walk(decoder, depth, visitor)?;
        seen += 1;
    }
    visitor.literal("}");
    Ok(())
}

fn walk_tagged(decoder: &mut Decoder<'_>, depth: usize, visitor: &mut impl Visitor) -> Result<(), Error> {
    let tag = decoder.tag()?;
    let is_negative = tag == IanaTag::NegBignum.tag();
    if !is_negative && tag != IanaTag::PosBignum.tag() {
        return walk(decoder, deeper(depth)?, visitor);
    }
    let magnitude = bytes(decoder)?;
    if magnitude.len() > limits::INTEGER_BYTES {
        return Err(Error::message(format!("an integer has more than {} bytes", limits::INTEGER_BYTES)));
    }
    visitor.integer(is_negative, &magnitude);
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, Error> {
    if depth < limits::VALUE_DEPTH {
        return Ok(depth + 1);
    }
    Err(Error::message(format!("nested deeper than {} levels", limits::VALUE_DEPTH)))
}

/// Whether another entry follows; takes the end mark of an indefinite length.
fn more(decoder: &mut Decoder<'_>, length: Option<u64>, seen: u64) -> Result<bool, Error> {
    if let Some(length) = length {
        return Ok(seen < length);
    }
    let more = decoder.datatype()? != Type::Break;
    if !more {
        decoder.skip()?;
    }
    Ok(more)
}

fn bytes<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, [u8]>, Error> {
    if decoder.datatype()? == Type::Bytes {
        return Ok(Cow::Borrowed(decoder.bytes()?));
    }
    let pieces: Result<Vec<&[u8]>, _> = decoder.bytes_iter()?.collect();
    Ok(Cow::Owned(pieces?.concat()))
}

fn text<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, str>, Error> {
    if decoder.datatype()? == Type::String {
        return Ok(Cow::Borrowed(decoder.str()?));
    }
    let pieces: Result<Vec<&str>, _> = decoder.str_iter()?.collect();
    Ok(Cow::Owned(pieces?.concat()))
}

#[cfg(test)]
mod tests;
