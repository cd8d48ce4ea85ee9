//! The loop around attempts: after a commit it continues; after a conflict it reloads the stored
//! state; after an error of the store it waits; and after a permanent failure it isolates the
//! item and parks it.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use matyan_record::trace::TARGET;
use matyan_store::{Commit, Range};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    ApplyFailure, Backlogs, DeadLetterQueue, PayloadUploads, RunKey,
    attempt::{Attempt, AttemptOutcome},
    branch,
    decode_queue::{DecodeQueue, DecodedRecord},
    mode::AttemptMode,
    outcome::{ApplyEnd, ApplyOutcome, InQuarantine},
    payload_store::PayloadStore,
    payloads::payloads_move,
    run_state::RunState,
    series_edit,
    transaction::TransactionSlots,
};
use crate::{
    deps::Deps,
    metrics::{TransactionError, TransactionMetrics},
    record::{Entry, panic_text},
};

/// Writes one run. A process has at most one active writer per run; conflicts reveal a second
/// process.
pub(crate) struct RunWriter {
    pub(super) deps: Deps,
    pub(super) run: RunKey,
    pub(super) context: Arc<WriterContext>,
    pub(super) state: Option<RunState>,
    /// Whether the parked records of a run in quarantine are being applied.
    pub(super) is_replaying: bool,
    /// The parked records that have yet to be applied; `None` if all of them.
    pub(super) replay_rest: Option<Range>,
}

/// Parts that the writers of a worker share.
pub(crate) struct WriterContext {
    pub(crate) dead_letters: DeadLetterQueue,
    pub(crate) uploads: Arc<PayloadUploads>,
    pub(crate) slots: TransactionSlots,
    pub(crate) backlogs: Backlogs,
    /// Size of a run's parked records from which on its quarantine is reported as large.
    pub(crate) large_quarantine: u64,
    /// Number of transactions in which items were applied.
    pub(crate) commits: Arc<AtomicU64>,
    pub(crate) metrics: TransactionMetrics,
}

/// Attempts at a single item, in a row, that outlasted their snapshots although other runs were applied
/// meanwhile. Without these, the store is slow, and not the item.
#[derive(Default)]
struct SlowAttempts {
    count: u32,
    /// Transactions of all runs before the last one.
    commits: Option<u64>,
}

impl SlowAttempts {
    fn add(&mut self, commits: u64) {
        if self.commits.replace(commits) != Some(commits) {
            self.count += 1;
        }
    }
}

/// Bounds on the wait between attempts while the store is unavailable. It doubles
/// from the minimum to the maximum.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Slow attempts before a run is put in quarantine: five minutes of waits alone. The log cannot be trimmed
/// meanwhile.
const MAX_SLOW_ATTEMPTS: u32 = 64;

impl RunWriter {
    pub(crate) fn new(deps: Deps, run: RunKey, context: Arc<WriterContext>) -> Self {
        let (state, replay_rest) = Default::default();
        Self { deps, run, context, state, is_replaying: false, replay_rest }
    }

    /// Approximate memory kept for the next entries.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.state.as_ref().map_or(0, RunState::heap_bytes)
    }

    /// Applies entries in order; without entries, it only looks whether a quarantine is ending. Returns
    /// early only when it is stopped, between two transactions or during a wait, or after it has
    /// applied parked records.
    pub(crate) async fn apply(&mut self, entries: Vec<Entry>, stop: &CancellationToken) -> ApplyOutcome {
        let mut applied = ApplyOutcome::default();
        let mut queue = DecodeQueue::new(entries);
        let end = self.apply_all(&mut queue, stop, &mut applied).await;
        applied.is_complete = end != ApplyEnd::Stopped;
        applied.is_paused = end == ApplyEnd::Paused;
        applied.left = queue.into_entries();
        applied
    }

    pub(super) async fn apply_all(
        &mut self,
        queue: &mut DecodeQueue,
        stop: &CancellationToken,
        applied: &mut ApplyOutcome,
    ) -> ApplyEnd {
        let (mut mode, mut wait) = (AttemptMode::UNLIMITED, FIRST_WAIT);
        let (mut is_first, mut slow) = (true, SlowAttempts::default());
        loop {
            let records = queue.next().await;
            if records.is_empty() && !is_first {
                return ApplyEnd::Complete;
            }
            let attempted = match stop.run_until_cancelled(self.prepare(records, &mode)).await {
                None => return ApplyEnd::Stopped,
                Some(Ok(())) if self.is_quarantined() => {
                    // Boxed, because it may apply parked records, as this function does.
                    match Box::pin(self.apply_in_quarantine(records, stop, applied)).await {
                        Ok(InQuarantine::Done(done)) => Ok(done),
                        Ok(InQuarantine::Replayed(ApplyEnd::Quarantined)) => Ok(0),
                        Ok(InQuarantine::Replayed(end)) => return end,
                        Err(failure) => Err(failure),
                    }
                }
                // An operator has parked the run again.
                Some(Ok(())) if self.is_replaying && !self.is_replay_wanted() => {
                    return ApplyEnd::Quarantined;
                }
                Some(Ok(())) if records.is_empty() => Ok(0),
                Some(Ok(())) => self.attempt(records, &mode, applied).await,
                Some(Err(failure)) => Err(failure),
            };
            is_first &= attempted.is_err();
            let attempted = self.isolate(attempted).await;
            if let Err(failure) = &attempted {
                self.count_failure(failure);
                match failure {
                    ApplyFailure::Slow if mode.max_items() == 1 => {
                        slow.add(self.context.commits.load(Ordering::Relaxed));
                    }
                    _ => slow = SlowAttempts::default(),
                }
            }
            match attempted {
                Ok(done) => {
                    queue.done(done);
                    self.context.commits.fetch_add(u64::from(done > 0), Ordering::Relaxed);
                    (wait, slow) = (FIRST_WAIT, SlowAttempts::default());
                    mode = mode.widened();
                }
                Err(ApplyFailure::Conflict) => {
                    applied.conflicts += 1;
                    self.state = None;
                }
                Err(failure) if let Some(reason) = self.quarantine_reason(&failure, slow.count) => {
                    slow = SlowAttempts::default();
                    let has_begun = self.quarantine(&reason).await;
                    if self.is_replaying {
                        return ApplyEnd::Quarantined;
                    }
                    // The row that begins it may be damaged, too.
                    if !has_begun && stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return ApplyEnd::Stopped;
                    }
                }
                Err(failure) => {
                    if let Some(narrower) = self.narrowed(&mode, &failure, records) {
                        mode = narrower;
                        continue;
                    }
                    if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return ApplyEnd::Stopped;
                    }
                    wait = LAST_WAIT.min(wait * 2);
                }
            }
        }
    }

    /// Makes damage of a row that other runs share a failure of the items that need it: the run itself is
    /// not damaged.
    async fn isolate(&self, attempted: Result<usize, ApplyFailure>) -> Result<usize, ApplyFailure> {
        match attempted {
            Err(ApplyFailure::Store(matyan_store::Error::Corrupt { key, reason, source }))
                if !self.is_own_row(key.as_ref()).await? =>
            {
                let damage = matyan_store::Error::Corrupt { key, reason, source };
                Err(ApplyFailure::Poison(damage.to_string()))
            }
            attempted => attempted,
        }
    }

    /// The mode of the next attempt; `None` if it has to wait.
    fn narrowed(
        &self,
        mode: &AttemptMode,
        failure: &ApplyFailure,
        records: &[DecodedRecord],
    ) -> Option<AttemptMode> {
        let run = self.run.id.as_str();
        tracing::warn!(run, error = %failure, ?mode, "failed to apply items; will retry");
        let queued = records.iter().map(|record| u64::from(record.items())).sum();
        let narrowed = mode.narrowed(failure, queued);
        if let (None, AttemptMode::Park { .. }, ApplyFailure::Poison(_)) = (&narrowed, mode, failure) {
            tracing::error!(run, "failed to park an item that cannot be applied; will retry");
        }
        narrowed
    }

    /// Why the run has to be put in quarantine after a failure, with this many slow attempts before it;
    /// `None` if it need not be, or is.
    fn quarantine_reason(&self, failure: &ApplyFailure, slow: u32) -> Option<String> {
        match failure {
            _ if self.is_quarantined() => None,
            ApplyFailure::Store(matyan_store::Error::Corrupt { reason, .. }) => Some(reason.clone()),
            ApplyFailure::Slow if slow >= MAX_SLOW_ATTEMPTS => Some(format!(
                "{slow} attempts to apply an item took longer than a snapshot of the store lasts, while other runs were applied"
            )),
            _ => None,
        }
    }

    fn is_replay_wanted(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.cursor.is_replaying())
    }

    /// Does the slow work before the snapshot of a transaction begins to age.
    async fn prepare(
        &mut self,
        records: &mut [DecodedRecord],
        mode: &AttemptMode,
    ) -> Result<(), ApplyFailure> {
        let state = match &mut self.state {
            Some(state) => state,
            empty => empty.insert(
                RunState::load(&*self.deps.store.snapshot().await?, &self.run, self.is_replaying).await?,
            ),
        };
        let store = PayloadStore {
            deps: &self.deps,
            run: &self.run,
            uploads: &self.context.uploads,
            metrics: &self.context.metrics,
            cursor: &state.cursor.row().clone(),
        };
        let prepared = async {
            payloads_move(store, state, records, mode).await?;
            // Boxed, because they are large, and rare.
            let backlogs = &self.context.backlogs;
            Box::pin(branch::prepare(&self.deps, backlogs, &self.run, state, records)).await?;
            Box::pin(series_edit::prepare(&self.deps, &self.run, state, records, mode)).await
        };
        AssertUnwindSafe(prepared)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(ApplyFailure::Poison(panic_message(&*panic))))
    }

    /// Runs one transaction and returns how many records it completed. The state is kept
    /// only after a commit.
    async fn attempt(
        &mut self,
        records: &[DecodedRecord],
        mode: &AttemptMode,
        applied: &mut ApplyOutcome,
    ) -> Result<usize, ApplyFailure> {
        let context = Arc::clone(&self.context);
        let _slot = context.slots.take().await;
        let mut state = self.state.take().expect("`prepare` has loaded the state");
        // Boxed, as its state would make every future around it large.
        let built = Box::pin(self.build(&mut state, records, mode.clone()));
        // A panic is a failure of the items like any other. The possibly half-changed
        // state is dropped.
        let built = AssertUnwindSafe(built).catch_unwind().await;
        let (done, batch, outcome) =
            built.unwrap_or_else(|panic| Err(ApplyFailure::Poison(panic_message(&*panic))))?;
        if !batch.mutations.is_empty() {
            let _commit_spans = commit_spans(&records[..done.max(1)]);
            match self.deps.store.commit(batch).await? {
                Commit::Done { .. } => {}
                Commit::Conflict => return Err(ApplyFailure::Conflict),
            }
        }
        self.state = Some(state);
        context.dead_letters.copy(&self.run, &outcome.parked);
        applied.blocks.extend(outcome.blocks);
        context.metrics.committed(&outcome.applied, outcome.bytes);
        applied.items += outcome.applied.iter().sum::<u64>();
        applied.skipped_records += outcome.skipped_records;
        applied.parked += outcome.parked.len() as u64;
        Ok(done)
    }

    fn count_failure(&self, failure: &ApplyFailure) {
        let metrics = &self.context.metrics;
        match failure {
            ApplyFailure::Conflict => metrics.conflicted(),
            ApplyFailure::Store(_) => metrics.failed(TransactionError::Store),
            ApplyFailure::Slow => metrics.failed(TransactionError::Slow),
            ApplyFailure::Poison(_) => metrics.failed(TransactionError::Invalid),
        }
    }

    async fn build(
        &self,
        state: &mut RunState,
        records: &[DecodedRecord],
        mode: AttemptMode,
    ) -> Result<(usize, matyan_store::Batch, AttemptOutcome), ApplyFailure> {
        let mut attempt = Attempt::begin(&self.deps, &self.run, state, mode).await?;
        let done = attempt.take_records(records).await?;
        let (batch, outcome) = attempt.finish();
        Ok((done, batch, outcome))
    }
}

/// Opens a commit span in each of the traces that the records belong to.
fn commit_spans(records: &[DecodedRecord]) -> Vec<Span> {
    let spans = records.iter().map(|record| &record.entry.span).filter(|span| !span.is_disabled());
    spans.map(|span| tracing::info_span!(target: TARGET, parent: span, "commit")).collect()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    format!("applying the item panicked: {}", panic_text(panic))
}
