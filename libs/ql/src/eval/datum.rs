//! Conversion of stored values. Strings stay borrowed from the view; lists and objects are
//! built in the arena, once for each lookup in the query. A value that exceeds the budget is
//! the fault of the run, not of the query.

use std::borrow::Cow;

use num_bigint::{BigInt, Sign};

use super::{EvalError, Exception, Machine, Result};
use crate::limits::{BudgetError, MAX_VALUE_DEPTH};
use crate::tree::Lookup;
use crate::value::Value;
use crate::view::Datum;

impl<'a> Machine<'a> {
    /// Returns the list or object that this lookup has already built.
    pub(super) fn cached_container(&self, lookup: &'a Lookup) -> Option<Value<'a>> {
        let containers = self.containers.borrow();
        containers.iter().find(|(known, _)| std::ptr::eq(*known, lookup)).map(|(_, value)| *value)
    }

    pub(super) fn build_container(&self, lookup: &'a Lookup, datum: Datum<'a>) -> Result<Value<'a>> {
        let value = self.datum(datum)?;
        if let Value::List(_) | Value::Object(_) = value {
            self.containers.borrow_mut().push((lookup, value));
        }
        Ok(value)
    }

    /// Converts a stored value.
    pub(super) fn datum(&self, datum: Datum<'a>) -> Result<Value<'a>> {
        Ok(match datum {
            Datum::None => Value::None,
            Datum::Bool(value) => Value::Bool(value),
            Datum::Int(value) => Value::Int(value),
            Datum::Float(value) => Value::Float(value),
            Datum::Text(Cow::Borrowed(text)) => Value::Text(text),
            datum => self.large_datum(datum, 0).map_err(too_large)?,
        })
    }

    fn large_datum(&self, datum: Datum<'a>, depth: u32) -> Result<Value<'a>> {
        if depth > MAX_VALUE_DEPTH {
            return Err(BudgetError::Depth.into());
        }
        self.spend(1)?;
        Ok(match datum {
            Datum::Text(Cow::Owned(text)) => self.text(&text)?,
            Datum::Bytes(Cow::Borrowed(bytes)) => Value::Bytes(bytes),
            Datum::Bytes(Cow::Owned(bytes)) => Value::Bytes(self.alloc_bytes(&bytes)?),
            Datum::BigInt { negative, magnitude } => {
                let sign = if negative { Sign::Minus } else { Sign::Plus };
                self.integer(BigInt::from_bytes_be(sign, &magnitude))?
            }
            Datum::List(items) => {
                let items = items.into_iter().map(|item| self.large_datum(item, depth + 1));
                self.list(&items.collect::<Result<Vec<_>>>()?)?
            }
            Datum::Object(entries) => {
                let mut values = Vec::with_capacity(entries.len());
                for (key, datum) in entries {
                    let key = match key {
                        Cow::Borrowed(key) => key,
                        Cow::Owned(key) => self.text(&key)?.text().unwrap_or_default(),
                    };
                    values.push((key, self.large_datum(datum, depth + 1)?));
                }
                match self.text_dict(&values)? {
                    Value::Dict(dict) => Value::Object(dict),
                    other => other,
                }
            }
            scalar => self.datum(scalar)?,
        })
    }
}

/// Turns a budget error into an exception: a single run with a huge value is no match, but must
/// not end the search.
fn too_large(stop: EvalError) -> EvalError {
    match stop {
        EvalError::Budget(BudgetError::TotalSteps) => stop,
        EvalError::Budget(_) => Exception::MemoryError.into(),
        raised => raised,
    }
}
