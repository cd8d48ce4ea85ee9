//! Tombstones: kept until nothing can bring the run back. The log has passed the delete, the blobs are gone, and the longest
//! client spool is over. Where blobs are still there long after the delete, they are deleted again: the event may be lost
//! with a control topic.

use matyan_log::Topic;
use matyan_model::{
    ids::{Project, RunNumber},
    keys::{self, LogTopic},
    lock::{Lock, lock_check, lock_release, lock_take},
    position::log_get,
    run::{Tombstone, tombstone_clear, tombstones_list},
};
use matyan_store::{Batch, Transaction, transact};

use super::projects;
use crate::{control::delete_folder, deps::Deps, error::Error, metrics::Metrics};

/// The longest client spool.
const KEPT_US: i64 = 30 * 24 * 3_600_000_000;
/// After this the control event about a delete counts as lost.
const BLOBS_EXPECTED_US: i64 = 3_600_000_000;
/// A lock that was taken earlier may be taken over.
const STALE_US: i64 = 3_600_000_000;

const JOB: &str = "cleanup-tombstones";

pub(crate) async fn sweep(deps: &Deps, metrics: &Metrics) -> Result<(), Error> {
    let Some(lock) = take_lock(deps).await? else { return Ok(()) };
    let swept = sweep_locked(deps, metrics, &lock).await;
    let mut batch = Batch::default();
    lock_release(&mut batch, &lock);
    // A conflict means that somebody took it over, and then it is not ours to release. Of a sweep that is cut off the lock stays
    // until it is stale.
    deps.store.commit(batch).await?;
    swept
}

async fn take_lock(deps: &Deps) -> Result<Option<Lock>, Error> {
    let (owner, now_us) = ((deps.random)(), deps.now_us());
    let taken = transact(&*deps.store, async |mut transaction: Transaction| {
        let lock = lock_take(&mut transaction, JOB, owner, now_us, now_us.saturating_sub(STALE_US)).await?;
        Ok::<_, Error>((transaction, lock))
    });
    Ok(taken.await?.0)
}

async fn sweep_locked(deps: &Deps, metrics: &Metrics, lock: &Lock) -> Result<(), Error> {
    let info = deps.log_writer.describe(Topic::Ingestion).await?;
    let log = log_get(&*deps.store.snapshot().await?, LogTopic::Ingestion).await?.unwrap_or_default();
    let has_passed = |tombstone: &Tombstone| {
        let first = info.partitions.get(tombstone.at.partition as usize).map_or(0, |bounds| bounds.first);
        tombstone.at.log < log.number || (tombstone.at.log == log.number && tombstone.at.offset < first)
    };
    let now_us = deps.now_us();
    let is_older = |tombstone: &Tombstone, age_us| tombstone.deleted_us < now_us.saturating_sub(age_us);
    for named in projects(deps).await? {
        let project = named.number;
        let mut range = Some(keys::tombstones(project));
        while let Some(own) = range {
            let (tombstones, rest) = tombstones_list(&*deps.store.snapshot().await?, project, &own).await?;
            for (id, tombstone) in tombstones {
                let number = RunNumber(tombstone.number.unwrap_or_default());
                if !tombstone.blobs_gone
                    && is_older(&tombstone, BLOBS_EXPECTED_US)
                    && let Err(error) = delete_folder(deps, metrics, &named, &id, number, Some(lock)).await
                {
                    // The others' blobs are worth no less.
                    tracing::warn!(run = id.as_str(), %error, "blobs are deleted in the next round");
                }
                if tombstone.blobs_gone && is_older(&tombstone, KEPT_US) && has_passed(&tombstone) {
                    // An upload that was allowed before the delete may have come after it. No such URL is good any more.
                    match delete_folder(deps, metrics, &named, &id, number, Some(lock)).await {
                        Ok(()) => clear(deps, project, &id, lock).await?,
                        Err(error) => tracing::warn!(run = id.as_str(), %error, "a tombstone stays"),
                    }
                }
            }
            range = rest;
        }
    }
    Ok(())
}

async fn clear(
    deps: &Deps,
    project: Project,
    id: &matyan_model::ids::RunId,
    lock: &Lock,
) -> Result<(), Error> {
    let mut transaction = Transaction::new(deps.store.snapshot().await?);
    tombstone_clear(&mut transaction, project, id).await?;
    lock_check(transaction.batch(), lock);
    // A conflict: the tombstone changed, or the job is somebody else's by now. Both are seen in the next round.
    deps.store.commit(transaction.into_batch()).await?;
    Ok(())
}
