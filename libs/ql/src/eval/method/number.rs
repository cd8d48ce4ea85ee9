//! Methods of integers and floats; times and spans are floats with additional methods. No
//! result depends on how a number is stored.

use num_bigint::BigInt;

use crate::eval::arguments::Arguments;
use crate::eval::integer::Number;
use crate::eval::{Arena, Exception, Result};
use crate::names::Member;
use crate::value::Value;

pub(super) fn has_int_method(member: Member) -> bool {
    matches!(
        member,
        Member::AsIntegerRatio | Member::BitCount | Member::BitLength | Member::Conjugate | Member::IsInteger
    )
}

pub(super) fn has_float_method(member: Member) -> bool {
    matches!(member, Member::AsIntegerRatio | Member::Conjugate | Member::Hex | Member::IsInteger)
}

pub(super) fn has_time_method(member: Member) -> bool {
    matches!(
        member,
        Member::Date
            | Member::IsoFormat
            | Member::IsoWeekday
            | Member::Replace
            | Member::StrfTime
            | Member::Timestamp
            | Member::Weekday
    )
}

pub(super) fn int_method<'a>(
    arena: &Arena<'a>,
    object: Value<'a>,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    no_arguments(arguments)?;
    let integer =
        Number::from_value(object).and_then(|number| number.to_bigint()).ok_or(Exception::TypeError)?;
    match member {
        Member::BitLength => Ok(Value::Int(integer.bits().cast_signed())),
        Member::BitCount => {
            let ones: u32 = integer.magnitude().iter_u32_digits().map(u32::count_ones).sum();
            Ok(Value::Int(i64::from(ones)))
        }
        Member::AsIntegerRatio => arena.tuple(&[arena.integer(integer)?, Value::Int(1)]),
        Member::IsInteger => Ok(Value::Bool(true)),
        _ => arena.integer(integer),
    }
}

pub(super) fn float_method<'a>(
    arena: &Arena<'a>,
    value: f64,
    member: Member,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    no_arguments(arguments)?;
    match member {
        Member::IsInteger => Ok(Value::Bool(value.is_finite() && value.fract() == 0.0)),
        Member::AsIntegerRatio => ratio(arena, value),
        Member::Hex => arena.text(&hex(value)),
        _ => Ok(Value::Float(value)),
    }
}

fn ratio<'a>(arena: &Arena<'a>, value: f64) -> Result<Value<'a>> {
    if value.is_nan() {
        return Err(Exception::ValueError.into());
    }
    if value.is_infinite() {
        return Err(Exception::OverflowError.into());
    }
    let (mut fraction, mut exponent) = libm::frexp(value);
    // Ends after at most 53 rounds, because a float has no more significant bits.
    while fraction.fract() != 0.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let numerator = BigInt::from(fraction as i64);
    let power = BigInt::from(1) << exponent.unsigned_abs();
    if exponent >= 0 {
        return arena.tuple(&[arena.integer(numerator * power)?, Value::Int(1)]);
    }
    arena.tuple(&[arena.integer(numerator)?, arena.integer(power)?])
}

fn no_arguments(arguments: Arguments<'_>) -> Result<()> {
    if !arguments.positional.is_empty() || !arguments.keywords.is_empty() {
        return Err(Exception::TypeError.into());
    }
    Ok(())
}

/// Formats a float as `0x1.8000000000000p+1`.
fn hex(value: f64) -> String {
    let sign = if value.is_sign_negative() && !value.is_nan() { "-" } else { "" };
    if !value.is_finite() {
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    if value == 0.0 {
        return format!("{sign}0x0.0p+0");
    }
    let bits = value.abs().to_bits();
    let biased = bits >> 52;
    let fraction = bits & ((1 << 52) - 1);
    // Subnormals have the lowest exponent and no implicit leading bit.
    let exponent = if biased == 0 { -1022 } else { biased.cast_signed() - 1023 };
    format!("{sign}0x{}.{fraction:013x}p{exponent:+}", u8::from(biased != 0))
}
