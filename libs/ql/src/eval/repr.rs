//! `str` and `repr` of every value, to the letter of CPython where a query can see it.
//! Floats are written with the fewest digits that read back the same.

use num_bigint::BigInt;
use num_traits::Signed;

use super::{Arena, Exception, Result, view};
use crate::limits::{MAX_INT_DIGITS, MAX_VALUE_DEPTH};
use crate::names::Builtin;
use crate::value::{Set, Value};

pub(super) fn to_str<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Text(_) => Ok(value),
        value => repr(arena, value),
    }
}

pub(super) fn repr<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<Value<'a>> {
    let mut text = String::new();
    write_repr(arena, &mut text, value, 0)?;
    arena.text(&text)
}

pub(super) fn str_of<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<String> {
    let mut text = String::new();
    match value {
        Value::Text(plain) => text.push_str(plain),
        value => write_repr(arena, &mut text, value, 0)?,
    }
    Ok(text)
}

pub(super) fn write_repr<'a>(
    arena: &Arena<'a>,
    text: &mut String,
    value: Value<'a>,
    depth: u32,
) -> Result<()> {
    if depth > MAX_VALUE_DEPTH {
        return Err(Exception::RecursionError.into());
    }
    arena.spend(1)?;
    arena.check_length(text.len())?;
    let depth = depth + 1;
    match value {
        Value::None => text.push_str("None"),
        Value::Bool(value) => text.push_str(if value { "True" } else { "False" }),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Big(big) => text.push_str(&decimal(&big.to_bigint())?),
        Value::Float(value) | Value::Time(value) | Value::Span(value) => text.push_str(&float(value)),
        Value::Complex(real, imaginary) => text.push_str(&complex(real, imaginary)),
        Value::Text(value) => {
            arena.spend_bytes(value.len())?;
            write_text(text, value);
        }
        Value::Bytes(value) => {
            arena.spend_bytes(value.len())?;
            write_bytes(text, value);
        }
        Value::List(items) => write_items(arena, text, ("[", "]"), items, depth)?,
        Value::Tuple([item]) => {
            text.push('(');
            write_repr(arena, text, *item, depth)?;
            text.push_str(",)");
        }
        Value::Tuple(items) => write_items(arena, text, ("(", ")"), items, depth)?,
        Value::Dict(dict) | Value::Object(dict) => {
            text.push('{');
            for (position, entry) in dict.entries().iter().enumerate() {
                text.push_str(if position > 0 { ", " } else { "" });
                write_repr(arena, text, entry.key, depth)?;
                text.push_str(": ");
                write_repr(arena, text, entry.value, depth)?;
            }
            text.push('}');
        }
        Value::Set(set) => write_set(arena, text, set, depth)?,
        Value::Range(range) => {
            let step = if range.step == 1 { String::new() } else { format!(", {}", range.step) };
            text.push_str(&format!("range({}, {}{step})", range.start, range.stop));
        }
        Value::Slice(parts) => write_items(arena, text, ("slice(", ")"), parts, depth)?,
        Value::Tags(run) => {
            let tags: Vec<Value<'a>> = view::tags_of(arena, run)?.into_iter().map(Value::Text).collect();
            write_items(arena, text, ("[", "]"), &tags, depth)?;
        }
        Value::Builtin(Builtin::Class(class)) => text.push_str(&format!("<class '{}'>", class.name())),
        other => text.push_str(&format!("<{}>", other.type_name())),
    }
    Ok(())
}

fn write_items<'a>(
    arena: &Arena<'a>,
    text: &mut String,
    (open, close): (&str, &str),
    items: &[Value<'a>],
    depth: u32,
) -> Result<()> {
    text.push_str(open);
    for (position, item) in items.iter().enumerate() {
        text.push_str(if position > 0 { ", " } else { "" });
        write_repr(arena, text, *item, depth)?;
    }
    text.push_str(close);
    Ok(())
}

fn write_set<'a>(arena: &Arena<'a>, text: &mut String, set: &'a Set<'a>, depth: u32) -> Result<()> {
    let items: Vec<Value<'a>> = set.items().iter().map(|entry| entry.key).collect();
    match (set.frozen, items.is_empty()) {
        (false, true) => text.push_str("set()"),
        (true, true) => text.push_str("frozenset()"),
        (false, false) => write_items(arena, text, ("{", "}"), &items, depth)?,
        (true, false) => write_items(arena, text, ("frozenset({", "})"), &items, depth)?,
    }
    Ok(())
}

/// An integer in decimal, if it is not longer than CPython writes.
pub(super) fn decimal(value: &BigInt) -> Result<String> {
    let text = value.to_string();
    if text.len() - usize::from(value.is_negative()) > MAX_INT_DIGITS {
        return Err(Exception::ValueError.into());
    }
    Ok(text)
}

pub(super) fn float(value: f64) -> String {
    let text = float_digits(value);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') { text + ".0" } else { text }
}

/// Shortest digits, in scientific form below 1e-4 and from 1e16 on, without a trailing `.0`.
fn float_digits(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = shortest(value);
    let (digits, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("this format has an exponent");
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let places = digits.bytes().filter(u8::is_ascii_digit).count() as i32 - 1 - exponent;
    let places = usize::try_from(places).unwrap_or(0);
    format!("{value:.places$}")
}

/// The fewest digits that read back the same; of two equally near texts, the text with the even digit.
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let rounded = format!("{value:.*e}", digits - 1);
    if rounded.parse() == Ok(value) { rounded } else { text }
}

pub(super) fn complex(real: f64, imaginary: f64) -> String {
    let imaginary_text = float_digits(imaginary);
    if real == 0.0 && real.is_sign_positive() {
        return format!("{imaginary_text}j");
    }
    let plus = if imaginary_text.starts_with('-') { "" } else { "+" };
    format!("({}{plus}{imaginary_text}j)", float_digits(real))
}

pub(super) fn write_text(text: &mut String, value: &str) {
    let quote = if value.contains('\'') && !value.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == quote => text.extend(['\\', quote]),
            c if super::unicode::is_printable(c) => text.push(c),
            c => push_escape(text, c),
        }
    }
    text.push(quote);
}

fn push_escape(text: &mut String, character: char) {
    let code = u32::from(character);
    text.push_str(&match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    });
}

/// `ascii(value)` from its `repr`.
pub(super) fn ascii(repr: &str) -> String {
    let mut text = String::with_capacity(repr.len());
    for character in repr.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            push_escape(&mut text, character);
        }
    }
    text
}

fn write_bytes(text: &mut String, value: &[u8]) {
    let quote = if value.contains(&b'\'') && !value.contains(&b'"') { '"' } else { '\'' };
    text.extend(['b', quote]);
    for &byte in value {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            _ if char::from(byte) == quote => text.extend(['\\', quote]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push(quote);
}
