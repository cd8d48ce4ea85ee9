//! Tests of sums against brute force, merging in any order, and the codec.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::chunk;
use super::super::column::ColumnUse;
use super::super::curve::Stamps;
use super::super::points::StepRange;
use super::super::pyramid::bucket_summaries;
use super::super::{ABSENT, generate};
use super::*;

fn same(left: f64, right: f64) -> bool {
    left == right || left.is_nan() && right.is_nan()
}

/// Whether two summaries are equal, up to the rounding of the mean, which depends on the order
/// of merging. The tiniest numbers have few digits.
fn alike(left: &Summary, right: &Summary) -> bool {
    let close = left.mean == right.mean
        || left.mean.is_nan() && right.mean.is_nan()
        || (left.mean / 2.0 - right.mean / 2.0).abs()
            <= 1e-9 * left.min.abs().max(left.max.abs()) + f64::MIN_POSITIVE;
    close
        && same(left.min, right.min)
        && same(left.max, right.max)
        && (left.count, left.first, left.last) == (right.count, right.first, right.last)
        && (left.nan, left.positive_infinite, left.negative_infinite)
            == (right.nan, right.positive_infinite, right.negative_infinite)
}

fn count(values: &[f64], matches: fn(f64) -> bool) -> u64 {
    values.iter().filter(|value| matches(**value)).count() as u64
}

/// The summary of points, one after the other.
fn model(points: &[Point]) -> Summary {
    let finite: Vec<f64> = points.iter().map(|point| point.value).filter(|value| value.is_finite()).collect();
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    Summary {
        count: points.len() as u64,
        first: *points.first().unwrap(),
        last: *points.last().unwrap(),
        min: finite.iter().copied().reduce(f64::min).unwrap_or(f64::NAN),
        max: finite.iter().copied().reduce(f64::max).unwrap_or(f64::NAN),
        mean: if finite.is_empty() {
            f64::NAN
        } else {
            // Rounding may move the mean of the largest floats to infinity.
            finite.iter().map(|value| value / finite.len() as f64).sum::<f64>().clamp(f64::MIN, f64::MAX)
        },
        nan: count(&values, f64::is_nan),
        positive_infinite: count(&values, |value| value == f64::INFINITY),
        negative_infinite: count(&values, |value| value == f64::NEG_INFINITY),
    }
}

/// The buckets of the points in a range, one after the other.
fn model_buckets(points: &Points, range: StepRange, exponent: u32) -> BTreeMap<i64, Summary> {
    let mut buckets = BTreeMap::<i64, Vec<Point>>::new();
    for point in points.iter().filter(|point| range.contains(point.step)) {
        buckets.entry(point.step >> exponent).or_default().push(point);
    }
    buckets.into_iter().map(|(bucket, points)| (bucket, model(&points))).collect()
}

fn without_stamps(summary: &Summary) -> Summary {
    let plain = |point: Point| Point { epoch: ABSENT, time_us: ABSENT, ..point };
    Summary { first: plain(summary.first), last: plain(summary.last), ..*summary }
}

/// Points of every form of steps: evenly spaced ones, others, and too few to compress.
fn chunked_points() -> impl Strategy<Value = Points> {
    let even = (generate::integer(), 1..70_i64, generate::values(150)).prop_map(|(first, stride, values)| {
        let points = (0..).zip(values).filter_map(|(index, value)| {
            let step = first.checked_add(stride * index)?;
            Some(Point { step, value, epoch: index / 9, time_us: index * 1_000 })
        });
        points.collect::<Points>()
    });
    prop_oneof![even, generate::sorted_points(300)]
}

proptest! {
    /// Works like a chart: decodes chunks, with and without epochs and times, and merges their buckets.
    #[test]
    fn buckets_of_encoded_chunks_are_those_of_the_points(
        points in chunked_points(),
        ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        range in (generate::integer(), generate::integer()),
        everything: bool,
        exponent in prop_oneof![0..9_u32, 0..=63_u32],
        backwards: bool,
    ) {
        let range = if everything { StepRange::ALL } else { StepRange::new(range.0, range.1) };
        let expected = model_buckets(&points, range, exponent);
        let mut ends: Vec<usize> = ends.iter().map(|end| end.index(points.len() + 1)).collect();
        ends.push(points.len());
        ends.sort_unstable();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut chunks: Vec<Vec<u8>> =
            starts.zip(&ends).map(|(start, end)| chunk::encode(&points.slice(start..*end), ColumnUse::Kept)).collect();
        if backwards {
            chunks.reverse();
        }
        for stamps in [Stamps::Read, Stamps::Skipped] {
            let mut buckets = BTreeMap::<i64, Option<Summary>>::new();
            for bytes in &chunks {
                let curve = chunk::decode(bytes, stamps).unwrap();
                for (bucket, summary) in bucket_summaries(&curve, curve.positions(&range), exponent) {
                    Summary::add(buckets.entry(bucket).or_default(), &summary);
                }
            }
            prop_assert_eq!(buckets.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (read, expected) in buckets.values().flatten().zip(expected.values()) {
                let expected = if stamps == Stamps::Read { *expected } else { without_stamps(expected) };
                prop_assert!(alike(read, &expected), "{:?} is not {:?}", read, expected);
            }
        }
    }

    #[test]
    fn a_summary_describes_its_points(points in generate::sorted_points(60)) {
        let summary = Summary::from_points(&points, 0..points.len());
        prop_assert_eq!(summary.is_none(), points.is_empty());
        let Some(summary) = summary else { return Ok(()) };
        let finite: Vec<f64> = points.values.iter().copied().filter(|value| value.is_finite()).collect();
        prop_assert_eq!(summary.count, points.len() as u64);
        prop_assert_eq!(summary.first, points.get(0));
        prop_assert_eq!(summary.last, points.get(points.len() - 1));
        prop_assert_eq!(summary.finite(), finite.len() as u64);
        prop_assert_eq!(summary.nan, count(&points.values, f64::is_nan));
        prop_assert_eq!(summary.positive_infinite, count(&points.values, |value| value == f64::INFINITY));
        prop_assert_eq!(summary.negative_infinite, count(&points.values, |value| value == f64::NEG_INFINITY));
        if finite.is_empty() {
            prop_assert!(summary.min.is_nan() && summary.max.is_nan() && summary.mean.is_nan());
        } else {
            prop_assert_eq!(Some(summary.min), finite.iter().copied().reduce(f64::min));
            prop_assert_eq!(Some(summary.max), finite.iter().copied().reduce(f64::max));
            prop_assert!(summary.min <= summary.mean && summary.mean <= summary.max, "{:?}", summary);
        }
    }

    #[test]
    fn parts_merge_into_the_whole(points in generate::sorted_points(60), at: proptest::sample::Index, swap: bool) {
        prop_assume!(points.len() >= 2);
        let middle = 1 + at.index(points.len() - 1);
        let whole = Summary::from_points(&points, 0..points.len()).unwrap();
        let left = Summary::from_points(&points, 0..middle).unwrap();
        let right = Summary::from_points(&points, middle..points.len()).unwrap();
        let merged = if swap { right.merged(&left) } else { left.merged(&right) };
        prop_assert!(alike(&merged, &whole), "{:?} is not {:?}", merged, whole);
    }

    #[test]
    fn parts_merge_in_any_order(
        points in generate::sorted_points(40),
        ends in proptest::collection::vec(any::<proptest::sample::Index>(), 1..6),
        keys in proptest::collection::vec(any::<u32>(), 7),
    ) {
        prop_assume!(!points.is_empty());
        let whole = Summary::from_points(&points, 0..points.len()).unwrap();
        let mut ends: Vec<usize> = ends.iter().map(|end| end.index(points.len())).collect();
        ends.push(points.len());
        ends.sort_unstable();
        let mut start = 0;
        let mut parts = Vec::new();
        for (end, key) in ends.into_iter().zip(keys) {
            parts.extend(Summary::from_points(&points, start..end).map(|part| (key, part)));
            start = end;
        }
        parts.sort_by_key(|(key, _)| *key);
        let mut merged = None;
        for (_, part) in &parts {
            Summary::add(&mut merged, part);
        }
        prop_assert!(alike(&merged.unwrap(), &whole), "{:?} is not {:?}", merged, whole);
    }

    #[test]
    fn summaries_survive_the_round_trip(parts in proptest::collection::vec(generate::sorted_points(9), 0..20)) {
        let whole: Vec<Summary> = parts.iter().filter_map(|points| Summary::from_points(points, 0..points.len())).collect();
        let mut out = Vec::new();
        put_summaries(&mut out, &whole);
        let mut input = Input::all(&out);
        let read = summaries(&mut input, whole.len()).unwrap();
        input.end().unwrap();
        prop_assert!(read.iter().zip(&whole).all(|(read, whole)| alike(read, whole)));
        prop_assert_eq!(read.len(), whole.len());
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(bytes: Vec<u8>, count in 0..40_usize) {
        if let Ok(read) = summaries(&mut Input::all(&bytes), count) {
            prop_assert_eq!(read.len(), count);
        }
    }
}

/// Buckets of the pyramid are added before the points of a sparse chunk that lies between them.
#[test]
fn a_part_between_two_others_is_merged_last() {
    let points: Points =
        (0..9).map(|step| Point { step, value: step as f64, epoch: step, time_us: step }).collect();
    let [before, between, after] =
        [0..3, 3..6, 6..9].map(|part| Summary::from_points(&points, part).unwrap());
    for merged in [before.merged(&after).merged(&between), between.merged(&after.merged(&before))] {
        assert_eq!((merged.first, merged.last), (points.get(0), points.get(8)));
    }
}

#[test]
fn a_mean_of_huge_values_is_finite() {
    let points: Points = [f64::MAX, f64::MAX, f64::MIN]
        .into_iter()
        .zip(0..)
        .map(|(value, step)| Point { step, value, epoch: 0, time_us: 0 })
        .collect();
    let summary = Summary::from_points(&points, 0..3).unwrap();
    assert!((summary.mean / f64::MAX - 1.0 / 3.0).abs() < 1e-12, "{}", summary.mean);
}
