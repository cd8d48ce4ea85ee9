//! Creation of trials.

use matyan_model::study::{
    Study, Trial, TrialState, distribution_load, distribution_put, intermediate_value_put, study_load,
    trial_add, trial_attribute_put, trial_count_checked, trial_param_put,
};
use matyan_proto::studies::v1 as pb;
use matyan_store::{Transaction, transact};

use super::{
    convert::{self, TrialContent},
    points::DuePoints,
    trial_run::{self, CallValues},
};
use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
};

/// Adds a trial, and returns its number.
pub(super) async fn create(
    deps: &Deps,
    call: &Call,
    study_number: u32,
    template: Option<pb::Trial>,
) -> Result<u32> {
    let values = call_values(deps);
    let (trial, content) = match template {
        Some(template) => convert::template(template, values.now)?,
        None => (started(values.now), TrialContent::default()),
    };
    let (created, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let study = study_load(&transaction, call.project, study_number).await?;
        let numbered = (study_number, &study);
        let (number, trial) = add(&mut transaction, call, numbered, (&trial, &content), &values).await?;
        let points = DuePoints::new((study_number, number), &trial, content.intermediate_values.clone());
        if let Some(points) = &points {
            points.put_marks(transaction.batch(), call);
        }
        Ok::<_, Error>((transaction, (number, points)))
    })
    .await?;
    let (number, points) = created;
    if let Some(points) = points {
        points.log(deps, call).await;
    }
    Ok(number)
}

/// The values for a new run that a call needs.
pub(super) fn call_values(deps: &Deps) -> CallValues {
    let new_experiment = (deps.new_id)();
    // The id of a run has no dashes, like the ids that clients make.
    let new_run = (deps.new_id)().replace('-', "");
    CallValues {
        now: (deps.clock)(),
        new_experiment,
        new_run,
        quotas: deps.quotas.clone(),
        metrics: deps.metrics.clone(),
    }
}

fn started(now: i64) -> Trial {
    Trial {
        state: TrialState::Running,
        values: Vec::new(),
        started_us: Some(now),
        finished_us: None,
        run: None,
    }
}

/// Writes a trial with the next number, and its run if it has started.
async fn add(
    transaction: &mut Transaction,
    call: &Call,
    (study_number, study): (u32, &Study),
    (trial, content): (&Trial, &TrialContent),
    values: &CallValues,
) -> Result<(u32, Trial)> {
    let mut trial = trial.clone();
    // Reads come before writes, so the run is made for the number that the trial will get.
    let number = trial_count_checked(transaction, call.project, study_number).await?;
    if trial.state != TrialState::Waiting {
        trial_run::check_quotas(transaction, call, values).await?;
        let study = (study_number, study);
        trial.run =
            Some(trial_run::create(transaction, call, study, (number, &trial, content), values).await?);
    }
    trial_add(transaction, call.project, study_number, &trial).await?;
    let id = (study_number, number);
    for (name, param) in &content.params {
        // A param of an added trial is stored unchanged; it sets the distribution only if it is the first.
        if distribution_load(transaction, call.project, study_number, name).await?.is_none() {
            distribution_put(transaction.batch(), call.project, study_number, name, &param.distribution);
        }
        trial_param_put(transaction.batch(), call.project, id, name, param);
    }
    for (kind, key, value) in &content.attributes {
        trial_attribute_put(transaction.batch(), call.project, id, *kind, (key.as_str(), value.as_str()));
    }
    for (step, value) in &content.intermediate_values {
        intermediate_value_put(transaction.batch(), call.project, id, *step, *value);
    }
    Ok((number, trial))
}
