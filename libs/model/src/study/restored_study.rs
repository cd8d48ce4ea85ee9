//! Restore of studies. While a study is restored, its rows are under its original number, which nothing links to
//! until the last row is written. Another row has the time of the last part, so that an unfinished restore is swept
//! like a deleted study.

use matyan_store::{Error, Result, Store, Transaction, transact};

use super::{Study, study_put};
use crate::{ids::Project, keys, rows};

/// Whether a study can be restored under its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StudyPlace {
    /// Parts of the study can be written.
    Free,
    /// There is a study with this number.
    Taken,
    /// Rows of a study that was deleted, or whose restore was given up, have yet to be swept.
    Unswept,
}

/// Prepares the number of a study for a part of it: from then on, no new study gets the number.
pub async fn study_reserve(
    transaction: &mut Transaction,
    project: Project,
    number: u32,
    now_us: i64,
) -> Result<StudyPlace> {
    if transaction.get(&keys::study(project, number)).await?.is_some() {
        return Ok(StudyPlace::Taken);
    }
    if transaction.get(&keys::dead_study(project, number)).await?.is_some() {
        return Ok(StudyPlace::Unswept);
    }
    let key = keys::study_last(project);
    let last = transaction.get(&key).await?.map(|value| rows::decode(&key, &value)).transpose()?;
    let batch = transaction.batch();
    if last.unwrap_or(0_u32) < number {
        batch.set(key, rows::encode(&number));
    }
    batch.set(keys::unfinished_study(project, number), rows::encode(&now_us));
    Ok(StudyPlace::Free)
}

/// Makes a study visible whose other rows have been restored. If another study has its name, the rows are left to the
/// sweep, and the result is `false`.
pub async fn study_link(
    transaction: &mut Transaction,
    project: Project,
    number: u32,
    study: &Study,
    trials: u32,
) -> Result<bool> {
    let by_name = keys::study_by_name(project, &study.name);
    let is_free = transaction.get(&by_name).await?.is_none();
    let batch = transaction.batch();
    batch.clear(keys::unfinished_study(project, number));
    if is_free {
        batch.set(by_name, rows::encode(&number));
        batch.set(keys::study_trial_count(project, number), rows::encode(&trials));
        study_put(batch, project, number, study);
    } else {
        batch.set(keys::dead_study(project, number), Vec::new());
    }
    Ok(is_free)
}

/// Gives up the restores of studies whose last part came before `before_us`: their rows are left to the sweep. Returns
/// the number of these restores.
pub async fn unfinished_studies_drop(store: &dyn Store, project: Project, before_us: i64) -> Result<usize> {
    let all = keys::unfinished_studies(project);
    let unfinished = rows::scan_all(&*store.snapshot().await?, &all).await?;
    let mut dropped = 0;
    for (key, _) in &unfinished {
        let (number,): (u32,) = keys::tail(&all.start, key)?;
        dropped += usize::from(drop_if_old(store, project, number, before_us).await?);
    }
    Ok(dropped)
}

async fn drop_if_old(store: &dyn Store, project: Project, number: u32, before_us: i64) -> Result<bool> {
    let key = keys::unfinished_study(project, number);
    let (is_old, _) = transact(store, async |mut transaction: Transaction| {
        let value = transaction.get(&key).await?;
        let last_us: Option<i64> = value.map(|value| rows::decode(&key, &value)).transpose()?;
        let is_old = last_us.is_some_and(|last_us| last_us < before_us);
        if is_old {
            let batch = transaction.batch();
            batch.clear(key.clone());
            batch.set(keys::dead_study(project, number), Vec::new());
        }
        Ok::<_, Error>((transaction, is_old))
    })
    .await?;
    Ok(is_old)
}
