//! Tests of reading: how much a chart reads, scans, and the sampling rules.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use matyan_store::{Key, Page, Range, Result, Scan, Snapshot, Value, Version};

use super::harness::{Harness, series};
use crate::ids::SeriesNumber;
use crate::series::chunk::CHUNK_POINTS;
use crate::series::{
    ABSENT, Point, RunSeries, Sampling, Stamps, StepRange, StoredBlocks, WrittenPoints, exponent_for,
};
use crate::testing::TestStore;

/// Counts the rows and bytes that are read.
struct CountingSnapshot {
    snapshot: Box<dyn Snapshot>,
    calls: AtomicUsize,
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl CountingSnapshot {
    fn new(snapshot: Box<dyn Snapshot>) -> Self {
        Self {
            snapshot,
            calls: AtomicUsize::default(),
            rows: AtomicUsize::default(),
            bytes: AtomicUsize::default(),
        }
    }

    fn count<'a>(&self, values: impl Iterator<Item = &'a Value>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        for value in values {
            self.rows.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(value.len(), Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl Snapshot for CountingSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        let value = self.snapshot.get(key).await?;
        self.count(value.iter());
        Ok(value)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let values = self.snapshot.get_many(keys).await?;
        self.count(values.iter().flatten());
        Ok(values)
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let page = self.snapshot.scan(range, scan).await?;
        self.count(page.rows.iter().map(|(_, value)| value));
        Ok(page)
    }

    fn version(&self) -> Version {
        self.snapshot.version()
    }
}

fn curve(number: u32, steps: std::ops::Range<i64>) -> WrittenPoints {
    let mut written = WrittenPoints::default();
    for step in steps {
        let value = f64::from((step as f32 * 0.001).sin());
        written.push(series(number), Point { step, value, epoch: ABSENT, time_us: step * 1000 });
    }
    written
}

/// Summaries of many series are read by a scan; summaries of few or scattered series each by its
/// key.
#[tokio::test]
async fn series_are_the_same_however_many_are_read_together() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    // Every seventh series does not exist.
    for number in (0..60).filter(|number| number % 7 != 3) {
        harness.write(&curve(number, 0..i64::from(number) + 1)).await;
    }
    harness.fold_all(true).await;
    let snapshot = harness.snapshot().await;
    let close: Vec<SeriesNumber> = (5..58).rev().map(series).collect();
    let scattered: Vec<SeriesNumber> = (0..9).map(|at| series(at * 6)).chain([series(900)]).collect();
    for numbers in [&close, &scattered] {
        let run = RunSeries::open(&*snapshot, harness.run_ref).await.unwrap();
        assert_eq!(run.unfolded_bytes(), 0);
        let summaries = run.summaries(&*snapshot, numbers).await.unwrap();
        let views = harness.views(&*snapshot, numbers).await;
        for ((number, summary), view) in numbers.iter().zip(summaries).zip(views) {
            let alone = harness.views(&*snapshot, &[*number]).await.swap_remove(0);
            let together = view.summary(&*snapshot).await.unwrap();
            let alone = alone.summary(&*snapshot).await.unwrap();
            assert_eq!(together, alone, "{number:?}");
            assert_eq!(summary, alone, "{number:?}");
            let count = together.map_or(0, |summary| summary.count);
            let expected = if number.0 < 60 && number.0 % 7 != 3 { u64::from(number.0) + 1 } else { 0 };
            assert_eq!(count, expected, "{number:?}");
        }
    }
}

#[tokio::test]
async fn a_chart_of_a_long_series_reads_as_much_as_of_a_short_one() {
    let store = TestStore::open().await;
    let mut costs = Vec::new();
    for length in [200_000, 1_000_000_i64] {
        let mut harness = Harness::new(&store).await;
        harness.write(&curve(0, 0..length)).await;
        harness.fold_all(true).await;
        costs.push(chart(&harness, StepRange::new(0, length - 1)).await);
    }
    assert!(costs.iter().all(|(rows, bytes)| *rows <= 12 && *bytes <= 200_000), "{costs:?}");
}

#[tokio::test]
async fn a_zoomed_chart_reads_no_chunks_between_its_ends() {
    let store = TestStore::open().await;
    let mut costs = Vec::new();
    for length in [200_000, 1_000_000_i64] {
        let mut harness = Harness::new(&store).await;
        harness.write(&curve(0, 0..length)).await;
        harness.fold_all(true).await;
        // Both ends are in the middle of a bucket.
        let zoomed = StepRange::new(12_345, length - 12_345);
        costs.push(chart(&harness, zoomed).await);
        harness.write(&curve(0, 77_777..77_778)).await;
        costs.push(chart(&harness, zoomed).await);
    }
    assert!(costs.iter().all(|(rows, bytes)| *rows <= 24 && *bytes <= 500_000), "{costs:?}");
}

/// However many points there are, such as points of a process that was away.
#[tokio::test]
async fn a_chart_with_late_points_reads_no_chunks_between_them() {
    let store = TestStore::open().await;
    let length = 1_000_000;
    let mut harness = Harness::new(&store).await;
    harness.write(&curve(0, 0..length)).await;
    harness.fold_all(true).await;
    let all = StepRange::new(0, length - 1);
    let (rows, _) = chart(&harness, all).await;
    // Every second bucket of a few chunks, and one of a chunk far away.
    for step in (0..9).map(|at| 100_000 + at * 4_096).chain([900_000]) {
        harness.write(&curve(0, step..step + 1)).await;
    }
    let (rows_with_late, bytes) = chart(&harness, all).await;
    // The late points are in 10 blocks, and in 4 chunks, which are rows of the list and rows of points.
    assert!(rows_with_late <= rows + 10 + 2 * 6, "{rows_with_late} rows, and {rows} without late points");
    assert!(bytes <= 700_000, "{bytes} bytes");
    // In a wide bucket, only the chunks of its late points are read.
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let view = run.view(&counting, series(0)).await.unwrap();
    let buckets = view.buckets(&counting, all, 18, Stamps::Read).await.unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), length as u64);
    let bytes = counting.bytes.load(Ordering::Relaxed);
    assert!(bytes <= 700_000, "{bytes} bytes");
}

/// An x axis is read at few of its steps.
#[tokio::test]
async fn a_scan_reads_only_the_chunks_of_the_steps_that_are_wanted() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&curve(0, 0..1_000_000)).await;
    harness.fold_all(true).await;
    harness.write(&curve(0, 1_000_000..1_000_010)).await;
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let view = run.view(&counting, series(0)).await.unwrap();
    let mut scan = view.scan(&counting, StepRange::ALL).await.unwrap();
    let before = counting.rows.load(Ordering::Relaxed);
    for wanted in [10, 500_000, 999_999, 1_000_005] {
        scan.skip_before(wanted);
        let points = scan.next(&counting).await.unwrap().unwrap();
        let at = points.steps.binary_search(&wanted).expect("no wanted step is left out");
        assert_eq!(points.get(at).time_us, wanted * 1000);
    }
    assert_eq!(counting.rows.load(Ordering::Relaxed) - before, 3, "the last ones are not in a chunk");
    assert!(scan.next(&counting).await.unwrap().is_none());
}

/// Each call is a round trip to FoundationDB.
#[tokio::test]
async fn rule_41_series_of_a_wide_run_are_read_in_few_calls() {
    const WIDTH: u32 = 5_000;
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    let mut written = WrittenPoints::default();
    for number in 0..WIDTH {
        let value = f64::from(number);
        written.push(series(number), Point { step: 0, value, epoch: ABSENT, time_us: 0 });
    }
    harness.write(&written).await;
    harness.fold_all(true).await;
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let numbers: Vec<SeriesNumber> = (0..WIDTH).map(series).collect();
    let views = run.views(&counting, &numbers).await.unwrap();
    assert!(views.iter().all(|view| view.span().is_some()));
    let calls = counting.calls.load(Ordering::Relaxed);
    assert!(calls <= 10, "{calls} calls for {WIDTH} series");
}

/// Reads a chart, and returns the numbers of rows and bytes that this takes.
async fn chart(harness: &Harness<'_>, steps: StepRange) -> (usize, usize) {
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let view = run.view(&counting, series(0)).await.unwrap();
    let buckets = view.buckets(&counting, steps, exponent_for(&steps, 500), Stamps::Skipped).await.unwrap();
    assert!((125..=500).contains(&buckets.len()), "{} buckets", buckets.len());
    let points = buckets.iter().map(|bucket| bucket.count).sum::<u64>();
    assert_eq!(points, steps.last.abs_diff(steps.first) + 1);
    (counting.rows.load(Ordering::Relaxed), counting.bytes.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_scan_returns_one_chunk_at_a_time() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&curve(0, 0..100_000)).await;
    harness.fold_all(false).await;
    harness.write(&curve(0, 100_000..100_500)).await;
    let snapshot = harness.snapshot().await;
    let run = RunSeries::open(snapshot.as_ref(), harness.run_ref).await.unwrap();
    let view = run.view(snapshot.as_ref(), series(0)).await.unwrap();
    let mut scan = view.scan(snapshot.as_ref(), StepRange::new(10, 100_400)).await.unwrap();
    let mut next = 10;
    while let Some(points) = scan.next(snapshot.as_ref()).await.unwrap() {
        assert!(!points.is_empty() && points.len() <= CHUNK_POINTS);
        assert_eq!(points.steps, (next..next + points.len() as i64).collect::<Vec<_>>());
        next += points.len() as i64;
    }
    assert_eq!(next, 100_401);
}

#[tokio::test]
async fn many_series_are_read_with_one_pass_over_the_blocks() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for step in 0..5 {
        let mut written = WrittenPoints::default();
        for number in 0..5000 {
            let value = f64::from(number) + step as f64;
            written.push(series(number), Point { step, value, epoch: step, time_us: ABSENT });
        }
        harness.write(&written).await;
    }
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let blocks = counting.rows.load(Ordering::Relaxed);
    let wanted: Vec<SeriesNumber> = (0..300).rev().map(|index| SeriesNumber(index / 2 * 34)).collect();
    let views = run.views(&counting, &wanted).await.unwrap();
    let steps = run.highest_steps(&counting, &[series(9999), series(3)]).await.unwrap();
    assert_eq!(steps, [None, Some(4)]);
    assert_eq!(counting.rows.load(Ordering::Relaxed), blocks, "no series has a summary row yet");
    for (number, view) in wanted.iter().zip(views) {
        let points = view.points(&counting, StepRange::ALL).await.unwrap();
        assert_eq!(points, harness.points(*number, StepRange::ALL));
    }
}

/// Number of rows that a summary reads in addition to the run's blocks and the series' own row.
async fn summary_rows(harness: &Harness<'_>, number: u32) -> usize {
    let counting = CountingSnapshot::new(harness.snapshot().await);
    let run = RunSeries::open(&counting, harness.run_ref).await.unwrap();
    let view = run.view(&counting, series(number)).await.unwrap();
    let before = counting.rows.load(Ordering::Relaxed);
    view.summary(&counting).await.unwrap();
    counting.rows.load(Ordering::Relaxed) - before
}

#[tokio::test]
async fn rule_17_readers_skip_points_that_are_already_folded() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for number in 0..100 {
        harness.write(&curve(number, 0..4000)).await;
    }
    harness.fold_step(false).await;
    let run = StoredBlocks::count(harness.snapshot().await.as_ref(), harness.run_ref).await.unwrap();
    assert!(run.is_folding);
    // Folded points are not merged into their chunk a second time, so the chunk is not read.
    assert_eq!(summary_rows(&harness, 0).await, 0);

    let mut harness = Harness::new(&store).await;
    harness.write(&curve(0, 0..200_000)).await;
    harness.fold_all(false).await;
    let mut late = WrittenPoints::default();
    let point = Point { step: 0, value: 0.5, epoch: ABSENT, time_us: ABSENT };
    for chunk in 0..12 {
        late.push(series(0), Point { step: chunk * CHUNK_POINTS as i64, ..point });
    }
    harness.write(&late).await;
    let before = summary_rows(&harness, 0).await;
    harness.fold_step(false).await;
    let after = summary_rows(&harness, 0).await;
    assert_eq!(
        (before, after),
        (13 + 12, 13 + 4),
        "the list, and the chunks with points that are not folded yet"
    );
}

#[test]
fn sampling_follows_the_rules() {
    fn check(sampling: Sampling, steps: &[i64], expected: &[i64]) {
        let chosen: Vec<i64> =
            sampling.positions(steps, &[]).into_iter().map(|position| steps[position]).collect();
        assert_eq!(chosen, expected, "{sampling:?} of {steps:?}");
    }
    let all: Vec<i64> = (0..100).collect();
    check(Sampling::Spread(5), &all, &[0, 25, 50, 74, 99]);
    check(Sampling::Spread(2), &all, &[0, 99]);
    check(Sampling::Spread(1), &all, &[0]);
    check(Sampling::Spread(0), &all, &[]);
    check(Sampling::Spread(5), &[], &[]);
    check(Sampling::Spread(5), &[7], &[7]);
    check(Sampling::Spread(5), &[3, 4], &[3, 4]);
    // Halves round to even: 0.5 to 0, 1.5 to 2.
    check(Sampling::Spread(3), &[0, 1, 2, 3], &[0, 2, 3]);
    check(Sampling::Spread(3), &[10, 11, 12, 15], &[10, 12, 15]);
    // Targets in one gap are one step, so positions decide.
    check(Sampling::Spread(4), &[0, 1, 2, 3, 1000], &[0, 1, 3, 1000]);
    check(Sampling::Spread(usize::MAX), &[0, 5, 6], &[0, 5, 6]);
    check(Sampling::Spread(3), &[i64::MIN, -2, -1, i64::MAX], &[i64::MIN, -1, i64::MAX]);
    check(Sampling::Buckets(2), &all, &[0, 99]);
    check(Sampling::Buckets(4), &all, &[0, 1, 50, 99]);
    check(Sampling::Buckets(4), &[0, 60, 70, 99], &[0, 60, 70, 99]);
    // The parts of 1 to 49 and of 50 to 98; the second one has no point, so another one is taken.
    check(Sampling::Buckets(4), &[0, 10, 20, 30, 99], &[0, 10, 20, 99]);
    // All but the first and the last are in one part.
    check(Sampling::Buckets(5), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 1000], &[0, 1, 2, 8, 1000]);
    check(Sampling::Buckets(200), &all, &all);
    check(Sampling::Buckets(usize::MAX), &[i64::MIN, 0, i64::MAX], &[i64::MIN, 0, i64::MAX]);
}

#[tokio::test]
async fn a_sample_of_a_long_series_keeps_first_and_last_order_and_limit() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&curve(0, 0..300_000)).await;
    harness.fold_all(false).await;
    harness.write(&curve(0, 299_990..300_100)).await;
    // Checks the samples of each range.
    harness.verify(&[(StepRange::ALL, 10), (StepRange::new(333, 280_001), 3)]).await;
    let snapshot = harness.snapshot().await;
    let view = &harness.views(snapshot.as_ref(), &[series(0)]).await[0];
    for limit in [2, 50, 200, 1000] {
        for sampling in [Sampling::Spread(limit), Sampling::Buckets(limit)] {
            let sample = view.sample(snapshot.as_ref(), StepRange::ALL, sampling).await.unwrap();
            assert!(sample.len() == limit, "{} of {limit}", sample.len());
        }
    }
}
