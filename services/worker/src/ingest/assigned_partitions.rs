//! The partitions that this worker reads, and the progress that it reports for them.

use std::collections::BTreeMap;

use matyan_model::position::LogPosition;

use tokio::{sync::watch, time::Instant};

use super::{
    active_runs::ActiveRuns,
    log_identity::{PartitionStart, StopPoint},
    partition::Partition,
    progress::ProgressHandle,
    read_point::ReadPoint,
};

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

    /// The next partition that has to be read from another point, and that point.
    pub(super) fn seek(&mut self, runs: &mut ActiveRuns) -> Option<(u32, ReadPoint)> {
        let mut partitions = self.partitions.iter_mut();
        partitions.find_map(|(number, partition)| Some((*number, partition.seek(*number, runs)?)))
    }

    /// Time of the next call of `seek`, even if nothing else happens.
    pub(super) fn next_seek(&self, runs: &ActiveRuns) -> Option<Instant> {
        self.partitions.iter().filter_map(|(number, partition)| partition.next_seek(*number, runs)).min()
    }

    pub(super) fn insert(&mut self, number: u32, start: PartitionStart) {
        self.progress.insert(number, start.offset);
        self.partitions.insert(number, Partition::new(start));
    }

    /// Identity of the log as last described.
    pub(super) fn identity(&self) -> watch::Receiver<Option<[u8; 16]>> {
        self.progress.identity()
    }

    /// Partitions that are read as partitions of another log.
    pub(super) fn of_other_logs(&self, identity: [u8; 16]) -> Vec<u32> {
        let others = self.partitions.iter().filter(|(_, partition)| partition.identity() != identity);
        others.map(|(number, _)| *number).collect()
    }

    /// Drops a partition that is no longer readable from its position, and returns where it stopped. The
    /// position that was reported for it remains reported. `None` if the partition was not being read.
    pub(super) fn drop_unreadable(&mut self, number: u32) -> Option<StopPoint> {
        Some(self.partitions.remove(&number)?.stop(number))
    }

    /// Drops the partitions that have lost their tails and are applied up to the tails, and returns where
    /// they end.
    pub(super) fn take_ended(&mut self) -> Vec<StopPoint> {
        let ended = self.partitions.extract_if(.., |_, partition| partition.has_ended());
        ended.map(|(number, partition)| partition.stop(number)).collect()
    }

    /// Drops a partition that this worker does not read, with its reported position.
    pub(super) fn forget(&mut self, number: u32) {
        self.partitions.remove(&number);
        self.progress.forget(number);
    }

    /// Marks records as applied.
    pub(super) fn complete(&mut self, positions: &[LogPosition]) {
        for position in positions {
            if let Some(partition) = self.partitions.get_mut(&position.partition) {
                partition.complete(*position);
            }
        }
    }

    /// Reports the positions that have moved.
    pub(super) fn report(&mut self, runs: &ActiveRuns) {
        for (number, partition) in &mut self.partitions {
            if let Some(applied) = partition.applied(runs.first_left(*number)) {
                self.progress.report(*number, applied);
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
