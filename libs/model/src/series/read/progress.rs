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

/// Maximum size of the blocks read.
const MAX_BYTES: usize = 1 << 20;

impl RunRef {
    /// The series with points in these blocks, each with the lowest and the highest step that it has there.
    /// `None` if that is unknown, because some of the blocks have been folded, or because they are too many.
    pub async fn progress(
        &self,
        snapshot: &dyn Snapshot,
        blocks: Range<u64>,
    ) -> Result<Option<BTreeMap<SeriesNumber, RangeInclusive<i64>>>> {
        if blocks.start < self.fold_row(snapshot).await?.end {
            return Ok(None);
        }
        let mut steps = BTreeMap::new();
        let read = self.blocks(snapshot, blocks.clone(), MAX_BYTES).await?;
        if read.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >= MAX_BYTES {
            return Ok(None);
        }
        for (sequence, bytes) in &read {
            add_progress(bytes, &mut steps).map_err(|malformed| malformed.at(&self.block_key(*sequence)))?;
        }
        Ok(Some(steps))
    }
}

fn add_progress(
    bytes: &[u8],
    steps: &mut BTreeMap<SeriesNumber, RangeInclusive<i64>>,
) -> Result<(), FormatError> {
    let block = Block::open(bytes)?;
    for index in 0..block.series_count() {
        let more = block.steps(index)?;
        let steps = steps.entry(block.series(index)).or_insert_with(|| more.clone());
        *steps = *more.start().min(steps.start())..=*more.end().max(steps.end());
    }
    Ok(())
}
