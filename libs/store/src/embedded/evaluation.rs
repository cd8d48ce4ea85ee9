//! Evaluation of a batch: its checks, and its mutations merged into one write per key.
//!
//! Each mutation is applied on top of the writes before it. Clearing a range costs a read and a
//! tombstone for every key in it; see `sweep`.

use super::effects::Effects;
use super::engine::Engine;
use super::recent_writes::RecentWrites;
use super::sweep::CHUNK_KEYS;
use crate::{Batch, Check, Key, Mutation, Range, Result, Stamp, Value};

/// The effects of the mutations so far, and the state that the next mutation depends on.
struct Evaluation<'e> {
    effects: Effects,
    stamp: Stamp,
    engine: &'e Engine,
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

/// Evaluates the mutations of a batch, each on top of the ones before it.
pub(super) fn evaluate(batch: Batch, stamp: Stamp, engine: &Engine) -> Result<Effects> {
    let mut evaluation = Evaluation { effects: Effects::default(), stamp, engine };
    for mutation in batch.mutations {
        evaluation.apply(mutation)?;
    }
    Ok(evaluation.effects)
}

impl Evaluation<'_> {
    fn apply(&mut self, mutation: Mutation) -> Result<()> {
        match mutation {
            Mutation::Set { key, value } => self.write(key, Some(value)),
            Mutation::Clear { key } => self.write(key, None),
            Mutation::ClearRange { range } => self.clear_range(range)?,
            Mutation::Add { key, delta } => {
                let before = self.current(&key)?;
                let sum = decode_number(before.as_deref().unwrap_or_default()).wrapping_add(delta);
                self.write(key, Some(Value::copy_from_slice(&sum.to_le_bytes())));
            }
            Mutation::SetStamped { prefix, suffix, value } => {
                self.write([&*prefix, &self.stamp.0, &*suffix].concat().into(), Some(value));
            }
        }
        Ok(())
    }

    fn write(&mut self, key: Key, value: Option<Value>) {
        self.effects.writes.insert(key, value);
    }

    fn clear_range(&mut self, range: Range) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        for (_, value) in self.effects.writes.range_mut(range.start.clone()..range.end.clone()) {
            *value = None;
        }
        self.effects.cleared.push(range.clone());
        for key in self.engine.keys_latest(&range) {
            if self.effects.writes.len() >= CHUNK_KEYS {
                self.effects.swept.push(range);
                break;
            }
            self.write(key?, None);
        }
        Ok(())
    }

    fn current(&self, key: &Key) -> Result<Option<Value>> {
        match self.effects.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None if self.effects.swept.iter().any(|range| range.contains(key)) => Ok(None),
            None => self.engine.get_latest(key),
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
