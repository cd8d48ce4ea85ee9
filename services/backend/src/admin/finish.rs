//! Ends active runs that have sent nothing for a time: their writers are gone and did not say so.

use matyan_model::{
    change::change_put,
    ids::RunNumber,
    keys,
    run::{RunEdit, writing_get},
};
use matyan_proto::admin::v1::{FinishStaleRequest, FinishStaleResponse, JobProgress};
use matyan_store::Transaction;
use matyan_upkeep::Job;

use super::job;
use crate::{
    Context,
    call::Call,
    error::{Error, Result},
    linked::Linked,
    stream::{End, Sender},
};

const JOB: &str = "finish-stale";

pub(super) fn check(request: &FinishStaleRequest) -> Result<()> {
    if request.idle_s == 0 {
        return Err(Error::field("idle_s", "is 0: every run would be stale"));
    }
    Ok(())
}

pub(super) async fn run(
    context: &Context,
    call: &Call,
    request: FinishStaleRequest,
    sender: &Sender<FinishStaleResponse>,
) -> Result<(), End> {
    let mut job = job::begin(context, JOB).await?;
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
    let idle_us = i64::try_from(request.idle_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let before_us = (context.clock)().saturating_sub(idle_us);
    let mut linked = Linked::all(keys::index_active_all(call.project, true));
    let mut done = 0;
    while let Some(page) = linked.next(context, call).await? {
        let mut run_ids = Vec::new();
        for (number, document) in page {
            done += 1;
            let is_stale = match request.dry_run {
                true => last_us(context, call, number, document.props.created_us).await? < before_us,
                false => finish_one(context, call, number, before_us, job).await?,
            };
            run_ids.extend(is_stale.then_some(document.props.run_id));
        }
        let progress = Some(JobProgress { done, total: 0, failed: 0 });
        sender.send(FinishStaleResponse { progress, run_ids }).await?;
    }
    let progress = Some(JobProgress { done, total: done, failed: 0 });
    sender.send(FinishStaleResponse { progress, run_ids: Vec::new() }).await?;
    Ok(())
}

/// When the run was last heard of.
async fn last_us(context: &Context, call: &Call, number: RunNumber, created_us: i64) -> Result<i64> {
    let snapshot = context.store.snapshot().await?;
    let writing = writing_get(snapshot.as_ref(), call.project, number).await?;
    Ok(writing.last_data_us.max(created_us))
}

/// Ends the run unless it has been heard of meanwhile.
async fn finish_one(
    context: &Context,
    call: &Call,
    number: RunNumber,
    before_us: i64,
    job: &mut Job<'_>,
) -> Result<bool> {
    let now = (context.clock)();
    job.write(async |mut transaction: Transaction| {
        // Checked: a record that is applied meanwhile says that the run lives.
        transaction.get(&keys::writing(call.project, number)).await?;
        let writing = writing_get(transaction.unchecked(), call.project, number).await?;
        let Some(mut edit) = RunEdit::load(&transaction, call.project, number).await? else {
            return Ok((transaction, false));
        };
        let last_us = writing.last_data_us.max(edit.props.created_us);
        if !edit.props.active || edit.props.pending_delete || last_us >= before_us {
            return Ok((transaction, false));
        }
        (edit.props.active, edit.props.updated_us) = (false, now);
        edit.props.finalized_us = Some(last_us);
        edit.write(transaction.batch());
        change_put(transaction.batch(), call.project, number, now, &call.caller);
        Ok::<_, Error>((transaction, true))
    })
    .await
}
