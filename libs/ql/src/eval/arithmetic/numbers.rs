//! Operators on integers and floats. Small integers are tried first; results that do not fit
//! are computed with big integers. Division, remainder and powers follow Python: floor
//! semantics, the sign of the divisor, and errors instead of infinities.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::eval::floats::floats;
use crate::eval::integer::Number;
use crate::eval::{Arena, Exception, Result};
use crate::limits::{BudgetError, MAX_INT_BITS};
use crate::tree::Operator;
use crate::value::Value;

pub(in crate::eval) fn arithmetic<'a>(
    arena: &Arena<'a>,
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<Value<'a>> {
    if let (Some(a), Some(b)) = (left.small_int(), right.small_int()) {
        // Bitwise operators on two bools return a bool.
        if let (Value::Bool(a), Value::Bool(b)) = (left, right) {
            match operator {
                Operator::And => return Ok(Value::Bool(a & b)),
                Operator::Or => return Ok(Value::Bool(a | b)),
                Operator::Xor => return Ok(Value::Bool(a ^ b)),
                _ => {}
            }
        }
        if let Some(value) = small(operator, a, b)? {
            return Ok(value);
        }
    }
    let (Some(left), Some(right)) = (Number::from_value(left), Number::from_value(right)) else {
        return Err(Exception::TypeError.into());
    };
    match (left.to_bigint(), right.to_bigint()) {
        (Some(a), Some(b)) => integers(arena, operator, &a, &b),
        _ => floats(operator, left.to_float()?, right.to_float()?),
    }
}

fn integers<'a>(arena: &Arena<'a>, operator: Operator, a: &BigInt, b: &BigInt) -> Result<Value<'a>> {
    // Proportional to the cost of a multiplication.
    let words = (a.bits() / 64 + 1) * (b.bits() / 64 + 1);
    arena.spend(words / 8)?;
    match operator {
        Operator::Add => arena.integer(a + b),
        Operator::Subtract => arena.integer(a - b),
        Operator::Multiply => arena.integer(a * b),
        Operator::Divide => true_quotient(a, b).map(Value::Float),
        Operator::FloorDivide if b.is_zero() => Err(Exception::ZeroDivisionError.into()),
        Operator::Modulo if b.is_zero() => Err(Exception::ZeroDivisionError.into()),
        Operator::FloorDivide => arena.integer(a.div_floor(b)),
        Operator::Modulo => arena.integer(a.mod_floor(b)),
        Operator::Power => integer_power(arena, a, b),
        Operator::ShiftLeft | Operator::ShiftRight => shift(arena, operator, a, b),
        Operator::And => arena.integer(a & b),
        Operator::Or => arena.integer(a | b),
        Operator::Xor => arena.integer(a ^ b),
        Operator::MatrixMultiply => Err(Exception::TypeError.into()),
    }
}

fn integer_power<'a>(arena: &Arena<'a>, base: &BigInt, exponent: &BigInt) -> Result<Value<'a>> {
    // A negative exponent gives a float.
    if exponent.is_negative() {
        let base = Number::Big(base.clone()).to_float()?;
        let exponent = Number::Big(exponent.clone()).to_float()?;
        return floats(Operator::Power, base, exponent);
    }
    if base.magnitude().bits() <= 1 {
        // Powers of 0, 1 and -1 stay small for any exponent.
        let odd = exponent.is_odd();
        let value = if exponent.is_zero() { 1 } else { base.to_i64().unwrap_or_default() };
        return Ok(Value::Int(if value == -1 && !odd { 1 } else { value }));
    }
    let exponent = exponent.to_u32().ok_or(BudgetError::Memory)?;
    // A lower bound of the size of the result, checked before it is computed.
    if (base.bits() - 1).saturating_mul(u64::from(exponent)) > MAX_INT_BITS {
        return Err(BudgetError::Memory.into());
    }
    let power = base.pow(exponent);
    arena.spend(power.bits() * power.bits() / 65_536)?;
    arena.integer(power)
}

fn shift<'a>(arena: &Arena<'a>, operator: Operator, a: &BigInt, b: &BigInt) -> Result<Value<'a>> {
    if b.is_negative() {
        return Err(Exception::ValueError.into());
    }
    match (operator, b.to_u64()) {
        (Operator::ShiftLeft, _) if a.is_zero() => Ok(Value::Int(0)),
        (Operator::ShiftLeft, Some(count)) if a.bits() + count.min(MAX_INT_BITS) <= MAX_INT_BITS => {
            arena.integer(a << count)
        }
        (Operator::ShiftLeft, _) => Err(BudgetError::Memory.into()),
        (_, count) => arena.integer(a >> count.unwrap_or(MAX_INT_BITS).min(MAX_INT_BITS)),
    }
}

fn small<'a>(operator: Operator, a: i64, b: i64) -> Result<Option<Value<'a>>> {
    let zero = b == 0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo);
    if zero {
        return Err(Exception::ZeroDivisionError.into());
    }
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide if is_exact(a) && is_exact(b) => {
            return Ok(Some(Value::Float(a as f64 / b as f64)));
        }
        // `i64::MIN // -1` overflows.
        Operator::FloorDivide if a != i64::MIN => Some(Integer::div_floor(&a, &b)),
        Operator::Modulo if a != i64::MIN => Some(Integer::mod_floor(&a, &b)),
        Operator::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        Operator::ShiftRight if b >= 0 => Some(a >> b.min(63)),
        Operator::And => Some(a & b),
        Operator::Or => Some(a | b),
        Operator::Xor => Some(a ^ b),
        _ => None,
    };
    Ok(result.map(Value::Int))
}

/// Whether an integer converts to a float exactly, so that a quotient is rounded only once.
fn is_exact(value: i64) -> bool {
    value.unsigned_abs() <= 1 << 53
}

/// The quotient of two integers with a single rounding.
fn true_quotient(a: &BigInt, b: &BigInt) -> Result<f64> {
    if b.is_zero() {
        return Err(Exception::ZeroDivisionError.into());
    }
    // Keeps enough bits that the discarded bits can only break ties; a sticky bit records
    // whether any of them is set.
    let shift =
        66 + i64::try_from(b.bits()).unwrap_or(i64::MAX) - i64::try_from(a.bits()).unwrap_or(i64::MAX);
    let (numerator, denominator) =
        if shift >= 0 { (a << shift, b.clone()) } else { (a.clone(), b << -shift) };
    let (quotient, remainder) = numerator.abs().div_rem(&denominator.abs());
    let sticky = if remainder.is_zero() { quotient } else { quotient | BigInt::from(1) };
    let magnitude =
        libm::ldexp(sticky.to_f64().unwrap_or(f64::INFINITY), i32::try_from(-shift).unwrap_or(i32::MAX));
    if !magnitude.is_finite() {
        return Err(Exception::OverflowError.into());
    }
    Ok(if a.is_negative() == b.is_negative() { magnitude } else { -magnitude })
}
