//! The share of each key in a topic's untrimmed records, so that one that writes more than is read does
//! not use up the room of all others.
//!
//! A key may have as much as is free. So one alone has at most half of the room, however many share nearly
//! all of it, and a key that has nothing is accepted until there is no room at all.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use bytes::Bytes;

/// Number of parts into which the room is divided. The records of a part are released together.
const PARTS: u64 = 64;

/// A key as its hash. Two that share one also share the room.
pub(super) type KeyHash = u64;

pub(super) struct KeyShares {
    max_bytes: u64,
    held: HashMap<KeyHash, u64>,
    /// The records since the opening of the log, oldest first.
    parts: VecDeque<Part>,
    /// Bytes that were accepted since the last group was written.
    unwritten: u64,
}

#[derive(Default)]
struct Part {
    bytes: u64,
    held: HashMap<KeyHash, u64>,
    /// Offset after its last record. `None` while some are not written.
    end: Option<u64>,
}

/// Answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is a part of the next group.
    Accepted,
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

impl KeyShares {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, held: HashMap::new(), parts: VecDeque::new(), unwritten: 0 }
    }

    /// Accepts an append of this size for each key into the next group if it fits in their shares.
    /// `written` are the bytes of all records in the log.
    pub(super) fn accept(&mut self, bytes_by_key: &[(KeyHash, u64)], written: u64) -> Room {
        let free = self.max_bytes.saturating_sub(written + self.unwritten);
        let held = |(key, _): &(KeyHash, u64)| self.held.get(key).copied().unwrap_or_default();
        if free == 0 {
            return Room::None;
        }
        if bytes_by_key.iter().any(|share| held(share) > free) {
            return Room::ForOthers;
        }
        if self.parts.back().is_none_or(|part| part.bytes >= self.max_bytes / PARTS) {
            self.parts.push_back(Part::default());
        }
        let part = self.parts.back_mut().expect("a part was added");
        part.end = None;
        for (key, bytes) in bytes_by_key {
            *self.held.entry(*key).or_default() += bytes;
            *part.held.entry(*key).or_default() += bytes;
            part.bytes += bytes;
            self.unwritten += bytes;
        }
        Room::Accepted
    }

    /// Records that everything accepted was written, before the offset `end`.
    pub(super) fn written(&mut self, end: u64) {
        self.unwritten = 0;
        for part in self.parts.iter_mut().rev().take_while(|part| part.end.is_none()) {
            part.end = Some(end);
        }
    }

    /// Releases what is before the offset `first`.
    pub(super) fn trimmed(&mut self, first: u64) {
        while let Some(part) = self.parts.pop_front_if(|part| part.end.is_some_and(|end| end <= first)) {
            for (key, bytes) in part.held {
                let held = self.held.get_mut(&key).expect("the key of a part is counted");
                *held -= bytes;
                if *held == 0 {
                    self.held.remove(&key);
                }
            }
        }
    }
}
