//! Parts: the blocks that are folded together, processed series by series.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::block::Block;
use super::super::points::{Points, StepRange};
use super::super::wire::FormatError;
use crate::ids::SeriesNumber;

/// Number of points of one series that completes a part. With the points of its last block, this is
/// about the size of a transaction, so they are gathered only once.
const SERIES_POINTS: usize = 48 * 1024;
/// Number of series whose rows are read concurrently, to hide the latency of a distributed
/// store.
pub(super) const GROUP_SERIES: usize = 16;
/// Number of points that completes a group, unless its first series alone has more. Computing
/// points that do not fit in the transaction is wasted work.
const GROUP_POINTS: usize = 32 * 1024;

/// Consecutive blocks, from the first block of a run.
pub(super) struct FoldPart {
    /// The sequence number after the last block.
    pub(super) end: u64,
    /// All series of the blocks, in ascending order.
    pub(super) series: Vec<SeriesNumber>,
    blocks: Vec<Bytes>,
}

impl FoldPart {
    /// Takes as many blocks off the front as are folded together; `None` if there are none.
    pub(super) fn next(blocks: &mut VecDeque<(u64, Bytes)>) -> Result<Option<Self>, FormatError> {
        let mut part = Self { end: 0, series: Vec::new(), blocks: Vec::new() };
        let mut points = BTreeMap::new();
        let mut full = false;
        while !full && let Some((sequence, bytes)) = blocks.pop_front() {
            full = count(&bytes, &mut points)? >= SERIES_POINTS;
            part.end = sequence + 1;
            part.blocks.push(bytes);
        }
        part.series = points.into_keys().collect();
        Ok((part.end > 0).then_some(part))
    }

    /// Takes all blocks: the blocks below `end`, in a fold that is resumed.
    pub(super) fn resumed(
        blocks: &mut VecDeque<(u64, Bytes)>,
        end: u64,
    ) -> Result<Option<Self>, FormatError> {
        let mut points = BTreeMap::new();
        let blocks: Vec<Bytes> = blocks.drain(..).map(|(_, bytes)| bytes).collect();
        for bytes in &blocks {
            count(bytes, &mut points)?;
        }
        let part = Self { end, series: points.into_keys().collect(), blocks };
        Ok((!part.blocks.is_empty()).then_some(part))
    }

    /// The series from a position on, with their points.
    pub(super) fn slices(&self, position: Option<(u32, i64)>) -> Result<SeriesSlices<'_>, FormatError> {
        let first = SeriesNumber(position.map_or(0, |(series, _)| series));
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for bytes in &self.blocks {
            let block = Block::open(bytes)?;
            blocks.push((block, block.lower_bound(first)));
        }
        let index = self.series.partition_point(|series| *series < first);
        Ok(SeriesSlices { series: &self.series, position, index, blocks })
    }
}

/// Adds the points of a block by series. Returns the highest count among its series.
fn count(bytes: &Bytes, points: &mut BTreeMap<SeriesNumber, usize>) -> Result<usize, FormatError> {
    let block = Block::open(bytes)?;
    let mut most = 0;
    for index in 0..block.series_count() {
        let points = points.entry(block.series(index)).or_default();
        *points += block.point_count(index)?;
        most = most.max(*points);
    }
    Ok(most)
}

/// One series of a part and its unfolded points, in the order of steps.
pub(super) struct PendingSeries {
    /// Index in the part's list of series.
    pub(super) index: usize,
    pub(super) points: Points,
}

/// Iterates over the series of a part in order, and over each block in parallel.
pub(super) struct SeriesSlices<'a> {
    series: &'a [SeriesNumber],
    position: Option<(u32, i64)>,
    index: usize,
    /// Each block, with the index of its first series that was not taken yet.
    blocks: Vec<(Block<'a>, usize)>,
}

impl SeriesSlices<'_> {
    /// The next few series; empty at the end.
    pub(super) fn next_group(&mut self) -> Result<Vec<PendingSeries>, FormatError> {
        let mut group = Vec::new();
        let mut points = 0;
        while group.len() < GROUP_SERIES
            && points < GROUP_POINTS
            && let Some(series) = self.series.get(self.index)
        {
            let pending = PendingSeries { index: self.index, points: self.take(*series)? };
            points += pending.points.len();
            group.push(pending);
            self.index += 1;
        }
        Ok(group)
    }

    fn take(&mut self, series: SeriesNumber) -> Result<Points, FormatError> {
        let mut points = Points::default();
        for (block, next) in &mut self.blocks {
            if *next < block.series_count() && block.series(*next) == series {
                block.read(*next, &mut points)?;
                *next += 1;
            }
        }
        points.sort_and_merge();
        match self.position {
            Some((position, step)) if position == series.0 => {
                let unfolded = points.positions(&StepRange::new(step, i64::MAX));
                Ok(points.slice(unfolded))
            }
            _ => Ok(points),
        }
    }
}
