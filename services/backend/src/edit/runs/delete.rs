//! Deletion of runs: first a record in the log, after all other records of the run, then the
//! flag that hides the run. In this order, a failure leaves either no trace, or a run that is
//! deleted once the worker applies the record.

use matyan_model::{
    change::change_put,
    ids::{RunId, RunNumber},
    quarantine::quarantine_delete,
    run::{ClearOutcome, Head, head_get, pending_delete_put, tombstone_clear},
};
use matyan_proto::{common::v1::LogPosition, runs::v1::DeleteBatchResponse};
use matyan_store::{Transaction, transact};
use std::{collections::BTreeMap, time::Duration};

use super::change::PAGE_RUNS;
use crate::{
    server::{
        audit::audit_no_effect,
        call::Call,
        control_record,
        deps::{Deps, position_view},
        error::{Error, Result},
    },
    view::run_lookup::is_run_id,
};

/// The longest time that clearing a tombstone waits for the deletion to complete.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between checks of a deletion in progress.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) async fn delete(deps: &Deps, call: &Call, run_id: &str) -> Result<LogPosition> {
    let mut unknown = Vec::new();
    let DeletedPage { positions, has_effect } =
        delete_page(deps, call, &[run_id.to_owned()], &mut unknown).await?;
    let position = positions.first().copied().ok_or_else(|| Error::not_found("run", run_id))?;
    if !has_effect {
        audit_no_effect();
    }
    Ok(position)
}

/// The runs that were deleted together.
#[derive(Default)]
struct DeletedPage {
    /// The positions of their records.
    positions: Vec<LogPosition>,
    /// Whether any of them had not been deleted already, or had parked records.
    has_effect: bool,
}

/// Deletes some runs: one record for each, appended together, then one transaction that hides
/// all.
async fn delete_page(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    unknown: &mut Vec<String>,
) -> Result<DeletedPage> {
    let mut deleted = Vec::new();
    let mut hidden = Vec::new();
    let mut has_damaged = false;
    for run_id in run_ids {
        if !is_run_id(run_id) {
            unknown.push(run_id.clone());
            continue;
        }
        let id = RunId::new(run_id);
        match deps.find_kept_run(call, run_id).await {
            Ok(found) => hidden.push((id, found.number)),
            // Repeating a delete succeeds, even if the run is already deleted.
            Err(Error::NotFound { .. }) if is_known(deps, call, &id).await? => {}
            // The worker deletes the run without reading its damaged rows.
            Err(Error::DamagedRun { .. }) => has_damaged = true,
            Err(Error::NotFound { .. }) => {
                unknown.push(run_id.clone());
                continue;
            }
            Err(error) => return Err(error),
        }
        deleted.push(run_id.as_str());
    }
    if deleted.is_empty() {
        return Ok(DeletedPage::default());
    }
    let is_any_kept = has_damaged || !hidden.is_empty();
    let positions = append(deps, call, &deleted).await?;
    hide(deps, call, hidden).await?;
    let is_any_dropped = drop_parked(deps, call, &deleted).await?;
    Ok(DeletedPage { positions, has_effect: is_any_kept || is_any_dropped })
}

/// Lets the worker drop the parked records of the runs that are in quarantine, now that their deletes
/// follow. Returns whether any of these records were not being dropped already.
async fn drop_parked(deps: &Deps, call: &Call, run_ids: &[&str]) -> Result<bool> {
    let (is_any_dropped, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let mut is_any_dropped = false;
        for run_id in run_ids {
            is_any_dropped |= quarantine_delete(&mut transaction, call.project, &RunId::new(*run_id)).await?;
        }
        Ok::<_, Error>((transaction, is_any_dropped))
    })
    .await?;
    Ok(is_any_dropped)
}

async fn is_known(deps: &Deps, call: &Call, id: &RunId) -> Result<bool> {
    let snapshot = deps.store.snapshot().await?;
    Ok(matches!(
        head_get(snapshot.as_ref(), call.project, id).await?,
        Some(Head::Live(_) | Head::Tombstone(_))
    ))
}

async fn append(deps: &Deps, call: &Call, run_ids: &[&str]) -> Result<Vec<LogPosition>> {
    let now = (deps.clock)();
    let record = |run_id: &&str| control_record::deletion(deps.log_format, call, run_id, now);
    let positions = deps.append(run_ids.iter().map(record).collect()).await?;
    Ok(positions.into_iter().map(position_view).collect())
}

/// Hides runs from all readers, unless the id has been given to another run since the delete
/// was written.
async fn hide(deps: &Deps, call: &Call, mut runs: Vec<(RunId, RunNumber)>) -> Result<()> {
    // A run that is named twice would be loaded before its first change.
    runs.sort_unstable_by_key(|(_, number)| *number);
    runs.dedup_by_key(|(_, number)| *number);
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        for (id, number) in &runs {
            if pending_delete_put(&mut transaction, call.project, id, *number).await? {
                change_put(transaction.batch(), call.project, *number, (deps.clock)(), &call.caller);
            }
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

/// The outcome of the deletion of a batch of runs.
pub(crate) struct DeletedBatch {
    pub(super) response: DeleteBatchResponse,
    /// Whether any of the runs had not been deleted already, or had parked records.
    pub(super) has_effect: bool,
}

pub(crate) async fn delete_batch(deps: &Deps, call: &Call, run_ids: Vec<String>) -> Result<DeletedBatch> {
    let mut unknown = Vec::new();
    let mut highest: BTreeMap<u32, LogPosition> = BTreeMap::new();
    let mut has_effect = false;
    for (page, ids) in run_ids.chunks(PAGE_RUNS).enumerate() {
        let deleted = delete_page(deps, call, ids, &mut unknown).await;
        let deleted = deleted.map_err(|error| error.after(page * PAGE_RUNS))?;
        has_effect |= deleted.has_effect;
        for position in deleted.positions {
            let last = highest.entry(position.partition).or_insert(position);
            if position.offset > last.offset {
                *last = position;
            }
        }
    }
    let response = DeleteBatchResponse { unknown, positions: highest.into_values().collect() };
    Ok(DeletedBatch { response, has_effect })
}

/// Makes a deleted run id available again; returns whether it had a tombstone. Waits until the
/// deletion is applied, the blobs are deleted, and the records logged until now are dropped.
pub(crate) async fn clear_tombstone(deps: &Deps, call: &Call, run_id: &str) -> Result<bool> {
    if !is_run_id(run_id) {
        return Ok(false);
    }
    let id = RunId::new(run_id);
    drop_late_records(deps, call, &id).await?;
    let cleared = async {
        loop {
            let (clearing, stamp) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
                let clearing = tombstone_clear(&mut transaction, call.project, &id).await?;
                Ok::<_, Error>((transaction, clearing))
            })
            .await?;
            match clearing {
                ClearOutcome::Free => return Ok(stamp.is_some()),
                ClearOutcome::Live => return Ok(false),
                ClearOutcome::Waiting => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    };
    let waited = tokio::time::timeout(CLEAR_TIMEOUT, cleared).await;
    waited.unwrap_or(Err(Error::Waiting("the deletion of the run is not complete yet")))
}

/// Waits until the records are applied that were logged to a deleted run so far, because they must not
/// become part of the next run with its id.
async fn drop_late_records(deps: &Deps, call: &Call, id: &RunId) -> Result<()> {
    if !is_known(deps, call, id).await? {
        return Ok(());
    }
    let barrier = control_record::barrier(call, id.as_str(), (deps.clock)());
    let position = deps.append(vec![barrier]).await?[0];
    let applied = deps.wait_applied(position, Some((call.project, id))).await;
    applied.map_err(|error| match error {
        Error::NotYetApplied(_) => Error::Waiting("the records of the deleted run are not dropped yet"),
        error => error,
    })
}
