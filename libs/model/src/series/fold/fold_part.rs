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
/// Number of series whose summaries are read together, and whose chunks are read concurrently, to hide the latency
/// of a distributed store.
pub(super) const GROUP_SERIES: usize = 128;
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
        let mut counts = SeriesCounts::default();
        let mut full = false;
        while !full && let Some((sequence, bytes)) = blocks.pop_front() {
            full = counts.add(&Block::open(&bytes)?)? >= SERIES_POINTS;
            part.end = sequence + 1;
            part.blocks.push(bytes);
        }
        part.series = counts.series();
        Ok((part.end > 0).then_some(part))
    }

    /// Takes all blocks: the blocks below `end`, in a fold that is resumed.
    pub(super) fn resumed(
        blocks: &mut VecDeque<(u64, Bytes)>,
        end: u64,
    ) -> Result<Option<Self>, FormatError> {
        let mut counts = SeriesCounts::default();
        let blocks: Vec<Bytes> = blocks.drain(..).map(|(_, bytes)| bytes).collect();
        for bytes in &blocks {
            counts.add(&Block::open(bytes)?)?;
        }
        let part = Self { end, series: counts.series(), blocks };
        Ok((!part.blocks.is_empty()).then_some(part))
    }

    /// The series from a position on, with their points.
    pub(super) fn slices(&self, position: Option<(u32, i64)>) -> Result<SeriesSlices<'_>, FormatError> {
        let first = SeriesNumber(position.map_or(0, |(series, _)| series));
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let mut next_series = Vec::with_capacity(self.blocks.len());
        for bytes in &self.blocks {
            let block = Block::open(bytes)?;
            let next = block.lower_bound(first);
            next_series.push(series_at(&block, next));
            blocks.push((block, next));
        }
        let index = self.series.partition_point(|series| *series < first);
        Ok(SeriesSlices { series: &self.series, position, index, blocks, next_series })
    }
}

/// The numbers of points of the series of a part. A wide run has millions of pairs of a block and a series, so they
/// are counted by the number of the series, without a search.
#[derive(Default)]
struct SeriesCounts {
    counts: Vec<u32>,
    /// Counts of series with numbers that no run should have: from `COUNTED` on.
    others: BTreeMap<u32, u32>,
}

/// More numbers than a run has, which bounds the memory of a damaged block: 1 MB.
const COUNTED: usize = 1 << 18;

impl SeriesCounts {
    /// Adds the points of a block. Returns the highest count among its series.
    fn add(&mut self, block: &Block<'_>) -> Result<usize, FormatError> {
        let mut most = 0;
        let mut next = 0;
        for index in 0..block.series_count() {
            let series = block.series(index).0;
            let points = block.point_count(index)?;
            // A fold would skip the points of such a series, and then clear the block.
            if u64::from(series) < next || points == 0 {
                return Err(FormatError("series without points, or out of order"));
            }
            next = u64::from(series) + 1;
            let count = self.count(series);
            *count = count.saturating_add(points as u32);
            most = most.max(*count);
        }
        Ok(most as usize)
    }

    fn count(&mut self, series: u32) -> &mut u32 {
        let at = series as usize;
        if at >= COUNTED {
            return self.others.entry(series).or_default();
        }
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        &mut self.counts[at]
    }

    /// The series that have points, in ascending order.
    fn series(&self) -> Vec<SeriesNumber> {
        let counted = (0..).zip(&self.counts).filter(|(_, count)| **count > 0).map(|(series, _)| series);
        counted.chain(self.others.keys().copied()).map(SeriesNumber).collect()
    }
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
    /// The number of that series, for each block. The numbers are next to each other in memory, because every
    /// series of the part is looked up in every block.
    next_series: Vec<Option<SeriesNumber>>,
}

fn series_at(block: &Block<'_>, index: usize) -> Option<SeriesNumber> {
    (index < block.series_count()).then(|| block.series(index))
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
        for (next_series, (block, next)) in self.next_series.iter_mut().zip(&mut self.blocks) {
            if *next_series == Some(series) {
                block.read(*next, &mut points)?;
                *next += 1;
                *next_series = series_at(block, *next);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{ABSENT, Point, WrittenPoints};

    fn block(series: &[u32]) -> Vec<u8> {
        let mut written = WrittenPoints::default();
        for number in series {
            let point = Point { step: 1, value: 0.5, epoch: ABSENT, time_us: ABSENT };
            written.push(SeriesNumber(*number), point);
        }
        written.blocks().remove(0)
    }

    #[test]
    fn series_are_counted_over_blocks() {
        let mut counts = SeriesCounts::default();
        assert_eq!(counts.add(&Block::open(&block(&[5, 63, 64, u32::MAX])).unwrap()), Ok(1));
        assert_eq!(counts.add(&Block::open(&block(&[5, 200, 5, 200, 5])).unwrap()), Ok(4));
        assert_eq!(counts.series(), [5, 63, 64, 200, u32::MAX].map(SeriesNumber));
        let last = COUNTED as u32 - 1;
        assert_eq!(counts.add(&Block::open(&block(&[last, last + 1, u32::MAX])).unwrap()), Ok(2));
        assert_eq!(counts.series(), [5, 63, 64, 200, last, last + 1, u32::MAX].map(SeriesNumber));
    }

    #[test]
    fn a_block_whose_points_would_not_be_folded_is_refused() {
        let bytes = block(&[5, 6]);
        assert_eq!(bytes[4..10], [0, 10, 2, 0, 0, 2], "series from 5 in strides of 1, points from 0");
        // The second series is 4 instead of 6, or the first one has no points.
        for (position, byte) in [(6, 1), (9, 0)] {
            let mut damaged = bytes.clone();
            damaged[position] = byte;
            let refused = SeriesCounts::default().add(&Block::open(&damaged).unwrap());
            assert_eq!(refused, Err(FormatError("series without points, or out of order")));
        }
    }
}
