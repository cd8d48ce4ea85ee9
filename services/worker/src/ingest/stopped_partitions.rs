//! The partitions that wait for an operator, for the health check of their process.

use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Clone, Debug, Default)]
pub struct StoppedPartitions(Arc<Mutex<Vec<u32>>>);

impl StoppedPartitions {
    pub(super) fn set(&self, partitions: Vec<u32>) {
        *self.0.lock() = partitions;
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Says what to do, if any partition waits.
    pub fn problem(&self) -> Option<String> {
        let partitions = self.0.lock();
        let first = partitions.first()?;
        let list: Vec<_> = partitions.iter().map(u32::to_string).collect();
        Some(format!(
            "stopped at records that the log no longer has, in partition {}: `matyan partitions ls` shows them; \
             restore a backup that has them, or give them up with `matyan partitions skip {first}`",
            list.join(", ")
        ))
    }
}
