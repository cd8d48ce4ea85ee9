//! The writer of JSON text. Readers expect the same grammar, but different details, which a style
//! defines.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::value::{Map, Value};

/// Details of JSON text for one kind of reader.
#[derive(Clone, Copy, Debug)]
pub struct JsonStyle {
    pub(super) comma: &'static str,
    pub(super) colon: &'static str,
    non_finite: NonFinite,
    floats: FloatDigits,
    bytes: BytesForm,
    /// Escapes everything except for printable ASCII.
    ascii: bool,
    /// Uses the short escapes `\b` and `\f`.
    short_escapes: bool,
}

/// Form of NaN and the infinities.
#[derive(Clone, Copy, Debug)]
enum NonFinite {
    /// Bare names, as Python writes them.
    Names,
    Null,
    /// The texts `"NaN"`, `"inf"`, and `"-inf"`.
    Texts,
}

/// Form of finite floats, always with the fewest digits that yield the same float.
#[derive(Clone, Copy, Debug)]
enum FloatDigits {
    /// Python's `repr`.
    Python,
    /// Rust's `Debug`.
    Debug,
    /// The form that is fastest to write.
    Plain,
}

/// Form of bytes, which JSON cannot represent.
#[derive(Clone, Copy, Debug)]
enum BytesForm {
    Numbers,
    Hex,
    Base64,
}

impl JsonStyle {
    /// Strict JSON of API responses: numbers that are not finite become null.
    pub const STRICT: Self = Self {
        comma: ",",
        colon: ":",
        non_finite: NonFinite::Null,
        floats: FloatDigits::Plain,
        bytes: BytesForm::Hex,
        ascii: false,
        short_escapes: true,
    };

    /// Strict JSON with a space after commas and colons, as in Python.
    pub const SPACED: Self = Self { comma: ", ", colon: ": ", ..Self::STRICT };

    /// Strict JSON for the Aim UI, which expects the texts `NaN`, `inf`, and `-inf` for numbers
    /// that are not finite.
    pub const AIM: Self = Self { non_finite: NonFinite::Texts, ..Self::STRICT };

    /// Like `STRICT`, but with the bare names `NaN`, `Infinity`, and `-Infinity`, which Python reads.
    pub const BARE: Self = Self { non_finite: NonFinite::Names, ..Self::STRICT };

    /// Strict JSON of Matyan 0.3's log: bytes are in base64.
    pub const ENVELOPE: Self = Self { bytes: BytesForm::Base64, ..Self::STRICT };

    /// The result of Python's `json.dumps` with sorted keys and without spaces, which is ASCII.
    /// Contexts are compared and hashed in this form. Bytes become lists of numbers; contexts that
    /// were read from JSON have none.
    pub const CANONICAL: Self = Self {
        non_finite: NonFinite::Names,
        floats: FloatDigits::Python,
        bytes: BytesForm::Numbers,
        ascii: true,
        ..Self::STRICT
    };

    /// The dialect of archives: with spaces, and Python's names for numbers that are not finite.
    pub const ARCHIVE: Self = Self {
        non_finite: NonFinite::Names,
        floats: FloatDigits::Debug,
        short_escapes: false,
        ..Self::SPACED
    };
}

/// Returns a value as text.
///
/// ```
/// # use matyan_value::{Value, json::{JsonStyle, value_text}};
/// let value = Value::List(vec![Value::Float(1e-7), Value::Float(f64::NAN), Value::Text("é".into())]);
/// assert_eq!(value_text(&value, JsonStyle::STRICT), r#"[1e-7,null,"é"]"#);
/// assert_eq!(value_text(&value, JsonStyle::CANONICAL), r#"[1e-07,NaN,"\u00e9"]"#);
/// ```
pub fn value_text(value: &Value, style: JsonStyle) -> String {
    let mut out = String::new();
    write_value(&mut out, value, style);
    out
}

/// Returns a map as text.
pub fn map_text(map: &Map, style: JsonStyle) -> String {
    let mut out = String::new();
    write_map(&mut out, map, style);
    out
}

/// Returns whether a value has something that JSON cannot represent, even in archives: bytes, or an
/// unusual NaN.
pub fn is_lossy(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => true,
        Value::Float(float) => float.is_nan() && float.to_bits() != f64::NAN.to_bits(),
        Value::List(list) => list.iter().any(is_lossy),
        Value::Map(map) => map.values().any(is_lossy),
        _ => false,
    }
}

/// Appends a value.
pub fn write_value(out: &mut String, value: &Value, style: JsonStyle) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => write_bool(out, *bool),
        Value::Integer(integer) => write_integer(out, *integer),
        Value::Big(big) => out.push_str(&big.decimal()),
        Value::Float(float) => write_float(out, *float, style),
        Value::Text(text) => write_text(out, text, style),
        Value::Bytes(bytes) => write_bytes(out, bytes, style),
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                out.push_str(if at > 0 { style.comma } else { "" });
                write_value(out, item, style);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(out, map, style),
    }
}

fn write_map(out: &mut String, map: &Map, style: JsonStyle) {
    out.push('{');
    for (at, (key, value)) in map.iter().enumerate() {
        out.push_str(if at > 0 { style.comma } else { "" });
        write_text(out, key, style);
        out.push_str(style.colon);
        write_value(out, value, style);
    }
    out.push('}');
}

pub(super) fn write_bool(out: &mut String, bool: bool) {
    out.push_str(if bool { "true" } else { "false" });
}

pub(super) fn write_integer(out: &mut String, integer: i64) {
    write!(out, "{integer}").expect("writing to memory does not fail");
}

/// Appends a float.
pub fn write_float(out: &mut String, float: f64, style: JsonStyle) {
    if float.is_finite() {
        return match style.floats {
            FloatDigits::Plain => out.push_str(zmij::Buffer::new().format_finite(float)),
            FloatDigits::Debug => write!(out, "{float:?}").expect("writing to memory does not fail"),
            FloatDigits::Python => write_python_float(out, float),
        };
    }
    let [nan, infinity, negative] = match style.non_finite {
        NonFinite::Null => return out.push_str("null"),
        NonFinite::Names => ["NaN", "Infinity", "-Infinity"],
        NonFinite::Texts => ["\"NaN\"", "\"inf\"", "\"-inf\""],
    };
    out.push_str(match float {
        _ if float.is_nan() => nan,
        _ if float > 0.0 => infinity,
        _ => negative,
    });
}

/// Appends the text of Python's `repr`, which has no exponent between 1e-4 and 1e16.
fn write_python_float(out: &mut String, float: f64) {
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    let written = match exponent {
        -4..16 => write!(out, "{float:?}"),
        16.. => write!(out, "{digits}e+{exponent:02}"),
        _ => write!(out, "{digits}e-{:02}", -exponent),
    };
    written.expect("writing to memory does not fail");
}

/// Appends text in quotes.
pub fn write_text(out: &mut String, text: &str, style: JsonStyle) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = match byte {
            b'"' | b'\\' | 0..0x20 => false,
            0x20..=0x7e => true,
            _ => !style.ascii,
        };
        // The first byte of a character is escaped on behalf of all its bytes.
        if is_plain || !text.is_char_boundary(at) {
            continue;
        }
        out.push_str(&text[plain..at]);
        let character = text[at..].chars().next().expect("a character starts here");
        write_escape(out, character, style);
        plain = at + character.len_utf8();
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn write_escape(out: &mut String, character: char, style: JsonStyle) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' if style.short_escapes => out.push_str("\\b"),
        '\u{c}' if style.short_escapes => out.push_str("\\f"),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("writing to memory does not fail");
            }
        }
    }
}

/// Appends bytes. Most styles write them as text in quotes.
pub fn write_bytes(out: &mut String, bytes: &[u8], style: JsonStyle) {
    match style.bytes {
        BytesForm::Hex => write_text(out, &hex::encode(bytes), style),
        BytesForm::Base64 => write_text(out, &BASE64_STANDARD.encode(bytes), style),
        BytesForm::Numbers => {
            let numbers = bytes.iter().map(|byte| Value::Integer(i64::from(*byte)));
            write_value(out, &Value::List(numbers.collect()), style);
        }
    }
}
