//! Recent writes by version: the data that `Check::Unchanged` is evaluated against.
//!
//! The window is bounded by age and bytes. A check that reaches further back cannot be proved and
//! fails, which is the right outcome for a transaction on such an old snapshot anyway. A check
//! looks at each commit after its version, and there at a few keys: the keys of a commit are sorted. A
//! commit may have a hundred thousand keys, and all of this is on the thread that applies commits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::effects::{Effects, Writes};
use crate::{Limits, Range, Version};

/// Enough for about 700,000 keys. New runs with 200 params write 350,000 keys a second; a transaction that scans
/// must be able to commit seconds later.
const MAX_BYTES: usize = 32 << 20;
const MAX_AGE: Duration = Limits::SNAPSHOT_AGE;

/// Bytes of the length of a packed key.
const LENGTH_BYTES: usize = size_of::<u16>();

pub(super) struct RecentWrites {
    /// The window covers every write after this version.
    floor: Version,
    commits: VecDeque<TouchedKeys>,
    bytes: usize,
}

struct TouchedKeys {
    version: Version,
    committed_at: Instant,
    keys: SortedKeys,
    ranges: Vec<Range>,
}

struct SortedKeys {
    /// The length (u16) and bytes of each key, in one allocation, so that no caller's
    /// buffer is kept alive.
    packed: Box<[u8]>,
    /// Where each key starts in `packed`, in the order of the keys.
    starts: Box<[u32]>,
}

impl RecentWrites {
    pub(super) fn new(floor: Version) -> Self {
        Self { floor, commits: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn record(&mut self, version: Version, committed_at: Instant, effects: &Effects) {
        let keys = SortedKeys::of_writes(&effects.writes);
        let touched = TouchedKeys { version, committed_at, keys, ranges: effects.cleared.clone() };
        self.bytes += touched.bytes();
        self.commits.push_back(touched);
        self.drop_expired(committed_at);
    }

    /// True if no commit after `since` touched the range; false also if the window does not
    /// reach back to `since`.
    pub(super) fn unchanged(&self, range: &Range, since: Version) -> bool {
        let first = self.commits.partition_point(|touched| touched.version <= since);
        since >= self.floor && self.commits.range(first..).all(|touched| !touched.touches(range))
    }

    fn drop_expired(&mut self, now: Instant) {
        while let Some(oldest) = self.commits.front() {
            if self.bytes <= MAX_BYTES && now.saturating_duration_since(oldest.committed_at) <= MAX_AGE {
                break;
            }
            self.floor = oldest.version;
            self.bytes -= oldest.bytes();
            self.commits.pop_front();
        }
    }
}

impl TouchedKeys {
    fn bytes(&self) -> usize {
        let ranges: usize = self.ranges.iter().map(|range| range.start.len() + range.end.len()).sum();
        size_of::<Self>() + self.keys.bytes() + ranges
    }

    fn touches(&self, range: &Range) -> bool {
        self.ranges.iter().any(|cleared| cleared.overlaps(range)) || self.keys.touch(range)
    }
}

impl SortedKeys {
    fn of_writes(writes: &Writes) -> Self {
        let mut packed = Vec::with_capacity(writes.keys().map(|key| LENGTH_BYTES + key.len()).sum());
        let mut starts = Vec::with_capacity(writes.len());
        for key in writes.keys() {
            let length = u16::try_from(key.len()).expect("keys have at most 10,000 bytes");
            starts.push(u32::try_from(packed.len()).expect("a batch has at most 10 MB"));
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(key);
        }
        Self { packed: packed.into(), starts: starts.into() }
    }

    fn bytes(&self) -> usize {
        self.packed.len() + size_of_val(&*self.starts)
    }

    fn key_at(&self, start: u32) -> &[u8] {
        let (length, rest) =
            self.packed[start as usize..].split_first_chunk::<LENGTH_BYTES>().expect("a key starts here");
        &rest[..usize::from(u16::from_le_bytes(*length))]
    }

    fn touch(&self, range: &Range) -> bool {
        let first = self.starts.partition_point(|start| self.key_at(*start) < &*range.start);
        self.starts.get(first).is_some_and(|start| self.key_at(*start) < &*range.end)
    }
}

#[cfg(test)]
mod tests;
