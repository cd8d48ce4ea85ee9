//! Stray blobs: blobs in the folder of a run that does not exist. A client has uploaded them, and was
//! lost before it could send the first record of the run. Only for blobs that no other system can refer
//! to: the blobs in the data directory, next to the store.
//!
//! The first record may still be in the log or in the spool of a client, so stray blobs are kept as
//! long as orphaned blobs, and as long as items of the run are parked. A store that is new deletes none
//! for the same time: an archive without blobs may be about to be restored into it. Folders of projects
//! that do not exist are left to the deletion of projects. Folders that do not show the id of their run
//! are kept.

use std::collections::HashMap;

use matyan_blob::{BlobKey, ListedBlob, RunFolder};
use matyan_model::{
    ids::{Job, Project, RunId},
    keys,
    lock::{job_begun_get, job_begun_put},
    parked::parked_list,
    run::{head_get, staged_get},
};
use matyan_store::{Batch, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    BlobEvent, BlobObserver, Deps, Error,
    orphaned_blobs::{KEPT_US, kept_since_us},
    paged_sweep::PagedSweep,
};

/// Job whose first sweep of a store is noted.
const JOB: &str = "stray-blobs";

/// Deletes the stray blobs of all projects.
pub async fn sweep_stray_blobs(
    deps: Deps<'_>,
    stop: &CancellationToken,
    observe: &mut BlobObserver<'_>,
) -> Result<(), Error> {
    if is_new(deps).await? {
        return Ok(());
    }
    let before_us = kept_since_us(deps).await?;
    let projects = deps.projects().await?.into_iter().map(|project| (project.name, project.number));
    let projects: HashMap<String, Project> = projects.collect();
    let mut after = None;
    let mut sweep = PagedSweep::new(stop);
    while !sweep.is_stopped() {
        let listing = deps.blobs.list("", after.as_ref()).await?;
        after = listing.next;
        for blobs in listing.blobs.chunk_by(|(key, _), (next, _)| owner(key) == owner(next)) {
            let (project_name, id) = owner(&blobs[0].0);
            let (Some(project), Some(id)) = (projects.get(project_name), id.map(RunId::new)) else {
                continue;
            };
            if !is_unknown(deps.store, *project, &id, observe).await? {
                let folder = RunFolder::new(project_name, id.as_str())?;
                // The other blobs of the run need not be listed.
                if after.as_ref().is_some_and(|after| folder.reference_of(after).is_some()) {
                    after = Some(folder.end()?);
                }
                continue;
            }
            for blob in blobs.iter().filter(|(_, blob)| blob.modified_us < before_us) {
                delete(deps, *project, &id, blob, observe).await?;
            }
        }
        if after.is_none() {
            return Ok(());
        }
        sweep.rest().await;
    }
    Ok(())
}

/// Whether the first sweep of the store was less than a month ago, or is this one, whose time is then noted.
async fn is_new(deps: Deps<'_>) -> Result<bool, Error> {
    let job = Job::new(JOB, Project::default());
    let now_us = deps.now_us();
    if let Some(first_us) = job_begun_get(&*deps.store.snapshot().await?, job).await? {
        return Ok(now_us.saturating_sub(first_us) < KEPT_US);
    }
    let mut batch = Batch::default();
    job_begun_put(&mut batch, job, now_us);
    deps.store.commit(batch).await?;
    Ok(true)
}

/// The project and the run that a blob belongs to.
fn owner(key: &BlobKey) -> (&str, Option<&str>) {
    (key.project(), key.run_id())
}

/// Whether nothing is known about a run id: it has no run, tombstone, restore in progress, or parked
/// item. If its rows are damaged, it counts as known.
async fn is_unknown(
    store: &dyn Store,
    project: Project,
    id: &RunId,
    observe: &mut BlobObserver<'_>,
) -> Result<bool, Error> {
    let read = async {
        let snapshot = store.snapshot().await?;
        let parked = keys::parked_run(project, id);
        Ok(head_get(&*snapshot, project, id).await?.is_none()
            && staged_get(&*snapshot, project, id).await?.is_none()
            && parked_list(&*snapshot, project, &parked, 1).await?.0.is_empty())
    };
    match read.await {
        Err(error @ matyan_store::Error::Corrupt { .. }) => {
            tracing::warn!(run = id.as_str(), %error, "stored data is damaged; keeping all blobs of the run");
            observe(BlobEvent::RunFailed);
            Ok(false)
        }
        read => Ok(read?),
    }
}

/// Deletes a blob, unless it was replaced, or its run was created, since it was listed.
async fn delete(
    deps: Deps<'_>,
    project: Project,
    id: &RunId,
    (key, listed): &(BlobKey, ListedBlob),
    observe: &mut BlobObserver<'_>,
) -> Result<(), Error> {
    let is_same = deps.blobs.describe(key).await?.is_some_and(|now| now.modified_us == listed.modified_us);
    if !is_same || !is_unknown(deps.store, project, id, observe).await? {
        return Ok(());
    }
    match deps.blobs.delete(std::slice::from_ref(key)).await?.pop() {
        None => observe(BlobEvent::Deleted { key, bytes: listed.size }),
        Some((_, error)) => {
            tracing::warn!(%key, %error, "failed to delete stray blob");
            observe(BlobEvent::BlobFailed);
        }
    }
    Ok(())
}
