//! What the store knows of the rounds of jobs.

use matyan_model::lock::{job_done, jobs_list};

use super::*;

impl Controlling {
    fn last_success(&self, job: &str) -> f64 {
        self.metrics.jobs.success.with_label_values(&[job]).get()
    }
}

#[tokio::test]
async fn when_a_job_last_succeeded_outlives_its_process() {
    let world = World::new().await;
    let mut batch = matyan_store::Batch::default();
    job_done(&mut batch, "orphans", 5_000_000);
    world.store().commit(batch).await.unwrap();
    let control = world.control().await;
    let last_success = async || {
        let jobs = jobs_list(&*world.store().snapshot().await.unwrap()).await.unwrap();
        jobs.get("dead-runs").and_then(|job| job.last_success_us)
    };
    eventually("a success that is noted", async || last_success().await == Some(1_000_000_000)).await;
    assert_eq!(control.last_success("orphans"), 5.0, "as the store knows");
    for never in ["cleanup-tombstones", "finish-stale"] {
        assert_eq!(control.last_success(never), 1_000.0, "{never} is waited for since the process began");
    }
    control.stop().await;
}
