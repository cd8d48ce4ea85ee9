//! Calls of types, such as `int("12")`, `list(x)` and `datetime(2024, 1, 1)`, and rounding. As
//! documented, `list` and `tuple` do not split strings, and a `range` has at most 1,000
//! elements.

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Num, ToPrimitive};

use super::arguments::{Arguments, bind_arguments};
use super::integer::Number;
use super::{Arena, Exception, Machine, Result, arithmetic, compare, complex, iterate, repr, tables, time};
use crate::limits::{MAX_INT_DIGITS, MAX_RANGE};
use crate::names::Class;
use crate::value::table::{TableBuilder, TableEntry};
use crate::value::{Range, Value};

pub(super) fn construct<'a>(
    machine: &Machine<'a>,
    class: Class,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match class {
        Class::DateTime => return machine.clock.make_time(arguments),
        Class::TimeDelta => return time::make_span(arguments),
        Class::Dict => return make_dict(machine, arguments),
        Class::Enumerate => {
            let [_, start] = bind_arguments(arguments, ["iterable", "start"], 1)?;
            let start = start.map_or(Some(0), |start| start.small_int()).ok_or(Exception::TypeError)?;
            return iterate::make_lazy(
                machine,
                class,
                arguments.positional.get(..1).ok_or(Exception::TypeError)?,
                start,
            );
        }
        Class::Complex => {
            return match bind_arguments(arguments, ["real", "imag"], 0)? {
                [Some(Value::Text(text)), None] => {
                    machine.arena.spend_bytes(text.len())?;
                    parse_complex(&ascii_digits(text)).ok_or(Exception::ValueError.into())
                }
                [real, imaginary] => make_complex(real, imaginary),
            };
        }
        Class::Int => {
            let [value, base] = bind_arguments(arguments, ["", "base"], 0)?;
            return make_int(&machine.arena, value, base);
        }
        _ => {}
    }
    match (class, take_one(class, arguments)?) {
        (Class::Zip | Class::Map | Class::Filter | Class::Reversed, _) => {
            iterate::make_lazy(machine, class, arguments.positional, 0)
        }
        (Class::Range, _) => make_range(&machine.arena, arguments.positional),
        (Class::Slice, _) => make_slice(&machine.arena, arguments.positional),
        (Class::Bool, value) => Ok(Value::Bool(value.is_some_and(|value| value.truth()))),
        (Class::Str, None) => Ok(Value::Text("")),
        (Class::Str, Some(value)) => repr::to_str(&machine.arena, value),
        (Class::Bytes, value) => make_bytes(machine, value),
        (Class::Float, None) => Ok(Value::Float(0.0)),
        (Class::Float, Some(value)) => make_float(&machine.arena, value),
        (Class::List, None) => machine.arena.list(&[]),
        (Class::Tuple, None) => machine.arena.tuple(&[]),
        (Class::List | Class::Tuple, Some(Value::Text(_))) => Err(Exception::TypeError.into()),
        (Class::List, Some(value)) => machine.arena.list(&machine.collect(value)?),
        (Class::Tuple, Some(value)) => machine.arena.tuple(&machine.collect(value)?),
        (Class::Set | Class::FrozenSet, value) => match value {
            Some(value) => iterate::collect_set(machine, value, class == Class::FrozenSet),
            None => machine.arena.set(TableBuilder::default(), class == Class::FrozenSet),
        },
        _ => Err(Exception::TypeError.into()),
    }
}

fn make_dict<'a>(machine: &Machine<'a>, arguments: Arguments<'a>) -> Result<Value<'a>> {
    let mut builder = TableBuilder::default();
    match arguments.positional {
        [] => {}
        [Value::Dict(dict) | Value::Object(dict)] => {
            dict.entries()
                .iter()
                .try_for_each(|entry| tables::insert(&machine.arena, &mut builder, *entry))?;
        }
        [pairs] => machine.each(*pairs, &mut |pair| {
            let [key, value] = machine.collect(pair)?[..] else { return Err(Exception::ValueError.into()) };
            tables::insert(
                &machine.arena,
                &mut builder,
                TableEntry { hash: compare::hash(&machine.arena, key)?, key, value },
            )?;
            Ok(true)
        })?,
        _ => return Err(Exception::TypeError.into()),
    }
    for &(name, value) in arguments.keywords {
        let hash = super::compare::hash_text(name);
        tables::insert(&machine.arena, &mut builder, TableEntry { hash, key: Value::Text(name), value })?;
    }
    machine.arena.dict(builder)
}

fn make_range<'a>(arena: &Arena<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let integers: Option<Vec<i64>> = arguments.iter().map(Value::small_int).collect();
    let range = match integers.ok_or(Exception::TypeError)?[..] {
        [stop] => Range { start: 0, stop, step: 1 },
        [start, stop] => Range { start, stop, step: 1 },
        [_, _, 0] => return Err(Exception::ValueError.into()),
        [start, stop, step] => Range { start, stop, step },
        _ => return Err(Exception::TypeError.into()),
    };
    if range.len() > MAX_RANGE {
        return Err(Exception::ValueError.into());
    }
    arena.alloc(range).map(Value::Range)
}

fn make_slice<'a>(arena: &Arena<'a>, arguments: &[Value<'a>]) -> Result<Value<'a>> {
    let parts = match *arguments {
        [stop] => [Value::None, stop, Value::None],
        [start, stop] => [start, stop, Value::None],
        [start, stop, step] => [start, stop, step],
        _ => return Err(Exception::TypeError.into()),
    };
    arena.alloc(parts).map(Value::Slice)
}

fn make_bytes<'a>(machine: &Machine<'a>, value: Option<Value<'a>>) -> Result<Value<'a>> {
    match value {
        None => Ok(Value::Bytes(&[])),
        Some(Value::Bytes(bytes)) => Ok(Value::Bytes(bytes)),
        Some(Value::Text(_)) => Err(Exception::TypeError.into()),
        Some(length) if length.small_int().is_some() => {
            let length = usize::try_from(length.small_int().unwrap_or_default());
            let length = length.map_err(|_| Exception::ValueError)?;
            machine.arena.check_size(length)?;
            machine.arena.alloc_bytes(&vec![0; length]).map(Value::Bytes)
        }
        Some(items) => {
            let mut bytes = Vec::new();
            machine.each(items, &mut |item| {
                let byte = u8::try_from(item.small_int().ok_or(Exception::TypeError)?);
                bytes.push(byte.map_err(|_| Exception::ValueError)?);
                Ok(true)
            })?;
            machine.arena.alloc_bytes(&bytes).map(Value::Bytes)
        }
    }
}

fn make_int<'a>(arena: &Arena<'a>, value: Option<Value<'a>>, base: Option<Value<'a>>) -> Result<Value<'a>> {
    let base = match base {
        None => None,
        Some(base) => Some(base.small_int().ok_or(Exception::TypeError)?),
    };
    match (value, base) {
        (None, None) => Ok(Value::Int(0)),
        (None, Some(_)) => Err(Exception::TypeError.into()),
        (Some(Value::Text(text)), base) => parse_int(arena, text, base.unwrap_or(10)),
        (Some(Value::Bytes(bytes)), base) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Exception::ValueError)?;
            parse_int(arena, text, base.unwrap_or(10))
        }
        (Some(_), Some(_)) => Err(Exception::TypeError.into()),
        (Some(value), None) => match value.float() {
            Some(float) => arena.truncated(float),
            None => arithmetic::unary(arena, crate::tree::Unary::Plus, value).and_then(|value| match value {
                Value::Complex(..) => Err(Exception::TypeError.into()),
                value => Ok(value),
            }),
        },
    }
}

fn parse_int<'a>(arena: &Arena<'a>, text: &str, base: i64) -> Result<Value<'a>> {
    arena.spend_bytes(text.len())?;
    let digits = ascii_digits(text);
    let (negative, digits) = sign(digits.trim());
    let (radix, digits, prefixed) = radix(digits, base)?;
    // As in CPython, the limit does not apply to bases that are powers of two.
    if digits.len() > MAX_INT_DIGITS && !radix.is_power_of_two() {
        return Err(Exception::ValueError.into());
    }
    // Parsing takes quadratic time.
    arena.check_size(digits.len() * digits.len() / 16)?;
    let plain = without_underscores(digits, prefixed).ok_or(Exception::ValueError)?;
    let value = BigInt::from_str_radix(&plain, radix).map_err(|_| Exception::ValueError)?;
    arena.integer(if negative { -value } else { value })
}

fn make_float<'a>(arena: &Arena<'a>, value: Value<'a>) -> Result<Value<'a>> {
    match value {
        Value::Text(text) => {
            arena.spend_bytes(text.len())?;
            parse_float(&ascii_digits(text)).map(Value::Float).ok_or(Exception::ValueError.into())
        }
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Exception::ValueError)?;
            parse_float(text).map(Value::Float).ok_or(Exception::ValueError.into())
        }
        value => Number::from_value(value).ok_or(Exception::TypeError)?.to_float().map(Value::Float),
    }
}

pub(super) fn round<'a>(arena: &Arena<'a>, number: Value<'a>, digits: Value<'a>) -> Result<Value<'a>> {
    let digits = match digits {
        Value::None => None,
        digits => Some(digits.small_int().ok_or(Exception::TypeError)?),
    };
    match (Number::from_value(number).ok_or(Exception::TypeError)?, digits) {
        (Number::Float(value), None) => arena.truncated(value.round_ties_even()),
        (Number::Float(value), Some(digits)) => round_float(value, digits).map(Value::Float),
        (integer, digits) => {
            let value = integer.to_bigint().ok_or(Exception::TypeError)?;
            arena.integer(round_integer(value, digits.unwrap_or(0)))
        }
    }
}

fn take_one<'a>(class: Class, arguments: Arguments<'a>) -> Result<Option<Value<'a>>> {
    let many = matches!(class, Class::Zip | Class::Map | Class::Filter | Class::Range | Class::Slice);
    match (arguments.positional, arguments.keywords) {
        (positional, []) if many => Ok(positional.first().copied()),
        ([], []) => Ok(None),
        ([value], []) => Ok(Some(*value)),
        ([], [("object", value)]) if class == Class::Str => Ok(Some(*value)),
        _ => Err(Exception::TypeError.into()),
    }
}

fn make_complex<'a>(real: Option<Value<'a>>, imaginary: Option<Value<'a>>) -> Result<Value<'a>> {
    let (a, b) = real.map_or(Ok((0.0, 0.0)), complex::parts)?;
    let (c, d) = imaginary.map_or(Ok((0.0, 0.0)), complex::parts)?;
    // A missing part must not turn -0.0 into 0.0.
    Ok(Value::Complex(if d == 0.0 { a } else { a - d }, if b == 0.0 { c } else { b + c }))
}

/// Parses `1+2j`, `-3` or `.5j`, optionally in parentheses.
fn parse_complex<'a>(text: &str) -> Option<Value<'a>> {
    let text = text.trim();
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let text = inner.unwrap_or(text).trim();
    let Some(parts) = text.strip_suffix(['j', 'J']) else {
        return parse_float(text).map(|real| Value::Complex(real, 0.0));
    };
    // The parts are split at the last sign that does not belong to an exponent.
    let bytes = parts.as_bytes();
    let split = (1..bytes.len())
        .rev()
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    let (real, imaginary) = parts.split_at(split.unwrap_or(0));
    let imaginary = match imaginary {
        "" | "+" => 1.0,
        "-" => -1.0,
        digits => parse_float(digits)?,
    };
    let real = if real.is_empty() { 0.0 } else { parse_float(real)? };
    Some(Value::Complex(real, imaginary))
}

/// Converts decimal digits of any script to ASCII, like Python.
fn ascii_digits(text: &str) -> String {
    text.chars().map(ascii_digit).collect()
}

fn ascii_digit(character: char) -> char {
    let value = super::unicode::decimal(character);
    value.and_then(|value| char::from_digit(value, 10)).unwrap_or(character)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Returns the radix given by base and prefix, the digits, and whether there was a prefix.
fn radix(digits: &str, base: i64) -> Result<(u32, &str, bool)> {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let prefix = match lower.as_deref() {
        Some("0x") => Some(16),
        Some("0o") => Some(8),
        Some("0b") => Some(2),
        _ => None,
    };
    match (base, prefix) {
        (0, Some(radix)) => Ok((radix, &digits[2..], true)),
        (0, None) => {
            // As in literals, leading zeros are allowed only for zero itself.
            let zeros = digits.chars().all(|c| matches!(c, '0' | '_'));
            if digits.starts_with('0') && !zeros {
                Err(Exception::ValueError.into())
            } else {
                Ok((10, digits, false))
            }
        }
        (base, Some(radix)) if base == i64::from(radix) => Ok((radix, &digits[2..], true)),
        (2..=36, _) => Ok((u32::try_from(base).unwrap_or(10), digits, false)),
        _ => Err(Exception::ValueError.into()),
    }
}

/// Removes underscores, which are allowed between digits and between a prefix and the first
/// digit.
fn without_underscores(digits: &str, prefixed: bool) -> Option<String> {
    let digits = if prefixed { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let parts: Vec<&str> = digits.split('_').collect();
    parts.iter().all(|part| is_plain(part)).then(|| parts.concat())
}

fn is_plain(digits: &str) -> bool {
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_alphanumeric())
}

fn parse_float(text: &str) -> Option<f64> {
    let (negative, rest) = sign(text.trim());
    let magnitude = match rest.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => {
            let mut parts = rest.split('_').peekable();
            let mut plain = String::with_capacity(rest.len());
            while let Some(part) = parts.next() {
                let next = parts.peek().and_then(|next| next.bytes().next());
                // An underscore must be between two digits.
                if next.is_some_and(|next| !next.is_ascii_digit()) || parts.peek() == Some(&"") {
                    return None;
                }
                if parts.peek().is_some()
                    && !part.bytes().next_back().is_some_and(|last| last.is_ascii_digit())
                {
                    return None;
                }
                plain.push_str(part);
            }
            let first = plain.bytes().next()?;
            // Rust's parser would accept a second sign, or a name such as `inf`, here.
            if !first.is_ascii_digit() && first != b'.' {
                return None;
            }
            plain.parse().ok()?
        }
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Rounds the exact decimal value of a float, ties to even, like `round(x, n)`.
fn round_float(value: f64, digits: i64) -> Result<f64> {
    if !value.is_finite() || digits > 323 {
        return Ok(value);
    }
    // Every float rounds to zero.
    if digits < -308 {
        return Ok(0.0_f64.copysign(value));
    }
    if digits >= 0 {
        let digits = usize::try_from(digits).unwrap_or_default();
        return format!("{value:.digits$}").parse().map_err(|_| Exception::ValueError.into());
    }
    let whole = BigInt::from_f64(value.abs()).unwrap_or_default();
    // With a fractional part, a tie of the integral part is no longer a tie.
    let nudge = i32::from(value.fract() != 0.0);
    let unit = BigInt::from(10).pow(u32::try_from(-digits).unwrap_or(u32::MAX));
    let is_half = &whole % &unit * 2 == unit;
    let rounded = round_integer(if is_half { whole + nudge } else { whole }, digits);
    match rounded.to_f64().filter(|rounded| rounded.is_finite()) {
        Some(rounded) => Ok(rounded.copysign(value)),
        None => Err(Exception::OverflowError.into()),
    }
}

/// Rounds to a power of ten, ties to even. Returns the value unchanged for digits after the
/// decimal point.
fn round_integer(value: BigInt, digits: i64) -> BigInt {
    if digits >= 0 {
        return value;
    }
    let places = u32::try_from(-digits).unwrap_or(u32::MAX);
    // No integer has this many digits.
    if places as usize > MAX_INT_DIGITS * 2 {
        return BigInt::ZERO;
    }
    let unit = BigInt::from(10).pow(places);
    let down = num_integer::Integer::div_floor(&value, &unit) * &unit;
    let rest = &value - &down;
    let doubled = &rest * 2;
    let odd = num_integer::Integer::is_odd(&(&down / &unit));
    if doubled > unit || doubled == unit && odd { down + unit } else { down }
}
