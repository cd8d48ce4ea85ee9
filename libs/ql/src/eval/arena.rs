//! Memory and step budget of one candidate. Everything that evaluation builds is allocated here,
//! so both limits hold for every operation.

use std::cell::Cell;

use bumpalo::Bump;
use num_bigint::{BigInt, Sign};
use num_traits::{FromPrimitive, ToPrimitive};

use super::budget::StepBudget;
use super::{Exception, Result};
use crate::limits::{BudgetError, MAX_INT_BITS};
use crate::value::table::TableBuilder;
use crate::value::{BigInteger, Environment, Scope, Value, Variable};

pub(crate) struct Arena<'a> {
    bump: &'a Bump,
    budget: StepBudget<'a>,
}

impl<'a> Arena<'a> {
    pub(super) fn new(bump: &'a Bump, budget: StepBudget<'a>) -> Self {
        Self { bump, budget }
    }

    pub(super) fn steps_left(&self) -> u64 {
        self.budget.left()
    }

    /// Takes steps from the budget.
    #[inline]
    pub(super) fn spend(&self, steps: u64) -> Result<()> {
        self.budget.spend(steps)
    }

    /// Takes the steps for processing this many bytes.
    #[inline]
    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<()> {
        self.spend(bytes as u64 / 64)
    }

    /// Refuses a length beyond the arena. Unlike `check_size`, it charges no steps.
    pub(super) fn check_length(&self, length: usize) -> Result<()> {
        if length > self.bump.allocation_limit().unwrap_or(usize::MAX) {
            return Err(BudgetError::Memory.into());
        }
        Ok(())
    }

    /// Refuses a value of this size if the arena could not hold it, and charges its steps.
    pub(super) fn check_size(&self, bytes: usize) -> Result<()> {
        self.check_length(bytes)?;
        self.spend_bytes(bytes)
    }

    pub(super) fn check_items(&self, items: usize) -> Result<()> {
        if items > self.most_items() { Err(BudgetError::Memory.into()) } else { Ok(()) }
    }

    /// Returns the number of values that the arena could hold.
    pub(super) fn most_items(&self) -> usize {
        self.bump.allocation_limit().unwrap_or(usize::MAX) / size_of::<Value<'_>>()
    }

    pub(super) fn alloc<T>(&self, value: T) -> Result<&'a T> {
        self.bump.try_alloc(value).map(|value| &*value).map_err(|_| BudgetError::Memory.into())
    }

    pub(super) fn alloc_values(&self, values: &[Value<'a>]) -> Result<&'a [Value<'a>]> {
        self.bump.try_alloc_slice_copy(values).map(|values| &*values).map_err(|_| BudgetError::Memory.into())
    }

    pub(super) fn alloc_bytes(&self, bytes: &[u8]) -> Result<&'a [u8]> {
        self.bump.try_alloc_slice_copy(bytes).map(|bytes| &*bytes).map_err(|_| BudgetError::Memory.into())
    }

    pub(super) fn text(&self, text: &str) -> Result<Value<'a>> {
        let text = self.bump.try_alloc_str(text).map_err(|_| BudgetError::Memory)?;
        Ok(Value::Text(text))
    }

    pub(super) fn list(&self, values: &[Value<'a>]) -> Result<Value<'a>> {
        self.alloc_values(values).map(Value::List)
    }

    pub(super) fn tuple(&self, values: &[Value<'a>]) -> Result<Value<'a>> {
        self.alloc_values(values).map(Value::Tuple)
    }

    pub(super) fn dict(&self, builder: TableBuilder<'a>) -> Result<Value<'a>> {
        builder.dict(self.bump).map(Value::Dict).ok_or(BudgetError::Memory.into())
    }

    pub(super) fn set(&self, builder: TableBuilder<'a>, frozen: bool) -> Result<Value<'a>> {
        builder.set(self.bump, frozen).map(Value::Set).ok_or(BudgetError::Memory.into())
    }

    pub(super) fn pairs(&self, pairs: &[(&'a str, Value<'a>)]) -> Result<&'a [(&'a str, Value<'a>)]> {
        self.bump.try_alloc_slice_copy(pairs).map(|pairs| &*pairs).map_err(|_| BudgetError::Memory.into())
    }

    /// Returns an environment of empty slots, or the outer environment for a scope without names.
    pub(super) fn new_environment(&self, slots: u16, outer: Environment<'a>) -> Result<Environment<'a>> {
        if slots == 0 {
            return Ok(outer);
        }
        let values = self.variables(usize::from(slots))?;
        Ok(Environment::new(self.alloc(Scope::new(values, outer))?))
    }

    /// Returns this many empty variables.
    pub(super) fn variables(&self, count: usize) -> Result<&'a [Variable<'a>]> {
        let values = self.bump.try_alloc_slice_fill_with(count, |_| Cell::new(None));
        values.map(|values| &*values).map_err(|_| BudgetError::Memory.into())
    }

    /// Converts an integer of any size to a value.
    pub(super) fn integer(&self, value: BigInt) -> Result<Value<'a>> {
        if let Some(small) = value.to_i64() {
            return Ok(Value::Int(small));
        }
        if value.bits() > MAX_INT_BITS {
            return Err(BudgetError::Memory.into());
        }
        let (sign, digits) = value.to_u32_digits();
        let digits = self.bump.try_alloc_slice_copy(&digits).map_err(|_| BudgetError::Memory)?;
        Ok(Value::Big(BigInteger { negative: sign == Sign::Minus, digits }))
    }

    /// Returns the integer part of a float.
    pub(super) fn truncated(&self, value: f64) -> Result<Value<'a>> {
        if value.is_nan() {
            return Err(Exception::ValueError.into());
        }
        let integer = BigInt::from_f64(value).ok_or(Exception::OverflowError)?;
        self.integer(integer)
    }
}
