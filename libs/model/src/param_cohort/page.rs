//! Reads some params of all runs of cohorts, a few cohorts at a time.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
};

use futures::future::try_join_all;
use matyan_store::{Key, Range, Result, Scan, Snapshot, Value};

use super::read::{cohort_runs, visit_columns};
use crate::{
    ids::{CohortNumber, Project, RunNumber},
    index::IndexColumn,
    keys::{self, CohortKind},
};

/// Some cohorts and their columns of some params. All rows are from one snapshot, and not decoded yet.
pub struct CohortPage {
    /// The range of all cohorts.
    all: Range,
    cohorts: Vec<(Key, Value)>,
    /// In the order of the paths.
    params: Vec<StoredParam>,
}

/// The columns of a param in each cohort.
type StoredParam = HashMap<CohortNumber, Vec<(Key, Value)>>;

/// Runs, in any order, and their values of each param.
pub struct ReadRuns {
    pub runs: Vec<RunNumber>,
    pub params: Vec<IndexColumn>,
}

impl CohortPage {
    /// Reads up to `cohorts` cohorts of a range, and the range of the rest. A cohort has up to 256 KiB of each param.
    pub async fn read(
        snapshot: &dyn Snapshot,
        project: Project,
        paths: &[Vec<Cow<'_, str>>],
        range: &Range,
        cohorts: usize,
    ) -> Result<(Self, Option<Range>)> {
        let all = keys::cohorts(CohortKind::Params, project);
        let page = snapshot.scan(range, Scan { rows: cohorts, ..Scan::DEFAULT }).await?;
        let rest = page.rest(range);
        let params = match (page.rows.first(), page.rows.last()) {
            (Some((first, _)), Some((last, _))) => {
                let numbers = cohort_number(&all, first)?..=cohort_number(&all, last)?;
                try_join_all(paths.iter().map(|path| read_param(snapshot, project, path, numbers.clone())))
                    .await?
            }
            _ => Vec::new(),
        };
        Ok((Self { all, cohorts: page.rows, params }, rest))
    }

    /// Decodes the page, without the runs whose documents decide. Fails if the row of a cohort is damaged, see
    /// [`undamaged`](super::undamaged).
    pub fn decode(&self, listed: &HashSet<RunNumber>) -> Result<ReadRuns> {
        let mut runs = Vec::new();
        let mut params: Vec<IndexColumn> = self.params.iter().map(|_| IndexColumn::default()).collect();
        for (key, stored) in &self.cohorts {
            let number = cohort_number(&self.all, key)?;
            let members = cohort_runs(key, stored)?;
            runs.extend(members.members().filter(|member| !listed.contains(member)));
            for (stored, param) in self.params.iter().zip(&mut params) {
                let columns = stored.get(&number).map(Vec::as_slice).unwrap_or_default();
                visit_columns(&members, columns, listed, &mut |member, value| {
                    param.push(member, value.as_ref());
                })?;
            }
        }
        params.iter_mut().for_each(IndexColumn::sort);
        Ok(ReadRuns { runs, params })
    }
}

/// Reads the columns of a param in a range of cohorts.
async fn read_param(
    snapshot: &dyn Snapshot,
    project: Project,
    path: &[Cow<'_, str>],
    cohorts: RangeInclusive<CohortNumber>,
) -> Result<StoredParam> {
    let all = keys::param_columns(project, path);
    let start = keys::param_columns_of(project, path, *cohorts.start()).start;
    let end = keys::param_columns_of(project, path, *cohorts.end()).end;
    let mut columns = StoredParam::new();
    let mut rest = Some(Range::new(start, end));
    while let Some(range) = rest {
        let page = snapshot.scan(&range, Scan::DEFAULT).await?;
        rest = page.rest(&range);
        for (key, value) in page.rows {
            columns.entry(keys::decode_param_column(&all, &key)?).or_default().push((key, value));
        }
    }
    Ok(columns)
}

/// The numbers of all cohorts of a project, ascending.
pub async fn param_cohort_numbers(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<CohortNumber>> {
    let all = keys::cohorts(CohortKind::Params, project);
    let mut numbers = Vec::new();
    let mut rest = Some(all.clone());
    while let Some(range) = rest {
        let page = snapshot.scan(&range, Scan { keys_only: true, ..Scan::DEFAULT }).await?;
        rest = page.rest(&range);
        for (key, _) in &page.rows {
            numbers.push(cohort_number(&all, key)?);
        }
    }
    Ok(numbers)
}

fn cohort_number(cohorts: &Range, key: &Key) -> Result<CohortNumber> {
    let (number,) = keys::tail(&cohorts.start, key)?;
    Ok(CohortNumber(number))
}
