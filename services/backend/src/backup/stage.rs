//! Runs being restored: started, resumed, discarded.

use matyan_model::{
    ids::{Project, RunId},
    run::{
        RESTORE_KEPT_US, StagedRun, head_get, head_live, origin_get, staged_begin, staged_drop, staged_get,
        staged_progress_get, staged_progress_put,
    },
};
use matyan_proto::backup::v1 as pb;
use matyan_store::{Batch, Commit, Store, Transaction, transact};

use super::convert;
use crate::{
    edit::runs::clear_tombstone,
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
    },
    view::run_lookup::is_run_id,
};

pub(super) fn run_id(text: &str) -> Result<RunId> {
    if is_run_id(text) { Ok(RunId::new(text)) } else { Err(Error::field("run_id", "is empty or too long")) }
}

pub(super) async fn begin(
    deps: &Deps,
    call: &Call,
    request: &pb::BeginRunRequest,
) -> Result<pb::BeginRunResponse> {
    let id = run_id(&request.run_id)?;
    let source = convert::source(&request.source)?;
    if !request.dry_run {
        clear_tombstone(deps, call, &request.run_id).await?;
    }
    let state = run_state(deps, call.project, &id, &source).await?;
    if state != pb::RunState::Open {
        return Ok(pb::BeginRunResponse { state: state.into(), position: 0 });
    }
    let position = if request.dry_run {
        0
    } else {
        Box::pin(stage(deps, call, &id, source, request.created_us)).await?
    };
    Ok(pb::BeginRunResponse { state: state.into(), position })
}

async fn run_state(deps: &Deps, project: Project, id: &RunId, source: &[u8; 32]) -> Result<pb::RunState> {
    let snapshot = deps.store.snapshot().await?;
    let Some(number) = head_live(snapshot.as_ref(), project, id).await? else {
        return Ok(pb::RunState::Open);
    };
    let origin = origin_get(snapshot.as_ref(), project, number).await?;
    Ok(if origin.as_ref() == Some(source) { pb::RunState::Restored } else { pb::RunState::Live })
}

/// Resumes the restore from this source, or discards any other and starts over; returns the
/// current position.
async fn stage(deps: &Deps, call: &Call, id: &RunId, source: [u8; 32], created_us: i64) -> Result<u64> {
    let project = call.project;
    let now_us = (deps.clock)();
    loop {
        let (position, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let snapshot = transaction.unchecked();
            let position = match staged_get(snapshot, project, id).await? {
                Some(staged) if staged.source == source && staged.begun_us > now_us - RESTORE_KEPT_US => {
                    Some(staged_progress_get(snapshot, project, id).await?)
                }
                // Discards the other restore; the next round of the loop starts
                // a new one.
                Some(staged) => {
                    staged_drop(transaction.batch(), project, id, &staged);
                    None
                }
                None => {
                    staged_begin(&mut transaction, project, id, source, (created_us, now_us)).await?;
                    Some(0)
                }
            };
            Ok::<_, Error>((transaction, position))
        })
        .await?;
        if let Some(position) = position {
            return Ok(position);
        }
    }
}

/// A restore in progress, and its position.
pub(super) struct OpenRestore {
    pub(super) id: RunId,
    pub(super) staged: StagedRun,
    pub(super) position: u64,
}

/// Opens a restore; fails if the id is no longer free.
pub(super) async fn open(deps: &Deps, call: &Call, run_id_text: &str, source: &[u8]) -> Result<OpenRestore> {
    let id = run_id(run_id_text)?;
    let source = convert::source(source)?;
    let snapshot = deps.store.snapshot().await?;
    let staged = staged_get(snapshot.as_ref(), call.project, &id).await?;
    let Some(staged) = staged.filter(|staged| staged.source == source) else { return Err(not_started()) };
    let position = staged_progress_get(snapshot.as_ref(), call.project, &id).await?;
    let open = OpenRestore { id, staged, position };
    check_id_free(&*deps.store, call.project, &open.id, &staged).await?;
    Ok(open)
}

/// Fails if the id was taken during the restore, and then discards the staged data.
pub(super) async fn check_id_free(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    staged: &StagedRun,
) -> Result<()> {
    let snapshot = store.snapshot().await?;
    match head_get(snapshot.as_ref(), project, id).await? {
        None => Ok(()),
        Some(_) => Err(discard_taken(store, project, id, staged).await?),
    }
}

/// Discards the staged data of a restore whose id is taken.
pub(super) async fn discard_taken(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    staged: &StagedRun,
) -> Result<Error> {
    let mut batch = Batch::default();
    staged_drop(&mut batch, project, id, staged);
    store.commit(batch).await?;
    Ok(Error::AlreadyExists { resource: "run", name: id.as_str().to_owned() })
}

pub(super) fn not_started() -> Error {
    Error::OutOfSequence("this restore was not started, or has ended")
}

impl OpenRestore {
    /// A batch that advances the position, and commits only if no other client has written
    /// to this restore.
    pub(super) fn batch(&self, project: Project, position: u64) -> Batch {
        let mut batch = Batch::buffered();
        self.staged.expect(&mut batch, project, &self.id);
        // Builds the row of the current position, which must be unchanged at the commit.
        let mut before = Batch::default();
        staged_progress_put(&mut before, project, &self.id, self.position);
        for mutation in before.mutations {
            if let matyan_store::Mutation::Set { key, value } = mutation {
                batch.expect(key, Some(value));
            }
        }
        staged_progress_put(&mut batch, project, &self.id, position);
        batch
    }

    pub(super) async fn advance(self, deps: &Deps, call: &Call, position: u64) -> Result<u64> {
        let batch = self.batch(call.project, position);
        commit(deps, batch).await?;
        Ok(position)
    }
}

pub(super) async fn commit(deps: &Deps, batch: Batch) -> Result<()> {
    match deps.store.commit(batch).await? {
        Commit::Done { .. } => Ok(()),
        Commit::Conflict => Err(Error::OutOfSequence("another client is writing to this restore")),
    }
}
