//! Values of the members of a JSON object. Errors name the member.

use bytes::Bytes;
use matyan_value::{Context, Map, Value, cbor, datetime};

use crate::json_event::member::Member;

/// Reads a time in ISO 8601, or in Unix seconds as a number or text.
pub(crate) fn microseconds(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(seconds) => datetime::from_number(*seconds as f64),
        Value::Float(seconds) => datetime::from_number(*seconds),
        Value::Text(text) => datetime::parse(text),
        _ => None,
    }
}

pub(crate) fn text_of(map: &mut Map, name: &str) -> Result<String, String> {
    optional_text(map, name)?.ok_or_else(|| missing(name))
}

pub(crate) fn optional_text(map: &mut Map, name: &str) -> Result<Option<String>, String> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

pub(crate) fn optional_bool(map: &Map, name: &str) -> Result<Option<bool>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(bool)) => Ok(Some(*bool)),
        Some(_) => Err(format!("`{name}` is not true or false")),
    }
}

pub(crate) fn integer(map: &Map, name: &str) -> Result<Option<i64>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Integer(integer)) => Ok(Some(*integer)),
        Some(_) => Err(format!("`{name}` is not an integer of 64 bits")),
    }
}

pub(crate) fn missing(name: &str) -> String {
    format!("`{name}` is missing")
}

/// Returns the canonical text of a context.
pub(crate) fn context(map: &Map) -> Result<String, String> {
    match map.get(Member::Context.name()) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Map(context)) => Ok(Context::new(context).stored().to_owned()),
        Some(_) => Err("`context` is not an object".to_owned()),
    }
}

/// Returns a value as CBOR, which is empty for no value.
pub(crate) fn any_value(map: &Map, name: &str) -> Bytes {
    match map.get(name) {
        None | Some(Value::Null) => Bytes::new(),
        Some(value) => cbor::encode(value).into(),
    }
}
