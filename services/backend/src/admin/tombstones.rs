//! Removes tombstones that are no longer needed, as a worker does every hour.

use matyan_maintenance::{CLEANUP_TOMBSTONES, Job, SPOOL_US, Tombstones};
use matyan_model::{keys, run::tombstones_list};
use matyan_proto::admin::v1::{CleanupTombstonesRequest, CleanupTombstonesResponse, JobProgress};

use super::job;
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    stream::{End, Sender},
};

/// A run deleted more recently may still have unsent data in a client's spool.
const SPOOL_S: u64 = SPOOL_US.unsigned_abs() / 1_000_000;

pub(super) fn check(request: &CleanupTombstonesRequest) -> Result<()> {
    let asked = request.older_than_s;
    if (1..SPOOL_S).contains(&asked) && !request.force {
        return Err(Error::field(
            "older_than_s",
            format!(
                "is {asked}: a client may keep unsent data for {SPOOL_S} s (720 hours), and that would bring its run \
                 back; use at least {SPOOL_S}, or set `force` if no client has unsent data"
            ),
        ));
    }
    Ok(())
}

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: CleanupTombstonesRequest,
    sender: &Sender<CleanupTombstonesResponse>,
) -> Result<(), End> {
    let mut job = job::begin(context, CLEANUP_TOMBSTONES).await?.dry(request.dry_run);
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
    let age_s = if request.older_than_s == 0 { SPOOL_S } else { request.older_than_s };
    let kept_us = i64::try_from(age_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let Context { store, log, blobs, .. } = context;
    let now_us = (context.clock)();
    let sweep = Tombstones::new(store.as_ref(), log.as_ref(), blobs.as_ref(), now_us, kept_us).await?;
    let project = call.named();
    let (mut progress, mut rest) = (JobProgress::default(), Some(keys::tombstones(call.project)));
    while let Some(range) = rest {
        let snapshot = store.snapshot().await?;
        let (listed, next) = tombstones_list(snapshot.as_ref(), call.project, &range).await?;
        drop(snapshot);
        rest = next;
        let mut run_ids = Vec::new();
        for (id, tombstone) in listed {
            progress.done += 1;
            let is_gone = match request.dry_run {
                true => sweep.may_go(&tombstone),
                false => match sweep.sweep(job, &project, &id, &tombstone).await {
                    Ok(swept) => {
                        for (key, error) in &swept.left {
                            tracing::warn!(key = key.as_str(), %error, "failed to delete blob of deleted run");
                        }
                        progress.failed += swept.left.len() as u64;
                        swept.is_gone
                    }
                    Err(matyan_maintenance::Error::Blobs(error)) => {
                        tracing::warn!(run = id.as_str(), %error, "failed to remove tombstone");
                        progress.failed += 1;
                        false
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            if is_gone {
                run_ids.push(id.as_str().to_owned());
            }
        }
        sender.send(CleanupTombstonesResponse { progress: Some(progress), run_ids }).await?;
    }
    progress.total = progress.done;
    sender.send(CleanupTombstonesResponse { progress: Some(progress), run_ids: Vec::new() }).await?;
    Ok(())
}
