//! Operators on floats, with Python's errors instead of infinities, and its `//` and `%`.

use super::{Exception, Result, complex};
use crate::tree::Operator;
use crate::value::Value;

pub(super) fn floats<'a>(operator: Operator, a: f64, b: f64) -> Result<Value<'a>> {
    if b == 0.0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo) {
        return Err(Exception::ZeroDivisionError.into());
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => floor_divide(a, b).0,
        Operator::Modulo => floor_divide(a, b).1,
        Operator::Power => return float_power(a, b),
        _ => return Err(Exception::TypeError.into()),
    }))
}

fn float_power<'a>(a: f64, b: f64) -> Result<Value<'a>> {
    if a == 0.0 && b < 0.0 && b.is_finite() {
        return Err(Exception::ZeroDivisionError.into());
    }
    // A root of a negative number is complex.
    if a < 0.0 && a.is_finite() && b.is_finite() && b.fract() != 0.0 {
        return complex::complex(Operator::Power, Value::Float(a), Value::Float(b));
    }
    match a.powf(b) {
        power if power.is_infinite() && a.is_finite() && b.is_finite() => {
            Err(Exception::OverflowError.into())
        }
        power => Ok(Value::Float(power)),
    }
}

/// Python's `//` and `%` for floats with nonzero `b`: the remainder has the sign of the
/// divisor.
fn floor_divide(a: f64, b: f64) -> (f64, f64) {
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder == 0.0 {
        remainder = 0.0_f64.copysign(b);
    } else if (b < 0.0) != (remainder < 0.0) {
        remainder += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(a / b), remainder);
    }
    let floor = quotient.floor();
    // Like CPython, snaps the quotient to the nearest integer.
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, remainder)
}
