//! Partitions whose start is being found, each in a task of its own: that of a partition whose leader is
//! lost may take long, and neither others nor the records of started partitions wait for it.

use std::{collections::BTreeMap, time::Duration};

use matyan_model::{keys::LogTopic, position::applied_wait};
use tokio_util::task::JoinMap;

use super::log_identity::{self, PartitionStart, StopPoint};
use crate::{deps::Deps, error::Error};

pub(super) struct PartitionStarts {
    deps: Deps,
    attempts: BTreeMap<u32, StartAttempt>,
    tasks: JoinMap<u32, Result<PartitionStart, Error>>,
}

/// Facts about a partition that is started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartAttempt {
    /// Offset at which the log has lost its tail, if that was noticed while reading.
    pub(super) lost_tail: Option<u64>,
    /// Offset at which the last attempt has failed because its record was deleted.
    pub(super) trimmed_at: Option<u64>,
    /// Where the partition stopped because it has lost records. It starts once an operator has moved its
    /// position.
    pub(super) stopped_at: Option<StopPoint>,
}

/// A partition of which the start was found, or not.
pub(super) struct FoundStart {
    pub(super) partition: u32,
    pub(super) attempt: StartAttempt,
    pub(super) start: Result<PartitionStart, Error>,
}

/// Wait before another attempt.
const WAIT: Duration = Duration::from_millis(500);

impl PartitionStarts {
    pub(super) fn new(deps: Deps) -> Self {
        Self { deps, attempts: BTreeMap::new(), tasks: JoinMap::new() }
    }

    pub(super) fn begin(&mut self, partition: u32, attempt: StartAttempt) {
        self.begin_after(Duration::ZERO, partition, attempt);
    }

    /// Begins again, after a wait.
    pub(super) fn retry(&mut self, partition: u32, attempt: StartAttempt) {
        self.begin_after(WAIT, partition, attempt);
    }

    /// Begins once an operator has continued a partition that has lost records and stopped here.
    pub(super) fn begin_when_continued(&mut self, stopped_at: StopPoint) {
        let attempt = StartAttempt { stopped_at: Some(stopped_at), ..StartAttempt::default() };
        self.begin(stopped_at.position.partition, attempt);
    }

    /// Begins those again that have stopped in another log: this one has not lost anything.
    pub(super) fn begin_those_of_other_logs(&mut self, identity: [u8; 16]) {
        let is_of_other =
            |attempt: &StartAttempt| attempt.stopped_at.is_some_and(|at| at.identity != identity);
        let others = self.attempts.iter().filter(|(_, attempt)| is_of_other(attempt));
        for partition in others.map(|(partition, _)| *partition).collect::<Vec<_>>() {
            tracing::warn!(partition, "log was recreated; starting the stopped partition");
            self.begin(partition, StartAttempt::default());
        }
    }

    fn begin_after(&mut self, wait: Duration, partition: u32, attempt: StartAttempt) {
        let deps = self.deps.clone();
        self.attempts.insert(partition, attempt);
        self.tasks.spawn(partition, async move {
            tokio::time::sleep(wait).await;
            if let Some(stopped_at) = attempt.stopped_at {
                applied_wait(&*deps.store, LogTopic::Ingestion, stopped_at.position).await?;
            }
            log_identity::begin(&deps, partition, attempt.lost_tail).await
        });
    }

    /// Drops a partition that was reassigned to another worker.
    pub(super) fn forget(&mut self, partition: u32) {
        self.attempts.remove(&partition);
        self.tasks.abort(&partition);
    }

    /// Number of partitions that wait for an operator.
    pub(super) fn stopped(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.stopped_at.is_some()).count()
    }

    /// Whether any start is being found. Partitions that wait for an operator do not count.
    pub(super) fn is_finding(&self) -> bool {
        self.attempts.len() > self.stopped()
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
                return Some(FoundStart { partition, attempt, start });
            }
        }
    }
}
