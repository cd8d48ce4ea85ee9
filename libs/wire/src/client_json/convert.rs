//! Lenient conversions of tokens, matching the validator that clients were written against. The
//! error of a failed conversion says what was expected; the caller adds the field and the item.

use std::borrow::Cow;

use bytes::Bytes;
use matyan_proto::{ABSENT, common::v1::OutcomeKind};
use matyan_value::json::{self, JsonError, JsonKind, JsonToken};
use matyan_value::{MAX_DEPTH, datetime};

pub(super) type Reason = Cow<'static, str>;

fn mismatch<T>(expected: &str, token: &JsonToken<'_>) -> Result<T, Reason> {
    Err(Cow::Owned(format!("expected {expected}, found {}", token.kind.noun())))
}

pub(super) fn text<'a>(token: &JsonToken<'a>) -> Result<Cow<'a, str>, Reason> {
    match token.kind {
        JsonKind::Text | JsonKind::EscapedText => Ok(token.decode()),
        _ => mismatch("text", token),
    }
}

pub(super) fn owned_text(token: &JsonToken<'_>) -> Result<String, Reason> {
    text(token).map(Cow::into_owned)
}

/// Converts numbers, numeric text, and booleans. Integers must be in the range of floats; a float
/// beyond the range becomes infinite.
pub(super) fn float(token: &JsonToken<'_>) -> Result<f64, Reason> {
    match token.kind {
        JsonKind::Float => Ok(parse_float(token.text)),
        JsonKind::Integer => match parse_float(token.text) {
            value if value.is_finite() => Ok(value),
            _ => Err("an integer beyond the range of a 64-bit float".into()),
        },
        JsonKind::True => Ok(1.0),
        JsonKind::False => Ok(0.0),
        JsonKind::Text | JsonKind::EscapedText => {
            token.decode().trim().parse().map_err(|_| "expected a number, found non-numeric text".into())
        }
        JsonKind::Null | JsonKind::Array | JsonKind::Object => mismatch("a number", token),
    }
}

/// Parses a number token. `f64` accepts all of the scanner's numbers, including NaN and both
/// infinities.
fn parse_float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// Converts integers, floats without a fraction, integer text, and booleans, within 64 bits.
pub(super) fn integer(token: &JsonToken<'_>) -> Result<i64, Reason> {
    match token.kind {
        JsonKind::Integer => parse_integer(token.text),
        JsonKind::Float => integer_from_float(parse_float(token.text)),
        JsonKind::True => Ok(1),
        JsonKind::False => Ok(0),
        JsonKind::Text | JsonKind::EscapedText => {
            let text = token.decode();
            let digits = text.trim();
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("expected an integer, found other text".into());
            }
            parse_integer(digits)
        }
        JsonKind::Null | JsonKind::Array | JsonKind::Object => mismatch("an integer", token),
    }
}

fn parse_integer(digits: &str) -> Result<i64, Reason> {
    digits.parse().map_err(|_| "an integer beyond 64 bits".into())
}

fn integer_from_float(value: f64) -> Result<i64, Reason> {
    // Both bounds are exact as floats; the upper one is the first that is too large.
    if value.fract() != 0.0 {
        Err("expected an integer, found a fractional number".into())
    } else if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        Ok(value as i64)
    } else {
        Err("an integer beyond 64 bits".into())
    }
}

/// Converts a step or an epoch. The smallest integer means "none" in a column, so clients may not
/// use it.
pub(super) fn step(token: &JsonToken<'_>) -> Result<i64, Reason> {
    match integer(token)? {
        ABSENT => Err("the smallest 64-bit integer is reserved".into()),
        step => Ok(step),
    }
}

pub(super) fn boolean(token: &JsonToken<'_>) -> Result<bool, Reason> {
    const NO: [&str; 6] = ["no", "false", "off", "0", "n", "f"];
    const YES: [&str; 6] = ["yes", "true", "on", "1", "y", "t"];
    match token.kind {
        JsonKind::True => Ok(true),
        JsonKind::False => Ok(false),
        JsonKind::Integer | JsonKind::Float if parse_float(token.text) == 0.0 => Ok(false),
        JsonKind::Integer | JsonKind::Float if parse_float(token.text) == 1.0 => Ok(true),
        JsonKind::Text | JsonKind::EscapedText => {
            let text = token.decode();
            match (
                NO.iter().any(|it| text.eq_ignore_ascii_case(it)),
                YES.iter().any(|it| text.eq_ignore_ascii_case(it)),
            ) {
                (true, _) => Ok(false),
                (_, true) => Ok(true),
                _ => Err("expected true or false, found other text".into()),
            }
        }
        _ => mismatch("true or false", token),
    }
}

/// Converts the name of an outcome.
pub(super) fn outcome(token: &JsonToken<'_>) -> Result<OutcomeKind, Reason> {
    OutcomeKind::from_name(&text(token)?)
        .ok_or_else(|| "expected `finished`, `failed` or `interrupted`, found other text".into())
}

/// Converts to microseconds since the Unix epoch.
pub(super) fn time_us(token: &JsonToken<'_>) -> Result<i64, Reason> {
    let time = match token.kind {
        JsonKind::Text | JsonKind::EscapedText => datetime::parse(&token.decode()),
        JsonKind::Integer | JsonKind::Float => datetime::from_number(parse_float(token.text)),
        _ => return mismatch("a date and time (ISO 8601 or Unix seconds)", token),
    };
    time.ok_or_else(|| "expected a date and time: ISO 8601 or Unix seconds, up to the year 9999".into())
}

/// Converts a context, which stays JSON text; empty for none.
pub(super) fn context<'a>(token: &JsonToken<'a>) -> Result<Cow<'a, str>, Reason> {
    match token.kind {
        JsonKind::Object if token.text == "{}" => Ok("".into()),
        JsonKind::Object if usize::from(token.depth) > MAX_DEPTH => {
            Err(JsonError::TooDeep.to_string().into())
        }
        JsonKind::Object => Ok(json::without_lone_surrogates(token.text)),
        _ => mismatch("an object", token),
    }
}

/// Converts a free-form map to CBOR.
pub(super) fn map(token: &JsonToken<'_>) -> Result<Bytes, Reason> {
    match token.kind {
        JsonKind::Object => cbor(token),
        _ => mismatch("an object", token),
    }
}

/// Converts a free-form list to CBOR.
pub(super) fn list(token: &JsonToken<'_>) -> Result<Bytes, Reason> {
    match token.kind {
        JsonKind::Array => cbor(token),
        _ => mismatch("an array", token),
    }
}

fn cbor(token: &JsonToken<'_>) -> Result<Bytes, Reason> {
    json::token_to_cbor(token).map(Bytes::from).map_err(|error| error.to_string().into())
}
