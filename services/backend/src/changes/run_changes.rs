//! Descriptions of changed runs.

use std::sync::Arc;

use matyan_model::{
    branch::shared_edits,
    ids::RunNumber,
    run::{document_get, writing_get},
    series::RunRef,
};
use matyan_proto::runs::v1::{RunChange, RunParts, run_change};

use super::{
    pending_runs::DueRun,
    sent_runs::{RunState, SentRuns},
};
use crate::{
    server::{call::Call, deps::Deps, error::Result},
    view::{EntityNames, first_piece, run_parts_with},
};

/// Reads changed runs for one stream.
pub(crate) struct RunChanges {
    deps: Arc<Deps>,
    call: Call,
    parts: RunParts,
    with_progress: bool,
    last_sent: SentRuns,
}

impl RunChanges {
    pub(crate) fn new(deps: Arc<Deps>, call: Call, parts: RunParts, with_progress: bool) -> Self {
        Self { deps, call, parts, with_progress, last_sent: SentRuns::default() }
    }

    /// Size of the state that is kept of the runs that were read.
    pub(crate) fn remembered_bytes(&self) -> usize {
        self.last_sent.bytes()
    }

    /// The run with the requested parts, and the changes since it was last read here; `None` if the run
    /// no longer exists.
    pub(crate) async fn read(&mut self, names: &mut EntityNames, due: DueRun) -> Result<Option<RunChange>> {
        let DueRun { number, shared_points } = due;
        let snapshot = self.deps.store.snapshot().await?;
        let document = document_get(snapshot.as_ref(), self.call.project, number).await?;
        let Some(document) = document.filter(|document| !document.props.pending_delete) else {
            return Ok(None);
        };
        let writing = writing_get(snapshot.as_ref(), self.call.project, number).await?;
        let read = (&document, &writing);
        let run = run_parts_with(&self.deps, names, snapshot.as_ref(), number, read, &self.parts).await?;
        let run = first_piece(run);
        let shared_edits = match document.props.parent {
            Some(_) => shared_edits(snapshot.as_ref(), self.call.project, number).await?,
            None => 0,
        };
        let run_ref = RunRef { project: self.call.project, number };
        let state = RunState { document: &document, writing, shared_edits, shared_points };
        let described =
            self.last_sent.describe(snapshot.as_ref(), run_ref, state, self.with_progress).await?;
        let run_id = run.run_id.clone();
        Ok(Some(RunChange { run_id, change: Some(run_change::Change::Run(run)), ..described }))
    }

    /// The change of a run that is no longer shown.
    pub(crate) fn left(&mut self, number: RunNumber, run_id: String) -> RunChange {
        self.last_sent.remove(number);
        RunChange { run_id, change: Some(run_change::Change::Left(true)), ..RunChange::default() }
    }
}
