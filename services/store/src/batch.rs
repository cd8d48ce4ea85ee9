//! Writes as values: what a batch may hold, and how large it may be.

use bytes::Bytes;

use crate::{Error, Result, Version};

pub type Key = Bytes;
pub type Value = Bytes;

/// What every backend refuses alike: FoundationDB's limits.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    pub const KEY_BYTES: usize = 10_000;
    pub const VALUE_BYTES: usize = 100_000;
    /// Keys and values of all checks and mutations together.
    pub const BATCH_BYTES: usize = 10_000_000;
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
            None => end = vec![0xff; Limits::KEY_BYTES],
        }
        Self { start, end: end.into() }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && key < self.end.as_ref()
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
    Set { key: Key, value: Value },
    Clear { key: Key },
    ClearRange { range: Range },
    /// Adds to a little-endian i64, wrapping; an absent key counts as 0.
    Add { key: Key, delta: i64 },
    /// Sets `prefix + stamp of this commit + suffix`.
    SetStamped { prefix: Key, suffix: Key, value: Value },
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

    /// Bytes of all keys and values, as the limit counts them.
    pub fn bytes(&self) -> usize {
        let checks: usize = self.checks.iter().map(Check::bytes).sum();
        let mutations: usize = self.mutations.iter().map(Mutation::bytes).sum();
        checks + mutations
    }

    /// Refuses what no backend takes. Every backend calls this first.
    pub fn validate(&self) -> Result<()> {
        let keys = self.checks.iter().flat_map(Check::keys).chain(self.mutations.iter().flat_map(Mutation::keys));
        for size in keys {
            limit("key", size, Limits::KEY_BYTES)?;
        }
        for size in self.checks.iter().map(Check::value_bytes).chain(self.mutations.iter().map(Mutation::value_bytes)) {
            limit("value", size, Limits::VALUE_BYTES)?;
        }
        limit("batch", self.bytes(), Limits::BATCH_BYTES)
    }
}

fn limit(what: &'static str, size: usize, max: usize) -> Result<()> {
    if size > max { Err(Error::TooLarge { what, size, max }) } else { Ok(()) }
}

impl Check {
    fn keys(&self) -> impl Iterator<Item = usize> {
        match self {
            Self::Value { key, .. } => [key.len(), 0].into_iter(),
            Self::Unchanged { range, .. } => [range.start.len(), range.end.len()].into_iter(),
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Value { expected, .. } => expected.as_ref().map_or(0, Bytes::len),
            Self::Unchanged { .. } => 0,
        }
    }

    fn bytes(&self) -> usize {
        self.keys().sum::<usize>() + self.value_bytes()
    }
}

/// Length of a commit stamp inside a key.
const STAMP_BYTES: usize = 10;

impl Mutation {
    fn keys(&self) -> impl Iterator<Item = usize> {
        match self {
            Self::Set { key, .. } | Self::Clear { key } | Self::Add { key, .. } => [key.len(), 0].into_iter(),
            Self::ClearRange { range } => [range.start.len(), range.end.len()].into_iter(),
            Self::SetStamped { prefix, suffix, .. } => [prefix.len() + STAMP_BYTES + suffix.len(), 0].into_iter(),
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::SetStamped { value, .. } => value.len(),
            Self::Add { .. } => size_of::<i64>(),
            Self::Clear { .. } | Self::ClearRange { .. } => 0,
        }
    }

    fn bytes(&self) -> usize {
        self.keys().sum::<usize>() + self.value_bytes()
    }
}
