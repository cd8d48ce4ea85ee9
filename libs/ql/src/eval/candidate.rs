//! The run or sequence under evaluation, with the values of it that were already read. A query pays
//! for a value once, however often its expression is evaluated.

use std::cell::Cell;

use super::{Arena, Result};
use crate::tree::Lookup;
use crate::value::Value;
use crate::view::{RunView, SequenceView};

pub(crate) struct Candidate<'a> {
    pub(super) run: &'a dyn RunView,
    pub(super) sequence: Option<&'a dyn SequenceView>,
    /// Values of lookups in the query, also the None of an absent value, by the lookup's slot.
    kept: &'a [Cell<Option<Value<'a>>>],
}

impl<'a> Candidate<'a> {
    pub(super) fn new(
        arena: &Arena<'a>,
        run: &'a dyn RunView,
        sequence: Option<&'a dyn SequenceView>,
        lookups: u32,
    ) -> Result<Self> {
        Ok(Self { run, sequence, kept: arena.variables(lookups as usize)? })
    }

    /// A candidate of an expression without lookups.
    pub(super) fn without_data(run: &'a dyn RunView) -> Self {
        Self { run, sequence: None, kept: &[] }
    }

    /// Returns the value of a lookup: the value that was read before, otherwise the result of `read`.
    #[inline]
    pub(super) fn value_of(
        &self,
        lookup: &Lookup,
        read: impl FnOnce() -> Result<Value<'a>>,
    ) -> Result<Value<'a>> {
        let kept = &self.kept[lookup.slot as usize];
        if let Some(value) = kept.get() {
            return Ok(value);
        }
        let value = read()?;
        kept.set(Some(value));
        Ok(value)
    }
}
