//! Dicts and sets: entries in insertion order, plus an open-addressing table of positions for
//! more than [`LINEAR`] entries. They do not define equality: the caller supplies the hash and
//! the comparison, because these may raise or run out of budget, and pays for long probing.
//!
//! Positions depend on two random numbers of the process, so a caller cannot choose keys that share
//! them. The order of entries does not depend on the positions.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use bumpalo::Bump;

use super::Value;

/// Up to this many entries are searched linearly.
const LINEAR: usize = 8;

/// Marks a free position.
const EMPTY: u32 = u32::MAX;

/// Random numbers that positions depend on. The second one is odd.
static SEEDS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let random = RandomState::new();
    [random.hash_one(0), random.hash_one(1) | 1]
});

/// The probes of one search of a table: as many as a linear search takes are free.
struct Probing {
    free: usize,
}

impl Probing {
    fn new() -> Self {
        Self { free: LINEAR }
    }

    /// Returns the position after `at`, for which the caller pays if the search is long.
    #[inline]
    fn next<E>(
        &mut self,
        at: usize,
        positions: &[u32],
        mut pay: impl FnMut() -> Result<(), E>,
    ) -> Result<usize, E> {
        match self.free.checked_sub(1) {
            Some(free) => self.free = free,
            None => pay()?,
        }
        // The number of positions is a power of two, so the mask wraps around.
        Ok((at + 1) & (positions.len() - 1))
    }
}

#[derive(Clone, Copy)]
pub(crate) struct TableEntry<'a> {
    pub(crate) hash: u64,
    pub(crate) key: Value<'a>,
    pub(crate) value: Value<'a>,
}

pub(crate) struct Dict<'a> {
    entries: &'a [TableEntry<'a>],
    positions: &'a [u32],
}

pub(crate) struct Set<'a> {
    items: Dict<'a>,
    pub(crate) frozen: bool,
}

impl<'a> Dict<'a> {
    pub(crate) fn entries(&self) -> &'a [TableEntry<'a>] {
        self.entries
    }

    /// Returns the entry with this hash for which `is_same` holds. Each probe of a long search is
    /// paid for.
    pub(crate) fn find<E>(
        &self,
        hash: u64,
        mut pay: impl FnMut() -> Result<(), E>,
        mut is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<Option<&'a TableEntry<'a>>, E> {
        if self.positions.is_empty() {
            for entry in self.entries {
                if entry.hash == hash && is_same(&entry.key)? {
                    return Ok(Some(entry));
                }
            }
            return Ok(None);
        }
        let mut at = start(hash, self.positions.len());
        let mut probing = Probing::new();
        while self.positions[at] != EMPTY {
            let entry = &self.entries[self.positions[at] as usize];
            if entry.hash == hash && is_same(&entry.key)? {
                return Ok(Some(entry));
            }
            at = probing.next(at, self.positions, &mut pay)?;
        }
        Ok(None)
    }
}

impl<'a> Set<'a> {
    pub(crate) fn items(&self) -> &'a [TableEntry<'a>] {
        self.items.entries
    }

    /// Returns the same set in hashable form.
    pub(crate) fn frozen(&self) -> Self {
        Set { items: Dict { entries: self.items.entries, positions: self.items.positions }, frozen: true }
    }

    pub(crate) fn find<E>(
        &self,
        hash: u64,
        pay: impl FnMut() -> Result<(), E>,
        is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<Option<&'a TableEntry<'a>>, E> {
        self.items.find(hash, pay, is_same)
    }
}

/// Collects entries. As in Python, a later entry with the same key replaces the value but keeps
/// the position.
#[derive(Default)]
pub(crate) struct TableBuilder<'a> {
    entries: Vec<TableEntry<'a>>,
    positions: Vec<u32>,
}

impl<'a> TableBuilder<'a> {
    pub(crate) fn insert<E>(
        &mut self,
        entry: TableEntry<'a>,
        mut pay: impl FnMut() -> Result<(), E>,
        mut is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<(), E> {
        // The table stays at most half full, so probing soon finds a free position.
        if self.entries.len() >= LINEAR && self.entries.len() * 2 > self.positions.len() {
            self.grow(&mut pay)?;
        }
        if self.positions.is_empty() {
            for known in &mut self.entries {
                if known.hash == entry.hash && is_same(&known.key)? {
                    known.value = entry.value;
                    return Ok(());
                }
            }
            self.entries.push(entry);
            return Ok(());
        }
        let mut at = start(entry.hash, self.positions.len());
        let mut probing = Probing::new();
        while self.positions[at] != EMPTY {
            let known = &mut self.entries[self.positions[at] as usize];
            if known.hash == entry.hash && is_same(&known.key)? {
                known.value = entry.value;
                return Ok(());
            }
            at = probing.next(at, &self.positions, &mut pay)?;
        }
        self.positions[at] =
            u32::try_from(self.entries.len()).expect("the step budget allows far fewer entries");
        self.entries.push(entry);
        Ok(())
    }

    fn grow<E>(&mut self, mut pay: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let size = (self.entries.len() * 4).next_power_of_two();
        self.positions = vec![EMPTY; size];
        for (position, entry) in self.entries.iter().enumerate() {
            let mut at = start(entry.hash, size);
            let mut probing = Probing::new();
            while self.positions[at] != EMPTY {
                at = probing.next(at, &self.positions, &mut pay)?;
            }
            self.positions[at] = u32::try_from(position).expect("the step budget allows far fewer entries");
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `None` if the arena has reached its limit.
    pub(crate) fn dict(self, bump: &'a Bump) -> Option<&'a Dict<'a>> {
        let dict = self.finish(bump)?;
        bump.try_alloc(dict).ok().map(|dict| &*dict)
    }

    pub(crate) fn set(self, bump: &'a Bump, frozen: bool) -> Option<&'a Set<'a>> {
        let items = self.finish(bump)?;
        bump.try_alloc(Set { items, frozen }).ok().map(|set| &*set)
    }

    fn finish(self, bump: &'a Bump) -> Option<Dict<'a>> {
        Some(Dict {
            entries: bump.try_alloc_slice_copy(&self.entries).ok()?,
            positions: bump.try_alloc_slice_copy(&self.positions).ok()?,
        })
    }
}

fn start(hash: u64, size: usize) -> usize {
    let [mask, factor] = *SEEDS;
    // Both halves of the product together depend on all bits of the hash.
    let product = u128::from(hash ^ mask) * u128::from(factor);
    let mixed = (product >> 64) as u64 ^ product as u64;
    (mixed ^ (mixed >> 32)) as usize & (size - 1)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Fills a table with entries of these hashes, and returns the probes that were paid for.
    fn paid(hashes: impl Iterator<Item = u64>) -> u64 {
        let mut paid = 0;
        let mut builder = TableBuilder::default();
        for hash in hashes {
            let entry = TableEntry { hash, key: Value::None, value: Value::None };
            let pay = || {
                paid += 1;
                Ok::<(), Infallible>(())
            };
            let Ok(()) = builder.insert(entry, pay, |_| Ok(false));
        }
        paid
    }

    #[test]
    fn a_table_pays_for_the_probes_that_it_makes() {
        const ENTRIES: u64 = 3_000;
        // Entries of one hash are probed in a row.
        let clustered = paid((0..ENTRIES).map(|_| 7));
        assert!(clustered > ENTRIES * ENTRIES / 4, "{clustered}");
    }

    #[test]
    fn chosen_hashes_do_not_share_positions() {
        const ENTRIES: u64 = 40_000;
        // With a public multiplication instead of the seeds, each of these series shares few positions.
        for shift in [0, 32, 44] {
            let paid = paid((0..ENTRIES).map(|number| number.rotate_left(shift)));
            assert!(paid < ENTRIES / 2, "{paid} probes for hashes shifted by {shift}");
        }
        let inverse = 0xf1de_83e1_9937_733d_u64;
        assert_eq!(inverse.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1);
        let paid = paid((0..ENTRIES).map(|number| number.wrapping_mul(inverse)));
        assert!(paid < ENTRIES / 2, "{paid} probes for hashes of small products");
    }
}
