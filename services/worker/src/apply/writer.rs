//! The writer of a run, with its cache of the run's state.

use std::sync::{Arc, atomic::AtomicU64};

use matyan_store::Range;

use super::{
    backlogs::Backlogs,
    failure::{dead_letters::DeadLetterQueue, quarantine::QuarantinedRun, replay::Replay},
    run_key::RunKey,
    run_state::RunState,
    steps::payload_uploads::PayloadUploads,
    transaction::TransactionSlots,
};
use crate::{deps::Deps, metrics::TransactionMetrics};

/// Writes one run. A process has at most one active writer per run; conflicts reveal a second
/// process.
pub(crate) struct RunWriter {
    pub(crate) deps: Deps,
    pub(crate) run: RunKey,
    pub(crate) context: Arc<WriterContext>,
    /// `None` until the next transaction loads it.
    pub(crate) state: Option<RunState>,
    /// The parked records that have yet to be applied; `None` if all of them.
    pub(crate) replay_rest: Option<Range>,
}

/// Parts that the writers of a worker share.
pub(crate) struct WriterContext {
    pub(crate) dead_letters: DeadLetterQueue,
    pub(crate) uploads: Arc<PayloadUploads>,
    pub(crate) slots: TransactionSlots,
    pub(crate) backlogs: Backlogs,
    /// Size of a run's parked records above which its quarantine is reported as large.
    pub(crate) large_quarantine: u64,
    /// Number of transactions in which items were applied.
    pub(crate) commits: Arc<AtomicU64>,
    pub(crate) metrics: TransactionMetrics,
}

impl RunWriter {
    pub(crate) fn new(deps: Deps, run: RunKey, context: Arc<WriterContext>) -> Self {
        Self { deps, run, context, state: None, replay_rest: None }
    }

    /// Approximate memory kept for the next entries.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.state.as_ref().map_or(0, RunState::heap_bytes)
    }

    /// Whether the run is known to be deleted.
    pub(crate) fn has_deleted_run(&self) -> bool {
        self.state.as_ref().is_some_and(RunState::is_deleted)
    }

    pub(crate) fn quarantined(&self) -> QuarantinedRun<'_> {
        QuarantinedRun {
            deps: &self.deps,
            run: &self.run,
            metrics: &self.context.metrics,
            large_bytes: self.context.large_quarantine,
        }
    }

    pub(crate) fn replay(&self) -> Replay<'_> {
        Replay { deps: &self.deps, run: &self.run }
    }
}
