//! Deletes what a deleted run has left in the blob store: everything in its folder, page by page, and looks before each page
//! that the run id still has the tombstone of that very delete. A blob that cannot be deleted keeps no other: it is counted, and
//! told of when all have been tried.

use matyan_blob::{BlobKey, RunFolder};
use matyan_model::{
    ids::{NamedProject, Project, RunId, RunNumber},
    lock::{Lock, lock_still_held},
    project::project_find,
    run::{Head, blobs_gone_put, head_get},
};
use matyan_store::{Transaction, transact};

use super::envelope::Deleted;
use crate::{deps::Deps, error::Error, metrics::Metrics};

pub(crate) async fn delete_run(
    deps: &Deps,
    metrics: &Metrics,
    project: &str,
    deleted: &Deleted,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    if deleted.run_id.is_empty() {
        tracing::warn!("skipped an event about a deleted run that names none");
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
        None => match tombstone_number(deps, project.number, &id).await? {
            Some(number) => number,
            None => return Ok(()),
        },
    };
    if !deleted.blob_keys.is_empty() {
        // Whoever wrote the event: what lies elsewhere is not the run's.
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let keys = deleted.blob_keys.iter().filter_map(|key| BlobKey::in_project(&project.name, key).ok());
        let keys = keys.filter(|key| folder.reference_of(key).is_some()).collect();
        if !is_dead(deps, project.number, &id, number).await? {
            return Ok(());
        }
        return none_left(delete(deps, metrics, keys).await?);
    }
    empty(deps, metrics, &project, &id, number, None, beat).await
}

/// Deletes the folder of a run and notes that it is gone. A run that lives, or was deleted another time, is left alone; a job
/// that has lost its lock notes nothing.
pub(crate) async fn delete_folder(
    deps: &Deps,
    metrics: &Metrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
    lock: Option<&Lock>,
) -> Result<(), Error> {
    empty(deps, metrics, project, id, number, lock, &|| {}).await
}

/// Beats before each page: all of them may take minutes.
async fn empty(
    deps: &Deps,
    metrics: &Metrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
    lock: Option<&Lock>,
    beat: &(dyn Fn() + Sync),
) -> Result<(), Error> {
    let folder = RunFolder::new(&project.name, id.as_str())?;
    let project = project.number;
    let (mut after, mut left) = (None, Vec::new());
    loop {
        beat();
        if !is_dead(deps, project, id, number).await? {
            return Ok(());
        }
        let listing = deps.blobs.list(folder.prefix(), after.as_ref()).await?;
        let keys = listing.blobs.into_iter().map(|(key, _)| key).collect();
        left.extend(delete(deps, metrics, keys).await?);
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    none_left(left)?;
    transact(&*deps.store, async |mut transaction: Transaction| {
        let may_write = match lock {
            Some(lock) => lock_still_held(&transaction, lock).await?,
            None => true,
        };
        if may_write {
            blobs_gone_put(&mut transaction, project, id, number).await?;
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

async fn is_dead(deps: &Deps, project: Project, id: &RunId, number: RunNumber) -> Result<bool, Error> {
    Ok(tombstone_number(deps, project, id).await? == Some(number))
}

/// The number that a deleted run had; 0 if nothing was ever known of it but its delete.
async fn tombstone_number(deps: &Deps, project: Project, id: &RunId) -> Result<Option<RunNumber>, Error> {
    let head = head_get(&*deps.store.snapshot().await?, project, id).await?;
    Ok(match head {
        Some(Head::Tombstone(tombstone)) => Some(RunNumber(tombstone.number.unwrap_or_default())),
        Some(Head::Live(_)) | None => None,
    })
}

/// Those that stay, each with the reason.
async fn delete(
    deps: &Deps,
    metrics: &Metrics,
    keys: Vec<BlobKey>,
) -> Result<Vec<(BlobKey, matyan_blob::Error)>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let left = deps.blobs.delete(&keys).await?;
    metrics.blobs_deleted.inc_by((keys.len() - left.len()) as u64);
    metrics.blob_failures.inc_by(left.len() as u64);
    for (key, error) in &left {
        tracing::warn!(%key, %error, "a blob of a deleted run stays");
    }
    Ok(left)
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
