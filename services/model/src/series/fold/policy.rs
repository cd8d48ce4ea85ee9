//! When a run is worth folding: early folds of few points a series cost more than they save, late ones slow readers down.

use super::super::block::Block;
use super::super::wire::Malformed;
use crate::ids::SeriesNumber;

/// Points that each touched series has on average when folding pays. Folding 10,000 series at 23 points each halved
/// the throughput of ingestion.
const POINTS_PER_SERIES: u64 = 256;
/// Bytes of blocks that a reader of one series has to read.
const BYTES: u64 = 16 << 20;
/// Blocks that a reader has to open.
const BLOCKS: u64 = 512;

/// Far above what a run may have; bounds what counting touched series allocates.
const MAX_SERIES: u32 = 1 << 20;

/// What the blocks of a run hold that no fold has begun to fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfolded {
    pub blocks: u64,
    pub bytes: u64,
    pub points: u64,
    /// One bit for each series, lowest first.
    touched: Vec<u64>,
}

impl Unfolded {
    /// Counts an encoded block in.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let block = Block::open(bytes)?;
        self.blocks += 1;
        self.bytes += bytes.len() as u64;
        self.points += block.len() as u64;
        (0..block.series_count()).try_for_each(|index| self.touch(block.series(index)))
    }

    fn touch(&mut self, series: SeriesNumber) -> Result<(), Malformed> {
        if series.0 >= MAX_SERIES {
            return Err(Malformed("series number out of bounds"));
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

    /// Whether to fold now. A run that has ended is always folded: nothing more comes to wait for.
    pub fn is_due(&self, ended: bool) -> bool {
        self.blocks > 0
            && (ended
                || self.blocks >= BLOCKS
                || self.bytes >= BYTES
                || self.points >= POINTS_PER_SERIES * self.series())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{ABSENT, Point, Written};

    fn unfolded(blocks: u64, series: u32, points: i64) -> Unfolded {
        let mut written = Written::default();
        for step in 0..points {
            for number in 0..series {
                let point = Point { step, value: 0.5, epoch: ABSENT, time_us: step };
                written.push(SeriesNumber(number), point);
            }
        }
        let block = written.blocks().remove(0);
        let mut unfolded = Unfolded::default();
        (0..blocks).for_each(|_| unfolded.add(&block).unwrap());
        unfolded
    }

    #[test]
    fn a_fold_waits_for_points_bytes_blocks_or_the_end() {
        let check = |blocks, series, points, ended, due| {
            let unfolded = unfolded(blocks, series, points);
            assert_eq!(unfolded.is_due(ended), due, "{blocks} blocks of {points} points of {series} series");
        };
        check(0, 1, 1, true, false);
        check(1, 1, 255, false, false);
        check(1, 1, 255, true, true);
        check(1, 1, 256, false, true);
        check(2, 10, 127, false, false);
        check(2, 10, 128, false, true);
        check(511, 100, 1, false, true);
        check(255, 100, 1, false, false);
        check(511, 10_000, 1, false, true);
        check(100, 10_000, 1, false, false);
    }

    #[test]
    fn touched_series_are_counted_once() {
        assert_eq!(unfolded(3, 130, 2).series(), 130);
    }
}
