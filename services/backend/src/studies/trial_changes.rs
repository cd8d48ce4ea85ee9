//! Changes of trials. Each change reads the state of the trial in its transaction, so no change follows the end of the
//! trial. An unknown or finished trial is reported before a mistake in the request.

use matyan_model::{
    keys::{self, AttributeKind},
    study::{
        Trial, TrialEntry, TrialState, distribution_load, distribution_put, intermediate_value_put,
        study_load, trial_attribute_put, trial_entries_page, trial_load_open, trial_param_load,
        trial_param_put, trial_put,
    },
};
use matyan_proto::studies::v1 as pb;
use matyan_store::{Transaction, transact};

use super::{
    convert::{self, TrialContent},
    distribution::Distribution,
    points::{self, DuePoints},
    trial_creation::call_values,
    trial_run::{self, CallValues},
};
use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
};

pub(super) async fn set_param(deps: &Deps, call: &Call, request: pb::SetTrialParamRequest) -> Result<()> {
    let id = (request.study_id, request.number);
    let now = (deps.clock)();
    let given = request.param.ok_or_else(|| Error::field("param", "is missing"));
    let converted = given.and_then(|param| convert::param(param, now));
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let trial = trial_load_open(&transaction, call.project, id).await?;
        let (name, param, distribution) = converted.clone()?;
        let first = distribution_load(&transaction, call.project, id.0, &name).await?;
        match &first {
            Some(first) => distribution.check_compatible(&Distribution::parse(first)?)?,
            None => distribution_put(transaction.batch(), call.project, id.0, &name, &param.distribution),
        }
        let before = trial_param_load(&transaction, call.project, id, &name).await?;
        let mut param = param;
        param.set_us = before.map_or(param.set_us, |before| before.set_us);
        trial_param_put(transaction.batch(), call.project, id, &name, &param);
        if let Some(run) = &trial.run
            && let Some(mut edit) = trial_run::load(&transaction, call, run).await?
        {
            let value = distribution.value(param.value)?;
            trial_run::show_param(&mut edit, &transaction, &name, value).await?;
            trial_run::write(&mut transaction, call, edit, now);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

pub(super) async fn set_attribute(
    deps: &Deps,
    call: &Call,
    request: &pb::SetTrialAttributeRequest,
) -> Result<()> {
    let id = (request.study_id, request.number);
    let checked = convert::check_attribute(&request.key, &request.value);
    let checked = convert::attribute_kind(request.kind).and_then(|kind| checked.map(|()| kind));
    let key = request.key.as_str();
    let value = request.value.as_str();
    let now = (deps.clock)();
    transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let trial = trial_load_open(&transaction, call.project, id).await?;
        let kind = checked.clone()?;
        trial_attribute_put(transaction.batch(), call.project, id, kind, (key, value));
        if kind == AttributeKind::User
            && let Some(run) = &trial.run
            && let Some(mut edit) = trial_run::load(&transaction, call, run).await?
        {
            trial_run::show_attribute(&mut edit, &transaction, key, value).await?;
            trial_run::write(&mut transaction, call, edit, now);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

pub(super) async fn set_intermediate_value(
    deps: &Deps,
    call: &Call,
    request: &pb::SetTrialIntermediateValueRequest,
) -> Result<()> {
    let id = (request.study_id, request.number);
    let step = request.step;
    let value = request.value;
    let (trial, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let trial = trial_load_open(&transaction, call.project, id).await?;
        convert::check_step(step)?;
        intermediate_value_put(transaction.batch(), call.project, id, step, value);
        Ok::<_, Error>((transaction, trial))
    })
    .await?;
    // A waiting trial has no run; its values are published when it starts.
    if let Some(run) = &trial.run {
        points::publish(deps, call, &run.id, &[(step, value)]).await?;
    }
    Ok(())
}

/// Outcome of the transaction of a state.
enum StateChange {
    /// Another caller has taken the trial.
    Taken,
    /// The state is set, and these points are due.
    Written(Option<DuePoints>),
}

/// Sets the state of a trial. Returns false if the trial should be taken, and is running already.
pub(super) async fn set_state(deps: &Deps, call: &Call, request: pb::SetTrialStateRequest) -> Result<bool> {
    let id = (request.study_id, request.number);
    let values = call_values(deps);
    let (changed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let trial = trial_load_open(&transaction, call.project, id).await?;
        let state = convert::state(request.state)?;
        convert::check_values(&request.values)?;
        if state == TrialState::Running && trial.state == TrialState::Running {
            return Ok((transaction, StateChange::Taken));
        }
        let trial = changed_trial(trial, state, &request.values, values.now);
        let points = write_state(&mut transaction, call, (id, trial), &values).await?;
        Ok::<_, Error>((transaction, StateChange::Written(points)))
    })
    .await?;
    let StateChange::Written(points) = changed else { return Ok(false) };
    if let Some(points) = points {
        points.log(deps, call).await;
    }
    Ok(true)
}

fn changed_trial(trial: Trial, state: TrialState, values: &[f64], now: i64) -> Trial {
    let started_us = if state == TrialState::Running { Some(now) } else { trial.started_us };
    let finished_us = if state.is_finished() { Some(now) } else { trial.finished_us };
    let values = if values.is_empty() { trial.values } else { values.to_vec() };
    Trial { state, values, started_us, finished_us, run: trial.run }
}

async fn write_state(
    transaction: &mut Transaction,
    call: &Call,
    (id, mut trial): ((u32, u32), Trial),
    values: &CallValues,
) -> Result<Option<DuePoints>> {
    let mut intermediate_values = Vec::new();
    if let Some(run) = &trial.run {
        if let Some(mut edit) = trial_run::load(transaction, call, run).await? {
            trial_run::show_state(&mut edit, transaction, &trial, values.now).await?;
            trial_run::write(transaction, call, edit, values.now);
        }
    } else if trial.state != TrialState::Waiting {
        // A waiting trial can be ended in any case, or its study would keep it for ever.
        if trial.state == TrialState::Running {
            trial_run::check_quotas(transaction, call, values).await?;
        }
        let (study_number, number) = id;
        let study = study_load(transaction, call.project, study_number).await?;
        let content = read_content(transaction, call, id).await?;
        let study = (study_number, &study);
        let run = trial_run::create(transaction, call, study, (number, &trial, &content), values).await?;
        intermediate_values = content.intermediate_values;
        trial.run = Some(run);
    }
    trial_put(transaction.batch(), call.project, id, &trial);
    let points = DuePoints::new(id, &trial, intermediate_values);
    if let Some(points) = &points {
        points.put_marks(transaction.batch(), call);
    }
    Ok(points)
}

/// Everything that was set on a waiting trial. The transaction fails if more is set before the commit.
async fn read_content(transaction: &mut Transaction, call: &Call, id: (u32, u32)) -> Result<TrialContent> {
    let (study, number) = id;
    let rows = keys::trial_rows(call.project, study, number);
    let since = transaction.version();
    transaction.batch().expect_unchanged(rows.clone(), since);
    let mut content = TrialContent::default();
    let mut rest = Some(rows);
    while let Some(range) = rest {
        let (page, next) = trial_entries_page(transaction.unchecked(), call.project, study, &range).await?;
        for (_, entry) in page {
            match entry {
                TrialEntry::State(_) => {}
                TrialEntry::Param { name, param } => content.params.push((name, param)),
                TrialEntry::Attribute { kind, name, value } => content.attributes.push((kind, name, value)),
                TrialEntry::IntermediateValue { step, value } => {
                    content.intermediate_values.push((step, value));
                }
            }
        }
        rest = next;
    }
    Ok(content)
}
