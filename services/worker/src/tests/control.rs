//! Tests of the control worker and its jobs: events from the outbox, blobs of deleted runs,
//! sweeps.

mod bin;
mod leader_election;
mod stray_blobs;
mod sweeps;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use matyan_blob::{
    BlobKey,
    layers::{BlobCall, BlobFault, FaultyBlobs},
};
use matyan_log::{Delivery, LogReader, LogWriter, NewRecord, StartPoint, Subscription, Topic};
use matyan_maintenance::{DeletedRunBlobs, deleted_run_number};
use matyan_model::{
    entity::{
        Experiment, Note, NoteOwner, Tag, entity_create, entity_delete, entity_find, notes_count, runs_counts,
    },
    events::events_list,
    ids::{Job, NamedProject, Project, RunId},
    keys::{self, Counter, EntityKind, LogTopic},
    lock::{lock_holder, lock_take},
    position::log_get,
    project::project_count,
    run::{ClearOutcome, Head, blobs_deleted_put, tombstone_clear},
};
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_store::{Transaction, transact};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    eventually,
    harness::{P, TestEnv, record},
    ingest::GatedBlobs,
    rows::rows,
};
use crate::{ControlSettings, ControlWorker, Error, Heartbeat, Metrics, control::outbox, job_scheduler};

const HOUR_US: i64 = 3_600_000_000;

struct RunningControlWorker {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    metrics: Metrics,
}

impl TestEnv {
    async fn control(&self) -> RunningControlWorker {
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let settings =
            ControlSettings { finish_stale: Some(Duration::from_secs(24 * 3_600)), owns_blobs: false };
        let control = ControlWorker::new(self.deps.clone(), settings, metrics.clone()).await.unwrap();
        let task = tokio::spawn(control.run(stop.clone()));
        RunningControlWorker { stop, task, metrics }
    }

    /// Publishes an event about a deleted run, as an external service would.
    async fn publish_run_deleted(&self, run: &str) {
        let value = format!(
            r#"{{"type":"run_deleted","timestamp":"2024-01-02T03:04:05Z","payload":{{"run_id":"{run}"}}}}"#
        );
        let event = matyan_log::NewRecord { key: Bytes::new(), value: value.into(), headers: Vec::new() };
        matyan_log::LogWriter::append(&*self.log, Topic::Control, vec![event]).await.unwrap();
    }

    pub(super) async fn put_blob(&self, key: &str) {
        let content = futures::future::ready(Ok(Bytes::from_static(b"content"))).into_stream().boxed();
        self.blobs().put(&BlobKey::new(key).unwrap(), "", None, content).await.unwrap();
    }

    async fn has_blob(&self, key: &str) -> bool {
        self.blobs().describe(&BlobKey::new(key).unwrap()).await.unwrap().is_some()
    }

    async fn blobs_are_deleted(&self) -> bool {
        matches!(self.head().await, Some(Head::Tombstone(tombstone)) if tombstone.blobs_deleted)
    }

    /// Lets a worker create and delete a run with a producer.
    async fn delete_run(&self) {
        let of_producer = record(0).create().sent(1, 1, 0).define(0, &["loss"]).points(0, &[(None, 1.0)]);
        self.append([of_producer, record(0).delete()]).await;
        let worker = self.work().await;
        self.applied(0, 1).await;
        worker.stop().await.unwrap();
    }

    /// Number of rows of the run's id.
    async fn rows_of_id(&self) -> usize {
        let id = RunId::new("r");
        let snapshot = self.store().snapshot().await.unwrap();
        let rows = snapshot.scan(&keys::run_id_rows(P, &id), Default::default()).await.unwrap().rows;
        rows.len() + usize::from(snapshot.get(&keys::tombstone(P, &id)).await.unwrap().is_some())
    }

    async fn clear(&self) -> ClearOutcome {
        let id = RunId::new("r");
        let clear = async |mut transaction: Transaction| {
            let clearing = tombstone_clear(&mut transaction, P, &id).await?;
            Ok::<_, Error>((transaction, clearing))
        };
        transact(self.store(), clear).await.unwrap().0
    }
}

impl RunningControlWorker {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn rule_15_only_the_blobs_of_the_deleted_run_are_deleted() {
    let env = TestEnv::new().await;
    let gone: Vec<String> = (0..30).map(|at| format!("r/seq/image {at}.png")).collect();
    for key in gone.iter().map(String::as_str).chain(["r2/a", "q/r/a"]) {
        env.put_blob(key).await;
    }
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    assert_eq!(env.clear().await, ClearOutcome::Waiting, "rule 12: its blobs still exist");
    let control = env.control().await;
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    for key in &gone {
        assert!(!env.has_blob(key).await, "{key}");
    }
    assert!(env.has_blob("r2/a").await && env.has_blob("q/r/a").await);
    assert_eq!(control.metrics.blobs.deleted.get(), 30);
    let outbox = events_list(&*env.store().snapshot().await.unwrap(), 9).await.unwrap();
    assert!(outbox.is_empty());
    control.stop().await;
    assert_eq!(env.clear().await, ClearOutcome::Free);
    assert_eq!(env.head().await, None);
}

/// Waiting for events may take arbitrarily long; handling one may not, even if its handler gets
/// no response.
#[tokio::test]
async fn a_control_worker_hangs_only_when_its_work_hangs() {
    const LONG: Duration = Duration::from_secs(400);
    let env = TestEnv::new().await;
    let stop = CancellationToken::new();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let control =
        ControlWorker::new(env.deps.clone(), ControlSettings::default(), metrics.clone()).await.unwrap();
    let heartbeats = control.heartbeats();
    let task = tokio::spawn(control.run(stop.clone()));
    let hangs = || heartbeats.iter().filter_map(Heartbeat::problem).collect::<Vec<_>>();
    // The threads of the store do not follow the clock of the test.
    eventually("the topic is read", || async {
        log_get(&*env.store().snapshot().await.unwrap(), LogTopic::Control).await.unwrap().is_some()
    })
    .await;
    tokio::time::pause();
    tokio::time::sleep(LONG).await;
    assert!(hangs().is_empty(), "{:?}", hangs());
    tokio::time::resume();

    env.faults.crash();
    let value = br#"{"type":"run_deleted","timestamp":"2024-01-02T03:04:05Z","payload":{"run_id":"r"}}"#;
    let record = NewRecord { key: Bytes::new(), value: Bytes::from_static(value), headers: Vec::new() };
    env.log.append(Topic::Control, vec![record]).await.unwrap();
    eventually("the event is taken", || async { metrics.events.consumed.get() > 0 }).await;
    tokio::time::pause();
    tokio::time::sleep(LONG).await;
    let found = hangs();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("the control worker has not made progress for "), "{found:?}");
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn rule_15_a_late_event_does_not_touch_a_recreated_run() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = env.control().await;
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    control.stop().await;
    // The topic is reread from its first record after the run has become live again.
    assert_eq!(env.clear().await, ClearOutcome::Free);
    env.apply(vec![record(2).create()]).await;
    env.put_blob("r/new").await;
    let mut batch = matyan_store::Batch::default();
    batch.clear(keys::applied(LogTopic::Control, 0)).clear(keys::log(LogTopic::Control));
    env.store().commit(batch).await.unwrap();
    env.publish_run_deleted("r").await;
    let control = env.control().await;
    let consumed = control.metrics.events.consumed.clone();
    eventually("the late event", || async { consumed.get() > 0 }).await;
    control.stop().await;
    assert!(env.has_blob("r/new").await);
}

/// The run is recreated, and uploads a file, between the check of its tombstone and the listing.
#[tokio::test]
async fn rule_15_files_of_a_run_that_is_created_during_a_deletion_are_kept() {
    let mut env = TestEnv::new().await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let id = RunId::new("r");
    let number = deleted_run_number(env.store(), P, &id).await.unwrap().unwrap();
    transact(env.store(), async |mut transaction: Transaction| {
        let is_marked = blobs_deleted_put(&mut transaction, P, &id, number).await?;
        Ok::<_, Error>((transaction, is_marked))
    })
    .await
    .unwrap();
    let gate = GatedBlobs::closed(env.deps.blobs.clone());
    env.deps.blobs = gate.clone();
    let project = NamedProject { number: P, name: String::new() };
    let mut blobs = DeletedRunBlobs::new(env.deps.maintenance(), &project, &id, number).unwrap();
    let create = async {
        eventually("the listing", || async { gate.is_reached.load(Ordering::Relaxed) }).await;
        assert_eq!(env.clear().await, ClearOutcome::Free);
        env.apply(vec![record(2).create()]).await;
        let content = futures::future::ready(Ok(Bytes::from_static(b"new"))).into_stream().boxed();
        gate.inner.put(&BlobKey::new("r/new").unwrap(), "", None, content).await.unwrap();
        gate.opened.add_permits(1_000);
    };
    let (page, ()) = tokio::join!(blobs.next_page(), create);
    assert!(page.unwrap().is_none());
    assert!(env.has_blob("r/new").await);
}

#[tokio::test]
async fn rule_15_an_event_waits_in_the_outbox_until_the_blobs_can_be_deleted() {
    let mut env = TestEnv::new().await;
    let is_broken = Arc::new(AtomicBool::new(true));
    let plan = is_broken.clone();
    let faulty = FaultyBlobs::new(env.deps.blobs.clone(), move |_| {
        if plan.load(Ordering::Relaxed) { BlobFault::Refuse } else { BlobFault::None }
    });
    env.put_blob("r/a").await;
    env.deps.blobs = Arc::new(faulty);
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = env.control().await;
    let errors = control.metrics.events.errors.with_label_values(&["blob_storage"]);
    eventually("a failed attempt", || async { errors.get() > 0 }).await;
    assert!(!env.blobs_are_deleted().await);
    is_broken.store(false, Ordering::Relaxed);
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    assert!(!env.has_blob("r/a").await);
    control.stop().await;
}

/// A log that reports each partition once as replaced.
struct ReplacedLog(Arc<dyn LogReader>);

struct ReplacedLogSubscription {
    inner: Box<dyn Subscription>,
    found: bool,
}

#[async_trait]
impl LogReader for ReplacedLog {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        let inner = self.0.subscribe(topic).await?;
        Ok(Box::new(ReplacedLogSubscription { inner, found: false }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> matyan_log::Result<()> {
        self.0.trim(topic, partition, offset).await
    }
}

#[async_trait]
impl Subscription for ReplacedLogSubscription {
    async fn next(&mut self) -> matyan_log::Result<Delivery> {
        let delivery = self.inner.next().await?;
        match delivery {
            Delivery::Records { partition, ref records } if !self.found => {
                self.found = true;
                let requested = records[0].offset;
                Err(matyan_log::Error::Replaced { partition, requested, end: 0 })
            }
            delivery => Ok(delivery),
        }
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> matyan_log::Result<()> {
        self.inner.start(partition, point).await
    }
}

#[tokio::test]
async fn a_recreated_control_topic_is_read_from_its_beginning() {
    let mut env = TestEnv::new().await;
    env.deps.log_reader = Arc::new(ReplacedLog(env.log.clone()));
    env.put_blob("r/a").await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = env.control().await;
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    control.stop().await;
}

#[tokio::test]
async fn rule_11_only_the_rows_of_the_dead_run_are_swept() {
    let env = TestEnv::new().await;
    let names: Vec<String> = (0..3_000).map(|at| format!("metric {at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut large = record(0)
        .create()
        .params(r#"{"a":{"b":1}}"#)
        .object("images", None, "x")
        .line(0, "x")
        .define(0, &names);
    for series in 0..3_000 {
        large = large.points(series, &[(Some(0), 1.0)]);
    }
    let keep = record(1).run("keep").create().define(0, &names[..1]).points(0, &[(Some(0), 1.0)]);
    env.apply_with(&mut env.writer("keep"), vec![keep]).await;
    env.apply(vec![large]).await;
    let dead = env.read().await.unwrap().number;
    env.apply(vec![record(2).delete()]).await;
    matyan_maintenance::sweep_dead_runs(env.deps.maintenance(), &CancellationToken::new()).await.unwrap();

    let snapshot = env.store().snapshot().await.unwrap();
    let rows = snapshot.scan(&keys::run_rows(P, dead), Default::default()).await.unwrap().rows;
    assert!(rows.is_empty(), "{} rows are left", rows.len());
    for kind in [keys::SeriesKind::Metric, keys::SeriesKind::Object] {
        let left = snapshot.scan(&keys::index_series_names(P, kind), Default::default()).await.unwrap().rows;
        assert_eq!(left.len(), usize::from(kind == keys::SeriesKind::Metric), "{kind:?}");
    }
    assert!(snapshot.get(&keys::dead_run(P, dead)).await.unwrap().is_none());
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 1);
    assert_eq!(project_count(&*snapshot, P, Counter::Points).await.unwrap(), 1);
    assert_eq!(env.read_run("keep").await.unwrap().metrics.len(), 1);
    assert!(snapshot.get(&keys::number(P, dead)).await.unwrap().is_some(), "a number is never reused");
}

#[tokio::test]
async fn rule_26_links_of_a_deleted_tag_are_swept() {
    let env = TestEnv::new().await;
    for run in ["a", "b", "c"] {
        let record = record(0).run(run).create().tag("t").tag("u");
        env.apply_with(&mut env.writer(run), vec![record]).await;
    }
    let id =
        entity_find(&*env.store().snapshot().await.unwrap(), P, EntityKind::Tag, "t").await.unwrap().unwrap();
    transact(env.store(), async |mut transaction: Transaction| {
        entity_delete::<Tag>(&mut transaction, P, &id).await.unwrap();
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
    matyan_maintenance::sweep_dead_entities(env.deps.maintenance(), &CancellationToken::new()).await.unwrap();
    for run in ["a", "b", "c"] {
        let props = env.read_run(run).await.unwrap().props;
        assert_eq!(env.tags(&props).await, [("u".to_owned(), 3)]);
    }
    let snapshot = env.store().snapshot().await.unwrap();
    assert_eq!(runs_counts(&*snapshot, P, EntityKind::Tag).await.unwrap().len(), 1);
    assert!(snapshot.get(&keys::dead_entity(P, EntityKind::Tag, &id)).await.unwrap().is_none());
    let (changes, _) = matyan_model::change::changes_list(&*snapshot, P, None, 100).await.unwrap();
    assert_eq!(changes.len(), 6, "watchers see each run twice: when it was created and when it lost the tag");
}

#[tokio::test]
async fn rule_26_notes_of_a_deleted_experiment_are_swept() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create()]).await;
    let owner = NoteOwner::Experiment("e".into());
    let experiment = Experiment { name: "e".into(), ..Experiment::default() };
    let note = Note { owner: owner.clone(), ..Note::default() };
    transact(env.store(), async |mut transaction: Transaction| {
        entity_create(&mut transaction, P, "e", &experiment).await.unwrap();
        for at in 0..2_001 {
            entity_create(&mut transaction, P, &format!("{at:04}"), &note).await.unwrap();
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
    transact(env.store(), async |mut transaction: Transaction| {
        entity_delete::<Experiment>(&mut transaction, P, "e").await.unwrap();
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
    let left = async || notes_count(&*env.store().snapshot().await.unwrap(), P, &owner).await.unwrap();
    assert_eq!(left().await, 1);
    matyan_maintenance::sweep_dead_entities(env.deps.maintenance(), &CancellationToken::new()).await.unwrap();
    assert_eq!(left().await, 0);
}

/// Sweeps find the run of the damaged event.
#[tokio::test]
async fn rule_40_a_damaged_event_holds_up_no_other() {
    let env = TestEnv::new().await;
    let mut batch = matyan_store::Batch::default();
    batch.set_stamped(keys::outbox_prefix(), "damaged", vec![0xff, 7]);
    env.store().commit(batch).await.unwrap();
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = env.control().await;
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    eventually("no event is left", || async {
        events_list(&*env.store().snapshot().await.unwrap(), 9).await.unwrap().is_empty()
    })
    .await;
    control.stop().await;
}

#[tokio::test]
async fn rule_13_a_tombstone_is_kept_until_nothing_can_bring_the_run_back() {
    let env = TestEnv::new().await;
    let day = 24 * 3_600_000_000;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let sweep = async || job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
    env.delete_run().await;
    // Old enough, and the log is trimmed past it, but its blobs were never deleted. They are
    // deleted now, and the tombstone is kept.
    env.put_blob("r/a").await;
    env.now_us.store(40 * day, Ordering::Relaxed);
    sweep().await;
    assert!(env.blobs_are_deleted().await && !env.has_blob("r/a").await);
    env.now_us.store(29 * day, Ordering::Relaxed);
    sweep().await;
    assert!(env.head().await.is_some(), "it is younger than the longest client spool");
    // Uploaded with a URL that was issued before the run was deleted.
    env.put_blob("r/late").await;
    env.now_us.store(31 * day, Ordering::Relaxed);
    sweep().await;
    assert_eq!(env.head().await, None);
    assert!(!env.has_blob("r/late").await, "no later sweep would find it");
    assert_eq!(env.rows_of_id().await, 0, "nothing of the id is left");
}

#[tokio::test]
async fn rule_41_nothing_is_left_of_an_id_that_was_freed() {
    let env = TestEnv::new().await;
    let day = 24 * 3_600_000_000;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let sweep = async || job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
    env.delete_run().await;
    env.now_us.store(day, Ordering::Relaxed);
    sweep().await;
    assert_eq!(env.clear().await, ClearOutcome::Free);
    assert_eq!(env.clear().await, ClearOutcome::Free, "the id is free already");
    env.now_us.store(29 * day, Ordering::Relaxed);
    sweep().await;
    assert!(env.rows_of_id().await > 2, "a client may still send again what it has kept");
    env.now_us.store(31 * day, Ordering::Relaxed);
    sweep().await;
    assert_eq!(env.rows_of_id().await, 0);
}

/// Otherwise a store grows with every run that was ever created. Only numbers of runs are kept, because none is
/// used twice.
#[tokio::test]
async fn rule_41_rounds_of_deleted_runs_leave_no_more_rows_than_one() {
    const ROUNDS: u64 = 3;
    const RUNS: u64 = 10;
    const RECORDS: u64 = 3 * RUNS;
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let jobs = env.deps.maintenance();
    let stop = CancellationToken::new();
    let mut left = Vec::new();
    for round in 0..ROUNDS {
        for number in 0..RUNS {
            let id = format!("{round} {number}");
            let producer = (1 + round * RUNS + number) as u8;
            let of_run = || record(0).run(&id);
            let first = of_run().create().sent(producer, 1, 0).params(&format!(r#"{{"lr": {number}}}"#));
            let written = of_run().sent(producer, 2, 1).define(0, &[&id]).points(0, &[(None, 1.0)]);
            let written = written.line(0, "started").tag("t").object("texts", None, &"x".repeat(100_000));
            env.append([first, written, of_run().delete()]).await;
        }
        let worker = env.work().await;
        env.applied(0, (round + 1) * RECORDS - 1).await;
        worker.stop().await.unwrap();
        while outbox::publish(&env.deps).await.unwrap() > 0 {}
        env.now_us.fetch_add(40 * 24 * 3_600_000_000, Ordering::Relaxed);
        // The first sweep deletes the blobs of the runs, and the second one the rest of the runs.
        for _ in 0..2 {
            job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
        }
        matyan_maintenance::sweep_dead_runs(jobs, &stop).await.unwrap();
        matyan_maintenance::sweep_dead_entities(jobs, &stop).await.unwrap();
        matyan_maintenance::sweep_producers(jobs).await.unwrap();
        matyan_maintenance::clear_garbage(jobs).await.unwrap();
        matyan_maintenance::trim_changes(jobs).await.unwrap();
        let (numbers, others): (Vec<_>, Vec<_>) =
            rows(env.store()).await.into_iter().partition(|(key, _)| keys::numbers(P).contains(key));
        assert_eq!(numbers.len() as u64, (round + 1) * RUNS);
        left.push(others.iter().map(|(key, _)| key.escape_ascii().to_string()).collect::<Vec<_>>());
        assert!(env.blobs().list("", None).await.unwrap().blobs.is_empty());
    }
    assert_eq!(left[ROUNDS as usize - 1], left[0]);
}

#[tokio::test]
async fn rule_40_a_damaged_tombstone_holds_up_no_other() {
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let of = |run: &str| [record(0).run(run).create(), record(0).run(run).delete()];
    env.append([of("damaged"), of("sound")].concat()).await;
    let worker = env.work().await;
    env.applied(0, 3).await;
    worker.stop().await.unwrap();
    let head = |run: &str| keys::head(P, &RunId::new(run));
    let mut batch = matyan_store::Batch::default();
    batch.set(head("damaged"), vec![0xff, 7]);
    env.store().commit(batch).await.unwrap();
    for days in [40, 80] {
        env.now_us.store(days * 24 * 3_600_000_000, Ordering::Relaxed);
        job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
    }
    let snapshot = env.store().snapshot().await.unwrap();
    let kept = snapshot.get_many(&[head("damaged"), head("sound")]).await.unwrap();
    assert!(kept[0].is_some() && kept[1].is_none());
}

#[tokio::test]
async fn rule_13_a_tombstone_is_kept_while_the_log_holds_the_delete() {
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    env.append([record(0).create(), record(0).delete()]).await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    env.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    for _ in 0..2 {
        job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
    }
    assert!(env.blobs_are_deleted().await);
}

/// The lock is taken over while the sweep lists blobs: it deletes blobs of the dead run, but
/// records nothing.
#[tokio::test]
async fn rule_14_a_sweep_that_lost_its_lock_records_nothing() {
    let mut env = TestEnv::new().await;
    env.append([record(0).create(), record(0).delete()]).await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    env.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    let gate = GatedBlobs::closed(env.deps.blobs.clone());
    env.deps.blobs = gate.clone();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let job = Job::new("cleanup-tombstones", Project::default());
    let take_over = async {
        eventually("the sweep at its list", || async { gate.is_reached.load(Ordering::Relaxed) }).await;
        transact(env.store(), async |mut transaction: Transaction| {
            let taken = lock_take(&mut transaction, job, [9; 16], 1, 0).await?;
            assert!(taken.is_some(), "the job has another name");
            Ok::<_, Error>((transaction, ()))
        })
        .await
        .unwrap();
        gate.opened.add_permits(1_000);
    };
    let (swept, ()) = tokio::join!(job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs), take_over);
    assert!(matches!(swept, Err(Error::Busy("cleanup-tombstones"))), "the sweep must fail");
    assert!(!env.blobs_are_deleted().await);
    let held = lock_holder(&*env.store().snapshot().await.unwrap(), job).await.unwrap();
    assert_eq!(held.unwrap().owner, [9; 16], "the sweep must not release the lock of another owner");
}

/// For example a blob under an object lock of the bucket.
#[tokio::test]
async fn rule_15_a_blob_that_cannot_be_deleted_blocks_neither_other_blobs_nor_other_events() {
    let mut env = TestEnv::new().await;
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        env.put_blob(key).await;
    }
    for run in ["a", "b"] {
        let deleted = vec![record(0).run(run).create(), record(1).run(run).delete()];
        env.apply_with(&mut env.writer(run), deleted).await;
    }
    let deletes = AtomicU64::new(0);
    env.deps.blobs = Arc::new(FaultyBlobs::new(env.deps.blobs.clone(), move |call| match call {
        BlobCall::Delete if deletes.fetch_add(1, Ordering::Relaxed) == 0 => BlobFault::Lock,
        _ => BlobFault::None,
    }));
    let control = env.control().await;
    let gone = async |run: &str| {
        let snapshot = env.store().snapshot().await.unwrap();
        let run = RunId::new(run);
        let head = matyan_model::run::head_get(&*snapshot, P, &run).await.unwrap();
        matches!(head, Some(Head::Tombstone(tombstone)) if tombstone.blobs_deleted)
    };
    eventually("a mark that the blobs of the other run are deleted", || gone("b")).await;
    assert!(!gone("a").await, "one of its blobs still exists");
    assert_eq!((control.metrics.blobs.deleted.get(), control.metrics.blobs.failures.get()), (3, 1));
    assert_eq!(control.metrics.events.errors.with_label_values(&["blob_storage"]).get(), 1);
    control.stop().await;
    let left = env.blobs().list("", None).await.unwrap().blobs;
    assert_eq!(left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a/1"]);
    // The sweep deletes it once the object lock is removed.
    env.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    job_scheduler::sweep_tombstones(&env.deps, &Metrics::new(&Registry::new()).unwrap().blobs).await.unwrap();
    assert!(gone("a").await && !env.has_blob("a/1").await);
}

/// A blob that cannot be deleted blocks only the removal of its own tombstone.
#[tokio::test]
async fn rule_13_one_run_whose_blobs_remain_does_not_block_others() {
    let mut env = TestEnv::new().await;
    for run in ["a", "b", "c"] {
        let deleted = vec![record(0).run(run).create(), record(1).run(run).delete()];
        env.apply_with(&mut env.writer(run), deleted).await;
    }
    env.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    let calls = AtomicU64::new(0);
    env.deps.blobs = Arc::new(FaultyBlobs::new(env.deps.blobs.clone(), move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 { BlobFault::Refuse } else { BlobFault::None }
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await.unwrap();
    let snapshot = env.store().snapshot().await.unwrap();
    let page = matyan_model::run::tombstones_list(&*snapshot, P, &keys::tombstones(P)).await.unwrap();
    let gone: Vec<bool> = page.tombstones.iter().map(|(_, tombstone)| tombstone.blobs_deleted).collect();
    assert_eq!(gone, [false, true, true]);
}

#[tokio::test]
async fn stopping_does_not_wait_for_blobs() {
    let mut env = TestEnv::new().await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let gate = GatedBlobs::closed(env.deps.blobs.clone());
    env.deps.blobs = gate.clone();
    let control = env.control().await;
    eventually("the event at its list", || async { gate.is_reached.load(Ordering::Relaxed) }).await;
    super::ends("stopping", control.stop()).await;
    assert!(!env.blobs_are_deleted().await);
    // The event is handled after the next start.
    gate.opened.add_permits(1_000);
    let control = env.control().await;
    eventually("a mark that the blobs are deleted", || env.blobs_are_deleted()).await;
    control.stop().await;
}

#[tokio::test]
async fn only_blobs_of_the_run_that_an_event_names_are_deleted() {
    let env = TestEnv::new().await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    let Some(Head::Tombstone(tombstone)) = env.head().await else { panic!("there is no tombstone") };
    for key in ["r/a", "r2/a", "s/r/a"] {
        env.put_blob(key).await;
    }
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let deleted = |blob_keys: &[&str]| matyan_wire::control::DeletedRun {
        run_id: "r".into(),
        number: Some(tombstone.number.unwrap()),
        blob_keys: blob_keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let delete = async |project: &str, keys: &[&str]| {
        crate::control::delete_run(&env.deps, &metrics.blobs, project, &deleted(keys), &|| {}).await.unwrap();
    };
    delete("no number", &["r/a"]).await;
    delete(&"x".repeat(20_000), &["r/a"]).await;
    assert!(env.has_blob("r/a").await, "the project of the event is unknown");
    delete("", &["r/a", "r2/a", "s/r/a"]).await;
    assert!(!env.has_blob("r/a").await && env.has_blob("r2/a").await && env.has_blob("s/r/a").await);
}
