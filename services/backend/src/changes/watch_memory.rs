//! The memory for what watches remember of runs, of all watches together: a watch of all runs of a
//! large project remembers millions of bytes for as long as its client stays.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::error::{Error, Result};

/// Memory of all watches.
const TOTAL_BYTES: usize = 256 << 20;

/// Memory is taken in pieces of this size: enough for a watch of some runs.
const PIECE_BYTES: usize = 16 << 10;

/// Memory for a run in a set or map of numbers, with the places that are free.
pub(crate) const NUMBER_BYTES: usize = 32;

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct WatchMemory(Arc<Semaphore>);

impl Default for WatchMemory {
    fn default() -> Self {
        Self::new(TOTAL_BYTES)
    }
}

impl WatchMemory {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PIECE_BYTES)))
    }

    /// The share of a new watch, which remembers nothing yet.
    pub(super) fn share(&self) -> WatchShare {
        let permit = self.0.clone().try_acquire_many_owned(0);
        WatchShare { memory: self.0.clone(), held: permit.expect("nothing is always available") }
    }
}

/// The memory of one watch.
pub(super) struct WatchShare {
    memory: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
}

impl WatchShare {
    /// Adjusts the share to the bytes that the watch remembers now; fails if all watches together
    /// remember too much.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<()> {
        let wanted = bytes.div_ceil(PIECE_BYTES);
        let held = self.held.num_permits();
        if let Some(more) = wanted.checked_sub(held) {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let more = self.memory.clone().try_acquire_many_owned(more);
            self.held.merge(more.map_err(|_| Error::TooManyWatched)?);
        } else {
            drop(self.held.split(held - wanted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_share_their_memory() {
        let memory = WatchMemory::new(4 * PIECE_BYTES);
        let mut first = memory.share();
        let mut second = memory.share();
        first.resize(3 * PIECE_BYTES).unwrap();
        second.resize(1).unwrap();
        let error = second.resize(PIECE_BYTES + 1).unwrap_err();
        assert!(error.to_string().contains("`run_ids`"), "{error}");
        second.resize(PIECE_BYTES).unwrap();
        first.resize(2 * PIECE_BYTES).unwrap();
        second.resize(2 * PIECE_BYTES).unwrap();
        assert!(first.resize(3 * PIECE_BYTES).is_err());
        drop(second);
        first.resize(4 * PIECE_BYTES).unwrap();
    }
}
