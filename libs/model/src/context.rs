//! Contexts of series: from JSON text to one canonical text, and from that to a name of 32 bits and a key of 128.
//!
//! The 32-bit id is what clients and the UI know; two contexts of one run may share it. The digest is what keys hold;
//! both are parts of the SHA-256 of the canonical text. No context and the empty object are the same, with id 0.

use sha2::{Digest, Sha256};

use crate::{
    json::{self, JsonError},
    value::{Map, Value},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    canonical: String,
    hash: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    #[error("the context is {0}")]
    Json(#[from] JsonError),
    #[error("the context is neither an object nor null")]
    NotAnObject,
}

impl Context {
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        match json::parse(text)? {
            Value::Null => Ok(Self::default()),
            Value::Map(map) => Ok(Self::new(&map)),
            _ => Err(ContextError::NotAnObject),
        }
    }

    pub fn new(map: &Map) -> Self {
        let mut canonical = String::new();
        write_map(&mut canonical, map);
        Self::from_canonical(canonical)
    }

    /// A text that `canonical` or `stored` gave.
    pub fn from_canonical(canonical: String) -> Self {
        if canonical.is_empty() || canonical == "{}" {
            return Self::default();
        }
        let hash = Sha256::digest(&canonical).into();
        Self { canonical, hash }
    }

    /// ASCII JSON with sorted keys; `{}` for no context.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// As headers hold it: empty for no context.
    pub fn stored(&self) -> &str {
        if self.hash == [0; 32] { "" } else { &self.canonical }
    }

    pub fn id(&self) -> u32 {
        u32::from_be_bytes([self.hash[0], self.hash[1], self.hash[2], self.hash[3]])
    }

    /// What keys hold of a context.
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.hash[..16]);
        digest
    }
}

impl Default for Context {
    fn default() -> Self {
        Self { canonical: "{}".to_owned(), hash: [0; 32] }
    }
}

fn write_map(text: &mut String, map: &Map) {
    text.push('{');
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write(text, value);
    }
    text.push('}');
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(bool) => text.push_str(if *bool { "true" } else { "false" }),
        Value::Integer(integer) => text.push_str(&integer.to_string()),
        Value::Big(big) => text.push_str(&big.decimal()),
        Value::Float(float) => write_float(text, *float),
        Value::Text(string) => write_string(text, string),
        // JSON text holds no bytes; a context from elsewhere names them by their numbers.
        Value::Bytes(bytes) => {
            write(text, &Value::List(bytes.iter().map(|byte| Value::Integer(i64::from(*byte))).collect()));
        }
        Value::List(list) => {
            text.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(text, item);
            }
            text.push(']');
        }
        Value::Map(map) => write_map(text, map),
    }
}

/// As Python's `repr`: the shortest digits that come back, plain between 1e-4 and 1e16.
fn write_float(text: &mut String, float: f64) {
    if float.is_nan() {
        return text.push_str("NaN");
    }
    if float.is_infinite() {
        return text.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    if (-4..16).contains(&exponent) {
        text.push_str(&format!("{float:?}"));
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        text.push_str(&format!("{digits}e{sign}{:02}", exponent.abs()));
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests;
