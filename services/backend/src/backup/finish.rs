//! The end of a restore: written blocks are folded, then one transaction makes the run live
//! with everything in its head.

use matyan_model::{
    change::change_put,
    entity::{Entity, Experiment, Tag, entity_find, entity_get},
    position::{Cursor, cursor_get, cursor_put},
    quarantine::quarantine_restore,
    run::{
        Head, Parent, Props, StagedProducers, head_get, origin_get, staged_get, staged_link,
        staged_producers_link, staged_producers_prepare, writing_get, writing_put,
    },
};
use matyan_proto::{backup::v1 as pb, limits};
use matyan_store::{Snapshot, Transaction, transact};
use matyan_value::{Map, cbor};

use super::{
    convert, log_positions,
    stage::{self, OpenRestore},
    write::fold,
};
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::{Error, Result},
};

pub(super) async fn finish(
    deps: &Deps,
    call: &Call,
    request: pb::FinishRunRequest,
) -> Result<pb::FinishRunResponse> {
    let head = request.head.ok_or_else(|| Error::field("head", "is missing"))?;
    let params = params(&head)?;
    let open = match stage::open(deps, call, &request.run_id, &request.source).await {
        Ok(open) => open,
        // A repeated call succeeds, because the response to the first one may have been
        // lost.
        Err(error) if is_finished(deps, call, &request.run_id, &request.source).await? => {
            tracing::debug!(%error, "run is already restored");
            return Ok(pb::FinishRunResponse::default());
        }
        Err(error) => return Err(error),
    };
    fold(deps, call, &open, true).await?;
    let store = deps.store.as_ref();
    loop {
        // Copying the producers may take many transactions, and so longer than a
        // snapshot lives.
        let producers = staged_producers_prepare(store, call.project, &open.id, &open.staged).await?;
        let (linked, _) = transact(store, async |transaction: Transaction| {
            let input = (&head, &params, request.cut.as_ref());
            link(deps, call, transaction, &open, producers.clone(), input).await
        })
        .await?;
        match linked {
            LinkOutcome::Done { links_lost } => return Ok(pb::FinishRunResponse { links_lost }),
            LinkOutcome::Taken => {
                return Err(stage::discard_taken(store, call.project, &open.id, &open.staged).await?);
            }
            LinkOutcome::Moved => {}
        }
    }
}

/// Outcome of the transaction that makes a run live.
enum LinkOutcome {
    Done {
        links_lost: u32,
    },
    /// The id belongs to a live run, or to a run that was deleted during the restore.
    Taken,
    /// One of the run's producers has advanced during the restore.
    Moved,
}

fn params(head: &pb::RunHead) -> Result<Map> {
    check_limit("head.params", head.params.len(), limits::RUN_PARAMS_BYTES)?;
    if head.params.is_empty() {
        return Ok(Map::new());
    }
    cbor::decode_map(&head.params).map_err(|error| Error::field("head.params", error.to_string()))
}

/// Whether the run is live and was made from this source, which happens when the response to an
/// earlier call was lost.
async fn is_finished(deps: &Deps, call: &Call, run_id: &str, source: &[u8]) -> Result<bool> {
    let id = stage::run_id(run_id)?;
    let source = convert::source(source)?;
    let snapshot = deps.store.snapshot().await?;
    let Some(Head::Live(number)) = head_get(snapshot.as_ref(), call.project, &id).await? else {
        return Ok(false);
    };
    Ok(origin_get(snapshot.as_ref(), call.project, number).await? == Some(source))
}

async fn link(
    deps: &Deps,
    call: &Call,
    mut transaction: Transaction,
    open: &OpenRestore,
    producers: Option<StagedProducers>,
    (head, params, cut): (&pb::RunHead, &Map, Option<&pb::Cut>),
) -> Result<(Transaction, LinkOutcome)> {
    let project = call.project;
    let id = &open.id;
    let number = open.staged.number;
    if transaction.get(&matyan_model::keys::head(project, id)).await?.is_some() {
        return Ok((transaction, LinkOutcome::Taken));
    }
    let is_open = staged_get(transaction.unchecked(), project, id).await? == Some(open.staged);
    if !is_open {
        return Err(stage::not_started());
    }
    // The marks of the producers have moved since they were read, or while their definitions
    // were copied.
    let Some(producers) = producers else { return Ok((transaction, LinkOutcome::Moved)) };
    if !staged_producers_link(&mut transaction, project, id, number, producers).await? {
        return Ok((transaction, LinkOutcome::Moved));
    }
    let mut props = convert::props(id.as_str(), head, (deps.clock)())?;
    let links_lost = resolve_links(&transaction, call, head, &mut props).await?;
    let mut writing = writing_get(transaction.unchecked(), project, number).await?;
    writing.last_data_us = head.last_data_us;
    let own = cursor_get(transaction.unchecked(), project, id).await?;
    let archived = archived_cursor(transaction.unchecked(), head, cut).await?;
    let cursor = next_cursor(own, archived, head.given_up);
    if let Some(pb::Quarantine { reason, since_us }) = head.quarantine.clone() {
        check_limit("head.quarantine.reason", reason.len(), limits::CHUNK_BYTES)?;
        let cursors = (cursor.or(own).unwrap_or_default(), archived);
        quarantine_restore(&mut transaction, project, id, number, (reason, since_us), cursors).await?;
    } else if let Some(cursor) = cursor {
        cursor_put(transaction.batch(), project, id, cursor);
    }
    staged_link(&mut transaction, project, id, &open.staged, (props, params.clone())).await?;
    let batch = transaction.batch();
    writing_put(batch, project, number, &writing);
    change_put(batch, project, number, (deps.clock)(), &call.caller);
    Ok((transaction, LinkOutcome::Done { links_lost }))
}

/// The cursor of the archive in this store, if its positions mean something here.
async fn archived_cursor(
    snapshot: &dyn Snapshot,
    head: &pb::RunHead,
    cut: Option<&pb::Cut>,
) -> Result<Option<Cursor>> {
    let (Some(stored), Some(cut)) = (&head.cursor, cut) else { return Ok(None) };
    let Some(numbers) = log_positions::numbers(snapshot, cut).await? else { return Ok(None) };
    Ok(log_positions::cursor(stored, cut, numbers))
}

/// The cursor for the run's next records: never earlier than the existing one. `None` if that is kept.
fn next_cursor(own: Option<Cursor>, archived: Option<Cursor>, is_given_up: bool) -> Option<Cursor> {
    let later = archived.filter(|archived| own.is_none_or(|own| own.is_before(archived)));
    let own = own.unwrap_or_default();
    let Cursor { is_quarantined, is_replaying, .. } = own;
    // The id may be in quarantine although there was no run.
    let later = later.map(|later| Cursor { is_quarantined, is_replaying, ..later });
    if is_given_up { Some(Cursor { is_given_up, ..later.unwrap_or(own) }) } else { later }
}

/// Links experiment, tags and parent by their ids in this store; returns the number that do not
/// exist.
async fn resolve_links(
    transaction: &Transaction,
    call: &Call,
    head: &pb::RunHead,
    props: &mut Props,
) -> Result<u32> {
    let mut lost = 0;
    if let Some(link) = &head.experiment {
        props.experiment = find_linked::<Experiment>(transaction, call, link).await?;
        lost += u32::from(props.experiment.is_none());
    }
    check_limit("head.tags", head.tags.len(), limits::RUNS_PER_CALL)?;
    for link in &head.tags {
        match find_linked::<Tag>(transaction, call, link).await? {
            Some(id) => props.tags.push(id),
            None => lost += 1,
        }
    }
    props.tags.sort();
    props.tags.dedup();
    if let Some(parent) = &head.parent {
        let id = stage::run_id(&parent.run_id)?;
        match head_get(transaction.unchecked(), call.project, &id).await? {
            Some(Head::Live(number)) => props.parent = Some(Parent { number: number.0, step: parent.step }),
            Some(Head::Tombstone(_)) | None => lost += 1,
        }
    }
    Ok(lost)
}

/// The entity with this id, or otherwise the entity with this name.
pub(super) async fn find_linked<E: Entity>(
    transaction: &Transaction,
    call: &Call,
    link: &pb::Link,
) -> Result<Option<String>> {
    let snapshot = transaction.unchecked();
    if !link.id.is_empty()
        && link.id.len() <= limits::NAME_BYTES
        && entity_get::<E>(snapshot, call.project, &link.id).await?.is_some()
    {
        return Ok(Some(link.id.clone()));
    }
    if link.name.len() > limits::NAME_BYTES {
        return Ok(None);
    }
    Ok(entity_find(snapshot, call.project, E::KIND, &link.name).await?)
}
