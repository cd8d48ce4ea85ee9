//! Deletes the blobs of a deleted run. A blob that cannot be deleted does not stop the others:
//! failures are counted, and reported after all blobs have been tried.

use matyan_blob::{BlobKey, RunFolder};
use matyan_maintenance::{DeletedRunBlobs, deleted_run_number};
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    project::project_find,
    run::blobs_deleted_put,
};
use matyan_proto::limits;
use matyan_store::{Transaction, transact};
use matyan_wire::control::DeletedRun;

use crate::{deps::Deps, error::Error, metrics::BlobMetrics};

pub(crate) async fn delete_run(
    deps: &Deps,
    metrics: &BlobMetrics,
    project: &str,
    deleted: &DeletedRun,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    if deleted.run_id.is_empty() {
        tracing::warn!("skipped a run-deleted event without a run id");
        return Ok(());
    }
    if project.len() > limits::PROJECT_BYTES || deleted.run_id.len() > limits::RUN_ID_BYTES {
        tracing::warn!("skipped a run-deleted event whose run id or project is too long");
        return Ok(());
    }
    let Some(project_number) = project_find(&*deps.store.snapshot().await?, project).await? else {
        tracing::warn!(project, "skipped a run-deleted event of an unknown project");
        return Ok(());
    };
    let project = NamedProject { number: project_number, name: project.to_owned() };
    let id = RunId::new(deleted.run_id.as_str());
    // Events of Matyan 0.3 have no run number: they refer to any run that was deleted under
    // the id.
    let number = match deleted.number {
        Some(number) => RunNumber(number),
        None => match deleted_run_number(&*deps.store, project.number, &id).await? {
            Some(number) => number,
            None => return Ok(()),
        },
    };
    if !deleted.blob_keys.is_empty() {
        // The event is not trusted: keys outside the run's folder are ignored.
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let keys = deleted.blob_keys.iter().filter_map(|key| BlobKey::in_project(&project.name, key).ok());
        let keys: Vec<_> = keys.filter(|key| folder.reference_of(key).is_some()).collect();
        let dead = deleted_run_number(&*deps.store, project.number, &id).await?;
        if dead != Some(number) || keys.is_empty() {
            return Ok(());
        }
        let left = deps.blobs.delete(&keys).await?;
        for (key, error) in &left {
            tracing::warn!(%key, %error, "failed to delete blob of a deleted run");
        }
        count_deletions(metrics, keys.len(), &left);
        return none_left(left);
    }
    delete_folder(deps, metrics, &project, &id, number, beat).await
}

/// Deletes the folder of a run and records that it is deleted. Does nothing if the run is live
/// or has been deleted a second time. Calls `beat` for each page, because all of them may take
/// minutes.
async fn delete_folder(
    deps: &Deps,
    metrics: &BlobMetrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    let mut blobs = DeletedRunBlobs::new(deps.maintenance(), project, id, number)?;
    let mut all_left = Vec::new();
    while let Some(page) = blobs.next_page().await? {
        beat();
        count_deletions(metrics, page.blobs.len(), &page.failed);
        all_left.extend(page.failed);
    }
    none_left(all_left)?;
    transact(&*deps.store, async |mut transaction: Transaction| {
        blobs_deleted_put(&mut transaction, project.number, id, number).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

fn count_deletions(metrics: &BlobMetrics, blobs: usize, left: &[(BlobKey, matyan_blob::Error)]) {
    metrics.deleted.inc_by((blobs - left.len()) as u64);
    metrics.failures.inc_by(left.len() as u64);
}

/// Fails if blobs remain. The error is temporary if the deletion of any blob failed with a temporary error,
/// so that the event is retried.
fn none_left(mut left: Vec<(BlobKey, matyan_blob::Error)>) -> Result<(), Error> {
    let count = left.len();
    left.sort_by_key(|(_, error)| !error.is_temporary());
    match left.into_iter().next() {
        None => Ok(()),
        Some((key, reason)) => Err(Error::BlobsLeft { count, key: key.to_string(), reason }),
    }
}
