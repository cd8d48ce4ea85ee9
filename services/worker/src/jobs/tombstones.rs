//! Hourly removal of tombstones that are no longer needed, and of blobs left over from deleted
//! runs. `matyan_maintenance` decides what may be deleted.

use matyan_maintenance::{CLEANUP_TOMBSTONES, Job, SPOOL_US, Tombstones};
use matyan_model::{keys, run::tombstones_list};

use super::projects;
use crate::{control::blobs_told, deps::Deps, error::Error, metrics::Metrics};

pub(crate) async fn sweep(deps: &Deps, metrics: &Metrics) -> Result<(), Error> {
    let mut job = Job::begin(&*deps.store, &*deps.clock, CLEANUP_TOMBSTONES, (deps.random)()).await?;
    let swept = sweep_locked(deps, metrics, &mut job).await;
    job.end(swept).await
}

async fn sweep_locked(deps: &Deps, metrics: &Metrics, job: &mut Job<'_>) -> Result<(), Error> {
    let sweep =
        Tombstones::new(&*deps.store, &*deps.log_writer, &*deps.blobs, deps.now_us(), SPOOL_US).await?;
    for project in projects(deps).await? {
        let mut range = Some(keys::tombstones(project.number));
        while let Some(own) = range {
            let (tombstones, rest) =
                tombstones_list(&*deps.store.snapshot().await?, project.number, &own).await?;
            for (id, tombstone) in tombstones {
                match sweep.sweep(job, &project, &id, &tombstone).await {
                    Ok(swept) => blobs_told(metrics, swept.deleted, &swept.left),
                    // A failure for one run does not stop the cleanup of the others.
                    Err(matyan_maintenance::Error::Blobs(error)) => {
                        tracing::warn!(run = id.as_str(), %error, "failed to delete blobs of a deleted run; will retry in the next round");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            range = rest;
        }
    }
    Ok(())
}
