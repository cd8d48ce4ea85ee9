//! Studies and their trials, as a sampler needs them: numbers without gaps, states that are set once, and
//! distributions and attributes as text. The run of a trial is an ordinary run; its row only links to it.
//!
//! The number of trials of a study is one row, which every new trial reads and writes: numbers are dense
//! and unique, and become visible in their order. Every change of a trial reads the row of its state, so it
//! either precedes the end of the trial or is refused.

mod restored_study;
mod trial;
mod trial_entries;
mod unlogged_points;

pub use restored_study::{StudyPlace, study_link, study_reserve, unfinished_studies_drop};
pub use trial::{
    Trial, TrialParam, TrialRun, TrialState, distribution_load, distribution_put, intermediate_value_put,
    trial_add, trial_attribute_put, trial_load, trial_load_open, trial_param_load, trial_param_put,
    trial_put, trials_get,
};
pub use trial_entries::{TrialEntry, trial_entries_page};
pub use unlogged_points::{TrialPointValues, UnloggedMark, trial_points_load, unlogged_points_page};

use matyan_store::{Batch, Commit, Error, Key, Range, Result, Scan, Snapshot, Store, Transaction, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::Project,
    keys::{self, AttributeKind},
    rows,
};

/// The largest number of a study, and of a trial: both fit in half of an integer that samplers use as the id
/// of a trial.
pub const MAX_NUMBER: u32 = i32::MAX as u32;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Study {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub directions: Vec<Direction>,
    #[n(2)]
    pub created_us: i64,
    /// Id of the experiment of its runs, which may have been deleted.
    #[n(3)]
    pub experiment: String,
}

/// Whether smaller or greater values of a trial are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    #[n(0)]
    Minimize,
    #[n(1)]
    Maximize,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StudyError {
    #[error(transparent)]
    Store(#[from] Error),
    /// The caller can choose another name, or use the study with this name.
    #[error("the study name `{name}` is already used by study {study}")]
    NameTaken { name: String, study: u32 },
    #[error("there is no study {study}")]
    NoStudy { study: u32 },
    #[error("study {study} has no trial {number}")]
    NoTrial { study: u32, number: u32 },
    /// A finished trial never changes.
    #[error("trial {number} of study {study} has finished")]
    Finished { study: u32, number: u32 },
    #[error("there are no more numbers for a study or a trial")]
    NoMoreNumbers,
}

/// Creates a study, and returns its number.
pub async fn study_create(
    transaction: &mut Transaction,
    project: Project,
    study: &Study,
) -> Result<u32, StudyError> {
    let by_name = keys::study_by_name(project, &study.name);
    if let Some(value) = transaction.get(&by_name).await? {
        let found = rows::decode(&by_name, &value)?;
        return Err(StudyError::NameTaken { name: study.name.clone(), study: found });
    }
    let last = keys::study_last(project);
    let number = next_number(&last, transaction.get(&last).await?.as_ref())?;
    let batch = transaction.batch();
    batch.set(last, rows::encode(&number));
    batch.set(by_name, rows::encode(&number));
    study_put(batch, project, number, study);
    Ok(number)
}

/// The number after the last number; the first number is 1.
fn next_number(key: &Key, last: Option<&Value>) -> Result<u32, StudyError> {
    let last: u32 = last.map(|value| rows::decode(key, value)).transpose()?.unwrap_or_default();
    if last < MAX_NUMBER { Ok(last + 1) } else { Err(StudyError::NoMoreNumbers) }
}

/// Writes a study whose name has not changed.
pub fn study_put(batch: &mut Batch, project: Project, number: u32, study: &Study) {
    batch.set(keys::study(project, number), rows::encode(study));
}

pub async fn study_get(snapshot: &dyn Snapshot, project: Project, number: u32) -> Result<Option<Study>> {
    rows::get(snapshot, &keys::study(project, number)).await
}

/// Reads a study that must exist. The transaction fails if the study changes before the commit.
pub async fn study_load(
    transaction: &Transaction,
    project: Project,
    number: u32,
) -> Result<Study, StudyError> {
    let key = keys::study(project, number);
    let value = transaction.get(&key).await?.ok_or(StudyError::NoStudy { study: number })?;
    Ok(rows::decode(&key, &value)?)
}

/// The number of the study with this name.
pub async fn study_find(snapshot: &dyn Snapshot, project: Project, name: &str) -> Result<Option<u32>> {
    rows::get(snapshot, &keys::study_by_name(project, name)).await
}

/// A page of the studies by number, starting at `range` (`keys::studies` for the first page), and the range of
/// the rest.
pub async fn studies_page(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
) -> Result<(Vec<(u32, Study)>, Option<Range>)> {
    let all = keys::studies(project);
    let page = snapshot.scan(range, Scan { rows: 1_000, ..Scan::default() }).await?;
    let mut studies = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (number,): (u32,) = keys::tail(&all.start, key)?;
        studies.extend(rows::readable(rows::decode(key, value))?.map(|study| (number, study)));
    }
    Ok((studies, page.rest(range)))
}

/// The number of trials of a study.
pub async fn trial_count(snapshot: &dyn Snapshot, project: Project, study: u32) -> Result<u32> {
    Ok(rows::get(snapshot, &keys::study_trial_count(project, study)).await?.unwrap_or_default())
}

/// Like `trial_count`, but the transaction fails if a trial is added before the commit.
pub async fn trial_count_checked(transaction: &Transaction, project: Project, study: u32) -> Result<u32> {
    let key = keys::study_trial_count(project, study);
    let value = transaction.get(&key).await?;
    Ok(value.map(|value| rows::decode(&key, &value)).transpose()?.unwrap_or_default())
}

/// Unlinks a study, and returns its last state. Its other rows are left to `study_sweep_step`.
pub async fn study_delete(
    transaction: &mut Transaction,
    project: Project,
    number: u32,
) -> Result<Study, StudyError> {
    let study = study_load(transaction, project, number).await?;
    let batch = transaction.batch();
    batch.clear(keys::study(project, number));
    batch.clear(keys::study_by_name(project, &study.name));
    batch.clear(keys::study_trial_count(project, number));
    batch.set(keys::dead_study(project, number), Vec::new());
    Ok(study)
}

/// Up to a page of deleted studies whose rows have yet to be swept.
pub async fn dead_studies_list(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<u32>> {
    let range = keys::dead_studies(project);
    let page = snapshot.scan(&range, Scan { rows: 1_000, ..Scan::default() }).await?;
    page.rows.iter().map(|(key, _)| keys::tail(&range.start, key).map(|(number,)| number)).collect()
}

/// Number of rows cleared in one step of a sweep.
const SWEEP_ROWS: usize = 2_000;

/// Clears some of the rows of a deleted study. Returns `true` when no rows are left. Safe to repeat, also after a
/// conflict.
pub async fn study_sweep_step(store: &dyn Store, project: Project, number: u32) -> Result<bool> {
    let mut transaction = Transaction::new(store.snapshot().await?);
    let ranges = [
        keys::trials(project, number),
        keys::study_attributes_all(project, number),
        keys::study_distributions(project, number),
    ];
    let mut is_done = true;
    for range in ranges {
        if store.clears_ranges_at_once() {
            transaction.batch().clear_range(range);
            continue;
        }
        let scan = Scan { rows: SWEEP_ROWS, keys_only: true, ..Scan::default() };
        let page = transaction.scan(&range, scan).await?;
        if let Some((last, _)) = page.rows.last() {
            transaction.batch().clear_range(Range::new(range.start.clone(), range.after(last).start));
            is_done = false;
            break;
        }
    }
    if is_done {
        transaction.batch().clear(keys::dead_study(project, number));
    }
    Ok(matches!(store.commit(transaction.into_batch()).await?, Commit::Done { .. }) && is_done)
}

/// Sets an attribute of a study, which the caller has loaded in this transaction.
pub fn study_attribute_put(
    batch: &mut Batch,
    project: Project,
    study: u32,
    kind: AttributeKind,
    (name, value): (&str, &str),
) {
    let range = keys::study_attribute(project, study, kind, name);
    let key = |piece| keys::study_attribute_piece(project, study, kind, name, piece);
    rows::put_pieces(batch, range, key, &rows::with_format(value.as_bytes()));
}

/// About a megabyte of the attributes of a kind by name, starting at `range` (`keys::study_attributes` for the first
/// page), and the range of the rest.
pub async fn study_attributes_page(
    snapshot: &dyn Snapshot,
    project: Project,
    (study, kind): (u32, AttributeKind),
    range: &Range,
) -> Result<(Vec<(String, String)>, Option<Range>)> {
    let all = keys::study_attributes(project, study, kind);
    let page = snapshot.scan(range, Scan::default()).await?;
    let mut found: Vec<(String, Key, Vec<u8>)> = Vec::new();
    for (key, value) in &page.rows {
        let (name, _piece): (String, u32) = keys::tail(&all.start, key)?;
        match found.last_mut() {
            Some((last, _, bytes)) if *last == name => bytes.extend_from_slice(value),
            _ => found.push((name, key.clone(), value.to_vec())),
        }
    }
    let mut rest = None;
    // More pieces of the last attribute may follow after the page.
    if page.more
        && let Some((name, first, _)) = found.pop()
    {
        rest = Some(Range::new(first.clone(), range.end.clone()));
        if found.is_empty() {
            let own = keys::study_attribute(project, study, kind, &name);
            let whole = rows::get_pieces(snapshot, &own).await?.unwrap_or_default();
            found.push((name, first, whole.to_vec()));
            rest = Some(Range::new(own.end, range.end.clone()));
        }
    }
    let decoded = found.into_iter().map(|(name, key, bytes)| Ok((name, attribute_text(&key, &bytes)?)));
    Ok((decoded.collect::<Result<_>>()?, rest))
}

fn attribute_text(key: &Key, bytes: &[u8]) -> Result<String> {
    let text = rows::body(key, bytes)?;
    String::from_utf8(text.to_vec()).map_err(|error| rows::corrupt(key, &error))
}

#[cfg(test)]
mod tests;
