//! The effects of a batch: its checks evaluated and its mutations merged into one write per
//! key.
//!
//! The engine assigns one sequence number to all writes of a batch, so the order within a batch
//! must be resolved here: each mutation is applied on top of the writes before it. Clearing a
//! range costs a read and a tombstone for every key in it; see `sweep`.

use std::collections::BTreeMap;

use super::engine::Engine;
use super::recent_writes::RecentWrites;
use super::sweep::CHUNK_KEYS;
use crate::{Batch, Check, Key, Mutation, Range, Result, Stamp, Value};

/// The final value of each key; `None` if it is cleared.
pub(super) type Writes = BTreeMap<Key, Option<Value>>;

#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) writes: Writes,
    pub(super) cleared: Vec<Range>,
    /// The cleared ranges with too many keys to list. All their keys are removed except
    /// those in `writes`.
    pub(super) swept: Vec<Range>,
}

pub(super) fn checks_hold(batch: &Batch, engine: &Engine, recent_writes: &RecentWrites) -> Result<bool> {
    for check in &batch.checks {
        let holds = match check {
            Check::Value { key, expected } => engine.get_latest(key)? == *expected,
            Check::Unchanged { range, since } => recent_writes.unchanged(range, *since),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Effects {
    pub(super) fn evaluate(batch: Batch, stamp: Stamp, engine: &Engine) -> Result<Self> {
        let mut effects = Self::default();
        for mutation in batch.mutations {
            effects.apply(mutation, stamp, engine)?;
        }
        Ok(effects)
    }

    /// Approximate memory usage.
    pub(super) fn bytes(&self) -> usize {
        let value = |value: &Option<Value>| value.as_ref().map_or(0, Value::len);
        let write = |(key, written)| size_of::<(Key, Option<Value>)>() + Key::len(key) + value(written);
        size_of::<Self>() + self.writes.iter().map(write).sum::<usize>()
    }

    fn apply(&mut self, mutation: Mutation, stamp: Stamp, engine: &Engine) -> Result<()> {
        match mutation {
            Mutation::Set { key, value } => self.write(key, Some(value)),
            Mutation::Clear { key } => self.write(key, None),
            Mutation::ClearRange { range } => self.clear_range(range, engine)?,
            Mutation::Add { key, delta } => {
                let before = self.current(&key, engine)?;
                let sum = decode_number(before.as_deref().unwrap_or_default()).wrapping_add(delta);
                self.write(key, Some(Value::copy_from_slice(&sum.to_le_bytes())));
            }
            Mutation::SetStamped { prefix, suffix, value } => {
                self.write([&*prefix, &stamp.0, &*suffix].concat().into(), Some(value));
            }
        }
        Ok(())
    }

    fn write(&mut self, key: Key, value: Option<Value>) {
        self.writes.insert(key, value);
    }

    fn clear_range(&mut self, range: Range, engine: &Engine) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        self.writes.range_mut(range.start.clone()..range.end.clone()).for_each(|(_, value)| *value = None);
        self.cleared.push(range.clone());
        for key in engine.keys_latest(&range) {
            if self.writes.len() >= CHUNK_KEYS {
                self.swept.push(range);
                break;
            }
            self.write(key?, None);
        }
        Ok(())
    }

    fn current(&self, key: &Key, engine: &Engine) -> Result<Option<Value>> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None if self.swept.iter().any(|range| range.contains(key)) => Ok(None),
            None => engine.get_latest(key),
        }
    }
}

/// A little-endian number, zero-extended or truncated to eight bytes as in FoundationDB.
fn decode_number(value: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    let length = value.len().min(8);
    bytes[..length].copy_from_slice(&value[..length]);
    i64::from_le_bytes(bytes)
}
