//! Deletion of projects: their blobs, their rows, and the rows of their jobs.
//!
//! Two passes over a project do the same. The first starts when no process considers the
//! project active any more. The second comes after everything that was already on its way has
//! arrived: rows from a worker that was cut off from the store, and blobs from upload URLs that
//! were issued before. A pass that is interrupted is repeated.

use matyan_blob::{BlobKey, Blobs, project_folder};
use matyan_model::{
    lock::jobs_clear,
    project::{ListedProject, ProjectState, project_advance, project_clear, projects_list_all},
};
use matyan_store::{Transaction, transact};
use tokio_util::sync::CancellationToken;

use crate::{BlobEvent, BlobObserver, Deps, Error, paged_sweep::PagedSweep};

/// Time after which no process uses a deleted project: workers and frontiers look a project up
/// every 30 s.
const FIRST_PASS_US: i64 = 60_000_000;
/// Longest time for which an upload URL may be valid.
const SECOND_PASS_US: i64 = 7 * 24 * 3_600_000_000;

/// Deletes the content of the deleted projects that are due. Projects do not wait for each
/// other: the error of one is reported after all were tried.
pub async fn sweep_deleted_projects(
    deps: Deps<'_>,
    stop: &CancellationToken,
    observe: &mut BlobObserver<'_>,
) -> Result<(), Error> {
    let mut outcome = Ok(());
    let now_us = deps.now_us();
    let projects = projects_list_all(&*deps.store.snapshot().await?).await?;
    for listed in projects {
        if stop.is_cancelled() || !is_due(&listed, now_us) {
            continue;
        }
        match sweep(deps, &listed, stop, observe).await {
            Ok(()) => {}
            // Without the store, none of them can be swept.
            Err(Error::Store(error)) if error.is_temporary() => return Err(error.into()),
            Err(error) => {
                let project = listed.project.name.as_str();
                tracing::warn!(project, %error, "failed to delete a project; will retry");
                outcome = Err(error);
            }
        }
    }
    outcome
}

fn is_due(listed: &ListedProject, now_us: i64) -> bool {
    let age_us = now_us.saturating_sub(listed.deleted_us.unwrap_or(now_us));
    match listed.state {
        ProjectState::Deleting => age_us >= FIRST_PASS_US,
        ProjectState::Deleted => age_us >= SECOND_PASS_US,
        ProjectState::Active | ProjectState::Cleared => false,
    }
}

async fn sweep(
    deps: Deps<'_>,
    listed: &ListedProject,
    stop: &CancellationToken,
    observe: &mut BlobObserver<'_>,
) -> Result<(), Error> {
    let project = &listed.project;
    let clear_page = async || Ok::<_, Error>(project_clear(deps.store, project.number).await?);
    if !PagedSweep::new(stop).pages(clear_page).await? {
        return Ok(());
    }
    // After the rows, so that no job stores another payload of the project.
    if !delete_blobs(deps.blobs, &project_folder(&project.name)?, stop, observe).await? {
        return Ok(());
    }
    transact(deps.store, async |mut transaction: Transaction| {
        let mut jobs = matyan_store::Batch::default();
        jobs_clear(transaction.unchecked(), project.number, &mut jobs).await?;
        transaction.batch().append(jobs);
        project_advance(&mut transaction, &project.name, listed.state).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    if listed.state == ProjectState::Deleting {
        tracing::info!(project = project.name, "deleted project");
    }
    Ok(())
}

/// Deletes all blobs of a folder. Returns false if it was stopped before the last one.
async fn delete_blobs(
    blobs: &dyn Blobs,
    folder: &str,
    stop: &CancellationToken,
    observe: &mut BlobObserver<'_>,
) -> Result<bool, Error> {
    let mut after: Option<BlobKey> = None;
    let mut failure = None;
    while !stop.is_cancelled() {
        let page = blobs.list(folder, after.as_ref()).await?;
        let keys: Vec<BlobKey> = page.blobs.iter().map(|(key, _)| key.clone()).collect();
        let left = if keys.is_empty() { Vec::new() } else { blobs.delete(&keys).await? };
        for (key, blob) in &page.blobs {
            if left.iter().any(|(other, _)| other == key) {
                observe(BlobEvent::BlobFailed);
            } else {
                observe(BlobEvent::Deleted { key, bytes: blob.size });
            }
        }
        failure = failure.or(left.into_iter().next());
        after = page.next;
        if after.is_none() {
            return match failure {
                Some((_, error)) => Err(error.into()),
                None => Ok(true),
            };
        }
    }
    Ok(false)
}
