//! Validation of an event: one function per kind, following `batch.proto` and the table of
//! limits.

use matyan_proto::{
    ingest::v1::{self as pb, event::Kind},
    limits,
};

use super::{Problem, values};
use crate::{
    field_checks::{artifact_path_check, content_type_check},
    run_id::RunId,
};

pub(super) fn check(run: &RunId, event: &pb::Event) -> Result<(), Problem> {
    match &event.kind {
        Some(Kind::CreateRun(create)) => create_run(create),
        Some(Kind::FinishRun(finish)) => finish_run(finish),
        Some(Kind::SetRunProperty(set)) => set_run_property(set),
        Some(Kind::AddTag(pb::AddTag { name }) | Kind::RemoveTag(pb::RemoveTag { name })) => {
            size("name", name, limits::NAME_BYTES)
        }
        Some(Kind::LogParams(params)) => log_params(params),
        Some(Kind::LogObject(object)) => log_object(run, object),
        Some(Kind::LogTerminalLine(line)) => size("line", &line.line, limits::LOG_BYTES),
        Some(Kind::LogRecord(record)) => log_record(record),
        Some(Kind::BlobRef(blob)) => blob_ref(run, blob),
        Some(Kind::DeleteRun(pb::DeleteRun {})) => {
            Err(Problem::new("delete_run", "is not available to clients: call RunService.Delete"))
        }
        Some(Kind::EditSeries(_)) => Err(Problem::new(
            "edit_series",
            "is not available to clients: call SeriesService.Rename or Delete",
        )),
        None => Err(Problem::new("kind", "is unknown to this server")),
    }
}

fn size(field: &'static str, text: &str, limit: usize) -> Result<(), Problem> {
    if text.len() > limit { Err(Problem::too_long(field, text.len(), limit)) } else { Ok(()) }
}

fn create_run(create: &pb::CreateRun) -> Result<(), Problem> {
    size("client", &create.client, limits::CLIENT_BYTES)?;
    if create.created_us.is_some_and(i64::is_negative) {
        return Err(Problem::new("created_us", "is before 1970"));
    }
    if !create.parent_run_id.is_empty() {
        let parent = RunId::parse(create.parent_run_id.clone());
        return parent.map(drop).map_err(|reason| Problem::new("parent_run_id", reason));
    }
    match create.parent_step {
        Some(_) => Err(Problem::new("parent_run_id", "is missing: `parent_step` is given without it")),
        None => Ok(()),
    }
}

fn finish_run(finish: &pb::FinishRun) -> Result<(), Problem> {
    let Some(outcome) = &finish.outcome else { return Ok(()) };
    if outcome.kind().name().is_none() {
        return Err(Problem::new("outcome.kind", "must be finished, failed or interrupted"));
    }
    size("outcome.message", &outcome.message, limits::DESCRIPTION_BYTES)
}

fn set_run_property(set: &pb::SetRunProperty) -> Result<(), Problem> {
    size("name", set.name(), limits::NAME_BYTES)?;
    size("description", set.description(), limits::DESCRIPTION_BYTES)?;
    size("experiment", set.experiment(), limits::NAME_BYTES)
}

fn log_params(params: &pb::LogParams) -> Result<(), Problem> {
    if params.value.len() > limits::PARAMS_BYTES {
        return Err(Problem::too_long("value", params.value.len(), limits::PARAMS_BYTES));
    }
    values::check_map("value", &params.value)
}

fn log_object(run: &RunId, object: &pb::LogObject) -> Result<(), Problem> {
    size("name", &object.name, limits::NAME_BYTES)?;
    size("dtype", &object.dtype, limits::DTYPE_BYTES)?;
    values::check_context(&object.context)?;
    values::check_objects("value", &object.value)?;
    let keys = matyan_value::cbor::map_texts(&object.value, "s3_key");
    keys.iter().try_for_each(|key| payload_key(run, key))
}

/// Checks that a key stays inside the run. A key without a slash is harmless, because every
/// blob is in the folder of a run.
fn payload_key(run: &RunId, key: &str) -> Result<(), Problem> {
    let mut segments = key.split('/');
    let is_inside = !key.contains('/') || segments.next() == Some(run.as_str());
    if is_inside && !segments.any(|segment| segment == "..") {
        return Ok(());
    }
    Err(Problem::new("s3_key", format!("is outside of the run: it must begin with `{run}/`")))
}

fn log_record(record: &pb::LogRecord) -> Result<(), Problem> {
    let bytes = record.message.len() + record.logger_info.len() + record.extra_args.len();
    if bytes > limits::LOG_BYTES {
        return Err(Problem::too_long("message", bytes, limits::LOG_BYTES));
    }
    if !record.logger_info.is_empty() {
        values::check_list("logger_info", &record.logger_info)?;
    }
    if !record.extra_args.is_empty() {
        values::check_map("extra_args", &record.extra_args)?;
    }
    Ok(())
}

fn blob_ref(run: &RunId, blob: &pb::BlobRef) -> Result<(), Problem> {
    artifact_path_check(&blob.path).map_err(|reason| Problem::new("path", reason))?;
    let expected = [run.as_str(), &blob.path].join("/");
    if blob.key != expected {
        return Err(Problem::new("key", format!("is not `{expected}`")));
    }
    content_type_check(&blob.content_type).map_err(|reason| Problem::new("content_type", reason))?;
    match blob.content_hash.len() {
        0 | limits::CONTENT_HASH_BYTES => Ok(()),
        len => Err(Problem::new("content_hash", format!("has {len} bytes: BLAKE3 has 32"))),
    }
}
