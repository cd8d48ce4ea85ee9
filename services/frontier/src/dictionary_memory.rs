//! The memory for the definitions of series that streams keep: definitions of earlier streams until the next
//! record repeats them, and all definitions if records are JSON envelopes. All streams share the memory, except
//! that a little of each stream is not counted. A stream that needs more memory than is left ends before the
//! batch is appended, and its client retries.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Memory of the definitions of a stream that is not counted.
const SMALL_BYTES: usize = 64 << 10;

/// Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct DictionaryMemory {
    left: Arc<Semaphore>,
    total: usize,
}

impl DictionaryMemory {
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { left: Arc::new(Semaphore::new(total)), total }
    }

    /// The share of a new stream, which is empty.
    pub(crate) fn share(&self) -> DictionaryShare {
        DictionaryShare { memory: self.clone(), held: None }
    }
}

/// The memory of the definitions of one stream.
#[derive(Debug)]
pub(crate) struct DictionaryShare {
    memory: DictionaryMemory,
    held: Option<OwnedSemaphorePermit>,
}

impl DictionaryShare {
    /// Changes the share to this size.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes.saturating_sub(SMALL_BYTES);
        if bytes > self.memory.total {
            return Err(Error::DictionaryTooLarge { limit: self.memory.total });
        }
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes == held {
            return Ok(());
        }
        if let Some(more) = bytes.checked_sub(held) {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let taken = self.memory.left.clone().try_acquire_many_owned(more);
            let taken = taken.map_err(|_| Error::DictionariesFull)?;
            match &mut self.held {
                Some(held) => held.merge(taken),
                None => self.held = Some(taken),
            }
        } else if let Some(permits) = &mut self.held {
            drop(permits.split(held - bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_all_streams_share_the_memory_except_for_small_ones() {
        let memory = DictionaryMemory::new(1_000);
        let mut first = memory.share();
        let mut second = memory.share();
        first.resize(SMALL_BYTES + 600).unwrap();
        second.resize(SMALL_BYTES + 400).unwrap();
        assert!(matches!(second.resize(SMALL_BYTES + 401), Err(Error::DictionariesFull)));
        assert!(matches!(
            second.resize(SMALL_BYTES + 1_001),
            Err(Error::DictionaryTooLarge { limit: 1_000 })
        ));
        memory.share().resize(SMALL_BYTES).unwrap();
        first.resize(SMALL_BYTES + 599).unwrap();
        second.resize(SMALL_BYTES + 401).unwrap();
        first.resize(0).unwrap();
        drop(second);
        assert_eq!(memory.left.available_permits(), 1_000);
    }
}
