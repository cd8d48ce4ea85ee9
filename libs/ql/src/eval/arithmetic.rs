//! Unary and binary operators on numbers, strings, sequences, sets and times. Sizes are checked
//! before a result is built, so `'a' * 10**12` and `9**9**9` fail in the budget and not in the
//! allocator.

mod numbers;

use super::{Arena, Exception, Result, compare, complex, format, tables, time};
use crate::tree::{Operator, Unary};
use crate::value::table::TableBuilder;
use crate::value::{Set, Value};

pub(super) fn unary<'a>(arena: &Arena<'a>, operator: Unary, operand: Value<'a>) -> Result<Value<'a>> {
    match (operator, operand) {
        (Unary::Plus, Value::Float(_) | Value::Time(_) | Value::Span(_) | Value::Complex(..)) => Ok(operand),
        (Unary::Plus, Value::Big(_)) => Ok(operand),
        (Unary::Plus, value) => Ok(Value::Int(value.small_int().ok_or(Exception::TypeError)?)),
        (Unary::Minus, Value::Span(value)) => Ok(Value::Span(-value)),
        (Unary::Minus, Value::Complex(real, imaginary)) => Ok(Value::Complex(-real, -imaginary)),
        (Unary::Minus, Value::Big(big)) => arena.integer(-big.to_bigint()),
        (Unary::Minus, value) => match (value.small_int(), value.float()) {
            (Some(int), _) => match int.checked_neg() {
                Some(negated) => Ok(Value::Int(negated)),
                None => arena.integer(-num_bigint::BigInt::from(int)),
            },
            (None, Some(float)) => Ok(Value::Float(-float)),
            (None, None) => Err(Exception::TypeError.into()),
        },
        (Unary::Invert, Value::Big(big)) => arena.integer(!big.to_bigint()),
        (Unary::Invert, value) => Ok(Value::Int(!value.small_int().ok_or(Exception::TypeError)?)),
    }
}

pub(super) fn binary<'a>(
    arena: &Arena<'a>,
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
) -> Result<Value<'a>> {
    if super::compare::is_real(left) && super::compare::is_real(right) {
        return match (left, right) {
            (Value::Time(_) | Value::Span(_), _) | (_, Value::Time(_) | Value::Span(_)) => {
                time::time_arithmetic(operator, left, right)
            }
            _ => numbers::arithmetic(arena, operator, left, right),
        };
    }
    match (operator, left, right) {
        (Operator::Modulo, Value::Text(template), values) => format::percent(arena, template, values),
        (Operator::Add, Value::Text(left), Value::Text(right)) => {
            let length = left.len() + right.len();
            arena.check_size(length)?;
            let mut text = String::with_capacity(length);
            text.push_str(left);
            text.push_str(right);
            arena.text(&text)
        }
        (Operator::Add, Value::Bytes(left), Value::Bytes(right)) => {
            arena.alloc_bytes(&[left, right].concat()).map(Value::Bytes)
        }
        (Operator::Add, Value::List(left), Value::List(right)) => arena.list(&joined(arena, left, right)?),
        (Operator::Add, Value::Tuple(left), Value::Tuple(right)) => arena.tuple(&joined(arena, left, right)?),
        (_, Value::Complex(..), _) | (_, _, Value::Complex(..)) => complex::complex(operator, left, right),
        (Operator::Multiply, sequence, times) if times.small_int().is_some() => {
            repeated(arena, sequence, times.small_int().unwrap_or_default())
        }
        (Operator::Multiply, times, sequence) if times.small_int().is_some() => {
            repeated(arena, sequence, times.small_int().unwrap_or_default())
        }
        (Operator::Multiply, Value::Big(big), _) | (Operator::Multiply, _, Value::Big(big)) => {
            // The budget allows this many repetitions only of an empty sequence.
            let sequence = if matches!(left, Value::Big(_)) { right } else { left };
            repeated(arena, sequence, if big.negative { -1 } else { i64::MAX })
        }
        (_, Value::Set(left), Value::Set(right)) => set_operation(arena, operator, left, right),
        (
            Operator::Or,
            Value::Dict(left) | Value::Object(left),
            Value::Dict(right) | Value::Object(right),
        ) => {
            let mut merged = TableBuilder::default();
            for entry in left.entries().iter().chain(right.entries()) {
                tables::insert(arena, &mut merged, *entry)?;
            }
            arena.dict(merged)
        }
        _ => Err(Exception::TypeError.into()),
    }
}

fn joined<'a>(arena: &Arena<'a>, left: &[Value<'a>], right: &[Value<'a>]) -> Result<Vec<Value<'a>>> {
    arena.spend((left.len() + right.len()) as u64)?;
    Ok([left, right].concat())
}

fn repeated<'a>(arena: &Arena<'a>, sequence: Value<'a>, times: i64) -> Result<Value<'a>> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    match sequence {
        Value::Text(text) => {
            arena.check_size(text.len().saturating_mul(times))?;
            arena.text(&text.repeat(if text.is_empty() { 0 } else { times }))
        }
        Value::Bytes(bytes) => {
            arena.check_size(bytes.len().saturating_mul(times))?;
            let times = if bytes.is_empty() { 0 } else { times };
            arena.alloc_bytes(&bytes.repeat(times)).map(Value::Bytes)
        }
        Value::List(items) => arena.list(&repeated_items(arena, items, times)?),
        Value::Tuple(items) => arena.tuple(&repeated_items(arena, items, times)?),
        _ => Err(Exception::TypeError.into()),
    }
}

fn repeated_items<'a>(arena: &Arena<'a>, items: &[Value<'a>], times: usize) -> Result<Vec<Value<'a>>> {
    arena.check_size(size_of_val(items).saturating_mul(times))?;
    Ok(items.repeat(if items.is_empty() { 0 } else { times }))
}

pub(super) fn set_operation<'a>(
    arena: &Arena<'a>,
    operator: Operator,
    left: &'a Set<'a>,
    right: &'a Set<'a>,
) -> Result<Value<'a>> {
    let mut result = TableBuilder::default();
    match operator {
        Operator::And => take_items(arena, &mut result, left, right, |common| common)?,
        Operator::Subtract => take_items(arena, &mut result, left, right, |common| !common)?,
        Operator::Xor => {
            take_items(arena, &mut result, left, right, |common| !common)?;
            take_items(arena, &mut result, right, left, |common| !common)?;
        }
        Operator::Or => {
            take_items(arena, &mut result, left, right, |_| true)?;
            take_items(arena, &mut result, right, left, |common| !common)?;
        }
        _ => return Err(Exception::TypeError.into()),
    }
    // As in Python, the left operand decides between `set` and `frozenset`.
    arena.set(result, left.frozen)
}

/// Adds the items of `from`, selected by whether `other` has them, too.
fn take_items<'a>(
    arena: &Arena<'a>,
    result: &mut TableBuilder<'a>,
    from: &'a Set<'a>,
    other: &'a Set<'a>,
    wanted: fn(bool) -> bool,
) -> Result<()> {
    for item in from.items() {
        if wanted(compare::in_set(arena, other, item)?) {
            tables::insert(arena, result, *item)?;
        }
    }
    Ok(())
}
