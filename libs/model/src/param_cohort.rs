//! Cohorts of params: runs whose params are stored together, in columns, so that a query for one param does not
//! read the documents of all runs, and a new run does not write a row of each param.
//!
//! The documents decide. A run is in the list of uncollected params from the transaction on that changes its params, and
//! until a cohort has taken them; while it is in this list, readers ignore what cohorts have of it, and read its document.
//! A new run is listed even without params, so each run is in the list, or in a cohort, or has index rows. See `uncollected` for
//! the list, and `cohort` for how a cohort takes values without a lock for writers.
//!
//! A column has up to 64 KiB, and is never changed. Its key begins with the path of the param, so that the
//! columns of a param are one range, in the order of their cohorts. The paths of a cohort are in their own
//! rows, by which its columns are found when it is cleared.
//!
//! The params of runs in a store of format 6 or earlier have index rows instead. Such rows are valid as long as the run is
//! not in the list of uncollected params: each change of the params of a run clears its rows. A run is moved
//! from one form to the other by listing it; see [`indexed_params_move`].

mod collect;
mod page;
mod read;

use matyan_store::{Key, Result, Scan, Snapshot, Transaction};

use self::collect::cohort_paths;
pub use self::{
    collect::ParamValues,
    page::{CohortPage, ReadRuns, param_cohort_numbers},
    read::{
        ColumnCounts, ListedParams, ParamPage, ParamReader, ReadList, param_columns_count, param_rows_within,
        undamaged,
    },
};
use crate::{
    cohort::rows_clear,
    ids::{CohortNumber, Project, RunNumber},
    keys::{self, CohortKind},
    listed_params::params_changed_us,
    rows,
    uncollected::{UncollectedList, UncollectedReader},
};

/// Runs whose params no cohort has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListedPage {
    /// Runs that a cohort can take, ascending.
    pub due: Vec<RunNumber>,
    /// Active runs that have been in a cohort, and have changed not long ago.
    pub changing: Vec<RunNumber>,
}

/// The next page of the list of uncollected params; `None` after the last one. Runs have changed not long ago if that is less
/// than `rest_us`.
pub async fn listed_params_page(
    snapshot: &dyn Snapshot,
    project: Project,
    list: &mut UncollectedReader,
    rows: usize,
    (now_us, rest_us): (i64, u64),
) -> Result<Option<ListedPage>> {
    let scan = Scan { rows, ..Scan::DEFAULT };
    let Some(listed) = list.next(snapshot, scan).await? else { return Ok(None) };
    let mut page = ListedPage::default();
    let mut recent = Vec::new();
    for (key, value) in &listed {
        let number = keys::index_run(key)?;
        match params_changed_us(key, value) {
            Some(changed_us) if now_us.abs_diff(changed_us) < rest_us => recent.push(number),
            _ => page.due.push(number),
        }
    }
    let keys: Vec<Key> = recent
        .iter()
        .flat_map(|number| {
            let ended = keys::index_active(project, false, *number);
            [keys::run_cohort(CohortKind::Params, project, *number), ended]
        })
        .collect();
    let values = if keys.is_empty() { Vec::new() } else { snapshot.get_many(&keys).await? };
    for (number, rows) in recent.into_iter().zip(values.chunks_exact(2)) {
        match rows {
            [Some(_), None] => page.changing.push(number),
            _ => page.due.push(number),
        }
    }
    page.due.sort_unstable();
    Ok(Some(page))
}

/// Clears some rows of a cohort without members. Returns true once nothing is left.
pub async fn param_cohort_clear(
    transaction: &mut Transaction,
    project: Project,
    cohort: CohortNumber,
) -> Result<bool> {
    let range = keys::param_cohort_paths_all(project, cohort);
    let scan = Scan { rows: 1, ..Scan::DEFAULT };
    let page = transaction.unchecked().scan(&range, scan).await?;
    let batch = transaction.batch();
    let Some((key, value)) = page.rows.first() else {
        batch.clear(keys::cohort(CohortKind::Params, project, cohort));
        return Ok(true);
    };
    // Without these paths, their columns are not found. Readers ignore the columns of a cohort that does not exist.
    let paths = rows::readable(cohort_paths(key, value))?.unwrap_or_default();
    for (path, parts) in &paths {
        for part in 0..*parts {
            batch.clear(keys::param_column(project, path, cohort, part));
        }
    }
    batch.clear(key.clone());
    Ok(false)
}

/// Clears some rows of all cohorts of params of a project, whose runs must be listed. Returns true once nothing is left.
pub async fn param_cohorts_clear(transaction: &mut Transaction, project: Project) -> Result<bool> {
    // Cohorts last: a job clears cohorts without runs, and would not find the rest of them without the cohort.
    let all = [
        keys::param_columns_all(project),
        keys::param_cohorts_paths(project),
        keys::cohorts(CohortKind::Params, project),
    ];
    for range in all {
        if !rows_clear(transaction, range).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists the first runs whose params have index rows, so that a cohort takes them. Readers read their documents until then,
/// so the caller should move no more of them than a cohort takes. Returns how many were moved.
pub async fn indexed_params_move(
    transaction: &mut Transaction,
    project: Project,
    runs: usize,
) -> Result<usize> {
    let all = keys::indexed_params_all(project);
    let scan = Scan { rows: runs, keys_only: true, ..Scan::DEFAULT };
    // Checked, so that no run is listed that is deleted now.
    let page = transaction.scan(&all, scan).await?;
    let list = UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    let batch = transaction.batch();
    list.check(batch);
    for (key, _) in &page.rows {
        let (number,) = keys::tail(&all.start, key)?;
        batch.set(list.key(RunNumber(number)), Vec::new());
        batch.clear(key.clone());
    }
    Ok(page.rows.len())
}

/// Clears some index rows of params of a project in which no run has valid ones. Returns true once nothing is left.
pub async fn indexed_params_clear(transaction: &mut Transaction, project: Project) -> Result<bool> {
    rows_clear(transaction, keys::index_params(project)).await
}

#[cfg(test)]
mod tests;
