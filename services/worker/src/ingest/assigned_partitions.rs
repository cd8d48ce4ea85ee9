//! The partitions that this worker reads, and the progress that it reports for them.

use std::collections::BTreeMap;

use matyan_model::position::LogPosition;

use super::{log_identity::PartitionStart, partition::Partition, progress::ProgressHandle};

pub(super) struct AssignedPartitions {
    partitions: BTreeMap<u32, Partition>,
    progress: ProgressHandle,
}

impl AssignedPartitions {
    pub(super) fn new(progress: ProgressHandle) -> Self {
        Self { partitions: BTreeMap::new(), progress }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Partition> {
        self.partitions.get_mut(&number)
    }

    pub(super) fn begin(&mut self, number: u32, start: PartitionStart) {
        self.progress.begin(number, start.offset);
        self.partitions.insert(number, Partition::new(start));
    }

    /// Drops a partition that is no longer readable from its position, and returns whether it
    /// was being read. What was reported for it remains reported.
    pub(super) fn drop_unreadable(&mut self, number: u32) -> bool {
        self.partitions.remove(&number).is_some()
    }

    /// Drops a partition that was reassigned to another worker.
    pub(super) fn revoke(&mut self, number: u32) {
        self.partitions.remove(&number);
        self.progress.forget(number);
    }

    /// Marks records as applied, and reports the progress.
    pub(super) fn complete(&mut self, positions: &[LogPosition]) {
        for position in positions {
            if let Some(partition) = self.partitions.get_mut(&position.partition)
                && let Some(applied) = partition.complete(*position)
            {
                self.progress.report(position.partition, applied);
            }
        }
    }

    /// Append time of the oldest record that was taken but not yet applied.
    pub(super) fn oldest_unapplied_us(&self) -> Option<i64> {
        self.partitions.values().filter_map(Partition::oldest_unapplied_us).min()
    }

    /// Writes and syncs the last reported progress.
    pub(super) async fn finish(self) {
        self.progress.finish().await;
    }
}
