//! Recent writes by version: the data that `Check::Unchanged` is evaluated against.
//!
//! The window is bounded by age and bytes. A check that reaches further back cannot be proved
//! and fails, which is the right outcome for a transaction on such an old snapshot anyway. A
//! check scans only the commits after its version. There are few of those, so no index by key
//! is needed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::effects::Effects;
use crate::{Limits, Range, Version};

/// Enough for about 100,000 keys: more than are written during the lifetime of a snapshot.
const MAX_BYTES: usize = 4 << 20;
const MAX_AGE: Duration = Limits::SNAPSHOT_AGE;

pub(super) struct RecentWrites {
    /// The window covers every write after this version.
    floor: Version,
    commits: VecDeque<TouchedKeys>,
    bytes: usize,
}

struct TouchedKeys {
    version: Version,
    committed_at: Instant,
    /// The length (u16) and bytes of each key, in one allocation, so that no caller's
    /// buffer is kept alive.
    keys: Box<[u8]>,
    ranges: Vec<Range>,
}

impl RecentWrites {
    pub(super) fn new(floor: Version) -> Self {
        Self { floor, commits: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn record(&mut self, version: Version, committed_at: Instant, effects: &Effects) {
        let mut keys = Vec::with_capacity(effects.writes.keys().map(|key| 2 + key.len()).sum());
        for key in effects.writes.keys() {
            let length = u16::try_from(key.len()).expect("keys have at most 10,000 bytes");
            keys.extend_from_slice(&length.to_le_bytes());
            keys.extend_from_slice(key);
        }
        let touched =
            TouchedKeys { version, committed_at, keys: keys.into(), ranges: effects.cleared.clone() };
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
        size_of::<Self>() + self.keys.len() + ranges
    }

    fn touches(&self, range: &Range) -> bool {
        self.ranges.iter().any(|cleared| cleared.overlaps(range))
            || keys(&self.keys).any(|key| range.contains(key))
    }
}

fn keys(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = packed.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
        packed = rest;
        Some(key)
    })
}

#[cfg(test)]
mod tests;
