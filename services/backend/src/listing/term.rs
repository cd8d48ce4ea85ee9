//! Values of runs that lists are sorted and grouped by, and their order: numbers by value, then
//! texts by code point, then nothing, which comes last in both directions.
//!
//! A term of a text that is longer than any name has only the start of the text, and a digest. So a
//! column, a cursor, and the token of a group stay small, and equal texts are equal. Long texts that
//! start the same are ordered by their digests: a place among them needs no run that has the text.

use std::cmp::Ordering;

use matyan_proto::limits;
use matyan_value::Value;

/// Longest text that is kept as it is, in bytes.
pub(crate) const TEXT_BYTES: usize = limits::NAME_BYTES;

const DIGEST_BYTES: usize = 16;

/// Memory that the allocator adds to a short text.
pub(crate) const ALLOCATION: usize = 16;

/// The first `TEXT_BYTES` of a longer text, then its digest.
pub(crate) type LongText = [u8; TEXT_BYTES + DIGEST_BYTES];

/// A value of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Term {
    #[default]
    Absent,
    Bool(bool),
    Integer(i64),
    /// Not NaN.
    Float(f64),
    /// At most `TEXT_BYTES`.
    Text(Box<str>),
    LongText(Box<LongText>),
}

/// A borrowed value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TermRef<'t> {
    Absent,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'t str),
    LongText(&'t LongText),
    /// A text of 32 hexadecimal digits.
    Hex(&'t HexText),
}

/// The number that a text of lowercase hexadecimal digits stands for. Such numbers are ordered like their
/// texts.
pub(crate) type HexText = [u8; HEX_BYTES];

const HEX_BYTES: usize = 16;
const HEX_DIGITS: usize = 2 * HEX_BYTES;

/// The number that a text stands for, if it has 32 lowercase hexadecimal digits, like the run ids that
/// clients make.
pub(crate) fn hex_text(text: &str) -> Option<HexText> {
    let mut number = [0; HEX_BYTES];
    hex::decode_to_slice(text, &mut number).ok()?;
    // The crate also reads uppercase digits.
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(number)
}

/// Writes the digits of a text that is stored as a number.
fn write_digits<'d>(number: &HexText, digits: &'d mut [u8; HEX_DIGITS]) -> &'d str {
    hex::encode_to_slice(number, digits).expect("all digits have room");
    std::str::from_utf8(digits).expect("digits are ASCII")
}

impl Term {
    /// The value of a float; NaN is none.
    pub(crate) fn float(value: f64) -> Self {
        if value.is_nan() { Self::Absent } else { Self::Float(value) }
    }

    pub(crate) fn text(text: &str) -> Self {
        let Some((beginning, _)) = text.as_bytes().split_at_checked(TEXT_BYTES + 1) else {
            return Self::Text(text.into());
        };
        let mut long = Box::new([0; TEXT_BYTES + DIGEST_BYTES]);
        let (start, digest) = long.split_at_mut(TEXT_BYTES);
        start.copy_from_slice(&beginning[..TEXT_BYTES]);
        digest.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..DIGEST_BYTES]);
        Self::LongText(long)
    }

    /// The text to show, or the start of a long text.
    pub(crate) fn shown_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::LongText(long) => {
                let chunk = long[..TEXT_BYTES].utf8_chunks().next();
                Some(chunk.map_or("", |chunk| chunk.valid()))
            }
            Self::Absent | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => None,
        }
    }

    /// The value of a param; containers and null have none.
    pub(crate) fn from_value(value: &Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::Float(value) => Self::float(*value),
            Value::Big(big) => Self::float(big.to_f64()),
            Value::Text(text) => Self::text(text),
            Value::Null | Value::Bytes(_) | Value::List(_) | Value::Map(_) => Self::Absent,
        }
    }

    /// A value that `to_value` wrote and a client returned. `None` for any other, such as a number of
    /// many digits, whose conversion takes long.
    pub(crate) fn from_token(value: &Value) -> Option<Self> {
        match value {
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                Some(Self::from_value(value))
            }
            Value::Bytes(bytes) => {
                Some(Self::LongText(LongText::try_from(bytes.as_slice()).ok().map(Box::new)?))
            }
            Value::Big(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The opposite of `from_token`.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Text(text) => Value::Text(text.to_string()),
            Self::LongText(long) => Value::Bytes(long.to_vec()),
        }
    }

    pub(crate) fn borrow(&self) -> TermRef<'_> {
        match self {
            Self::Absent => TermRef::Absent,
            Self::Bool(value) => TermRef::Bool(*value),
            Self::Integer(value) => TermRef::Integer(*value),
            Self::Float(value) => TermRef::Float(*value),
            Self::Text(text) => TermRef::Text(text),
            Self::LongText(long) => TermRef::LongText(long),
        }
    }

    /// The most that `heap_bytes` returns.
    pub(crate) const MAX_HEAP_BYTES: usize = size_of::<LongText>() + ALLOCATION;

    /// Memory outside the value itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + ALLOCATION,
            Self::LongText(_) => Self::MAX_HEAP_BYTES,
            Self::Absent | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => 0,
        }
    }
}

impl TermRef<'_> {
    pub(crate) fn to_term(self) -> Term {
        match self {
            Self::Absent => Term::Absent,
            Self::Bool(value) => Term::Bool(value),
            Self::Integer(value) => Term::Integer(value),
            Self::Float(value) => Term::Float(value),
            Self::Text(text) => Term::text(text),
            Self::LongText(long) => Term::LongText(Box::new(*long)),
            Self::Hex(number) => Term::text(write_digits(number, &mut [0; HEX_DIGITS])),
        }
    }

    /// The finite number to aggregate.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(value as f64),
            Self::Float(value) => Some(value).filter(|value| value.is_finite()),
            Self::Absent | Self::Bool(_) | Self::Text(_) | Self::LongText(_) | Self::Hex(_) => None,
        }
    }

    /// Whether this is a text that starts with `prefix`, which has at most `TEXT_BYTES`.
    pub(crate) fn starts_with(self, prefix: &str) -> bool {
        match self {
            Self::Text(text) => text.starts_with(prefix),
            Self::LongText(long) => long[..TEXT_BYTES].starts_with(prefix.as_bytes()),
            Self::Hex(number) => write_digits(number, &mut [0; HEX_DIGITS]).starts_with(prefix),
            Self::Absent | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => false,
        }
    }

    /// A bool is the number 0 or 1, as in Python.
    fn as_ordered(self) -> Self {
        if let Self::Bool(value) = self { Self::Integer(value.into()) } else { self }
    }
}

pub(crate) fn compare(a: TermRef<'_>, b: TermRef<'_>, descending: bool) -> Ordering {
    use TermRef::{Absent, Float, Hex, Integer, LongText, Text};
    let ascending = match (a.as_ordered(), b.as_ordered()) {
        (Absent, Absent) => return Ordering::Equal,
        (Absent, _) => return Ordering::Greater,
        (_, Absent) => return Ordering::Less,
        (Hex(a), Hex(b)) => a.cmp(b),
        (Hex(a), b) => compare(Text(write_digits(a, &mut [0; HEX_DIGITS])), b, false),
        (a, Hex(b)) => compare(a, Text(write_digits(b, &mut [0; HEX_DIGITS])), false),
        (Text(a), Text(b)) => a.cmp(b),
        (LongText(a), LongText(b)) => a.cmp(b),
        // A text is at most as long as the start of a long text, and comes before its continuations.
        (Text(a), LongText(b)) => a.as_bytes().cmp(&b[..TEXT_BYTES]).then(Ordering::Less),
        (LongText(a), Text(b)) => a[..TEXT_BYTES].cmp(b.as_bytes()).then(Ordering::Greater),
        (Text(_) | LongText(_), _) => Ordering::Greater,
        (_, Text(_) | LongText(_)) => Ordering::Less,
        (Float(a), Float(b)) => compare_floats(a, b),
        (Integer(a), Float(b)) => compare_mixed(a, b),
        (Float(a), Integer(b)) => compare_mixed(b, a).reverse(),
        (Integer(a), Integer(b)) => a.cmp(&b),
        (TermRef::Bool(_), _) | (_, TermRef::Bool(_)) => unreachable!("a bool was converted above"),
    };
    if descending { ascending.reverse() } else { ascending }
}

/// Compares numbers that are not NaN; both zeros are equal.
pub(crate) fn compare_floats(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

/// Compares exactly: integers beyond 2^53 have no exact float.
fn compare_mixed(integer: i64, other: f64) -> Ordering {
    match compare_floats(integer as f64, other) {
        // Both are whole numbers here, and fit into the wider type.
        Ordering::Equal => i128::from(integer).cmp(&(other as i128)),
        ordering => ordering,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_texts_are_ordered_like_others() {
        let texts = [
            "",
            "00000000000000000000000000000000",
            "0000000000000000000000000000000a",
            "00000000000000000000000000000010",
            "09",
            "9f000000000000000000000000000000",
            "A0000000000000000000000000000000",
            "a0000000000000000000000000000000",
            "a00000000000000000000000000000001",
            "fedcba98765432100123456789abcdef",
            "g0000000000000000000000000000000",
        ];
        let numbers = texts.map(hex_text);
        let stored = |at: usize| match &numbers[at] {
            Some(number) => TermRef::Hex(number),
            None => TermRef::Text(texts[at]),
        };
        assert_eq!(numbers.iter().flatten().count(), 6);
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(stored(at).to_term(), Term::text(text));
            assert!(stored(at).starts_with(&text[..text.len() / 2]));
            for (other, other_text) in texts.iter().enumerate() {
                for descending in [false, true] {
                    let expected = compare(TermRef::Text(text), TermRef::Text(other_text), descending);
                    assert_eq!(
                        compare(stored(at), stored(other), descending),
                        expected,
                        "{text} {other_text}"
                    );
                }
            }
            assert_eq!(compare(stored(at), TermRef::Integer(7), false), Ordering::Greater);
            assert_eq!(compare(TermRef::Absent, stored(at), true), Ordering::Greater);
        }
    }

    #[test]
    fn terms_are_ordered_with_absent_ones_last() {
        let rising = [
            Term::Float(f64::NEG_INFINITY),
            Term::Integer(-1),
            Term::Float(-0.5),
            Term::Integer(0),
            Term::Bool(true),
            Term::Float(9_007_199_254_740_992.0),
            Term::Integer(9_007_199_254_740_993),
            Term::Integer(i64::MAX),
            Term::Float(9_223_372_036_854_775_808.0),
            Term::Float(f64::INFINITY),
            Term::text(""),
            Term::text("Z"),
            Term::text("a"),
            Term::text("é"),
            Term::text(&"é".repeat(TEXT_BYTES / 2)),
            Term::text(&format!("{}x", "é".repeat(TEXT_BYTES / 2))),
            Term::text(&format!("{}x", "é".repeat(TEXT_BYTES / 2 + 1))),
            Term::text(&"ê".repeat(TEXT_BYTES)),
        ];
        let compare = |a: &Term, b: &Term, descending| compare(a.borrow(), b.borrow(), descending);
        for (position, a) in rising.iter().enumerate() {
            for (other, b) in rising.iter().enumerate() {
                assert_eq!(compare(a, b, false), position.cmp(&other), "{a:?} {b:?}");
                assert_eq!(compare(a, b, true), other.cmp(&position), "{a:?} {b:?}");
            }
            for descending in [false, true] {
                assert_eq!(compare(a, &Term::Absent, descending), Ordering::Less);
                assert_eq!(compare(&Term::Absent, a, descending), Ordering::Greater);
            }
            assert_eq!(Term::from_token(&a.to_value()).as_ref(), Some(a));
        }
        assert_eq!(compare(&Term::Float(-0.0), &Term::Integer(0), false), Ordering::Equal);
        assert_eq!(compare(&Term::Bool(false), &Term::Integer(0), false), Ordering::Equal);
        assert_eq!(Term::from_value(&Value::Float(f64::NAN)), Term::Absent);
    }
}
