//! One series of a run. In a branch it has several parts, which were logged to different runs.

use matyan_store::{Result, Snapshot};

use super::OwnSeries;
use super::own::ChunkPart;
use super::scan::PointScan;
use crate::series::chunk::ChunkEntry;
use crate::series::curve::Stamps;
use crate::series::points::{Points, StepRange};
use crate::series::pyramid::exponent_for;
use crate::series::summary::Summary;

/// One series as of the snapshot on which its `RunSeries` was opened.
#[derive(Clone, Debug)]
pub struct SeriesView {
    /// In the order of their steps, which do not overlap. The last part is the run's own, and the only part
    /// unless the run is a branch.
    parts: Vec<SeriesPart>,
    /// The step from which further ancestors are hidden by a run that was deleted.
    hidden_from: Option<i64>,
}

#[derive(Clone, Debug)]
struct SeriesPart {
    series: OwnSeries,
    /// The last step that belongs to this part.
    last_step: i64,
}

impl SeriesPart {
    fn span(&self) -> Option<StepRange> {
        let span = self.series.span()?.intersection(&self.steps());
        (!span.is_empty()).then_some(span)
    }

    fn steps(&self) -> StepRange {
        StepRange::new(i64::MIN, self.last_step)
    }

    /// Whether the part has all points of its series.
    fn is_whole(&self) -> bool {
        self.series.span().is_none_or(|span| span.last <= self.last_step)
    }

    async fn summary(&self, snapshot: &dyn Snapshot) -> Result<Option<Summary>> {
        if self.is_whole() {
            self.series.summary(snapshot).await
        } else {
            self.series.summary_of(snapshot, self.steps()).await
        }
    }
}

impl SeriesView {
    pub(super) fn new(own: OwnSeries) -> Self {
        Self { parts: vec![SeriesPart { series: own, last_step: i64::MAX }], hidden_from: None }
    }

    /// Puts the points of an ancestor before the others, up to the step of the branch, and to the first
    /// point that comes after it.
    pub(super) fn precede(&mut self, series: OwnSeries, last_step: i64) {
        let Some(last_step) = self.last_preceding(last_step) else { return };
        let part = SeriesPart { series, last_step };
        if part.span().is_some() {
            self.parts.insert(0, part);
        }
    }

    /// Hides the points of further ancestors from the first step of a deleted one on, if that shared it.
    pub(super) fn hide(&mut self, first_step: i64, last_step: i64) {
        if self.last_preceding(last_step).is_some_and(|last_step| first_step <= last_step) {
            self.hidden_from = Some(first_step);
        }
    }

    /// The last step, up to this one, that an ancestor can share; `None` if there is none.
    fn last_preceding(&self, last_step: i64) -> Option<i64> {
        let first = self.span().map(|span| span.first).into_iter().chain(self.hidden_from).min();
        first.map_or(Some(last_step), |first| Some(last_step.min(first.checked_sub(1)?)))
    }

    /// The range from the lowest to the highest step; `None` for a series without points. The range of a
    /// branch that has no points of its own may end after its highest step.
    pub fn span(&self) -> Option<StepRange> {
        let mut spans = self.parts.iter().filter_map(SeriesPart::span);
        let first = spans.next()?;
        Some(StepRange::new(first.first, spans.next_back().unwrap_or(first).last))
    }

    pub(in crate::series) async fn highest_step(&self, snapshot: &dyn Snapshot) -> Result<Option<i64>> {
        for part in self.parts.iter().rev() {
            let highest = if part.is_whole() {
                part.span().map(|span| span.last)
            } else {
                part.summary(snapshot).await?.map(|summary| summary.last.step)
            };
            if highest.is_some() {
                return Ok(highest);
            }
        }
        Ok(None)
    }

    /// The number of points, or more.
    pub(super) fn count_at_most(&self) -> u64 {
        self.parts.iter().map(|part| part.series.count_at_most()).sum()
    }

    /// Summary of the whole series: count, first and last point, min, max, mean. Reads
    /// chunks only if there are late points.
    pub async fn summary(&self, snapshot: &dyn Snapshot) -> Result<Option<Summary>> {
        let mut total = None;
        for part in &self.parts {
            if let Some(summary) = part.summary(snapshot).await? {
                Summary::add(&mut total, &summary);
            }
        }
        Ok(total)
    }

    /// The points in `steps`, to be read chunk by chunk.
    pub async fn scan(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<PointScan> {
        let mut scan = PointScan::new(snapshot.version());
        for part in &self.parts {
            let steps = steps.intersection(&part.steps());
            scan.add(part.series.series_ref, steps, part.series.parts(snapshot, steps).await?);
        }
        Ok(scan)
    }

    /// All points, with the chunk list of the run's own series.
    pub(super) async fn scan_all(
        &self,
        snapshot: &dyn Snapshot,
        entries: Vec<ChunkEntry>,
    ) -> Result<PointScan> {
        let mut scan = PointScan::new(snapshot.version());
        let Some((own, shared)) = self.parts.split_last() else { return Ok(scan) };
        for part in shared {
            let parts = part.series.parts(snapshot, part.steps()).await?;
            scan.add(part.series.series_ref, part.steps(), parts);
        }
        let parts: Vec<ChunkPart> = own.series.parts_of(entries, StepRange::ALL);
        scan.add(own.series.series_ref, StepRange::ALL, parts);
        Ok(scan)
    }

    /// All points in `steps`, which must be known to be a short range.
    pub async fn points(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<Points> {
        let mut scan = self.scan(snapshot, steps).await?;
        let mut all = Points::default();
        while let Some(points) = scan.next(snapshot).await? {
            all.extend(&points, 0..points.len());
        }
        Ok(all)
    }

    /// Buckets of the points in `steps`, and their exponent: the smallest one at which there are at
    /// most `limit` non-empty buckets, but at least two, and their numbers relative to the first one
    /// fit in 32 bits. So a series with gaps between its steps is not reduced to a few buckets.
    pub async fn fine_buckets(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        limit: usize,
        stamps: Stamps,
    ) -> Result<(Vec<Summary>, u32)> {
        let Some(span) = self.span() else { return Ok((Vec::new(), 0)) };
        let wanted = steps.intersection(&span);
        let smallest = exponent_for(&wanted, u32::MAX as usize);
        let mut exponent = exponent_for(&wanted, limit);
        loop {
            let buckets = self.buckets(snapshot, wanted, exponent, stamps).await?;
            // Each halving of the width at most doubles the number of buckets.
            let halvings = limit.checked_div(buckets.len()).and_then(usize::checked_ilog2).unwrap_or(0);
            let is_complete = buckets.iter().all(|bucket| bucket.count == 1);
            if halvings == 0 || is_complete || exponent == smallest {
                return Ok((buckets, exponent));
            }
            exponent = exponent.saturating_sub(halvings).max(smallest);
        }
    }

    /// Summaries of the points in `steps`, one for each non-empty aligned bucket of
    /// 2^exponent steps (`exponent` is at most 63), in the order of steps. A bucket that is
    /// partly outside `steps` includes only the points inside.
    pub async fn buckets(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        exponent: u32,
        stamps: Stamps,
    ) -> Result<Vec<Summary>> {
        let exponent = exponent.min(63);
        let mut buckets: Vec<Summary> = Vec::new();
        for part in &self.parts {
            let steps = steps.intersection(&part.steps());
            let more = part.series.buckets(snapshot, steps, exponent, stamps).await?;
            let mut more = more.into_iter().peekable();
            if let Some(last) = buckets.last_mut()
                && let Some(first) =
                    more.next_if(|first| first.first.step >> exponent == last.first.step >> exponent)
            {
                *last = last.merged(&first);
            }
            buckets.extend(more);
        }
        Ok(buckets)
    }
}
