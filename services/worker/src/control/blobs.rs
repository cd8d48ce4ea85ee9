//! Deletes what a deleted run has left in the blob store. A blob that cannot be deleted keeps no other: it is counted, and told
//! of when all have been tried.

use matyan_blob::{BlobKey, RunFolder};
use matyan_maintenance::{Deleted, Folder, tombstone_number};
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    project::project_find,
    run::blobs_gone_put,
};
use matyan_proto::limits;
use matyan_store::{Transaction, transact};

use super::envelope;
use crate::{deps::Deps, error::Error, metrics::Metrics};

pub(crate) async fn delete_run(
    deps: &Deps,
    metrics: &Metrics,
    project: &str,
    deleted: &envelope::Deleted,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    if deleted.run_id.is_empty() {
        tracing::warn!("skipped an event about a deleted run that names none");
        return Ok(());
    }
    let is_known = project.len() <= limits::PROJECT_BYTES && deleted.run_id.len() <= limits::RUN_ID_BYTES;
    if !is_known {
        tracing::warn!("skipped an event about a deleted run whose id or project is longer than any is");
        return Ok(());
    }
    let Some(project_number) = project_find(&*deps.store.snapshot().await?, project).await? else {
        tracing::warn!(project, "skipped an event about a deleted run of a project that is not there");
        return Ok(());
    };
    let project = NamedProject { number: project_number, name: project.to_owned() };
    let id = RunId::new(deleted.run_id.as_str());
    // An event of Matyan 0.3 means whatever run has been deleted under the id.
    let number = match deleted.number {
        Some(number) => number,
        None => match tombstone_number(&*deps.store, project.number, &id).await? {
            Some(number) => number,
            None => return Ok(()),
        },
    };
    if !deleted.blob_keys.is_empty() {
        // Whoever wrote the event: what lies elsewhere is not the run's.
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let keys = deleted.blob_keys.iter().filter_map(|key| BlobKey::in_project(&project.name, key).ok());
        let keys: Vec<_> = keys.filter(|key| folder.reference_of(key).is_some()).collect();
        let dead = tombstone_number(&*deps.store, project.number, &id).await?;
        if dead != Some(number) || keys.is_empty() {
            return Ok(());
        }
        let left = deps.blobs.delete(&keys).await?;
        tell(metrics, (keys.len() - left.len()) as u64, &left);
        return none_left(left);
    }
    delete_folder(deps, metrics, &project, &id, number, beat).await
}

/// Deletes the folder of a run and notes that it is gone. A run that lives, or was deleted another time, is left alone. Beats
/// with each page: all of them may take minutes.
async fn delete_folder(
    deps: &Deps,
    metrics: &Metrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    let mut folder = Folder::new(&*deps.store, &*deps.blobs, project, id, number)?;
    let mut all_left = Vec::new();
    while let Some(Deleted { count, left }) = folder.delete_page().await? {
        beat();
        tell(metrics, count, &left);
        all_left.extend(left);
    }
    none_left(all_left)?;
    transact(&*deps.store, async |mut transaction: Transaction| {
        blobs_gone_put(&mut transaction, project.number, id, number).await?;
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

/// Counts what was deleted, and what stays.
pub(crate) fn tell(metrics: &Metrics, deleted: u64, left: &[(BlobKey, matyan_blob::Error)]) {
    metrics.blobs_deleted.inc_by(deleted);
    metrics.blob_failures.inc_by(left.len() as u64);
    for (key, error) in left {
        tracing::warn!(%key, %error, "a blob of a deleted run stays");
    }
}

/// Worth another attempt at once if one of them is.
fn none_left(mut left: Vec<(BlobKey, matyan_blob::Error)>) -> Result<(), Error> {
    let count = left.len();
    left.sort_by_key(|(_, error)| !error.is_temporary());
    match left.into_iter().next() {
        None => Ok(()),
        Some((key, reason)) => Err(Error::BlobsLeft { count, key: key.to_string(), reason }),
    }
}
