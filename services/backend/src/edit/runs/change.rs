//! Control changes to a run, each in one transaction: the document, its indexes and counts, the
//! change row, and the event that announces it.

use matyan_model::{
    change::change_put,
    entity::{Experiment, Tag, entity_find_or_create, entity_get},
    events::event_put,
    ids::RunNumber,
    keys::EntityKind,
    run::RunEdit,
};
use matyan_proto::{
    limits,
    log::v1::{RunArchived, control_event::Kind},
    runs::v1::UpdateRequest,
};
use matyan_store::{Transaction, transact};

use crate::{
    edit::entities,
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
    },
    view::run_lookup::FoundRun,
};

/// Updates a run; returns the time of its last change.
pub(crate) async fn update(deps: &Deps, call: &Call, request: &UpdateRequest) -> Result<i64> {
    check(request)?;
    let number = deps.find_run(call, &request.run_id).await?.number;
    let now = (deps.clock)();
    let new_experiment = (deps.new_id)();
    let (updated_us, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let edit = load(&transaction, call, number, &request.run_id).await?;
        entities::check_unchanged("run", &request.run_id, edit.props.updated_us, request.if_updated_us)?;
        let experiment = match request.experiment.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(name) => Some(Some(experiment(&mut transaction, call, name, &new_experiment, now).await?)),
        };
        let updated_us = apply(&mut transaction, call, edit, request, experiment, now);
        Ok::<_, Error>((transaction, updated_us))
    })
    .await?;
    Ok(updated_us)
}

/// Writes an update of one run. `experiment` is the id of the new experiment, if it changes. Without
/// a change nothing is written, because there is nothing to report to watchers. Returns the time of the last
/// change.
fn apply(
    transaction: &mut Transaction,
    call: &Call,
    mut edit: RunEdit,
    request: &UpdateRequest,
    experiment: Option<Option<String>>,
    now: i64,
) -> i64 {
    let before = edit.props.clone();
    if let Some(experiment) = experiment {
        edit.props.experiment = experiment;
    }
    set(&mut edit, request, now);
    if edit.props == before {
        return before.updated_us;
    }
    if edit.props.archived != before.archived {
        let event = RunArchived { run_id: edit.props.run_id.clone(), archived: edit.props.archived };
        event_put(transaction.batch(), &call.project_name, now, &call.caller, Kind::RunArchived(event));
    }
    write(transaction, call, edit, now)
}

fn check(request: &UpdateRequest) -> Result<()> {
    let size = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    convert::check_limit("name", size(&request.name), limits::NAME_BYTES)?;
    convert::check_limit("description", size(&request.description), limits::DESCRIPTION_BYTES)?;
    convert::check_limit("experiment", size(&request.experiment), limits::NAME_BYTES)
}

fn set(edit: &mut RunEdit, request: &UpdateRequest, now: i64) {
    let props = &mut edit.props;
    if let Some(name) = &request.name {
        props.name = convert::without_tokens(name);
    }
    if let Some(description) = &request.description {
        props.description = convert::without_tokens(description);
    }
    props.archived = request.archived.unwrap_or(props.archived);
    match request.active {
        Some(true) => {
            props.active = true;
            props.finalized_us = None;
            props.duration_us = None;
            props.is_given_up = false;
            props.reopened_us = Some(now);
        }
        Some(false) => {
            // A run that has already ended keeps its end.
            props.active = false;
            props.finalized_us = props.finalized_us.or(Some(now));
            props.is_given_up = false;
        }
        None => {}
    }
}

/// Loads the run's document with a check; the run may have been deleted since it was found.
pub(super) async fn load(
    transaction: &Transaction,
    call: &Call,
    number: RunNumber,
    run_id: &str,
) -> Result<RunEdit> {
    let edit = RunEdit::load(transaction, call.project, number).await?;
    edit.filter(|edit| !edit.props.pending_delete).ok_or_else(|| Error::not_found("run", run_id))
}

/// Writes a changed run. Returns the time of the change.
pub(super) fn write(transaction: &mut Transaction, call: &Call, mut edit: RunEdit, now: i64) -> i64 {
    let number = edit.number();
    edit.touch(now);
    let updated_us = edit.props.updated_us;
    edit.write(transaction.batch());
    change_put(transaction.batch(), call.project, number, now, &call.caller);
    updated_us
}

async fn experiment(
    transaction: &mut Transaction,
    call: &Call,
    name: &str,
    new_id: &str,
    now: i64,
) -> Result<String> {
    let name = convert::without_tokens(name);
    let entity = Experiment { created_us: now, updated_us: now, name, ..Experiment::default() };
    Ok(entity_find_or_create(transaction, call.project, &entity, new_id).await?)
}

/// Number of runs that a batch changes in one transaction.
pub(super) const PAGE_RUNS: usize = 100;

/// The runs of a batch that were not changed, by their ids.
#[derive(Default)]
pub(super) struct SkippedRuns {
    /// Ids that match no run.
    pub(super) unknown: Vec<String>,
    /// Runs whose rows cannot be read.
    pub(super) damaged: Vec<String>,
}

impl SkippedRuns {
    /// The number of a run that was found; `None` if the batch leaves the run out, because one unknown or damaged
    /// run must not keep the others from being changed.
    fn take(&mut self, run_id: &str, found: Result<FoundRun>) -> Result<Option<RunNumber>> {
        match found {
            Ok(found) => return Ok(Some(found.number)),
            Err(Error::NotFound { .. }) => self.unknown.push(run_id.to_owned()),
            Err(Error::DamagedRun { .. }) => self.damaged.push(run_id.to_owned()),
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}

/// Applies an update to many runs, a page of them in each transaction; returns the runs that it left
/// out. An error says how many runs were done before.
pub(super) async fn update_all(
    deps: &Deps,
    call: &Call,
    run_ids: Vec<String>,
    request: &UpdateRequest,
) -> Result<SkippedRuns> {
    let mut skipped = SkippedRuns::default();
    for (page, ids) in run_ids.chunks(PAGE_RUNS).enumerate() {
        let updated = update_page(deps, call, ids, request, &mut skipped).await;
        updated.map_err(|error| error.after(page * PAGE_RUNS))?;
    }
    Ok(skipped)
}

async fn update_page(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    request: &UpdateRequest,
    skipped: &mut SkippedRuns,
) -> Result<()> {
    let numbers = find_numbers(deps, call, run_ids, skipped).await?;
    let now = (deps.clock)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        for number in &numbers {
            // Runs that have been deleted since they were found are left out.
            let edit = RunEdit::load(&transaction, call.project, *number).await?;
            if let Some(edit) = edit.filter(|edit| !edit.props.pending_delete) {
                apply(&mut transaction, call, edit, request, None, now);
            }
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

/// The numbers of the runs of a page, each once: a run that is named twice would be loaded before
/// its first change.
pub(super) async fn find_numbers(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    skipped: &mut SkippedRuns,
) -> Result<Vec<RunNumber>> {
    let mut numbers = Vec::with_capacity(run_ids.len());
    for run_id in run_ids {
        let found = deps.find_run(call, run_id).await;
        numbers.extend(skipped.take(run_id, found)?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Like `find_numbers`, but also finds runs in the bin.
pub(super) async fn find_kept_numbers(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
    skipped: &mut SkippedRuns,
) -> Result<Vec<RunNumber>> {
    let mut numbers = Vec::with_capacity(run_ids.len());
    for run_id in run_ids {
        let found = deps.find_kept_run(call, run_id).await;
        numbers.extend(skipped.take(run_id, found)?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Adds a tag by name, creating it if it does not exist; returns its id.
pub(crate) async fn tag_add(deps: &Deps, call: &Call, run_id: &str, name: &str) -> Result<String> {
    let name = &convert::required_name("name", name)?;
    let number = deps.find_run(call, run_id).await?.number;
    let now = (deps.clock)();
    let new_id = (deps.new_id)();
    let entity = Tag { created_us: now, updated_us: now, name: name.to_owned(), ..Tag::default() };
    let (id, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let id = entity_find_or_create(&mut transaction, call.project, &entity, &new_id).await?;
        let mut edit = load(&transaction, call, number, run_id).await?;
        if !edit.props.tags.contains(&id) {
            if !edit.tag_add(&id) {
                let run_id = run_id.to_owned();
                let limit = limits::TAGS_PER_RUN;
                return Err(Error::TooManyTags { field: "name", run_id, limit });
            }
            write(&mut transaction, call, edit, now);
        }
        Ok::<_, Error>((transaction, id))
    })
    .await?;
    Ok(id)
}

/// Removes a tag from a run; returns whether the run had it.
pub(crate) async fn tag_remove(deps: &Deps, call: &Call, run_id: &str, tag_id: &str) -> Result<bool> {
    entities::check_id(EntityKind::Tag, tag_id)?;
    let found = deps.find_run(call, run_id).await?;
    if entity_get::<Tag>(found.snapshot.as_ref(), call.project, tag_id).await?.is_none() {
        return Err(Error::not_found("tag", tag_id));
    }
    let number = found.number;
    drop(found);
    let now = (deps.clock)();
    let (removed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let mut edit = load(&transaction, call, number, run_id).await?;
        let had = edit.props.tags.iter().any(|id| id == tag_id);
        if had {
            edit.tag_remove(tag_id);
            write(&mut transaction, call, edit, now);
        }
        Ok::<_, Error>((transaction, had))
    })
    .await?;
    Ok(removed)
}
