//! Applies the entries of runs concurrently. Entries that queue up for a run while its writer is
//! busy are applied together in the next turn.
//!
//! In a store on other machines, a run rests between turns if nobody waits for new data of its project: entries that
//! arrive during the rest are applied together. The first entry after a rest is applied at once.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use matyan_model::position::LogPosition;
use prometheus::Histogram;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    IngestSettings,
    active_runs::{ActiveRuns, Admission, Turn},
    fresh_turns::{FreshTurns, TurnStart},
    read_point::ReadRecord,
    sleep_until_any,
    watched_readers::WatchedReaders,
};
use crate::{
    apply::{
        ApplyOutcome, Backlogs, DeadLetterQueue, DeadLetterTask, PayloadUploads, RunKey, RunWriter,
        TransactionSlots, WriterContext,
    },
    deps::Deps,
    error::Error,
    fold::FoldNotices,
    metrics::Metrics,
    record::Entry,
};

/// Time between the starts of two turns of a run that nobody reads. Clients send every ten milliseconds; each
/// transaction costs a cluster about a kilobyte besides the points, at the same few places of a project.
const REST: Duration = Duration::from_millis(50);

pub(super) struct WriterPool {
    runs: ActiveRuns,
    /// Runs that rest although they have entries, by the ends of their rests.
    resting: BTreeSet<(Instant, RunKey)>,
    rest: Duration,
    /// `None` in the embedded store, where transactions need no network.
    readers: Option<WatchedReaders>,
    turns: JoinSet<TurnResult>,
    fresh: FreshTurns,
    /// Runs whose turns begin when others have ended.
    waiting: VecDeque<RunKey>,
    deps: Deps,
    folds: FoldNotices,
    context: Arc<WriterContext>,
    dead_letter_task: DeadLetterTask,
    stop: CancellationToken,
    turn_seconds: Histogram,
}

/// Result of one turn of a writer.
struct TurnResult {
    key: RunKey,
    start: TurnStart,
    writer: Box<RunWriter>,
    /// Bytes of the entries that were applied.
    bytes: usize,
    /// Whether parked records of the run are left to be applied.
    is_paused: bool,
    left: Vec<Entry>,
    applied: AppliedTurn,
}

/// Entries that a writer has applied in one turn.
pub(super) struct AppliedTurn {
    pub(super) positions: Vec<LogPosition>,
    pub(super) outcome: ApplyOutcome,
}

impl WriterPool {
    pub(super) fn new(
        deps: Deps,
        folds: FoldNotices,
        backlogs: Backlogs,
        settings: &IngestSettings,
        metrics: &Metrics,
    ) -> Self {
        let dropped = metrics.ingestion.dead_letters_dropped.clone();
        let (dead_letters, dead_letter_task) = DeadLetterQueue::start(deps.log_writer.clone(), dropped);
        let context = WriterContext {
            dead_letters,
            uploads: Arc::new(PayloadUploads::new(settings.max_pending_bytes)),
            slots: TransactionSlots::default(),
            backlogs,
            large_quarantine: settings.large_quarantine_bytes,
            commits: Arc::default(),
            metrics: metrics.transactions.clone(),
        };
        Self {
            runs: ActiveRuns::new(settings.window_bytes, settings.writer_cache_bytes),
            resting: BTreeSet::new(),
            rest: REST,
            readers: deps.store.is_remote().then(|| WatchedReaders::new(deps.clone())),
            turns: JoinSet::new(),
            fresh: FreshTurns::default(),
            waiting: VecDeque::new(),
            deps,
            folds,
            context: Arc::new(context),
            dead_letter_task,
            stop: CancellationToken::new(),
            turn_seconds: metrics.ingestion.turn_seconds.clone(),
        }
    }

    /// The runs and their queues.
    pub(super) fn runs(&mut self) -> &mut ActiveRuns {
        &mut self.runs
    }

    /// Queues an entry if its run has room.
    pub(super) fn offer(&mut self, key: &RunKey, entry: Entry, read: &ReadRecord) -> Admission {
        if !self.runs.has(key) {
            if !read.is_new {
                return Admission::Repeated;
            }
            self.runs.insert(key.clone(), self.writer(key));
        }
        self.runs.offer(key, entry, read)
    }

    fn writer(&self, key: &RunKey) -> RunWriter {
        RunWriter::new(self.deps.clone(), key.clone(), Arc::clone(&self.context))
    }

    /// Applies the parked records of a run whose quarantine is ending.
    pub(super) fn resume(&mut self, key: RunKey) {
        if !self.runs.has(&key) {
            self.runs.insert(key.clone(), self.writer(&key));
        }
        self.runs.wake(&key);
        self.dispatch(key);
    }

    /// Starts a turn of a run, once the run need not rest and few other turns have just begun. Does nothing if the
    /// run has nothing to apply, or if its writer is in use.
    pub(super) fn dispatch(&mut self, key: RunKey) {
        if !self.runs.can_begin_turn(&key) {
            return;
        }
        if let Some(until) = self.end_of_rest(&key) {
            self.resting.insert((until, key));
            return;
        }
        self.waiting.push_back(key);
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while !self.waiting.is_empty()
            && !self.fresh.is_full()
            && let Some(key) = self.waiting.pop_front()
        {
            self.start_turn(key);
        }
    }

    /// Starts a turn of the run's writer with the queued entries, if it is idle.
    fn start_turn(&mut self, key: RunKey) {
        let Some(Turn { mut writer, entries, bytes, blocks }) = self.runs.take_turn(&key) else { return };
        let mut positions: Vec<_> = entries.iter().map(|entry: &Entry| entry.position).collect();
        let stop = self.stop.clone();
        let folds = self.folds.clone();
        let seconds = self.turn_seconds.clone();
        let start = self.fresh.begin();
        self.turns.spawn(async move {
            // Wait in the task, so that a slow fold does not block the loop.
            folds.wait_for_room(&blocks).await;
            let _timer = seconds.start_timer();
            let mut outcome = writer.apply(entries, &stop).await;
            folds.send(&key, std::mem::take(&mut outcome.blocks), &blocks);
            let left = std::mem::take(&mut outcome.left);
            positions.truncate(positions.len() - left.len());
            let bytes = bytes - left.iter().map(|entry| entry.bytes).sum::<usize>();
            let is_paused = outcome.is_paused;
            let applied = AppliedTurn { positions, outcome };
            TurnResult { key, start, writer, bytes, is_paused, left, applied }
        });
    }

    /// When the rest of a run ends, if the run rests now.
    fn end_of_rest(&mut self, key: &RunKey) -> Option<Instant> {
        let readers = self.readers.as_mut()?;
        let until = self.runs.may_rest(key)? + self.rest;
        let rests = until > Instant::now() && !self.stop.is_cancelled() && !readers.may_have(key.project);
        rests.then_some(until)
    }

    /// Starts the turns of runs that have rested.
    fn dispatch_rested(&mut self) {
        let now = Instant::now();
        while self.resting.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, key)) = self.resting.pop_first()
        {
            self.dispatch(key);
        }
    }

    /// Starts the turns of runs that need not rest any more, because there are readers.
    fn dispatch_read(&mut self) {
        for (_, key) in std::mem::take(&mut self.resting) {
            self.dispatch(key);
        }
    }

    /// Returns the next finished turn, and starts the next one of its run; `None` if no writer
    /// is busy and no run rests. Cancel-safe.
    pub(super) async fn next_turn(&mut self) -> Option<Result<AppliedTurn, Error>> {
        loop {
            self.dispatch_rested();
            self.start_waiting();
            let rested_at = self.resting.first().map(|(until, _)| *until);
            if self.turns.is_empty() && rested_at.is_none() {
                return None;
            }
            let readers = self.readers.as_ref().filter(|_| rested_at.is_some());
            let room_at = self.fresh.next_room().filter(|_| !self.waiting.is_empty());
            let next_start = rested_at.into_iter().chain(room_at).min();
            tokio::select! {
                biased;
                Some(turn) = self.turns.join_next() => return Some(self.finish_turn(turn)),
                () = readers_changed(readers) => self.dispatch_read(),
                () = sleep_until_any(next_start) => {}
            }
        }
    }

    fn finish_turn(&mut self, turn: Result<TurnResult, JoinError>) -> Result<AppliedTurn, Error> {
        let TurnResult { key, start, writer, bytes, is_paused, left, applied } =
            turn.map_err(|error| Error::Writer(error.to_string()))?;
        self.fresh.end(start);
        if is_paused {
            self.runs.wake(&key);
        }
        self.runs.put_back(&key, writer, bytes, left);
        // A turn is incomplete only while stopping. Its records are redelivered after the
        // restart.
        if applied.outcome.is_complete {
            self.dispatch(key);
        }
        self.start_waiting();
        self.runs.trim();
        Ok(applied)
    }

    /// Makes writers stop after their current transactions.
    pub(super) fn stop(&mut self) {
        self.stop.cancel();
        // Their records are redelivered after the restart.
        self.resting.clear();
        self.waiting.clear();
    }

    /// Waits for the copies of dead letters. All turns must have ended.
    pub(super) async fn finish(self) {
        // Dropping the last handles of the dead letters ends their task.
        drop((self.runs, self.context));
        self.dead_letter_task.finish().await;
    }
}

/// Never returns if no readers are watched.
async fn readers_changed(readers: Option<&WatchedReaders>) {
    match readers {
        Some(readers) => readers.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
