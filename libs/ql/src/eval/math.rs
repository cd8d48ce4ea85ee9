//! The `math` module. As in Python, domain errors raise instead of returning NaN, and overflows
//! raise instead of returning infinity. Integer functions are exact at any size that the budget
//! allows.

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive};

use super::arguments::{Arguments, bind_arguments};
use super::integer::{integer_of, real_of};
use super::{Arena, Exception, Machine, Result, arithmetic};
use crate::limits::{BudgetError, MAX_INT_BITS};
use crate::names::MathFunction;
use crate::tree::Operator;
use crate::value::Value;

pub(super) fn call_math<'a>(
    machine: &Machine<'a>,
    function: MathFunction,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match function {
        MathFunction::IsClose => return is_close(arguments),
        MathFunction::Prod => {
            let [items, start] = bind_arguments(arguments, ["", "start"], 1)?;
            let mut product = start.unwrap_or(Value::Int(1));
            machine.each(items.unwrap_or(Value::None), &mut |item| {
                product = arithmetic::binary(&machine.arena, Operator::Multiply, product, item)?;
                Ok(true)
            })?;
            return Ok(product);
        }
        _ if !arguments.keywords.is_empty() => return Err(Exception::TypeError.into()),
        _ => {}
    }
    match (function, arguments.positional) {
        (MathFunction::Ceil | MathFunction::Floor | MathFunction::Trunc, [value]) => match value.float() {
            Some(float) => machine.arena.truncated(match function {
                MathFunction::Ceil => float.ceil(),
                MathFunction::Floor => float.floor(),
                _ => float,
            }),
            None if matches!(value, Value::Complex(..)) => Err(Exception::TypeError.into()),
            None => arithmetic::unary(&machine.arena, crate::tree::Unary::Plus, *value),
        },
        (MathFunction::Gcd | MathFunction::Lcm, values) => gcd_or_lcm(&machine.arena, function, values),
        (MathFunction::Factorial | MathFunction::Isqrt, [value]) => {
            integer_function(&machine.arena, function, *value)
        }
        (MathFunction::Comb | MathFunction::Perm, [n, k]) => choose(&machine.arena, function, *n, *k),
        (MathFunction::Perm, [n]) => integer_function(&machine.arena, MathFunction::Factorial, *n),
        (MathFunction::Hypot, values) => {
            let mut length = 0.0_f64;
            for value in values {
                length = length.hypot(real_of(*value)?);
            }
            Ok(Value::Float(length))
        }
        (MathFunction::Fsum, [items]) => exact_sum(machine, *items),
        (MathFunction::Dist, [p, q]) => {
            let mut length = 0.0_f64;
            for (p, q) in collected_pairs(machine, *p, *q)? {
                length = length.hypot(real_of(p)? - real_of(q)?);
            }
            Ok(Value::Float(length))
        }
        (MathFunction::SumProd, [p, q]) => {
            let mut total = Value::Int(0);
            for (p, q) in collected_pairs(machine, *p, *q)? {
                let product = arithmetic::binary(&machine.arena, Operator::Multiply, p, q)?;
                total = arithmetic::binary(&machine.arena, Operator::Add, total, product)?;
            }
            Ok(total)
        }
        (MathFunction::Log | MathFunction::Log2 | MathFunction::Log10, [Value::Big(big)]) => {
            log_of_big(function, &big.to_bigint()).map(Value::Float)
        }
        (MathFunction::Frexp, [value]) => {
            let (fraction, exponent) = libm::frexp(real_of(*value)?);
            machine.arena.tuple(&[Value::Float(fraction), Value::Int(i64::from(exponent))])
        }
        (MathFunction::Modf, [value]) => {
            let value = real_of(*value)?;
            let fraction = if value.is_infinite() { 0.0 } else { value.fract() };
            machine.arena.tuple(&[Value::Float(fraction.copysign(value)), Value::Float(value.trunc())])
        }
        (MathFunction::IsFinite, [value]) => Ok(Value::Bool(real_of(*value)?.is_finite())),
        (MathFunction::IsInf, [value]) => Ok(Value::Bool(real_of(*value)?.is_infinite())),
        (MathFunction::IsNan, [value]) => Ok(Value::Bool(real_of(*value)?.is_nan())),
        (function, [value]) => unary_function(function, real_of(*value)?).map(Value::Float),
        (function, [a, b]) => binary_function(function, *a, *b).map(Value::Float),
        _ => Err(Exception::TypeError.into()),
    }
}

/// Collects two iterables, which must have the same length.
fn collected_pairs<'a>(
    machine: &Machine<'a>,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<impl Iterator<Item = (Value<'a>, Value<'a>)> + use<'a>> {
    let left = machine.collect(left)?;
    let right = machine.collect(right)?;
    if left.len() != right.len() {
        return Err(Exception::ValueError.into());
    }
    Ok(left.into_iter().zip(right))
}

fn is_close<'a>(arguments: Arguments<'a>) -> Result<Value<'a>> {
    let mut relative = 1e-9;
    let mut absolute = 0.0;
    for (name, value) in arguments.keywords {
        match *name {
            "rel_tol" => relative = real_of(*value)?,
            "abs_tol" => absolute = real_of(*value)?,
            _ => return Err(Exception::TypeError.into()),
        }
    }
    let [a, b] = arguments.positional else { return Err(Exception::TypeError.into()) };
    let a = real_of(*a)?;
    let b = real_of(*b)?;
    if relative < 0.0 || absolute < 0.0 {
        return Err(Exception::ValueError.into());
    }
    let difference = (a - b).abs();
    let near = difference <= relative * a.abs().max(b.abs()) || difference <= absolute;
    Ok(Value::Bool(a == b || !a.is_infinite() && !b.is_infinite() && near))
}

fn gcd_or_lcm<'a>(arena: &Arena<'a>, function: MathFunction, values: &[Value<'a>]) -> Result<Value<'a>> {
    let mut result = BigInt::from(i32::from(function == MathFunction::Lcm));
    for value in values {
        let value = integer_of(*value)?;
        arena.spend((value.bits() / 64 + 1) * (result.bits() / 64 + 1))?;
        result = match function {
            MathFunction::Gcd => result.gcd(&value),
            _ => result.lcm(&value),
        };
        if result.bits() > MAX_INT_BITS {
            return Err(BudgetError::Memory.into());
        }
    }
    arena.integer(result.abs())
}

fn integer_function<'a>(arena: &Arena<'a>, function: MathFunction, value: Value<'a>) -> Result<Value<'a>> {
    let value = integer_of(value)?;
    if value.is_negative() {
        return Err(Exception::ValueError.into());
    }
    if function == MathFunction::Isqrt {
        arena.spend(value.bits() / 8)?;
        return arena.integer(value.sqrt());
    }
    product(arena, BigInt::one(), &value)
}

/// Returns the product of the integers from `low` to `high`, inclusive.
fn product<'a>(arena: &Arena<'a>, low: BigInt, high: &BigInt) -> Result<Value<'a>> {
    let mut product = BigInt::one();
    let mut factor = low.max(BigInt::one());
    while &factor <= high {
        arena.spend(product.bits() / 64 + 1)?;
        product *= &factor;
        factor += 1;
        if product.bits() > MAX_INT_BITS {
            return Err(BudgetError::Memory.into());
        }
    }
    arena.integer(product)
}

fn choose<'a>(arena: &Arena<'a>, function: MathFunction, n: Value<'a>, k: Value<'a>) -> Result<Value<'a>> {
    let n = integer_of(n)?;
    let k = match k {
        Value::None if function == MathFunction::Perm => n.clone(),
        k => integer_of(k)?,
    };
    if n.is_negative() || k.is_negative() {
        return Err(Exception::ValueError.into());
    }
    if k > n {
        return Ok(Value::Int(0));
    }
    if function == MathFunction::Perm {
        return product(arena, &n - &k + 1, &n);
    }
    // Binomial coefficients are symmetric.
    let k = k.clone().min(&n - &k);
    let mut result = BigInt::one();
    let mut step = BigInt::one();
    while step <= k {
        arena.spend(result.bits() / 32 + 1)?;
        result = result * (&n - &k + &step) / &step;
        step += 1;
        if result.bits() > MAX_INT_BITS {
            return Err(BudgetError::Memory.into());
        }
    }
    arena.integer(result)
}

/// Shewchuk's algorithm: exact partial sums with a single rounding.
fn exact_sum<'a>(machine: &Machine<'a>, items: Value<'a>) -> Result<Value<'a>> {
    let mut partials: Vec<f64> = Vec::new();
    let mut special = 0.0;
    machine.each(items, &mut |item| {
        let mut term = real_of(item)?;
        // Infinities and NaN would spoil the partial sums.
        if !term.is_finite() {
            special += term;
            return Ok(true);
        }
        let mut kept = 0;
        for at in 0..partials.len() {
            let mut other = partials[at];
            if term.abs() < other.abs() {
                std::mem::swap(&mut term, &mut other);
            }
            let high = term + other;
            let low = other - (high - term);
            if low != 0.0 {
                partials[kept] = low;
                kept += 1;
            }
            term = high;
        }
        partials.truncate(kept);
        partials.push(term);
        Ok(true)
    })?;
    if special != 0.0 || special.is_nan() {
        return Ok(Value::Float(special));
    }
    Ok(Value::Float(rounded_sum(&partials)))
}

/// Sums non-overlapping partials from the largest, correcting the last step if it is a tie.
fn rounded_sum(partials: &[f64]) -> f64 {
    let mut rest = partials.iter().rev().copied();
    let Some(mut high) = rest.next() else { return 0.0 };
    let mut low = 0.0;
    for term in rest.by_ref() {
        let before = high;
        high = before + term;
        low = term - (high - before);
        if low != 0.0 {
            break;
        }
    }
    if let Some(next) = rest.next()
        && (low < 0.0 && next < 0.0 || low > 0.0 && next > 0.0)
    {
        let doubled = low * 2.0;
        let corrected = high + doubled;
        if doubled == corrected - high {
            return corrected;
        }
    }
    high
}

fn log_of_big(function: MathFunction, value: &BigInt) -> Result<f64> {
    if !value.is_positive() {
        return Err(Exception::ValueError.into());
    }
    // The top 64 bits determine the logarithm to the precision of a float.
    let shift = value.bits().saturating_sub(64);
    let high = (value >> shift).to_f64().unwrap_or(f64::MAX);
    let shift = shift as f64;
    Ok(match function {
        MathFunction::Log2 => high.log2() + shift,
        MathFunction::Log10 => high.log10() + shift * 2.0_f64.log10(),
        _ => high.ln() + shift * std::f64::consts::LN_2,
    })
}

fn unary_function(function: MathFunction, x: f64) -> Result<f64> {
    use MathFunction as F;
    let result = match function {
        F::Acos => x.acos(),
        F::Acosh => libm::acosh(x),
        F::Asin => x.asin(),
        F::Asinh => libm::asinh(x),
        F::Atan => x.atan(),
        F::Atanh if x.abs() == 1.0 => return Err(Exception::ValueError.into()),
        F::Atanh => libm::atanh(x),
        F::Cbrt => x.cbrt(),
        F::Cos => x.cos(),
        F::Cosh => x.cosh(),
        F::Degrees => x * (180.0 / std::f64::consts::PI),
        F::Erf => libm::erf(x),
        F::Erfc => libm::erfc(x),
        F::Exp => x.exp(),
        F::Exp2 => x.exp2(),
        F::Expm1 => x.exp_m1(),
        F::Fabs => x.abs(),
        F::Gamma if x == 0.0 || x < 0.0 && x.fract() == 0.0 || x == f64::NEG_INFINITY => {
            return Err(Exception::ValueError.into());
        }
        F::Gamma => libm::tgamma(x),
        F::Lgamma if x <= 0.0 && x.fract() == 0.0 && x.is_finite() => {
            return Err(Exception::ValueError.into());
        }
        F::Lgamma => libm::lgamma(x),
        F::Log | F::Log2 | F::Log10 if x <= 0.0 => return Err(Exception::ValueError.into()),
        F::Log1p if x <= -1.0 => return Err(Exception::ValueError.into()),
        F::Log => x.ln(),
        F::Log10 => x.log10(),
        F::Log1p => x.ln_1p(),
        F::Log2 => x.log2(),
        F::Radians => x * (std::f64::consts::PI / 180.0),
        F::Sin => x.sin(),
        F::Sinh => x.sinh(),
        F::Sqrt => x.sqrt(),
        F::Tan => x.tan(),
        F::Tanh => x.tanh(),
        F::Ulp => return Ok(ulp(x)),
        _ => return Err(Exception::TypeError.into()),
    };
    checked(result, &[x])
}

fn binary_function<'a>(function: MathFunction, a: Value<'a>, b: Value<'a>) -> Result<f64> {
    use MathFunction as F;
    if function == F::Log {
        let numerator = logarithm(a)?;
        let denominator = logarithm(b)?;
        if denominator == 0.0 {
            return Err(Exception::ZeroDivisionError.into());
        }
        return Ok(numerator / denominator);
    }
    let x = real_of(a)?;
    if function == F::Ldexp {
        // Beyond this range, the result is zero or infinite anyway.
        let exponent = integer_of(b)?.to_i64().unwrap_or(i64::MAX).clamp(-100_000, 100_000);
        return checked(libm::ldexp(x, exponent as i32), &[x]);
    }
    let y = real_of(b)?;
    let result = match function {
        F::Atan2 => return Ok(x.atan2(y)),
        F::CopySign => return Ok(x.copysign(y)),
        F::NextAfter => return Ok(libm::nextafter(x, y)),
        F::Fmod => x % y,
        F::Remainder if y == 0.0 && !x.is_nan() => return Err(Exception::ValueError.into()),
        F::Remainder => libm::remainder(x, y),
        F::Pow if x == 0.0 && y < 0.0 && y.is_finite() => return Err(Exception::ValueError.into()),
        F::Pow => x.powf(y),
        _ => return Err(Exception::TypeError.into()),
    };
    checked(result, &[x, y])
}

fn logarithm(value: Value<'_>) -> Result<f64> {
    match value {
        Value::Big(big) => log_of_big(MathFunction::Log, &big.to_bigint()),
        value => unary_function(MathFunction::Log, real_of(value)?),
    }
}

/// Raises a domain error for NaN from numbers, and an overflow for infinity from finite
/// numbers.
fn checked(result: f64, inputs: &[f64]) -> Result<f64> {
    if result.is_nan() && !inputs.iter().any(|input| input.is_nan()) {
        return Err(Exception::ValueError.into());
    }
    if result.is_infinite() && inputs.iter().all(|input| input.is_finite()) {
        return Err(Exception::OverflowError.into());
    }
    Ok(result)
}

fn ulp(x: f64) -> f64 {
    match x.abs() {
        x if x.is_nan() || x.is_infinite() => x,
        f64::MAX => f64::MAX - f64::MAX.next_down(),
        x => x.next_up() - x,
    }
}
