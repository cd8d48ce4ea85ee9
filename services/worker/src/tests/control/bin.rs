//! Tests of the job that empties the bin.

use matyan_model::run::{BIN_KEPT_US, bin_put, run_find};

use super::*;

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

/// A worker that has the run in memory applies nothing to a run that was purged since.
#[tokio::test]
async fn rule_107_a_run_is_purged_after_a_week_in_the_bin_and_stays_deleted() {
    let env = TestEnv::new().await;
    let mut writer = env.writer("r");
    env.apply_with(&mut writer, vec![record(0).create().line(0, "x")]).await;
    env.apply_with(&mut env.writer("kept"), vec![record(1).run("kept").create()]).await;
    let week = env.now_us.load(Ordering::Relaxed) + BIN_KEPT_US;
    env.bin("r", week - BIN_KEPT_US).await;
    env.bin("kept", week - BIN_KEPT_US + 1).await;
    env.now_us.store(week, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    assert!(env.exists("r").await, "its week ends now");
    env.apply_with(&mut writer, vec![record(2).line(1, "y")]).await;
    env.now_us.store(week + 1, Ordering::Relaxed);
    job_scheduler::empty_bins(&env.deps).await.unwrap();
    assert!(!env.exists("r").await && env.exists("kept").await);
    env.apply_with(&mut writer, vec![record(3).line(2, "z")]).await;
    assert!(!env.exists("r").await, "late records do not bring it back");
    assert!(matches!(env.head().await, Some(Head::Tombstone(_))));
    // Its blobs are deleted like those of every deleted run.
    let events = events_list(&*env.store().snapshot().await.unwrap(), 100).await.unwrap();
    assert!(!events.is_empty());
}
