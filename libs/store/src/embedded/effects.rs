//! The effects of a batch: one write per key.
//!
//! The engine assigns one sequence number to all writes of a batch, so the order within a batch
//! is resolved before (see `evaluation`).

use std::collections::BTreeMap;

use crate::{Key, Range, Value};

/// The final value of each key; `None` if it is cleared.
pub(super) type Writes = BTreeMap<Key, Option<Value>>;

#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) writes: Writes,
    pub(super) cleared: Vec<Range>,
    /// The cleared ranges with too many keys to list. All their keys are removed except the keys in
    /// `writes`.
    pub(super) swept: Vec<Range>,
}

impl Effects {
    /// Approximate memory usage.
    pub(super) fn bytes(&self) -> usize {
        let mut bytes = size_of::<Self>();
        for (key, value) in &self.writes {
            bytes += size_of::<(Key, Option<Value>)>() + key.len() + value.as_ref().map_or(0, Value::len);
        }
        bytes
    }
}
