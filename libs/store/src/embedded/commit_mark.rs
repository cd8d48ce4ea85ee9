//! The row that every commit writes. The journal is searched for it without the engine.

use crate::Version;

pub(super) const VERSION_KEY: &[u8] = b"\xffversion";

/// Metadata that each commit writes: two u64 in big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitMark {
    pub(super) version: Version,
    /// A sync had covered all commits up to this version before this commit was written.
    pub(super) synced: Version,
}

impl CommitMark {
    pub(super) fn encode(self) -> [u8; 16] {
        (u128::from(self.version.0) << 64 | u128::from(self.synced.0)).to_be_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, synced) = bytes.split_first_chunk()?;
        let (synced, []) = synced.split_first_chunk()? else { return None };
        Some(Self {
            version: Version(u64::from_be_bytes(*version)),
            synced: Version(u64::from_be_bytes(*synced)),
        })
    }
}
