//! Integers beyond 64 bits, and exact comparison of integers with floats. Results that fit into
//! 64 bits are always small ints, so every integer has a single form.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_traits::{FromPrimitive, ToPrimitive};

use super::{Exception, Result};
use crate::value::{BigInteger, Value};

/// An operand of arithmetic: an integer or a float.
pub(super) enum Number {
    Int(i64),
    Big(BigInt),
    Float(f64),
}

impl Number {
    pub(super) fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Big(big) => Some(Number::Big(big.to_bigint())),
            value => value.small_int().map(Number::Int).or_else(|| value.float().map(Number::Float)),
        }
    }

    /// Converts to a float; an integer beyond the range of floats raises.
    pub(super) fn to_float(&self) -> Result<f64> {
        match self {
            Number::Int(value) => Ok(*value as f64),
            Number::Float(value) => Ok(*value),
            Number::Big(value) => {
                value.to_f64().filter(|float| float.is_finite()).ok_or(Exception::OverflowError.into())
            }
        }
    }

    pub(super) fn to_bigint(&self) -> Option<BigInt> {
        match self {
            Number::Int(value) => Some(BigInt::from(*value)),
            Number::Big(value) => Some(value.clone()),
            Number::Float(_) => None,
        }
    }
}

impl BigInteger<'_> {
    pub(super) fn to_bigint(self) -> BigInt {
        BigInt::from_slice(if self.negative { Sign::Minus } else { Sign::Plus }, self.digits)
    }

    pub(super) fn compare(self, other: BigInteger<'_>) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => compare_magnitudes(self.digits, other.digits),
            (true, true) => compare_magnitudes(other.digits, self.digits),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }

    pub(super) fn sign(self) -> Ordering {
        if self.negative { Ordering::Less } else { Ordering::Greater }
    }
}

fn compare_magnitudes(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

/// Converts to a float, or raises.
pub(super) fn real_of(value: Value<'_>) -> Result<f64> {
    Number::from_value(value).ok_or(Exception::TypeError)?.to_float()
}

/// Converts to an integer of any size, or raises.
pub(super) fn integer_of(value: Value<'_>) -> Result<BigInt> {
    Number::from_value(value).and_then(|number| number.to_bigint()).ok_or(Exception::TypeError.into())
}

/// Returns the exact order of an integer and a float; `None` for NaN.
pub(super) fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    // 2^63 is exactly representable; floats in [-2^63, 2^63) have an integer part that fits
    // into an i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc();
    Some(int.cmp(&(whole as i64)).then_with(|| whole.total_cmp(&float)))
}

pub(super) fn compare_big_float(big: BigInteger<'_>, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    match BigInt::from_f64(float) {
        Some(whole) => Some(big.to_bigint().cmp(&whole).then_with(|| float.trunc().total_cmp(&float))),
        None if float > 0.0 => Some(Ordering::Less),
        None => Some(Ordering::Greater),
    }
}
