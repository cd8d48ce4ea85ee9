//! Tests of rows: their blocks equal the blocks of the same points.

use proptest::prelude::*;

use super::super::super::generate;
use super::super::tests::{by_series, read_all};
use super::*;
use crate::series::{ABSENT, Point};

/// Rows and the same points.
fn rows(series: &[u32], stamps: &[Point], values: impl Fn(usize) -> f64) -> (WrittenRows, WrittenPoints) {
    let mut rows = WrittenRows::default();
    let mut points = WrittenPoints::default();
    for stamp in stamps {
        assert!(rows.prepare(series));
        let at = rows.len();
        let own = (at..at + series.len()).map(&values);
        for (number, value) in series.iter().zip(own.clone()) {
            points.push(SeriesNumber(*number), Point { value, ..*stamp });
        }
        rows.add(&[stamp.step], &[stamp.epoch], &[stamp.time_us]).extend(own);
    }
    (rows, points)
}

/// Distinct numbers.
fn numbers() -> impl Strategy<Value = Vec<u32>> {
    let any = proptest::collection::btree_set(any::<u32>(), 1..40);
    let scattered = any.prop_map(|numbers| numbers.into_iter().collect::<Vec<u32>>()).prop_shuffle();
    let neighbors = (0..1_000_u32, 1..300_u32).prop_map(|(first, count)| (first..first + count).collect());
    prop_oneof![scattered, neighbors]
}

proptest! {
    #[test]
    fn blocks_of_rows_have_the_same_points(
        series in numbers(),
        stamps in proptest::collection::vec(generate::point(), 1..30),
        values in proptest::collection::vec(generate::point(), 1..50),
    ) {
        let (rows, points) = rows(&series, &stamps, |at| values[at % values.len()].value);
        prop_assert_eq!(rows.len(), points.len());
        let mut moved = WrittenPoints::default();
        rows.clone().move_to(&mut moved);
        prop_assert_eq!(&moved.series, &points.series);
        prop_assert_eq!(&moved.points, &points.points);
        let blocks = rows.blocks();
        prop_assert!(blocks.iter().all(|block| block.len() <= BLOCK_BYTES));
        prop_assert_eq!(read_all(&blocks), by_series(&points));
    }

    #[test]
    fn rows_that_are_found_have_the_same_points(
        series in numbers(),
        stamps in proptest::collection::vec(generate::point(), 1..8),
        cut in (0..400_usize, 0..400_usize),
        others in proptest::collection::vec((any::<proptest::sample::Index>(), 0..5_u32), 0..3),
    ) {
        let (_, mut points) = rows(&series, &stamps, |at| at as f64);
        let end = points.len() - cut.1 % (points.len() + 1);
        points = points.slice(cut.0.min(end)..end);
        for (at, number) in others {
            if !points.is_empty() {
                let at = at.index(points.len());
                points.series[at] = SeriesNumber(number);
            }
        }
        prop_assert_eq!(read_all(&points.blocks()), by_series(&points));
        if let Some((range, rows)) = WrittenRows::find(&points) {
            let mut moved = WrittenPoints::default();
            rows.move_to(&mut moved);
            let found = points.slice(range);
            prop_assert_eq!(&moved.series, &found.series);
            prop_assert_eq!(&moved.points, &found.points);
        }
    }
}

fn stamps(count: usize) -> Vec<Point> {
    let stamp =
        |row: usize| Point { step: row as i64, value: 0.0, epoch: ABSENT, time_us: 1_000 * row as i64 };
    (0..count).map(stamp).collect()
}

#[test]
fn a_wide_transaction_has_few_full_blocks() {
    let series: Vec<u32> = (0..10_000).collect();
    let (rows, points) = rows(&series, &stamps(9), |at| f64::from(at as f32 * 0.37));
    let blocks = rows.blocks();
    let bytes = blocks.iter().map(Vec::len).sum::<usize>();
    assert!(bytes < 90_000 * 5 + blocks.len() * 100, "{bytes} bytes");
    assert!(blocks.len() <= 8, "{} blocks", blocks.len());
    assert_eq!(read_all(&blocks), by_series(&points));
    let general = points.sorted_blocks();
    let general = general.iter().map(Vec::len).sum::<usize>();
    assert!(bytes.abs_diff(general) < 1_000, "{bytes} bytes, otherwise {general}");
}

/// A transaction may begin and end anywhere.
#[test]
fn rows_are_found_between_incomplete_ones() {
    let series: Vec<u32> = (0..1_000).collect();
    let (_, points) = rows(&series, &stamps(9), |at| at as f64);
    for (start, end, expected) in [
        (0, 9_000, Some(0..9_000)),
        (0, 1_000, Some(0..1_000)),
        (300, 8_800, Some(700..7_700)),
        (0, 8_999, Some(0..8_000)),
        (999, 9_000, Some(1..8_001)),
        (500, 1_700, None),
    ] {
        let part = points.slice(start..end);
        assert_eq!(WrittenRows::find(&part).map(|(range, _)| range), expected, "{start}..{end}");
        assert_eq!(read_all(&part.blocks()), by_series(&part));
    }
    // Their series are in another order.
    let mut series = series;
    series.swap(3, 900);
    let (_, points) = rows(&series, &stamps(9), |at| at as f64);
    assert_eq!(WrittenRows::find(&points).map(|(range, _)| range), Some(0..9_000));
    assert_eq!(read_all(&points.blocks()), by_series(&points));
    // Their times differ.
    let mut alone = points;
    alone.points.times_us = (0..9_000).collect();
    assert!(WrittenRows::find(&alone).is_none());
}

#[test]
fn a_single_row_needs_no_row_numbers() {
    let series: Vec<u32> = (0..10_000).collect();
    let (rows, _) = rows(&series, &stamps(1), |at| f64::from(at as f32 * 0.37));
    let blocks = rows.blocks();
    assert_eq!(blocks.len(), 1);
    assert!(blocks[0].len() < 40_100, "{} bytes", blocks[0].len());
}

#[test]
fn many_rows_of_few_series_and_wide_values_fit() {
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random
    };
    for (width, count) in
        [(1, 1), (1, MOST_ROWS), (3, MOST_ROWS), (16, MOST_ROWS + 1), (2, 5_000), (100, 900)]
    {
        let stamps: Vec<Point> = (0..count)
            .map(|_| Point { step: next() as i64, value: 0.0, epoch: next() as i64, time_us: next() as i64 })
            .collect();
        let series: Vec<u32> = (0..width).collect();
        let (rows, points) =
            rows(&series, &stamps, |at| f64::from_bits((at as u64).wrapping_mul(0x1234_5678_9abc_def1)));
        let blocks = rows.blocks();
        assert!(blocks.iter().all(|block| block.len() <= BLOCK_BYTES));
        assert_eq!(read_all(&blocks), by_series(&points));
    }
}

#[test]
fn only_rows_of_the_same_series_are_taken() {
    let mut rows = WrittenRows::default();
    assert!(!rows.prepare(&[3, 5, 3]) && rows.prepare(&[3, 5]) && rows.prepare(&[5, 3]));
    rows.add(&[1], &[ABSENT], &[ABSENT]).extend([0.5, 1.0]);
    assert!(rows.prepare(&[5, 3]) && !rows.prepare(&[3, 5]) && !rows.prepare(&[5, 6]) && !rows.prepare(&[5]));
}
