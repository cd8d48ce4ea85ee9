//! Free-form values as trees: params, objects, arguments of log records, and contexts. They
//! represent everything that clients can express in JSON or CBOR, including integers of any size
//! and the bits of floats.

use std::collections::BTreeMap;

use crate::bigint::{self, BigInteger, MAX_DIGITS};

/// Members of a map, in byte order of their keys.
pub type Map = BTreeMap<String, Value>;

/// A map with one member has room for eleven, and takes as much memory as ten members of a list.
pub(crate) const MAP_WEIGHT: usize = 10;

/// A free-form value. Equal values have the same type and the same bits: NaN equals itself, while
/// 0.0 and -0.0 differ, and so do 1 and 1.0.
#[derive(Clone, Debug)]
pub enum Value {
    /// JSON's `null`, and CBOR's `undefined`.
    Null,
    /// A boolean. Unlike in Python, it is not a number.
    Bool(bool),
    /// An integer in the range of `i64`.
    Integer(i64),
    /// An integer beyond the range of `i64`.
    Big(BigInteger),
    /// A 64-bit float, finite or not.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes, which only CBOR can represent.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A map with text keys.
    Map(Map),
}

impl Value {
    /// Returns the members if this is a map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the integer `magnitude`, or `-1 - magnitude` if `negative`, in the smallest variant
    /// that can represent it. The magnitude is big-endian.
    pub fn integer(negative: bool, magnitude: &[u8]) -> Self {
        let first = magnitude.iter().position(|byte| *byte != 0).unwrap_or(magnitude.len());
        let magnitude = &magnitude[first..];
        let mut low = [0; 8];
        if magnitude.len() <= low.len() {
            low[8 - magnitude.len()..].copy_from_slice(magnitude);
            if let Ok(small) = i64::try_from(u64::from_be_bytes(low)) {
                return Self::Integer(if negative { -1 - small } else { small });
            }
        }
        Self::Big(BigInteger::new(negative, magnitude.to_vec()))
    }

    /// Parses decimal digits with an optional `-`. Returns `None` for other characters, and for
    /// more than `MAX_DIGITS` digits.
    ///
    /// ```
    /// # use matyan_value::Value;
    /// assert_eq!(Value::integer_from_decimal("-7"), Some(Value::Integer(-7)));
    /// assert!(matches!(Value::integer_from_decimal("18446744073709551616"), Some(Value::Big(_))));
    /// assert_eq!(Value::integer_from_decimal("1.0"), None);
    /// ```
    pub fn integer_from_decimal(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        if let Ok(small) = text.parse() {
            return Some(Self::Integer(small));
        }
        let negative = digits.len() < text.len();
        Some(Self::integer(negative, &bigint::magnitude(digits, negative)))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Big(a), Self::Big(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_decimal_and_back() {
        for text in [
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "-18446744073709551616",
            "-18446744073709551617",
            "12345678901234567890123",
            "1000000000000000000000000000",
            "-340282366920938463463374607431768211456",
        ] {
            let decimal = match Value::integer_from_decimal(text).unwrap() {
                Value::Integer(small) => small.to_string(),
                Value::Big(big) => big.decimal(),
                other => panic!("{other:?}"),
            };
            assert_eq!(decimal, text);
        }
    }

    #[test]
    fn text_that_is_no_integer_is_refused() {
        for text in ["", "-", "1.0", "+1", " 1", "1e3", "0x1", &"9".repeat(MAX_DIGITS + 1)] {
            assert!(Value::integer_from_decimal(text).is_none(), "{text}");
        }
    }

    #[test]
    fn equality_is_to_the_bit() {
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_ne!(Value::Integer(1), Value::Float(1.0));
        assert_ne!(Value::Integer(1), Value::Bool(true));
    }

    #[test]
    fn big_integers_order_as_numbers() {
        let numbers = [
            "-99999999999999999999999",
            "-99999999999999999999",
            "99999999999999999999",
            "999999999999999999999999",
        ];
        let numbers = numbers.map(|text| match Value::integer_from_decimal(text) {
            Some(Value::Big(big)) => big,
            other => panic!("{other:?}"),
        });
        assert!(numbers.is_sorted());
    }
}
