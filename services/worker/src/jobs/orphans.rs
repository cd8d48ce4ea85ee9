//! Daily deletion of orphaned blobs. `matyan_maintenance` decides which blobs may be deleted.

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

/// Number of consecutive runs with bucket failures after which the bucket counts as unavailable
/// and the round fails.
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
                    // The failure of one directory says nothing about the next, unless the bucket itself is unavailable.
                    Err(matyan_maintenance::Error::Blobs(error)) => {
                        tracing::warn!(run = id.as_str(), %error, "failed to search for orphaned blobs; keeping all blobs of the run");
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

/// Whether the error concerns the whole bucket rather than one run.
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
                tracing::info!(key, "deleted orphaned blob");
                metrics.blobs_deleted.inc();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(key, %error, "failed to delete orphaned blob; will retry in the next round");
                metrics.blob_failures.inc();
            }
        }
    }
    Ok(())
}
