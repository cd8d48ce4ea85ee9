//! Removes tombstones that are no longer needed, as a worker does every hour.

use matyan_maintenance::{BlobEvent, CLEANUP_TOMBSTONES, JobLock, LONGEST_SPOOL_US, Pace, TombstoneSweep};
use matyan_proto::admin::v1::{CleanupTombstonesRequest, CleanupTombstonesResponse, JobProgress};

use super::job;
use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// A run deleted more recently may still have unsent data in a client's spool.
const SPOOL_S: u64 = LONGEST_SPOOL_US.unsigned_abs() / 1_000_000;

pub(super) fn check(request: &CleanupTombstonesRequest) -> Result<()> {
    let age_s = request.older_than_s;
    if (1..SPOOL_S).contains(&age_s) && !request.force {
        return Err(Error::field(
            "older_than_s",
            format!(
                "is {age_s}: a client may keep unsent data for {SPOOL_S} s (720 hours), and that would bring its run \
                 back; use at least {SPOOL_S}, or set `force` if no client has unsent data"
            ),
        ));
    }
    Ok(())
}

pub(super) async fn run(
    deps: &Deps,
    call: &Call,
    request: CleanupTombstonesRequest,
    sender: &Sender<CleanupTombstonesResponse>,
) -> Result<(), StreamEnd> {
    let mut lock = job::lock(deps, CLEANUP_TOMBSTONES, call.project).await?.dry(request.dry_run);
    let result = sweep(deps, call, &request, &mut lock, sender).await;
    lock.release(result).await
}

async fn sweep(
    deps: &Deps,
    call: &Call,
    request: &CleanupTombstonesRequest,
    lock: &mut JobLock<'_>,
    sender: &Sender<CleanupTombstonesResponse>,
) -> Result<(), StreamEnd> {
    let age_s = if request.older_than_s == 0 { SPOOL_S } else { request.older_than_s };
    let kept_us = i64::try_from(age_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let mut sweep =
        TombstoneSweep::new(job::maintenance_deps(deps), vec![call.named_project()], kept_us).await?;
    let mut done = 0;
    let mut failed = 0;
    let mut pace = Pace::default();
    loop {
        let mut observe = |event: BlobEvent<'_>| {
            if let BlobEvent::BlobFailed | BlobEvent::RunFailed = event {
                failed += 1;
            }
        };
        let page = if request.dry_run {
            sweep.find_page().await?
        } else {
            sweep.sweep_page(lock, &mut observe).await?
        };
        let Some(page) = page else { break };
        done += page.checked;
        let run_ids = page.run_ids.iter().map(|id| id.as_str().to_owned()).collect();
        let progress = Some(JobProgress { done, total: 0, failed });
        sender.send(CleanupTombstonesResponse { progress, run_ids }).await?;
        pace.rest().await;
    }
    let progress = Some(JobProgress { done, total: done, failed });
    sender.send(CleanupTombstonesResponse { progress, run_ids: Vec::new() }).await?;
    Ok(())
}
