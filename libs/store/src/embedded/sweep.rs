//! Clearing a range of any size as one commit.
//!
//! The engine cannot delete a range, and a single write with all its keys would need memory for all
//! of them. So a commit that clears many keys writes a `sweep` row with the ranges and with the
//! keys in them that the commit itself sets. The remaining keys are removed in chunks before the
//! commit becomes visible; an interrupted sweep is finished when the store is next opened. Removing
//! a key costs about 3 µs, and other commits wait for the removal, so large deletions are better
//! split into several commits unless they must be atomic.

use bytes::{Buf, Bytes};

use super::effects::Effects;
use crate::{Error, Key, Range, Result};

pub(super) const SWEEP_KEY: &[u8] = b"\xffsweep";

/// Up to this many keys are removed by the commit's own write; more are swept in chunks of this
/// size.
pub(super) const CHUNK_KEYS: usize = 10_000;
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    ranges: Vec<Range>,
    /// Keys within the ranges that the sweep keeps, sorted.
    kept_keys: Vec<Key>,
}

impl Sweep {
    pub(super) fn from_effects(effects: &Effects) -> Self {
        let kept_keys = effects
            .writes
            .keys()
            .filter(|key| effects.swept.iter().any(|range| range.contains(key)))
            .cloned()
            .collect();
        Self { ranges: effects.swept.clone(), kept_keys }
    }

    /// Passes all keys to be removed to `remove`, chunk by chunk. `keys_in` reads the present keys
    /// of a range.
    pub(super) fn remove_in_chunks<K: Iterator<Item = Result<Key>>>(
        &self,
        keys_in: impl Fn(&Range) -> K,
        mut remove: impl FnMut(Vec<Key>) -> Result<()>,
    ) -> Result<()> {
        for range in &self.ranges {
            let mut rest = range.clone();
            loop {
                let mut keys = read_chunk(keys_in(&rest))?;
                let Some(last) = keys.last() else { break };
                rest = rest.after(last);
                keys.retain(|key| self.kept_keys.binary_search(key).is_err());
                remove(keys)?;
            }
        }
        Ok(())
    }

    /// Encodes the number of ranges (u32), then the ends of each and the kept keys, each
    /// preceded by its length (u32), in big-endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_length(&mut bytes, self.ranges.len());
        let ends = self.ranges.iter().flat_map(|range| [&range.start, &range.end]);
        for key in ends.chain(&self.kept_keys) {
            put_length(&mut bytes, key.len());
            bytes.extend_from_slice(key);
        }
        bytes
    }

    pub(super) fn decode(mut row: Bytes) -> Result<Self> {
        Self::parse(&mut row).ok_or_else(|| Error::corrupt("the sweep row is truncated"))
    }

    fn parse(row: &mut Bytes) -> Option<Self> {
        let mut ranges = Vec::new();
        for _ in 0..row.try_get_u32().ok()? {
            ranges.push(Range { start: take_key(row)?, end: take_key(row)? });
        }
        let mut kept_keys = Vec::new();
        while row.has_remaining() {
            kept_keys.push(take_key(row)?);
        }
        Some(Self { ranges, kept_keys })
    }
}

fn read_chunk(present: impl Iterator<Item = Result<Key>>) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut bytes = 0;
    for key in present {
        let key = key?;
        bytes += key.len();
        keys.push(key);
        if keys.len() >= CHUNK_KEYS || bytes >= CHUNK_BYTES {
            break;
        }
    }
    Ok(keys)
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a batch has at most 10 MB");
    bytes.extend_from_slice(&length.to_be_bytes());
}

fn take_key(row: &mut Bytes) -> Option<Key> {
    let length = usize::try_from(row.try_get_u32().ok()?).ok()?;
    (length <= row.len()).then(|| row.split_to(length))
}

#[cfg(test)]
mod tests;
