//! Unary and binary operators on numbers, strings, sequences, sets and times. Sizes are checked
//! before a result is built, so `'a' * 10**12` and `9**9**9` fail in the budget and not in the
//! allocator.

mod complex;
mod numbers;

pub(super) use complex::parts as complex_parts;

use super::{Exception, Machine, Result};
use crate::limits::BudgetError;
use crate::tree::{Operator, Unary};
use crate::value::table::{TableBuilder, TableEntry};
use crate::value::{Set, Value};

impl<'a> Machine<'a> {
    pub(super) fn unary(&self, operator: Unary, operand: Value<'a>) -> Result<Value<'a>> {
        match (operator, operand) {
            (Unary::Plus, Value::Float(_) | Value::Time(_) | Value::Span(_) | Value::Complex(..)) => {
                Ok(operand)
            }
            (Unary::Plus, Value::Big(_)) => Ok(operand),
            (Unary::Plus, value) => Ok(Value::Int(value.small_int().ok_or(Exception::TypeError)?)),
            (Unary::Minus, Value::Span(value)) => Ok(Value::Span(-value)),
            (Unary::Minus, Value::Complex(real, imaginary)) => Ok(Value::Complex(-real, -imaginary)),
            (Unary::Minus, Value::Big(big)) => self.integer(-big.to_bigint()),
            (Unary::Minus, value) => match (value.small_int(), value.float()) {
                (Some(int), _) => match int.checked_neg() {
                    Some(negated) => Ok(Value::Int(negated)),
                    None => self.integer(-num_bigint::BigInt::from(int)),
                },
                (None, Some(float)) => Ok(Value::Float(-float)),
                (None, None) => Err(Exception::TypeError.into()),
            },
            (Unary::Invert, Value::Big(big)) => self.integer(!big.to_bigint()),
            (Unary::Invert, value) => Ok(Value::Int(!value.small_int().ok_or(Exception::TypeError)?)),
        }
    }

    pub(super) fn binary(&self, operator: Operator, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
        if super::compare::is_real(left) && super::compare::is_real(right) {
            return match (left, right) {
                (Value::Time(_) | Value::Span(_), _) | (_, Value::Time(_) | Value::Span(_)) => {
                    self.time_arithmetic(operator, left, right)
                }
                _ => self.arithmetic(operator, left, right),
            };
        }
        match (operator, left, right) {
            (Operator::Modulo, Value::Text(template), values) => self.percent(template, values),
            (Operator::Add, Value::Text(left), Value::Text(right)) => {
                let length = left.len() + right.len();
                self.check_size(length)?;
                let mut text = String::with_capacity(length);
                text.push_str(left);
                text.push_str(right);
                self.text(&text)
            }
            (Operator::Add, Value::Bytes(left), Value::Bytes(right)) => {
                self.alloc_bytes(&[left, right].concat()).map(Value::Bytes)
            }
            (Operator::Add, Value::List(left), Value::List(right)) => self.list(&self.joined(left, right)?),
            (Operator::Add, Value::Tuple(left), Value::Tuple(right)) => {
                self.tuple(&self.joined(left, right)?)
            }
            (_, Value::Complex(..), _) | (_, _, Value::Complex(..)) => self.complex(operator, left, right),
            (Operator::Multiply, sequence, times) if times.small_int().is_some() => {
                self.repeated(sequence, times.small_int().unwrap_or_default())
            }
            (Operator::Multiply, times, sequence) if times.small_int().is_some() => {
                self.repeated(sequence, times.small_int().unwrap_or_default())
            }
            (Operator::Multiply, Value::Big(big), _) | (Operator::Multiply, _, Value::Big(big)) => {
                // The budget allows this many repetitions only of an empty sequence.
                let sequence = if matches!(left, Value::Big(_)) { right } else { left };
                match big.negative {
                    true => self.repeated(sequence, -1),
                    false => self.repeated(sequence, i64::MAX),
                }
            }
            (_, Value::Set(left), Value::Set(right)) => self.set_operation(operator, left, right),
            (
                Operator::Or,
                Value::Dict(left) | Value::Object(left),
                Value::Dict(right) | Value::Object(right),
            ) => {
                let mut merged = TableBuilder::default();
                for entry in left.entries().iter().chain(right.entries()) {
                    self.insert(&mut merged, *entry)?;
                }
                self.dict(merged)
            }
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn joined(&self, left: &[Value<'a>], right: &[Value<'a>]) -> Result<Vec<Value<'a>>> {
        self.spend((left.len() + right.len()) as u64)?;
        Ok([left, right].concat())
    }

    /// Refuses a value of this size if the arena could not hold it.
    pub(super) fn check_size(&self, bytes: usize) -> Result<()> {
        let limit = self.bump.allocation_limit().unwrap_or(usize::MAX);
        match bytes <= limit {
            true => self.spend_bytes(bytes),
            false => Err(BudgetError::Memory.into()),
        }
    }

    fn repeated(&self, sequence: Value<'a>, times: i64) -> Result<Value<'a>> {
        let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
        let room = |length: usize| self.check_size(length.saturating_mul(times));
        match sequence {
            Value::Text(text) => {
                room(text.len())?;
                self.text(&text.repeat(if text.is_empty() { 0 } else { times }))
            }
            Value::Bytes(bytes) => {
                room(bytes.len())?;
                let times = if bytes.is_empty() { 0 } else { times };
                self.alloc_bytes(&bytes.repeat(times)).map(Value::Bytes)
            }
            Value::List(items) => self.list(&self.repeated_items(items, times)?),
            Value::Tuple(items) => self.tuple(&self.repeated_items(items, times)?),
            _ => Err(Exception::TypeError.into()),
        }
    }

    fn repeated_items(&self, items: &[Value<'a>], times: usize) -> Result<Vec<Value<'a>>> {
        self.check_size(size_of_val(items).saturating_mul(times))?;
        Ok(items.repeat(if items.is_empty() { 0 } else { times }))
    }

    pub(super) fn set_operation(
        &self,
        operator: Operator,
        left: &'a Set<'a>,
        right: &'a Set<'a>,
    ) -> Result<Value<'a>> {
        let mut result = TableBuilder::default();
        let mut take = |from: &'a Set<'a>, other: &'a Set<'a>, wanted: fn(bool) -> bool| {
            for item in from.items() {
                if wanted(self.in_set(other, item)?) {
                    self.insert(&mut result, *item)?;
                }
            }
            Ok::<(), super::EvalError>(())
        };
        match operator {
            Operator::And => take(left, right, |common| common)?,
            Operator::Subtract => take(left, right, |common| !common)?,
            Operator::Xor => {
                take(left, right, |common| !common)?;
                take(right, left, |common| !common)?;
            }
            Operator::Or => {
                take(left, right, |_| true)?;
                take(right, left, |common| !common)?;
            }
            _ => return Err(Exception::TypeError.into()),
        }
        // As in Python, the left operand decides between `set` and `frozenset`.
        self.set(result, left.frozen)
    }

    pub(super) fn insert(&self, builder: &mut TableBuilder<'a>, entry: TableEntry<'a>) -> Result<()> {
        self.spend(1)?;
        builder.insert(entry, |known| self.equal(*known, entry.key))
    }

    pub(super) fn dict(&self, builder: TableBuilder<'a>) -> Result<Value<'a>> {
        builder.dict(self.bump).map(Value::Dict).ok_or(BudgetError::Memory.into())
    }

    pub(super) fn set(&self, builder: TableBuilder<'a>, frozen: bool) -> Result<Value<'a>> {
        builder.set(self.bump, frozen).map(Value::Set).ok_or(BudgetError::Memory.into())
    }

    pub(super) fn text_dict(&self, entries: &[(&'a str, Value<'a>)]) -> Result<Value<'a>> {
        let mut builder = TableBuilder::default();
        for &(key, value) in entries {
            let hash = super::compare::hash_text(key);
            self.insert(&mut builder, TableEntry { hash, key: Value::Text(key), value })?;
        }
        self.dict(builder)
    }
}
