//! Hourly finishing of stale runs, that is, active runs that have sent nothing for the
//! configured time. `matyan_maintenance` decides which runs are stale.

use std::time::Duration;

use matyan_maintenance::{FINISH_STALE, Job, Stale};

use super::projects;
use crate::{deps::Deps, error::Error};

pub(crate) async fn end(deps: &Deps, idle: Duration) -> Result<(), Error> {
    let mut job = Job::begin(&*deps.store, &*deps.clock, FINISH_STALE, (deps.random)()).await?;
    let ended = end_locked(deps, idle, &mut job).await;
    job.end(ended).await
}

async fn end_locked(deps: &Deps, idle: Duration, job: &mut Job<'_>) -> Result<(), Error> {
    for project in projects(deps).await? {
        let (store, log) = (&*deps.store, &*deps.log_writer);
        let mut stale = Stale::new(store, log, project.number, deps.now_us(), idle).await?;
        while let Some(page) = stale.end(job, "").await? {
            for run in page.run_ids {
                tracing::info!(run, "finished stale run");
            }
        }
    }
    Ok(())
}
