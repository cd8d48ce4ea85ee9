//! JSON as archives have it: UTF-8 unescaped, bare NaN and Infinity, bytes as hexadecimal text. It is read by the model's own
//! parser, which knows the same dialect.

use matyan_model::value::{Map, Value};

pub(super) fn map_text(map: &Map) -> String {
    let mut out = String::new();
    put_map(&mut out, map);
    out
}

pub(super) fn put(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Integer(integer) => out.push_str(&integer.to_string()),
        Value::Big(big) => out.push_str(&big.decimal()),
        Value::Float(float) => put_float(out, *float),
        Value::Text(text) => put_text(out, text),
        Value::Bytes(bytes) => put_text(out, &hex::encode(bytes)),
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                put(out, item);
            }
            out.push(']');
        }
        Value::Map(map) => put_map(out, map),
    }
}

fn put_map(out: &mut String, map: &Map) {
    out.push('{');
    for (at, (key, value)) in map.iter().enumerate() {
        out.push_str(if at > 0 { ", " } else { "" });
        put_text(out, key);
        out.push_str(": ");
        put(out, value);
    }
    out.push('}');
}

/// The shortest text that is read back to the bit; Python's names for what is not finite.
pub(super) fn put_float(out: &mut String, float: f64) {
    use std::fmt::Write as _;
    match float {
        _ if float.is_nan() => out.push_str("NaN"),
        f64::INFINITY => out.push_str("Infinity"),
        f64::NEG_INFINITY => out.push_str("-Infinity"),
        _ => write!(out, "{float:?}").expect("writing to memory does not fail"),
    }
}

pub(super) fn put_text(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            it if it < ' ' => {
                write!(out, "\\u{:04x}", u32::from(it)).expect("writing to memory does not fail")
            }
            it => out.push(it),
        }
    }
    out.push('"');
}

/// Whether something of it is lost in JSON.
pub(super) fn is_lossy(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => true,
        // One NaN is as good as another in JSON, and not here.
        Value::Float(float) => float.is_nan() && float.to_bits() != f64::NAN.to_bits(),
        Value::List(list) => list.iter().any(is_lossy),
        Value::Map(map) => map.values().any(is_lossy),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &Value) -> String {
        let mut out = String::new();
        put(&mut out, value);
        out
    }

    #[test]
    fn what_is_written_is_read_back() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Integer(i64::MIN),
            Value::integer_from_decimal("-340282366920938463463374607431768211456").unwrap(),
            Value::List(vec![Value::Map(Map::new()), Value::List(Vec::new())]),
            Value::Text("\"\\\n\r\t\u{1}\u{7f}ü\u{1f600}\u{2028}".to_owned()),
        ];
        let floats = [0.0, -0.0, 1.0, 0.1, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1e16, 1e-7, f64::INFINITY];
        let floats = floats.into_iter().flat_map(|float| [float, -float]).chain([f64::NAN]).map(Value::Float);
        for value in values.into_iter().chain(floats) {
            let text = text(&value);
            assert_eq!(matyan_model::json::parse(&text).unwrap(), value, "{text}");
            assert!(!text.contains('\n') && !is_lossy(&value));
        }
    }

    #[test]
    fn what_json_loses_is_seen() {
        let bytes = Value::List(vec![Value::Bytes(vec![1, 255])]);
        assert_eq!(text(&bytes), "[\"01ff\"]");
        assert!(is_lossy(&bytes) && is_lossy(&Value::Float(f64::from_bits(0x7ff8_0000_0000_0001))));
    }
}
