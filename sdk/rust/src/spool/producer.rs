//! Identities of producers.

use std::io;

/// Random identity of a producer, by which the server recognizes batches that are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerId([u8; 16]);

impl ProducerId {
    #[cfg(test)]
    pub(crate) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Draws an id from the randomness of the operating system: scripts seed every other one.
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads the name of a directory.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(name, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Name of the directory of the producer's spool.
    pub(crate) fn name(self) -> String {
        hex::encode(self.0)
    }
}
