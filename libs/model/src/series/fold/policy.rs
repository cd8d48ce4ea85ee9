//! Policy for when to fold a run: folding early, with few points per series, costs more than it
//! saves; folding late slows readers down.

use matyan_store::{Result, Snapshot};

use super::super::block::Block;
use super::super::series_rows::RunRef;
use super::super::wire::FormatError;
use crate::ids::SeriesNumber;

/// Average number of points per touched series at which folding pays off. Folding 10,000 series
/// at 23 points each halved the throughput of ingestion.
const POINTS_PER_SERIES: u64 = 256;
/// Size of blocks that barely affects a reader of one series, so folding less is not
/// worthwhile. Without this limit, runs with few series would be folded every few frames,
/// rewriting each point as often as its chunk grows.
const READER_BYTES: u64 = 128 << 10;
/// The same for a run that was folded a moment ago: longer folds rewrite each point less often, and a
/// reader of one series still reads this much in milliseconds.
const BUSY_READER_BYTES: u64 = 1 << 20;
/// Maximum size of blocks that a reader of one series has to read.
const BYTES: u64 = 16 << 20;
/// Maximum number of blocks that a reader has to open.
const BLOCKS: u64 = 512;

/// Size of the blocks that are in memory while they are counted.
const PAGE_BYTES: usize = 1 << 20;
/// Far above the limit for a run; limits the memory that counting touched series takes.
const MAX_SERIES: u32 = 1 << 20;

/// The blocks of a run in the store: the input of the policy.
pub struct StoredBlocks {
    pub unfolded: UnfoldedBlocks,
    /// Whether there are no blocks, not even blocks that a fold has started on.
    pub is_empty: bool,
    /// Whether a fold has been started and not finished.
    pub is_folding: bool,
    /// A sequence number higher than the number of any past or present block.
    pub next_block: u64,
}

impl StoredBlocks {
    /// Counts the blocks, reading a few at a time.
    pub async fn count(snapshot: &dyn Snapshot, run: RunRef) -> Result<Self> {
        let fold = run.fold_row(snapshot).await?;
        let begun = if fold.position.is_some() { fold.end } else { 0 };
        let mut counted = Self {
            unfolded: UnfoldedBlocks::default(),
            is_empty: true,
            is_folding: fold.position.is_some(),
            next_block: fold.end,
        };
        let mut first = fold.first_block();
        loop {
            let page = run.blocks(snapshot, first..u64::MAX, PAGE_BYTES).await?;
            for (_, bytes) in page.iter().filter(|(sequence, _)| *sequence >= begun) {
                counted.unfolded.add(bytes)?;
            }
            let Some((last, _)) = page.last() else { return Ok(counted) };
            first = last + 1;
            counted.is_empty = false;
            counted.next_block = counted.next_block.max(first);
            if page.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < PAGE_BYTES {
                return Ok(counted);
            }
        }
    }
}

/// The content of the blocks of a run that no fold has started on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnfoldedBlocks {
    pub blocks: u64,
    pub bytes: u64,
    pub points: u64,
    /// One bit for each series, lowest first.
    touched: Vec<u64>,
}

impl UnfoldedBlocks {
    /// Counts an encoded block.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let block = Block::open(bytes)?;
        self.blocks += 1;
        self.bytes += bytes.len() as u64;
        self.points += block.len() as u64;
        for index in 0..block.series_count() {
            self.touch(block.series(index))?;
        }
        Ok(())
    }

    fn touch(&mut self, series: SeriesNumber) -> Result<(), FormatError> {
        if series.0 >= MAX_SERIES {
            return Err(FormatError("series number out of bounds"));
        }
        let word = series.0 as usize / 64;
        if word >= self.touched.len() {
            self.touched.resize(word + 1, 0);
        }
        self.touched[word] |= 1 << (series.0 % 64);
        Ok(())
    }

    pub fn series(&self) -> u64 {
        self.touched.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether to fold a run that has not ended. It is busy if it was folded a moment ago.
    pub fn is_due(&self, is_busy: bool) -> bool {
        let reader_bytes = if is_busy { BUSY_READER_BYTES } else { READER_BYTES };
        self.blocks >= BLOCKS
            || self.bytes >= BYTES
            || (self.bytes >= reader_bytes && self.points >= POINTS_PER_SERIES * self.series())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{ABSENT, Point, WrittenPoints};

    fn block(series: u32, points: i64) -> Vec<u8> {
        let mut written = WrittenPoints::default();
        for step in 0..points {
            for number in 0..series {
                let point = Point { step, value: 0.5, epoch: ABSENT, time_us: step };
                written.push(SeriesNumber(number), point);
            }
        }
        written.blocks().remove(0)
    }

    #[test]
    fn rule_09_a_fold_waits_for_points_bytes_or_blocks() {
        fn check(blocks: u64, bytes: u64, series: u32, points: u64, is_busy: bool, due: bool) {
            let mut unfolded = UnfoldedBlocks { blocks, bytes, points, ..UnfoldedBlocks::default() };
            for number in 0..series {
                unfolded.touch(SeriesNumber(number)).unwrap();
            }
            assert_eq!(
                unfolded.is_due(is_busy),
                due,
                "{blocks} blocks of {bytes} bytes, {points} points, {series} series"
            );
        }
        check(0, 0, 0, 0, false, false);
        check(1, 20, 1, 1, false, false);
        check(1, READER_BYTES, 10, 2_559, false, false);
        check(1, READER_BYTES, 10, 2_560, false, true);
        check(1, READER_BYTES - 1, 10, 2_560, false, false);
        check(1, READER_BYTES, 10, 2_560, true, false);
        check(1, BUSY_READER_BYTES, 10, 2_560, true, true);
        check(1, BUSY_READER_BYTES, 10, 2_559, true, false);
        check(511, READER_BYTES - 1, 10, 2_560, false, false);
        for is_busy in [false, true] {
            check(512, 1_000, 10, 10, is_busy, true);
            check(100, BYTES - 1, 10_000, 10_000, is_busy, false);
            check(100, BYTES, 10_000, 10_000, is_busy, true);
        }
    }

    #[test]
    fn blocks_are_counted_and_touched_series_counted_once() {
        let block = block(130, 2);
        let mut unfolded = UnfoldedBlocks::default();
        for _ in 0..3 {
            unfolded.add(&block).unwrap();
        }
        assert_eq!((unfolded.series(), unfolded.blocks, unfolded.points), (130, 3, 780));
        assert_eq!(unfolded.bytes, 3 * block.len() as u64);
    }
}
