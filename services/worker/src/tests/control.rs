//! The control worker and the jobs: events out of the outbox, blobs of deleted runs, sweeps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use matyan_blob::{
    BlobKey,
    layers::{Fault as BlobFault, Faulty},
};
use matyan_log::Topic;
use matyan_model::{
    entity::{Tag, entity_delete, entity_find, runs_counts},
    events::events_list,
    ids::RunId,
    keys::{self, Counter, EntityKind},
    lock::{lock_held, lock_take},
    project::project_count,
    run::{Clearing, Head, tombstone_clear},
};
use matyan_proto::ingest::v1::{self as pb, event::Kind};
use matyan_store::{Transaction, transact};
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    eventually,
    harness::{P, World, record},
    ingest::Gate,
};
use crate::{Control, Error, Metrics, jobs};

struct Controlling {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    metrics: Metrics,
}

impl World {
    async fn control(&self) -> Controlling {
        let (stop, metrics) = (CancellationToken::new(), Metrics::new(&Registry::new()).unwrap());
        let control = Control::new(self.deps.clone(), metrics.clone()).await.unwrap();
        let task = tokio::spawn(control.run(stop.clone()));
        Controlling { stop, task, metrics }
    }

    async fn put_blob(&self, key: &str) {
        let content = futures::future::ready(Ok(Bytes::from_static(b"content"))).into_stream().boxed();
        self.blobs().put(&BlobKey::new(key).unwrap(), "", None, content).await.unwrap();
    }

    async fn has_blob(&self, key: &str) -> bool {
        self.blobs().describe(&BlobKey::new(key).unwrap()).await.unwrap().is_some()
    }

    async fn blobs_are_gone(&self) -> bool {
        matches!(self.head().await, Some(Head::Tombstone(tombstone)) if tombstone.blobs_gone)
    }

    async fn clear(&self) -> Clearing {
        let id = RunId::new("r");
        let clear = async |mut transaction: Transaction| {
            let clearing = tombstone_clear(&mut transaction, P, &id).await?;
            Ok::<_, Error>((transaction, clearing))
        };
        transact(self.store(), clear).await.unwrap().0
    }
}

impl Controlling {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn rule_15_the_blobs_of_a_deleted_run_go_and_no_others() {
    let world = World::new().await;
    let gone: Vec<String> = (0..30).map(|at| format!("r/seq/image {at}.png")).collect();
    for key in gone.iter().map(String::as_str).chain(["r2/a", "q/r/a"]) {
        world.put_blob(key).await;
    }
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    assert_eq!(world.clear().await, Clearing::Waiting, "rule 12: its blobs are still there");
    let control = world.control().await;
    eventually("a mark that the blobs are gone", || world.blobs_are_gone()).await;
    for key in &gone {
        assert!(!world.has_blob(key).await, "{key}");
    }
    assert!(world.has_blob("r2/a").await && world.has_blob("q/r/a").await);
    assert_eq!(control.metrics.blobs_deleted.get(), 30);
    let outbox = events_list(&*world.store().snapshot().await.unwrap(), 9).await.unwrap();
    assert!(outbox.is_empty());
    control.stop().await;
    assert_eq!(world.clear().await, Clearing::Free);
    assert_eq!(world.head().await, None);
}

#[tokio::test]
async fn rule_15_a_late_event_does_not_touch_a_run_made_anew() {
    let world = World::new().await;
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = world.control().await;
    eventually("a mark that the blobs are gone", || world.blobs_are_gone()).await;
    control.stop().await;
    // The topic is read again from its beginning, when the run lives once more.
    assert_eq!(world.clear().await, Clearing::Free);
    world.apply(vec![record(2).create()]).await;
    world.put_blob("r/new").await;
    let mut batch = matyan_store::Batch::default();
    batch.clear(keys::applied(keys::LogTopic::Control, 0)).clear(keys::log(keys::LogTopic::Control));
    world.store().commit(batch).await.unwrap();
    let deleted =
        matyan_proto::log::v1::RunDeleted { run_id: "r".into(), run_number: 0, blob_keys: Vec::new() };
    let late = matyan_proto::log::v1::ControlEvent {
        kind: Some(matyan_proto::log::v1::control_event::Kind::RunDeleted(deleted)),
        ..Default::default()
    };
    let late = matyan_log::NewRecord {
        key: Bytes::new(),
        value: prost::Message::encode_to_vec(&late).into(),
        headers: Vec::new(),
    };
    matyan_log::LogWriter::append(&*world.log, Topic::Control, vec![late]).await.unwrap();
    let control = world.control().await;
    let consumed = control.metrics.events_consumed.clone();
    eventually("the late event", || async { consumed.get() > 0 }).await;
    control.stop().await;
    assert!(world.has_blob("r/new").await);
}

#[tokio::test]
async fn rule_15_an_event_waits_in_the_outbox_until_the_blobs_can_be_deleted() {
    let mut world = World::new().await;
    let is_broken = Arc::new(AtomicBool::new(true));
    let plan = is_broken.clone();
    let faulty = Faulty::new(world.deps.blobs.clone(), move |_| {
        if plan.load(Ordering::Relaxed) { BlobFault::Refuse } else { BlobFault::None }
    });
    world.put_blob("r/a").await;
    world.deps.blobs = Arc::new(faulty);
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    let control = world.control().await;
    let errors = control.metrics.event_errors.with_label_values(&["blob_storage"]);
    eventually("a failed attempt", || async { errors.get() > 0 }).await;
    assert!(!world.blobs_are_gone().await);
    is_broken.store(false, Ordering::Relaxed);
    eventually("a mark that the blobs are gone", || world.blobs_are_gone()).await;
    assert!(!world.has_blob("r/a").await);
    control.stop().await;
}

#[tokio::test]
async fn rule_11_the_rows_of_a_dead_run_are_swept_and_no_others() {
    let world = World::new().await;
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
    world.apply_with(&mut world.writer("keep"), vec![keep]).await;
    world.apply(vec![large]).await;
    let dead = world.read().await.unwrap().number;
    world.apply(vec![record(2).delete()]).await;
    jobs::sweep_runs(&world.deps, &CancellationToken::new()).await.unwrap();

    let snapshot = world.store().snapshot().await.unwrap();
    let rows = snapshot.scan(&keys::run_rows(P, dead), Default::default()).await.unwrap().rows;
    assert!(rows.is_empty(), "{} rows are left", rows.len());
    for kind in [keys::SeriesKind::Metric, keys::SeriesKind::Object] {
        let left = snapshot.scan(&keys::index_series_names(P, kind), Default::default()).await.unwrap().rows;
        assert_eq!(left.len(), usize::from(kind == keys::SeriesKind::Metric), "{kind:?}");
    }
    assert!(snapshot.get(&keys::dead_run(P, dead)).await.unwrap().is_none());
    assert_eq!(project_count(&*snapshot, P, Counter::Series).await.unwrap(), 1);
    assert_eq!(project_count(&*snapshot, P, Counter::Points).await.unwrap(), 1);
    assert_eq!(world.read_run("keep").await.unwrap().metrics.len(), 1);
    assert!(snapshot.get(&keys::number(P, dead)).await.unwrap().is_some(), "a number is never given twice");
}

#[tokio::test]
async fn rule_26_links_of_a_deleted_tag_are_swept() {
    let world = World::new().await;
    for run in ["a", "b", "c"] {
        let record = record(0).run(run).create().tag("t").tag("u");
        world.apply_with(&mut world.writer(run), vec![record]).await;
    }
    let id = entity_find(&*world.store().snapshot().await.unwrap(), P, EntityKind::Tag, "t")
        .await
        .unwrap()
        .unwrap();
    transact(world.store(), async |mut transaction: Transaction| {
        entity_delete::<Tag>(&mut transaction, P, &id).await.unwrap();
        Ok::<_, Error>((transaction, ()))
    })
    .await
    .unwrap();
    jobs::sweep_entities(&world.deps, &CancellationToken::new()).await.unwrap();
    for run in ["a", "b", "c"] {
        let props = world.read_run(run).await.unwrap().props;
        assert_eq!(world.tags(&props).await, [("u".to_owned(), 3)]);
    }
    let snapshot = world.store().snapshot().await.unwrap();
    assert_eq!(runs_counts(&*snapshot, P, EntityKind::Tag).await.unwrap().len(), 1);
    assert!(snapshot.get(&keys::dead_entity(P, EntityKind::Tag, &id)).await.unwrap().is_none());
    let (changes, _) = matyan_model::change::changes_list(&*snapshot, P, None, 100).await.unwrap();
    assert_eq!(changes.len(), 6, "watchers are told of each run, when it was made and when it lost the tag");
}

#[tokio::test]
async fn rule_13_a_tombstone_stays_until_nothing_can_bring_the_run_back() {
    let world = World::new().await;
    let day = 24 * 3_600_000_000;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let sweep = async || jobs::sweep_tombstones(&world.deps, &metrics).await.unwrap();
    world.append([record(0).create(), record(0).delete()]).await;
    let worker = world.work().await;
    world.applied(0, 1).await;
    worker.stop().await.unwrap();
    // Old enough, passed by the log, but nobody has deleted its blobs: that is done now, and the tombstone stays.
    world.put_blob("r/a").await;
    world.now_us.store(40 * day, Ordering::Relaxed);
    sweep().await;
    assert!(world.blobs_are_gone().await && !world.has_blob("r/a").await);
    world.now_us.store(29 * day, Ordering::Relaxed);
    sweep().await;
    assert!(world.head().await.is_some(), "it is younger than the longest spool");
    world.now_us.store(31 * day, Ordering::Relaxed);
    sweep().await;
    assert_eq!(world.head().await, None);
}

#[tokio::test]
async fn rule_13_a_tombstone_stays_while_the_log_holds_the_delete() {
    let world = World::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    world.append([record(0).create(), record(0).delete()]).await;
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    world.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    for _ in 0..2 {
        jobs::sweep_tombstones(&world.deps, &metrics).await.unwrap();
    }
    assert!(world.blobs_are_gone().await);
}

/// The lock is taken over while the sweep lists blobs: it deletes what is dead, and notes nothing.
#[tokio::test]
async fn rule_14_a_sweep_that_lost_its_lock_notes_nothing() {
    let mut world = World::new().await;
    world.append([record(0).create(), record(0).delete()]).await;
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    world.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    let gate = Gate::closed(world.deps.blobs.clone());
    world.deps.blobs = gate.clone();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let take_over = async {
        eventually("the sweep at its list", || async { gate.is_reached.load(Ordering::Relaxed) }).await;
        transact(world.store(), async |mut transaction: Transaction| {
            let taken = lock_take(&mut transaction, "cleanup-tombstones", [9; 16], 1, i64::MAX).await?;
            assert!(taken.is_some(), "the job is called otherwise");
            Ok::<_, Error>((transaction, ()))
        })
        .await
        .unwrap();
        gate.opened.add_permits(1_000);
    };
    let (swept, ()) = tokio::join!(jobs::sweep_tombstones(&world.deps, &metrics), take_over);
    swept.unwrap();
    assert!(!world.blobs_are_gone().await);
    let held = lock_held(&*world.store().snapshot().await.unwrap(), "cleanup-tombstones").await.unwrap();
    assert_eq!(held.unwrap().owner, [9; 16], "it is not the sweep's to release");
}

/// A blob that cannot be deleted keeps its own tombstone alone.
#[tokio::test]
async fn rule_13_one_run_whose_blobs_stay_holds_up_no_other() {
    let mut world = World::new().await;
    for run in ["a", "b", "c"] {
        let deleted = vec![record(0).run(run).create(), record(1).run(run).delete()];
        world.apply_with(&mut world.writer(run), deleted).await;
    }
    world.now_us.store(100 * 24 * 3_600_000_000, Ordering::Relaxed);
    let calls = AtomicU64::new(0);
    world.deps.blobs = Arc::new(Faulty::new(world.deps.blobs.clone(), move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 { BlobFault::Refuse } else { BlobFault::None }
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    jobs::sweep_tombstones(&world.deps, &metrics).await.unwrap();
    let snapshot = world.store().snapshot().await.unwrap();
    let (tombstones, _) =
        matyan_model::run::tombstones_list(&*snapshot, P, &keys::tombstones(P)).await.unwrap();
    let gone: Vec<bool> = tombstones.iter().map(|(_, tombstone)| tombstone.blobs_gone).collect();
    assert_eq!(gone, [false, true, true]);
}

#[tokio::test]
async fn stopping_does_not_wait_for_blobs() {
    let mut world = World::new().await;
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    let gate = Gate::closed(world.deps.blobs.clone());
    world.deps.blobs = gate.clone();
    let control = world.control().await;
    eventually("the event at its list", || async { gate.is_reached.load(Ordering::Relaxed) }).await;
    super::ends("stopping", control.stop()).await;
    assert!(!world.blobs_are_gone().await);
    // It comes again after the next start.
    gate.opened.add_permits(1_000);
    let control = world.control().await;
    eventually("a mark that the blobs are gone", || world.blobs_are_gone()).await;
    control.stop().await;
}

#[tokio::test]
async fn an_event_names_blobs_of_its_own_run_alone() {
    let world = World::new().await;
    world.apply(vec![record(0).create(), record(1).delete()]).await;
    let Some(Head::Tombstone(tombstone)) = world.head().await else { panic!("there is no tombstone") };
    for key in ["r/a", "r2/a", "s/r/a"] {
        world.put_blob(key).await;
    }
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let deleted = |blob_keys: &[&str]| matyan_proto::log::v1::RunDeleted {
        run_id: "r".into(),
        run_number: tombstone.number.unwrap(),
        blob_keys: blob_keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let delete = async |project: &str, keys: &[&str]| {
        crate::control::delete_run(&world.deps, &metrics, project, &deleted(keys)).await.unwrap();
    };
    delete("no number", &["r/a"]).await;
    assert!(world.has_blob("r/a").await, "nobody knows of which project it was");
    delete("", &["r/a", "r2/a", "s/r/a"]).await;
    assert!(!world.has_blob("r/a").await && world.has_blob("r2/a").await && world.has_blob("s/r/a").await);
}

/// Marks of producers whose partition has been quiet go as well, and come back when the producer does.
#[tokio::test]
async fn producers_of_a_quiet_log_are_swept_and_listed_anew() {
    let world = World::new().await;
    let hour = 3_600_000_000;
    let batch = |sequence: u64, received_us: i64| {
        let mut sent = record(sequence - 1).sent(1, sequence, 0).line(0, "x");
        (sent.entry.ephemeral_producer, sent.entry.received_us) = (true, received_us);
        sent
    };
    let marks = async || {
        let key = keys::mark(P, &RunId::new("r"), matyan_model::ids::ProducerId([1; 16]));
        world.store().snapshot().await.unwrap().get(&key).await.unwrap().is_some()
    };
    let mut writer = world.writer("r");
    world.apply_with(&mut writer, vec![batch(1, hour)]).await;
    world.now_us.store(hour + hour / 2, Ordering::Relaxed);
    jobs::sweep_producers(&world.deps).await.unwrap();
    assert!(marks().await, "it is not silent for long");
    // A record waits to be applied, which may be this producer's.
    world.now_us.store(4 * hour, Ordering::Relaxed);
    world.append([batch(1, hour)]).await;
    jobs::sweep_producers(&world.deps).await.unwrap();
    assert!(marks().await, "the log is not applied");
    let worker = world.work().await;
    world.applied(0, 0).await;
    worker.stop().await.unwrap();
    jobs::sweep_producers(&world.deps).await.unwrap();
    assert!(!marks().await);
    // The writer's cache still has the producer.
    world.apply_with(&mut writer, vec![batch(2, 4 * hour)]).await;
    assert!(marks().await);
    world.now_us.store(6 * hour, Ordering::Relaxed);
    jobs::sweep_producers(&world.deps).await.unwrap();
    assert!(!marks().await, "nobody told the sweep of it");
}

#[tokio::test]
async fn rule_14_a_job_that_lost_its_lock_cannot_write() {
    use matyan_model::lock::{lock_check, lock_release};
    let world = World::new().await;
    let take = async |owner: u8, now_us: i64, stale_us: i64| {
        let step = async |mut transaction: Transaction| {
            let lock = lock_take(&mut transaction, "job", [owner; 16], now_us, stale_us).await?;
            Ok::<_, Error>((transaction, lock))
        };
        transact(world.store(), step).await.unwrap().0
    };
    let first = take(1, 10, 0).await.unwrap();
    assert!(take(2, 11, 9).await.is_none(), "it is not stale");
    let second = take(2, 20, 10).await.unwrap();
    let commit = async |lock: &_, release: bool| {
        let mut batch = matyan_store::Batch::default();
        if release {
            lock_release(&mut batch, lock)
        } else {
            lock_check(&mut batch, lock)
        }
        batch.set(keys::project_info(P), Vec::new());
        world.store().commit(batch).await.unwrap()
    };
    assert_eq!(commit(&first, false).await, matyan_store::Commit::Conflict);
    assert_eq!(commit(&first, true).await, matyan_store::Commit::Conflict);
    assert_ne!(commit(&second, true).await, matyan_store::Commit::Conflict);
    assert!(take(3, 21, 10).await.is_some());
}

#[tokio::test]
async fn rule_16_blobs_that_nothing_refers_to_go_and_no_others() {
    let world = World::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let blob_ref = |path: &str| {
        let (key, path) = (format!("r/{path}"), path.to_owned());
        Kind::BlobRef(pb::BlobRef { key, path, ..pb::BlobRef::default() })
    };
    let large = format!("{}{}", "x".repeat(100_000), "end");
    let known =
        record(0).event(blob_ref("artifact")).object("o", None, "r/image.png").object("o", None, &large);
    world.append([known.clone()]).await;
    let worker = world.work().await;
    world.applied(0, 0).await;
    worker.stop().await.unwrap();
    for key in ["r/artifact", "r/image.png", "r/orphan", "stranger/orphan"] {
        world.put_blob(key).await;
    }
    let left = async || {
        let listing = world.blobs().list("", None).await.unwrap();
        listing
            .blobs
            .into_iter()
            .map(|(key, _)| key.to_string())
            .filter(|key| !key.contains("/.matyan/"))
            .collect::<Vec<_>>()
    };
    let sweep = async || jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
    sweep().await;
    assert_eq!(left().await.len(), 4, "all of them are young");
    // A reference may be in a record that is not applied: it is younger than the last one that is.
    world.now_us.store(1_000_000_000 + 8 * 24 * 3_600_000_000, Ordering::Relaxed);
    world.append([record(0).event(blob_ref("orphan"))]).await;
    sweep().await;
    assert_eq!(left().await.len(), 4, "the log is not applied");
    let worker = world.work().await;
    world.applied(0, 1).await;
    worker.stop().await.unwrap();
    sweep().await;
    assert_eq!(left().await.len(), 4, "it was referred to");
    world.put_blob("r/second orphan").await;
    world.now_us.store(1_000_000_000 + 20 * 24 * 3_600_000_000, Ordering::Relaxed);
    sweep().await;
    assert_eq!(left().await, ["r/artifact", "r/image.png", "r/orphan", "stranger/orphan"]);
    let objects = &world.read().await.unwrap().objects[0].1;
    world.value(&objects[1]).await;
}

/// One run id in two projects. Each has an artifact, a payload that was moved aside, and blobs that it does not refer to.
#[tokio::test]
async fn rule_37_sweeps_and_deletes_stay_in_their_project() {
    let world = World::new().await;
    let mut batch = matyan_store::Batch::default();
    batch.set(keys::project_by_name("other"), vec![1, 7]);
    world.store().commit(batch).await.unwrap();
    let large = "x".repeat(300_000);
    let logged = |project: &str, offset: u64, paths: &[&str]| {
        let mut logged = record(offset).object("o", None, &large);
        for path in paths {
            let (key, path) = (format!("r/{path}"), (*path).to_owned());
            logged = logged.event(Kind::BlobRef(pb::BlobRef { key, path, ..pb::BlobRef::default() }));
        }
        logged.entry.project = project.to_owned();
        logged
    };
    let place = |project: &str, path: &str| {
        BlobKey::in_project(project, &format!("r/{path}")).unwrap().as_str().to_owned()
    };
    let payload = {
        let value = [("data".to_owned(), matyan_model::value::Value::Text(large.clone()))].into();
        format!(".matyan/{}", blake3::hash(&matyan_model::cbor::encode_map(&value)).to_hex())
    };
    for project in ["", "other"] {
        for path in ["artifact", "only the default refers to it", "orphan"] {
            world.put_blob(&place(project, path)).await;
        }
    }
    world
        .append([
            logged("", 0, &["artifact", "only the default refers to it"]),
            logged("other", 1, &["artifact"]),
        ])
        .await;
    let worker = world.work().await;
    world.applied(0, 1).await;

    world.now_us.store(1_000_000_000 + 20 * 24 * 3_600_000_000, Ordering::Relaxed);
    let metrics = Metrics::new(&Registry::new()).unwrap();
    jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
    let left = async || {
        let listing = world.blobs().list("", None).await.unwrap();
        listing.blobs.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    let of_default = [place("", &payload), place("", "artifact"), place("", "only the default refers to it")];
    let of_other = [place("other", &payload), place("other", "artifact")];
    assert_eq!(left().await, [&of_other[..], &of_default].concat());

    let mut delete = record(2).delete();
    delete.entry.project = "other".to_owned();
    world.append([delete]).await;
    let control = world.control().await;
    eventually("the end of the other project's blobs", async || left().await == of_default).await;
    control.stop().await;
    worker.stop().await.unwrap();
    assert!(world.read().await.is_some(), "the run of the default project lives");
}
