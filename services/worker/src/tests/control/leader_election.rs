//! Tests of leader election among control workers, of the stored times of job rounds, and of
//! where workers start to read.

use matyan_model::{
    ids::{Job, Project},
    lock::{job_success_put, jobs_list},
};

use super::*;

impl RunningControlWorker {
    fn rounds(&self, job: &str) -> u64 {
        self.metrics.jobs.runs.with_label_values(&[job]).get()
    }

    fn last_success(&self, job: &str) -> f64 {
        self.metrics.jobs.success.with_label_values(&[job]).get()
    }
}

#[tokio::test]
async fn only_one_of_two_control_workers_publishes_and_runs_jobs_until_it_ends() {
    let env = TestEnv::new().await;
    let first = env.control().await;
    eventually("a round of the first", async || first.rounds("dead-runs") > 0).await;
    let second = env.control().await;
    for run in 0..20 {
        let run = format!("run {run}");
        let deleted = vec![record(0).run(&run).create(), record(1).run(&run).delete()];
        env.apply_with(&mut env.writer(&run), deleted).await;
    }
    let before = first.rounds("dead-runs");
    eventually("more rounds of the first", async || first.rounds("dead-runs") > before + 2).await;
    assert_eq!(second.rounds("dead-runs"), 0, "the second waits");
    let found = || matyan_log::LogInspector::describe(&*env.log, Topic::Control);
    eventually("every event", async || found().await.unwrap().partitions[0].end >= 20).await;
    assert_eq!(found().await.unwrap().partitions[0].end, 20, "each event is published once");

    // Aborted at an arbitrary point, without a chance to announce it.
    first.task.abort();
    assert!(first.task.await.unwrap_err().is_cancelled());
    eventually("a round of the second", async || second.rounds("dead-runs") > 0).await;
    env.apply(vec![record(0).create(), record(1).delete()]).await;
    eventually("the next event", async || found().await.unwrap().partitions[0].end == 21).await;
    second.stop().await;
}

#[tokio::test]
async fn the_time_of_a_jobs_last_success_outlives_its_process() {
    let env = TestEnv::new().await;
    let mut batch = matyan_store::Batch::default();
    job_success_put(&mut batch, Job::new("orphaned-blobs", Project::default()), 5_000_000);
    env.store().commit(batch).await.unwrap();
    let control = env.control().await;
    let last_success = async || {
        let jobs = jobs_list(&*env.store().snapshot().await.unwrap()).await.unwrap();
        jobs.get(&(Project::default(), "dead-runs".to_owned())).and_then(|job| job.last_success_us)
    };
    eventually("a recorded success", async || last_success().await == Some(1_000_000_000)).await;
    assert_eq!(control.last_success("orphaned-blobs"), 5.0, "the time in the store");
    for never in ["cleanup-tombstones", "finish-stale"] {
        assert_eq!(control.last_success(never), 1_000.0, "{never} counts from the start of the process");
    }
    control.stop().await;
}

/// Number of control events that are handled.
async fn handled(env: &TestEnv) -> u64 {
    let snapshot = env.store().snapshot().await.unwrap();
    let position = matyan_model::position::applied_get(&*snapshot, keys::LogTopic::Control, 0).await.unwrap();
    position.map_or(0, |position| position.next)
}

#[tokio::test]
async fn a_recreated_control_topic_with_as_many_events_is_read_from_its_beginning() {
    let mut env = TestEnv::new().await;
    let consumed = async |env: &TestEnv, count: u64| {
        let control = env.control().await;
        eventually("the events", async || control.metrics.events.consumed.get() >= count).await;
        let end =
            matyan_log::LogInspector::describe(&*env.log, Topic::Control).await.unwrap().partitions[0].end;
        eventually("the position", async || handled(env).await == end).await;
        let seen = control.metrics.events.consumed.get();
        control.stop().await;
        seen
    };
    env.publish_run_deleted("a").await;
    assert_eq!(consumed(&env, 1).await, 1);
    env.publish_run_deleted("b").await;
    assert_eq!(consumed(&env, 1).await, 1, "the first was already handled");
    env.replace_log(1).await;
    env.publish_run_deleted("c").await;
    env.publish_run_deleted("d").await;
    assert_eq!(consumed(&env, 2).await, 2);
}
