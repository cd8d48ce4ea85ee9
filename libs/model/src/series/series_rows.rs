//! Access to the rows of series in a snapshot. Only this module combines the keys and value
//! formats of series.

use std::collections::HashMap;

use bytes::Bytes;
use matyan_store::{Error, Key, Page, Range, Result, Scan, Snapshot};

use super::chunk::{self, ChunkEntry};
use super::curve::{Curve, Stamps};
use super::fold_row::FoldRow;
use super::header::FoldedSummary;
use super::points::{Points, StepRange};
use super::pyramid::{decode_page, page_number};
use super::summary::Summary;
use crate::ids::{Project, RunNumber, SeriesNumber};
use crate::keys;
use crate::rows::{self, scan_all};

/// Identifies the run whose series are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunRef {
    pub project: Project,
    pub number: RunNumber,
}

impl RunRef {
    pub(crate) async fn fold_row(&self, snapshot: &dyn Snapshot) -> Result<FoldRow> {
        let key = keys::fold(self.project, self.number);
        FoldRow::decode(snapshot.get(&key).await?.as_ref()).map_err(|malformed| malformed.at(&key))
    }

    /// Blocks with these sequence numbers, in order. Stops after the page that brings their size to
    /// `room` bytes.
    pub(crate) async fn blocks(
        &self,
        snapshot: &dyn Snapshot,
        wanted: std::ops::Range<u64>,
        mut room: usize,
    ) -> Result<Vec<(u64, Bytes)>> {
        let all = keys::blocks(self.project, self.number);
        let mut range = Range::new(self.block_key(wanted.start), self.block_key(wanted.end));
        let mut blocks = Vec::new();
        loop {
            let page = snapshot.scan(&range, Scan::default()).await?;
            for (key, value) in page.rows {
                let (sequence,): (u64,) = keys::tail(&all.start, &key)?;
                room = room.saturating_sub(value.len());
                blocks.push((sequence, value));
                range = range.after(&key);
            }
            if !page.more || room == 0 {
                return Ok(blocks);
            }
        }
    }

    pub(crate) fn block_key(&self, sequence: u64) -> Key {
        keys::block(self.project, self.number, sequence)
    }

    /// Whether the run has blocks that are not folded.
    pub async fn has_blocks(&self, snapshot: &dyn Snapshot) -> Result<bool> {
        let first = self.fold_row(snapshot).await?.first_block();
        Ok(!self.blocks(snapshot, first..u64::MAX, 1).await?.is_empty())
    }

    /// The chunk lists of all series, read in one pass.
    pub(crate) async fn chunk_lists(
        &self,
        snapshot: &dyn Snapshot,
    ) -> Result<HashMap<SeriesNumber, Vec<ChunkEntry>>> {
        let range = keys::chunk_lists(self.project, self.number);
        let mut lists: HashMap<SeriesNumber, Vec<ChunkEntry>> = HashMap::new();
        for (key, value) in scan_all(snapshot, &range).await? {
            let (series, _first_step): (u32, i64) = keys::tail(&range.start, &key)?;
            let entry = ChunkEntry::decode(&value).map_err(|malformed| malformed.at(&key))?;
            lists.entry(SeriesNumber(series)).or_default().push(entry);
        }
        Ok(lists)
    }

    /// The summary rows of several series, in the given order.
    pub(crate) async fn summary_rows(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<Bytes>>> {
        let numbers: Vec<u32> = series.iter().map(|series| series.0).collect();
        let all = keys::series_summaries(self.project, self.number);
        let key = |number| self.series(SeriesNumber(number)).summary_key();
        rows::get_numbered(snapshot, &numbers, &all.start, key).await
    }

    /// The summary rows of several series, decoded.
    pub(crate) async fn folded_series(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<FoldedSummary>>> {
        let rows = series.iter().zip(self.summary_rows(snapshot, series).await?);
        rows.map(|(series, row)| row.map(|row| self.series(*series).decode_summary(&row)).transpose())
            .collect()
    }

    pub(crate) fn series(&self, series: SeriesNumber) -> SeriesRef {
        SeriesRef { run: *self, series }
    }
}

/// Identifies one series of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesRef {
    run: RunRef,
    series: SeriesNumber,
}

impl SeriesRef {
    pub(crate) fn summary_key(&self) -> Key {
        keys::series_summary(self.run.project, self.run.number, self.series)
    }

    pub(crate) fn entry_key(&self, first_step: i64) -> Key {
        keys::chunk_entry(self.run.project, self.run.number, self.series, first_step)
    }

    pub(crate) fn chunk_key(&self, id: u64) -> Key {
        keys::chunk(self.run.project, self.run.number, self.series, id)
    }

    pub(crate) fn page_key(&self, level: u8, page: i64) -> Key {
        keys::pyramid_page(self.run.project, self.run.number, self.series, level, page)
    }

    /// The pages of a level of the pyramid, and of all levels above it.
    pub(crate) fn levels_from(&self, level: u8) -> Range {
        let all = keys::pyramid(self.run.project, self.run.number, self.series);
        let first = keys::pyramid_level(self.run.project, self.run.number, self.series, level);
        Range::new(first.start, all.end)
    }

    /// The rows of the chunk list.
    pub(crate) fn chunk_list(&self) -> Range {
        keys::chunk_list(self.run.project, self.run.number, self.series)
    }

    pub(crate) fn garbage_key(&self, due_us: i64, id: u64) -> Key {
        keys::garbage(self.run.project, due_us, self.run.number, self.series, id)
    }

    pub(crate) async fn folded(&self, snapshot: &dyn Snapshot) -> Result<Option<FoldedSummary>> {
        snapshot.get(&self.summary_key()).await?.map(|row| self.decode_summary(&row)).transpose()
    }

    pub(crate) fn decode_summary(&self, row: &Bytes) -> Result<FoldedSummary> {
        FoldedSummary::decode(row).map_err(|malformed| malformed.at(&self.summary_key()))
    }

    /// Decodes the summary of all folded points in a summary row.
    pub(crate) fn decode_total(&self, row: &Bytes) -> Result<Summary> {
        FoldedSummary::decode_total(row).map_err(|malformed| malformed.at(&self.summary_key()))
    }

    /// The chunks that may contain steps in `steps`: chunks that start in the range, and the chunk
    /// before. No chunk is before the lowest step.
    pub(crate) async fn entries(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<Vec<ChunkEntry>> {
        let all = keys::chunk_list(self.run.project, self.run.number, self.series);
        let from = self.entry_key(steps.first);
        let previous = if steps.first == i64::MIN {
            Page::default()
        } else {
            let before = Range::new(all.start, from.clone());
            snapshot.scan(&before, Scan { rows: 1, reverse: true, ..Scan::default() }).await?
        };
        // The end of a range is excluded, so a zero byte is appended to include the last key.
        let mut end = self.entry_key(steps.last).to_vec();
        end.push(0);
        let rows = scan_all(snapshot, &Range::new(from, end)).await?;
        let values = previous.rows.into_iter().take(1).chain(rows);
        let decode =
            |(key, value): (Key, Bytes)| ChunkEntry::decode(&value).map_err(|malformed| malformed.at(&key));
        values.map(decode).collect()
    }

    pub(crate) async fn chunk(&self, snapshot: &dyn Snapshot, entry: &ChunkEntry) -> Result<Option<Points>> {
        let curve = self.curve(snapshot, entry, Stamps::Read).await?;
        Ok(curve.map(Curve::into_points))
    }

    /// A chunk that is listed in the same snapshot.
    pub(crate) async fn listed_chunk(&self, snapshot: &dyn Snapshot, entry: &ChunkEntry) -> Result<Points> {
        self.chunk(snapshot, entry).await?.ok_or_else(|| self.missing_chunk(entry))
    }

    async fn curve(
        &self,
        snapshot: &dyn Snapshot,
        entry: &ChunkEntry,
        stamps: Stamps,
    ) -> Result<Option<Curve<'static>>> {
        let key = self.chunk_key(entry.id);
        snapshot.get(&key).await?.map(|bytes| decode_chunk(&key, &bytes, entry, stamps)).transpose()
    }

    /// The points of a chunk that is listed in the same snapshot, as charts read them.
    pub(crate) async fn listed_curve(
        &self,
        snapshot: &dyn Snapshot,
        entry: &ChunkEntry,
        stamps: Stamps,
    ) -> Result<Curve<'static>> {
        self.curve(snapshot, entry, stamps).await?.ok_or_else(|| self.missing_chunk(entry))
    }

    pub(crate) fn missing_chunk(&self, entry: &ChunkEntry) -> Error {
        rows::corrupt(&self.chunk_key(entry.id), &"it is listed, but missing")
    }

    /// The buckets of one level from bucket `first` to bucket `last`, and all others in the
    /// same pages.
    pub(crate) async fn buckets(
        &self,
        snapshot: &dyn Snapshot,
        level: u8,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, Summary)>> {
        let all = keys::pyramid_level(self.run.project, self.run.number, self.series, level);
        // As in `entries`, the zero byte includes the last key.
        let mut end = self.page_key(level, page_number(last)).to_vec();
        end.push(0);
        let mut buckets = Vec::new();
        for (key, value) in
            scan_all(snapshot, &Range::new(self.page_key(level, page_number(first)), end)).await?
        {
            let (page,): (i64,) = keys::tail(&all.start, &key)?;
            buckets.extend(decode_page(page, &value).map_err(|malformed| malformed.at(&key))?);
        }
        Ok(buckets)
    }
}

fn decode_chunk(key: &Key, bytes: &[u8], entry: &ChunkEntry, stamps: Stamps) -> Result<Curve<'static>> {
    let curve = chunk::decode(bytes, stamps).map_err(|malformed| malformed.at(key))?;
    if curve.len() == entry.count() && curve.span() == Some(entry.steps()) {
        Ok(curve)
    } else {
        Err(rows::corrupt(key, &"it does not match its list entry"))
    }
}
