//! Tests of folding: rules 17 to 21 and 23 of the invariants, and which folds may write.

use std::{
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use async_trait::async_trait;
use matyan_store::{Batch, Commit, Error, Key, Page, Range, Result, Scan, Snapshot, Store, Value, Version};

use super::harness::{Harness, PROJECT, series};
use crate::ids::SeriesNumber;
use crate::keys;
use crate::series::chunk::{self, CHUNK_POINTS};
use crate::series::{
    ABSENT, Fold, FoldStatus, Point, RunSeries, Stamps, StepRange, StoredBlocks, WrittenPoints, garbage_clear,
};
use crate::testing::TestStore;

const CLOCK_US: i64 = 1_000_000;
const TEN_MINUTES_US: i64 = 600_000_000;

fn noise(index: i64) -> f64 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1_u64 << 53) as f64
}

fn noisy(number: u32, steps: impl IntoIterator<Item = i64>) -> WrittenPoints {
    let mut written = WrittenPoints::default();
    for step in steps {
        written.push(
            series(number),
            Point { step, value: noise(step), epoch: ABSENT, time_us: step.wrapping_mul(100_000) },
        );
    }
    written
}

/// Incompressible points.
fn bulky(number: u32, steps: std::ops::Range<i64>) -> WrittenPoints {
    let mut written = WrittenPoints::default();
    for step in steps {
        let epoch = (noise(step) * 1e18) as i64;
        let time_us = (noise(-step) * 1e18) as i64;
        written.push(series(number), Point { step, value: noise(step), epoch, time_us });
    }
    written
}

#[tokio::test]
async fn rule_17_a_fold_stopped_between_any_two_transactions_can_be_resumed() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for number in 0..300 {
        harness.write(&noisy(number, 0..4000)).await;
    }
    harness.write(&noisy(17, 4000..160_000)).await;
    let mut stopped = 0;
    for steps in 0..8 {
        harness.fold_step(false).await;
        harness.fold = None;
        let run = StoredBlocks::count(harness.snapshot().await.as_ref(), harness.run_ref).await.unwrap();
        stopped += usize::from(run.is_folding);
        // Points of series that are folded, half folded, and not folded yet, including
        // late points.
        for number in [0, 17, 99] {
            harness.write(&noisy(number, [5 * steps, 3998 + steps, 1_000_000 + steps])).await;
        }
        harness.verify(&[(StepRange::ALL, 9), (StepRange::new(100, 5000), 4)]).await;
    }
    assert!(stopped >= 2, "the fold was stopped halfway only {stopped} times");
    harness.fold_all(false).await;
    harness.verify(&[(StepRange::ALL, 9)]).await;
}

/// A store whose snapshots end after a few reads, as if each took a second.
struct SlowStore<'s>(&'s TestStore);

struct SlowSnapshot {
    inner: Box<dyn Snapshot>,
    reads_left: AtomicUsize,
}

impl SlowSnapshot {
    fn read(&self) -> Result<&dyn Snapshot> {
        let left = self.reads_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map(|_| &*self.inner).map_err(|_| Error::SnapshotTooOld)
    }
}

#[async_trait]
impl Store for SlowStore<'static> {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(SlowSnapshot { inner: self.0.snapshot().await?, reads_left: AtomicUsize::new(12) }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.0.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.0.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.0.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.0.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.0.is_remote()
    }
}

#[async_trait]
impl Snapshot for SlowSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.read()?.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        self.read()?.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        self.read()?.scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[tokio::test]
async fn rule_41_a_fold_takes_fewer_series_where_snapshots_end_before_a_slice() {
    let store: &'static TestStore = Box::leak(Box::new(TestStore::open().await));
    let mut harness = Harness::new(store).await;
    for round in 0..2 {
        for number in 0..40 {
            harness.write(&noisy(number, round * 20..round * 20 + 20)).await;
        }
        let slow = SlowStore(store);
        let mut fold =
            Fold::begin(&*harness.snapshot().await, harness.run_ref, false).await.unwrap().unwrap();
        while fold.step(&slow, &harness.live, CLOCK_US).await.unwrap() == FoldStatus::InProgress {}
        harness.verify(&[(StepRange::ALL, 9)]).await;
    }
    let run = StoredBlocks::count(&*harness.snapshot().await, harness.run_ref).await.unwrap();
    assert!(!run.is_folding);
}

#[tokio::test]
async fn rule_17_a_fold_can_stop_within_a_series_with_many_late_points() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, 0..160_000)).await;
    harness.fold_all(false).await;
    harness.write(&noisy(0, (0..160).map(|index| index * 1000))).await;
    harness.write(&noisy(0, (-20_000..-19_000).chain(170_000..171_000))).await;
    let mut inside = 0;
    while harness.fold_step(false).await == FoldStatus::InProgress {
        let row = harness.run_ref.fold_row(harness.snapshot().await.as_ref()).await.unwrap();
        inside += usize::from(row.position.is_some_and(|(_, step)| step > i64::MIN));
        harness.fold = None;
        harness.verify(&[(StepRange::ALL, 12), (StepRange::ALL, 5)]).await;
    }
    assert!(inside > 1, "the fold stopped within the series only {inside} times");
    harness.verify(&[(StepRange::ALL, 12), (StepRange::ALL, 5)]).await;
}

#[tokio::test]
async fn rule_18_a_repeated_step_is_merged_column_by_column_across_chunks_and_blocks() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    let write = async |harness: &mut Harness<'_>, value, epoch, time_us| {
        let mut written = WrittenPoints::default();
        written.push(series(0), Point { step: 4, value, epoch, time_us });
        harness.write(&written).await;
        harness.verify(&[]).await;
    };
    write(&mut harness, 1.0, 10, ABSENT).await;
    harness.fold_all(false).await;
    write(&mut harness, 2.0, ABSENT, 20).await;
    write(&mut harness, 3.0, ABSENT, ABSENT).await;
    harness.fold_all(false).await;
    harness.verify(&[]).await;
    let merged = Point { step: 4, value: 3.0, epoch: 10, time_us: 20 };
    assert_eq!(harness.points(series(0), StepRange::ALL).first(), Some(merged));
}

#[tokio::test]
async fn rule_19_points_of_a_long_tail_are_rewritten_a_few_times() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    let folds = 128;
    let points = 256;
    for fold in 0..folds {
        harness.write(&noisy(0, fold * points..(fold + 1) * points)).await;
        harness.fold_all(false).await;
    }
    harness.verify(&[]).await;
    let snapshot = harness.snapshot().await;
    let mut rewritten = 0;
    for id in harness.chunks(snapshot.as_ref(), series(0)).await {
        let key = harness.run_ref.series(series(0)).chunk_key(id);
        rewritten += chunk::decode(&snapshot.get(&key).await.unwrap().unwrap(), Stamps::Read).unwrap().len();
    }
    // Tiers of 256, 1,024, and 4,096 points, and the sealed chunk.
    assert!(rewritten <= 4 * (folds * points) as usize, "{rewritten} points written for {}", folds * points);
}

#[tokio::test]
async fn rule_20_noisy_chunks_end_at_64_kib() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, 0..CHUNK_POINTS as i64)).await;
    harness.fold_all(false).await;
    // This checks the size of every chunk.
    harness.verify(&[]).await;
    assert!(harness.chunks(harness.snapshot().await.as_ref(), series(0)).await.len() >= 2);
}

#[tokio::test]
async fn rule_20_a_chunk_that_is_full_by_bytes_has_no_unsealed_chunk_before_it() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, 0..5000)).await;
    harness.fold_all(false).await;
    harness.verify(&[]).await;
    // Of the same tier as the previous chunk, so it would not be merged, but with more bytes
    // than fit a chunk.
    harness.write(&bulky(0, 5000..14_000)).await;
    harness.fold_all(false).await;
    // This checks the order of the chunks.
    harness.verify(&[(StepRange::ALL, 9)]).await;
}

#[tokio::test]
async fn rule_21_late_steps_recompute_the_buckets_above() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, (0..100_000).map(|step| step * 2))).await;
    harness.fold_all(false).await;
    let everywhere: Vec<_> = (0..=20).map(|exponent| (StepRange::ALL, exponent)).collect();
    harness.verify(&everywhere).await;
    let mut written = WrittenPoints::default();
    for (step, value) in [
        (2001, -5.0),
        (2001, 0.5),
        (40_000, f64::NAN),
        (40_001, f64::INFINITY),
        (90_001, f64::NEG_INFINITY),
        (-3_000_000, 0.25),
    ] {
        written.push(series(0), Point { step, value, epoch: ABSENT, time_us: 1 });
    }
    harness.write(&written).await;
    harness.verify(&everywhere).await;
    harness.fold_all(false).await;
    harness.verify(&everywhere).await;
    // An overwritten minimum must disappear from every level.
    let lowest = Point { step: 60_000, value: -9.0, epoch: ABSENT, time_us: 1 };
    for value in [-9.0, 0.5] {
        let mut written = WrittenPoints::default();
        written.push(series(0), Point { value, ..lowest });
        harness.write(&written).await;
        harness.fold_all(false).await;
        harness.verify(&everywhere).await;
    }
}

#[tokio::test]
async fn the_pyramid_grows_with_sparse_and_dense_chunks() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    let dense = 0..40_000_i64;
    let sparse = (0..40_000_i64).map(|index| 50_000 + index * 5_000);
    let far = (0..40_000_i64).map(|index| (1 << 60) | (index * 3));
    let everywhere: Vec<_> = (0..=63).step_by(3).map(|exponent| (StepRange::ALL, exponent)).collect();
    for steps in [dense.collect::<Vec<_>>(), sparse.collect(), far.collect(), (-90_000..-50_000).collect()] {
        harness.write(&noisy(0, steps)).await;
        harness.fold_all(false).await;
        harness.verify(&everywhere).await;
    }
    let ranges = [(39_000, 60_000), (-60_000, 10), (1 << 59, i64::MAX), (51_000, 9_000_000)];
    let cut: Vec<_> = ranges
        .into_iter()
        .flat_map(|(first, last)| [6, 9, 16].map(|e| (StepRange::new(first, last), e)))
        .collect();
    harness.verify(&cut).await;
}

/// A few points remain of the middle one of three chunks, so only high levels of the pyramid include them.
#[tokio::test]
async fn a_sparse_chunk_between_dense_ones_does_not_end_their_bucket() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    let chunk_steps = CHUNK_POINTS as i64;
    let mut written = WrittenPoints::default();
    for step in 0..3 * chunk_steps {
        let value = f64::from((step % 7) as f32);
        written.push(series(0), Point { step, value, epoch: ABSENT, time_us: step * 1000 });
    }
    harness.write(&written).await;
    harness.fold_all(false).await;
    harness.remove(series(0), StepRange::new(chunk_steps + 5, 2 * chunk_steps - 6)).await;
    let everywhere: Vec<_> = (13..20).map(|exponent| (StepRange::ALL, exponent)).collect();
    harness.verify(&everywhere).await;
}

#[tokio::test]
async fn rule_23_a_replaced_chunk_is_readable_for_ten_minutes() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, 0..20_000)).await;
    harness.fold_all(false).await;
    let before = harness.points(series(0), StepRange::ALL);
    let snapshot = harness.snapshot().await;
    let view = RunSeries::open(snapshot.as_ref(), harness.run_ref)
        .await
        .unwrap()
        .view(snapshot.as_ref(), series(0))
        .await;
    let open = async || view.as_ref().unwrap().scan(snapshot.as_ref(), StepRange::ALL).await.unwrap();
    let mut scan = open().await;
    let mut late_scan = open().await;
    harness.write(&noisy(0, [-1, 1_000_000])).await;
    harness.fold_all(true).await;

    let replaced = harness.garbage(harness.snapshot().await.as_ref()).await.len();
    assert!(replaced >= 2, "only {replaced} chunks were replaced");
    let due_us = CLOCK_US + TEN_MINUTES_US;
    assert_eq!(garbage_clear(store.deref(), PROJECT, due_us).await.unwrap(), 0);
    let newer = harness.snapshot().await;
    let mut read = crate::series::Points::default();
    while let Some(points) = scan.next(newer.as_ref()).await.unwrap() {
        read.extend(&points, 0..points.len());
    }
    assert_eq!(read, before);

    assert_eq!(garbage_clear(store.deref(), PROJECT, due_us + 1).await.unwrap(), replaced);
    assert_eq!(garbage_clear(store.deref(), PROJECT, due_us + 1).await.unwrap(), 0);
    // This checks that every stored chunk is either listed or garbage.
    harness.verify(&[]).await;
    let newer = harness.snapshot().await;
    assert!(matches!(late_scan.next(newer.as_ref()).await, Err(Error::SnapshotTooOld)));
}

#[tokio::test]
async fn an_ended_run_has_one_tail_chunk_per_series() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for batch in 0..7 {
        for number in 0..5 {
            harness.write(&noisy(number, batch * 100..(batch + 1) * 100)).await;
        }
        harness.fold_all(batch == 6).await;
    }
    harness.verify(&[]).await;
    let snapshot = harness.snapshot().await;
    for number in 0..5 {
        let entries =
            harness.run_ref.series(series(number)).entries(snapshot.as_ref(), StepRange::ALL).await.unwrap();
        assert_eq!(entries.len(), 1);
    }
}

#[tokio::test]
async fn the_slower_of_two_concurrent_folds_gives_up() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for number in 0..120 {
        harness.write(&noisy(number, 0..5000)).await;
    }
    let mut slower =
        Fold::begin(harness.snapshot().await.as_ref(), harness.run_ref, false).await.unwrap().unwrap();
    assert_eq!(slower.step(store.deref(), &harness.live, CLOCK_US).await.unwrap(), FoldStatus::InProgress);
    harness.fold_step(false).await;
    assert_eq!(slower.step(store.deref(), &harness.live, CLOCK_US).await.unwrap(), FoldStatus::Superseded);
    harness.verify(&[]).await;
    harness.fold_all(false).await;
    assert_eq!(slower.step(store.deref(), &harness.live, CLOCK_US).await.unwrap(), FoldStatus::Superseded);
    harness.verify(&[]).await;
}

#[tokio::test]
async fn a_fold_of_a_dead_run_writes_nothing() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    harness.write(&noisy(0, 0..10)).await;
    let mut batch = Batch::buffered();
    batch.set(harness.live.key.clone(), "another life");
    store.commit(batch).await.unwrap();
    assert_eq!(harness.fold_step(false).await, FoldStatus::RunDead);
    harness.verify(&[]).await;
    let snapshot = harness.snapshot().await;
    assert!(harness.chunks(snapshot.as_ref(), series(0)).await.is_empty());
    assert!(snapshot.get(&keys::fold(PROJECT, harness.run_ref.number)).await.unwrap().is_none());
}

/// Every fourth fold merges the tails of all series, which writes little and clears a lot.
#[tokio::test]
async fn folds_of_many_small_series_fit_store_transactions() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for step in 0..16 {
        let mut written = WrittenPoints::default();
        for number in 0..2_500 {
            written.push(series(number), Point { step, value: 0.5, epoch: ABSENT, time_us: step });
        }
        harness.write(&written).await;
        harness.fold_all(false).await;
    }
    let snapshot = harness.snapshot().await;
    let view = &harness.views(snapshot.as_ref(), &[series(2_499)]).await[0];
    let expected = harness.points(series(2_499), StepRange::ALL);
    assert_eq!(view.points(snapshot.as_ref(), StepRange::ALL).await.unwrap(), expected);
}

#[tokio::test]
async fn a_long_backlog_takes_several_folds() {
    let store = TestStore::open().await;
    let mut harness = Harness::new(&store).await;
    for part in 0..20_i64 {
        harness.write(&bulky(0, part * 40_000..(part + 1) * 40_000)).await;
    }
    let unfolded = async |harness: &Harness<'_>| {
        let run = StoredBlocks::count(harness.snapshot().await.as_ref(), harness.run_ref).await.unwrap();
        (run.unfolded.bytes, run.is_folding, run.next_block)
    };
    let (bytes, _, next_block) = unfolded(&harness).await;
    assert!(bytes > 17 << 20, "only {bytes} bytes of blocks");
    harness.fold_all(false).await;
    let (left, folding, _) = unfolded(&harness).await;
    assert!(0 < left && left < bytes - (15 << 20) && !folding, "{left} bytes left");
    harness.fold_all(false).await;
    // Block numbers are not reused, even when no block is left.
    assert_eq!(unfolded(&harness).await, (0, false, next_block));
    let snapshot = harness.snapshot().await;
    let view = &harness.views(snapshot.as_ref(), &[series(0)]).await[0];
    let expected = harness.points(SeriesNumber(0), StepRange::ALL);
    assert_eq!(view.points(snapshot.as_ref(), StepRange::ALL).await.unwrap(), expected);
}
