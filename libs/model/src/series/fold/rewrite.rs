//! Folding of one series: which chunks its new points rewrite, and how its chunk list, pyramid,
//! and summary change.
//!
//! Points after the sealed chunks are added to the tail. The tail grows by size tiers: a chunk
//! of n points is of tier log4 n, and four chunks of one tier are merged into one of the next,
//! so that a point is rewritten once per tier. When the tail is large enough, full chunks are
//! cut off its front and sealed. Late points rewrite the sealed chunks that they fall into,
//! which may split them.

use std::collections::HashMap;

use bytes::Bytes;
use matyan_store::{Batch, Result, Snapshot};

use super::super::chunk::{self, CHUNK_BYTES, CHUNK_POINTS, ChunkEntry, group_by_chunk};
use super::super::column::ColumnUse;
use super::super::header::FoldedSummary;
use super::super::points::{Points, StepRange};
use super::super::pyramid::rebuild::{Pages, PyramidRebuild};
use super::super::pyramid::{SealedSummary, base_level, bucket_steps, encode_page, exponent};
use super::super::series_rows::SeriesRef;
use super::super::summary::Summary;

/// Maximum number of points of one series per transaction: about 1 MB of chunks, including chunks
/// that are merged.
const SERIES_POINTS: usize = 64 * 1024;
/// Maximum number of sealed chunks of one series that a transaction rewrites.
const MAX_REWRITTEN_CHUNKS: usize = 8;
/// Maximum number of chunks of one tier that are not merged.
const TIER_CHUNKS: usize = 3;

/// The changes made by folding some points of a series, or by removing some.
pub(super) struct SeriesRewrite {
    /// Number of points folded.
    pub(super) points: usize,
    /// First step that is left to the next transaction.
    pub(super) next_step: Option<i64>,
    folded: FoldedSummary,
    removed: Vec<ChunkEntry>,
    added: Vec<(ChunkEntry, Bytes)>,
    pages: Pages,
    /// The first level of the pyramid that is to be cleared, and all above it.
    cleared_levels: Option<u8>,
}

impl SeriesRewrite {
    /// `points` must be in ascending order of distinct steps, and not empty. `old` is the summary row of the series.
    pub(super) async fn compute(
        snapshot: &dyn Snapshot,
        series_ref: SeriesRef,
        old: Option<FoldedSummary>,
        mut points: Points,
        ended: bool,
    ) -> Result<Self> {
        let mut series = SeriesState::load(snapshot, series_ref, old, &points).await?;
        let next_step = series.truncate(&mut points);
        let late = series.late_count(&points);
        series.rewrite_sealed(&points.slice(0..late)).await?;
        series.extend_tail(points.slice(late..points.len()), ended).await?;
        let (folded, pages) = series.summarize(late > 0).await?;
        let SeriesState { removed, added, .. } = series;
        Ok(Self { points: points.len(), next_step, folded, removed, added, pages, cleared_levels: None })
    }

    /// Upper bound of the number of points in chunks that adding some points rewrites.
    pub(super) fn rewritten_at_most(old: &FoldedSummary, points: &Points) -> usize {
        let sealed = old.sealed.map(|sealed| sealed.summary);
        let before = sealed.map(|sealed| StepRange::new(i64::MIN, sealed.last.step));
        let late = before.map_or(0, |before| points.positions(&before).len());
        old.unsealed_count().saturating_add(late.min(MAX_REWRITTEN_CHUNKS) * CHUNK_POINTS)
    }

    /// Removes the points with these steps from chunks of the series, some of which must remain.
    pub(super) async fn without(
        snapshot: &dyn Snapshot,
        series_ref: SeriesRef,
        old: FoldedSummary,
        entries: Vec<ChunkEntry>,
        touched: &[ChunkEntry],
        steps: &StepRange,
    ) -> Result<Self> {
        let next_chunk = old.next_chunk;
        let mut series = SeriesState {
            snapshot,
            series_ref,
            old: Some(old),
            entries,
            removed: Vec::new(),
            added: Vec::new(),
            new_points: HashMap::new(),
            next_chunk,
        };
        for entry in touched {
            series.remove_steps(entry, steps).await?;
        }
        let (folded, pages) = series.summarize(true).await?;
        // A later, longer pyramid must not find buckets of removed points.
        let cleared_levels = match (old.sealed, folded.sealed) {
            (None, _) => None,
            (Some(_), None) => Some(0),
            (Some(old), Some(new)) => (new.top < old.top).then_some(new.top + 1),
        };
        let SeriesState { removed, added, .. } = series;
        Ok(Self { points: 0, next_step: None, folded, removed, added, pages, cleared_levels })
    }

    /// The mutations of this series.
    pub(super) fn batch(self, series_ref: &SeriesRef, garbage_due_us: i64) -> Batch {
        let mut batch = Batch::default();
        for entry in &self.removed {
            batch.clear(series_ref.entry_key(entry.steps().first));
            batch.set(series_ref.garbage_key(garbage_due_us, entry.id), Bytes::new());
        }
        for (entry, bytes) in self.added {
            batch.set(series_ref.entry_key(entry.steps().first), entry.encode());
            batch.set(series_ref.chunk_key(entry.id), bytes);
        }
        if let Some(level) = self.cleared_levels {
            batch.clear_range(series_ref.levels_from(level));
        }
        for ((level, number), page) in &self.pages {
            let key = series_ref.page_key(*level, *number);
            if page.is_empty() {
                batch.clear(key);
            } else {
                batch.set(key, encode_page(page));
            }
        }
        batch.set(series_ref.summary_key(), self.folded.encode());
        batch
    }
}

/// A series during a rewrite.
struct SeriesState<'a> {
    snapshot: &'a dyn Snapshot,
    series_ref: SeriesRef,
    old: Option<FoldedSummary>,
    /// The relevant part of the chunk list, with the changes so far.
    entries: Vec<ChunkEntry>,
    removed: Vec<ChunkEntry>,
    added: Vec<(ChunkEntry, Bytes)>,
    /// Points of added sealed chunks, by chunk id.
    new_points: HashMap<u64, Points>,
    next_chunk: u64,
}

impl<'a> SeriesState<'a> {
    async fn load(
        snapshot: &'a dyn Snapshot,
        series_ref: SeriesRef,
        old: Option<FoldedSummary>,
        points: &Points,
    ) -> Result<SeriesState<'a>> {
        let sealed = old.and_then(|old| old.sealed);
        let from = match (&sealed, points.first()) {
            // Late points change the summary of all sealed chunks, so all entries
            // are needed.
            (Some(sealed), Some(first)) if first.step <= sealed.summary.last.step => Some(i64::MIN),
            // Pyramid buckets over the next sealed chunk start no earlier than this.
            (Some(sealed), _) => {
                let exponent = exponent(sealed.highest);
                Some(bucket_steps(sealed.summary.last.step >> exponent, exponent).first)
            }
            (None, _) => old.map(|_| i64::MIN),
        };
        let entries = match from {
            Some(from) => series_ref.entries(snapshot, StepRange::new(from, i64::MAX)).await?,
            None => Vec::new(),
        };
        let next_chunk = old.map_or(0, |old| old.next_chunk);
        Ok(Self {
            snapshot,
            series_ref,
            old,
            entries,
            removed: Vec::new(),
            added: Vec::new(),
            new_points: HashMap::new(),
            next_chunk,
        })
    }

    fn sealed_entries(&self) -> &[ChunkEntry] {
        &self.entries[..self.entries.partition_point(ChunkEntry::sealed)]
    }

    /// Number of points that are before the end of the sealed chunks.
    fn late_count(&self, points: &Points) -> usize {
        let last = self.old.and_then(|old| old.sealed).map(|sealed| sealed.summary.last.step);
        last.map_or(0, |last| points.positions(&StepRange::new(i64::MIN, last)).end)
    }

    /// Truncates the points to the size of a transaction. Returns the step of the first removed
    /// point.
    fn truncate(&self, points: &mut Points) -> Option<i64> {
        let late = self.late_count(points);
        let touched = group_by_chunk(self.sealed_entries(), &points.steps[..late])
            .into_iter()
            .filter(|group| !group.is_empty());
        let end =
            touched.skip(MAX_REWRITTEN_CHUNKS - 1).map(|group| group.end).next().filter(|end| *end < late);
        let end = end.unwrap_or(points.len()).min(SERIES_POINTS);
        let next_step = points.steps.get(end).copied();
        *points = points.slice(0..end);
        next_step
    }

    async fn rewrite_sealed(&mut self, late: &Points) -> Result<()> {
        let touched = self.sealed_entries().to_vec();
        for (entry, group) in touched.iter().zip(group_by_chunk(&touched, &late.steps)) {
            if !group.is_empty() {
                let points = self.series_ref.listed_chunk(self.snapshot, entry).await?;
                let rewritten = points.merged_with(&late.slice(group));
                self.remove(entry.steps().first);
                for piece in split(&rewritten, true, ColumnUse::Kept) {
                    self.add(piece, true);
                }
            }
        }
        Ok(())
    }

    async fn remove_steps(&mut self, entry: &ChunkEntry, steps: &StepRange) -> Result<()> {
        if steps.covers(&entry.steps()) {
            self.remove(entry.steps().first);
            return Ok(());
        }
        let points = self.series_ref.listed_chunk(self.snapshot, entry).await?;
        let gone = points.positions(steps);
        if gone.is_empty() {
            return Ok(());
        }
        let mut kept = points.slice(0..gone.start);
        kept.extend(&points, gone.end..points.len());
        self.remove(entry.steps().first);
        for piece in split(&kept, true, ColumnUse::Kept) {
            self.add(piece, entry.sealed());
        }
        Ok(())
    }

    async fn extend_tail(&mut self, points: Points, ended: bool) -> Result<()> {
        let Some(first) = points.first() else { return Ok(()) };
        let tail = self.entries[self.sealed_entries().len()..].to_vec();
        let mut from = if ended { 0 } else { merge_start(&tail, first.step, points.len()) };
        // All chunks of an ended run, and full chunks of any run, are kept. A series without points in the
        // last fold of its run also keeps chunks that were written to be merged: a few chunks of 64 to 1,023 points
        // that are larger than necessary.
        let column_use = if ended { ColumnUse::Kept } else { ColumnUse::Merged };
        let mut pieces = split(&self.merge_tail(&tail[from..], &points).await?, false, column_use);
        if from > 0 && pieces.iter().any(|piece| piece.full) {
            // Sealed chunks must come before unsealed ones, so the whole tail is
            // merged.
            from = 0;
            pieces = split(&self.merge_tail(&tail, &points).await?, false, column_use);
        }
        for entry in &tail[from..] {
            self.remove(entry.steps().first);
        }
        for piece in pieces {
            let full = piece.full;
            self.add(piece, full);
        }
        Ok(())
    }

    async fn merge_tail(&self, tail: &[ChunkEntry], points: &Points) -> Result<Points> {
        let mut merged = Points::default();
        for entry in tail {
            let chunk = self.series_ref.listed_chunk(self.snapshot, entry).await?;
            merged.extend(&chunk, 0..chunk.len());
        }
        Ok(merged.merged_with(points))
    }

    fn remove(&mut self, first_step: i64) {
        let index = self.entries.partition_point(|entry| entry.steps().first < first_step);
        self.removed.push(self.entries.remove(index));
    }

    fn add(&mut self, piece: NewChunk, sealed: bool) {
        let Some(summary) = Summary::from_points(&piece.points, 0..piece.points.len()) else { return };
        let base = sealed.then(|| base_level(piece.points.len(), &summary.steps()));
        let entry = ChunkEntry { id: self.next_chunk, bytes: piece.bytes.len() as u64, base, summary };
        self.next_chunk += 1;
        let index = self.entries.partition_point(|other| other.steps().first < summary.first.step);
        self.entries.insert(index, entry.clone());
        if sealed {
            self.new_points.insert(entry.id, piece.points);
        }
        self.added.push((entry, piece.bytes.into()));
    }

    /// The new summary row, and the pages over chunks that were sealed, rewritten, or
    /// replaced.
    async fn summarize(&self, rewritten: bool) -> Result<(FoldedSummary, Pages)> {
        let old = self.old.and_then(|old| old.sealed);
        let added = self.added.iter().map(|(entry, _)| entry).filter(|entry| entry.sealed());
        let removed = self.removed.iter().filter(|entry| entry.sealed());
        let mut sum = if rewritten { None } else { old.map(|old| old.summary) };
        if rewritten {
            for entry in self.sealed_entries() {
                Summary::add(&mut sum, &entry.summary);
            }
        } else {
            for entry in added.clone() {
                Summary::add(&mut sum, &entry.summary);
            }
        }
        let bases = added.clone().filter_map(|entry| entry.base);
        let lowest = bases.clone().chain(old.map(|old| old.lowest)).min();
        let highest = bases.chain(old.map(|old| old.highest)).max();
        let new = sum
            .zip(lowest.zip(highest))
            .map(|(sum, (lowest, highest))| SealedSummary::new(sum, lowest, highest));
        let changed: Vec<&ChunkEntry> = added.chain(removed).collect();
        let pages = match new {
            Some(new) if !changed.is_empty() => {
                let rebuild = PyramidRebuild {
                    snapshot: self.snapshot,
                    series_ref: self.series_ref,
                    old,
                    new,
                    entries: self.sealed_entries(),
                    new_points: &self.new_points,
                };
                rebuild.pages(&changed).await?
            }
            _ => Pages::new(),
        };
        let mut total = sum;
        let unsealed = self.entries.iter().filter(|entry| !entry.sealed());
        for entry in unsealed {
            Summary::add(&mut total, &entry.summary);
        }
        let total = total.ok_or(super::FormatError("folded series has no points"))?;
        Ok((FoldedSummary { next_chunk: self.next_chunk, total, sealed: new }, pages))
    }
}

/// Tier of a tail chunk with `count` points.
fn tier(count: usize) -> u32 {
    count.max(1).ilog(4)
}

/// Index of the first tail chunk that is merged with `count` new points starting at step
/// `first`.
fn merge_start(tail: &[ChunkEntry], first: i64, count: usize) -> usize {
    let mut from = tail.partition_point(|entry| entry.steps().last < first);
    let mut count = count + tail[from..].iter().map(ChunkEntry::count).sum::<usize>();
    loop {
        let before = &tail[..from];
        let lower = before.iter().rev().take_while(|entry| tier(entry.count()) < tier(count)).count();
        let equal = before.iter().rev().take_while(|entry| tier(entry.count()) == tier(count)).count();
        // Chunks of lower tiers are always merged, chunks of the same tier once there are enough.
        let taken = if lower > 0 { lower } else { equal };
        if lower == 0 && equal < TIER_CHUNKS {
            return if count < CHUNK_POINTS { from } else { 0 };
        }
        count += before[from - taken..].iter().map(ChunkEntry::count).sum::<usize>();
        from -= taken;
    }
}

/// The points of a future chunk, and their encoding.
struct NewChunk {
    points: Points,
    bytes: Vec<u8>,
    /// No more points fit.
    full: bool,
}

/// Splits points into chunks within the limits: full ones and a remainder, or, if `even`,
/// chunks of similar size.
fn split(points: &Points, even: bool, column_use: ColumnUse) -> Vec<NewChunk> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut size = CHUNK_POINTS;
    while start < points.len() {
        let left = points.len() - start;
        let target = if even { left.div_ceil(left.div_ceil(size)) } else { size };
        let count = target.min(left);
        let part = points.slice(start..start + count);
        let bytes = chunk::encode(&part, column_use);
        if bytes.len() > CHUNK_BYTES {
            // The target is a little below the limit, so that the next attempt fits.
            size = (count * (CHUNK_BYTES - CHUNK_BYTES / 16) / bytes.len()).max(1);
        } else {
            pieces.push(NewChunk { points: part, bytes, full: count == size });
            start += count;
        }
    }
    pieces
}
