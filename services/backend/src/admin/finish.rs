//! Ends active runs that have sent nothing for some time, as the control worker does
//! periodically.

use std::time::Duration;

use matyan_maintenance::{FINISH_STALE, Job, Stale};
use matyan_proto::admin::v1::{FinishStaleRequest, FinishStaleResponse, JobProgress};

use super::job;
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    stream::{End, Sender},
};

pub(super) fn check(request: &FinishStaleRequest) -> Result<()> {
    if request.idle_s == 0 {
        return Err(Error::field("idle_s", "is 0, which would make every run stale: give at least 1"));
    }
    Ok(())
}

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: FinishStaleRequest,
    sender: &Sender<FinishStaleResponse>,
) -> Result<(), End> {
    let mut job = job::begin(context, FINISH_STALE).await?.dry(request.dry_run);
    let result = finish(context, call, &request, &mut job, sender).await;
    job.end(result).await
}

async fn finish(
    context: &Context,
    call: &Call,
    request: &FinishStaleRequest,
    job: &mut Job<'_>,
    sender: &Sender<FinishStaleResponse>,
) -> Result<(), End> {
    let (store, log, now_us) = (context.store.as_ref(), context.log.as_ref(), (context.clock)());
    let mut stale = Stale::new(store, log, call.project, now_us, Duration::from_secs(request.idle_s)).await?;
    let mut done = 0;
    while let Some(page) = match request.dry_run {
        true => stale.find().await?,
        false => stale.end(job, &call.caller).await?,
    } {
        done += page.looked_at;
        let progress = Some(JobProgress { done, total: 0, failed: 0 });
        sender.send(FinishStaleResponse { progress, run_ids: page.run_ids }).await?;
    }
    let progress = Some(JobProgress { done, total: done, failed: 0 });
    sender.send(FinishStaleResponse { progress, run_ids: Vec::new() }).await?;
    Ok(())
}
