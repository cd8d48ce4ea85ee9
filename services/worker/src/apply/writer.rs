//! The loop around steps: commit, go on; on a conflict begin anew from what is stored; on an error of the store wait; on a
//! failure that will not go away, find the item and park it.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use matyan_log::{NewRecord, Topic};
use matyan_store::Commit;
use tokio_util::sync::CancellationToken;

use super::{
    Blocks, Failure, RunKey,
    park::ParkedItem,
    state::State,
    step::{Mode, Outcome, Record, Step},
};
use crate::{deps::Deps, record::Entry};

/// Writes one run. There is at most one at work for each run of a process; a second process is told by conflicts.
pub(crate) struct RunWriter {
    deps: Deps,
    run: RunKey,
    state: Option<State>,
}

/// What became of the entries that a writer was given.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// All of them are applied; else it was stopped in between.
    pub(crate) is_complete: bool,
    pub(crate) blocks: Vec<Blocks>,
    pub(crate) items: u64,
    pub(crate) skipped_records: u64,
    pub(crate) parked: u64,
    pub(crate) conflicts: u64,
}

/// Waits between attempts while the store or the blobs are away: doubling from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How long a copy for the dead-letter topic may take; the store has the item.
const DEAD_LETTER_WAIT: Duration = Duration::from_secs(5);

impl RunWriter {
    pub(crate) fn new(deps: Deps, run: RunKey) -> Self {
        Self { deps, run, state: None }
    }

    /// About what is kept in memory for the next entries.
    pub(crate) fn bytes(&self) -> usize {
        self.state.as_ref().map_or(0, State::bytes)
    }

    /// Applies entries in their order. Ends early only when it is stopped: between two transactions, or in a wait.
    pub(crate) async fn apply(&mut self, entries: Vec<Entry>, stop: &CancellationToken) -> Applied {
        let records: Vec<Record> = entries.into_iter().map(Record::new).collect();
        let mut applied = Applied::default();
        let (mut done, mut mode, mut wait) = (0, Mode::Apply { items: u32::MAX }, FIRST_WAIT);
        while done < records.len() {
            if stop.is_cancelled() {
                return applied;
            }
            match self.step(&records[done..], &mode, &mut applied).await {
                Ok(more) => {
                    done += more;
                    wait = FIRST_WAIT;
                    mode = wider(&mode);
                }
                Err(Failure::Conflict) => applied.conflicts += 1,
                Err(Failure::Poison(reason)) => mode = self.narrower(&records[done..], mode, reason),
                Err(failure @ (Failure::Store(_) | Failure::Blob(_))) => {
                    tracing::warn!(run = self.run.id.as_str(), error = %failure, ?wait, "waiting to apply");
                    if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return applied;
                    }
                    wait = LAST_WAIT.min(wait * 2);
                }
            }
        }
        applied.is_complete = true;
        applied
    }

    /// One transaction; returns how many records it brought to their end. The state survives only a commit.
    async fn step(
        &mut self,
        records: &[Record],
        mode: &Mode,
        applied: &mut Applied,
    ) -> Result<usize, Failure> {
        let mut state = match self.state.take() {
            Some(state) => state,
            None => State::load(&*self.deps.store.snapshot().await?, &self.run).await?,
        };
        let built = self.build(&mut state, records, mode.clone());
        // A panic is a failure of the items like another. The state that it may have left half-changed is dropped.
        let built = AssertUnwindSafe(built).catch_unwind().await;
        let (done, batch, outcome) = built.unwrap_or_else(|panic| Err(Failure::Poison(message(&*panic))))?;
        if !batch.mutations.is_empty() {
            match self.deps.store.commit(batch).await? {
                Commit::Done { .. } => {}
                Commit::Conflict => return Err(Failure::Conflict),
            }
        }
        self.state = Some(state);
        self.copy_parked(&outcome.parked).await;
        applied.blocks.extend(outcome.blocks);
        applied.items += outcome.applied_items;
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

    /// Half as many items as failed together; the item itself when it failed alone.
    fn narrower(&self, records: &[Record], failed: Mode, reason: String) -> Mode {
        let left: u64 = records.iter().map(|record| u64::from(record.items())).sum();
        match failed {
            Mode::Apply { items } if items > 1 => {
                let tried = left.min(u64::from(items)) as u32;
                Mode::Apply { items: (tried / 2).max(1) }
            }
            Mode::Apply { .. } => Mode::Park { reason },
            Mode::Park { .. } => {
                tracing::error!(
                    run = self.run.id.as_str(),
                    reason,
                    "an item can be neither applied nor parked"
                );
                Mode::Park { reason }
            }
        }
    }

    async fn copy_parked(&self, parked: &[ParkedItem]) {
        if parked.is_empty() {
            return;
        }
        let copy = |item: &ParkedItem| NewRecord {
            key: self.run.id.as_str().as_bytes().to_vec().into(),
            value: item.item.clone(),
            headers: vec![("matyan-reason".to_owned(), item.reason.clone().into())],
        };
        let records = parked.iter().map(copy).collect();
        let append = self.deps.log_writer.append(Topic::DeadLetters, records);
        match tokio::time::timeout(DEAD_LETTER_WAIT, append).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "dead letters were not copied; the store has them"),
            Err(_) => tracing::warn!("copying dead letters takes too long; the store has them"),
        }
    }
}

/// After a success more items are tried again.
fn wider(mode: &Mode) -> Mode {
    match mode {
        Mode::Apply { items } => Mode::Apply { items: items.saturating_mul(2) },
        Mode::Park { .. } => Mode::Apply { items: 1 },
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("applying it panics: {}", text.unwrap_or("without a message"))
}
