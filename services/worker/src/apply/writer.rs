//! The loop around steps: after a commit it continues; after a conflict it reloads the stored
//! state; after an error of the store it waits; and after a permanent failure it isolates the
//! item and parks it.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use matyan_store::Commit;
use matyan_trace::TARGET;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    Blocks, DeadLetters, Failure, RunKey,
    decoded::{Ahead, Record},
    payloads::payloads_move,
    state::State,
    step::{Mode, Outcome, Step},
};
use crate::{deps::Deps, metrics::Transactions, record::Entry};

/// Writes one run. A process has at most one active writer per run; conflicts reveal a second
/// process.
pub(crate) struct RunWriter {
    deps: Deps,
    run: RunKey,
    dead_letters: DeadLetters,
    metrics: Transactions,
    state: Option<State>,
}

/// Result of applying the entries of a turn.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Whether all of them are applied; false if the writer was stopped.
    pub(crate) is_complete: bool,
    pub(crate) blocks: Vec<Blocks>,
    pub(crate) items: u64,
    pub(crate) skipped_records: u64,
    pub(crate) parked: u64,
    pub(crate) conflicts: u64,
}

/// Bounds of the wait between attempts while the store or the blobs are unavailable; it doubles
/// from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);

impl RunWriter {
    pub(crate) fn new(deps: Deps, run: RunKey, dead_letters: DeadLetters, metrics: Transactions) -> Self {
        Self { deps, run, dead_letters, metrics, state: None }
    }

    /// Approximate memory kept for the next entries.
    pub(crate) fn bytes(&self) -> usize {
        self.state.as_ref().map_or(0, State::bytes)
    }

    /// Applies entries in order. Returns early only when it is stopped, between two
    /// transactions or during a wait.
    pub(crate) async fn apply(&mut self, entries: Vec<Entry>, stop: &CancellationToken) -> Applied {
        let mut ahead = Ahead::new(entries);
        let mut applied = Applied::default();
        let (mut mode, mut wait) = (Mode::Apply { items: u32::MAX }, FIRST_WAIT);
        loop {
            let records = ahead.next().await;
            if records.is_empty() {
                applied.is_complete = true;
                return applied;
            }
            let stepped = match stop.run_until_cancelled(self.prepare(records, &mode)).await {
                None => return applied,
                Some(Ok(())) => self.step(records, &mode, &mut applied).await,
                Some(Err(failure)) => Err(failure),
            };
            match stepped {
                Ok(done) => {
                    ahead.done(done);
                    wait = FIRST_WAIT;
                    mode = wider(&mode);
                }
                Err(Failure::Conflict) => {
                    self.metrics.failed(&Failure::Conflict);
                    applied.conflicts += 1;
                }
                Err(failure) => {
                    self.metrics.failed(&failure);
                    tracing::warn!(run = self.run.id.as_str(), error = %failure, ?mode, "failed to apply items; will retry");
                    if let Some(narrower) = self.narrower(records, &mode, &failure) {
                        mode = narrower;
                        continue;
                    }
                    if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return applied;
                    }
                    wait = LAST_WAIT.min(wait * 2);
                }
            }
        }
    }

    /// Does the slow work before the snapshot of a transaction begins to age.
    async fn prepare(&mut self, records: &mut [Record], mode: &Mode) -> Result<(), Failure> {
        let state = match &mut self.state {
            Some(state) => state,
            empty => empty.insert(State::load(&*self.deps.store.snapshot().await?, &self.run).await?),
        };
        let moved = payloads_move(&self.deps, &self.run, state, records, mode);
        AssertUnwindSafe(moved)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| Err(Failure::Poison(message(&*panic))))
    }

    /// Runs one transaction and returns how many records it completed. The state survives
    /// only a commit.
    async fn step(
        &mut self,
        records: &[Record],
        mode: &Mode,
        applied: &mut Applied,
    ) -> Result<usize, Failure> {
        let mut state = self.state.take().expect("`prepare` has loaded the state");
        let built = self.build(&mut state, records, mode.clone());
        // A panic is a failure of the items like any other. The possibly half-changed
        // state is dropped.
        let built = AssertUnwindSafe(built).catch_unwind().await;
        let (done, batch, outcome) = built.unwrap_or_else(|panic| Err(Failure::Poison(message(&*panic))))?;
        if !batch.mutations.is_empty() {
            let _commits = commits(&records[..done.max(1)]);
            match self.deps.store.commit(batch).await? {
                Commit::Done { .. } => {}
                Commit::Conflict => return Err(Failure::Conflict),
            }
        }
        self.state = Some(state);
        self.dead_letters.copy(&self.run, &outcome.parked);
        applied.blocks.extend(outcome.blocks);
        self.metrics.committed(&outcome.applied, outcome.bytes);
        applied.items += outcome.applied.iter().sum::<u64>();
        applied.skipped_records += outcome.skipped_records;
        applied.parked += outcome.parked.len() as u64;
        Ok(done)
    }

    async fn build(
        &self,
        state: &mut State,
        records: &[Record],
        mode: Mode,
    ) -> Result<(usize, matyan_store::Batch, Outcome), Failure> {
        let mut step = Step::begin(&self.deps, &self.run, state, mode).await?;
        let done = step.take(records).await?;
        let (batch, outcome) = step.finish();
        Ok((done, batch, outcome))
    }

    /// The next mode after a failure that waiting cannot fix: half as many items, then
    /// parking the item that failed alone, and finally keeping only its digest. `None`
    /// means to wait.
    fn narrower(&self, records: &[Record], failed: &Mode, failure: &Failure) -> Option<Mode> {
        match (failed, failure) {
            (_, Failure::Store(_) | Failure::Blob(_) | Failure::Conflict) => None,
            (Mode::Apply { items }, _) if *items > 1 => {
                let left: u64 = records.iter().map(|record| u64::from(record.items())).sum();
                let tried = left.min(u64::from(*items)) as u32;
                Some(Mode::Apply { items: (tried / 2).max(1) })
            }
            (Mode::Apply { .. }, Failure::Poison(reason)) => {
                Some(Mode::Park { reason: reason.clone(), is_bare: false })
            }
            (Mode::Park { reason, is_bare: false }, Failure::Poison(_)) => {
                Some(Mode::Park { reason: reason.clone(), is_bare: true })
            }
            (Mode::Park { is_bare: true, .. }, Failure::Poison(_)) => {
                tracing::error!(
                    run = self.run.id.as_str(),
                    "failed to park an item that cannot be applied; will retry"
                );
                None
            }
            (_, Failure::Slow) => None,
        }
    }
}

/// Opens a commit span in each of the traces that the records belong to.
fn commits(records: &[Record]) -> Vec<Span> {
    let spans = records.iter().map(|record| &record.entry.span).filter(|span| !span.is_disabled());
    spans.map(|span| tracing::info_span!(target: TARGET, parent: span, "commit")).collect()
}

/// The mode after a success: tries more items again.
fn wider(mode: &Mode) -> Mode {
    match mode {
        Mode::Apply { items } => Mode::Apply { items: items.saturating_mul(2) },
        Mode::Park { .. } => Mode::Apply { items: 1 },
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("applying the item panicked: {}", text.unwrap_or("without a message"))
}
