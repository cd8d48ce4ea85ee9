//! Tests of the jobs: what they sweep, what they leave, and that they write nothing after they
//! have lost their lock.

use std::time::Duration;

use matyan_maintenance::{Job, oldest_unapplied_us};

use super::*;
use crate::tests::harness::{Nameless, TestRecord};

const HOUR_US: i64 = 3_600_000_000;

fn received(mut record: TestRecord, received_us: i64) -> TestRecord {
    record.entry.received_us = received_us;
    record
}

/// The clock is far ahead when the record arrives; only what the log has delivered counts.
#[tokio::test]
async fn a_run_is_finished_when_it_is_silent_but_never_because_a_worker_lags() {
    let world = World::new().await;
    let day = Duration::from_secs(24 * 3_600);
    let active = async || {
        let mut active = Vec::new();
        for run in ["silent", "logs"] {
            let props = world.read_run(run).await.unwrap().props;
            if props.active {
                active.push(run);
            } else {
                assert_eq!(props.finalized_us, Some(30 * HOUR_US), "the time of its last data");
            }
        }
        active
    };
    let apply = async |records: Vec<TestRecord>, last: u64| {
        world.append(records).await;
        let worker = world.work().await;
        world.applied(0, last).await;
        worker.stop().await.unwrap();
    };
    let created = [("logs", 0), ("silent", 30)];
    let created = created.map(|(run, hours)| received(record(0).run(run).create(), hours * HOUR_US));
    apply(created.to_vec(), 1).await;
    world.now_us.store(100 * HOUR_US, Ordering::Relaxed);
    let logged = received(record(0).run("logs").line(0, "x"), 40 * HOUR_US);
    world.append([logged]).await;
    jobs::end_stale(&world.deps, day).await.unwrap();
    assert_eq!(active().await, ["silent", "logs"], "unapplied records may belong to either");
    apply(Vec::new(), 2).await;
    world.now_us.store(54 * HOUR_US, Ordering::Relaxed);
    jobs::end_stale(&world.deps, day).await.unwrap();
    assert_eq!(active().await, ["silent", "logs"], "the day has not passed yet");
    world.now_us.store(54 * HOUR_US + 1, Ordering::Relaxed);
    jobs::end_stale(&world.deps, day).await.unwrap();
    assert_eq!(active().await, ["logs"]);
}

/// A writer that has cached the run, and does not know that it was finished, notices; repeated
/// records have no effect.
#[tokio::test]
async fn new_data_resumes_a_run_that_was_given_up() {
    let world = World::new().await;
    let mut writer = world.writer("r");
    let give_up = async || {
        world.now_us.fetch_add(100 * HOUR_US, Ordering::Relaxed);
        jobs::end_stale(&world.deps, Duration::from_secs(24 * 3_600)).await.unwrap();
    };
    let props = async || world.read_run("r").await.unwrap().props;
    world.apply_with(&mut writer, vec![record(0).create(), record(1).sent(1, 1, 0).line(0, "x")]).await;
    give_up().await;
    assert_eq!((props().await.active, props().await.finalized_us), (false, Some(1_000_000)));
    let again = world.apply_with(&mut writer, vec![record(2).sent(1, 1, 0).line(0, "x")]).await;
    assert_eq!((again.conflicts, again.skipped_records, props().await.active), (1, 1, false));
    // Like a frame whose items were all rejected.
    world.apply_with(&mut writer, vec![record(3)]).await;
    assert!(!props().await.active, "the record had no items");
    let more = world.apply_with(&mut writer, vec![record(4).sent(1, 2, 0).line(1, "y")]).await;
    assert_eq!((more.conflicts, props().await.active, props().await.finalized_us), (0, true, None));
    // With a new writer, with points, and with a regular finish.
    give_up().await;
    assert!(!props().await.active);
    world.apply(vec![record(5).define(0, &["loss"]).points(0, &[(None, 1.0)])]).await;
    assert!(props().await.active);
    give_up().await;
    world
        .apply(vec![record(6).event(Kind::FinishRun(pb::FinishRun::default())), record(7).line(2, "z")])
        .await;
    assert_eq!((props().await.active, props().await.finalized_us), (false, Some(6_000_000)));
}

/// A run whose values cannot be read keeps its blobs; other runs are swept.
#[tokio::test]
async fn rule_16_an_unreadable_run_does_not_block_others() {
    let mut world = World::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let large = "x".repeat(100_000);
    for run in ["a", "b", "c"] {
        world.append([record(0).run(run).create().object("o", None, &large)]).await;
        world.put_blob(&format!("{run}/orphan")).await;
    }
    let worker = world.work().await;
    world.applied(0, 2).await;
    worker.stop().await.unwrap();
    world.now_us.store(1_000_000_000 + 8 * 24 * HOUR_US, Ordering::Relaxed);
    let inner = world.deps.blobs.clone();
    let faulty = |call: Call| {
        let calls = AtomicU64::new(0);
        Arc::new(Faulty::new(inner.clone(), move |made| {
            let is_first = made == call && calls.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { BlobFault::Refuse } else { BlobFault::None }
        }))
    };
    let left = async || {
        let listed = inner.list("", None).await.unwrap().blobs;
        listed.iter().filter(|(key, _)| key.as_str().ends_with("orphan")).count()
    };
    // The first of three runs fails, so only its blob remains; then the same with other
    // calls.
    for (call, remain) in [(Call::Read, 1), (Call::List, 1), (Call::Describe, 1), (Call::Delete, 1)] {
        world.deps.blobs = faulty(call);
        jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
        assert_eq!(left().await, remain, "{call:?}");
    }
    assert_eq!(metrics.blob_failures.get(), 3, "an unreadable object is not a failure of the bucket");
    world.deps.blobs = inner.clone();
    jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
    assert_eq!(left().await, 0);
}

/// Any number of them, for example if old objects are in a storage class that cannot be read
/// directly.
#[tokio::test]
async fn rule_16_unreadable_runs_do_not_end_the_round() {
    let mut world = World::new().await;
    let (bad, large) = (jobs::IN_A_ROW + 1, "x".repeat(100_000));
    let unreadable = (0..bad).map(|at| record(0).run(&format!("bad{at}")).create().object("o", None, &large));
    let sweepable = |run| record(0).run(run).create();
    world.append([sweepable("first")]).await;
    world.append(unreadable).await;
    world.append([sweepable("last")]).await;
    let worker = world.work().await;
    world.applied(0, u64::from(bad) + 1).await;
    worker.stop().await.unwrap();
    for run in (0..bad).map(|at| format!("bad{at}")).chain(["first".into(), "last".into()]) {
        world.put_blob(&format!("{run}/orphan")).await;
    }
    world.now_us.store(1_000_000_000 + 8 * 24 * HOUR_US, Ordering::Relaxed);
    let inner = world.deps.blobs.clone();
    world.deps.blobs = Arc::new(Faulty::new(inner, |call| match call {
        Call::Read => BlobFault::Refuse,
        _ => BlobFault::None,
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
    for (run, is_kept) in [("first", false), ("bad0", true), ("last", false)] {
        assert_eq!(world.has_blob(&format!("{run}/orphan")).await, is_kept, "{run}");
    }
}

/// While the bucket is unavailable, the round fails after several runs and checks no more of
/// them.
#[tokio::test]
async fn rule_16_a_round_fails_if_the_bucket_is_unavailable() {
    let mut world = World::new().await;
    for run in 0..2 * jobs::IN_A_ROW {
        world.append([record(0).run(&format!("r{run}")).create()]).await;
    }
    let worker = world.work().await;
    world.applied(0, u64::from(2 * jobs::IN_A_ROW) - 1).await;
    worker.stop().await.unwrap();
    let lists = Arc::new(AtomicU64::new(0));
    let counted = lists.clone();
    world.deps.blobs = Arc::new(Faulty::new(world.deps.blobs.clone(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        BlobFault::Refuse
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap_err();
    assert_eq!(lists.load(Ordering::Relaxed), u64::from(jobs::IN_A_ROW));
}

/// The lock of a long sweep is not taken over, and a process that fails to get it has not done
/// the job.
#[tokio::test]
async fn rule_14_a_sweep_renews_its_lock() {
    let mut world = World::new().await;
    for run in ["a", "b", "c"] {
        let deleted = vec![record(0).run(run).create(), record(1).run(run).delete()];
        world.apply_with(&mut world.writer(run), deleted).await;
    }
    let now_us = world.now_us.clone();
    now_us.store(100 * 24 * HOUR_US, Ordering::Relaxed);
    let gate = Gate::closed(world.deps.blobs.clone());
    gate.opened.add_permits(1);
    let (slow, lists) = (gate.clone(), AtomicU64::new(0));
    // Each directory takes four minutes, and the last one blocks.
    world.deps.blobs = Arc::new(Faulty::new(gate.clone(), move |call| {
        if call == Call::List {
            now_us.fetch_add(240_000_000, Ordering::Relaxed);
            if lists.fetch_add(1, Ordering::Relaxed) == 2 {
                slow.opened.forget_permits(1);
            }
        }
        BlobFault::None
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let besides = async {
        eventually("the last directory", async || gate.opened.available_permits() == 0).await;
        let taken = Job::begin(world.store(), &*world.deps.clock, "cleanup-tombstones", [9; 16]).await;
        assert!(matches!(taken, Err(matyan_maintenance::Error::Busy { .. })));
        let round = jobs::sweep_tombstones(&world.deps, &metrics).await;
        assert!(matches!(round, Err(Error::Busy("cleanup-tombstones"))));
        gate.opened.add_permits(1);
    };
    let (swept, ()) = tokio::join!(jobs::sweep_tombstones(&world.deps, &metrics), besides);
    swept.unwrap();
    let jobs = matyan_model::lock::jobs_list(&*world.store().snapshot().await.unwrap()).await.unwrap();
    let job = jobs["cleanup-tombstones"];
    assert!(job.held.is_none() && job.last_success_us.is_some());
}

/// A recreated topic that no worker has seen yet holds less than was applied of the old one.
#[tokio::test]
async fn rule_16_nothing_is_known_about_a_recreated_log() {
    let mut world = World::new().await;
    world.append((0..3).map(|_| record(0).create())).await;
    let worker = world.work().await;
    world.applied(0, 2).await;
    worker.stop().await.unwrap();
    assert_eq!(oldest_unapplied_us(world.store(), &*world.log).await.unwrap(), i64::MAX);
    world.replace_log(1).await;
    world.append([record(0).create()]).await;
    assert_eq!(oldest_unapplied_us(world.store(), &Nameless(world.log.clone())).await.unwrap(), i64::MIN);
    assert_eq!(oldest_unapplied_us(world.store(), &*world.log).await.unwrap(), i64::MIN);
}

/// Marks of producers in a quiet partition are swept as well, and return with the producer.
#[tokio::test]
async fn producers_of_a_quiet_log_are_swept_and_listed_again() {
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
    assert!(marks().await, "it has not been silent for long");
    // An unapplied record may belong to this producer.
    world.now_us.store(4 * hour, Ordering::Relaxed);
    world.append([batch(1, hour)]).await;
    jobs::sweep_producers(&world.deps).await.unwrap();
    assert!(marks().await, "the log is not fully applied");
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
    assert!(!marks().await, "the returned producer was not listed for the sweep");
}

/// A writer that has cached the run does not rely on rows that the sweep has removed.
#[tokio::test]
async fn a_swept_dictionary_is_not_continued_from_the_cache() {
    let world = World::new().await;
    let month = 31 * 24 * HOUR_US;
    let batch = |sequence: u64, received_us: i64| {
        let mut sent = received(record(sequence - 1).sent(1, sequence, sequence - 1), received_us);
        sent.entry.ephemeral_producer = true;
        sent
    };
    let mut writer = world.writer("r");
    world.apply_with(&mut writer, vec![batch(1, HOUR_US).define(0, &["a"]).points(0, &[(None, 1.0)])]).await;
    world.now_us.store(HOUR_US + month, Ordering::Relaxed);
    jobs::sweep_producers(&world.deps).await.unwrap();
    jobs::sweep_producers(&world.deps).await.unwrap();
    let late = batch(2, HOUR_US + month).define(1, &["b"]).points(1, &[(None, 2.0)]);
    world.apply_with(&mut writer, vec![late]).await;
    // A writer with an empty cache can continue.
    let next = batch(3, HOUR_US + month).points(0, &[(None, 3.0)]);
    crate::tests::ends("it is applied", world.apply(vec![next])).await;
}

/// A lagging worker may find both sides of a long silence in one delivery.
#[tokio::test]
async fn a_dictionary_is_continued_after_a_silence_within_one_delivery() {
    let world = World::new().await;
    let month = 31 * 24 * HOUR_US;
    let before = received(record(0).sent(1, 1, 0).define(0, &["a"]).points(0, &[(None, 1.0)]), HOUR_US);
    let behind =
        record(1).sent(1, 2, 1).define(1, &["b"]).points(0, &[(None, 2.0)]).points(1, &[(None, 3.0)]);
    world.apply(vec![before, received(behind, HOUR_US + month)]).await;
    assert!(world.parked().await.is_empty());
    let lengths =
        world.read().await.unwrap().metrics.iter().map(|(_, points)| points.steps.len()).collect::<Vec<_>>();
    assert_eq!(lengths, [2, 1]);
}

#[tokio::test]
async fn rule_14_a_job_that_lost_its_lock_cannot_write() {
    use matyan_model::lock::{lock_check, lock_release};
    let world = World::new().await;
    let take = async |owner: u8, now_us: i64, stale_after_us: u64| {
        let step = async |mut transaction: Transaction| {
            let lock = lock_take(&mut transaction, "job", [owner; 16], now_us, stale_after_us).await?;
            Ok::<_, Error>((transaction, lock))
        };
        transact(world.store(), step).await.unwrap().0
    };
    let first = take(1, 10, 0).await.unwrap();
    assert!(take(2, 11, 2).await.is_none(), "it is not stale");
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
    let ahead = take(3, 1_000, 10).await.unwrap();
    assert!(take(4, 21, 10).await.is_some(), "the holder's clock was far ahead");
    assert_eq!(commit(&ahead, false).await, matyan_store::Commit::Conflict);
}

#[tokio::test]
async fn rule_16_only_orphaned_blobs_are_deleted() {
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
    assert_eq!(left().await.len(), 4, "all of them are too young");
    // An unapplied record may hold a reference: it is younger than the last applied one.
    world.now_us.store(1_000_000_000 + 8 * 24 * 3_600_000_000, Ordering::Relaxed);
    world.append([record(0).event(blob_ref("orphan"))]).await;
    sweep().await;
    assert_eq!(left().await.len(), 4, "the log is not fully applied");
    let worker = world.work().await;
    world.applied(0, 1).await;
    worker.stop().await.unwrap();
    sweep().await;
    assert_eq!(left().await.len(), 4, "the blob is referenced now");
    world.put_blob("r/second orphan").await;
    world.now_us.store(1_000_000_000 + 20 * 24 * 3_600_000_000, Ordering::Relaxed);
    sweep().await;
    assert_eq!(left().await, ["r/artifact", "r/image.png", "r/orphan", "stranger/orphan"]);
    let objects = &world.read().await.unwrap().objects[0].1;
    world.value(&objects[1]).await;

    // A missing value may have held a reference, so nothing of the run is swept.
    let listing = world.blobs().list("r/.matyan/", None).await.unwrap();
    let payloads: Vec<_> = listing.blobs.into_iter().map(|(key, _)| key).collect();
    assert!(!payloads.is_empty() && world.blobs().delete(&payloads).await.unwrap().is_empty());
    world.put_blob("r/third orphan").await;
    world.now_us.store(1_000_000_000 + 40 * 24 * 3_600_000_000, Ordering::Relaxed);
    sweep().await;
    assert!(world.has_blob("r/third orphan").await);
}

/// The references of an unreadable value are unknown.
#[tokio::test]
async fn rule_16_a_run_with_an_unreadable_value_keeps_its_blobs() {
    let world = World::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    world.append([record(0).create().object("o", None, &"x".repeat(100_000))]).await;
    let worker = world.work().await;
    world.applied(0, 0).await;
    worker.stop().await.unwrap();
    let listing = world.blobs().list("", None).await.unwrap();
    let [(moved, _)] = &listing.blobs[..] else { panic!("{listing:?}") };
    // Overwrite the payload with something else.
    world.put_blob(moved.as_str()).await;
    world.put_blob("r/orphan").await;
    world.now_us.store(1_000_000_000 + 8 * 24 * 3_600_000_000, Ordering::Relaxed);
    jobs::sweep_orphans(&world.deps, &metrics, &CancellationToken::new()).await.unwrap();
    assert!(world.has_blob("r/orphan").await);
}

/// The same run id in two projects, each with an artifact, a large payload, and blobs without a
/// reference in that project.
#[tokio::test]
async fn rule_37_sweeps_and_deletes_do_not_cross_projects() {
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
    assert!(world.read().await.is_some(), "the run of the default project is live");
}
