use std::{collections::BTreeMap, fs, ops::Range};

use matyan_proto::published::v1::PageList;
use prost::Message as _;

use super::*;

struct WrittenSeries {
    series: PublishedSeries,
    bytes: Vec<u8>,
}

fn written(points: &[Point]) -> WrittenSeries {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.bin");
    let steps = StepRange::new(points[0].step, points[points.len() - 1].step);
    let mut file = SeriesFile::create(&path, 7, steps, points.len() as u64).unwrap();
    points.iter().for_each(|point| file.add(*point).unwrap());
    let (series, length) = file.finish(points.len() as u64, None).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!((series.number, length), (7, bytes.len() as u64));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    WrittenSeries { series, bytes }
}

fn points(steps: impl Iterator<Item = i64>, value: fn(i64) -> f64) -> Vec<Point> {
    steps.map(|step| Point { step, value: value(step), epoch: step / 100, time_us: step * 1_000 }).collect()
}

/// The byte ranges of pages, which leave nothing between them.
fn ranges(list: &PageList) -> Vec<Range<usize>> {
    let mut at = list.offset as usize;
    let page = |length: &u32| {
        let start = at;
        at += *length as usize;
        start..at
    };
    list.lengths.iter().map(page).collect()
}

fn check_level(written: &WrittenSeries, level: &PublishedLevel, points: &[Point]) {
    let list = level.pages.as_ref().unwrap();
    let mut expected: BTreeMap<i64, Summary> = BTreeMap::new();
    for point in points {
        let own = summary_of(*point);
        expected.entry(point.step >> level.exponent).and_modify(|sum| *sum = sum.merged(&own)).or_insert(own);
    }
    let mut expected = expected.into_values();
    for (range, first) in ranges(list).into_iter().zip(&list.first_steps) {
        let page = SeriesBuckets::decode(&written.bytes[range]).unwrap();
        let own: Vec<_> = expected.by_ref().take(page.last_step.len()).collect();
        assert_eq!(own[0].first.step, *first);
        // Compared as texts, because NaN is not equal to itself.
        assert_eq!(format!("{page:?}"), format!("{:?}", columns(&own, level.exponent)));
    }
    assert!(expected.next().is_none());
    assert_eq!(list.last_step, points.last().map(|point| point.step));
}

#[test]
fn levels_have_the_extremes_of_all_points() {
    let spikes = |step: i64| match step {
        12_345 => 1e9,
        20_001 => f64::NAN,
        30_000 => f64::INFINITY,
        _ => step as f64,
    };
    let points = points(-5_000..40_000, spikes);
    let written = written(&points);
    let exponents: Vec<_> = written.series.levels.iter().map(|level| level.exponent).collect();
    assert_eq!(exponents, [0, 2, 4, 6, 8]);
    for level in &written.series.levels[1..] {
        check_level(&written, level, &points);
    }
    let list = written.series.levels[0].pages.as_ref().unwrap();
    let mut read = Vec::new();
    for range in ranges(list) {
        let page = SeriesPoints::decode(&written.bytes[range]).unwrap();
        assert!(page.steps.len() <= PAGE_ENTRIES);
        assert_eq!(page.epochs.len(), page.steps.len());
        read.extend(page.steps.into_iter().zip(page.times_us));
    }
    assert_eq!(read, points.iter().map(|point| (point.step, point.time_us)).collect::<Vec<_>>());
    let last = ranges(written.series.levels.last().unwrap().pages.as_ref().unwrap()).pop().unwrap();
    assert_eq!(last.end, written.bytes.len());
}

#[test]
fn levels_that_would_repeat_the_points_are_left_out() {
    let points = points((0..5_000).map(|at| at * 1_000), |step| step as f64);
    let written = written(&points);
    let exponents: Vec<_> = written.series.levels.iter().map(|level| level.exponent).collect();
    assert_eq!(exponents, [0, 12, 14, 16]);
    check_level(&written, &written.series.levels[1], &points);
}

#[test]
fn a_short_metric_has_its_points_only() {
    let written = written(&points(0..10, |step| step as f64));
    assert_eq!(written.series.levels.len(), 1);
}
