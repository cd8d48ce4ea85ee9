//! The unfolded points of one run, and its series.

use std::collections::HashMap;

use bytes::Bytes;
use matyan_store::{Result, Snapshot};

use super::own::OwnSeries;
use crate::ids::SeriesNumber;
use crate::series::block::Block;
use crate::series::chunk::ChunkEntry;
use crate::series::fold_row::FoldRow;
use crate::series::points::Points;
use crate::series::series_rows::RunRef;
use crate::series::summary::Summary;
use crate::series::wire::FormatError;

/// The unfolded points that were logged to one run, still encoded as blocks, as of one snapshot.
pub(super) struct RunBlocks {
    run_ref: RunRef,
    fold: FoldRow,
    blocks: Vec<(u64, Bytes)>,
}

impl RunBlocks {
    pub(super) async fn open(snapshot: &dyn Snapshot, run_ref: RunRef) -> Result<Self> {
        let fold = run_ref.fold_row(snapshot).await?;
        let blocks = run_ref.blocks(snapshot, fold.first_block()..u64::MAX, usize::MAX).await?;
        Ok(Self { run_ref, fold, blocks })
    }

    /// Whether the run has no unfolded points.
    pub(super) fn is_folded(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of the unfolded points.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(|(_, block)| block.len()).sum()
    }

    /// Summaries of the folded points of several series, in the given order.
    pub(super) async fn folded_summaries(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<Option<Summary>>> {
        if series.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.run_ref.summary_rows(snapshot, series).await?;
        let rows = series.iter().zip(rows);
        rows.map(|(series, row)| row.map(|row| self.run_ref.series(*series).decode_total(&row)).transpose())
            .collect()
    }

    /// Several series, in the given order; unknown series are empty.
    pub(super) async fn series(
        &self,
        snapshot: &dyn Snapshot,
        series: &[SeriesNumber],
    ) -> Result<Vec<OwnSeries>> {
        if series.is_empty() {
            return Ok(Vec::new());
        }
        let folded = self.run_ref.folded_series(snapshot, series).await?;
        let unfolded = self.unfolded_points(series)?;
        let found = series.iter().zip(folded).zip(unfolded);
        let own = found.map(|((series, folded), unfolded)| {
            let series_ref = self.run_ref.series(*series);
            OwnSeries { series_ref, folded, unfolded }
        });
        Ok(own.collect())
    }

    /// The chunk lists of all series, read in one pass.
    pub(super) async fn chunk_lists(
        &self,
        snapshot: &dyn Snapshot,
    ) -> Result<HashMap<SeriesNumber, Vec<ChunkEntry>>> {
        self.run_ref.chunk_lists(snapshot).await
    }

    /// The points of each series in the blocks, in the order of steps.
    fn unfolded_points(&self, series: &[SeriesNumber]) -> Result<Vec<Points>> {
        let mut unfolded = vec![Points::default(); series.len()];
        let mut wanted: Vec<(SeriesNumber, usize)> =
            series.iter().enumerate().map(|(position, series)| (*series, position)).collect();
        wanted.sort_unstable();
        for (sequence, bytes) in &self.blocks {
            self.read_block((*sequence, bytes), &wanted, &mut unfolded)
                .map_err(|malformed| malformed.at(&self.run_ref.block_key(*sequence)))?;
        }
        for points in &mut unfolded {
            points.sort_and_merge();
        }
        Ok(unfolded)
    }

    /// Appends the unfolded points of several series, in ascending order, in one block. The points of
    /// each series are appended at its position.
    fn read_block(
        &self,
        (sequence, bytes): (u64, &Bytes),
        wanted: &[(SeriesNumber, usize)],
        unfolded: &mut [Points],
    ) -> Result<(), FormatError> {
        let block = Block::open(bytes)?;
        // For few series, searching for each is faster than walking through all series of the
        // block.
        let few = wanted.len() < block.series_count() / 8;
        let mut index = 0;
        for (series, position) in wanted {
            if few {
                index = block.lower_bound(*series);
            }
            while index < block.series_count() && block.series(index) < *series {
                index += 1;
            }
            if index < block.series_count() && block.series(index) == *series {
                self.read(&block, sequence, index, &mut unfolded[*position])?;
            }
        }
        Ok(())
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
                for point in points.iter().filter(|point| point.step >= first) {
                    out.push(point);
                }
                Ok(())
            }
        }
    }
}
