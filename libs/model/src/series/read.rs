//! Reading series: folded chunks and unfolded blocks as one sequence of points.
//!
//! `RunSeries` reads the fold row and the blocks of a run once, from one snapshot, and those of its
//! ancestors, if it is a branch; a `SeriesView` is one series as of that snapshot. Everything else about the series must be
//! read from the same snapshot, except the chunks of a `PointScan`: chunks never change and are
//! kept for ten minutes, so a long read can continue with newer snapshots.
//!
//! Unfolded points are few, as the fold policy bounds them, and may be late. A late point
//! belongs to the chunk whose range it falls into, exactly as folding will place it, and
//! results for that chunk are computed from its points.

mod blocks;
mod buckets;
mod own;
mod progress;
mod sample;
mod scan;
mod view;

use matyan_store::{Result, Snapshot};

pub use self::blocks::RunBlocks;
use self::own::OwnSeries;
pub use self::sample::{Sampling, evenly_spaced};
pub use self::scan::PointScan;
pub use self::view::SeriesView;
use super::header::FoldedSummary;
use super::series_rows::RunRef;
use super::summary::Summary;
use crate::branch::{Ancestor, branch_get};
use crate::ids::{Project, RunNumber, SeriesNumber};

/// Summaries of series of runs that have no blocks and are not branches, in the given order; `None` for a series without
/// points.
pub async fn folded_summaries(
    snapshot: &dyn Snapshot,
    project: Project,
    series: &[(RunNumber, SeriesNumber)],
) -> Result<Vec<Option<Summary>>> {
    let key = |(number, series): &(RunNumber, SeriesNumber)| {
        RunRef { project, number: *number }.series(*series).summary_key()
    };
    let keys: Vec<_> = series.iter().map(key).collect();
    let rows = snapshot.get_many(&keys).await?;
    rows.into_iter().map(|row| row.map(|row| Ok(FoldedSummary::decode(&row)?.total)).transpose()).collect()
}

/// The series of a run, with the points that a branch shares with its ancestors, as of one snapshot.
pub struct RunSeries {
    own: RunBlocks,
    /// The parent first.
    ancestors: Vec<(Ancestor, RunBlocks)>,
}

impl RunSeries {
    pub async fn open(snapshot: &dyn Snapshot, run_ref: RunRef) -> Result<Self> {
        let branch = branch_get(snapshot, run_ref.project, run_ref.number);
        let (own, branch) = futures::future::try_join(RunBlocks::open(snapshot, run_ref), branch).await?;
        let mut ancestors = Vec::with_capacity(branch.ancestors().len());
        for ancestor in branch.ancestors() {
            let ancestor_ref = RunRef { number: ancestor.number(), ..run_ref };
            ancestors.push((*ancestor, RunBlocks::open(snapshot, ancestor_ref).await?));
        }
        Ok(Self { own, ancestors })
    }

    /// Views of several series, in the given order. The view of an unknown series is empty.
    pub async fn views(&self, snapshot: &dyn Snapshot, series: &[SeriesNumber]) -> Result<Vec<SeriesView>> {
        let own = self.own.series(snapshot, series).await?;
        let mut views: Vec<SeriesView> = own.into_iter().map(SeriesView::new).collect();
        for (ancestor, blocks) in &self.ancestors {
            let shared: Vec<usize> = (0..series.len()).filter(|at| ancestor.shares(series[*at])).collect();
            let numbers: Vec<SeriesNumber> = shared.iter().map(|at| series[*at]).collect();
            for (at, part) in shared.into_iter().zip(blocks.series(snapshot, &numbers).await?) {
                views[at].precede(part, ancestor.last_step);
            }
        }
        Ok(views)
    }

    pub async fn view(&self, snapshot: &dyn Snapshot, series: SeriesNumber) -> Result<SeriesView> {
        let mut views = self.views(snapshot, &[series]).await?;
        Ok(views.swap_remove(0))
    }

    /// Scans of all points of several series, in the given order. The chunk lists of the
    /// run are read in one pass, so this is fast even for many series.
    pub async fn scans(&self, snapshot: &dyn Snapshot, series: &[SeriesNumber]) -> Result<Vec<PointScan>> {
        let mut lists = self.own.chunk_lists(snapshot).await?;
        let mut scans = Vec::with_capacity(series.len());
        for (view, series) in self.views(snapshot, series).await?.iter().zip(series) {
            let entries = lists.remove(series).unwrap_or_default();
            scans.push(view.scan_all(snapshot, entries).await?);
        }
        Ok(scans)
    }

    /// The highest step of each series, to assign the next one; `None` for a series without
    /// points.
    pub async fn highest_steps(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<i64>>> {
        let mut steps = Vec::with_capacity(series.len());
        for view in self.views(snapshot, series).await? {
            steps.push(view.highest_step(snapshot).await?);
        }
        Ok(steps)
    }
}
