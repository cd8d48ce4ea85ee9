//! The memory for unacknowledged batches of all streams and calls. A batch takes a share by the
//! size that it is expected to have as records; the share is corrected once that is known.

use std::sync::Arc;

use matyan_wire::ingestion::RecordFormat;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{envelope, settings::Settings};

/// Clones share their state.
#[derive(Clone)]
pub(crate) struct MemoryBudget {
    /// Remaining bytes.
    permits: Arc<Semaphore>,
    total: usize,
    format: RecordFormat,
}

impl MemoryBudget {
    pub(crate) fn new(settings: &Settings) -> Self {
        let permits = Arc::new(Semaphore::new(settings.total_bytes));
        Self { permits, total: settings.total_bytes, format: settings.format }
    }

    /// Takes a batch's share if it is available without waiting.
    pub(crate) fn try_share(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_many_owned(self.expected_bytes(bytes)).ok()
    }

    /// Waits for a batch's share.
    pub(crate) async fn share(&self, bytes: usize) -> OwnedSemaphorePermit {
        let share = self.permits.clone().acquire_many_owned(self.expected_bytes(bytes));
        share.await.expect("the budget is never closed")
    }

    /// The estimated share of a batch. For a format that grows, at most a quarter of the budget
    /// is reserved in advance, so that a batch never waits for all others.
    fn expected_bytes(&self, bytes: usize) -> u32 {
        let grown = match self.format {
            RecordFormat::Protobuf => bytes,
            RecordFormat::Json => bytes.saturating_mul(envelope::GROWTH).min(self.total / 4).max(bytes),
        };
        grown.min(self.total) as u32
    }

    /// Adjusts a share to the actual size: returns the excess, or takes as much more as is
    /// available.
    pub(crate) fn resize_share(&self, share: &mut OwnedSemaphorePermit, held_bytes: usize) {
        let has = share.num_permits();
        if let Some(more) = held_bytes.checked_sub(has) {
            let most = more.min(self.permits.available_permits()) as u32;
            if let Ok(more) = self.permits.clone().try_acquire_many_owned(most) {
                share.merge(more);
            }
        } else {
            drop(share.split(has - held_bytes));
        }
    }
}
