//! Quarantine of runs at an operator's request.

use bytes::Bytes;
use matyan_log::{NewRecord, Topic};
use matyan_model::{
    ids::RunId,
    quarantine::{quarantine_begin, quarantine_resume},
};
use matyan_proto::{admin::v1::ParkRunRequest, limits, log::v1::LogEntry};
use matyan_record::ingestion::{self, RecordFormat};
use matyan_store::{Transaction, transact};

use crate::{
    Deps,
    call::Call,
    convert,
    error::{Error, Result},
    run_lookup::is_run_id,
};

const DEFAULT_REASON: &str = "an operator parked it";

pub(super) async fn park(deps: &Deps, call: &Call, request: &ParkRunRequest) -> Result<()> {
    let ParkRunRequest { run_id, reason } = request;
    if !is_run_id(run_id) {
        let limit = limits::RUN_ID_BYTES;
        return Err(Error::field("run_id", format!("must have 1 to {limit} bytes")));
    }
    convert::check_limit("reason", reason.len(), limits::NAME_BYTES)?;
    let (id, reason) = (RunId::new(run_id.as_str()), if reason.is_empty() { DEFAULT_REASON } else { reason });
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        quarantine_begin(&mut transaction, call.project, &id, reason, (deps.clock)()).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    tracing::warn!(run = run_id, reason, "parking the records of a run at an operator's request");
    Ok(())
}

/// Lets a worker apply the parked records of a run. A record without items makes the one that reads
/// the run's partition look at it.
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
