//! Scheduler of the periodic maintenance jobs, which are in `matyan_maintenance`. Each job is a
//! separate loop. The time of its last success is in the store, so that the schedule survives
//! restarts.

use std::time::Duration;

use matyan_maintenance::{
    BlobEvent, CLEANUP_TOMBSTONES, COLLECT_METRICS, COLLECT_PARAMS, DeletionLog, EMPTY_BIN, FINISH_STALE,
    IdleProjects, JobLock, LONGEST_SPOOL_US, OrphanedBlobs, Pace, PendingUploads, StoreMigration,
    TombstoneSweep, WaitingProjects, clear_garbage, collect_metrics, collect_params, drop_abandoned_restores,
    merge_cohorts, merge_param_cohorts, pending_payload_bytes, sweep_credentials, sweep_dead_entities,
    sweep_dead_runs, sweep_dead_studies, sweep_deleted_projects, sweep_producers, sweep_stray_blobs,
    trim_audit, trim_changes,
};
use matyan_model::{
    ids::{Job, NamedProject, Project},
    lock::{job_last_success, job_success_put},
};
use matyan_store::Batch;
use tokio_util::sync::CancellationToken;

use crate::{
    deps::Deps,
    error::Error,
    metrics::{BlobMetrics, Metrics},
    record::deletion_record,
    trial_points::append_marked_points,
};

/// Interval for deleted runs: short, because users watch the counts.
const DEAD_RUNS_INTERVAL: Duration = Duration::from_secs(1);
/// Interval for params that wait for a cohort: short, because searches read the documents of their runs. A round costs one read for
/// a project in which nothing has changed.
const PARAMS_INTERVAL: Duration = Duration::from_secs(1);
/// Interval for payloads that wait for the blob store.
const PENDING_INTERVAL: Duration = Duration::from_secs(5);
/// Interval for points of trials that a backend could not append to the log.
const TRIAL_POINTS_INTERVAL: Duration = Duration::from_secs(5);
/// Interval for the migration of a store. A round costs one read if there is nothing to do.
const MIGRATION_INTERVAL: Duration = Duration::from_secs(5);
/// Interval for rows that are kept for minutes or hours.
const MINUTELY: Duration = Duration::from_secs(60);
/// Interval for rows that are kept for days, and for runs that have been silent for days.
const HOURLY: Duration = Duration::from_secs(3_600);
/// Interval for blobs that nothing refers to.
const DAILY: Duration = Duration::from_secs(24 * 3_600);

/// Minimum wait before an overdue job, after a start or a failed round.
const MIN_WAIT: Duration = Duration::from_secs(60);
/// Number of failures after which the wait no longer doubles.
const MAX_DOUBLINGS: u32 = 12;
/// Time that clients are given to reconnect after an outage. Until then, runs may be silent
/// only because no server accepted their data.
const RECONNECT_TIME: Duration = Duration::from_secs(15 * 60);

/// Minimum interval between records of a job's success in the store.
const RECORD_INTERVAL_US: i64 = 60_000_000;

/// Number of consecutive runs with bucket failures after which the bucket is considered
/// unavailable, and the search for orphaned blobs fails.
pub(crate) const MAX_BUCKET_FAILURES: u32 = 5;

pub(crate) struct JobScheduler {
    deps: Deps,
    metrics: Metrics,
    /// Idle time after which a run is finished; `None` disables this job.
    finish_stale: Option<Duration>,
    /// Whether blobs of runs that do not exist are deleted.
    owns_blobs: bool,
}

impl JobScheduler {
    pub(crate) fn new(
        deps: Deps,
        metrics: Metrics,
        finish_stale: Option<Duration>,
        owns_blobs: bool,
    ) -> Self {
        Self { deps, metrics, finish_stale, owns_blobs }
    }

    /// Runs until it is stopped. A round may be interrupted at any point: the next one
    /// continues with the remaining work.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let deps = &self.deps;
        let metrics = &self.metrics.blobs;
        let jobs = deps.maintenance();
        let uploads = tokio::sync::Mutex::default();
        let migration = StoreMigration::default();
        let idle = IdleProjects::default();
        let waiting = WaitingProjects::default();
        let orphaned_blobs = || async {
            delete_orphaned_blobs(deps, metrics, stop).await?;
            if self.owns_blobs {
                delete_stray_blobs(deps, metrics, stop).await?;
            }
            Ok::<_, Error>(())
        };
        let stale = async {
            if let Some(idle) = self.finish_stale {
                self.repeat(HOURLY, RECONNECT_TIME, FINISH_STALE, stop, || finish_stale_runs(deps, idle))
                    .await;
            }
        };
        tokio::join!(
            self.repeat(DEAD_RUNS_INTERVAL, MIN_WAIT, "dead-runs", stop, || sweep_dead_runs(jobs, stop)),
            self.repeat(PENDING_INTERVAL, MIN_WAIT, "pending-payloads", stop, || upload_payloads(
                deps, metrics, &uploads
            )),
            self.repeat(TRIAL_POINTS_INTERVAL, MIN_WAIT, "trial-points", stop, || append_marked_points(
                deps, stop
            )),
            self.repeat(MIGRATION_INTERVAL, MIN_WAIT, "store-format", stop, || migration.run(jobs, stop)),
            self.repeat(MINUTELY, MIN_WAIT, "dead-entities", stop, || sweep_dead_entities(jobs, stop)),
            self.repeat(MINUTELY, MIN_WAIT, "dead-studies", stop, || sweep_dead_studies(jobs, stop)),
            self.repeat(MINUTELY, MIN_WAIT, COLLECT_METRICS, stop, || collect_metrics(
                jobs,
                &idle,
                (deps.random)(),
                stop
            )),
            self.repeat(HOURLY, MIN_WAIT, "merge-cohorts", stop, || merge_cohorts(
                jobs,
                (deps.random)(),
                stop
            )),
            self.repeat(PARAMS_INTERVAL, PARAMS_INTERVAL, COLLECT_PARAMS, stop, || collect_params(
                jobs,
                &waiting,
                (deps.random)(),
                stop
            )),
            self.repeat(HOURLY, MIN_WAIT, "merge-param-cohorts", stop, || merge_param_cohorts(
                jobs,
                (deps.random)(),
                stop
            )),
            self.repeat(MINUTELY, MIN_WAIT, "changes", stop, || trim_changes(jobs)),
            self.repeat(MINUTELY, MIN_WAIT, "garbage", stop, || clear_garbage(jobs)),
            self.repeat(MINUTELY, MIN_WAIT, "producers", stop, || sweep_producers(jobs)),
            self.repeat(MINUTELY, MIN_WAIT, "deleted-projects", stop, || delete_projects(
                deps, metrics, stop
            )),
            self.repeat(MINUTELY, MIN_WAIT, "restores", stop, || drop_abandoned_restores(jobs)),
            stale,
            self.repeat(HOURLY, MIN_WAIT, EMPTY_BIN, stop, || empty_bins(deps)),
            self.repeat(HOURLY, MIN_WAIT, CLEANUP_TOMBSTONES, stop, || sweep_tombstones(deps, metrics)),
            self.repeat(DAILY, MIN_WAIT, "orphaned-blobs", stop, orphaned_blobs),
            self.repeat(HOURLY, MIN_WAIT, "audit", stop, || trim_audit(jobs)),
            self.repeat(MINUTELY, MIN_WAIT, "credentials", stop, || sweep_credentials(
                jobs.store,
                deps.now_us()
            )),
        );
    }

    async fn repeat<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
        &self,
        interval: Duration,
        min_wait: Duration,
        name: &'static str,
        stop: &CancellationToken,
        job: impl Fn() -> F,
    ) {
        // A store that does not answer must not keep the process from ending.
        let Some(mut last_us) = stop.run_until_cancelled(self.last_success(name)).await else { return };
        let mut recorded_us = last_us;
        let mut failures = 0;
        let mut reported = String::new();
        // A job that has never succeeded counts as overdue from now on.
        self.metrics.jobs.set_last_success(name, last_us.unwrap_or_else(|| self.deps.now_us()));
        loop {
            // Back off after failures, because a round may have done a lot of work
            // before it failed.
            let wait = wait_until_due(interval, min_wait, last_us, self.deps.now_us());
            let wait = wait.saturating_mul(1 << failures).min(interval);
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            match stop.run_until_cancelled(job()).await {
                None => return,
                Some(Ok(())) => {
                    let now_us = self.deps.now_us();
                    self.metrics.jobs.succeeded(name, now_us);
                    last_us = Some(now_us);
                    failures = 0;
                    reported.clear();
                    if recorded_us
                        .is_none_or(|recorded_us| now_us.saturating_sub(recorded_us) >= RECORD_INTERVAL_US)
                    {
                        let record = self.record_success(name, now_us);
                        if stop.run_until_cancelled(record).await.is_none() {
                            return;
                        }
                        recorded_us = last_us;
                    }
                }
                Some(Err(error)) => {
                    // A job may fail each second for the same reason.
                    let error = error.to_string();
                    if error != reported {
                        tracing::warn!(job = name, error, "job failed; will retry in the next round");
                        reported = error;
                    }
                    failures = MAX_DOUBLINGS.min(failures + 1);
                }
            }
        }
    }

    /// Time of the last success in any process.
    async fn last_success(&self, name: &'static str) -> Option<i64> {
        let last = async { job_last_success(&*self.deps.store.snapshot().await?, of_all(name)).await };
        last.await.unwrap_or_else(|error| {
            tracing::warn!(job = name, %error, "failed to read the time of the last job success; assuming none");
            None
        })
    }

    async fn record_success(&self, name: &'static str, now_us: i64) {
        let mut batch = Batch::buffered();
        job_success_put(&mut batch, of_all(name), now_us);
        if let Err(error) = self.deps.store.commit(batch).await {
            tracing::warn!(job = name, %error, "failed to record job completion");
        }
    }
}

/// A job that a round does in all projects.
fn of_all(name: &'static str) -> Job {
    Job::new(name, Project::default())
}

/// The wait until the next round, at least `min_wait`.
fn wait_until_due(interval: Duration, min_wait: Duration, last_us: Option<i64>, now_us: i64) -> Duration {
    let since = last_us.map_or(Duration::MAX, |last_us| {
        Duration::from_micros(u64::try_from(now_us.saturating_sub(last_us)).unwrap_or_default())
    });
    interval.saturating_sub(since).max(interval.min(min_wait))
}

/// Finishes active runs that have sent nothing for the configured time.
pub(crate) async fn finish_stale_runs(deps: &Deps, idle: Duration) -> Result<(), Error> {
    Ok(matyan_maintenance::finish_stale_runs(deps.maintenance(), (deps.random)(), idle).await?)
}

/// Deletes runs that have been in the bin for a week.
pub(crate) async fn empty_bins(deps: &Deps) -> Result<(), Error> {
    let log = DeletionLog { writer: &*deps.log_writer, record: deletion_record };
    Ok(matyan_maintenance::empty_bins(deps.maintenance(), log, (deps.random)()).await?)
}

/// Uploads the payloads that wait for the blob store.
pub(crate) async fn upload_payloads(
    deps: &Deps,
    metrics: &BlobMetrics,
    uploads: &tokio::sync::Mutex<PendingUploads>,
) -> Result<(), Error> {
    let deps = deps.maintenance();
    let uploaded = uploads.lock().await.upload(deps).await;
    metrics.pending_bytes.set(pending_payload_bytes(deps).await? as f64);
    Ok(uploaded?)
}

/// Removes tombstones that are no longer needed, and blobs left over from deleted runs.
pub(crate) async fn sweep_tombstones(deps: &Deps, metrics: &BlobMetrics) -> Result<(), Error> {
    let mut outcome = Ok(());
    for project in deps.maintenance().projects().await? {
        match sweep_tombstones_in(deps, metrics, project).await {
            // An operator has started the job there, which must not hold up the other projects.
            Err(busy @ Error::Busy(_)) => outcome = Err(busy),
            swept => swept?,
        }
    }
    outcome
}

async fn sweep_tombstones_in(deps: &Deps, metrics: &BlobMetrics, project: NamedProject) -> Result<(), Error> {
    let owner = (deps.random)();
    let mut lock =
        JobLock::acquire(&*deps.store, &*deps.clock, CLEANUP_TOMBSTONES, project.number, owner).await?;
    let result = async {
        let mut sweep = TombstoneSweep::new(deps.maintenance(), vec![project], LONGEST_SPOOL_US).await?;
        let mut observe = |event: BlobEvent<'_>| count_deletion(metrics, &event);
        let mut pace = Pace::default();
        while sweep.sweep_page(&mut lock, &mut observe).await?.is_some() {
            pace.rest().await;
        }
        Ok(())
    };
    let result = result.await;
    lock.release(result).await
}

fn count_deletion(metrics: &BlobMetrics, event: &BlobEvent<'_>) {
    match event {
        BlobEvent::Deleted { .. } => metrics.deleted.inc(),
        BlobEvent::BlobFailed => metrics.failures.inc(),
        BlobEvent::Found { .. } | BlobEvent::RunFailed => {}
    }
}

/// Deletes the content of deleted projects.
pub(crate) async fn delete_projects(
    deps: &Deps,
    metrics: &BlobMetrics,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut observe = |event: BlobEvent<'_>| count_deletion(metrics, &event);
    Ok(sweep_deleted_projects(deps.maintenance(), stop, &mut observe).await?)
}

/// Deletes blobs of live runs that nothing refers to.
pub(crate) async fn delete_orphaned_blobs(
    deps: &Deps,
    metrics: &BlobMetrics,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let deps = deps.maintenance();
    let orphaned_blobs = OrphanedBlobs::new(deps, deps.projects().await?).await?;
    let orphaned_blobs = orphaned_blobs.in_turns((deps.clock)()).max_failures(MAX_BUCKET_FAILURES);
    let mut orphaned_blobs = orphaned_blobs.resume().await?;
    let mut observe = count_unreferenced(metrics);
    while !stop.is_cancelled() && orphaned_blobs.next_page(None, &mut observe).await?.is_some() {}
    Ok(())
}

/// Deletes blobs of runs that do not exist.
pub(crate) async fn delete_stray_blobs(
    deps: &Deps,
    metrics: &BlobMetrics,
    stop: &CancellationToken,
) -> Result<(), Error> {
    Ok(sweep_stray_blobs(deps.maintenance(), stop, &mut count_unreferenced(metrics)).await?)
}

fn count_unreferenced(metrics: &BlobMetrics) -> impl FnMut(BlobEvent<'_>) {
    |event| match event {
        BlobEvent::Deleted { key, .. } => {
            tracing::info!(%key, "deleted blob that nothing refers to");
            metrics.deleted.inc();
        }
        BlobEvent::BlobFailed | BlobEvent::RunFailed => metrics.failures.inc(),
        BlobEvent::Found { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_due_by_the_last_success_of_any_process() {
        let minute = Duration::from_secs(60);
        let day = DAILY;
        let day_us = day.as_micros() as i64;
        let check = |interval, last_us, now_us, expected| {
            assert_eq!(
                wait_until_due(interval, MIN_WAIT, last_us, now_us),
                expected,
                "{interval:?} {last_us:?} {now_us}"
            );
        };
        check(day, None, 0, minute);
        check(day, Some(5), 5, day);
        check(day, Some(0), day_us - 3_600_000_000, Duration::from_secs(3_600));
        check(day, Some(0), 3 * day_us, minute);
        // The clock was set back.
        check(day, Some(3 * day_us), 0, day);
        check(DEAD_RUNS_INTERVAL, None, 0, DEAD_RUNS_INTERVAL);
        check(DEAD_RUNS_INTERVAL, Some(0), day_us, DEAD_RUNS_INTERVAL);
        assert_eq!(wait_until_due(HOURLY, RECONNECT_TIME, Some(0), day_us), RECONNECT_TIME);
    }
}
