//! Points in the history of a store.

/// A point in the store's history. Later commits have greater versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// Ten bytes that sort in commit order; a commit fills its versionstamped keys with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub [u8; Stamp::BYTES]);

impl Version {
    /// The stamp of a commit with this version; `order` distinguishes commits that share
    /// one version.
    pub fn stamp(self, order: u16) -> Stamp {
        let mut stamp = [0; Stamp::BYTES];
        stamp[..8].copy_from_slice(&self.0.to_be_bytes());
        stamp[8..].copy_from_slice(&order.to_be_bytes());
        Stamp(stamp)
    }
}

impl Stamp {
    pub const BYTES: usize = 10;

    /// The stamp that follows `prefix` in a versionstamped key.
    pub fn in_key(key: &[u8], prefix: usize) -> Option<Self> {
        key.get(prefix..)?.first_chunk().copied().map(Self)
    }

    pub fn version(self) -> Version {
        let version = self.0.first_chunk().expect("a stamp has ten bytes");
        Version(u64::from_be_bytes(*version))
    }
}
