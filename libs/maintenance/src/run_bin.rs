//! Purge of runs that have been in the bin for a week.

use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    index::index_runs_page,
    keys,
    run::{BIN_KEPT_US, bin_purge},
};
use matyan_store::Transaction;

use crate::{Deps, EMPTY_BIN, Error, JobLock, pace::Pace};

/// Runs looked at in one page.
const PAGE: usize = 256;

/// Empties the bins of all projects, each under the lock of the job in that project.
pub async fn empty_bins(deps: Deps<'_>, owner: [u8; 16]) -> Result<(), Error> {
    let mut outcome = Ok(());
    for project in deps.projects().await? {
        match empty_bin(deps, owner, &project).await {
            // Another process does it, which must not hold up the other projects.
            Err(busy @ Error::Busy { .. }) => outcome = Err(busy),
            emptied => emptied?,
        }
    }
    outcome
}

async fn empty_bin(deps: Deps<'_>, owner: [u8; 16], project: &NamedProject) -> Result<(), Error> {
    let mut lock = JobLock::acquire(deps.store, deps.clock, EMPTY_BIN, project.number, owner).await?;
    let emptied = async {
        let before_us = deps.now_us().saturating_sub(BIN_KEPT_US);
        let mut rest = Some(keys::index_binned_before(project.number, before_us));
        let mut pace = Pace::default();
        while let Some(range) = rest {
            let (numbers, next) = index_runs_page(&*deps.store.snapshot().await?, &range, PAGE).await?;
            rest = next;
            for number in numbers {
                match purge(&mut lock, project, number, before_us).await {
                    Err(Error::Store(error @ matyan_store::Error::Corrupt { .. })) => {
                        tracing::error!(number = number.0, %error, "failed to purge a damaged run; skipping it");
                    }
                    purged => {
                        if let Some(id) = purged? {
                            tracing::info!(
                                run = id.as_str(),
                                project = project.name.as_str(),
                                "purged a run from the bin"
                            );
                        }
                    }
                }
            }
            pace.rest().await;
        }
        Ok(())
    };
    let emptied = emptied.await;
    lock.release(emptied).await
}

/// Deletes a run, unless it was brought back in the meantime.
async fn purge(
    lock: &mut JobLock<'_>,
    project: &NamedProject,
    number: RunNumber,
    before_us: i64,
) -> Result<Option<RunId>, Error> {
    let now_us = lock.now_us();
    lock.write(async |mut transaction: Transaction| {
        let purged = bin_purge(&mut transaction, project, number, before_us, now_us).await?;
        Ok::<_, Error>((transaction, purged))
    })
    .await
}
