//! Progress of series between two reads of a run, from the blocks written in between.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

use matyan_store::{Result, Snapshot};

use crate::ids::SeriesNumber;
use crate::series::block::Block;
use crate::series::series_rows::RunRef;
use crate::series::wire::FormatError;

/// Size of the blocks above which there are too many to read.
const MAX_BYTES: usize = 1 << 20;

impl RunRef {
    /// The series with points in these blocks, each with the lowest and the highest step that it has there. Points that
    /// a branch shares with its ancestors are not included. `None` if some of the blocks are folded or are being folded,
    /// or if there are too many to read.
    pub async fn progress(
        &self,
        snapshot: &dyn Snapshot,
        blocks: Range<u64>,
    ) -> Result<Option<BTreeMap<SeriesNumber, RangeInclusive<i64>>>> {
        if blocks.start < self.fold_row(snapshot).await?.end {
            return Ok(None);
        }
        let mut progress = BTreeMap::new();
        let rows = self.blocks(snapshot, blocks, MAX_BYTES).await?;
        // `blocks` stops once it has read this much, so there may be more.
        if rows.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >= MAX_BYTES {
            return Ok(None);
        }
        for (sequence, bytes) in &rows {
            add_progress(bytes, &mut progress)
                .map_err(|malformed| malformed.at(&self.block_key(*sequence)))?;
        }
        Ok(Some(progress))
    }
}

fn add_progress(
    bytes: &[u8],
    progress: &mut BTreeMap<SeriesNumber, RangeInclusive<i64>>,
) -> Result<(), FormatError> {
    let block = Block::open(bytes)?;
    for index in 0..block.series_count() {
        let found = block.steps(index)?;
        progress
            .entry(block.series(index))
            .and_modify(|steps| *steps = *found.start().min(steps.start())..=*found.end().max(steps.end()))
            .or_insert(found.clone());
    }
    Ok(())
}
