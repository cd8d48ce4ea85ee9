//! Tests of the job that empties the bin.

use matyan_model::{
    index::index_has_row,
    run::{BIN_KEPT_US, bin_put, bin_restore, run_find},
};
use matyan_store::Batch;

use super::*;
use crate::tests::{harness::FullLog, ingest::UntrimmedLog};

impl TestEnv {
    async fn bin(&self, run: &str, now_us: i64) {
        let number = self.read_run(run).await.unwrap().number;
        let put = async |mut transaction: Transaction| {
            assert!(bin_put(&mut transaction, P, number, now_us).await?);
            Ok::<_, matyan_store::Error>((transaction, ()))
        };
        transact(self.store(), put).await.unwrap();
    }

    async fn exists(&self, run: &str) -> bool {
        let snapshot = self.store().snapshot().await.unwrap();
        run_find(&*snapshot, P, &RunId::new(run)).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn rule_107_a_run_is_purged_after_a_week_in_the_bin_and_stays_deleted() {
    let env = TestEnv::new().await;
    env.append([record(0).create().line(0, "x"), record(0).run("kept").create()]).await;
    let worker = env.work().await;
    env.applied(0, 1).await;
    let week = env.now_us.load(Ordering::Relaxed) + BIN_KEPT_US;
    env.bin("r", week - BIN_KEPT_US).await;
    env.bin("kept", week - BIN_KEPT_US + 1).await;
    env.now_us.store(week, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    env.append([record(0).line(1, "y")]).await;
    env.applied(0, 2).await;
    assert!(env.exists("r").await, "its week ends now");
    env.now_us.store(week + 1, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    env.append([record(0).line(2, "z")]).await;
    env.applied(0, 4).await;
    assert!(!env.exists("r").await && env.exists("kept").await, "late records do not bring it back");
    assert!(matches!(env.head().await, Some(Head::Tombstone(_))));
    // Its blobs are deleted like the blobs of every deleted run.
    let events = events_list(&*env.store().snapshot().await.unwrap(), 100).await.unwrap();
    assert!(!events.is_empty());
    worker.stop().await.unwrap();
}

/// A store that is lost, and a backup from before the deletion: all that is left of the purge is in the log.
#[tokio::test]
async fn rule_107_a_replay_purges_a_run_again() {
    let mut env = TestEnv::new().await;
    env.deps.log_reader = Arc::new(UntrimmedLog(env.log.clone()));
    env.append([record(0).create()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    let binned_us = env.now_us.load(Ordering::Relaxed);
    env.bin("r", binned_us).await;
    env.now_us.store(binned_us + BIN_KEPT_US + 1, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    env.applied(0, 1).await;
    worker.stop().await.unwrap();

    let mut restored = TestEnv::new().await;
    restored.log = env.log.clone();
    restored.deps.log_reader = env.log.clone();
    restored.deps.log_writer = env.log.clone();
    let worker = restored.work().await;
    restored.applied(0, 1).await;
    assert!(!restored.exists("r").await);
    assert!(matches!(restored.head().await, Some(Head::Tombstone(_))));
    worker.stop().await.unwrap();
}

/// The log does not take the deletion. The run can no longer be restored, and the next pass deletes it.
#[tokio::test]
async fn rule_107_a_purge_that_fails_at_the_log_is_repeated() {
    let mut env = TestEnv::new().await;
    env.append([record(0).create()]).await;
    let worker = env.work().await;
    env.applied(0, 0).await;
    let binned_us = env.now_us.load(Ordering::Relaxed);
    env.bin("r", binned_us).await;
    env.now_us.store(binned_us + BIN_KEPT_US + 1, Ordering::Relaxed);
    let log = std::mem::replace(&mut env.deps.log_writer, Arc::new(FullLog));
    job_scheduler::empty_bins(&env.deps).await.unwrap_err();
    let number = env.read_run("r").await.unwrap().number;
    let restore = async |mut transaction: Transaction| {
        assert!(!bin_restore(&mut transaction, P, number, binned_us).await?);
        Ok::<_, matyan_store::Error>((transaction, ()))
    };
    transact(env.store(), restore).await.unwrap();
    env.deps.log_writer = log;
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    env.applied(0, 1).await;
    assert!(!env.exists("r").await);
    worker.stop().await.unwrap();
}

/// A damaged run is named in the log, and can be deleted by its id. Then its row in the list of the bin goes, too.
#[tokio::test]
async fn rule_40_a_damaged_run_in_the_bin_holds_up_no_other() {
    let env = TestEnv::new().await;
    env.append([record(0).create(), record(0).run("other").create()]).await;
    let worker = env.work().await;
    env.applied(0, 1).await;
    let binned_us = env.now_us.load(Ordering::Relaxed);
    let number = env.read_run("r").await.unwrap().number;
    for run in ["r", "other"] {
        env.bin(run, binned_us).await;
    }
    let mut batch = Batch::default();
    batch.set(keys::document(P, number), vec![1_u8, 0xff]);
    env.store().commit(batch).await.unwrap();
    env.now_us.store(binned_us + BIN_KEPT_US + 1, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    env.applied(0, 2).await;
    assert!(!env.exists("other").await);

    env.append([record(0).delete()]).await;
    env.applied(0, 3).await;
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    let snapshot = env.store().snapshot().await.unwrap();
    assert!(!index_has_row(&*snapshot, &keys::index_binned_all(P)).await.unwrap());
    drop(snapshot);
    worker.stop().await.unwrap();
}
