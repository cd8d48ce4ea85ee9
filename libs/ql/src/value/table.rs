//! Dicts and sets: entries in insertion order, plus an open-addressing table of positions for
//! more than [`LINEAR`] entries. They do not define equality: the caller supplies the hash and
//! the comparison, as these may raise or run out of budget.

use bumpalo::Bump;

use super::Value;

/// Up to this many entries are searched linearly.
const LINEAR: usize = 8;

/// Marks a free position.
const EMPTY: u32 = u32::MAX;

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

    /// Returns the entry with this hash for which `is_same` holds.
    pub(crate) fn find<E>(
        &self,
        hash: u64,
        mut is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<Option<&'a TableEntry<'a>>, E> {
        let mut test = |entry: &TableEntry<'a>| Ok(entry.hash == hash && is_same(&entry.key)?);
        if self.positions.is_empty() {
            for entry in self.entries {
                if test(entry)? {
                    return Ok(Some(entry));
                }
            }
            return Ok(None);
        }
        let mut at = start(hash, self.positions.len());
        while self.positions[at] != EMPTY {
            let entry = &self.entries[self.positions[at] as usize];
            if test(entry)? {
                return Ok(Some(entry));
            }
            // The number of positions is a power of two, so the mask wraps around.
            at = (at + 1) & (self.positions.len() - 1);
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
        is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<Option<&'a TableEntry<'a>>, E> {
        self.items.find(hash, is_same)
    }
}

/// Collects entries. A later entry with the same key replaces the value but keeps the position,
/// as in Python.
#[derive(Default)]
pub(crate) struct TableBuilder<'a> {
    entries: Vec<TableEntry<'a>>,
    positions: Vec<u32>,
}

impl<'a> TableBuilder<'a> {
    pub(crate) fn insert<E>(
        &mut self,
        entry: TableEntry<'a>,
        mut is_same: impl FnMut(&Value<'a>) -> Result<bool, E>,
    ) -> Result<(), E> {
        // The table stays at most half full, so probing soon finds a free position.
        if self.entries.len() >= LINEAR && self.entries.len() * 2 > self.positions.len() {
            self.grow();
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
        while self.positions[at] != EMPTY {
            let known = &mut self.entries[self.positions[at] as usize];
            if known.hash == entry.hash && is_same(&known.key)? {
                known.value = entry.value;
                return Ok(());
            }
            at = (at + 1) & (self.positions.len() - 1);
        }
        self.positions[at] =
            u32::try_from(self.entries.len()).expect("the step budget allows far fewer entries");
        self.entries.push(entry);
        Ok(())
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 4).next_power_of_two();
        self.positions = vec![EMPTY; size];
        for (position, entry) in self.entries.iter().enumerate() {
            let mut at = start(entry.hash, size);
            while self.positions[at] != EMPTY {
                at = (at + 1) & (size - 1);
            }
            self.positions[at] = u32::try_from(position).expect("the step budget allows far fewer entries");
        }
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
    // The high bits of a product depend on all bits of the hash.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 32).expect("the upper half of a u64 fits into a usize") & (size - 1)
}
