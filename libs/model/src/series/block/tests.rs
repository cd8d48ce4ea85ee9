//! Tests of blocks: all points are read back, by series and in the order of writing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::generate;
use super::*;
use crate::series::ABSENT;

pub(super) fn by_series(written: &WrittenPoints) -> BTreeMap<SeriesNumber, Points> {
    let mut series = BTreeMap::<_, Points>::new();
    for (number, point) in written.series.iter().zip(written.points.iter()) {
        series.entry(*number).or_default().push(point);
    }
    series
}

pub(super) fn read_all(blocks: &[Vec<u8>]) -> BTreeMap<SeriesNumber, Points> {
    let mut series = BTreeMap::<_, Points>::new();
    for bytes in blocks {
        let block = Block::open(bytes).unwrap();
        let mut count = 0;
        for index in 0..block.series_count() {
            let points = series.entry(block.series(index)).or_default();
            block.read(index, points).unwrap();
            count += block.point_count(index).unwrap();
            assert_eq!(block.lower_bound(block.series(index)), index);
        }
        assert_eq!(count, block.len());
    }
    series
}

/// Points of a few series, either in arbitrary order or logged together step by step.
fn written() -> impl Strategy<Value = WrittenPoints> {
    let numbers = prop_oneof![0..5_u32, any::<u32>()];
    let arbitrary =
        (generate::points(80), proptest::collection::vec(numbers, 80)).prop_map(|(points, numbers)| {
            let series = numbers.into_iter().take(points.len()).map(SeriesNumber).collect();
            WrittenPoints { series, points }
        });
    let together =
        (1..30_u32, proptest::collection::vec(generate::point(), 0..6)).prop_map(|(series, points)| {
            let mut written = WrittenPoints::default();
            for point in points {
                for number in 0..series {
                    written.push(SeriesNumber(number), point);
                }
            }
            written
        });
    prop_oneof![arbitrary, together]
}

proptest! {
    #[test]
    fn points_are_read_back_by_series(written in written()) {
        prop_assert_eq!(read_all(&written.blocks()), by_series(&written));
    }

    #[test]
    fn blocks_take_no_more_memory_than_they_need(written in written()) {
        for block in written.blocks() {
            prop_assert!(block.capacity() < block.len() + POINT_BYTES, "{} of {}", block.len(), block.capacity());
        }
    }

    #[test]
    fn damaged_blocks_are_decoded_or_rejected(
        written in written(),
        positions in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        for mut bytes in written.blocks() {
            for (position, byte) in &positions {
                let position = position.index(bytes.len());
                bytes[position] = *byte;
            }
            read_or_refused(&bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(mut bytes: Vec<u8>) {
        bytes.insert(0, FORMAT);
        read_or_refused(&bytes);
    }
}

fn read_or_refused(bytes: &[u8]) {
    let Ok(block) = Block::open(bytes) else { return };
    for index in 0..block.series_count() {
        let mut points = Points::default();
        if block.read(index, &mut points).is_ok() {
            assert_eq!(points.len(), block.point_count(index).unwrap());
        }
        block.lower_bound(block.series(index));
    }
}

#[test]
fn ten_thousand_series_share_their_step_and_time() {
    let mut written = WrittenPoints::default();
    for series in 0..10_000 {
        let value = f64::from(series as f32 * 0.37);
        written.push(
            SeriesNumber(series),
            Point { step: 17, value, epoch: ABSENT, time_us: 1_700_000_000_123_456 },
        );
    }
    let blocks = written.blocks();
    assert_eq!(blocks.len(), 1);
    assert!(blocks[0].len() < 40_100, "{} bytes", blocks[0].len());
    assert_eq!(read_all(&blocks), by_series(&written));
}

/// A fold looks up each series in each block, and a reader of one series opens the blocks that have it.
#[test]
fn a_wide_transaction_is_divided_by_series() {
    let mut written = WrittenPoints::default();
    for step in 0..10 {
        for series in 0..10_000 {
            let value = f64::from((series * 10 + step) as f32 * 0.37);
            let point =
                Point { step: step.into(), value, epoch: ABSENT, time_us: 1_000_000 + i64::from(step) };
            written.push(SeriesNumber(series), point);
        }
    }
    let blocks = written.blocks();
    let bytes = blocks.iter().map(Vec::len).sum::<usize>();
    assert!(bytes < 100_000 * 21 / 4, "{bytes} bytes");
    assert!(blocks.len() <= 9, "{} blocks", blocks.len());
    for block in &blocks {
        let block = Block::open(block).unwrap();
        assert!((0..block.series_count()).all(|index| block.point_count(index) == Ok(10)));
    }
    assert_eq!(read_all(&blocks), by_series(&written));
}

/// A short series before a long one does not get its own block.
#[test]
fn blocks_are_full_although_they_end_with_a_series() {
    let mut written = WrittenPoints::default();
    for (number, count) in [(0, 100), (1, 40_000), (2, 100), (3, 15_000), (4, 3_000)] {
        for step in 0..count {
            let value = f64::from(step as f32 * 0.37);
            written.push(SeriesNumber(number), Point { step, value, epoch: ABSENT, time_us: ABSENT });
        }
    }
    let blocks = written.blocks();
    let counts: Vec<usize> = blocks.iter().map(|block| Block::open(block).unwrap().len()).collect();
    let (_, full) = counts.split_last().unwrap();
    assert!(full.iter().all(|count| *count >= FIRST_TRY / 4), "{counts:?}");
    assert_eq!(read_all(&blocks), by_series(&written));
}

#[test]
fn blocks_do_not_exceed_their_maximum_size() {
    let mut written = WrittenPoints::default();
    let mut random = 1_u64;
    for index in 0..40_000_i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let point = Point {
            step: random as i64,
            value: f64::from_bits(random.rotate_left(17)),
            epoch: (random >> 7) as i64,
            time_us: index * 1000,
        };
        written.push(SeriesNumber((random >> 60) as u32), point);
    }
    let blocks = written.blocks();
    assert!(blocks.iter().all(|block| block.len() <= BLOCK_BYTES));
    assert!(blocks.len() <= 40_000 * 32 / BLOCK_BYTES + 2, "{} blocks", blocks.len());
    assert_eq!(read_all(&blocks), by_series(&written));
}
