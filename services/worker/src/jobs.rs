//! Periodic maintenance of the store: cleanup after deletes, and removal of rows with a limited
//! lifetime. Each job is a separate loop. The time of its last success is in the store, so that
//! the schedule survives restarts. All jobs may run in several processes at the same time,
//! because each transaction checks what it read.

mod entities;
mod orphans;
mod stale;
mod tombstones;

#[cfg(test)]
pub(crate) use {
    entities::sweep as sweep_entities, orphans::IN_A_ROW, orphans::sweep as sweep_orphans,
    stale::end as end_stale, tombstones::sweep as sweep_tombstones,
};

use std::time::Duration;

use matyan_maintenance::{CLEANUP_TOMBSTONES, FINISH_STALE, oldest_unapplied_us};
use matyan_model::{
    change::{KEPT_US, changes_trim},
    ids::NamedProject,
    lock::{job_done, job_last_success},
    producer::producers_sweep,
    project::projects_list,
    run::{RESTORE_KEPT_US, dead_runs_list, staged_drop_old, sweep_step},
    series::garbage_clear,
};
use matyan_store::{Batch, Transaction, transact};
use tokio_util::sync::CancellationToken;

use crate::{deps::Deps, error::Error, metrics::Metrics};

/// Interval for deleted runs: short, because users watch the counts.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Interval for rows that are kept for minutes or hours.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Interval for rows that are kept for days, and for runs that are silent for as long.
const HOURLY: Duration = Duration::from_secs(3_600);
/// Interval for blobs that nothing refers to.
const ORPHANS_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Minimum wait before an overdue job, after a start or a failed round.
const SOON: Duration = Duration::from_secs(60);
/// Number of failures after which the wait no longer doubles.
const MOST_FAILURES: u32 = 12;
/// Time that clients are given to reconnect after an outage. Until then, runs may be silent
/// only because no server accepted their data.
const CLIENTS_RETURN: Duration = Duration::from_secs(15 * 60);

/// Minimum interval between records of a job's success in the store.
const NOTED_EVERY_US: i64 = 60_000_000;

pub(crate) struct Jobs {
    deps: Deps,
    metrics: Metrics,
    /// Idle time after which a run is finished; `None` disables this job.
    finish_stale: Option<Duration>,
}

impl Jobs {
    pub(crate) fn new(deps: Deps, metrics: Metrics, finish_stale: Option<Duration>) -> Self {
        Self { deps, metrics, finish_stale }
    }

    /// Runs until it is stopped. A round may be interrupted anywhere: the next one
    /// continues with what is left.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let (deps, metrics) = (&self.deps, &self.metrics);
        let stale = async {
            if let Some(idle) = self.finish_stale {
                self.every(HOURLY, CLIENTS_RETURN, FINISH_STALE, stop, || stale::end(deps, idle)).await;
            }
        };
        tokio::join!(
            self.every(SWEEP_EVERY, SOON, "dead-runs", stop, || sweep_runs(deps, stop)),
            self.every(TIDY_EVERY, SOON, "dead-entities", stop, || entities::sweep(deps, stop)),
            self.every(TIDY_EVERY, SOON, "changes", stop, || trim_changes(deps)),
            self.every(TIDY_EVERY, SOON, "garbage", stop, || clear_garbage(deps)),
            self.every(TIDY_EVERY, SOON, "producers", stop, || sweep_producers(deps)),
            self.every(TIDY_EVERY, SOON, "restores", stop, || drop_restores(deps)),
            stale,
            self.every(HOURLY, SOON, CLEANUP_TOMBSTONES, stop, || tombstones::sweep(deps, metrics)),
            self.every(ORPHANS_EVERY, SOON, "orphans", stop, || orphans::sweep(deps, metrics, stop)),
        );
    }

    async fn every<F: Future<Output = Result<(), Error>>>(
        &self,
        period: Duration,
        soon: Duration,
        name: &'static str,
        stop: &CancellationToken,
        job: impl Fn() -> F,
    ) {
        let mut last_us = self.last_success(name).await;
        let (mut noted_us, mut failures) = (last_us, 0);
        // A job that never succeeded counts as late from now on.
        self.metrics.jobs.begun(name, last_us.unwrap_or_else(|| self.deps.now_us()));
        loop {
            // Back off after failures, because a round may have done a lot of work
            // before it failed.
            let wait = wait(period, soon, last_us, self.deps.now_us());
            let wait = wait.saturating_mul(1 << failures).min(period);
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            match stop.run_until_cancelled(job()).await {
                None => return,
                Some(Ok(())) => {
                    let now_us = self.deps.now_us();
                    self.metrics.jobs.done(name, now_us);
                    (last_us, failures) = (Some(now_us), 0);
                    if noted_us.is_none_or(|noted_us| now_us.saturating_sub(noted_us) >= NOTED_EVERY_US) {
                        self.note(name, now_us).await;
                        noted_us = last_us;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(job = name, %error, "job failed; will retry in its next round");
                    failures = MOST_FAILURES.min(failures + 1);
                }
            }
        }
    }

    /// Time of the last success in any process.
    async fn last_success(&self, name: &str) -> Option<i64> {
        let last = async { job_last_success(&*self.deps.store.snapshot().await?, name).await };
        last.await.unwrap_or_else(|error| {
            tracing::warn!(job = name, %error, "failed to read when the job last succeeded");
            None
        })
    }

    async fn note(&self, name: &str, now_us: i64) {
        let mut batch = Batch::buffered();
        job_done(&mut batch, name, now_us);
        if let Err(error) = self.deps.store.commit(batch).await {
            tracing::warn!(job = name, %error, "failed to record job completion");
        }
    }
}

/// The wait until the next round, at least `soon`.
fn wait(period: Duration, soon: Duration, last_us: Option<i64>, now_us: i64) -> Duration {
    let since = last_us.map_or(Duration::MAX, |last_us| {
        Duration::from_micros(u64::try_from(now_us.saturating_sub(last_us)).unwrap_or_default())
    });
    period.saturating_sub(since).max(period.min(soon))
}

async fn projects(deps: &Deps) -> Result<Vec<NamedProject>, Error> {
    Ok(projects_list(&*deps.store.snapshot().await?).await?)
}

/// Clears the rows of dead runs, a bounded number per transaction.
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

/// Drops changes that are too old for any reader to resume from.
pub(crate) async fn trim_changes(deps: &Deps) -> Result<(), Error> {
    let now_us = deps.now_us();
    let kept = now_us.saturating_sub(KEPT_US)..now_us.saturating_add(KEPT_US);
    for NamedProject { number: project, .. } in projects(deps).await? {
        loop {
            let mut batch = Batch::buffered();
            if !changes_trim(&*deps.store.snapshot().await?, project, kept.clone(), &mut batch).await? {
                break;
            }
            deps.store.commit(batch).await?;
        }
    }
    Ok(())
}

/// Drops the staged rows of restores that were interrupted and never resumed.
pub(crate) async fn drop_restores(deps: &Deps) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(RESTORE_KEPT_US);
    for NamedProject { number: project, .. } in projects(deps).await? {
        let dropped = staged_drop_old(&*deps.store, project, before_us).await?;
        if dropped > 0 {
            tracing::info!(dropped, "dropped unfinished restores");
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

/// Forgets silent producers. Silence is measured in log time, not by this clock: while records
/// wait to be applied, no producer that was active after them is forgotten.
pub(crate) async fn sweep_producers(deps: &Deps) -> Result<(), Error> {
    // Read the clock first, so that records appended from now on are not older than it.
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
    use super::*;

    #[test]
    fn a_round_is_due_by_the_last_success_of_any_process() {
        let (minute, day) = (Duration::from_secs(60), ORPHANS_EVERY);
        let day_us = day.as_micros() as i64;
        let check = |period, last_us, now_us, expected| {
            assert_eq!(wait(period, SOON, last_us, now_us), expected, "{period:?} {last_us:?} {now_us}");
        };
        check(day, None, 0, minute);
        check(day, Some(5), 5, day);
        check(day, Some(0), day_us - 3_600_000_000, Duration::from_secs(3_600));
        check(day, Some(0), 3 * day_us, minute);
        // The clock was set back.
        check(day, Some(3 * day_us), 0, day);
        check(SWEEP_EVERY, None, 0, SWEEP_EVERY);
        check(SWEEP_EVERY, Some(0), day_us, SWEEP_EVERY);
        assert_eq!(wait(HOURLY, CLIENTS_RETURN, Some(0), day_us), CLIENTS_RETURN);
    }
}
