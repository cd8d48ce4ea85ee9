//! Every day: blobs of live runs that nothing refers to. What may go is decided where an operator's call does the same.

use matyan_maintenance::Orphans;
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    keys,
    run::runs_list,
};
use matyan_store::Scan;
use tokio_util::sync::CancellationToken;

use super::projects;
use crate::{deps::Deps, error::Error, metrics::Metrics};

/// When so many runs in a row could not be looked at because of the bucket, it is away: the round has failed.
pub(crate) const IN_A_ROW: u32 = 5;

pub(crate) async fn sweep(deps: &Deps, metrics: &Metrics, stop: &CancellationToken) -> Result<(), Error> {
    let orphans = Orphans::new(&*deps.store, &*deps.log_writer, &*deps.blobs, deps.now_us()).await?;
    let mut failed = 0;
    for project in projects(deps).await? {
        let mut range = Some(keys::documents(project.number));
        while let Some(own) = range.filter(|_| !stop.is_cancelled()) {
            let snapshot = deps.store.snapshot().await?;
            let page =
                runs_list(&*snapshot, project.number, &own, Scan { rows: 100, ..Scan::default() }).await?;
            drop(snapshot);
            for (number, document) in page.runs {
                let id = RunId::new(document.props.run_id);
                match sweep_run(&orphans, metrics, &project, &id, number).await {
                    // Its folder cannot be looked into, which says nothing of the next run's, unless it is the bucket.
                    Err(matyan_maintenance::Error::Blobs(error)) => {
                        tracing::warn!(run = id.as_str(), %error, "a run keeps the blobs that it has");
                        metrics.blob_failures.inc();
                        failed = if is_of_bucket(&error) { failed + 1 } else { 0 };
                        if failed == IN_A_ROW {
                            return Err(matyan_maintenance::Error::Blobs(error).into());
                        }
                    }
                    swept => {
                        swept?;
                        failed = 0;
                    }
                }
            }
            range = page.rest;
        }
    }
    Ok(())
}

/// Not of one run.
fn is_of_bucket(error: &matyan_blob::Error) -> bool {
    error.is_temporary()
        || matches!(error, matyan_blob::Error::NoBucket { .. } | matyan_blob::Error::Setup { .. })
}

async fn sweep_run(
    orphans: &Orphans<'_>,
    metrics: &Metrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
) -> Result<(), matyan_maintenance::Error> {
    for orphan in orphans.of_run(project, id, number).await? {
        let key = orphan.0.as_str();
        match orphans.delete(project.number, id, number, &orphan).await? {
            Ok(true) => {
                tracing::info!(key, "a blob that nothing referred to is deleted");
                metrics.blobs_deleted.inc();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(key, %error, "a blob that nothing refers to stays");
                metrics.blob_failures.inc();
            }
        }
    }
    Ok(())
}
