//! Lookup of runs by id, which waits for records that may still create them.

use matyan_model::{
    ids::{Project, RunId, RunNumber},
    run::{Document, Head, head_get, run_find},
};
use matyan_proto::limits;
use matyan_store::Snapshot;

use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
};

/// An existing run, with the snapshot in which it was found.
pub(crate) struct FoundRun {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) number: RunNumber,
    pub(crate) document: Document,
}

enum RunLookup {
    Found(Box<FoundRun>),
    /// Deleted or about to be: no record in the log can recreate it.
    Deleted,
    Unknown,
}

impl Deps {
    /// The run, if it exists once every record that was in the log when the call arrived is
    /// applied.
    pub(crate) async fn find_run(&self, call: &Call, run_id: &str) -> Result<FoundRun> {
        match self.lookup_run(call, run_id).await? {
            RunLookup::Found(found) => return Ok(*found),
            RunLookup::Deleted => return Err(Error::not_found("run", run_id)),
            RunLookup::Unknown => {
                let end = call.log_end.get_or_try_init(|| self.log_end()).await?;
                self.wait_for_run(call.project, &RunId::new(run_id), end).await?;
            }
        }
        match self.lookup_run(call, run_id).await? {
            RunLookup::Found(found) => Ok(*found),
            RunLookup::Deleted | RunLookup::Unknown => Err(Error::not_found("run", run_id)),
        }
    }

    /// Like `find_run`, but also finds a run in the bin.
    pub(crate) async fn find_kept_run(&self, call: &Call, run_id: &str) -> Result<FoundRun> {
        match self.find_run(call, run_id).await {
            Err(Error::NotFound { .. }) if is_run_id(run_id) => {}
            found => return found,
        }
        let snapshot = self.store.snapshot().await?;
        let found = run_find(snapshot.as_ref(), call.project, &RunId::new(run_id)).await;
        let found = found.map_err(|error| Error::from(error).of_run(run_id))?;
        let binned = found.filter(|(_, document)| document.props.is_in_bin());
        let (number, document) = binned.ok_or_else(|| Error::not_found("run", run_id))?;
        Ok(FoundRun { snapshot, number, document })
    }

    /// Like `find_run`, but returns `None` for a missing run instead of an error.
    pub(crate) async fn try_find_run(&self, call: &Call, run_id: &str) -> Result<Option<FoundRun>> {
        match self.find_run(call, run_id).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The run in its current state, ignoring records still in the log.
    async fn lookup_run(&self, call: &Call, run_id: &str) -> Result<RunLookup> {
        self.read_run(call, run_id).await.map_err(|error| error.of_run(run_id))
    }

    async fn read_run(&self, call: &Call, run_id: &str) -> Result<RunLookup> {
        if !is_run_id(run_id) {
            // No record can create a run with such an id, so there is nothing to
            // wait for.
            return Ok(RunLookup::Deleted);
        }
        let snapshot = self.store.snapshot().await?;
        let id = RunId::new(run_id);
        if let Some((number, document)) = run_find(snapshot.as_ref(), call.project, &id).await? {
            // The run is hidden until the worker applies its delete.
            if document.props.pending_delete {
                return Ok(RunLookup::Deleted);
            }
            return Ok(RunLookup::Found(Box::new(FoundRun { snapshot, number, document })));
        }
        // A tombstone is final, but the records that create an unknown run may still be in the log.
        match head_get(snapshot.as_ref(), call.project, &id).await? {
            Some(Head::Tombstone(_)) => Ok(RunLookup::Deleted),
            Some(Head::Live(_)) | None => Ok(RunLookup::Unknown),
        }
    }
}

/// Whether a run can have this id: it is not empty and fits in a key.
pub(crate) fn is_run_id(run_id: &str) -> bool {
    !run_id.is_empty() && run_id.len() <= limits::RUN_ID_BYTES
}

/// Whether a project has a run with this id in any state, ignoring records still in the log.
pub(crate) async fn has_run(snapshot: &dyn Snapshot, project: Project, run_id: &str) -> Result<bool> {
    Ok(is_run_id(run_id) && head_get(snapshot, project, &RunId::new(run_id)).await?.is_some())
}
