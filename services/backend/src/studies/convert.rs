//! Conversion between messages and rows of studies. All limits are checked here, one error per field.

use std::collections::BTreeSet;

use matyan_model::{
    keys::AttributeKind,
    study::{Direction, Study, Trial, TrialParam, TrialState},
};
use matyan_proto::{ABSENT, limits, studies::v1 as pb};
use matyan_store::Limits;
use matyan_value::json;
use prost::Message;

use super::distribution::Distribution;
use crate::server::{
    convert::check_limit,
    error::{Error, Result},
};

pub(crate) fn directions(directions: &[i32]) -> Result<Vec<Direction>> {
    if directions.is_empty() {
        return Err(Error::field("directions", "is empty: give a direction for each value"));
    }
    check_limit("directions", directions.len(), limits::STUDY_DIRECTIONS)?;
    let converted = directions.iter().map(|direction| match pb::Direction::try_from(*direction) {
        Ok(pb::Direction::Minimize) => Ok(Direction::Minimize),
        Ok(pb::Direction::Maximize) => Ok(Direction::Maximize),
        Ok(pb::Direction::Unspecified) | Err(_) => {
            Err(Error::field("directions", "contains an unknown direction: give minimize or maximize"))
        }
    });
    converted.collect()
}

pub(crate) fn study_view(number: u32, study: Study, trials: u32) -> pb::Study {
    let directions = study.directions.into_iter().map(|direction| match direction {
        Direction::Minimize => i32::from(pb::Direction::Minimize),
        Direction::Maximize => i32::from(pb::Direction::Maximize),
    });
    pb::Study {
        study_id: number,
        name: study.name,
        directions: directions.collect(),
        created_us: study.created_us,
        experiment_id: study.experiment,
        trial_count: trials,
    }
}

pub(crate) fn attribute_kind(kind: i32) -> Result<AttributeKind> {
    match pb::AttributeKind::try_from(kind) {
        Ok(pb::AttributeKind::User) => Ok(AttributeKind::User),
        Ok(pb::AttributeKind::System) => Ok(AttributeKind::System),
        Ok(pb::AttributeKind::Unspecified) | Err(_) => {
            Err(Error::field("kind", "is missing or unknown: give user or system"))
        }
    }
}

pub(crate) fn check_attribute(key: &str, value: &str) -> Result<()> {
    check_limit("key", key.len(), limits::NAME_BYTES)?;
    check_limit("value", value.len(), limits::STUDY_ATTRIBUTE_BYTES)?;
    // Unlike a tree of values, the encoding takes no more memory than the text.
    json::to_cbor(value).map(drop).map_err(|error| Error::field("value", format!("is not JSON: {error}")))
}

pub(super) fn state(state: i32) -> Result<TrialState> {
    match pb::TrialState::try_from(state) {
        Ok(pb::TrialState::Waiting) => Ok(TrialState::Waiting),
        Ok(pb::TrialState::Running) => Ok(TrialState::Running),
        Ok(pb::TrialState::Complete) => Ok(TrialState::Complete),
        Ok(pb::TrialState::Pruned) => Ok(TrialState::Pruned),
        Ok(pb::TrialState::Failed) => Ok(TrialState::Failed),
        Ok(pb::TrialState::Unspecified) | Err(_) => Err(Error::field(
            "state",
            "is missing or unknown: give waiting, running, complete, pruned or failed",
        )),
    }
}

pub(super) fn state_view(state: TrialState) -> pb::TrialState {
    match state {
        TrialState::Waiting => pb::TrialState::Waiting,
        TrialState::Running => pb::TrialState::Running,
        TrialState::Complete => pb::TrialState::Complete,
        TrialState::Pruned => pb::TrialState::Pruned,
        TrialState::Failed => pb::TrialState::Failed,
    }
}

pub(super) fn check_values(values: &[f64]) -> Result<()> {
    check_limit("values", values.len(), limits::STUDY_DIRECTIONS)
}

pub(super) fn check_step(step: i64) -> Result<()> {
    if step == ABSENT {
        Err(Error::field("step", format!("is {ABSENT}, which marks a missing step: give another step")))
    } else {
        Ok(())
    }
}

/// Longest distribution. The transaction that sets the first param of a name writes its distribution twice: for the
/// trial and for the study.
const DISTRIBUTION_BYTES: usize = limits::STUDY_ATTRIBUTE_BYTES / 2;

/// A param of a request, with its distribution.
pub(super) fn param(param: pb::TrialParam, set_us: i64) -> Result<(String, TrialParam, Distribution)> {
    check_limit("param.name", param.name.len(), limits::NAME_BYTES)?;
    check_limit("param.distribution", param.distribution.len(), DISTRIBUTION_BYTES)?;
    let distribution = Distribution::parse(&param.distribution)?;
    // A value that the distribution does not have is refused here, because a run could not show it.
    distribution.value(param.value)?;
    let row = TrialParam { value: param.value, distribution: param.distribution, set_us };
    Ok((param.name, row, distribution))
}

/// The parts of a trial besides its state.
#[derive(Default)]
pub(crate) struct TrialContent {
    pub(crate) params: Vec<(String, TrialParam)>,
    pub(crate) attributes: Vec<(AttributeKind, String, String)>,
    pub(crate) intermediate_values: Vec<(i64, f64)>,
}

/// Bytes that a transaction counts for each row in addition to its content.
const ROW_BYTES: usize = 256;

/// A trial that is added in its final form. It is written in one transaction, so a trial that cannot fit is refused
/// before it is read.
pub(super) fn template(template: pb::Trial, now: i64) -> Result<(Trial, TrialContent)> {
    let rows = template.params.len()
        + template.user_attributes.len()
        + template.system_attributes.len()
        + template.intermediate_values.len();
    let distributions: usize = template.params.iter().map(|param| param.distribution.len()).sum();
    check_limit("template", rows * ROW_BYTES + template.encoded_len() + distributions, Limits::BATCH_BYTES)?;
    let trial = state_of_trial(&template)?;
    Ok((trial, content(template, |at, _| now.saturating_add(at))?))
}

/// A trial of a backup, or a part of a trial. A part that continues a trial has no state.
pub(crate) fn content_of_part(part: pb::Trial) -> Result<(Option<Trial>, TrialContent)> {
    let is_continued = part.state() == pb::TrialState::Unspecified;
    let trial = if is_continued { None } else { Some(state_of_trial(&part)?) };
    Ok((trial, content(part, |_, set_us| set_us)?))
}

/// The state of a trial, without its run.
fn state_of_trial(trial: &pb::Trial) -> Result<Trial> {
    check_values(&trial.values)?;
    Ok(Trial {
        state: state(trial.state)?,
        values: trial.values.clone(),
        started_us: trial.started_us,
        finished_us: trial.finished_us,
        run: None,
    })
}

/// The content of a trial. `set_us` gives the time of each param, by its place and the time in the message.
fn content(template: pb::Trial, set_us: impl Fn(i64, i64) -> i64) -> Result<TrialContent> {
    let mut content = TrialContent::default();
    let mut names = BTreeSet::new();
    for (at, given) in (0..).zip(template.params) {
        let set_us = set_us(at, given.set_us);
        let (name, row, _) = param(given, set_us)?;
        if !names.insert(name.clone()) {
            return Err(Error::field("params", format!("has two entries for `{name}`")));
        }
        content.params.push((name, row));
    }
    let user = template.user_attributes.into_iter().map(|(key, value)| (AttributeKind::User, key, value));
    let system =
        template.system_attributes.into_iter().map(|(key, value)| (AttributeKind::System, key, value));
    for (kind, key, value) in user.chain(system) {
        check_attribute(&key, &value)?;
        content.attributes.push((kind, key, value));
    }
    for (step, value) in template.intermediate_values {
        check_step(step)?;
        content.intermediate_values.push((step, value));
    }
    content.intermediate_values.sort_unstable_by_key(|(step, _)| *step);
    Ok(content)
}
