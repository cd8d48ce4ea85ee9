//! Points of trials that may not be in the log yet. The start or the end of a trial makes points due, and its
//! transaction marks them. The mark is cleared when the points are in the log. If a process ends in between, the mark
//! stays, and workers log the marked points. The points are the same each time, so it does no harm to log them twice.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction};

use super::Trial;
use crate::{
    ids::Project,
    keys::{self, TrialPointKind},
    rows,
};

/// The mark of one kind of a trial's points, which may not be in the log yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnloggedMark {
    pub study: u32,
    /// Number of the trial.
    pub number: u32,
    pub kind: TrialPointKind,
}

impl UnloggedMark {
    pub fn put(self, batch: &mut Batch, project: Project) {
        batch.set(keys::unlogged_points(project, self.study, self.number, self.kind), Vec::new());
    }

    pub fn clear(self, batch: &mut Batch, project: Project) {
        batch.clear(keys::unlogged_points(project, self.study, self.number, self.kind));
    }
}

/// The marked points of a trial.
#[derive(Clone, Debug)]
pub struct TrialPointValues {
    pub run_id: String,
    /// Intermediate values by their steps, or the values of the trial by their places.
    pub values: Vec<(i64, f64)>,
}

impl PartialEq for TrialPointValues {
    /// Compares to the bit, so that a NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |(step, value): &(i64, f64)| (*step, value.to_bits());
        self.run_id == other.run_id && self.values.iter().map(bits).eq(other.values.iter().map(bits))
    }
}

/// A page of the marks of a project, starting at `range` (`keys::unlogged_points_all` for the first page), and the
/// range of the rest.
pub async fn unlogged_points_page(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
) -> Result<(Vec<UnloggedMark>, Option<Range>)> {
    let all = keys::unlogged_points_all(project);
    let page = snapshot.scan(range, Scan { rows: 1_000, ..Scan::default() }).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for (key, _) in &page.rows {
        let (study, number, kind) = keys::tail(&all.start, key)?;
        let kind = TrialPointKind::from_number(kind);
        found.extend(kind.map(|kind| UnloggedMark { study, number, kind }));
    }
    Ok((found, page.rest(range)))
}

/// Reads marked points; `None` if there is nothing left to log, because the study was deleted. The transaction
/// fails if the points change before the commit.
pub async fn trial_points_load(
    transaction: &mut Transaction,
    project: Project,
    marked: UnloggedMark,
) -> Result<Option<TrialPointValues>> {
    let UnloggedMark { study, number, kind } = marked;
    if transaction.get(&keys::study(project, study)).await?.is_none() {
        return Ok(None);
    }
    let key = keys::trial(project, study, number);
    let Some(value) = transaction.get(&key).await? else { return Ok(None) };
    let trial: Trial = rows::decode(&key, &value)?;
    let Some(run) = trial.run else { return Ok(None) };
    let values = match kind {
        TrialPointKind::Results => (0..).zip(trial.values).collect(),
        TrialPointKind::IntermediateValues => {
            let all = keys::intermediate_values(project, study, number);
            let since = transaction.version();
            transaction.batch().expect_unchanged(all.clone(), since);
            intermediate_values(transaction.unchecked(), &all).await?
        }
    };
    Ok(Some(TrialPointValues { run_id: run.id, values }))
}

async fn intermediate_values(snapshot: &dyn Snapshot, all: &Range) -> Result<Vec<(i64, f64)>> {
    let mut values = Vec::new();
    let mut rest = Some(all.clone());
    while let Some(range) = rest {
        let page = snapshot.scan(&range, Scan::default()).await?;
        for (key, value) in &page.rows {
            let (step,) = keys::tail(&all.start, key)?;
            values.push((step, rows::decode(key, value)?));
        }
        rest = page.rest(&range);
    }
    Ok(values)
}
