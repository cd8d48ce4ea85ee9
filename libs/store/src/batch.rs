//! Writes as values: what a batch may hold, and how large it may be.

use bytes::Bytes;

use crate::{Error, Result, Stamp, Version};

pub type Key = Bytes;
pub type Value = Bytes;

/// What every backend refuses alike: FoundationDB's limits, less what our backend for it adds.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Keys have at least one byte, and their first is below 0xff.
    /// FoundationDB takes 10,000: there is room for a prefix, and for saying where a stamp goes.
    pub const KEY_BYTES: usize = 9_900;
    /// Behind every key.
    pub const KEYS_END: &'static [u8] = &[0xff];
    pub const VALUE_BYTES: usize = 100_000;
    /// Of all checks and mutations together, as `Batch::bytes` counts. FoundationDB takes 10,000,000. A key counts up to four
    /// times, and every mutation 256 bytes besides: a small row takes some 350.
    pub const BATCH_BYTES: usize = 9_900_000;
    pub const SNAPSHOT_AGE: std::time::Duration = std::time::Duration::from_secs(5);
}

/// Keys from `start` up to and without `end`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub start: Key,
    pub end: Key,
}

impl Range {
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// Every key that begins with `prefix`, the prefix itself included.
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

    /// False if either is empty.
    pub fn overlaps(&self, other: &Self) -> bool {
        (&self.start).max(&other.start) < (&self.end).min(&other.end)
    }

    /// The rest of the range behind `key`, for the next page of a forward scan.
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

/// What must hold when a batch is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key has exactly this value, or is absent.
    Value { key: Key, expected: Option<Value> },
    /// No key of the range was set, cleared or added to after `since`.
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
    /// Sets `prefix + stamp of this commit + suffix`.
    SetStamped {
        prefix: Key,
        suffix: Key,
        value: Value,
    },
}

/// When `commit` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    #[default]
    Synced,
    /// Only for what the log replays.
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

    fn push(&mut self, mutation: Mutation) -> &mut Self {
        self.mutations.push(mutation);
        self
    }

    /// What the batch takes in a transaction of FoundationDB, or a little more: it sends a changed key up to four times, as
    /// what to do and as ranges that conflict, a checked one twice, and some bytes with each of them.
    pub fn bytes(&self) -> usize {
        let checks: usize = self.checks.iter().map(Check::bytes).sum();
        let mutations: usize = self.mutations.iter().map(Mutation::bytes).sum();
        checks + mutations
    }

    /// Refuses what no backend takes. Every backend calls this first.
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

/// The ends of a range need not be keys: they may be empty, or one byte longer, just behind the longest key.
pub(crate) fn validate_range(range: &Range) -> Result<()> {
    limit("range start", range.start.len(), Limits::KEY_BYTES + 1)?;
    limit("range end", range.end.len(), Limits::KEY_BYTES + 1)
}

fn validate_value(value: &[u8]) -> Result<()> {
    limit("value", value.len(), Limits::VALUE_BYTES)
}

/// What FoundationDB adds to a check or a mutation beside its keys and value, with a prefix of the longest.
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
                // A stamp alone would order its keys among everybody's.
                validate_key(prefix)?;
                limit("key", prefix.len() + Stamp::BYTES + suffix.len(), Limits::KEY_BYTES)?;
                validate_value(value)
            }
        }
    }

    /// Its part of `Batch::bytes`.
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
