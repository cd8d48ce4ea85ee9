//! Edits of series in the log of a run: their order with what is logged, and repeats of records.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use matyan_model::{
    ids::RunNumber,
    keys::{self, Counter, SeriesKind},
    project::project_count,
    run::writing_get,
    series::RunRef,
    series_edit::{SeriesEditOutcome, series_edit_outcome},
};
use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    ingest::v1::{EditSeries, edit_series::Edit, event::Kind},
};
use matyan_store::{Batch, Commit, Key, Mutation, Scan, Snapshot, Store, Value, layers::Faults};

use super::harness::{P, TestEnv, TestRecord, record};

fn key(name: &str) -> SeriesKey {
    SeriesKey { name: name.to_owned(), context: String::new() }
}

impl TestRecord {
    fn edit(self, id: u8, objects: bool, name: &str, edit: Edit) -> Self {
        let id = vec![id; 16].into();
        self.event(Kind::EditSeries(EditSeries { id, objects, key: Some(key(name)), edit: Some(edit) }))
    }

    fn rename(self, id: u8, name: &str, new: &str) -> Self {
        self.edit(id, false, name, Edit::NewKey(key(new)))
    }

    pub(super) fn delete_steps(self, id: u8, name: &str, start: Option<i64>, stop: Option<i64>) -> Self {
        self.edit(id, false, name, Edit::DeletedSteps(StepRange { start, stop }))
    }
}

fn next(values: &[f64]) -> Vec<(Option<i64>, f64)> {
    values.iter().map(|value| (None, *value)).collect()
}

impl TestEnv {
    pub(super) async fn outcome(&self, id: u8) -> Option<SeriesEditOutcome> {
        let run = RunRef { project: P, number: self.number().await };
        let snapshot = self.store().snapshot().await.unwrap();
        series_edit_outcome(&*snapshot, run, &[id; 16]).await.unwrap()
    }

    async fn number(&self) -> RunNumber {
        self.read().await.unwrap().number
    }

    /// Names in the index of metrics, of all runs.
    async fn indexed(&self) -> Vec<bool> {
        let snapshot = self.store().snapshot().await.unwrap();
        let number = self.number().await;
        let mut found = Vec::new();
        for name in ["a", "b", "c"] {
            let key = keys::index_series_name(P, SeriesKind::Metric, name, number);
            found.push(snapshot.get(&key).await.unwrap().is_some());
        }
        found
    }
}

/// A store in which another process folds a run just before an edit of the run is committed.
struct FoldingStore {
    inner: Arc<dyn Store>,
    outcome: Key,
    fold_row: Key,
    is_folded: AtomicBool,
    conflicts: AtomicUsize,
}

impl FoldingStore {
    fn is_edit(&self, batch: &Batch) -> bool {
        batch.mutations.iter().any(|one| matches!(one, Mutation::Set { key, .. } if *key == self.outcome))
    }

    async fn fold(&self) {
        let row = self.inner.snapshot().await.unwrap().get(&self.fold_row).await.unwrap();
        let mut row = row.expect("the run is folded before steps are deleted").to_vec();
        // The number of folded blocks, after the byte of the format.
        row[1] += 1;
        let mut batch = Batch::default();
        batch.set(self.fold_row.clone(), row);
        assert!(matches!(self.inner.commit(batch).await.unwrap(), Commit::Done { .. }));
    }
}

#[async_trait::async_trait]
impl Store for FoldingStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        if self.is_edit(&batch) && !self.is_folded.swap(true, Ordering::Relaxed) {
            self.fold().await;
        }
        let commit = self.inner.commit(batch).await;
        if matches!(commit, Ok(Commit::Conflict)) {
            self.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        commit
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> matyan_store::Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[tokio::test]
async fn rule_50_an_edit_begins_again_if_the_run_is_folded_meanwhile() {
    let mut env = TestEnv::new().await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let mut records = vec![record(0).create().define(0, &["a"]).points(0, &next(&values)).sent(1, 1, 0)];
    env.apply(records.clone()).await;
    let number = env.number().await;
    let store = Arc::new(FoldingStore {
        inner: env.deps.store.clone(),
        outcome: keys::series_edit(P, number, &[1; 16]),
        fold_row: keys::fold(P, number),
        is_folded: AtomicBool::new(false),
        conflicts: AtomicUsize::new(0),
    });
    env.deps.store = store.clone();
    records.push(record(1).delete_steps(1, "a", Some(10), None));
    env.apply(records).await;
    assert_eq!(store.conflicts.load(Ordering::Relaxed), 1);
    assert_eq!(env.outcome(1).await, Some(SeriesEditOutcome::Done));
    assert_eq!(env.points("a").await.len(), 10);
}

#[tokio::test]
async fn rule_50_a_rename_applies_to_what_was_logged_before_it() {
    let env = TestEnv::new().await;
    let records = vec![
        record(0).create().define(0, &["a"]).points(0, &next(&[1.0, 2.0])).sent(1, 1, 0),
        record(1).rename(1, "a", "b"),
        // The producer continues under the old name.
        record(2).points(0, &next(&[3.0])).sent(1, 2, 1),
        record(3).rename(2, "a", "b"),
        record(4).rename(3, "no", "c"),
        record(5).rename(1, "a", "c"),
    ];
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, records.clone()).await;
    let check = async || {
        assert_eq!(env.points("b").await, [(0, 1.0), (1, 2.0)]);
        assert_eq!(env.points("a").await, [(0, 3.0)], "a new series, with steps of its own");
        assert_eq!(env.outcome(1).await, Some(SeriesEditOutcome::Done));
        assert_eq!(env.outcome(2).await, Some(SeriesEditOutcome::NameTaken));
        assert_eq!(env.outcome(3).await, Some(SeriesEditOutcome::NoSeries));
        assert_eq!(env.indexed().await, [true, true, false], "the repeated edit did nothing");
    };
    check().await;
    env.apply(records).await;
    check().await;
    // Under the new name, the series continues.
    env.apply_with(&mut env.writer("r"), vec![record(6).define(0, &["b"]).points(0, &next(&[4.0]))]).await;
    assert_eq!(env.points("b").await, [(0, 1.0), (1, 2.0), (2, 4.0)]);
    assert!(env.parked().await.is_empty());
}

#[tokio::test]
async fn deleted_steps_are_gone_and_the_next_step_follows_the_last_one() {
    let env = TestEnv::new().await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let mut writer = env.writer("r");
    let log = record(0).create().define(0, &["a", "b"]).points(0, &next(&values)).points(1, &next(&values));
    let records = vec![
        log.sent(1, 1, 0),
        record(1).delete_steps(1, "a", Some(10), Some(95)),
        record(2).delete_steps(2, "a", Some(98), None),
        record(3).points(0, &next(&[1.5])).sent(1, 2, 1),
    ];
    env.apply_with(&mut writer, records.clone()).await;
    let expected: Vec<(i64, f64)> =
        (0..10).chain(95..98).map(|step| (step, step as f64)).chain([(98, 1.5)]).collect();
    assert_eq!(env.points("a").await, expected);
    assert_eq!(env.points("b").await.len(), 100, "other series are as before");
    env.apply(records).await;
    assert_eq!(env.points("a").await, expected, "a repeat deletes nothing");
}

#[tokio::test]
async fn a_series_without_points_is_deleted() {
    let env = TestEnv::new().await;
    let log =
        record(0).create().define(0, &["a", "b"]).points(0, &next(&[1.0, 2.0])).points(1, &next(&[3.0]));
    env.apply(vec![log.sent(1, 1, 0), record(1).delete_steps(1, "a", None, None)]).await;
    assert!(env.points("a").await.is_empty());
    let run = env.read().await.unwrap();
    assert_eq!(run.metrics.len(), 1);
    assert_eq!(env.indexed().await, [false, true, false]);
    let snapshot = env.store().snapshot().await.unwrap();
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 1);
    let writing = writing_get(&*snapshot, P, run.number).await.unwrap();
    assert_eq!((writing.series, writing.series_edits, writing.deleted_series), (2, 1, 1));
    env.apply(vec![record(2).points(0, &next(&[4.0])).sent(1, 2, 1)]).await;
    assert_eq!(env.points("a").await, [(0, 4.0)], "the name is free");
    assert_eq!(env.points("b").await, [(0, 3.0)]);
}

#[tokio::test]
async fn objects_are_renamed_and_deleted_like_points() {
    let env = TestEnv::new().await;
    let mut log = record(0).create();
    // More than a transaction removes.
    for step in 0..12_000 {
        log = log.object("o", Some(step), "x");
    }
    let range = |start, stop| Edit::DeletedSteps(StepRange { start, stop });
    env.apply(vec![
        log.object("p", Some(0), "x"),
        record(1).edit(1, true, "o", range(Some(10), None)),
        record(2).object("o", None, "after"),
        record(3).edit(2, true, "o", Edit::NewKey(key("q"))),
        record(4).edit(3, true, "p", range(None, None)),
        record(5).object("o", None, "again"),
    ])
    .await;
    let run = env.read().await.unwrap();
    let mut objects: Vec<_> = run
        .objects
        .iter()
        .map(|(header, objects)| {
            let steps: Vec<i64> = objects.iter().map(|object| object.step).collect();
            (header.name.as_str(), header.count, (header.first_step, header.last_step), steps)
        })
        .collect();
    objects.sort();
    assert_eq!(objects, [("o", 1, (0, 0), vec![0]), ("q", 11, (0, 10), (0..11).collect())]);
}

/// An edit is neither data nor a reason to create a run.
#[tokio::test]
async fn an_edit_of_an_unknown_run_does_nothing() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).rename(1, "a", "b")]).await;
    assert!(env.read().await.is_none());
    env.apply(vec![record(1).create(), record(2).delete(), record(3).delete_steps(1, "a", None, None)]).await;
    assert!(env.read().await.is_none() && env.parked().await.is_empty());
}

/// The expected contents of a run, by the order of its records.
#[derive(Default)]
struct Naive {
    series: BTreeMap<String, BTreeMap<i64, f64>>,
}

impl Naive {
    fn rename(&mut self, name: &str, new: &str) {
        if !self.series.contains_key(new)
            && let Some(points) = self.series.remove(name)
        {
            self.series.insert(new.to_owned(), points);
        }
    }

    fn delete(&mut self, name: &str, steps: std::ops::Range<i64>) {
        if let Some(points) = self.series.get_mut(name) {
            points.retain(|step, _| !steps.contains(step));
            if points.is_empty() {
                self.series.remove(name);
            }
        }
    }
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Edits between points, with a store that fails, workers that are killed, and redelivered records.
async fn a_history_is_applied_in_order(seed: u64) {
    let env = TestEnv::new().await;
    let mut state = seed;
    let mut naive = Naive::default();
    let mut records = vec![record(0).create()];
    let names = ["a", "b", "c"];
    for offset in 1..60 {
        let one = names[random(&mut state, 3) as usize];
        let other = names[random(&mut state, 3) as usize];
        let first = random(&mut state, 400) as i64;
        let id = offset as u8;
        records.push(match random(&mut state, 6) {
            0 => {
                naive.rename(one, other);
                record(offset).rename(id, one, other)
            }
            1 => {
                naive.delete(one, i64::MIN..i64::MAX);
                record(offset).delete_steps(id, one, None, None)
            }
            2 => {
                naive.delete(one, first..first + 100);
                record(offset).delete_steps(id, one, Some(first), Some(first + 100))
            }
            _ => {
                let points = naive.series.entry(one.to_owned()).or_default();
                // Steps that the server assigns show whether it knows the deleted steps.
                let start = points.last_key_value().map_or(0, |(step, _)| step + 1);
                let values: Vec<f64> = (0..50).map(|at| (offset * 100 + at) as f64).collect();
                points.extend((start..).zip(values.iter().copied()));
                record(offset).define(0, &[one]).points(0, &next(&values))
            }
        });
    }
    env.faults.set_faults(Faults::seeded(seed, 0.05, std::time::Duration::from_millis(1)));
    let mut done = 0;
    while done < records.len() {
        // A killed worker: another worker starts at some record that was already delivered.
        let from = done.saturating_sub(random(&mut state, 8) as usize);
        let until = (done + 1 + random(&mut state, 8) as usize).min(records.len());
        env.apply(records[from..until].to_vec()).await;
        done = until;
    }
    env.faults.set_faults(Faults::script([]));
    let stored = env.read().await.unwrap();
    let read: BTreeMap<String, BTreeMap<i64, f64>> = stored
        .metrics
        .into_iter()
        .map(|(header, points)| (header.name, points.steps.into_iter().zip(points.values).collect()))
        .collect();
    assert_eq!(read, naive.series, "seed {seed}");
    assert!(env.parked().await.is_empty(), "seed {seed}");
    let snapshot = env.store().snapshot().await.unwrap();
    let named = keys::series_names(P, stored.number, SeriesKind::Metric);
    assert_eq!(snapshot.scan(&named, Scan::default()).await.unwrap().rows.len(), read.len());
    let listed = project_count(&*snapshot, P, Counter::Series).await.unwrap();
    assert_eq!(listed, read.len() as i64, "seed {seed}");
}

#[tokio::test]
async fn rule_50_edits_keep_their_place_despite_faults_and_repeats() {
    futures::future::join_all((1..=12).map(a_history_is_applied_in_order)).await;
}
