//! Tests of the jobs: what they sweep, what they keep, and that they write nothing after they
//! have lost their lock.

use std::time::Duration;

use matyan_maintenance::{JobLock, oldest_unapplied_us};

use super::*;
use crate::{job_scheduler::JobScheduler, tests::harness::TestRecord};

fn received(mut record: TestRecord, received_us: i64) -> TestRecord {
    record.entry.received_us = received_us;
    record
}

/// The clock is far ahead when the record arrives; only records that the log has delivered count.
#[tokio::test]
async fn a_run_is_finished_when_it_is_silent_but_never_because_a_worker_lags() {
    let env = TestEnv::new().await;
    let day = Duration::from_secs(24 * 3_600);
    let active = async || {
        let mut active = Vec::new();
        for run in ["silent", "logs"] {
            let props = env.read_run(run).await.unwrap().props;
            if props.active {
                active.push(run);
            } else {
                assert_eq!(props.finalized_us, Some(30 * HOUR_US), "the time of its last data");
            }
        }
        active
    };
    let apply = async |records: Vec<TestRecord>, last: u64| {
        env.append(records).await;
        let worker = env.work().await;
        env.applied(0, last).await;
        worker.stop().await.unwrap();
    };
    let created = [("logs", 0), ("silent", 30)];
    let created = created.map(|(run, hours)| received(record(0).run(run).create(), hours * HOUR_US));
    apply(created.to_vec(), 1).await;
    env.now_us.store(100 * HOUR_US, Ordering::Relaxed);
    let logged = received(record(0).run("logs").line(0, "x"), 40 * HOUR_US);
    env.append([logged]).await;
    job_scheduler::finish_stale_runs(&env.deps, day).await.unwrap();
    assert_eq!(active().await, ["silent", "logs"], "unapplied records may belong to either");
    apply(Vec::new(), 2).await;
    env.now_us.store(54 * HOUR_US, Ordering::Relaxed);
    job_scheduler::finish_stale_runs(&env.deps, day).await.unwrap();
    assert_eq!(active().await, ["silent", "logs"], "the day has not passed yet");
    env.now_us.store(54 * HOUR_US + 1, Ordering::Relaxed);
    job_scheduler::finish_stale_runs(&env.deps, day).await.unwrap();
    assert_eq!(active().await, ["logs"]);
}

/// A writer that has cached the run detects that it was finished since; repeated records have no effect.
#[tokio::test]
async fn new_data_resumes_a_run_that_was_given_up() {
    let env = TestEnv::new().await;
    let mut writer = env.writer("r");
    let give_up = async || {
        env.now_us.fetch_add(100 * HOUR_US, Ordering::Relaxed);
        job_scheduler::finish_stale_runs(&env.deps, Duration::from_secs(24 * 3_600)).await.unwrap();
    };
    let props = async || env.read_run("r").await.unwrap().props;
    env.apply_with(&mut writer, vec![record(0).create(), record(1).sent(1, 1, 0).line(0, "x")]).await;
    give_up().await;
    assert_eq!((props().await.active, props().await.finalized_us), (false, Some(1_000_000)));
    let again = env.apply_with(&mut writer, vec![record(2).sent(1, 1, 0).line(0, "x")]).await;
    assert_eq!((again.conflicts, again.skipped_records, props().await.active), (1, 1, false));
    // Like a frame whose items were all rejected.
    env.apply_with(&mut writer, vec![record(3)]).await;
    assert!(!props().await.active, "the record had no items");
    let more = env.apply_with(&mut writer, vec![record(4).sent(1, 2, 0).line(1, "y")]).await;
    assert_eq!((more.conflicts, props().await.active, props().await.finalized_us), (0, true, None));
    // With a new writer, with points, and with a regular finish.
    give_up().await;
    assert!(!props().await.active);
    env.apply(vec![record(5).define(0, &["loss"]).points(0, &[(None, 1.0)])]).await;
    assert!(props().await.active);
    give_up().await;
    env.apply(vec![record(6).event(Kind::FinishRun(pb::FinishRun::default())), record(7).line(2, "z")]).await;
    assert_eq!((props().await.active, props().await.finalized_us), (false, Some(6_000_000)));
}

/// A run whose values cannot be read keeps its blobs; other runs are swept.
#[tokio::test]
async fn rule_16_an_unreadable_run_does_not_block_others() {
    let mut env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let large = "x".repeat(100_000);
    for run in ["a", "b", "c"] {
        env.append([record(0).run(run).create().object("o", None, &large)]).await;
        env.put_blob(&format!("{run}/orphan")).await;
    }
    let worker = env.work().await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    let inner = env.deps.blobs.clone();
    let faulty = |call: BlobCall| {
        let calls = AtomicU64::new(0);
        Arc::new(FaultyBlobs::new(inner.clone(), move |made| {
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
    for (call, remain) in
        [(BlobCall::Read, 1), (BlobCall::List, 1), (BlobCall::Describe, 1), (BlobCall::Delete, 1)]
    {
        env.deps.blobs = faulty(call);
        job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(left().await, remain, "{call:?}");
    }
    assert_eq!(metrics.blobs.failures.get(), 3, "an unreadable object is not a failure of the bucket");
    env.deps.blobs = inner.clone();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    assert_eq!(left().await, 0);
}

/// A row of the first run cannot be decoded.
#[tokio::test]
async fn rule_16_a_damaged_run_does_not_end_the_round() {
    let env = TestEnv::new().await;
    for run in ["a", "b"] {
        env.append([record(0).run(run).create().object("o", None, "text")]).await;
        env.put_blob(&format!("{run}/orphan")).await;
    }
    let worker = env.work().await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();
    let damaged = env.listed().await[0].0;
    let mut batch = matyan_store::Batch::default();
    for (key, _) in env
        .store()
        .snapshot()
        .await
        .unwrap()
        .scan(&keys::run_rows(P, damaged), Default::default())
        .await
        .unwrap()
        .rows
    {
        batch.set(key, vec![0xff]);
    }
    env.store().commit(batch).await.unwrap();
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    let metrics = Metrics::new(&Registry::new()).unwrap();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    let of_damaged = &env.listed().await[0].1.props.run_id;
    for run in ["a", "b"] {
        assert_eq!(env.has_blob(&format!("{run}/orphan")).await, run == of_damaged, "{run}");
    }
    assert_eq!(metrics.blobs.failures.get(), 1);
}

/// This applies to any number of runs, for example if old objects are in a storage class that
/// cannot be read directly.
#[tokio::test]
async fn rule_16_unreadable_runs_do_not_end_the_round() {
    let mut env = TestEnv::new().await;
    let bad = job_scheduler::MAX_BUCKET_FAILURES + 1;
    let large = "x".repeat(100_000);
    let unreadable = (0..bad).map(|at| record(0).run(&format!("bad{at}")).create().object("o", None, &large));
    let sweepable = |run| record(0).run(run).create();
    env.append([sweepable("first")]).await;
    env.append(unreadable).await;
    env.append([sweepable("last")]).await;
    let worker = env.work().await;
    env.applied(0, u64::from(bad) + 1).await;
    worker.stop().await.unwrap();
    for run in (0..bad).map(|at| format!("bad{at}")).chain(["first".into(), "last".into()]) {
        env.put_blob(&format!("{run}/orphan")).await;
    }
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    let inner = env.deps.blobs.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(inner, |call| match call {
        BlobCall::Read => BlobFault::Refuse,
        _ => BlobFault::None,
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    for (run, is_kept) in [("first", false), ("bad0", true), ("last", false)] {
        assert_eq!(env.has_blob(&format!("{run}/orphan")).await, is_kept, "{run}");
    }
}

/// While the bucket is unavailable, the round fails after several runs and checks no more of
/// them.
#[tokio::test]
async fn rule_16_a_round_fails_if_the_bucket_is_unavailable() {
    let mut env = TestEnv::new().await;
    for run in 0..2 * job_scheduler::MAX_BUCKET_FAILURES {
        env.append([record(0).run(&format!("r{run}")).create()]).await;
    }
    let worker = env.work().await;
    env.applied(0, u64::from(2 * job_scheduler::MAX_BUCKET_FAILURES) - 1).await;
    worker.stop().await.unwrap();
    let lists = Arc::new(AtomicU64::new(0));
    let counted = lists.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(env.deps.blobs.clone(), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        BlobFault::Refuse
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(lists.load(Ordering::Relaxed), u64::from(job_scheduler::MAX_BUCKET_FAILURES));
}

/// The lock of a long sweep is not taken over, and a process that fails to get it has not done
/// the job.
#[tokio::test]
async fn rule_14_a_sweep_renews_its_lock() {
    let mut env = TestEnv::new().await;
    for run in ["a", "b", "c"] {
        let deleted = vec![record(0).run(run).create(), record(1).run(run).delete()];
        env.apply_with(&mut env.writer(run), deleted).await;
    }
    let now_us = env.now_us.clone();
    now_us.store(100 * 24 * HOUR_US, Ordering::Relaxed);
    let gate = GatedBlobs::closed(env.deps.blobs.clone());
    gate.opened.add_permits(1);
    let slow = gate.clone();
    let lists = AtomicU64::new(0);
    // Each folder takes four minutes, and the last one blocks.
    env.deps.blobs = Arc::new(FaultyBlobs::new(gate.clone(), move |call| {
        if call == BlobCall::List {
            now_us.fetch_add(240_000_000, Ordering::Relaxed);
            if lists.fetch_add(1, Ordering::Relaxed) == 2 {
                slow.opened.forget_permits(1);
            }
        }
        BlobFault::None
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let besides = async {
        eventually("the last folder", async || gate.opened.available_permits() == 0).await;
        let taken = JobLock::acquire(env.store(), &*env.deps.clock, "cleanup-tombstones", P, [9; 16]).await;
        assert!(matches!(taken, Err(matyan_maintenance::Error::Busy { .. })));
        let round = job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs).await;
        assert!(matches!(round, Err(Error::Busy("cleanup-tombstones"))));
        gate.opened.add_permits(1);
    };
    let (swept, ()) = tokio::join!(job_scheduler::sweep_tombstones(&env.deps, &metrics.blobs), besides);
    swept.unwrap();
    let jobs = matyan_model::lock::jobs_list(&*env.store().snapshot().await.unwrap()).await.unwrap();
    let job = jobs[&(P, "cleanup-tombstones".to_owned())];
    assert!(job.holder.is_none() && job.last_success_us.is_some());
}

/// A recreated topic that no worker has seen yet contains fewer records than were applied from
/// the old one.
#[tokio::test]
async fn rule_16_nothing_is_known_about_a_recreated_log() {
    let mut env = TestEnv::new().await;
    env.append((0..3).map(|_| record(0).create())).await;
    let worker = env.work().await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();
    assert_eq!(oldest_unapplied_us(env.store(), &*env.log).await.unwrap(), i64::MAX);
    env.replace_log(1).await;
    env.append([record(0).create()]).await;
    assert_eq!(oldest_unapplied_us(env.store(), &*env.log).await.unwrap(), i64::MIN);
}

/// Marks of producers in a quiet partition are swept as well, and return with the producer.
#[tokio::test]
async fn producers_of_a_quiet_log_are_swept_and_listed_again() {
    let env = TestEnv::new().await;
    let hour = 3_600_000_000;
    let batch = |sequence: u64, received_us: i64| {
        let mut sent = record(sequence - 1).sent(1, sequence, 0).line(0, "x");
        sent.entry.ephemeral_producer = true;
        sent.entry.received_us = received_us;
        sent
    };
    let marks = async || {
        let key = keys::mark(P, &RunId::new("r"), matyan_model::ids::ProducerId([1; 16]));
        env.store().snapshot().await.unwrap().get(&key).await.unwrap().is_some()
    };
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, vec![batch(1, hour)]).await;
    env.now_us.store(hour + hour / 2, Ordering::Relaxed);
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    assert!(marks().await, "it has not been silent for long");
    // An unapplied record may belong to this producer.
    env.now_us.store(4 * hour, Ordering::Relaxed);
    env.append([batch(1, hour)]).await;
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    assert!(marks().await, "the log is not fully applied");
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    assert!(!marks().await);
    // The writer's cache still has the producer.
    env.apply_with(&mut writer, vec![batch(2, 4 * hour)]).await;
    assert!(marks().await);
    env.now_us.store(6 * hour, Ordering::Relaxed);
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    assert!(!marks().await, "the returned producer was not listed for the sweep");
}

/// The log has the clock of brokers, or is a copy: its records are younger than their receive times say.
#[tokio::test]
async fn a_mark_is_kept_for_an_hour_of_the_times_in_the_log() {
    let env = TestEnv::new().await;
    let batch = |sequence: u64| {
        let mut sent = received(record(sequence - 1).sent(1, sequence, 0).line(0, "x"), HOUR_US);
        sent.entry.ephemeral_producer = true;
        let stored = matyan_log::Record { appended_us: 10 * HOUR_US, ..sent.stored() };
        crate::record::Entry::read(0, 0, stored, false)
    };
    env.apply_entries("r", vec![batch(1), batch(2)]).await;
    env.now_us.store(10 * HOUR_US + HOUR_US / 2, Ordering::Relaxed);
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    // Its acknowledgment had not arrived when it was sent.
    let applied = env.apply_entries("r", vec![batch(3)]).await;
    assert_eq!((applied.items, applied.skipped_records), (1, 0), "it continues its producer's sequence");
    env.now_us.store(11 * HOUR_US + 1, Ordering::Relaxed);
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    let key = keys::mark(P, &RunId::new("r"), matyan_model::ids::ProducerId([1; 16]));
    assert!(env.store().snapshot().await.unwrap().get(&key).await.unwrap().is_none(), "the hour is over");
}

/// A writer that has cached the run does not rely on rows that the sweep has removed.
#[tokio::test]
async fn a_swept_dictionary_is_not_continued_from_the_cache() {
    let env = TestEnv::new().await;
    let month = 31 * 24 * HOUR_US;
    let batch = |sequence: u64, received_us: i64| {
        let mut sent = received(record(sequence - 1).sent(1, sequence, sequence - 1), received_us);
        sent.entry.ephemeral_producer = true;
        sent
    };
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, vec![batch(1, HOUR_US).define(0, &["a"]).points(0, &[(None, 1.0)])]).await;
    env.now_us.store(HOUR_US + month, Ordering::Relaxed);
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    matyan_maintenance::sweep_producers(env.deps.maintenance()).await.unwrap();
    let late = batch(2, HOUR_US + month).define(1, &["b"]).points(1, &[(None, 2.0)]);
    env.apply_with(&mut writer, vec![late]).await;
    // A writer with an empty cache can continue.
    let next = batch(3, HOUR_US + month).points(0, &[(None, 3.0)]);
    crate::tests::ends("it is applied", env.apply(vec![next])).await;
}

/// A lagging worker may find both sides of a long silence in one delivery.
#[tokio::test]
async fn a_dictionary_is_continued_after_a_silence_within_one_delivery() {
    let env = TestEnv::new().await;
    let month = 31 * 24 * HOUR_US;
    let before = received(record(0).sent(1, 1, 0).define(0, &["a"]).points(0, &[(None, 1.0)]), HOUR_US);
    let after = record(1).sent(1, 2, 1).define(1, &["b"]).points(0, &[(None, 2.0)]).points(1, &[(None, 3.0)]);
    env.apply(vec![before, received(after, HOUR_US + month)]).await;
    assert!(env.parked().await.is_empty());
    let lengths =
        env.read().await.unwrap().metrics.iter().map(|(_, points)| points.steps.len()).collect::<Vec<_>>();
    assert_eq!(lengths, [2, 1]);
}

#[tokio::test]
async fn rule_14_a_job_that_lost_its_lock_cannot_write() {
    use matyan_model::{
        ids::Job,
        lock::{lock_check, lock_release},
    };
    let env = TestEnv::new().await;
    let take = async |owner: u8, now_us: i64, stale_after_us: u64| {
        let step = async |mut transaction: Transaction| {
            let lock =
                lock_take(&mut transaction, Job::new("job", P), [owner; 16], now_us, stale_after_us).await?;
            Ok::<_, Error>((transaction, lock))
        };
        transact(env.store(), step).await.unwrap().0
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
        env.store().commit(batch).await.unwrap()
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
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let blob_ref = |path: &str| {
        let key = format!("r/{path}");
        let path = path.to_owned();
        Kind::BlobRef(pb::BlobRef { key, path, ..pb::BlobRef::default() })
    };
    let large = format!("{}{}", "x".repeat(100_000), "end");
    let known =
        record(0).event(blob_ref("artifact")).object("o", None, "r/image.png").object("o", None, &large);
    env.append([known.clone()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    for key in ["r/artifact", "r/image.png", "r/orphan", "stranger/orphan"] {
        env.put_blob(key).await;
    }
    let left = async || {
        let listing = env.blobs().list("", None).await.unwrap();
        listing
            .blobs
            .into_iter()
            .map(|(key, _)| key.to_string())
            .filter(|key| !key.contains("/.matyan/"))
            .collect::<Vec<_>>()
    };
    let sweep = async || {
        job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
            .await
            .unwrap()
    };
    sweep().await;
    assert_eq!(left().await.len(), 4, "all of them are too young");
    // An unapplied record may hold a reference: it is younger than the last applied one.
    env.now_us.store(1_000_000_000 + 40 * 24 * 3_600_000_000, Ordering::Relaxed);
    env.append([record(0).event(blob_ref("orphan"))]).await;
    sweep().await;
    assert_eq!(left().await.len(), 4, "the log is not fully applied");
    let worker = env.work().await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();
    sweep().await;
    assert_eq!(left().await.len(), 4, "the blob is referenced now");
    env.put_blob("r/second orphan").await;
    env.now_us.store(1_000_000_000 + 80 * 24 * 3_600_000_000, Ordering::Relaxed);
    sweep().await;
    assert_eq!(left().await, ["r/artifact", "r/image.png", "r/orphan", "stranger/orphan"]);
    let objects = &env.read().await.unwrap().objects[0].1;
    env.value(&objects[1]).await;

    // A missing value may have held a reference, so nothing of the run is swept.
    let listing = env.blobs().list("r/.matyan/", None).await.unwrap();
    let payloads: Vec<_> = listing.blobs.into_iter().map(|(key, _)| key).collect();
    assert!(!payloads.is_empty() && env.blobs().delete(&payloads).await.unwrap().is_empty());
    env.put_blob("r/third orphan").await;
    env.now_us.store(1_000_000_000 + 180 * 24 * 3_600_000_000, Ordering::Relaxed);
    sweep().await;
    assert!(env.has_blob("r/third orphan").await);
}

/// In 16 daily rounds, the folder of a run that ended long ago is listed once, and the folder of an active
/// run in each round.
#[tokio::test]
async fn rule_16_runs_that_ended_long_ago_take_turns() {
    const ENDED: u64 = 8;
    const TURNS: u64 = 16;
    let mut env = TestEnv::new().await;
    let finish = || Kind::FinishRun(pb::FinishRun::default());
    for number in 0..ENDED {
        let run = format!("ended{number}");
        env.append([record(0).run(&run).create().event(finish())]).await;
        env.put_blob(&format!("{run}/orphan")).await;
    }
    env.append([record(0).run("active").create()]).await;
    let worker = env.work().await;
    env.applied(0, ENDED).await;
    worker.stop().await.unwrap();
    assert!(!env.read_run("ended0").await.unwrap().props.active);
    let inner = env.deps.blobs.clone();
    let lists = Arc::new(AtomicU64::new(0));
    let counted = lists.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(inner.clone(), move |call| {
        counted.fetch_add((call == BlobCall::List).into(), Ordering::Relaxed);
        BlobFault::None
    }));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    env.now_us.store(1_000_000_000 + 100 * 24 * HOUR_US, Ordering::Relaxed);
    for _day in 0..TURNS {
        job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
            .await
            .unwrap();
        env.now_us.fetch_add(24 * HOUR_US, Ordering::Relaxed);
    }
    assert_eq!(lists.load(Ordering::Relaxed), ENDED + TURNS);
    assert!(inner.list("", None).await.unwrap().blobs.is_empty());
}

/// The references of an unreadable value are unknown.
#[tokio::test]
async fn rule_16_a_run_with_an_unreadable_value_keeps_its_blobs() {
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    env.append([record(0).create().object("o", None, &"x".repeat(100_000))]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    let listing = env.blobs().list("", None).await.unwrap();
    let [(moved, _)] = &listing.blobs[..] else { panic!("{listing:?}") };
    // Overwrite the payload with something else.
    env.put_blob(moved.as_str()).await;
    env.put_blob("r/orphan").await;
    env.now_us.store(1_000_000_000 + 40 * 24 * 3_600_000_000, Ordering::Relaxed);
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    assert!(env.has_blob("r/orphan").await);
}

#[tokio::test]
async fn jobs_end_although_the_store_does_not_answer() {
    let env = TestEnv::new().await;
    env.faults.crash();
    let stop = CancellationToken::new();
    let jobs = JobScheduler::new(env.deps.clone(), Metrics::new(&Registry::new()).unwrap(), None, false);
    tokio::join!(jobs.run(&stop), async { stop.cancel() });
}

/// Counts the calls of a kind that the bucket gets.
pub(super) fn counting(env: &mut TestEnv, counted: BlobCall) -> Arc<AtomicU64> {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(env.deps.blobs.clone(), move |call| {
        counter.fetch_add(u64::from(call == counted), Ordering::Relaxed);
        BlobFault::None
    }));
    calls
}

/// Payloads are large, and the blobs of most runs are all referred to by other rows.
#[tokio::test]
async fn rule_41_payloads_are_only_read_if_no_row_refers_to_a_blob() {
    let mut env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let artifact =
        pb::BlobRef { key: "r/artifact".into(), path: "artifact".into(), ..pb::BlobRef::default() };
    let large = "x".repeat(100_000);
    let logged =
        record(0).event(Kind::BlobRef(artifact)).object("o", None, "r/image").object("o", None, &large);
    env.append([logged]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    env.put_blob("r/artifact").await;
    env.put_blob("r/image").await;
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    let reads = counting(&mut env, BlobCall::Read);
    let stop = CancellationToken::new();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    env.put_blob("r/orphan").await;
    env.now_us.store(1_000_000_000 + 80 * 24 * HOUR_US, Ordering::Relaxed);
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    assert!(!env.has_blob("r/orphan").await && env.has_blob("r/image").await);
    assert_eq!(metrics.blobs.deleted.get(), 1);
}

#[tokio::test]
async fn rule_41_a_search_continues_where_it_was_interrupted() {
    const RUNS: u64 = 120;
    const PAGE: u64 = 100;
    let mut env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    for run in 0..RUNS {
        env.append([record(0).run(&format!("r{run}")).create()]).await;
    }
    let worker = env.work().await;
    env.applied(0, RUNS - 1).await;
    worker.stop().await.unwrap();
    let lists = counting(&mut env, BlobCall::List);
    let stop = CancellationToken::new();
    // The first listing interrupts the search, which ends its page.
    let counted = env.deps.blobs.clone();
    let first = stop.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(counted.clone(), move |_| {
        first.cancel();
        BlobFault::None
    }));
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    env.deps.blobs = counted;
    // The list of the project, which has no blobs. With a page of runs left, each of them is listed instead.
    assert_eq!(lists.swap(0, Ordering::Relaxed), 1);
    for expected in [RUNS - PAGE, 1] {
        job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(lists.swap(0, Ordering::Relaxed), expected);
    }
}

/// A project with more runs than a page is listed, so that the folders of runs without old blobs are not.
#[tokio::test]
async fn rule_41_runs_without_old_blobs_are_not_listed() {
    const RUNS: u64 = 120;
    let mut env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    for run in 0..RUNS {
        env.append([record(0).run(&format!("r{run}")).create()]).await;
    }
    env.append([record(0).run("odd/id").create()]).await;
    let worker = env.work().await;
    env.applied(0, RUNS).await;
    worker.stop().await.unwrap();
    let odd = matyan_blob::RunFolder::new("", "odd/id").unwrap().prefix().to_owned() + "orphan";
    let orphans = ["r3/orphan", "r3/second", "r110/orphan", odd.as_str()];
    for key in orphans.into_iter().chain([".projects/unknown/r4/orphan"]) {
        env.put_blob(key).await;
    }
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    env.put_blob("r5/young").await;
    let lists = counting(&mut env, BlobCall::List);
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    // The project, two runs with old blobs, and the run whose folder does not show its id.
    assert_eq!(lists.load(Ordering::Relaxed), 4);
    for key in orphans {
        assert!(!env.has_blob(key).await, "{key}");
    }
    assert!(env.has_blob("r5/young").await && env.has_blob(".projects/unknown/r4/orphan").await);
}

/// The same run id in two projects, each with an artifact, a large payload, and blobs without a
/// reference in that project.
#[tokio::test]
async fn rule_37_sweeps_and_deletes_do_not_cross_projects() {
    let env = TestEnv::new().await;
    env.create_project("other").await;
    let large = "x".repeat(300_000);
    let logged = |project: &str, offset: u64, paths: &[&str]| {
        let mut logged = record(offset).object("o", None, &large);
        for path in paths {
            let key = format!("r/{path}");
            let path = (*path).to_owned();
            logged = logged.event(Kind::BlobRef(pb::BlobRef { key, path, ..pb::BlobRef::default() }));
        }
        logged.entry.project = project.to_owned();
        logged
    };
    let place = |project: &str, path: &str| {
        BlobKey::in_project(project, &format!("r/{path}")).unwrap().as_str().to_owned()
    };
    let payload = {
        let value = [("data".to_owned(), matyan_value::Value::Text(large.clone()))].into();
        format!(".matyan/{}", blake3::hash(&matyan_value::cbor::encode_map(&value)).to_hex())
    };
    for project in ["", "other"] {
        for path in ["artifact", "only the default refers to it", "orphan"] {
            env.put_blob(&place(project, path)).await;
        }
    }
    env.append([
        logged("", 0, &["artifact", "only the default refers to it"]),
        logged("other", 1, &["artifact"]),
    ])
    .await;
    let worker = env.work().await;
    env.applied(0, 1).await;

    env.now_us.store(1_000_000_000 + 80 * 24 * 3_600_000_000, Ordering::Relaxed);
    let metrics = Metrics::new(&Registry::new()).unwrap();
    job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &CancellationToken::new()).await.unwrap();
    let left = async || {
        let listing = env.blobs().list("", None).await.unwrap();
        listing.blobs.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    let of_default = [place("", &payload), place("", "artifact"), place("", "only the default refers to it")];
    let of_other = [place("other", &payload), place("other", "artifact")];
    assert_eq!(left().await, [&of_other[..], &of_default].concat());

    let mut delete = record(2).delete();
    delete.entry.project = "other".to_owned();
    env.append([delete]).await;
    let control = env.control().await;
    eventually("the end of the other project's blobs", async || left().await == of_default).await;
    control.stop().await;
    worker.stop().await.unwrap();
    assert!(env.read().await.is_some(), "the run of the default project is live");
}
