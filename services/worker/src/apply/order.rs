//! The order of applying: how entries of the log, or parked records, become transactions of their run.
//!
//! 1. Decode entries, only as far ahead as the next transactions need (`steps/decode`).
//! 2. Load the state of the run, unless it is cached (`run_state`).
//! 3. Store the payloads that are too large for a row (`steps/payloads`).
//! 4. If the next item creates a branch, wait until its parent is applied (`steps/branch`).
//! 5. If the next item edits a series, fold the series and remove most of the steps (`steps/edits`).
//! 6. Start a transaction, and take items until it is full (`steps/attempt`): the events of a record
//!    (`steps/events`), then its points (`steps/points`). An item that can never be applied is parked
//!    (`failure/park`).
//! 7. Commit. If nothing else has written the run, the cached state is valid for the next transaction.
//!
//! Steps 3 to 5 are slow, so they precede the snapshot of the transaction, which expires after five seconds.
//!
//! If a step fails, the failure decides what is next:
//!
//! - After a conflict, the state is loaded again: another process has written the run.
//! - After an error of the store, the step is repeated after a wait.
//! - After a failure that waiting cannot fix, fewer items are tried, down to the one that fails alone, which
//!   is parked (`failure/isolate`).
//! - If a row of the run is damaged, or an item outlasts every snapshot, the run is put in quarantine: its
//!   records are parked whole (`failure/quarantine`), until an operator ends the quarantine and the parked
//!   records are applied (`failure/replay`).

use std::{sync::atomic::Ordering, time::Duration};

use matyan_store::Commit;
use tokio_util::sync::CancellationToken;

use super::{
    apply_failure::ApplyFailure,
    failure::{
        isolate::{AttemptMode, SlowAttempts, catch_panic, isolate_damage},
        quarantine::{QuarantineOutcome, quarantine_reason},
        replay::ReplayPage,
    },
    outcome::{ApplyEnd, ApplyOutcome},
    run_state::RunState,
    steps::{
        attempt::{BuiltTransaction, build, commit_spans},
        branch,
        decode::DecodeQueue,
        edits,
        payload_store::PayloadStore,
        payloads::payloads_move,
    },
    writer::RunWriter,
};
use crate::{metrics::TransactionError, record::Entry};

/// Bounds on the wait between attempts while the store is unavailable. It doubles
/// from the minimum to the maximum.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The next step of a pass.
enum Step {
    /// Decode records, load the run, and do the slow work that precedes a transaction.
    Prepare,
    /// Apply the prepared records in a transaction.
    Attempt,
    /// Park the records, because the run is in quarantine.
    ParkWhole,
    /// Apply a page of the parked records, because the quarantine of the run is ending.
    Replay,
    /// Drop the records that are done, this many, and try more items next time.
    Done(usize),
    /// Decide what to do after a failure.
    Fail(ApplyFailure),
    /// Discard the state of the run, because another process has written it.
    Reload,
    /// Put the run in quarantine for this reason.
    Quarantine(String),
    /// Wait longer than before the last attempt.
    BackOff,
    End(ApplyEnd),
}

impl From<Result<usize, ApplyFailure>> for Step {
    fn from(result: Result<usize, ApplyFailure>) -> Self {
        match result {
            Ok(done) => Self::Done(done),
            Err(failure) => Self::Fail(failure),
        }
    }
}

/// The application of records in order, one transaction after another.
struct Pass<'w> {
    writer: &'w mut RunWriter,
    queue: DecodeQueue,
    /// Whether the records were parked while the run was in quarantine.
    is_replay: bool,
    stop: &'w CancellationToken,
    applied: &'w mut ApplyOutcome,
    /// Whether a transaction was committed, or was not necessary.
    has_succeeded: bool,
    mode: AttemptMode,
    slow_attempts: SlowAttempts,
    /// Time of the next wait.
    wait: Duration,
}

impl RunWriter {
    /// Applies entries in order; without entries, it only looks whether a quarantine is ending. Returns
    /// early only when it is stopped, between two transactions or during a wait, or after it has
    /// applied parked records.
    pub(crate) async fn apply(&mut self, entries: Vec<Entry>, stop: &CancellationToken) -> ApplyOutcome {
        let mut applied = ApplyOutcome::default();
        let mut pass = Pass::new(self, entries, false, stop, &mut applied);
        let end = pass.run().await;
        let left = pass.queue.into_entries();
        applied.is_complete = end != ApplyEnd::Stopped;
        applied.is_paused = end == ApplyEnd::Paused;
        applied.left = left;
        applied
    }
}

impl<'w> Pass<'w> {
    fn new(
        writer: &'w mut RunWriter,
        entries: Vec<Entry>,
        is_replay: bool,
        stop: &'w CancellationToken,
        applied: &'w mut ApplyOutcome,
    ) -> Self {
        Self {
            writer,
            queue: DecodeQueue::new(entries),
            is_replay,
            stop,
            applied,
            has_succeeded: false,
            mode: AttemptMode::UNLIMITED,
            slow_attempts: SlowAttempts::default(),
            wait: FIRST_WAIT,
        }
    }

    async fn run(&mut self) -> ApplyEnd {
        let mut step = Step::Prepare;
        loop {
            step = match step {
                Step::Prepare => self.prepare().await,
                Step::Attempt => self.attempt().await.into(),
                Step::ParkWhole => self.park_whole().await,
                Step::Replay => self.replay().await,
                Step::Done(records) => self.done(records),
                Step::Fail(failure) => self.fail(failure).await,
                Step::Reload => self.reload(),
                Step::Quarantine(reason) => self.quarantine(&reason).await,
                Step::BackOff => self.back_off().await,
                Step::End(end) => return end,
            };
        }
    }

    async fn prepare(&mut self) -> Step {
        self.queue.decode_ahead().await;
        let is_empty = self.queue.records().is_empty();
        if is_empty && self.has_succeeded {
            return Step::End(ApplyEnd::Complete);
        }
        let stop = self.stop;
        match stop.run_until_cancelled(self.precede_transaction()).await {
            None => return Step::End(ApplyEnd::Stopped),
            Some(Err(failure)) => return Step::Fail(failure),
            Some(Ok(())) => {}
        }
        if self.is_quarantined() {
            Step::ParkWhole
        } else if self.is_replay && !self.is_replay_wanted() {
            // An operator has put the run back in quarantine.
            Step::End(ApplyEnd::Quarantined)
        } else if is_empty {
            Step::Done(0)
        } else {
            Step::Attempt
        }
    }

    /// Loads the state of the run, and does the slow work before the snapshot of a transaction starts to age.
    async fn precede_transaction(&mut self) -> Result<(), ApplyFailure> {
        let RunWriter { deps, run, context, state, .. } = &mut *self.writer;
        let state = match state {
            Some(state) => &*state,
            empty => {
                let snapshot = deps.store.snapshot().await?;
                empty.insert(RunState::load(&*snapshot, run, self.is_replay).await?)
            }
        };
        let records = self.queue.records();
        let mode = &self.mode;
        let payloads = PayloadStore {
            deps,
            run,
            uploads: &context.uploads,
            metrics: &context.metrics,
            cursor: state.cursor.row(),
        };
        catch_panic(async {
            payloads_move(payloads, state, records, mode).await?;
            // Boxed, because they are large, and rare.
            Box::pin(branch::prepare(deps, &context.backlogs, run, state, records)).await?;
            Box::pin(edits::prepare(deps, run, state, records, mode)).await
        })
        .await
    }

    /// Runs one transaction and returns how many records it completed. The state is kept
    /// only after a commit.
    async fn attempt(&mut self) -> Result<usize, ApplyFailure> {
        let RunWriter { deps, run, context, state: kept, .. } = &mut *self.writer;
        let _slot = context.slots.take().await;
        let mut state = kept.take().expect("`prepare` has loaded the state");
        let records = &*self.queue.records();
        // Boxed, because its state would make every future around it large. After a panic, the possibly
        // half-changed state is dropped.
        let built = Box::pin(build(deps, run, &mut state, records, self.mode.clone()));
        let BuiltTransaction { done, batch, outcome } = catch_panic(built).await?;
        if !batch.mutations.is_empty() {
            let _commit_spans = commit_spans(&records[..done.max(1)]);
            match deps.store.commit(batch).await? {
                Commit::Done { .. } => {}
                Commit::Conflict => return Err(ApplyFailure::Conflict),
            }
        }
        *kept = Some(state);
        context.dead_letters.copy(run, &outcome.parked);
        context.metrics.committed(&outcome.applied, outcome.bytes);
        self.applied.blocks.extend(outcome.blocks);
        self.applied.items += outcome.applied.iter().sum::<u64>();
        self.applied.skipped_records += outcome.skipped_records;
        self.applied.parked += outcome.parked.len() as u64;
        Ok(done)
    }

    async fn park_whole(&mut self) -> Step {
        let mut state = self.writer.state.take();
        let parked =
            self.writer.quarantined().park_or_delete(&mut state, self.queue.records(), self.applied).await;
        self.writer.state = state;
        match parked {
            Ok(QuarantineOutcome::Done(records)) => Step::Done(records),
            Ok(QuarantineOutcome::Ending) => Step::Replay,
            Err(failure) => Step::Fail(failure),
        }
    }

    async fn replay(&mut self) -> Step {
        match self.replay_page().await {
            Ok(ApplyEnd::Quarantined) => Step::Done(0),
            Ok(end) => Step::End(end),
            Err(failure) => Step::Fail(failure),
        }
    }

    /// Applies a page of the parked records, and ends the quarantine after the last page.
    async fn replay_page(&mut self) -> Result<ApplyEnd, ApplyFailure> {
        let state = self.writer.state.take();
        self.writer.replay().start(state).await?;
        let left = self.writer.replay_rest.clone();
        let ReplayPage { entries, parked, rest, restored } = self.writer.replay().next_page(left).await?;
        if !entries.is_empty() {
            let end = self.apply_parked(entries).await;
            if end != ApplyEnd::Complete {
                self.writer.replay_rest = None;
                return Ok(end);
            }
            self.writer.replay().clear(&parked).await?;
        }
        let is_last = rest.is_none();
        self.writer.replay_rest = rest;
        if is_last && restored.is_some() {
            self.writer.replay().end_restored().await?;
        } else if is_last {
            self.writer.replay().end_quarantine().await?;
        }
        Ok(ApplyEnd::Paused)
    }

    /// Applies parked records. Discards the cached state before and after them: otherwise only the cursor
    /// of a run in quarantine is loaded.
    async fn apply_parked(&mut self, entries: Vec<Entry>) -> ApplyEnd {
        self.writer.state = None;
        let mut pass = Pass::new(self.writer, entries, true, self.stop, self.applied);
        // Boxed, because a pass inside a pass has no fixed size.
        let end = Box::pin(pass.run()).await;
        self.writer.state = None;
        end
    }

    fn done(&mut self, records: usize) -> Step {
        self.has_succeeded = true;
        self.queue.done(records);
        self.writer.context.commits.fetch_add(u64::from(records > 0), Ordering::Relaxed);
        self.wait = FIRST_WAIT;
        self.slow_attempts = SlowAttempts::default();
        self.mode = self.mode.widened();
        Step::Prepare
    }

    async fn fail(&mut self, failure: ApplyFailure) -> Step {
        let failure = isolate_damage(&self.writer.deps, &self.writer.run, failure).await;
        self.count_failure(&failure);
        if matches!(failure, ApplyFailure::Conflict) {
            return Step::Reload;
        }
        if !self.is_quarantined()
            && let Some(reason) = quarantine_reason(&failure, self.slow_attempts.count())
        {
            return Step::Quarantine(reason);
        }
        match self.narrowed(&failure) {
            Some(narrower) => {
                self.mode = narrower;
                Step::Prepare
            }
            None => Step::BackOff,
        }
    }

    fn count_failure(&mut self, failure: &ApplyFailure) {
        let metrics = &self.writer.context.metrics;
        match failure {
            ApplyFailure::Conflict => metrics.conflicted(),
            ApplyFailure::Store(_) => metrics.failed(TransactionError::Store),
            ApplyFailure::Slow => metrics.failed(TransactionError::Slow),
            ApplyFailure::Poison(_) => metrics.failed(TransactionError::Invalid),
        }
        if matches!(failure, ApplyFailure::Slow) && self.mode.max_items() == 1 {
            self.slow_attempts.add(self.writer.context.commits.load(Ordering::Relaxed));
        } else {
            self.slow_attempts = SlowAttempts::default();
        }
    }

    /// The mode of the next attempt; `None` if it has to wait.
    fn narrowed(&mut self, failure: &ApplyFailure) -> Option<AttemptMode> {
        let run = self.writer.run.id.as_str();
        let mode = &self.mode;
        tracing::warn!(run, error = %failure, ?mode, "failed to apply items; will retry");
        let queued = self.queue.records().iter().map(|record| u64::from(record.items())).sum();
        let narrowed = mode.narrowed(failure, queued);
        if let (None, AttemptMode::Park { .. }, ApplyFailure::Poison(_)) = (&narrowed, mode, failure) {
            tracing::error!(run, "failed to park an item that cannot be applied; will retry");
        }
        narrowed
    }

    fn reload(&mut self) -> Step {
        self.applied.conflicts += 1;
        self.writer.state = None;
        Step::Prepare
    }

    async fn quarantine(&mut self, reason: &str) -> Step {
        self.slow_attempts = SlowAttempts::default();
        self.writer.state = None;
        let has_started = self.writer.quarantined().start(reason).await;
        if self.is_replay {
            Step::End(ApplyEnd::Quarantined)
        } else if has_started {
            Step::Prepare
        } else {
            // The row that starts the quarantine may be damaged, too.
            self.pause().await
        }
    }

    async fn back_off(&mut self) -> Step {
        let next = self.pause().await;
        self.wait = LAST_WAIT.min(self.wait * 2);
        next
    }

    async fn pause(&self) -> Step {
        match self.stop.run_until_cancelled(tokio::time::sleep(self.wait)).await {
            Some(()) => Step::Prepare,
            None => Step::End(ApplyEnd::Stopped),
        }
    }

    /// Whether the run is in quarantine. Parked records are applied all the same.
    fn is_quarantined(&self) -> bool {
        !self.is_replay && self.writer.state.as_ref().is_some_and(|state| state.cursor.is_quarantined())
    }

    fn is_replay_wanted(&self) -> bool {
        self.writer.state.as_ref().is_some_and(|state| state.cursor.is_replaying())
    }
}
