//! Reading series: folded chunks and unfolded blocks as one sequence of points.
//!
//! `RunSeries` reads the fold row and the blocks of a run once, from one snapshot; a
//! `SeriesView` is one series as of that snapshot. Everything else about the series must be
//! read from the same snapshot, except the chunks of a `PointScan`: chunks never change and are
//! kept for ten minutes, so a long read can continue with newer snapshots.
//!
//! Unfolded points are few, as the fold policy bounds them, and may be late. A late point
//! belongs to the chunk whose range it falls into, exactly as folding will place it, and
//! results for that chunk are computed from its points.

mod buckets;
mod sample;
mod scan;

use bytes::Bytes;
use matyan_store::{Result, Snapshot};

pub use self::sample::{Sampling, evenly_spaced};
pub use self::scan::PointScan;
use super::block::Block;
use super::chunk::{ChunkEntry, group_by_chunk};
use super::fold::UnfoldedBlocks;
use super::fold_row::FoldRow;
use super::header::FoldedSummary;
use super::points::{Points, StepRange};
use super::series_rows::{RunRef, SeriesRef};
use super::summary::Summary;
use super::wire::FormatError;
use crate::ids::{Project, RunNumber, SeriesNumber};

/// Summaries of series of runs that have no blocks, in the given order; `None` for a series without
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

/// The unfolded points of a run, still encoded as blocks, as of one snapshot.
pub struct RunSeries {
    run_ref: RunRef,
    fold: FoldRow,
    blocks: Vec<(u64, Bytes)>,
}

impl RunSeries {
    pub async fn open(snapshot: &dyn Snapshot, run_ref: RunRef) -> Result<Self> {
        let fold = run_ref.fold_row(snapshot).await?;
        let blocks = run_ref.blocks(snapshot, u64::MAX, usize::MAX).await?;
        Ok(Self { run_ref, fold, blocks })
    }

    /// Views of several series, in the given order. The view of an unknown series is empty.
    pub async fn views(&self, snapshot: &dyn Snapshot, series: &[SeriesNumber]) -> Result<Vec<SeriesView>> {
        let keys: Vec<_> = series.iter().map(|series| self.run_ref.series(*series).summary_key()).collect();
        let rows = snapshot.get_many(&keys).await?;
        let unfolded = self.unfolded_points(series)?;
        let view = |((series, row), unfolded): ((&SeriesNumber, Option<Bytes>), Points)| {
            let folded = row.map(|row| FoldedSummary::decode(&row)).transpose()?;
            Ok(SeriesView { series_ref: self.run_ref.series(*series), folded, unfolded })
        };
        series.iter().zip(rows).zip(unfolded).map(view).collect()
    }

    pub async fn view(&self, snapshot: &dyn Snapshot, series: SeriesNumber) -> Result<SeriesView> {
        let folded = self.run_ref.series(series).folded(snapshot).await?;
        let unfolded = self.unfolded_points(&[series])?.pop().unwrap_or_default();
        Ok(SeriesView { series_ref: self.run_ref.series(series), folded, unfolded })
    }

    /// Scans of all points of several series, in the given order. The chunk lists of the
    /// run are read in one pass, so this is fast even for many series.
    pub async fn scans(&self, snapshot: &dyn Snapshot, series: &[SeriesNumber]) -> Result<Vec<PointScan>> {
        let mut lists = self.run_ref.chunk_lists(snapshot).await?;
        let views = self.views(snapshot, series).await?;
        let scan = |(view, series): (&SeriesView, &SeriesNumber)| {
            let entries = lists.remove(series).unwrap_or_default();
            let parts = view.parts_of(entries, StepRange::ALL);
            PointScan::new(view.series_ref, StepRange::ALL, snapshot.version(), parts)
        };
        Ok(views.iter().zip(series).map(scan).collect())
    }

    /// The highest step of each series, to assign the next one; `None` for a series without
    /// points.
    pub async fn highest_steps(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<i64>>> {
        let views = self.views(snapshot, series).await?;
        Ok(views.iter().map(|view| view.span().map(|span| span.last)).collect())
    }

    /// The blocks that no fold has started on, as input for the fold policy.
    pub fn unfolded(&self) -> Result<UnfoldedBlocks> {
        let mut unfolded = UnfoldedBlocks::default();
        let begun = |sequence: u64| self.fold.position.is_some() && sequence < self.fold.end;
        for (_, bytes) in self.blocks.iter().filter(|(sequence, _)| !begun(*sequence)) {
            unfolded.add(bytes)?;
        }
        Ok(unfolded)
    }

    /// Whether a fold has been started and not finished.
    pub fn is_folding(&self) -> bool {
        self.fold.position.is_some()
    }

    /// A sequence number higher than that of any past or present block.
    pub fn next_block(&self) -> u64 {
        self.blocks.last().map_or(0, |(sequence, _)| sequence + 1).max(self.fold.end)
    }

    /// The points of each series in the blocks, in the order of steps.
    fn unfolded_points(&self, series: &[SeriesNumber]) -> Result<Vec<Points>, FormatError> {
        let mut unfolded = vec![Points::default(); series.len()];
        let mut wanted: Vec<(SeriesNumber, usize)> =
            series.iter().enumerate().map(|(position, series)| (*series, position)).collect();
        wanted.sort_unstable();
        for (sequence, bytes) in &self.blocks {
            let block = Block::open(bytes)?;
            // For few series, searching for each is faster than walking through all series of the
            // block.
            let few = wanted.len() < block.series_count() / 8;
            let mut index = 0;
            for (series, position) in &wanted {
                if few {
                    index = block.lower_bound(*series);
                }
                while index < block.series_count() && block.series(index) < *series {
                    index += 1;
                }
                if index < block.series_count() && block.series(index) == *series {
                    self.read(&block, *sequence, index, &mut unfolded[*position])?;
                }
            }
        }
        unfolded.iter_mut().for_each(Points::sort_and_merge);
        Ok(unfolded)
    }

    /// Appends the unfolded points of a series in one block.
    fn read(
        &self,
        block: &Block<'_>,
        sequence: u64,
        index: usize,
        out: &mut Points,
    ) -> Result<(), FormatError> {
        match self.fold.first_unfolded(sequence, block.series(index)) {
            None => Ok(()),
            Some(i64::MIN) => block.read(index, out),
            Some(first) => {
                let mut points = Points::default();
                block.read(index, &mut points)?;
                points.iter().filter(|point| point.step >= first).for_each(|point| out.push(point));
                Ok(())
            }
        }
    }
}

/// One series as of the snapshot on which its `RunSeries` was opened.
#[derive(Clone, Debug)]
pub struct SeriesView {
    series_ref: SeriesRef,
    folded: Option<FoldedSummary>,
    /// In ascending order of distinct steps.
    unfolded: Points,
}

impl SeriesView {
    /// The range from the lowest to the highest step; `None` for a series without points.
    pub fn span(&self) -> Option<StepRange> {
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

    /// Summary of the whole series: count, first and last point, min, max, mean. Reads
    /// chunks only if there are late points.
    pub async fn summary(&self, snapshot: &dyn Snapshot) -> Result<Option<Summary>> {
        let mut total = None;
        let Some(folded) = &self.folded else {
            return Ok(Summary::from_points(&self.unfolded, 0..self.unfolded.len()));
        };
        if self.unfolded.first().is_none_or(|first| first.step > folded.total.last.step) {
            total = Some(folded.total);
            if let Some(unfolded) = Summary::from_points(&self.unfolded, 0..self.unfolded.len()) {
                Summary::add(&mut total, &unfolded);
            }
            return Ok(total);
        }
        for part in self.parts(snapshot, StepRange::ALL).await? {
            match (&part.entry, part.late.is_empty()) {
                (Some(entry), true) => Summary::add(&mut total, &entry.summary),
                _ => {
                    let points = part.points(snapshot, &self.series_ref).await?;
                    if let Some(summary) = Summary::from_points(&points, 0..points.len()) {
                        Summary::add(&mut total, &summary);
                    }
                }
            }
        }
        Ok(total)
    }

    /// The points in `steps`, to be read chunk by chunk.
    pub async fn scan(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<PointScan> {
        let parts = self.parts(snapshot, steps).await?;
        Ok(PointScan::new(self.series_ref, steps, snapshot.version(), parts))
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

    /// The chunks that overlap `steps`, each with the unfolded points in its range, and the
    /// unfolded points after them.
    async fn parts(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<Vec<ChunkPart>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let entries = match &self.folded {
            Some(folded) if folded.total.steps().overlaps(&steps) => {
                self.series_ref.entries(snapshot, steps).await?
            }
            _ => Vec::new(),
        };
        Ok(self.parts_of(entries, steps))
    }

    /// Distributes the unfolded points over `entries`, which must include all chunks around
    /// `steps`.
    fn parts_of(&self, entries: Vec<ChunkEntry>, steps: StepRange) -> Vec<ChunkPart> {
        let unfolded = self.unfolded.slice(self.unfolded.positions(&steps));
        let tail = entries
            .last()
            .map_or(0, |last| unfolded.positions(&StepRange::new(i64::MIN, last.steps().last)).end);
        let late = group_by_chunk(&entries, &unfolded.steps[..tail]);
        let part = |(entry, group)| ChunkPart { entry: Some(entry), late: unfolded.slice(group) };
        let mut parts: Vec<ChunkPart> = entries.into_iter().zip(late).map(part).collect();
        parts.push(ChunkPart { entry: None, late: unfolded.slice(tail..unfolded.len()) });
        parts.retain(|part| {
            !part.late.is_empty() || part.entry.as_ref().is_some_and(|e| e.steps().overlaps(&steps))
        });
        parts
    }
}

/// A chunk with the unfolded points in its range, or the unfolded points after all chunks.
#[derive(Clone, Debug)]
struct ChunkPart {
    entry: Option<ChunkEntry>,
    late: Points,
}

impl ChunkPart {
    async fn points(&self, snapshot: &dyn Snapshot, series_ref: &SeriesRef) -> Result<Points> {
        match &self.entry {
            None => Ok(self.late.clone()),
            Some(entry) => Ok(self.over(series_ref.listed_chunk(snapshot, entry).await?)),
        }
    }

    fn over(&self, chunk: Points) -> Points {
        if self.late.is_empty() { chunk } else { chunk.merged_with(&self.late) }
    }
}
