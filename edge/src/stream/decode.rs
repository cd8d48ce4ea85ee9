//! Decodes a body into entries, for clients and tests; the edge itself only encodes. It is
//! deliberately strict: anything that the encoder never writes (short integers, trailing bytes)
//! is an error.

use super::{ARRAY, BOOL, BYTES, FLOAT, INT, KEY_END, NULL, OBJECT, TEXT};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Text(String),
    Index(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Array,
    Object,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub path: Vec<Key>,
    pub value: Value,
}

/// The body is invalid; nothing after this position can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the body ends inside an entry")]
    Truncated,
    #[error("a path is malformed")]
    Path,
    #[error("text is not UTF-8")]
    Utf8,
    #[error("no value type has tag {0} with a payload of {1} bytes")]
    Value(u8, usize),
}

/// Decodes all entries of a complete body.
pub fn decode(mut body: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let path = read_part(&mut body)?;
        let value = read_part(&mut body)?;
        entries.push(Entry { path: decode_path(path)?, value: decode_value(value)? });
    }
    Ok(entries)
}

fn read_part<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let (length, rest) = body.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (part, rest) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *body = rest;
    Ok(part)
}

fn decode_path(mut path: &[u8]) -> Result<Vec<Key>, DecodeError> {
    let mut keys = Vec::new();
    while let Some(&first) = path.first() {
        if first == KEY_END {
            // No text key starts with this byte, so it is an integer key.
            let (key, rest) = path[1..].split_first_chunk::<8>().ok_or(DecodeError::Path)?;
            let rest = rest.strip_prefix(&[KEY_END]).ok_or(DecodeError::Path)?;
            keys.push(Key::Index(i64::from_be_bytes(*key)));
            path = rest;
        } else {
            let end = path.iter().position(|byte| *byte == KEY_END).ok_or(DecodeError::Path)?;
            keys.push(Key::Text(text(&path[..end])?));
            path = &path[end + 1..];
        }
    }
    Ok(keys)
}

fn decode_value(value: &[u8]) -> Result<Value, DecodeError> {
    let (&tag, payload) = value.split_first().ok_or(DecodeError::Truncated)?;
    let unknown = DecodeError::Value(tag, payload.len());
    let eight = || <[u8; 8]>::try_from(payload).map_err(|_| unknown);
    match (tag, payload) {
        (NULL, []) => Ok(Value::Null),
        (BOOL, [0]) => Ok(Value::Bool(false)),
        (BOOL, [1]) => Ok(Value::Bool(true)),
        (INT, _) => Ok(Value::Int(i64::from_le_bytes(eight()?))),
        (FLOAT, _) => Ok(Value::Float(f64::from_le_bytes(eight()?))),
        (TEXT, _) => Ok(Value::Text(text(payload)?)),
        (BYTES, _) => Ok(Value::Bytes(payload.to_vec())),
        (ARRAY, []) => Ok(Value::Array),
        (OBJECT, []) => Ok(Value::Object),
        _ => Err(unknown),
    }
}

fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8)
}
