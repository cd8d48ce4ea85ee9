//! Runs being restored: started, resumed, discarded.

use matyan_model::{
    ids::{Project, RunId},
    run::{
        RESTORE_KEPT_US, Staged, head_get, head_live, origin_get, staged_begin, staged_drop, staged_get,
        staged_position, staged_position_put,
    },
};
use matyan_proto::backup::v1 as pb;
use matyan_store::{Batch, Commit, Store, Transaction, transact};

use super::convert;
use crate::{
    Context,
    call::Call,
    context::is_run_id,
    error::{Error, Result},
    runs::clear_tombstone,
};

pub(super) fn run_id(text: &str) -> Result<RunId> {
    if is_run_id(text) { Ok(RunId::new(text)) } else { Err(Error::field("run_id", "is empty or too long")) }
}

pub(super) async fn begin(
    context: &Context,
    call: &Call,
    request: &pb::BeginRunRequest,
) -> Result<pb::BeginRunResponse> {
    let id = run_id(&request.run_id)?;
    let source = convert::source(&request.source)?;
    if !request.dry_run {
        clear_tombstone(context, call, &request.run_id).await?;
    }
    let state = live(context, call.project, &id, &source).await?;
    if state != pb::RunState::Open {
        return Ok(pb::BeginRunResponse { state: state.into(), position: 0 });
    }
    let position = match request.dry_run {
        true => 0,
        false => Box::pin(stage(context, call, &id, source, request.created_us)).await?,
    };
    Ok(pb::BeginRunResponse { state: state.into(), position })
}

async fn live(context: &Context, project: Project, id: &RunId, source: &[u8; 32]) -> Result<pb::RunState> {
    let snapshot = context.store.snapshot().await?;
    let Some(number) = head_live(snapshot.as_ref(), project, id).await? else {
        return Ok(pb::RunState::Open);
    };
    let origin = origin_get(snapshot.as_ref(), project, number).await?;
    Ok(if origin.as_ref() == Some(source) { pb::RunState::Restored } else { pb::RunState::Live })
}

/// Resumes the restore from this source, or discards any other and starts over; returns the
/// current position.
async fn stage(context: &Context, call: &Call, id: &RunId, source: [u8; 32], created_us: i64) -> Result<u64> {
    let project = call.project;
    let now_us = (context.clock)();
    loop {
        let (position, _) = transact(context.store.as_ref(), async |mut transaction: Transaction| {
            let snapshot = transaction.unchecked();
            let position = match staged_get(snapshot, project, id).await? {
                Some(staged) if staged.source == source && staged.begun_us > now_us - RESTORE_KEPT_US => {
                    Some(staged_position(snapshot, project, id).await?)
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
pub(super) struct Open {
    pub(super) id: RunId,
    pub(super) staged: Staged,
    pub(super) position: u64,
}

/// Opens a restore; fails if the id is no longer free.
pub(super) async fn open(context: &Context, call: &Call, run_id_text: &str, source: &[u8]) -> Result<Open> {
    let id = run_id(run_id_text)?;
    let source = convert::source(source)?;
    let snapshot = context.store.snapshot().await?;
    let staged = staged_get(snapshot.as_ref(), call.project, &id).await?;
    let Some(staged) = staged.filter(|staged| staged.source == source) else { return Err(not_begun()) };
    let position = staged_position(snapshot.as_ref(), call.project, &id).await?;
    let open = Open { id, staged, position };
    free(&*context.store, call.project, &open.id, &staged).await?;
    Ok(open)
}

/// Fails if the id was taken in the meantime, and then discards the staged data.
pub(super) async fn free(store: &dyn Store, project: Project, id: &RunId, staged: &Staged) -> Result<()> {
    let snapshot = store.snapshot().await?;
    match head_get(snapshot.as_ref(), project, id).await? {
        None => Ok(()),
        Some(_) => Err(taken(store, project, id, staged).await?),
    }
}

/// Discards the staged data of a restore whose id is taken.
pub(super) async fn taken(store: &dyn Store, project: Project, id: &RunId, staged: &Staged) -> Result<Error> {
    let mut batch = Batch::default();
    staged_drop(&mut batch, project, id, staged);
    store.commit(batch).await?;
    Ok(Error::AlreadyExists { resource: "run", name: id.as_str().to_owned() })
}

pub(super) fn not_begun() -> Error {
    Error::OutOfSequence("this restore was not started, or has ended")
}

impl Open {
    /// A batch that advances the position, and commits only if no other client has written
    /// to this restore.
    pub(super) fn batch(&self, project: Project, position: u64) -> Batch {
        let mut batch = Batch::buffered();
        self.staged.expect(&mut batch, project, &self.id);
        // Builds the row of the current position, which must be unchanged at the commit.
        let mut before = Batch::default();
        staged_position_put(&mut before, project, &self.id, self.position);
        for mutation in before.mutations {
            if let matyan_store::Mutation::Set { key, value } = mutation {
                batch.expect(key, Some(value));
            }
        }
        staged_position_put(&mut batch, project, &self.id, position);
        batch
    }

    pub(super) async fn advance(self, context: &Context, call: &Call, position: u64) -> Result<u64> {
        let batch = self.batch(call.project, position);
        commit(context, batch).await?;
        Ok(position)
    }
}

pub(super) async fn commit(context: &Context, batch: Batch) -> Result<()> {
    match context.store.commit(batch).await? {
        Commit::Done { .. } => Ok(()),
        Commit::Conflict => Err(Error::OutOfSequence("another client is writing to this restore")),
    }
}
