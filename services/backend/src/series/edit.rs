//! Edits of series: a record in the log of the run, and its outcome. The worker applies the edit in the
//! order of the log, so it alone knows whether the series exists at that point.

use matyan_model::{
    ids::RunId,
    keys,
    series::RunRef,
    series_edit::{SeriesEditOutcome, series_edit_outcome},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType},
    ingest::v1::{EditSeries, edit_series::Edit, event::Kind},
    limits,
};

use crate::server::{
    audit::audit_no_effect,
    call::Call,
    control_record::control_record,
    convert,
    create_once::CreateOnce,
    deps::Deps,
    error::{Error, Result},
};

/// A request to edit a series.
pub(super) struct EditRequest<'a> {
    pub(super) run_id: String,
    pub(super) series_type: SeriesType,
    pub(super) key: Option<SeriesKey>,
    pub(super) edit: Edit,
    /// Name of the call, so that a request id that is used in two calls does not mix them up.
    pub(super) call: &'static str,
    pub(super) once: CreateOnce<'a>,
}

/// Appends an edit to the log, unless the same request did so before, and returns when it is applied.
pub(super) async fn edit(deps: &Deps, call: &Call, request: EditRequest<'_>) -> Result<()> {
    let EditRequest { run_id, series_type, key, edit, call: name, once } = request;
    if series_type == SeriesType::Unspecified {
        return Err(Error::field("type", "is missing: give the type of the series"));
    }
    let key = series_key("key", key)?;
    let edit = match edit {
        Edit::NewKey(new) => Edit::NewKey(series_key("new_key", Some(new))?),
        Edit::DeletedSteps(steps) => Edit::DeletedSteps(steps),
    };
    let id: [u8; 16] = match once.digest(name)? {
        Some(digest) => digest.as_bytes()[..16].try_into().expect("a digest has 32 bytes"),
        None => blake3::hash((deps.new_id)().as_bytes()).as_bytes()[..16].try_into().expect("likewise"),
    };
    let found = deps.find_run(call, &run_id).await?;
    let run = RunRef { project: call.project, number: found.number };
    let name = shown(&key);
    let new_name = match &edit {
        Edit::NewKey(key) => shown(key),
        Edit::DeletedSteps(_) => String::new(),
    };
    let outcome = match series_edit_outcome(found.snapshot.as_ref(), run, &id).await? {
        Some(outcome) => {
            audit_no_effect();
            outcome
        }
        None => {
            drop(found);
            let objects = series_type != SeriesType::Metric;
            let edit = EditSeries { id: id.to_vec().into(), objects, key: Some(key), edit: Some(edit) };
            append_and_wait(deps, call, (&run_id, run), edit, &id).await?
        }
    };
    match outcome {
        SeriesEditOutcome::Done => Ok(()),
        SeriesEditOutcome::NoSeries => Err(Error::not_found("series", name)),
        SeriesEditOutcome::SharedSteps => Err(Error::field(
            "steps",
            "includes steps that the run shares with its parent: delete them there, or give a later `start`, or delete the \
             whole series",
        )),
        SeriesEditOutcome::NameTaken => Err(Error::AlreadyExists { resource: "series", name: new_name }),
    }
}

async fn append_and_wait(
    deps: &Deps,
    call: &Call,
    (run_id, run): (&str, RunRef),
    edit: EditSeries,
    id: &[u8; 16],
) -> Result<SeriesEditOutcome> {
    let record = control_record(deps.log_format, call, run_id, Kind::EditSeries(edit), (deps.clock)());
    let position = deps.append(vec![record]).await?[0];
    let id_of_run = RunId::new(run_id);
    // A damaged run may be parked, and has no outcome then.
    let applied = tokio::select! {
        outcome = wait_for_outcome(deps, run, id) => return outcome,
        applied = deps.wait_applied(position, Some((run.project, &id_of_run))) => applied,
    };
    let snapshot = deps.store.snapshot().await?;
    match (series_edit_outcome(snapshot.as_ref(), run, id).await?, applied) {
        (Some(outcome), _) => Ok(outcome),
        (None, Err(Error::NotYetApplied(_))) => Err(Error::NotYetApplied(
            "the edit is in the log and will be applied; the same `request_id` returns its outcome".into(),
        )),
        (None, Err(error)) => Err(error),
        // The run has been deleted, or is in quarantine.
        (None, Ok(())) => {
            drop(snapshot);
            deps.find_run(call, run_id).await?;
            Err(Error::NotYetApplied(format!("the edit of run `{run_id}` is parked until it is resumed")))
        }
    }
}

async fn wait_for_outcome(deps: &Deps, run: RunRef, id: &[u8; 16]) -> Result<SeriesEditOutcome> {
    let row = keys::series_edit(run.project, run.number, id);
    loop {
        deps.store.changed(&row, None).await?;
        let snapshot = deps.store.snapshot().await?;
        if let Some(outcome) = series_edit_outcome(snapshot.as_ref(), run, id).await? {
            return Ok(outcome);
        }
    }
}

fn series_key(field: &'static str, key: Option<SeriesKey>) -> Result<SeriesKey> {
    let key = key.ok_or_else(|| Error::field(field, "is missing: give the name of the series"))?;
    convert::check_limit(field, key.name.len(), limits::NAME_BYTES)?;
    let context = convert::context(&key)?.canonical().to_owned();
    Ok(SeriesKey { name: key.name, context })
}

/// A series as errors name it.
fn shown(key: &SeriesKey) -> String {
    match key.context.as_str() {
        "{}" => key.name.clone(),
        context => format!("{} {context}", key.name),
    }
}
