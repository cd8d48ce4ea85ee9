//! Applies the entries of runs concurrently. Entries that queue up for a run while its writer is
//! busy are applied together in the next turn.

use std::sync::Arc;

use matyan_model::position::LogPosition;
use prometheus::Histogram;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    IngestSettings,
    active_runs::{ActiveRuns, Turn},
};
use crate::{
    apply::{ApplyOutcome, DeadLetterQueue, DeadLetterTask, PayloadUploads, RunKey, RunWriter},
    deps::Deps,
    error::Error,
    fold::FoldNotices,
    metrics::{Metrics, TransactionMetrics},
    record::Entry,
};

pub(super) struct WriterPool {
    runs: ActiveRuns,
    turns: JoinSet<TurnResult>,
    /// Bytes of entries that are taken and not yet applied.
    window: usize,
    deps: Deps,
    folds: FoldNotices,
    dead_letters: DeadLetterQueue,
    dead_letter_task: DeadLetterTask,
    uploads: Arc<PayloadUploads>,
    stop: CancellationToken,
    transaction_metrics: TransactionMetrics,
    turn_seconds: Histogram,
}

/// Result of one turn of a writer.
struct TurnResult {
    key: RunKey,
    writer: RunWriter,
    bytes: usize,
    applied: AppliedTurn,
}

/// Entries that a writer has applied in one turn.
pub(super) struct AppliedTurn {
    pub(super) positions: Vec<LogPosition>,
    pub(super) outcome: ApplyOutcome,
}

impl WriterPool {
    pub(super) fn new(deps: Deps, folds: FoldNotices, settings: &IngestSettings, metrics: &Metrics) -> Self {
        let dropped = metrics.ingestion.dead_letters_dropped.clone();
        let (dead_letters, dead_letter_task) = DeadLetterQueue::start(deps.log_writer.clone(), dropped);
        Self {
            runs: ActiveRuns::new(settings.idle_bytes),
            turns: JoinSet::new(),
            window: 0,
            deps,
            folds,
            dead_letters,
            dead_letter_task,
            uploads: Arc::new(PayloadUploads::new(settings.max_pending_bytes)),
            stop: CancellationToken::new(),
            transaction_metrics: metrics.transactions.clone(),
            turn_seconds: metrics.ingestion.turn_seconds.clone(),
        }
    }

    /// Bytes of entries that are taken and not yet applied.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Queues an entry. Returns whether its run was idle, and thus needs a `dispatch`.
    pub(super) fn push(&mut self, key: &RunKey, entry: Entry) -> bool {
        self.window += entry.bytes;
        let writer = || {
            let (dead_letters, uploads) = (self.dead_letters.clone(), self.uploads.clone());
            let metrics = self.transaction_metrics.clone();
            RunWriter::new(self.deps.clone(), key.clone(), dead_letters, uploads, metrics)
        };
        self.runs.push(key, entry, writer)
    }

    /// Drops the queued entries of a partition.
    pub(super) fn drop_partition(&mut self, number: u32) {
        self.window -= self.runs.drop_partition(number);
    }

    /// Starts a turn of the run's writer with the queued entries, if it is idle.
    pub(super) fn dispatch(&mut self, key: RunKey) {
        let Some(Turn { mut writer, entries, bytes }) = self.runs.take_turn(&key) else { return };
        let positions = entries.iter().map(|entry: &Entry| entry.position).collect();
        let stop = self.stop.clone();
        let folds = self.folds.clone();
        let seconds = self.turn_seconds.clone();
        self.turns.spawn(async move {
            // Wait in the task, so that a slow fold does not block the loop.
            let room = folds.reserve(bytes).await;
            let _timer = seconds.start_timer();
            let mut outcome = writer.apply(entries, &stop).await;
            folds.send(&key, std::mem::take(&mut outcome.blocks), room);
            TurnResult { key, writer, bytes, applied: AppliedTurn { positions, outcome } }
        });
    }

    /// Returns the next finished turn, and starts the next one of its run; `None` if no writer
    /// is busy. Cancel-safe.
    pub(super) async fn next_turn(&mut self) -> Option<Result<AppliedTurn, Error>> {
        let turn = self.turns.join_next().await?;
        Some(self.finish_turn(turn))
    }

    fn finish_turn(&mut self, turn: Result<TurnResult, JoinError>) -> Result<AppliedTurn, Error> {
        let TurnResult { key, writer, bytes, applied } =
            turn.map_err(|error| Error::Writer(error.to_string()))?;
        self.window -= bytes;
        self.runs.put_back(&key, writer);
        // A turn is incomplete only while stopping. Its records are redelivered after the
        // restart.
        if applied.outcome.is_complete {
            self.dispatch(key);
        }
        self.runs.trim();
        Ok(applied)
    }

    /// Makes writers stop after their current transactions.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the copies of dead letters. All turns must have ended.
    pub(super) async fn finish(self) {
        // Dropping the last handles of the dead letters ends their task.
        drop((self.runs, self.dead_letters));
        self.dead_letter_task.finish().await;
    }
}
