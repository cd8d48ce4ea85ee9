//! What keeps the store in shape: sweeps behind deletes, and rows that are kept for a time only. Each job is a loop of its own
//! that looks every so often; all of them may run in several processes at once, because each transaction checks what it
//! read. The clock decides what is old enough, never who may write.

mod entities;
mod orphans;
mod tombstones;

#[cfg(test)]
pub(crate) use {
    entities::sweep as sweep_entities, orphans::sweep as sweep_orphans, tombstones::sweep as sweep_tombstones,
};

use std::time::Duration;

use matyan_model::{
    change::{KEPT_US, changes_trim},
    ids::NamedProject,
    producer::producers_sweep,
    project::projects_list,
    run::{RESTORE_KEPT_US, dead_runs_list, staged_drop_old, sweep_step},
    series::garbage_clear,
};
use matyan_store::{Batch, Transaction, transact};
use matyan_upkeep::oldest_unapplied_us;
use tokio_util::sync::CancellationToken;

use crate::{
    deps::{Clock, Deps},
    error::Error,
    metrics::Metrics,
};

/// Deleted runs: people look at the counts.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Rows that are kept for minutes or hours.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Rows that are kept for days.
const TOMBSTONES_EVERY: Duration = Duration::from_secs(3_600);
/// Blobs that nothing refers to.
const ORPHANS_EVERY: Duration = Duration::from_secs(24 * 3_600);

pub(crate) struct Jobs {
    deps: Deps,
    metrics: Metrics,
}

impl Jobs {
    pub(crate) fn new(deps: Deps, metrics: Metrics) -> Self {
        Self { deps, metrics }
    }

    /// Works until it is stopped. A round may be cut off anywhere: the next one finds what is left.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let deps = &self.deps;
        let (metrics, stop) = (&self.metrics, &stop);
        let told = (&deps.clock, metrics);
        tokio::join!(
            every(SWEEP_EVERY, "dead-runs", told, stop, || sweep_runs(deps, stop)),
            every(TIDY_EVERY, "dead-entities", told, stop, || entities::sweep(deps, stop)),
            every(TIDY_EVERY, "changes", told, stop, || trim_changes(deps)),
            every(TIDY_EVERY, "garbage", told, stop, || clear_garbage(deps)),
            every(TIDY_EVERY, "producers", told, stop, || sweep_producers(deps)),
            every(TIDY_EVERY, "restores", told, stop, || drop_restores(deps)),
            every(TOMBSTONES_EVERY, "tombstones", told, stop, || tombstones::sweep(deps, metrics)),
            every(ORPHANS_EVERY, "orphans", told, stop, || orphans::sweep(deps, metrics, stop)),
        );
    }
}

async fn every<F: Future<Output = Result<(), Error>>>(
    period: Duration,
    name: &'static str,
    (clock, metrics): (&Clock, &Metrics),
    stop: &CancellationToken,
    job: impl Fn() -> F,
) {
    while stop.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
        match stop.run_until_cancelled(job()).await {
            None => return,
            Some(Ok(())) => metrics.jobs.done(name, clock()),
            Some(Err(error)) => tracing::warn!(job = name, %error, "a job goes on in its next round"),
        }
    }
}

async fn projects(deps: &Deps) -> Result<Vec<NamedProject>, Error> {
    Ok(projects_list(&*deps.store.snapshot().await?).await?)
}

/// Clears the rows of dead runs, a bounded number at a time.
pub(crate) async fn sweep_runs(deps: &Deps, stop: &CancellationToken) -> Result<(), Error> {
    for NamedProject { number: project, .. } in projects(deps).await? {
        for number in dead_runs_list(&*deps.store.snapshot().await?, project).await? {
            while !stop.is_cancelled() && !sweep_step(&*deps.store, project, number).await? {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}

/// Drops changes that nobody is behind any more.
pub(crate) async fn trim_changes(deps: &Deps) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(KEPT_US);
    for NamedProject { number: project, .. } in projects(deps).await? {
        loop {
            let mut batch = Batch::buffered();
            if !changes_trim(&*deps.store.snapshot().await?, project, before_us, &mut batch).await? {
                break;
            }
            deps.store.commit(batch).await?;
        }
    }
    Ok(())
}

/// Throws away what restores have left that were cut off and never gone on with.
pub(crate) async fn drop_restores(deps: &Deps) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(RESTORE_KEPT_US);
    for NamedProject { number: project, .. } in projects(deps).await? {
        let dropped = staged_drop_old(&*deps.store, project, before_us).await?;
        if dropped > 0 {
            tracing::info!(dropped, "restores that never ended were thrown away");
        }
    }
    Ok(())
}

async fn clear_garbage(deps: &Deps) -> Result<(), Error> {
    for NamedProject { number: project, .. } in projects(deps).await? {
        while garbage_clear(&*deps.store, project, deps.now_us()).await? > 0 {}
    }
    Ok(())
}

/// Producers are silent by the time of the log, not of this clock: while something waits to be applied, nothing that came
/// after it is forgotten.
pub(crate) async fn sweep_producers(deps: &Deps) -> Result<(), Error> {
    // Asked first: what is appended meanwhile is not older.
    let now_us = deps.now_us();
    let log_time_us = now_us.min(oldest_unapplied_us(&*deps.store, &*deps.log_writer).await?);
    let step = async |mut transaction: Transaction| {
        transaction.buffered();
        let more = producers_sweep(&mut transaction, log_time_us).await?;
        Ok::<_, Error>((transaction, more))
    };
    while transact(&*deps.store, step).await?.0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::Registry;

    use super::*;

    #[tokio::test]
    async fn a_job_is_cut_off_by_a_stop() {
        let (metrics, stop) = (Metrics::new(&Registry::new()).unwrap(), CancellationToken::new());
        let job = || {
            stop.cancel();
            std::future::pending()
        };
        let clock: Clock = Arc::new(|| 7_500_000);
        let loops = every(Duration::ZERO, "job", (&clock, &metrics), &stop, job);
        tokio::time::timeout(Duration::from_secs(60), loops).await.unwrap();
    }
}
