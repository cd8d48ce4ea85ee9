//! Partitions whose start is being found, each in its own task: a partition whose leader is lost may
//! take long, and neither other partitions nor records of started partitions wait for it.

use std::{collections::BTreeMap, time::Duration};

use matyan_model::{keys::LogTopic, position::applied_wait};
use tokio_util::task::JoinMap;

use super::{
    log_identity::{self, PartitionStart, StopPoint},
    progress::WrittenPositions,
    stopped_partitions::StoppedPartitions,
};
use crate::{deps::Deps, error::Error};

pub(super) struct PartitionStarts {
    deps: Deps,
    written: WrittenPositions,
    attempts: BTreeMap<u32, StartAttempt>,
    tasks: JoinMap<u32, Result<PartitionStart, Error>>,
    stopped: StoppedPartitions,
}

/// Facts about a partition that is started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartAttempt {
    /// Offset at which the log has lost its tail, if that was noticed while reading.
    pub(super) lost_tail: Option<u64>,
    /// Offset at which the last attempt has failed because its record was deleted.
    pub(super) trimmed_at: Option<u64>,
    /// Where the partition stopped because the log lost records, applied or not. It starts once an operator has moved
    /// its position.
    pub(super) stopped_at: Option<StopPoint>,
}

/// A partition and its start, or the reason why the start was not found.
pub(super) struct FoundStart {
    pub(super) partition: u32,
    pub(super) attempt: StartAttempt,
    pub(super) start: Result<PartitionStart, Error>,
}

/// Wait before another attempt.
const WAIT: Duration = Duration::from_millis(500);

impl PartitionStarts {
    pub(super) fn new(deps: Deps, written: WrittenPositions) -> Self {
        let stopped = StoppedPartitions::default();
        Self { deps, written, attempts: BTreeMap::new(), tasks: JoinMap::new(), stopped }
    }

    /// Finds the start of a partition, which `next` then returns.
    pub(super) fn find(&mut self, partition: u32, attempt: StartAttempt) {
        self.find_after(Duration::ZERO, partition, attempt);
    }

    /// Finds the start of a partition after a wait.
    pub(super) fn retry(&mut self, partition: u32, attempt: StartAttempt) {
        self.find_after(WAIT, partition, attempt);
    }

    /// Finds the start of a partition that has stopped here, once an operator or a restore has moved its
    /// position.
    pub(super) fn find_when_continued(&mut self, stopped_at: StopPoint) {
        let attempt = StartAttempt { stopped_at: Some(stopped_at), ..StartAttempt::default() };
        self.find(stopped_at.position.partition, attempt);
    }

    /// Finds the starts of the partitions that have stopped in another log: this log has not lost anything.
    pub(super) fn restart_stopped_in_other_logs(&mut self, identity: [u8; 16]) {
        let mut others = Vec::new();
        for (partition, attempt) in &self.attempts {
            if attempt.stopped_at.is_some_and(|at| at.identity != identity) {
                others.push(*partition);
            }
        }
        for partition in others {
            tracing::warn!(partition, "log was recreated; starting the stopped partition");
            self.find(partition, StartAttempt::default());
        }
    }

    fn find_after(&mut self, wait: Duration, partition: u32, attempt: StartAttempt) {
        let deps = self.deps.clone();
        let written = self.written.clone();
        self.attempts.insert(partition, attempt);
        self.publish_stopped();
        self.tasks.spawn(partition, async move {
            tokio::time::sleep(wait).await;
            // The start is decided by the position that this worker itself may have reported before.
            written.wait(partition).await;
            if let Some(stopped_at) = attempt.stopped_at {
                applied_wait(&*deps.store, LogTopic::Ingestion, stopped_at.position).await?;
            }
            log_identity::decide_start(&deps, partition, attempt.lost_tail).await
        });
    }

    /// Drops a partition that was reassigned to another worker.
    pub(super) fn forget(&mut self, partition: u32) {
        self.attempts.remove(&partition);
        self.publish_stopped();
        self.tasks.abort(&partition);
    }

    fn publish_stopped(&self) {
        let stopped = self.attempts.iter().filter(|(_, attempt)| attempt.stopped_at.is_some());
        self.stopped.set(stopped.map(|(partition, _)| *partition).collect());
    }

    /// The partitions that wait for an operator.
    pub(super) fn stopped(&self) -> &StoppedPartitions {
        &self.stopped
    }

    /// Whether any start is being found. Partitions that wait for an operator do not count.
    pub(super) fn is_finding(&self) -> bool {
        self.attempts.len() > self.stopped.count()
    }

    /// Waits for the next partition. `None` if there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<FoundStart> {
        loop {
            let (partition, found) = self.tasks.join_next().await?;
            let start = match found {
                Ok(start) => start,
                Err(failure) if failure.is_cancelled() => continue,
                Err(failure) => std::panic::resume_unwind(failure.into_panic()),
            };
            // A task that was aborted may have been done already.
            if let Some(attempt) = self.attempts.remove(&partition) {
                self.publish_stopped();
                return Some(FoundStart { partition, attempt, start });
            }
        }
    }
}
