//! Complex numbers, which arise from literals such as `2j` and from roots of negative numbers.
//! They have no ordering, floor division or remainder.

use super::integer::real_of;
use super::{Exception, Result};
use crate::tree::Operator;
use crate::value::Value;

/// The real and the imaginary part.
pub(super) type Parts = (f64, f64);

pub(super) fn complex<'a>(operator: Operator, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
    let (a, b) = parts(left)?;
    let (c, d) = parts(right)?;
    let (real, imaginary) = match operator {
        Operator::Add => (a + c, b + d),
        Operator::Subtract => (a - c, b - d),
        Operator::Multiply => multiply((a, b), (c, d)),
        Operator::Divide if c == 0.0 && d == 0.0 => return Err(Exception::ZeroDivisionError.into()),
        Operator::Divide => divide((a, b), (c, d)),
        Operator::Power => power((a, b), (c, d))?,
        _ => return Err(Exception::TypeError.into()),
    };
    let from_finite = [a, b, c, d].iter().all(|part| part.is_finite());
    let is_finite = real.is_finite() && imaginary.is_finite();
    if operator == Operator::Power && from_finite && !is_finite {
        return Err(Exception::OverflowError.into());
    }
    Ok(Value::Complex(real, imaginary))
}

pub(super) fn parts(value: Value<'_>) -> Result<Parts> {
    match value {
        Value::Complex(real, imaginary) => Ok((real, imaginary)),
        value => Ok((real_of(value)?, 0.0)),
    }
}

fn multiply((a, b): Parts, (c, d): Parts) -> Parts {
    (a * c - b * d, a * d + b * c)
}

/// Divides, scaling by the larger part of the divisor so that intermediate results do not
/// overflow.
fn divide((a, b): Parts, (c, d): Parts) -> Parts {
    if c.abs() >= d.abs() {
        let ratio = d / c;
        let scale = c + d * ratio;
        ((a + b * ratio) / scale, (b - a * ratio) / scale)
    } else {
        let ratio = c / d;
        let scale = c * ratio + d;
        ((a * ratio + b) / scale, (b * ratio - a) / scale)
    }
}

fn power((a, b): Parts, (c, d): Parts) -> Result<Parts> {
    if c == 0.0 && d == 0.0 {
        return Ok((1.0, 0.0));
    }
    if a == 0.0 && b == 0.0 {
        if c < 0.0 || d != 0.0 {
            return Err(Exception::ZeroDivisionError.into());
        }
        return Ok((0.0, 0.0));
    }
    if d == 0.0 && c.fract() == 0.0 && (1.0..=100.0).contains(&c.abs()) {
        // CPython multiplies for small integer exponents too, which rounds differently.
        return Ok(whole_power((a, b), c as i32));
    }
    let length = a.hypot(b);
    let angle = b.atan2(a);
    let mut scale = length.powf(c);
    let mut turn = angle * c;
    if d != 0.0 {
        scale /= (angle * d).exp();
        turn += d * length.ln();
    }
    Ok((scale * turn.cos(), scale * turn.sin()))
}

fn whole_power(base: Parts, exponent: i32) -> Parts {
    let mut result = (1.0, 0.0);
    let mut square = base;
    let mut left = exponent.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        left >>= 1;
    }
    if exponent < 0 { divide((1.0, 0.0), result) } else { result }
}
