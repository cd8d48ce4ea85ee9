//! The points of a series that one run has: folded chunks, and unfolded points over and after them.

use matyan_store::{Result, Snapshot};

use crate::series::chunk::{ChunkEntry, group_by_chunk};
use crate::series::curve::{Curve, Stamps};
use crate::series::header::FoldedSummary;
use crate::series::points::{Points, StepRange};
use crate::series::series_rows::SeriesRef;
use crate::series::summary::Summary;

/// The points of a series that were logged to one run.
#[derive(Clone, Debug)]
pub(super) struct OwnSeries {
    pub(super) series_ref: SeriesRef,
    pub(super) folded: Option<FoldedSummary>,
    /// In ascending order of distinct steps.
    pub(super) unfolded: Points,
}

impl OwnSeries {
    /// The range from the lowest to the highest step; `None` without points.
    pub(super) fn span(&self) -> Option<StepRange> {
        let unfolded = self.unfolded.first().zip(self.unfolded.last());
        let unfolded = unfolded.map(|(first, last)| StepRange::new(first.step, last.step));
        let folded = self.folded.map(|folded| folded.total.steps());
        match (folded, unfolded) {
            (Some(folded), Some(unfolded)) => {
                Some(StepRange::new(folded.first.min(unfolded.first), folded.last.max(unfolded.last)))
            }
            (folded, unfolded) => folded.or(unfolded),
        }
    }

    /// The number of points, or more: rewritten steps may count twice.
    pub(super) fn count_at_most(&self) -> u64 {
        self.folded.map_or(0, |folded| folded.total.count) + self.unfolded.len() as u64
    }

    /// Reads chunks only if there are late points.
    pub(super) async fn summary(&self, snapshot: &dyn Snapshot) -> Result<Option<Summary>> {
        let Some(folded) = &self.folded else {
            return Ok(Summary::from_points(&self.unfolded, 0..self.unfolded.len()));
        };
        if self.unfolded.first().is_none_or(|first| first.step > folded.total.last.step) {
            let mut total = Some(folded.total);
            if let Some(unfolded) = Summary::from_points(&self.unfolded, 0..self.unfolded.len()) {
                Summary::add(&mut total, &unfolded);
            }
            return Ok(total);
        }
        self.summary_of(snapshot, StepRange::ALL).await
    }

    /// Summary of the points in `steps`. Reads only chunks with late points and chunks that `steps`
    /// cuts.
    pub(super) async fn summary_of(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
    ) -> Result<Option<Summary>> {
        let mut total = None;
        for part in self.parts(snapshot, steps).await? {
            match &part.entry {
                Some(entry)
                    if part.late.is_empty() && entry.steps().intersection(&steps) == entry.steps() =>
                {
                    Summary::add(&mut total, &entry.summary);
                }
                _ => {
                    let points = part.points(snapshot, &self.series_ref).await?;
                    if let Some(summary) = Summary::from_points(&points, points.positions(&steps)) {
                        Summary::add(&mut total, &summary);
                    }
                }
            }
        }
        Ok(total)
    }

    /// The chunks that overlap `steps`, each with the unfolded points in its range, and the
    /// unfolded points after them.
    pub(super) async fn parts(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<Vec<ChunkPart>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let entries = match &self.folded {
            Some(folded) if folded.total.steps().overlaps(&steps) => {
                let first = if steps.first <= folded.total.first.step { i64::MIN } else { steps.first };
                self.series_ref.entries(snapshot, StepRange::new(first, steps.last)).await?
            }
            _ => Vec::new(),
        };
        Ok(self.parts_of(entries, steps))
    }

    /// Distributes the unfolded points over `entries`, which must include all chunks around
    /// `steps`.
    pub(super) fn parts_of(&self, entries: Vec<ChunkEntry>, steps: StepRange) -> Vec<ChunkPart> {
        let unfolded = self.unfolded.slice(self.unfolded.positions(&steps));
        let tail = entries
            .last()
            .map_or(0, |last| unfolded.positions(&StepRange::new(i64::MIN, last.steps().last)).end);
        let late = group_by_chunk(&entries, &unfolded.steps[..tail]);
        let mut parts: Vec<ChunkPart> = entries
            .into_iter()
            .zip(late)
            .map(|(entry, group)| ChunkPart { entry: Some(entry), late: unfolded.slice(group) })
            .collect();
        parts.push(ChunkPart { entry: None, late: unfolded.slice(tail..unfolded.len()) });
        parts.retain(|part| {
            !part.late.is_empty() || part.entry.as_ref().is_some_and(|e| e.steps().overlaps(&steps))
        });
        parts
    }
}

/// A chunk with the unfolded points in its range, or the unfolded points after all chunks.
#[derive(Clone, Debug)]
pub(super) struct ChunkPart {
    pub(super) entry: Option<ChunkEntry>,
    pub(super) late: Points,
}

impl ChunkPart {
    pub(super) async fn points(&self, snapshot: &dyn Snapshot, series_ref: &SeriesRef) -> Result<Points> {
        match &self.entry {
            None => Ok(self.late.clone()),
            Some(entry) => Ok(self.over(series_ref.listed_chunk(snapshot, entry).await?)),
        }
    }

    /// The points as charts read them. Epochs and times may be read even if they can be skipped.
    pub(super) async fn curve(
        &self,
        snapshot: &dyn Snapshot,
        series_ref: &SeriesRef,
        stamps: Stamps,
    ) -> Result<Curve<'_>> {
        match &self.entry {
            None => Ok(self.late.curve()),
            Some(entry) if self.late.is_empty() => series_ref.listed_curve(snapshot, entry, stamps).await,
            Some(_) => Ok(self.points(snapshot, series_ref).await?.into_curve()),
        }
    }

    pub(super) fn last_step(&self) -> Option<i64> {
        let in_chunk = self.entry.as_ref().map(|entry| entry.summary.last.step);
        in_chunk.max(self.late.last().map(|last| last.step))
    }

    pub(super) fn over(&self, chunk: Points) -> Points {
        if self.late.is_empty() { chunk } else { chunk.merged_with(&self.late) }
    }
}
