//! Purge of runs that have been in the bin for a week: a purge ends the stay in the bin, appends the ordinary
//! deletion of the run to the log, and hides the run like every run whose deletion is there. In this order, no one
//! brings back a run whose deletion is in the log, and a purge that is interrupted begins again. Because the log has
//! the deletion, the run stays deleted when a backup is restored and the log is replayed.

use matyan_log::{LogWriter, NewRecord, Topic};
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    keys,
    run::{BIN_KEPT_US, BinRow, bin_due_page, bin_purge_begin, bin_purge_end, run_id_get},
};
use matyan_store::Transaction;

use crate::{Deps, EMPTY_BIN, Error, JobLock, pace::Pace, paged_sweep::PagedSweep};

/// Rows of the index looked at in one page.
const PAGE: usize = 256;

/// The log that gets the deletions of purged runs.
#[derive(Clone, Copy)]
pub struct DeletionLog<'d> {
    pub writer: &'d dyn LogWriter,
    /// Makes the record that deletes a run, from its project, its id and the time.
    pub record: fn(&NamedProject, &RunId, i64) -> NewRecord,
}

/// A run whose purge has begun.
struct PurgedRun {
    id: RunId,
    number: RunNumber,
}

/// Empties the bins of all projects, each under the lock of the job in that project.
pub async fn empty_bins(deps: Deps<'_>, log: DeletionLog<'_>, owner: [u8; 16]) -> Result<(), Error> {
    let mut sweep = PagedSweep::default();
    let mut is_free = Ok(());
    for project in deps.projects().await? {
        match empty_bin(deps, log, owner, &project).await {
            // Another process does it, which must not hold up the other projects.
            Err(busy @ Error::Busy { .. }) => is_free = Err(busy),
            emptied => sweep.keep_damage(emptied)?,
        }
    }
    sweep.finish()?;
    is_free
}

async fn empty_bin(
    deps: Deps<'_>,
    log: DeletionLog<'_>,
    owner: [u8; 16],
    project: &NamedProject,
) -> Result<(), Error> {
    let mut lock = JobLock::acquire(deps.store, deps.clock, EMPTY_BIN, project.number, owner).await?;
    let emptied = async {
        let before_us = deps.now_us().saturating_sub(BIN_KEPT_US);
        let mut rest = Some(keys::index_binned_all(project.number));
        let mut pace = Pace::default();
        while let Some(range) = rest {
            let snapshot = deps.store.snapshot().await?;
            let (due, next) = bin_due_page(&*snapshot, project.number, &range, PAGE, before_us).await?;
            drop(snapshot);
            rest = next;
            let purged = begin(deps, &mut lock, project, due, before_us).await?;
            delete(&mut lock, log, project, &purged).await?;
            pace.rest().await;
        }
        Ok(())
    };
    let emptied = emptied.await;
    lock.release(emptied).await
}

/// Begins the purge of runs, unless they were brought back in the meantime. A damaged run holds up no other.
async fn begin(
    deps: Deps<'_>,
    lock: &mut JobLock<'_>,
    project: &NamedProject,
    due: Vec<BinRow>,
    before_us: i64,
) -> Result<Vec<PurgedRun>, Error> {
    let mut purged = Vec::new();
    for row in due {
        let begun = lock.write(async |mut transaction: Transaction| {
            let id = bin_purge_begin(&mut transaction, project.number, row, before_us).await?;
            Ok::<_, Error>((transaction, id))
        });
        match begun.await {
            Ok(id) => purged.extend(id.map(|id| PurgedRun { id, number: row.number })),
            Err(Error::Store(error @ matyan_store::Error::Corrupt { .. })) => {
                let id = run_id_get(&*deps.store.snapshot().await?, project.number, row.number).await?;
                tracing::error!(
                    run = id.as_ref().map_or("", RunId::as_str),
                    project = project.name.as_str(),
                    number = row.number.0,
                    %error,
                    "failed to purge a damaged run in the bin; skipping it: delete it with `matyan runs purge`"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(purged)
}

/// Deletes the runs whose purge has begun: one record for each, appended together, and then the end of each purge.
async fn delete(
    lock: &mut JobLock<'_>,
    log: DeletionLog<'_>,
    project: &NamedProject,
    purged: &[PurgedRun],
) -> Result<(), Error> {
    if purged.is_empty() {
        return Ok(());
    }
    let now_us = lock.now_us();
    let records = purged.iter().map(|run| (log.record)(project, &run.id, now_us)).collect();
    log.writer.append(Topic::Ingestion, records).await?;
    for PurgedRun { id, number } in purged {
        lock.write(async |mut transaction: Transaction| {
            bin_purge_end(&mut transaction, project.number, id, *number).await?;
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
        tracing::info!(run = id.as_str(), project = project.name.as_str(), "purged a run from the bin");
    }
    Ok(())
}
