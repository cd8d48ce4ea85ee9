//! A run in an embedded store, and the map that it is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use matyan_store::{Batch, Scan, Snapshot, Store};

use crate::branch::{Branch, branch_put};
use crate::ids::{Project, RunNumber, SeriesNumber};
use crate::keys;
use crate::series::chunk::{CHUNK_BYTES, CHUNK_POINTS, ChunkEntry};
use crate::series::{
    ABSENT, Fold, FoldStatus, LiveRow, Point, Points, Removal, RunRef, RunSeries, Sampling, SeriesView,
    Stamps, StepRange, StepRemoval, StoredBlocks, Summary, WrittenPoints, fold::remove_slice,
};
use crate::testing::TestStore;

pub(super) const PROJECT: Project = Project(0);
pub(super) const SERIES: u32 = 3;

pub(super) fn series(number: u32) -> SeriesNumber {
    SeriesNumber(number)
}

/// Number of series compared within one snapshot.
const SERIES_OF_A_SNAPSHOT: usize = 32;

pub(super) struct Harness<'a> {
    pub(super) store: &'a TestStore,
    pub(super) run_ref: RunRef,
    pub(super) live: LiveRow,
    pub(super) model: BTreeMap<SeriesNumber, BTreeMap<i64, Point>>,
    pub(super) fold: Option<Fold>,
    next_block: u64,
}

static NEXT_RUN: AtomicU64 = AtomicU64::new(1);

impl<'a> Harness<'a> {
    /// Creates a run in a store that several tests share.
    pub(super) async fn new(store: &'a TestStore) -> Self {
        let number = RunNumber(NEXT_RUN.fetch_add(1, Ordering::Relaxed));
        let live = LiveRow { key: keys::document(PROJECT, number), value: "alive".into() };
        let mut batch = Batch::buffered();
        batch.set(live.key.clone(), live.value.clone());
        store.commit(batch).await.unwrap();
        let run_ref = RunRef { project: PROJECT, number };
        Self { store, run_ref, live, model: BTreeMap::new(), fold: None, next_block: 0 }
    }

    pub(super) async fn snapshot(&self) -> Box<dyn Snapshot> {
        self.store.snapshot().await.unwrap()
    }

    /// Writes points in one transaction, as a worker does.
    pub(super) async fn write(&mut self, written: &WrittenPoints) {
        let mut batch = Batch::buffered();
        for block in written.blocks() {
            batch.set(keys::block(PROJECT, self.run_ref.number, self.next_block), block);
            self.next_block += 1;
        }
        self.store.commit(batch).await.unwrap();
        for (series, point) in written.series.iter().zip(written.points.iter()) {
            let old = self.model.entry(*series).or_default().entry(point.step).or_insert(point);
            *old = Point {
                epoch: point.epoch().unwrap_or(old.epoch),
                time_us: point.time_us().unwrap_or(old.time_us),
                ..point
            };
        }
    }

    /// Makes the run a branch, and adds the points that it shares to the map.
    pub(super) async fn branch(
        &mut self,
        branch: &Branch,
        parent: BTreeMap<SeriesNumber, BTreeMap<i64, Point>>,
        (last_step, shared_series): (i64, u32),
    ) {
        let mut batch = Batch::buffered();
        branch_put(&mut batch, PROJECT, self.run_ref.number, branch);
        self.store.commit(batch).await.unwrap();
        for (series, points) in parent.into_iter().filter(|(series, _)| series.0 < shared_series) {
            let own = self.model.entry(series).or_default();
            let first = own.keys().next().copied();
            own.extend(
                points
                    .into_iter()
                    .filter(|(step, _)| *step <= last_step && first.is_none_or(|first| *step < first)),
            );
        }
    }

    /// Runs one transaction of the current fold, or of a new one.
    pub(super) async fn fold_step(&mut self, ended: bool) -> FoldStatus {
        if self.fold.is_none() {
            self.fold = Fold::begin(self.snapshot().await.as_ref(), self.run_ref, ended).await.unwrap();
        }
        let Some(fold) = &mut self.fold else { return FoldStatus::Done };
        let folding = fold.step(self.store.deref(), &self.live, 1_000_000).await.unwrap();
        if folding != FoldStatus::InProgress {
            self.fold = None;
        }
        folding
    }

    pub(super) async fn fold_all(&mut self, ended: bool) {
        while self.fold_step(ended).await == FoldStatus::InProgress {}
    }

    /// Folds everything, then removes steps of a series in transactions of two chunks. Leaves a series
    /// alone that would lose all its points, because its number would not be reused.
    pub(super) async fn remove(&mut self, series: SeriesNumber, steps: StepRange) {
        self.fold_all(false).await;
        self.fold_all(false).await;
        let Some(points) = self.model.get_mut(&series) else { return };
        if points.keys().all(|step| steps.contains(*step)) {
            return;
        }
        points.retain(|step, _| !steps.contains(*step));
        loop {
            let mut batch = Batch::buffered();
            let removal = StepRemoval { run: self.run_ref, series, steps, now_us: 1_000_000 };
            let done = remove_slice(self.snapshot().await.as_ref(), &mut batch, removal, 2).await.unwrap();
            self.store.commit(batch).await.unwrap();
            match done {
                Removal::InProgress => {}
                Removal::Done => return,
                Removal::Emptied => panic!("points remain"),
            }
        }
    }

    pub(super) fn points(&self, series: SeriesNumber, steps: StepRange) -> Points {
        let points = self.model.get(&series).into_iter().flat_map(|points| points.values());
        points.filter(|point| steps.contains(point.step)).copied().collect()
    }

    pub(super) async fn views(&self, snapshot: &dyn Snapshot, numbers: &[SeriesNumber]) -> Vec<SeriesView> {
        let blocks = StoredBlocks::count(snapshot, self.run_ref).await.unwrap();
        assert!(blocks.next_block >= self.next_block || self.next_block == 0);
        let run = RunSeries::open(snapshot, self.run_ref).await.unwrap();
        run.views(snapshot, numbers).await.unwrap()
    }

    /// Compares everything that can be read with the map. Nothing is written during the comparison,
    /// so series may be read from different snapshots: one snapshot expires before many series are
    /// compared.
    pub(super) async fn verify(&self, ranges: &[(StepRange, u32)]) {
        let numbers: Vec<SeriesNumber> = self.model.keys().copied().collect();
        for some in numbers.chunks(SERIES_OF_A_SNAPSHOT) {
            self.verify_series(some, ranges).await;
        }
    }

    async fn verify_series(&self, numbers: &[SeriesNumber], ranges: &[(StepRange, u32)]) {
        let snapshot = self.snapshot().await;
        let views = self.views(snapshot.as_ref(), numbers).await;
        let run = RunSeries::open(snapshot.as_ref(), self.run_ref).await.unwrap();
        let summaries = run.summaries(snapshot.as_ref(), numbers).await.unwrap();
        for ((series, view), listed) in numbers.iter().copied().zip(views).zip(summaries) {
            let snapshot = self.snapshot().await;
            let all = self.points(series, StepRange::ALL);
            assert_eq!(
                view.points(snapshot.as_ref(), StepRange::ALL).await.unwrap(),
                all,
                "points of {series:?}"
            );
            let summary = view.summary(snapshot.as_ref()).await.unwrap();
            assert_alike(&summary.into_iter().collect::<Vec<_>>(), &brute_force(&all, 64));
            assert_alike(&listed.into_iter().collect::<Vec<_>>(), &brute_force(&all, 64));
            let ends = all.first().zip(all.last()).map(|(first, last)| StepRange::new(first.step, last.step));
            assert_eq!(view.span().map(|span| span.first), ends.map(|ends| ends.first));
            assert!(ends.is_none_or(|ends| view.span().is_some_and(|span| span.covers(&ends))));
            let highest = view.highest_step(snapshot.as_ref()).await.unwrap();
            assert_eq!(highest, ends.map(|ends| ends.last));
            for (range, exponent) in ranges {
                // On a busy machine, a snapshot may become too old before a range is read in all ways.
                let points = self.points(series, *range);
                let snapshot = self.snapshot().await;
                let expected = brute_force(&points, *exponent);
                let buckets = view.buckets(snapshot.as_ref(), *range, *exponent, Stamps::Read).await.unwrap();
                assert_alike(&buckets, &expected);
                let snapshot = self.snapshot().await;
                let buckets = view.buckets(snapshot.as_ref(), *range, *exponent, Stamps::Skipped).await;
                assert_alike(&without_stamps(buckets.unwrap()), &without_stamps(expected));
                let snapshot = self.snapshot().await;
                let read = view.points(snapshot.as_ref(), *range).await.unwrap();
                assert_eq!(read, points, "points of {series:?} in {range:?}");
                for sampling in [Sampling::Spread(50), Sampling::Buckets(200)] {
                    let snapshot = self.snapshot().await;
                    let sample = view.sample(snapshot.as_ref(), *range, sampling).await.unwrap();
                    assert_sample(&sample, &points, sampling);
                }
            }
        }
        // On a busy machine, the checks of all series outlast the first snapshot, too.
        self.verify_rows(self.snapshot().await.as_ref(), numbers).await;
    }

    /// Checks that the chunk lists are in order, and that every chunk is either listed or
    /// garbage.
    async fn verify_rows(&self, snapshot: &dyn Snapshot, numbers: &[SeriesNumber]) {
        let garbage = self.garbage(snapshot).await;
        for series in numbers {
            let entries = self.run_ref.series(*series).entries(snapshot, StepRange::ALL).await.unwrap();
            assert!(entries.windows(2).all(|pair| pair[0].steps().last < pair[1].steps().first));
            assert!(
                entries.is_sorted_by_key(|entry| !entry.sealed()),
                "an unsealed chunk before a sealed one"
            );
            assert!(entries.iter().filter(|entry| !entry.sealed()).count() <= 24);
            assert!(
                entries
                    .iter()
                    .all(|entry| entry.count() <= CHUNK_POINTS && entry.bytes <= CHUNK_BYTES as u64)
            );
            let listed: BTreeSet<u64> = entries.iter().map(|entry: &ChunkEntry| entry.id).collect();
            let replaced: BTreeSet<u64> =
                garbage.iter().filter(|(number, _)| number == series).map(|(_, chunk)| *chunk).collect();
            assert_eq!(self.chunks(snapshot, *series).await, &listed | &replaced);
            assert!(listed.is_disjoint(&replaced));
        }
    }

    pub(super) async fn chunks(&self, snapshot: &dyn Snapshot, series: SeriesNumber) -> BTreeSet<u64> {
        let range = keys::chunks(PROJECT, self.run_ref.number, series);
        let page = snapshot.scan(&range, Scan { bytes: usize::MAX, ..Scan::default() }).await.unwrap();
        page.rows.iter().map(|(key, _)| keys::tail::<(u64,)>(&range.start, key).unwrap().0).collect()
    }

    pub(super) async fn garbage(&self, snapshot: &dyn Snapshot) -> Vec<(SeriesNumber, u64)> {
        let range = keys::garbage_due(PROJECT, i64::MAX);
        let page = snapshot.scan(&range, Scan { bytes: usize::MAX, ..Scan::default() }).await.unwrap();
        let prefix = keys::garbage_prefix(PROJECT);
        let rows = page.rows.iter().map(|(key, _)| keys::tail::<(i64, u64, u32, u64)>(&prefix, key).unwrap());
        rows.filter(|row| row.1 == self.run_ref.number.0).map(|row| (SeriesNumber(row.2), row.3)).collect()
    }
}

/// Summaries by bucket; exponent 64 means a single bucket.
fn brute_force(points: &Points, exponent: u32) -> Vec<Summary> {
    let mut buckets = BTreeMap::<i64, Points>::new();
    for point in points.iter() {
        let bucket = if exponent > 63 { 0 } else { point.step >> exponent };
        buckets.entry(bucket).or_default().push(point);
    }
    buckets.values().filter_map(|points| Summary::from_points(points, 0..points.len())).collect()
}

fn without_stamps(mut buckets: Vec<Summary>) -> Vec<Summary> {
    for bucket in &mut buckets {
        for point in [&mut bucket.first, &mut bucket.last] {
            point.epoch = ABSENT;
            point.time_us = ABSENT;
        }
    }
    buckets
}

/// Asserts equality up to the rounding of means, which depends on the order of merging.
fn assert_alike(left: &[Summary], right: &[Summary]) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        let close = (left.mean / 2.0 - right.mean / 2.0).abs() <= 1e-9 * right.min.abs().max(right.max.abs());
        assert!(
            close || left.mean == right.mean || left.mean.is_nan() && right.mean.is_nan(),
            "{left:?} {right:?}"
        );
        let [left_bits, right_bits] =
            [left, right].map(|summary| (summary.min + 0.0).to_bits() ^ (summary.max + 0.0).to_bits());
        assert_eq!(left_bits, right_bits, "{left:?} {right:?}");
        let [left_rest, right_rest] = [left, right]
            .map(|s| (s.count, s.first, s.last, s.nan, s.positive_infinite, s.negative_infinite));
        assert_eq!(left_rest, right_rest);
    }
}

/// Checks that samples of short ranges follow the rules exactly, and that samples of long ranges
/// have the properties that clients rely on.
fn assert_sample(sample: &Points, points: &Points, sampling: Sampling) {
    if points.len() <= 64 * 1024 {
        assert_eq!(sample, &sampling.choose(points));
    }
    let (Sampling::Spread(limit) | Sampling::Buckets(limit)) = sampling;
    assert_eq!(sample.len(), limit.min(points.len()));
    assert!(sample.steps.is_sorted_by(|left, right| left < right));
    assert_eq!((sample.first(), sample.last()), (points.first(), points.last()));
    for point in sample.iter() {
        let logged = points.positions(&StepRange::new(point.step, point.step));
        assert_eq!(points.get(logged.start), point);
    }
}
