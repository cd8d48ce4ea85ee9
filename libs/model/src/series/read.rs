//! Reading series: folded chunks and unfolded blocks as one sequence of points.
//!
//! `RunSeries` reads the fold row and the blocks of a run once, from one snapshot, and the rows and blocks of
//! its ancestors, if the run is a branch; a `SeriesView` is one series as of that snapshot. Everything else
//! about the series must be read from the same snapshot, except the chunks of a `PointScan`: chunks never
//! change and are kept for ten minutes, so a long read can continue with newer snapshots.
//!
//! Unfolded points are few, because the fold policy bounds them, and may be late. A late point
//! belongs to the chunk whose range it falls into, exactly as folding will place it, and results
//! for that chunk are computed from its points.

mod blocks;
mod buckets;
mod own;
mod progress;
mod sample;
mod scan;
mod view;

use matyan_store::{Result, Snapshot};

use self::blocks::RunBlocks;
use self::own::OwnSeries;
pub use self::sample::{Sampling, evenly_spaced};
pub use self::scan::PointScan;
pub use self::view::SeriesView;
use super::header::FoldedSummary;
use super::series_rows::RunRef;
use super::summary::Summary;
use crate::branch::{Ancestor, HidingSeries, branch_get, hiding_get};
use crate::ids::{Project, RunNumber, SeriesNumber};
use crate::keys;

/// Summaries of series of runs that have no blocks and are not branches, in the given order; `None` for a series without
/// points.
pub async fn folded_summaries(
    snapshot: &dyn Snapshot,
    project: Project,
    series: &[(RunNumber, SeriesNumber)],
) -> Result<Vec<Option<Summary>>> {
    let keys: Vec<_> = series
        .iter()
        .map(|(number, series)| RunRef { project, number: *number }.series(*series).summary_key())
        .collect();
    let rows = snapshot.get_many(&keys).await?;
    keys.iter()
        .zip(rows)
        .map(|(key, row)| {
            let total = row.map(|row| FoldedSummary::decode_total(&row)).transpose();
            total.map_err(|malformed| malformed.at(key))
        })
        .collect()
}

/// The series of a run, with the points that a branch shares with its ancestors, as of one snapshot.
pub struct RunSeries {
    own: RunBlocks,
    /// The parent first.
    ancestors: Vec<(Ancestor, AncestorPoints)>,
}

/// The points that a branch shares with an ancestor.
enum AncestorPoints {
    Shared(RunBlocks),
    /// Points of a deleted run: they are not shared, but hide points of older ancestors.
    Deleted(RunBlocks),
    /// Steps of a deleted run whose points were cleared.
    Swept(HidingSeries),
}

/// The series of a branch that hide shared points, and their first steps.
pub(crate) async fn hiding_series(
    snapshot: &dyn Snapshot,
    run_ref: RunRef,
) -> Result<Vec<(SeriesNumber, i64)>> {
    let branch = branch_get(snapshot, run_ref.project, run_ref.number).await?;
    let end = branch.ancestors().iter().map(Ancestor::series_end).max().unwrap_or(0);
    let own = RunBlocks::open(snapshot, run_ref).await?;
    let numbers: Vec<SeriesNumber> = (0..end).map(SeriesNumber).collect();
    let mut hiding = Vec::new();
    for numbers in numbers.chunks(HIDING_READ) {
        let spans = own.series(snapshot, numbers).await?.into_iter().map(|series| series.span());
        let firsts = numbers.iter().zip(spans).filter_map(|(number, span)| Some((*number, span?.first)));
        hiding.extend(firsts.filter(|(number, first)| branch.last_shared_step(*number) >= Some(*first)));
    }
    Ok(hiding)
}

/// Series looked up at a time.
const HIDING_READ: usize = 1_000;

impl RunSeries {
    pub async fn open(snapshot: &dyn Snapshot, run_ref: RunRef) -> Result<Self> {
        let branch = branch_get(snapshot, run_ref.project, run_ref.number);
        let (own, branch) = futures::future::try_join(RunBlocks::open(snapshot, run_ref), branch).await?;
        let RunRef { project, .. } = run_ref;
        let mut ancestors = Vec::with_capacity(branch.ancestors().len());
        let mut deleted = Vec::with_capacity(branch.ancestors().len() * 2);
        for number in branch.ancestors().iter().map(Ancestor::number) {
            deleted.extend([keys::dead_run(project, number), keys::hiding_page(project, number, 0)]);
        }
        let deleted = if deleted.is_empty() { Vec::new() } else { snapshot.get_many(&deleted).await? };
        for (ancestor, deleted) in branch.ancestors().iter().zip(deleted.chunks_exact(2)) {
            let ancestor_ref = RunRef { number: ancestor.number(), ..run_ref };
            let points = match deleted {
                [_, Some(page)] => {
                    AncestorPoints::Swept(hiding_get(snapshot, project, ancestor.number(), page).await?)
                }
                [Some(_), _] => AncestorPoints::Deleted(RunBlocks::open(snapshot, ancestor_ref).await?),
                _ => AncestorPoints::Shared(RunBlocks::open(snapshot, ancestor_ref).await?),
            };
            ancestors.push((*ancestor, points));
        }
        Ok(Self { own, ancestors })
    }

    /// Bytes of the unfolded points of the run and its ancestors, which this keeps in memory.
    pub fn unfolded_bytes(&self) -> usize {
        let of_ancestors = self.ancestors.iter().map(|(_, points)| match points {
            AncestorPoints::Shared(blocks) | AncestorPoints::Deleted(blocks) => blocks.bytes(),
            AncestorPoints::Swept(_) => 0,
        });
        self.own.bytes() + of_ancestors.sum::<usize>()
    }

    /// Views of several series, in the given order. The view of an unknown series is empty.
    pub async fn views(&self, snapshot: &dyn Snapshot, series: &[SeriesNumber]) -> Result<Vec<SeriesView>> {
        let own = self.own.series(snapshot, series).await?;
        let mut views: Vec<SeriesView> = own.into_iter().map(SeriesView::new).collect();
        for (ancestor, points) in &self.ancestors {
            let shared: Vec<usize> = (0..series.len()).filter(|at| ancestor.shares(series[*at])).collect();
            let numbers: Vec<SeriesNumber> = shared.iter().map(|at| series[*at]).collect();
            let blocks = match points {
                AncestorPoints::Shared(blocks) | AncestorPoints::Deleted(blocks) => blocks,
                AncestorPoints::Swept(hiding) => {
                    for (at, number) in shared.into_iter().zip(&numbers) {
                        if let Some(first) = hiding.get(number) {
                            views[at].hide(*first, ancestor.last_step);
                        }
                    }
                    continue;
                }
            };
            let is_deleted = matches!(points, AncestorPoints::Deleted(_));
            for (at, part) in shared.into_iter().zip(blocks.series(snapshot, &numbers).await?) {
                match part.span() {
                    Some(span) if is_deleted => views[at].hide(span.first, ancestor.last_step),
                    _ => views[at].precede(part, ancestor.last_step),
                }
            }
        }
        Ok(views)
    }

    /// Summaries of several series, in the given order; `None` for a series without points. Reads chunks only if
    /// there are late points.
    pub async fn summaries(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<Summary>>> {
        if self.ancestors.is_empty() && self.own.is_folded() {
            return self.own.folded_summaries(snapshot, series).await;
        }
        let mut summaries = Vec::with_capacity(series.len());
        for view in self.views(snapshot, series).await? {
            summaries.push(view.summary(snapshot).await?);
        }
        Ok(summaries)
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
