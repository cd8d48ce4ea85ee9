//! Runs in quarantine: listing them, and parking and resuming them at an operator's request.

use bytes::Bytes;
use matyan_log::{NewRecord, Topic};
use matyan_model::{
    ids::RunId,
    keys,
    quarantine::{Quarantine, quarantine_begin, quarantine_resume, quarantines_list},
};
use matyan_proto::{
    admin::v1::{ListQuarantinedRunsRequest, ListQuarantinedRunsResponse, ParkRunRequest, QuarantinedRun},
    limits,
    log::v1::LogEntry,
};
use matyan_store::{Error as StoreError, Range, Transaction, transact};
use matyan_wire::ingestion::{self, RecordFormat};

use super::parked::{decode_end, page_size, project};
use crate::{
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
    },
    view::run_lookup::is_run_id,
};

const DEFAULT_REASON: &str = "an operator parked it";

pub(super) async fn park(deps: &Deps, call: &Call, request: &ParkRunRequest) -> Result<()> {
    let ParkRunRequest { run_id, reason } = request;
    if !is_run_id(run_id) {
        let limit = limits::RUN_ID_BYTES;
        return Err(Error::field("run_id", format!("must have 1 to {limit} bytes")));
    }
    convert::check_limit("reason", reason.len(), limits::NAME_BYTES)?;
    let id = RunId::new(run_id.as_str());
    let reason = if reason.is_empty() { DEFAULT_REASON } else { reason };
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        quarantine_begin(&mut transaction, call.project, &id, reason, (deps.clock)()).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    tracing::warn!(run = run_id, reason, "parking the records of a run at an operator's request");
    Ok(())
}

pub(super) async fn list(
    deps: &Deps,
    call: &Call,
    request: &ListQuarantinedRunsRequest,
) -> Result<ListQuarantinedRunsResponse> {
    let size = page_size(request.page_size)?;
    let project = project(call, request.unknown_projects)?;
    let all = keys::quarantines(project);
    let range = match (request.run_id.as_str(), decode_end(&request.page_token, &all)?) {
        ("", None) => all,
        ("", Some(last)) => all.after(&last),
        (run_id, _) if !is_run_id(run_id) => return Ok(ListQuarantinedRunsResponse::default()),
        (run_id, _) => {
            let key = keys::quarantine(project, &RunId::new(run_id));
            Range::new(key.clone(), all.after(&key).start)
        }
    };
    let (page, rest) = quarantines_list(deps.store.snapshot().await?.as_ref(), &range, size).await?;
    let last = page.last().filter(|_| rest.is_some() && request.run_id.is_empty());
    let next_page_token = last.map(|(id, _)| hex::encode(keys::quarantine(project, id))).unwrap_or_default();
    let runs = page.into_iter().map(|(id, row)| run_view(&id, row)).collect();
    Ok(ListQuarantinedRunsResponse { runs, next_page_token })
}

fn run_view(id: &RunId, row: Result<Quarantine, StoreError>) -> QuarantinedRun {
    let run_id = id.as_str().to_owned();
    match row {
        Ok(Quarantine { reason, since_us, parked_bytes, is_ending, .. }) => {
            QuarantinedRun { run_id, reason, since_us: Some(since_us), parked_bytes, ending: is_ending }
        }
        Err(error) => QuarantinedRun { run_id, reason: error.to_string(), ..QuarantinedRun::default() },
    }
}

/// Lets a worker apply the parked records of a run. A record without items makes the
/// worker that reads the run's partition look at the run.
pub(super) async fn resume(deps: &Deps, call: &Call, run_id: &str) -> Result<()> {
    let id = RunId::new(run_id);
    let (is_resumed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let is_resumed = is_run_id(run_id) && quarantine_resume(&mut transaction, call.project, &id).await?;
        Ok::<_, Error>((transaction, is_resumed))
    })
    .await?;
    if !is_resumed {
        return Err(Error::not_found("quarantine of run", run_id));
    }
    // Consumers of JSON records expect an item in each: there, the run's next record has to suffice.
    if deps.log_format == RecordFormat::Protobuf {
        let entry = LogEntry {
            run_id: run_id.to_owned(),
            project: call.project_name.clone(),
            caller: call.caller.clone(),
            received_us: (deps.clock)(),
            ..LogEntry::default()
        };
        let key = Bytes::copy_from_slice(run_id.as_bytes());
        let record = NewRecord { key, value: ingestion::encode(&entry), headers: ingestion::headers(None) };
        deps.log.append(Topic::Ingestion, vec![record]).await?;
    }
    Ok(())
}
