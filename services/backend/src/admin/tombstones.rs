//! Removes tombstones that nothing needs any more: old enough, blobs gone, the log trimmed behind the deletion.

use matyan_log::{Topic, TopicInfo};
use matyan_model::{
    ids::RunId,
    keys::{self, LogTopic},
    position::log_get,
    run::{Tombstone, tombstone_clear, tombstones_list},
};
use matyan_proto::admin::v1::{CleanupTombstonesRequest, CleanupTombstonesResponse, JobProgress};
use matyan_store::Transaction;

use super::job::Job;
use crate::{
    Context,
    call::Call,
    error::Result,
    stream::{End, Sender},
};

/// The job that workers run by themselves.
const JOB: &str = "cleanup-tombstones";

/// The longest client spool.
const KEPT_S: u64 = 30 * 24 * 3_600;

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: CleanupTombstonesRequest,
    sender: &Sender<CleanupTombstonesResponse>,
) -> Result<(), End> {
    let mut job = Job::begin(context, JOB).await?;
    let result = clean(context, call, &request, &mut job, sender).await;
    job.end(result).await
}

async fn clean(
    context: &Context,
    call: &Call,
    request: &CleanupTombstonesRequest,
    job: &mut Job<'_>,
    sender: &Sender<CleanupTombstonesResponse>,
) -> Result<(), End> {
    let age_s = if request.older_than_s == 0 { KEPT_S } else { request.older_than_s };
    let age_us = i64::try_from(age_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let before_us = (context.clock)().saturating_sub(age_us);
    let info = context.log.describe(Topic::Ingestion).await?;
    let log = log_get(context.store.snapshot().await?.as_ref(), LogTopic::Ingestion).await?;
    let log = log.unwrap_or_default().number;
    let (mut done, mut rest) = (0, Some(keys::tombstones(call.project)));
    while let Some(range) = rest {
        let snapshot = context.store.snapshot().await?;
        let (listed, next) = tombstones_list(snapshot.as_ref(), call.project, &range).await?;
        drop(snapshot);
        rest = next;
        let mut run_ids = Vec::new();
        for (id, tombstone) in listed {
            done += 1;
            let is_old = tombstone.blobs_gone && tombstone.deleted_us < before_us;
            if is_old
                && is_trimmed(&info, log, &tombstone)
                && (request.dry_run || clear(call, &id, job).await?)
            {
                run_ids.push(id.as_str().to_owned());
            }
        }
        let progress = Some(JobProgress { done, total: 0, failed: 0 });
        sender.send(CleanupTombstonesResponse { progress, run_ids }).await?;
    }
    let progress = Some(JobProgress { done, total: done, failed: 0 });
    sender.send(CleanupTombstonesResponse { progress, run_ids: Vec::new() }).await?;
    Ok(())
}

/// Nothing that was written before the deletion is left in the log.
fn is_trimmed(info: &TopicInfo, log: u32, tombstone: &Tombstone) -> bool {
    let first = info.partitions.get(tombstone.at.partition as usize).map_or(0, |bounds| bounds.first);
    tombstone.at.log < log || (tombstone.at.log == log && tombstone.at.offset < first)
}

async fn clear(call: &Call, id: &RunId, job: &mut Job<'_>) -> Result<bool> {
    job.write(async |mut transaction: Transaction| {
        let cleared = tombstone_clear(&mut transaction, call.project, id).await?;
        Ok((transaction, cleared == matyan_model::run::Clearing::Free))
    })
    .await
}
