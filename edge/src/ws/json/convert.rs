//! Lenient conversions of tokens, as in the validator that clients were written against.
//! The error of a failed conversion says what was expected; the caller adds the field and the
//! item.

use std::borrow::Cow;

use bytes::Bytes;

use super::scan::{Kind, Token};
use super::{ABSENT, MAX_DEPTH, cbor, datetime, text as text_token};

pub(super) type Reason = Cow<'static, str>;

fn wanted<T>(wanted: &str, token: &Token<'_>) -> Result<T, Reason> {
    Err(Cow::Owned(format!("expected {wanted}, found {}", token.kind.noun())))
}

pub(super) fn text<'a>(token: &Token<'a>) -> Result<Cow<'a, str>, Reason> {
    match token.kind {
        Kind::Text | Kind::EscapedText => Ok(text_token::decode(token)),
        _ => wanted("text", token),
    }
}

pub(super) fn owned_text(token: &Token<'_>) -> Result<String, Reason> {
    text(token).map(Cow::into_owned)
}

/// Converts numbers, numeric text, and booleans. Integers must be in the range of floats; a
/// float beyond the range becomes infinite.
pub(super) fn float(token: &Token<'_>) -> Result<f64, Reason> {
    match token.kind {
        Kind::Float => Ok(parse_float(token.text)),
        Kind::Integer => match parse_float(token.text) {
            value if value.is_finite() => Ok(value),
            _ => Err("an integer beyond the range of a 64-bit float".into()),
        },
        Kind::True => Ok(1.0),
        Kind::False => Ok(0.0),
        Kind::Text | Kind::EscapedText => text_token::decode(token)
            .trim()
            .parse()
            .map_err(|_| "expected a number, found non-numeric text".into()),
        Kind::Null | Kind::Array | Kind::Object => wanted("a number", token),
    }
}

/// Parses a number token. `f64` accepts all of the scanner's numbers, including NaN and both
/// infinities.
fn parse_float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// Converts integers, floats without a fraction, integer text, and booleans, within 64 bits.
pub(super) fn integer(token: &Token<'_>) -> Result<i64, Reason> {
    match token.kind {
        Kind::Integer => parse_integer(token.text),
        Kind::Float => whole(parse_float(token.text)),
        Kind::True => Ok(1),
        Kind::False => Ok(0),
        Kind::Text | Kind::EscapedText => {
            let text = text_token::decode(token);
            let digits = text.trim();
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("expected an integer, found other text".into());
            }
            parse_integer(digits)
        }
        Kind::Null | Kind::Array | Kind::Object => wanted("an integer", token),
    }
}

fn parse_integer(digits: &str) -> Result<i64, Reason> {
    digits.parse().map_err(|_| "an integer beyond 64 bits".into())
}

fn whole(value: f64) -> Result<i64, Reason> {
    // Both bounds are exact as floats; the upper one is the first that is too large.
    if value.fract() != 0.0 {
        Err("expected an integer, found a fractional number".into())
    } else if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        Ok(value as i64)
    } else {
        Err("an integer beyond 64 bits".into())
    }
}

/// Converts a step or an epoch. The smallest integer means "none" in a column, so clients may
/// not use it.
pub(super) fn step(token: &Token<'_>) -> Result<i64, Reason> {
    match integer(token)? {
        ABSENT => Err("the smallest 64-bit integer is reserved".into()),
        step => Ok(step),
    }
}

pub(super) fn boolean(token: &Token<'_>) -> Result<bool, Reason> {
    const NO: [&str; 6] = ["no", "false", "off", "0", "n", "f"];
    const YES: [&str; 6] = ["yes", "true", "on", "1", "y", "t"];
    match token.kind {
        Kind::True => Ok(true),
        Kind::False => Ok(false),
        Kind::Integer | Kind::Float if parse_float(token.text) == 0.0 => Ok(false),
        Kind::Integer | Kind::Float if parse_float(token.text) == 1.0 => Ok(true),
        Kind::Text | Kind::EscapedText => {
            let text = text_token::decode(token);
            match (
                NO.iter().any(|it| text.eq_ignore_ascii_case(it)),
                YES.iter().any(|it| text.eq_ignore_ascii_case(it)),
            ) {
                (true, _) => Ok(false),
                (_, true) => Ok(true),
                _ => Err("expected true or false, found other text".into()),
            }
        }
        _ => wanted("true or false", token),
    }
}

/// Converts to microseconds since the Unix epoch.
pub(super) fn time_us(token: &Token<'_>) -> Result<i64, Reason> {
    let time = match token.kind {
        Kind::Text | Kind::EscapedText => datetime::parse(&text_token::decode(token)),
        Kind::Integer | Kind::Float => datetime::from_number(parse_float(token.text)),
        _ => return wanted("a date and time (ISO 8601 or Unix seconds)", token),
    };
    time.ok_or_else(|| "expected a date and time: ISO 8601 or Unix seconds, up to the year 9999".into())
}

/// Converts a context, which stays JSON text; empty for none.
pub(super) fn context<'a>(token: &Token<'a>) -> Result<Cow<'a, str>, Reason> {
    match token.kind {
        Kind::Object if token.text == "{}" => Ok("".into()),
        Kind::Object if token.depth > MAX_DEPTH => Err(cbor::ValueError::TooDeep.into()),
        Kind::Object => Ok(text_token::without_lone_surrogates(token.text)),
        _ => wanted("an object", token),
    }
}

/// Converts a free-form map to CBOR.
pub(super) fn map(token: &Token<'_>) -> Result<Bytes, Reason> {
    match token.kind {
        Kind::Object => Ok(cbor::transcode(token)?),
        _ => wanted("an object", token),
    }
}

/// Converts a free-form list to CBOR.
pub(super) fn list(token: &Token<'_>) -> Result<Bytes, Reason> {
    match token.kind {
        Kind::Array => Ok(cbor::transcode(token)?),
        _ => wanted("an array", token),
    }
}
