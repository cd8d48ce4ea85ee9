//! Values as CBOR (RFC 8949), as they travel and as they are stored. What we write has one form: definite lengths, keys
//! in byte order, shortest integers, floats always as 64 bits. What we read may be any CBOR that a `Value` can hold.

mod part;

use std::{borrow::Cow, cmp::Ordering};

use minicbor::{
    Decoder, Encoder,
    data::{IanaTag, Type},
};

use crate::value::{BigInteger, Map, Value};
pub use part::{pick, without};

/// Maps and lists inside each other: as many as the table of limits says.
pub const MAX_DEPTH: usize = matyan_proto::limits::VALUE_DEPTH;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    #[error("not valid CBOR at byte {at}: {reason}")]
    Syntax { at: usize, reason: String },
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("a map key at byte {at} is not text")]
    Key { at: usize },
    #[error("bytes follow the value at byte {at}")]
    Trailing { at: usize },
    #[error("a map was expected")]
    NotAMap,
}

pub fn encode(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    put(&mut encoder, value);
    encoder.into_writer()
}

pub fn encode_map(map: &Map) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    put_map(&mut encoder, map);
    encoder.into_writer()
}

/// Decodes a value and nothing behind it.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut decoder = Decoder::new(bytes);
    let value = take(&mut decoder, 0)?;
    let at = decoder.position();
    if at == bytes.len() { Ok(value) } else { Err(CborError::Trailing { at }) }
}

pub fn decode_map(bytes: &[u8]) -> Result<Map, CborError> {
    match decode(bytes)? {
        Value::Map(map) => Ok(map),
        _ => Err(CborError::NotAMap),
    }
}

/// The encoded value at a path of keys inside an encoded map that we wrote: nothing else is decoded. A scan of many runs
/// does little else, so what is passed over is passed by its length alone.
pub fn find<'b>(mut bytes: &'b [u8], path: &[impl AsRef<str>]) -> Result<Option<&'b [u8]>, CborError> {
    for key in path {
        match find_key(bytes, key.as_ref().as_bytes()).ok_or_else(cut_off)? {
            Some(inner) => bytes = inner,
            None => return Ok(None),
        }
    }
    let end = length(bytes).ok_or_else(cut_off)?;
    Ok(Some(&bytes[..end]))
}

fn cut_off() -> CborError {
    CborError::Syntax { at: 0, reason: "it is cut off, or not of the form that is stored".to_owned() }
}

/// A scalar as it lies in an encoded value, without a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaf<'b> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'b str),
}

/// The scalar that a value we wrote is; `None` of anything larger, which `decode` reads.
pub fn leaf(bytes: &[u8]) -> Result<Option<Leaf<'_>>, CborError> {
    read_leaf(bytes).map_err(|error| syntax(bytes, &error))
}

fn read_leaf(bytes: &[u8]) -> Result<Option<Leaf<'_>>, minicbor::decode::Error> {
    let mut decoder = Decoder::new(bytes);
    Ok(Some(match decoder.datatype()? {
        Type::Null => Leaf::Null,
        Type::Bool => Leaf::Bool(decoder.bool()?),
        Type::U8 | Type::U16 | Type::U32 | Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
            Leaf::Integer(decoder.i64()?)
        }
        Type::F64 => Leaf::Float(decoder.f64()?),
        Type::String => Leaf::Text(decoder.str()?),
        _ => return Ok(None),
    }))
}

/// What follows a key in an encoded map, from its value on; an outer `None` of what is not well-formed.
fn find_key<'b>(bytes: &'b [u8], wanted: &[u8]) -> Option<Option<&'b [u8]>> {
    let (major, entries, mut at) = head(bytes)?;
    if major != MAP {
        return Some(None);
    }
    for _ in 0..entries {
        let (major, size, header) = head(bytes.get(at..)?)?;
        let start = at + header;
        at = start.checked_add(usize::try_from(size).ok()?)?;
        let key = bytes.get(start..at).filter(|_| major == TEXT)?;
        match key.cmp(wanted) {
            Ordering::Less => at += length(bytes.get(at..)?)?,
            Ordering::Equal => return Some(bytes.get(at..)),
            Ordering::Greater => return Some(None),
        }
    }
    Some(None)
}

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Major type, argument and size of the head of a value whose length is definite.
fn head(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (argument, size) = match first & 0x1f {
        small @ 0..24 => (u64::from(small), 1),
        24 => (u64::from(*rest.first()?), 2),
        25 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 3),
        26 => (u64::from(u32::from_be_bytes(*rest.first_chunk()?)), 5),
        27 => (u64::from_be_bytes(*rest.first_chunk()?), 9),
        _ => return None,
    };
    Some((first >> 5, argument, size))
}

/// Bytes of a value by its first byte, where that says it all: numbers and short texts, which nearly all values are. 0 of others.
const SCALAR_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut first = 0;
    while first < bytes.len() {
        bytes[first] = match (first as u8 >> 5, first as u8 & 0x1f) {
            (BYTES | TEXT, size @ 0..24) => 1 + size,
            (BYTES..=TAG, _) => 0,
            (_, 0..24) => 1,
            (_, 24) => 2,
            (_, 25) => 3,
            (_, 26) => 5,
            (_, 27) => 9,
            _ => 0,
        };
        first += 1;
    }
    bytes
};

/// Bytes of the value that `bytes` begin with.
fn length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut values) = (0_usize, 1_u64);
    while values > 0 {
        let first = *bytes.get(at)?;
        values -= 1;
        let scalar = SCALAR_BYTES[usize::from(first)];
        if scalar > 0 {
            at += usize::from(scalar);
            continue;
        }
        let (major, argument, size) = head(&bytes[at..])?;
        at += size;
        match major {
            BYTES | TEXT => at = at.checked_add(usize::try_from(argument).ok()?)?,
            LIST => values = values.checked_add(argument)?,
            MAP => values = values.checked_add(argument.checked_mul(2)?)?,
            TAG => values += 1,
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(at)
}

fn put(encoder: &mut Encoder<Vec<u8>>, value: &Value) {
    let written = match value {
        Value::Null => encoder.null().map(|_| ()),
        Value::Bool(bool) => encoder.bool(*bool).map(|_| ()),
        Value::Integer(integer) => encoder.i64(*integer).map(|_| ()),
        Value::Big(big) => {
            put_big(encoder, big);
            Ok(())
        }
        Value::Float(float) => encoder.f64(*float).map(|_| ()),
        Value::Text(text) => encoder.str(text).map(|_| ()),
        Value::Bytes(bytes) => encoder.bytes(bytes).map(|_| ()),
        Value::List(list) => {
            let written = encoder.array(list.len() as u64).map(|_| ());
            list.iter().for_each(|item| put(encoder, item));
            written
        }
        Value::Map(map) => {
            put_map(encoder, map);
            Ok(())
        }
    };
    written.expect("writing to memory does not fail");
}

fn put_map(encoder: &mut Encoder<Vec<u8>>, map: &Map) {
    encoder.map(map.len() as u64).expect("writing to memory does not fail");
    for (key, value) in map {
        encoder.str(key).expect("writing to memory does not fail");
        put(encoder, value);
    }
}

/// Integers that fit CBOR's plain form take it, as the shortest one.
fn put_big(encoder: &mut Encoder<Vec<u8>>, big: &BigInteger) {
    let magnitude = big.magnitude();
    if magnitude.len() > size_of::<u64>() {
        let tag = if big.is_negative() { IanaTag::NegBignum } else { IanaTag::PosBignum };
        encoder
            .tag(tag)
            .and_then(|encoder| encoder.bytes(magnitude))
            .expect("writing to memory does not fail");
        return;
    }
    let value = magnitude.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let integer = i128::from(value);
    let integer = if big.is_negative() { -1 - integer } else { integer };
    let integer = integer.try_into().expect("an integer of at most 64 bits and a sign");
    encoder.int(integer).expect("writing to memory does not fail");
}

fn take(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, CborError> {
    let at = decoder.position();
    take_inner(decoder, depth).map_err(|error| match error {
        Failure::Decode(error) => CborError::Syntax { at, reason: error.to_string() },
        Failure::Ours(error) => error,
    })
}

enum Failure {
    Decode(minicbor::decode::Error),
    Ours(CborError),
}

impl From<minicbor::decode::Error> for Failure {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Decode(error)
    }
}

impl From<CborError> for Failure {
    fn from(error: CborError) -> Self {
        Self::Ours(error)
    }
}

fn take_inner(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Failure> {
    Ok(match decoder.datatype()? {
        Type::Null | Type::Undefined => {
            decoder.skip()?;
            Value::Null
        }
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::integer(false, &decoder.u64()?.to_be_bytes()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
            let integer = i128::from(decoder.int()?);
            let magnitude = if integer < 0 { -1 - integer } else { integer };
            Value::integer(integer < 0, &magnitude.to_be_bytes())
        }
        Type::F16 => Value::Float(f64::from(decoder.f16()?)),
        Type::F32 => Value::Float(f64::from(decoder.f32()?)),
        Type::F64 => Value::Float(decoder.f64()?),
        Type::Bytes | Type::BytesIndef => Value::Bytes(bytes(decoder)?.into_owned()),
        Type::String | Type::StringIndef => Value::Text(text(decoder)?.into_owned()),
        Type::Array | Type::ArrayIndef => take_list(decoder, deeper(depth)?)?,
        Type::Map | Type::MapIndef => take_map(decoder, deeper(depth)?)?,
        Type::Tag => take_tagged(decoder, depth)?,
        other => {
            let reason = format!("{other} has no meaning here");
            return Err(CborError::Syntax { at: decoder.position(), reason }.into());
        }
    })
}

fn deeper(depth: usize) -> Result<usize, CborError> {
    if depth == MAX_DEPTH { Err(CborError::TooDeep) } else { Ok(depth + 1) }
}

fn take_list(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Failure> {
    let length = decoder.array()?;
    let mut list = Vec::new();
    while more(decoder, length, list.len())? {
        list.push(take(decoder, depth)?);
    }
    Ok(Value::List(list))
}

fn take_map(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Failure> {
    let length = decoder.map()?;
    let mut map = Map::new();
    let mut seen = 0;
    while more(decoder, length, seen)? {
        let at = decoder.position();
        if !matches!(decoder.datatype()?, Type::String | Type::StringIndef) {
            return Err(CborError::Key { at }.into());
        }
        let key = text(decoder)?.into_owned();
        map.insert(key, take(decoder, depth)?);
        seen += 1;
    }
    Ok(Value::Map(map))
}

/// Whether another entry follows; takes the end mark of an indefinite length.
fn more(decoder: &mut Decoder<'_>, length: Option<u64>, seen: usize) -> Result<bool, Failure> {
    if let Some(length) = length {
        return Ok((seen as u64) < length);
    }
    let more = decoder.datatype()? != Type::Break;
    if !more {
        decoder.skip()?;
    }
    Ok(more)
}

fn take_tagged(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Failure> {
    let tag = decoder.tag()?;
    if tag == IanaTag::PosBignum.tag() || tag == IanaTag::NegBignum.tag() {
        let magnitude = bytes(decoder)?;
        return Ok(Value::integer(tag == IanaTag::NegBignum.tag(), &magnitude));
    }
    // Other tags only annotate what they enclose.
    Ok(take(decoder, deeper(depth)?)?)
}

fn bytes<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, [u8]>, minicbor::decode::Error> {
    if decoder.datatype()? == Type::Bytes {
        return Ok(Cow::Borrowed(decoder.bytes()?));
    }
    let pieces: Result<Vec<&[u8]>, _> = decoder.bytes_iter()?.collect();
    Ok(Cow::Owned(pieces?.concat()))
}

fn text<'b>(decoder: &mut Decoder<'b>) -> Result<Cow<'b, str>, minicbor::decode::Error> {
    if decoder.datatype()? == Type::String {
        return Ok(Cow::Borrowed(decoder.str()?));
    }
    let pieces: Result<Vec<&str>, _> = decoder.str_iter()?.collect();
    Ok(Cow::Owned(pieces?.concat()))
}

fn syntax(bytes: &[u8], error: &minicbor::decode::Error) -> CborError {
    CborError::Syntax { at: error.position().unwrap_or(bytes.len()), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
