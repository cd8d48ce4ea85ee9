//! A bounded map of values with the times at which they were known: answers of a store or of another process, and runs
//! that were admitted. Readers decide how old an entry may be: some want a recent answer, and accept an older one
//! during an outage.
//!
//! The maps of well-known cache crates do not fit: their `insert` replaces an entry by an older one, and the maps whose
//! entries expire have their own clocks, which tests cannot stop.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A value, and when it was known. For an answer, this is the time of the question: the answer may be as old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatedValue<V> {
    pub value: V,
    pub at: Instant,
}

impl<V> DatedValue<V> {
    /// A value that is known now.
    pub fn now(value: V) -> Self {
        Self { value, at: Instant::now() }
    }

    pub fn is_younger_than(&self, age: Duration) -> bool {
        self.at.elapsed() < age
    }
}

/// A map of at most `max_entries` entries, because keys may come from outside.
pub struct DatedMap<K, V> {
    entries: Mutex<HashMap<K, DatedValue<V>>>,
    max_entries: usize,
}

impl<K: Eq + Hash, V: Clone> DatedMap<K, V> {
    pub fn new(max_entries: usize) -> Self {
        Self { entries: Mutex::default(), max_entries }
    }

    pub fn get<Q>(&self, key: &Q) -> Option<DatedValue<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.entries.lock().get(key).cloned()
    }

    /// Replaces an entry, unless it is newer: the answer to an earlier question may arrive later. If a new entry has no
    /// room, entries that are of no more use are forgotten, and if all are of use, the oldest tenth.
    pub fn insert(&self, key: K, entry: DatedValue<V>, is_of_use: impl Fn(&DatedValue<V>) -> bool) {
        let mut entries = self.entries.lock();
        let kept_at = entries.get(&key).map(|kept| kept.at);
        if kept_at.is_some_and(|at| at > entry.at) {
            return;
        }
        if kept_at.is_none() && entries.len() >= self.max_entries {
            entries.retain(|_, kept| is_of_use(kept));
            if entries.len() >= self.max_entries {
                // If entries were forgotten one by one, each new entry would look for the oldest.
                let mut times: Vec<Instant> = entries.values().map(|kept| kept.at).collect();
                let (_, last_forgotten, _) =
                    times.select_nth_unstable((self.max_entries / 10).saturating_sub(1));
                let last_forgotten = *last_forgotten;
                entries.retain(|_, kept| kept.at > last_forgotten);
            }
        }
        entries.insert(key, entry);
    }

    /// The number of entries.
    pub fn count(&self) -> usize {
        self.entries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// A map with ten entries, inserted a second apart.
    async fn full_map() -> DatedMap<u32, u32> {
        let map = DatedMap::new(10);
        for number in 0..10 {
            map.insert(number, DatedValue::now(number), |_| true);
            advance(Duration::from_secs(1)).await;
        }
        map
    }

    fn numbers(map: &DatedMap<u32, u32>) -> Vec<u32> {
        (0..100).filter(|number| map.get(number).is_some()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_entries_are_forgotten_if_all_are_of_use() {
        let map = full_map().await;
        map.insert(5, DatedValue::now(55), |_| true);
        assert_eq!(map.count(), 10, "a known entry needs no room");
        map.insert(10, DatedValue::now(10), |_| true);
        assert_eq!(numbers(&map), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(map.get(&5).map(|kept| kept.value), Some(55));
    }

    #[tokio::test(start_paused = true)]
    async fn entries_of_no_use_are_forgotten_before_old_ones() {
        let map = full_map().await;
        map.insert(10, DatedValue::now(10), |kept| kept.value.is_multiple_of(2));
        assert_eq!(numbers(&map), [0, 2, 4, 6, 8, 10]);
        assert!(map.get(&8).is_some_and(|kept| kept.is_younger_than(Duration::from_secs(3))));
        assert!(map.get(&8).is_some_and(|kept| !kept.is_younger_than(Duration::from_secs(2))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_replaces_no_newer_answer() {
        let map = DatedMap::new(10);
        let asked_first = Instant::now();
        advance(Duration::from_secs(1)).await;
        map.insert("token", DatedValue::now(false), |_| true);
        map.insert("token", DatedValue { value: true, at: asked_first }, |_| true);
        assert_eq!(map.get("token").map(|kept| kept.value), Some(false));
    }
}
