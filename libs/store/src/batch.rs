//! Writes as values: the content of a batch and its size limits.

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    version::{Stamp, Version},
};

pub type Key = Bytes;
pub type Value = Bytes;

/// Limits that every backend enforces: the limits of FoundationDB, less the overhead of our
/// FoundationDB backend.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Keys have at least one byte, and the first is below 0xff. FoundationDB accepts
    /// 10,000 bytes; the difference leaves room for a prefix and for the position of a
    /// stamp.
    pub const KEY_BYTES: usize = 9_900;
    /// Sorts after every key.
    pub const KEYS_END: &'static [u8] = &[0xff];
    pub const VALUE_BYTES: usize = 100_000;
    /// Limit on all checks and mutations together, counted by `Batch::bytes`. FoundationDB accepts
    /// 10,000,000. A key counts up to four times, and every mutation adds 256 bytes, so a small row
    /// takes about 350.
    pub const BATCH_BYTES: usize = 9_900_000;
    pub const SNAPSHOT_AGE: std::time::Duration = std::time::Duration::from_secs(5);
}

/// Keys from `start` (inclusive) to `end` (exclusive).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub start: Key,
    pub end: Key,
}

impl Range {
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// Every key that starts with `prefix`, including the prefix itself.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into();
        let mut end = start.to_vec();
        while end.pop_if(|last| *last == 0xff).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end = Limits::KEYS_END.to_vec(),
        }
        Self { start, end: end.into() }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && key < self.end.as_ref()
    }

    /// True if the ranges share a key; false if either is empty.
    pub fn overlaps(&self, other: &Self) -> bool {
        (&self.start).max(&other.start) < (&self.end).min(&other.end)
    }

    /// The rest of the range after `key`, for the next page of a forward scan.
    pub fn after(&self, key: &Key) -> Self {
        let mut start = Vec::with_capacity(key.len() + 1);
        start.extend_from_slice(key);
        start.push(0);
        Self { start: start.into(), end: self.end.clone() }
    }

    /// The rest of the range before `key`, for the next page of a reverse scan.
    pub fn before(&self, key: &Key) -> Self {
        Self { start: self.start.clone(), end: key.clone() }
    }
}

/// A condition that must hold when a batch is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key has exactly this value, or is absent if `None`.
    Value { key: Key, expected: Option<Value> },
    /// No key of the range was set, cleared, or added to after `since`.
    Unchanged { range: Range, since: Version },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    Set {
        key: Key,
        value: Value,
    },
    Clear {
        key: Key,
    },
    ClearRange {
        range: Range,
    },
    /// Adds to a little-endian i64, wrapping; an absent key counts as 0.
    Add {
        key: Key,
        delta: i64,
    },
    /// Sets the key formed by `prefix`, the stamp of this commit, and `suffix`.
    SetStamped {
        prefix: Key,
        suffix: Key,
        value: Value,
    },
}

/// The point at which `commit` returns: after a sync, or before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    #[default]
    Synced,
    /// Only for writes that can be replayed from the log.
    Buffered,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub checks: Vec<Check>,
    pub mutations: Vec<Mutation>,
    pub durability: Durability,
}

impl Batch {
    pub fn buffered() -> Self {
        Self { durability: Durability::Buffered, ..Self::default() }
    }

    pub fn set(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> &mut Self {
        self.push(Mutation::Set { key: key.into(), value: value.into() })
    }

    pub fn clear(&mut self, key: impl Into<Key>) -> &mut Self {
        self.push(Mutation::Clear { key: key.into() })
    }

    pub fn clear_range(&mut self, range: Range) -> &mut Self {
        self.push(Mutation::ClearRange { range })
    }

    pub fn add(&mut self, key: impl Into<Key>, delta: i64) -> &mut Self {
        self.push(Mutation::Add { key: key.into(), delta })
    }

    pub fn set_stamped(
        &mut self,
        prefix: impl Into<Key>,
        suffix: impl Into<Key>,
        value: impl Into<Value>,
    ) -> &mut Self {
        self.push(Mutation::SetStamped { prefix: prefix.into(), suffix: suffix.into(), value: value.into() })
    }

    pub fn expect(&mut self, key: impl Into<Key>, expected: Option<Value>) -> &mut Self {
        self.checks.push(Check::Value { key: key.into(), expected });
        self
    }

    pub fn expect_unchanged(&mut self, range: Range, since: Version) -> &mut Self {
        self.checks.push(Check::Unchanged { range, since });
        self
    }

    /// Adds the checks and the mutations of another batch.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.checks.append(&mut other.checks);
        self.mutations.append(&mut other.mutations);
        self
    }

    fn push(&mut self, mutation: Mutation) -> &mut Self {
        self.mutations.push(mutation);
        self
    }

    /// Size of the batch in a FoundationDB transaction, slightly overestimated.
    /// FoundationDB sends a changed key up to four times (in the mutation and in conflict
    /// ranges), a checked key twice, and some fixed bytes with each.
    pub fn bytes(&self) -> usize {
        let checks: usize = self.checks.iter().map(Check::bytes).sum();
        let mutations: usize = self.mutations.iter().map(Mutation::bytes).sum();
        checks + mutations
    }

    /// Rejects a batch that no backend accepts. Every backend calls this first.
    pub fn validate(&self) -> Result<()> {
        self.checks.iter().try_for_each(Check::validate)?;
        self.mutations.iter().try_for_each(Mutation::validate)?;
        limit("batch", self.bytes(), Limits::BATCH_BYTES)
    }
}

pub(crate) fn validate_key(key: &[u8]) -> Result<()> {
    match key.first() {
        None => Err(Error::BadKey { reason: "is empty" }),
        Some(0xff) => Err(Error::BadKey { reason: "begins with 0xff" }),
        Some(_) => limit("key", key.len(), Limits::KEY_BYTES),
    }
}

/// The ends of a range need not be valid keys: they may be empty, or one byte longer, directly
/// after the longest key.
pub(crate) fn validate_range(range: &Range) -> Result<()> {
    limit("range start", range.start.len(), Limits::KEY_BYTES + 1)?;
    limit("range end", range.end.len(), Limits::KEY_BYTES + 1)
}

fn validate_value(value: &[u8]) -> Result<()> {
    limit("value", value.len(), Limits::VALUE_BYTES)
}

/// FoundationDB's overhead per check or mutation in addition to its keys and value, with a
/// prefix of maximum length.
const EXTRA_BYTES: usize = 256;

fn limit(what: &'static str, size: usize, max: usize) -> Result<()> {
    if size > max { Err(Error::TooLarge { what, size, max }) } else { Ok(()) }
}

impl Check {
    fn validate(&self) -> Result<()> {
        match self {
            Self::Value { key, expected } => {
                validate_key(key)?;
                validate_value(expected.as_deref().unwrap_or_default())
            }
            Self::Unchanged { range, .. } => validate_range(range),
        }
    }

    fn bytes(&self) -> usize {
        EXTRA_BYTES
            + match self {
                Self::Value { key, expected } => 2 * key.len() + expected.as_ref().map_or(0, Bytes::len),
                Self::Unchanged { range, .. } => range.start.len() + range.end.len(),
            }
    }
}

impl Mutation {
    fn validate(&self) -> Result<()> {
        match self {
            Self::Set { key, value } => {
                validate_key(key)?;
                validate_value(value)
            }
            Self::Clear { key } | Self::Add { key, .. } => validate_key(key),
            Self::ClearRange { range } => validate_range(range),
            Self::SetStamped { prefix, suffix, value } => {
                // With an empty prefix, its keys would mix with the keys of every other part of the
                // store.
                validate_key(prefix)?;
                limit("key", prefix.len() + Stamp::BYTES + suffix.len(), Limits::KEY_BYTES)?;
                validate_value(value)
            }
        }
    }

    /// Contribution to `Batch::bytes`.
    pub fn bytes(&self) -> usize {
        EXTRA_BYTES
            + match self {
                Self::Set { key, value } => 3 * key.len() + value.len(),
                Self::Clear { key } => 4 * key.len(),
                Self::Add { key, .. } => 3 * key.len() + size_of::<i64>(),
                Self::ClearRange { range } => 2 * (range.start.len() + range.end.len()),
                Self::SetStamped { prefix, suffix, value } => {
                    3 * (prefix.len() + Stamp::BYTES + suffix.len()) + value.len()
                }
            }
    }
}

#[cfg(test)]
mod tests;
