//! Tests of the sweep of stray blobs, which are blobs of runs that do not exist.

use matyan_model::{
    ids::RunNumber,
    keys::ItemPosition,
    parked::{ParkedItem, parked_put},
};
use matyan_store::Batch;

use super::{sweeps::counting, *};
use crate::tests::harness::LOG_US;

/// Clients may be lost after an upload and before the first record of its run.
#[tokio::test]
async fn rule_16_blobs_of_runs_that_never_came_are_deleted() {
    const DAY_US: i64 = 24 * HOUR_US;
    let env = TestEnv::new().await;
    env.create_project("other").await;
    env.append([record(0).run("live").create(), record(1).run("deleted").delete()]).await;
    let worker = env.work().await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();
    let mut batch = Batch::default();
    let parked = ParkedItem {
        run_id: RunId::new("parked"),
        at: ItemPosition::default(),
        reason: "unreadable".into(),
        received_us: 1,
        item: Bytes::from_static(b"item"),
        record: None,
    };
    parked_put(&mut batch, P, &parked);
    env.store().commit(batch).await.unwrap();
    let kept = [
        ".projects/.projects/digest/x",
        ".projects/deleted/live/x",
        "deleted/x",
        "live/x",
        "loose",
        "parked/x",
    ];
    let stray = [".projects/other/live/x", ".projects/other/never/x", "live.never/x", "never/a/x", "never/y"];
    for key in [&kept[..], &stray].concat() {
        env.put_blob(key).await;
    }
    let left = async || {
        let listing = env.blobs().list("", None).await.unwrap();
        listing.blobs.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>()
    };
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let sweep = async |day: i64| {
        env.now_us.store(1_000_000_000 + day * DAY_US, Ordering::Relaxed);
        job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &CancellationToken::new())
            .await
            .unwrap();
        left().await.len()
    };
    let all = kept.len() + stray.len();
    assert_eq!(sweep(40).await, all, "the store may have been replaced");
    assert_eq!(sweep(70).await, all, "less than a month ago");
    env.put_blob("young/x").await;
    env.append([record(2).run("late").create()]).await;
    assert_eq!(sweep(72).await, all + 1, "a record that is not applied may refer to them");
    let worker = env.work().await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();
    let deletions = metrics.blobs.deleted.get();
    sweep(72).await;
    assert_eq!(left().await, [&kept[..], &["young/x"]].concat());
    assert_eq!(metrics.blobs.deleted.get() - deletions, stray.len() as u64);
}

/// A blob may be older than the last applied record, and its run created by the next one.
#[tokio::test]
async fn rule_16_blobs_of_records_that_wait_for_months_are_kept() {
    let env = TestEnv::new().await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let stop = CancellationToken::new();
    let sweep = async || {
        job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
        job_scheduler::delete_orphaned_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    };
    env.now_us.store(LOG_US - 1, Ordering::Relaxed);
    sweep().await;
    for key in ["late/x", "r/orphan", "never/x"] {
        env.put_blob(key).await;
    }
    env.append([record(0).create()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    let artifact = pb::BlobRef { key: "late/x".into(), path: "x".into(), ..pb::BlobRef::default() };
    env.append([record(0).run("late").event(Kind::BlobRef(artifact))]).await;
    env.now_us.fetch_add(80 * 24 * HOUR_US, Ordering::Relaxed);
    sweep().await;
    assert_eq!(metrics.blobs.deleted.get(), 0);
    let worker = env.work().await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();
    sweep().await;
    assert_eq!(metrics.blobs.deleted.get(), 2);
    assert!(env.has_blob("late/x").await);
}

/// A run may be created between the listing of its blobs and their deletion.
#[tokio::test]
async fn rule_16_a_run_that_comes_during_a_sweep_keeps_its_blobs() {
    let mut env = TestEnv::new().await;
    env.put_blob("late/x").await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let stop = CancellationToken::new();
    job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    // The last call before the deletion looks at the blob.
    let store = env.deps.store.clone();
    env.deps.blobs = Arc::new(FaultyBlobs::new(env.deps.blobs.clone(), move |call| {
        if call == BlobCall::Describe {
            let mut batch = Batch::default();
            batch.set(keys::head(P, &RunId::new("late")), Head::Live(RunNumber(1)).encode());
            futures::executor::block_on(store.commit(batch)).unwrap();
        }
        BlobFault::None
    }));
    job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    assert!(env.has_blob("late/x").await);
}

/// Most blobs belong to runs that exist, so only the first of a run are listed.
#[tokio::test]
async fn rule_16_a_sweep_passes_over_the_blobs_of_runs_that_exist() {
    let mut env = TestEnv::new().await;
    env.append([record(0).run("live").create()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();
    let keys: Vec<String> = (0..2_050).map(|at| format!("live/{at}")).chain(["live0".into()]).collect();
    futures::future::join_all(keys.iter().map(|key| env.put_blob(key))).await;
    env.put_blob("live1/x").await;
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let stop = CancellationToken::new();
    job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    env.now_us.store(1_000_000_000 + 40 * 24 * HOUR_US, Ordering::Relaxed);
    let lists = counting(&mut env, BlobCall::List);
    job_scheduler::delete_stray_blobs(&env.deps, &metrics.blobs, &stop).await.unwrap();
    assert_eq!((lists.load(Ordering::Relaxed), metrics.blobs.deleted.get()), (2, 1));
    assert!(!env.has_blob("live1/x").await && env.has_blob("live0").await && env.has_blob("live/0").await);
}
