//! The share that each key has of a bounded room, so that a key that writes more than is read does not use
//! up the room of all others: memory for the appends that wait, and disk for the records that are not
//! trimmed.
//!
//! A key may hold as much as is free. So a single key holds at most half of the room, many keys together hold
//! nearly all of it, and a key that holds nothing is accepted until there is no room at all.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
};

use bytes::Bytes;

use super::partition::Extent;

/// Number of parts into which the room in a topic is divided. The records of a part are released together.
const PARTS: u64 = 64;

/// Maximum size of a part, unless a single append is larger.
const PART_BYTES: u64 = 16 << 20;

/// A key as its hash. Two that share one also share the room.
pub(super) type KeyHash = u64;

/// Values by their keys.
pub(super) type ByKey<V> = HashMap<KeyHash, V, BuildHasherDefault<IdentityHasher>>;

type BytesByKey = ByKey<u64>;

/// Answer to an append that asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// A key of it has its whole share.
    ForOthers,
    None,
}

/// Hashes the keys of one topic.
#[derive(Default)]
pub(super) struct KeyHasher(RandomState);

impl KeyHasher {
    pub(super) fn hash(&self, key: &Bytes) -> KeyHash {
        self.0.hash_one(key)
    }
}

/// Bytes that each key has of a room.
#[derive(Default)]
pub(super) struct KeyShares(BytesByKey);

impl KeyShares {
    /// Whether these keys may have more while this much of the room is free.
    pub(super) fn room_for(&self, mut keys: impl Iterator<Item = KeyHash>, free: u64) -> Room {
        if free == 0 {
            Room::None
        } else if keys.any(|key| self.0.get(&key).is_some_and(|held| *held > free)) {
            Room::ForOthers
        } else {
            Room::Free
        }
    }

    pub(super) fn add(&mut self, key: KeyHash, bytes: u64) {
        *self.0.entry(key).or_default() += bytes;
    }

    pub(super) fn release(&mut self, key: KeyHash, bytes: u64) {
        let held = self.0.get_mut(&key).expect("only what was added is released");
        *held -= bytes;
        if *held == 0 {
            self.0.remove(&key);
        }
    }
}

/// Shares in the untrimmed records of a topic, as far as they were appended since it was opened.
pub(super) struct UntrimmedShares {
    max_bytes: u64,
    /// Bytes that the next group may still have.
    free: u64,
    shares: KeyShares,
    /// Oldest first.
    parts: VecDeque<Part>,
}

#[derive(Default)]
struct Part {
    bytes: u64,
    held: BytesByKey,
    /// Offset after its last record. `None` while some are not written.
    end: Option<u64>,
}

impl UntrimmedShares {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, free: 0, shares: KeyShares::default(), parts: VecDeque::new() }
    }

    /// Starts a group, after the previous one was written. Releases the shares of trimmed records.
    pub(super) fn begin_group(&mut self, written: Extent) {
        self.free = self.max_bytes.saturating_sub(written.bytes());
        for part in self.parts.iter_mut().rev().take_while(|part| part.end.is_none()) {
            part.end = Some(written.end);
        }
        while let Some(part) =
            self.parts.pop_front_if(|part| part.end.is_some_and(|end| end <= written.first))
        {
            for (key, bytes) in part.held {
                self.shares.release(key, bytes);
            }
        }
    }

    pub(super) fn room_for(&self, keys: impl Iterator<Item = KeyHash>) -> Room {
        self.shares.room_for(keys, self.free)
    }

    /// Adds an append to the group.
    pub(super) fn add(&mut self, bytes_by_key: &[(KeyHash, u64)]) {
        let part_bytes = (self.max_bytes / PARTS).min(PART_BYTES);
        if self.parts.back().is_none_or(|part| part.bytes >= part_bytes) {
            self.parts.push_back(Part::default());
        }
        let part = self.parts.back_mut().expect("a part was added");
        part.end = None;
        for (key, bytes) in bytes_by_key {
            self.shares.add(*key, *bytes);
            *part.held.entry(*key).or_default() += bytes;
            part.bytes += bytes;
            self.free = self.free.saturating_sub(*bytes);
        }
    }
}

/// Uses a number that is already a hash as its own hash.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        unreachable!("hashed {bytes:?}, which is not a number");
    }

    fn write_u64(&mut self, hash: KeyHash) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
