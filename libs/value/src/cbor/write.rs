//! The writer of CBOR: of values, and of the parts that the conversion from JSON writes without a
//! value.

use super::head::{self, BYTES, LIST, MAP, NEGATIVE, NEGATIVE_BIGNUM, POSITIVE_BIGNUM, TAG, TEXT, UNSIGNED};
use crate::value::{Map, Value};

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const FLOAT64: u8 = 0xfb;

/// Encodes a value in the form that is stored.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Encodes a map in the form that is stored.
pub fn encode_map(map: &Map) -> Vec<u8> {
    let mut out = Vec::new();
    write_map(&mut out, map);
    out
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => write_null(out),
        Value::Bool(bool) => write_bool(out, *bool),
        Value::Integer(integer) => write_integer(out, *integer),
        Value::Big(big) => write_big(out, big.is_negative(), big.magnitude()),
        Value::Float(float) => write_float(out, *float),
        Value::Text(text) => write_text(out, text),
        Value::Bytes(bytes) => write_bytes(out, bytes),
        Value::List(list) => {
            head::write(out, LIST, list.len() as u64);
            for item in list {
                write(out, item);
            }
        }
        Value::Map(map) => write_map(out, map),
    }
}

fn write_map(out: &mut Vec<u8>, map: &Map) {
    head::write(out, MAP, map.len() as u64);
    for (key, value) in map {
        write_text(out, key);
        write(out, value);
    }
}

pub(crate) fn write_null(out: &mut Vec<u8>) {
    out.push(NULL);
}

pub(crate) fn write_bool(out: &mut Vec<u8>, bool: bool) {
    out.push(if bool { TRUE } else { FALSE });
}

pub(crate) fn write_integer(out: &mut Vec<u8>, integer: i64) {
    // CBOR encodes a negative number n as -1 - n.
    match u64::try_from(integer) {
        Ok(positive) => head::write(out, UNSIGNED, positive),
        Err(_) => head::write(out, NEGATIVE, !integer as u64),
    }
}

/// Writes an integer beyond the range of `i64`. An integer that fits into 64 bits gets no tag,
/// because that form is shorter.
pub(crate) fn write_big(out: &mut Vec<u8>, negative: bool, magnitude: &[u8]) {
    if magnitude.len() > size_of::<u64>() {
        head::write(out, TAG, if negative { NEGATIVE_BIGNUM } else { POSITIVE_BIGNUM });
        return write_bytes(out, magnitude);
    }
    let argument = magnitude.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    head::write(out, if negative { NEGATIVE } else { UNSIGNED }, argument);
}

pub(crate) fn write_float(out: &mut Vec<u8>, float: f64) {
    out.push(FLOAT64);
    out.extend_from_slice(&float.to_be_bytes());
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    head::write(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head::write(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
