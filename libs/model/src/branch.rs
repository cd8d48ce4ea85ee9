//! Branches: runs that continue another run from a step. A branch shares the metric series that have
//! points up to that step when the branch is created. A shared series has the same number in both runs.
//! Its points are read from the parent up to the step of the branch, but not after the first point that
//! was logged to the branch.
//!
//! A run that is a branch has one row, which contains all its ancestors, so that readers need no rows of
//! runs in between. Without its ancestors a branch has its own points. Another row under each ancestor
//! leads to the branch, for readers that must reload the branch when points of the ancestor change.
//!
//! A deleted run takes its points along at once, although its rows are cleared later. Points of older
//! ancestors that it had replaced stay hidden from its branches: rows that outlive it say from which step on.

use std::collections::HashMap;

use matyan_store::{Batch, Error, Range, Result, Scan, Snapshot, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber, SeriesNumber},
    index::index_runs_page,
    keys, rows,
    run::WritingState,
};

/// Maximum number of ancestors of a branch. Each costs a few reads whenever the branch is read.
pub const ANCESTORS: usize = 32;

/// The ancestors of a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Branch {
    /// The parent first.
    #[n(0)]
    ancestors: Vec<Ancestor>,
}

/// A run that a branch shares points with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Ancestor {
    #[n(0)]
    number: u64,
    /// The last step that is shared.
    #[n(1)]
    pub last_step: i64,
    /// The series with lower numbers are shared.
    #[n(2)]
    series: u32,
}

impl Ancestor {
    pub fn new(number: RunNumber, last_step: i64, series: u32) -> Self {
        Self { number: number.0, last_step, series }
    }

    pub fn number(&self) -> RunNumber {
        RunNumber(self.number)
    }

    pub fn shares(&self, series: SeriesNumber) -> bool {
        series.0 < self.series
    }

    /// The series that may be shared have lower numbers.
    pub(crate) fn series_end(&self) -> u32 {
        self.series
    }
}

impl Branch {
    /// A branch of `parent`, which may be a branch itself. `None` if it has too many ancestors.
    pub fn of(parent: Ancestor, grandparents: &Self) -> Option<Self> {
        let ancestors: Vec<Ancestor> = std::iter::once(parent)
            .chain(grandparents.ancestors.iter().map(|ancestor| Ancestor {
                number: ancestor.number,
                last_step: ancestor.last_step.min(parent.last_step),
                series: ancestor.series.min(parent.series),
            }))
            .collect();
        (ancestors.len() <= ANCESTORS).then_some(Self { ancestors })
    }

    /// The parent first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// The last step of a series whose point can be shared; `None` if it cannot have any.
    pub fn last_shared_step(&self, series: SeriesNumber) -> Option<i64> {
        self.ancestors.iter().filter(|ancestor| ancestor.shares(series)).map(|it| it.last_step).max()
    }
}

/// The ancestors of a run; none if it is not a branch.
pub async fn branch_get(snapshot: &dyn Snapshot, project: Project, number: RunNumber) -> Result<Branch> {
    Ok(rows::get(snapshot, &keys::branch(project, number)).await?.unwrap_or_default())
}

pub fn branch_put(batch: &mut Batch, project: Project, number: RunNumber, branch: &Branch) {
    batch.set(keys::branch(project, number), rows::encode(branch));
    sharers_put(batch, project, number, branch);
}

/// Writes the rows that lead from the ancestors to a branch.
pub(crate) fn sharers_put(batch: &mut Batch, project: Project, number: RunNumber, branch: &Branch) {
    for ancestor in &branch.ancestors {
        batch.set(keys::sharer(project, ancestor.number(), ancestor.last_step, number), Vec::new());
    }
}

/// Clears the rows of a removed run, both as a branch and as an ancestor.
pub(crate) async fn branch_clear(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
) -> Result<()> {
    let branch = match branch_get(snapshot, project, number).await {
        // The rows that lead to the run are ignored, because the run does not exist.
        Err(Error::Corrupt { .. }) => Branch::default(),
        branch => branch?,
    };
    for ancestor in &branch.ancestors {
        batch.clear(keys::sharer(project, ancestor.number(), ancestor.last_step, number));
        let sharers = keys::sharers(project, ancestor.number());
        let page = snapshot.scan(&sharers, Scan { rows: 2, ..Scan::default() }).await?;
        if page.rows.len() == 1 {
            batch.clear_range(keys::hiding(project, ancestor.number()));
        }
    }
    batch.clear(keys::branch(project, number));
    Ok(())
}

/// Whether other runs share points of this one.
pub(crate) async fn has_sharers(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<bool> {
    let sharers = keys::sharers(project, number);
    Ok(!snapshot.scan(&sharers, Scan { rows: 1, ..Scan::default() }).await?.rows.is_empty())
}

/// The steps from which series of a deleted run hide points of its ancestors.
pub(crate) type HidingSeries = HashMap<SeriesNumber, i64>;

#[derive(Encode, Decode)]
#[cbor(array)]
struct HidingPage {
    /// Number of pages, in the first one.
    #[n(0)]
    pages: u32,
    #[n(1)]
    series: Vec<(u32, i64)>,
}

/// Series in one page.
const HIDING_SERIES: usize = 2_000;

pub(crate) fn hiding_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    series: &[(SeriesNumber, i64)],
) {
    let pages = series.len().div_ceil(HIDING_SERIES) as u32;
    for (page, series) in (0..).zip(series.chunks(HIDING_SERIES)) {
        let series = series.iter().map(|(series, first)| (series.0, *first)).collect();
        batch.set(keys::hiding_page(project, number, page), rows::encode(&HidingPage { pages, series }));
    }
}

/// Reads the other pages of a run whose first one has this value.
pub(crate) async fn hiding_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    first: &Value,
) -> Result<HidingSeries> {
    let key = keys::hiding_page(project, number, 0);
    let HidingPage { pages, mut series } = rows::decode(&key, first)?;
    let keys: Vec<_> = (1..pages).map(|page| keys::hiding_page(project, number, page)).collect();
    for (key, value) in keys.iter().zip(snapshot.get_many(&keys).await?) {
        let page: Option<HidingPage> = value.map(|value| rows::decode(key, &value)).transpose()?;
        series.extend(page.into_iter().flat_map(|page| page.series));
    }
    Ok(series.into_iter().map(|(series, first)| (SeriesNumber(series), first)).collect())
}

/// Counts the edits of the series that a branch shares. A deleted ancestor counts more than any edits
/// that it had, so the number changes when it is deleted.
pub async fn shared_edits(snapshot: &dyn Snapshot, project: Project, number: RunNumber) -> Result<u64> {
    const DELETED: u64 = 1 << 40;
    let branch = branch_get(snapshot, project, number).await?;
    let ancestors = branch.ancestors.iter().map(Ancestor::number);
    let keys: Vec<_> = ancestors
        .flat_map(|number| [keys::dead_run(project, number), keys::writing(project, number)])
        .collect();
    if keys.is_empty() {
        return Ok(0);
    }
    let mut edits = 0;
    for (keys, rows) in keys.chunks_exact(2).zip(snapshot.get_many(&keys).await?.chunks_exact(2)) {
        edits += match rows {
            [None, Some(writing)] => rows::readable(rows::decode::<WritingState>(&keys[1], writing))?
                .map_or(DELETED, |writing| writing.series_edits),
            // The rows of a deleted run are cleared later.
            _ => DELETED,
        };
    }
    Ok(edits)
}

/// Whether a project has branches.
pub async fn has_branches(snapshot: &dyn Snapshot, project: Project) -> Result<bool> {
    let page = snapshot.scan(&keys::sharers_all(project), Scan { rows: 1, ..Scan::default() }).await?;
    Ok(!page.rows.is_empty())
}

/// One page of the branches in a range of `keys::sharers_from`, and the range of the rest. Some may not
/// exist any more.
pub async fn sharers_page(
    snapshot: &dyn Snapshot,
    range: &Range,
    rows: usize,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    index_runs_page(snapshot, range, rows).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_of_a_branch_shares_no_more_than_its_parent() {
        let grandparent = Branch::of(Ancestor::new(RunNumber(1), 100, 5), &Branch::default()).unwrap();
        let early = Branch::of(Ancestor::new(RunNumber(2), 50, 7), &grandparent).unwrap();
        let late = Branch::of(Ancestor::new(RunNumber(2), 200, 7), &grandparent).unwrap();
        assert_eq!(early.ancestors()[1], Ancestor::new(RunNumber(1), 50, 5));
        assert_eq!(late.ancestors()[1], Ancestor::new(RunNumber(1), 100, 5));
        assert_eq!(late.last_shared_step(SeriesNumber(4)), Some(200));
        assert_eq!(late.last_shared_step(SeriesNumber(7)), None);
    }

    #[test]
    fn the_number_of_ancestors_is_limited() {
        let mut branch = Branch::default();
        for number in 0..ANCESTORS as u64 {
            branch = Branch::of(Ancestor::new(RunNumber(number), 0, 1), &branch).unwrap();
        }
        assert_eq!(Branch::of(Ancestor::new(RunNumber(99), 0, 1), &branch), None);
    }
}
