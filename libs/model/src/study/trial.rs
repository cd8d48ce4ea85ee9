//! Trials: their rows, and the transitions of their states.

use matyan_store::{Batch, Result, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use super::{MAX_NUMBER, StudyError, study_load, trial_count_checked};
use crate::{
    ids::Project,
    keys::{self, AttributeKind},
    rows,
};

/// The state of a trial. Its params, attributes and intermediate values are separate rows.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Trial {
    #[n(0)]
    pub state: TrialState,
    /// One value for each direction of the study, or no values.
    #[n(1)]
    pub values: Vec<f64>,
    #[n(2)]
    pub started_us: Option<i64>,
    #[n(3)]
    pub finished_us: Option<i64>,
    /// None until the trial starts.
    #[n(4)]
    pub run: Option<TrialRun>,
}

/// The run of a trial, which may have been deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct TrialRun {
    #[n(0)]
    pub number: u64,
    #[n(1)]
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum TrialState {
    #[n(0)]
    Waiting,
    #[n(1)]
    Running,
    #[n(2)]
    Complete,
    #[n(3)]
    Pruned,
    #[n(4)]
    Failed,
}

impl TrialState {
    pub fn is_finished(self) -> bool {
        match self {
            Self::Waiting | Self::Running => false,
            Self::Complete | Self::Pruned | Self::Failed => true,
        }
    }
}

/// A param of a trial.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct TrialParam {
    /// The number by which samplers represent the value.
    #[n(0)]
    pub value: f64,
    /// JSON text.
    #[n(1)]
    pub distribution: String,
    /// The time of the first set: samplers expect params in this order.
    #[n(2)]
    pub set_us: i64,
}

/// Adds a trial to a study, which the caller has loaded in this transaction, and returns the number of the
/// trial.
pub async fn trial_add(
    transaction: &mut Transaction,
    project: Project,
    study: u32,
    trial: &Trial,
) -> Result<u32, StudyError> {
    let number = trial_count_checked(transaction, project, study).await?;
    if number >= MAX_NUMBER {
        return Err(StudyError::NoMoreNumbers);
    }
    let batch = transaction.batch();
    batch.set(keys::study_trial_count(project, study), rows::encode(&(number + 1)));
    trial_put(batch, project, (study, number), trial);
    Ok(number)
}

pub fn trial_put(batch: &mut Batch, project: Project, (study, number): (u32, u32), trial: &Trial) {
    batch.set(keys::trial(project, study, number), rows::encode(trial));
}

/// Reads a trial that must exist. The transaction fails if the trial or its study changes before the commit.
pub async fn trial_load(
    transaction: &Transaction,
    project: Project,
    (study, number): (u32, u32),
) -> Result<Trial, StudyError> {
    // The rows of a deleted study may be left.
    study_load(transaction, project, study).await?;
    let key = keys::trial(project, study, number);
    let value = transaction.get(&key).await?.ok_or(StudyError::NoTrial { study, number })?;
    Ok(rows::decode(&key, &value)?)
}

/// Like `trial_load`, for a change that a finished trial refuses.
pub async fn trial_load_open(
    transaction: &Transaction,
    project: Project,
    (study, number): (u32, u32),
) -> Result<Trial, StudyError> {
    let trial = trial_load(transaction, project, (study, number)).await?;
    if trial.state.is_finished() { Err(StudyError::Finished { study, number }) } else { Ok(trial) }
}

/// The trials with these numbers; `None` for each number without a trial.
pub async fn trials_get(
    snapshot: &dyn Snapshot,
    project: Project,
    study: u32,
    numbers: impl IntoIterator<Item = u32>,
) -> Result<Vec<Option<Trial>>> {
    let keys: Vec<_> = numbers.into_iter().map(|number| keys::trial(project, study, number)).collect();
    let values = snapshot.get_many(&keys).await?;
    let decoded =
        keys.iter().zip(values).map(|(key, value)| value.map(|value| rows::decode(key, &value)).transpose());
    decoded.collect()
}

/// Reads a param. The transaction fails if the param changes before the commit.
pub async fn trial_param_load(
    transaction: &Transaction,
    project: Project,
    (study, number): (u32, u32),
    name: &str,
) -> Result<Option<TrialParam>> {
    let first = keys::trial_param_piece(project, study, number, name, 0);
    if transaction.get(&first).await?.is_none() {
        return Ok(None);
    }
    let range = keys::trial_param(project, study, number, name);
    let bytes = rows::get_pieces(transaction.unchecked(), &range).await?.unwrap_or_default();
    rows::decode(&first, &bytes).map(Some)
}

pub fn trial_param_put(
    batch: &mut Batch,
    project: Project,
    (study, number): (u32, u32),
    name: &str,
    param: &TrialParam,
) {
    let range = keys::trial_param(project, study, number, name);
    let key = |piece| keys::trial_param_piece(project, study, number, name, piece);
    rows::put_pieces(batch, range, key, &rows::encode(param));
}

pub fn trial_attribute_put(
    batch: &mut Batch,
    project: Project,
    (study, number): (u32, u32),
    kind: AttributeKind,
    (name, value): (&str, &str),
) {
    let range = keys::trial_attribute(project, study, number, kind, name);
    let key = |piece| keys::trial_attribute_piece(project, study, number, kind, name, piece);
    rows::put_pieces(batch, range, key, &rows::with_format(value.as_bytes()));
}

pub fn intermediate_value_put(
    batch: &mut Batch,
    project: Project,
    (study, number): (u32, u32),
    step: i64,
    value: f64,
) {
    batch.set(keys::intermediate_value(project, study, number, step), rows::encode(&value));
}

/// The first distribution that a study had for a param. The transaction fails if it changes before the commit.
pub async fn distribution_load(
    transaction: &Transaction,
    project: Project,
    study: u32,
    param: &str,
) -> Result<Option<String>> {
    // It is written once, so the first piece covers all of them.
    let first = keys::study_distribution_piece(project, study, param, 0);
    if transaction.get(&first).await?.is_none() {
        return Ok(None);
    }
    let range = keys::study_distribution(project, study, param);
    let bytes = rows::get_pieces(transaction.unchecked(), &range).await?.unwrap_or_default();
    rows::decode(&first, &bytes).map(Some)
}

pub fn distribution_put(batch: &mut Batch, project: Project, study: u32, param: &str, distribution: &str) {
    let range = keys::study_distribution(project, study, param);
    let key = |piece| keys::study_distribution_piece(project, study, param, piece);
    rows::put_pieces(batch, range, key, &rows::encode(&distribution));
}
