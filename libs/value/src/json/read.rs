//! The reader of JSON text.

use super::{
    JsonError,
    scan::{JsonKind, JsonScanner, JsonToken},
};
use crate::{
    MAX_DEPTH,
    value::{Map, Value},
};

/// Parses one value, with only white space around it.
///
/// ```
/// # use matyan_value::{Value, json};
/// let list = vec![Value::Integer(1), Value::Float(f64::NEG_INFINITY)];
/// assert_eq!(json::parse("[1, -Infinity]"), Ok(Value::List(list)));
/// assert_eq!(json::parse("[1").unwrap_err().to_string(), "not valid JSON at byte 2: expected `,` or `]`");
/// ```
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut scanner = JsonScanner::new(text);
    scanner.blank();
    let value = read(&mut scanner, 0)?;
    scanner.end()?;
    Ok(value)
}

fn read(scanner: &mut JsonScanner<'_>, depth: usize) -> Result<Value, JsonError> {
    match scanner.peek() {
        Some(b'{' | b'[') if depth == MAX_DEPTH => Err(JsonError::TooDeep),
        Some(b'{') => {
            let mut map = Map::new();
            scanner.open();
            let mut more = !scanner.close(b'}');
            while more {
                let key = scanner.key()?.decode().into_owned();
                map.insert(key, read(scanner, depth + 1)?);
                more = scanner.next_or_close(b'}')?;
            }
            Ok(Value::Map(map))
        }
        Some(b'[') => {
            let mut list = Vec::new();
            scanner.open();
            let mut more = !scanner.close(b']');
            while more {
                list.push(read(scanner, depth + 1)?);
                more = scanner.next_or_close(b']')?;
            }
            Ok(Value::List(list))
        }
        _ => scalar(&scanner.value()?),
    }
}

fn scalar(token: &JsonToken<'_>) -> Result<Value, JsonError> {
    Ok(match token.kind {
        JsonKind::Null => Value::Null,
        JsonKind::True => Value::Bool(true),
        JsonKind::False => Value::Bool(false),
        JsonKind::Integer => Value::integer_from_decimal(token.text).ok_or(JsonError::TooManyDigits)?,
        JsonKind::Float => Value::Float(float(token)),
        JsonKind::Text | JsonKind::EscapedText => Value::Text(token.decode().into_owned()),
        JsonKind::Array | JsonKind::Object => return Err(JsonError::TooDeep),
    })
}

/// Returns the number of a float token. `f64` can parse all such tokens; numbers beyond its range
/// become infinite, as in Python.
pub(super) fn float(token: &JsonToken<'_>) -> f64 {
    token.text.parse().unwrap_or(f64::NAN)
}
