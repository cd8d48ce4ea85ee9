//! Conversion of stored values. Strings stay borrowed from the view; lists and objects are
//! built in the arena, once for each lookup in the query. A value that exceeds the budget is
//! the fault of the run, not of the query.

use std::borrow::Cow;

use num_bigint::{BigInt, Sign};

use super::{Arena, EvalError, Exception, Result, tables};
use crate::limits::{BudgetError, MAX_VALUE_DEPTH};
use crate::value::Value;
use crate::view::Datum;

/// Converts a stored value.
#[inline]
pub(super) fn to_value<'a>(arena: &Arena<'a>, datum: Datum<'a>) -> Result<Value<'a>> {
    Ok(match datum {
        Datum::None => Value::None,
        Datum::Bool(value) => Value::Bool(value),
        Datum::Int(value) => Value::Int(value),
        Datum::Float(value) => Value::Float(value),
        Datum::Text(Cow::Borrowed(text)) => Value::Text(text),
        datum => large_datum(arena, datum, 0).map_err(too_large)?,
    })
}

fn large_datum<'a>(arena: &Arena<'a>, datum: Datum<'a>, depth: u32) -> Result<Value<'a>> {
    if depth > MAX_VALUE_DEPTH {
        return Err(BudgetError::Depth.into());
    }
    arena.spend(1)?;
    Ok(match datum {
        Datum::Text(Cow::Owned(text)) => arena.text(&text)?,
        Datum::Bytes(Cow::Borrowed(bytes)) => Value::Bytes(bytes),
        Datum::Bytes(Cow::Owned(bytes)) => Value::Bytes(arena.alloc_bytes(&bytes)?),
        Datum::BigInt { negative, magnitude } => {
            let sign = if negative { Sign::Minus } else { Sign::Plus };
            arena.integer(BigInt::from_bytes_be(sign, &magnitude))?
        }
        Datum::List(items) => {
            let items = items.into_iter().map(|item| large_datum(arena, item, depth + 1));
            arena.list(&items.collect::<Result<Vec<_>>>()?)?
        }
        Datum::Object(entries) => {
            let mut values = Vec::with_capacity(entries.len());
            for (key, datum) in entries {
                let key = match key {
                    Cow::Borrowed(key) => key,
                    Cow::Owned(key) => arena.text(&key)?.text().unwrap_or_default(),
                };
                values.push((key, large_datum(arena, datum, depth + 1)?));
            }
            match tables::text_dict(arena, &values)? {
                Value::Dict(dict) => Value::Object(dict),
                other => other,
            }
        }
        scalar => to_value(arena, scalar)?,
    })
}

/// Takes the steps for bytes that a view read.
pub(super) fn spend_read(arena: &Arena<'_>, bytes: usize) -> Result<()> {
    arena.spend_bytes(bytes).map_err(too_large)
}

/// Turns a budget error into an exception: a single run with a huge value does not match, but must not end
/// the search.
fn too_large(stop: EvalError) -> EvalError {
    match stop {
        EvalError::Budget(BudgetError::TotalSteps | BudgetError::Stopped) => stop,
        EvalError::Budget(_) => Exception::MemoryError.into(),
        raised => raised,
    }
}
