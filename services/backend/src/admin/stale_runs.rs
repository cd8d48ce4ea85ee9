//! Ends active runs that have sent nothing for some time, as the control worker does
//! periodically.

use std::time::Duration;

use matyan_maintenance::{FINISH_STALE, JobLock, Pace, StaleRuns};
use matyan_proto::admin::v1::{FinishStaleRequest, FinishStaleResponse, JobProgress};

use super::job;
use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

pub(super) fn check(request: &FinishStaleRequest) -> Result<()> {
    if request.idle_s == 0 {
        return Err(Error::field("idle_s", "is 0, which would make every run stale: give at least 1"));
    }
    Ok(())
}

pub(super) async fn run(
    deps: &Deps,
    call: &Call,
    request: FinishStaleRequest,
    sender: &Sender<FinishStaleResponse>,
) -> Result<(), StreamEnd> {
    let mut lock = job::lock(deps, FINISH_STALE, call.project).await?.dry(request.dry_run);
    let result = finish(deps, call, &request, &mut lock, sender).await;
    lock.release(result).await
}

async fn finish(
    deps: &Deps,
    call: &Call,
    request: &FinishStaleRequest,
    lock: &mut JobLock<'_>,
    sender: &Sender<FinishStaleResponse>,
) -> Result<(), StreamEnd> {
    let idle = Duration::from_secs(request.idle_s);
    let mut stale_runs = StaleRuns::new(job::maintenance_deps(deps), call.project, idle).await?;
    let mut done = 0;
    let mut pace = Pace::default();
    loop {
        let page = if request.dry_run {
            stale_runs.find_page().await?
        } else {
            stale_runs.finish_page(lock, &call.caller).await?
        };
        let Some(page) = page else { break };
        done += page.checked;
        let progress = Some(JobProgress { done, total: 0, failed: 0 });
        sender.send(FinishStaleResponse { progress, run_ids: page.run_ids }).await?;
        pace.rest().await;
    }
    let progress = Some(JobProgress { done, total: done, failed: 0 });
    sender.send(FinishStaleResponse { progress, run_ids: Vec::new() }).await?;
    Ok(())
}
