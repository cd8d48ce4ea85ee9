//! Deletion of runs: first a record in the log, after all other records of the run, then the
//! flag that hides the run. In this order, a failure leaves either no trace, or a run that is
//! deleted once the worker applies the record.

use matyan_log::Topic;
use matyan_model::{
    change::change_put,
    ids::{RunId, RunNumber},
    keys::LogTopic,
    position::log_get,
    run::{ClearOutcome, Head, head_get, pending_delete_put, tombstone_clear},
};
use matyan_proto::{common::v1::LogPosition, runs::v1::DeleteBatchResponse};
use matyan_store::{Transaction, transact};
use std::{collections::BTreeMap, time::Duration};

use super::deletion::deletion;
use crate::{
    Deps,
    call::Call,
    error::{Error, Result},
    run_lookup::is_run_id,
};

/// The longest time that clearing a tombstone waits for the deletion to complete.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between checks of a deletion in progress.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) async fn delete(deps: &Deps, call: &Call, run_id: &str) -> Result<LogPosition> {
    if !is_run_id(run_id) {
        return Err(Error::not_found("run", run_id));
    }
    let id = RunId::new(run_id);
    let number = match deps.find_run(call, run_id).await {
        Ok(found) => Some(found.number),
        // Repeating a delete succeeds, even if the run is already deleted.
        Err(Error::NotFound { .. }) if is_known(deps, call, &id).await? => None,
        Err(error) => return Err(error),
    };
    let position = append(deps, call, run_id).await?;
    if let Some(number) = number {
        hide(deps, call, &id, number).await?;
    }
    Ok(position)
}

async fn is_known(deps: &Deps, call: &Call, id: &RunId) -> Result<bool> {
    let snapshot = deps.store.snapshot().await?;
    Ok(matches!(
        head_get(snapshot.as_ref(), call.project, id).await?,
        Some(Head::Live(_) | Head::Tombstone(_))
    ))
}

async fn append(deps: &Deps, call: &Call, run_id: &str) -> Result<LogPosition> {
    let record = deletion(deps.log_format, call, run_id, (deps.clock)());
    let positions = deps.log.append(Topic::Ingestion, vec![record]).await?;
    let at = positions.first().copied().ok_or_else(|| {
        let source = matyan_store::Error::corrupt("the log accepted a record but returned no position");
        Error::Internal(source)
    })?;
    let snapshot = deps.store.snapshot().await?;
    let known = log_get(snapshot.as_ref(), LogTopic::Ingestion).await?;
    // A log without an identity may have been recreated since a worker last checked it.
    let log = known.filter(|known| known.identity.is_some()).map(|known| known.number);
    let log = log.unwrap_or(LogPosition::UNKNOWN_LOG);
    Ok(LogPosition { log, partition: at.partition, offset: at.offset })
}

/// Hides the run from all readers, unless the id has been given to another run since the delete
/// was written.
async fn hide(deps: &Deps, call: &Call, id: &RunId, number: RunNumber) -> Result<()> {
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let hidden = pending_delete_put(&mut transaction, call.project, id, number).await?;
        if hidden {
            change_put(transaction.batch(), call.project, number, (deps.clock)(), &call.caller);
        }
        Ok::<_, Error>((transaction, hidden))
    })
    .await?;
    Ok(())
}

pub(crate) async fn delete_batch(
    deps: &Deps,
    call: &Call,
    run_ids: Vec<String>,
) -> Result<DeleteBatchResponse> {
    let mut unknown = Vec::new();
    let mut highest: BTreeMap<u32, LogPosition> = BTreeMap::new();
    for run_id in run_ids {
        match delete(deps, call, &run_id).await {
            Ok(position) => {
                // Offsets ascend, so the last position of a partition is its
                // highest.
                highest.insert(position.partition, position);
            }
            Err(Error::NotFound { .. }) => unknown.push(run_id),
            Err(error) => return Err(error),
        }
    }
    Ok(DeleteBatchResponse { unknown, positions: highest.into_values().collect() })
}

/// Makes a deleted run id available again; returns whether it had a tombstone. Waits until the
/// deletion is applied and the blobs are deleted.
pub(crate) async fn clear_tombstone(deps: &Deps, call: &Call, run_id: &str) -> Result<bool> {
    if !is_run_id(run_id) {
        return Ok(false);
    }
    let id = RunId::new(run_id);
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
