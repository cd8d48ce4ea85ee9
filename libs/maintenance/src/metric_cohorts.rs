//! Collects the values of metrics of ended runs in cohorts, for lists that are sorted by a metric. A cohort is
//! made once it is full, because reading the summaries of fewer runs takes little time.
//! Runs leave a cohort when their values change, and when they are deleted, so cohorts with few runs are merged
//! from time to time, and cohorts without runs are cleared.

mod idle_projects;

use matyan_model::{
    cohort::{COHORT_RUNS, CohortKind, cohort_runs_due},
    format::format_has_every_run,
    ids::{NamedProject, Project, RunNumber},
    uncollected::{ListWear, UncollectedReader},
};
use matyan_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Deps, Error,
    cohort_round::{CohortRound, is_list_worn, merge_pause, merge_small_cohorts},
    lock::skip_busy,
    pace::Pace,
    paged_sweep::PagedSweep,
};

pub use idle_projects::IdleProjects;
use idle_projects::ProjectState;

/// The cohorts of a store.
pub struct MetricCohorts<'d> {
    store: &'d dyn Store,
    clock: &'d Clock,
    /// Runs of a new cohort.
    runs: usize,
}

impl<'d> MetricCohorts<'d> {
    pub fn new(store: &'d dyn Store, clock: &'d Clock) -> Self {
        Self { store, clock, runs: COHORT_RUNS }
    }

    /// Makes smaller cohorts, for tests.
    #[must_use]
    pub fn of_runs(self, runs: usize) -> Self {
        Self { runs: runs.clamp(1, COHORT_RUNS), ..self }
    }

    /// Collects the values of runs of a project, as long as there are enough for a cohort. No other call may use the same `owner`
    /// at the same time.
    pub async fn collect(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.collect_worn(project, &mut ListWear::default(), owner, stop).await
    }

    /// Like `collect`, with what an earlier call has found about the wear of the list.
    async fn collect_worn(
        &self,
        project: Project,
        wear: &mut ListWear,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        // Checked before the lock is taken, so that a round without work writes nothing.
        let mut due = DueRuns::new(project);
        let has_work = due.next(self.store, self.runs, stop).await?.is_some()
            || is_list_worn(self.store, CohortKind::Metrics, project, wear).await?;
        if !has_work {
            return Ok(());
        }
        let mut round =
            CohortRound::start(self.store, self.clock, CohortKind::Metrics, project, owner, stop).await?;
        let collected = async {
            round.renew_list(wear).await?;
            let mut due = DueRuns::new(project);
            while let Some(numbers) = due.next(self.store, self.runs, stop).await? {
                round.make_cohorts(numbers).await?;
                if round.renew_list(wear).await? {
                    due = DueRuns::new(project);
                }
            }
            Ok(())
        };
        let collected = collected.await;
        round.lock.release(collected).await
    }

    /// Like `collect`, except in a project in which nothing has changed since a look found too few runs.
    pub async fn collect_changed(
        &self,
        idle: &IdleProjects,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let now_us = (self.clock)();
        // Before the look, so that a change during it is noticed by the next one.
        let state = ProjectState::read(&*self.store.snapshot().await?, project).await?;
        if state.as_ref().is_some_and(|state| idle.is_unchanged(project, state, now_us)) {
            return Ok(());
        }
        let mut wear = idle.wear(project);
        self.collect_worn(project, &mut wear, owner, stop).await?;
        let state = state.filter(|_| !stop.is_cancelled());
        idle.note(project, state, wear, now_us);
        Ok(())
    }

    /// Clears the cohorts of a project that have no runs, merges some of those with less than half of their runs left, and
    /// writes old ones again that runs have left. Returns whether more of them are left. No other call may use the same `owner` at
    /// the same time.
    pub async fn merge(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        merge_small_cohorts(self.store, self.clock, CohortKind::Metrics, project, self.runs, owner, stop)
            .await
    }

    async fn merge_all(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        while self.merge(project, owner, stop).await? && merge_pause(stop).await {}
        Ok(())
    }
}

/// The runs of a project that are due, in the order of their numbers.
struct DueRuns {
    project: Project,
    list: UncollectedReader,
    found: Vec<RunNumber>,
    pace: Pace,
}

impl DueRuns {
    fn new(project: Project) -> Self {
        let list = UncollectedReader::new(CohortKind::Metrics, project);
        Self { project, list, found: Vec::new(), pace: Pace::default() }
    }

    /// The next runs; `None` if there are fewer.
    async fn next(
        &mut self,
        store: &dyn Store,
        runs: usize,
        stop: &CancellationToken,
    ) -> Result<Option<Vec<RunNumber>>, Error> {
        while self.found.len() < runs && !stop.is_cancelled() {
            let snapshot = store.snapshot().await?;
            let due = cohort_runs_due(&*snapshot, self.project, &mut self.list).await?;
            let Some(numbers) = due else { return Ok(None) };
            self.found.extend(numbers);
            self.pace.rest().await;
        }
        if self.found.len() < runs || stop.is_cancelled() {
            return Ok(None);
        }
        let later = self.found.split_off(runs);
        Ok(Some(std::mem::replace(&mut self.found, later)))
    }
}

/// Collects the values of all projects.
pub async fn collect_metrics(
    deps: Deps<'_>,
    idle: &IdleProjects,
    owner: [u8; 16],
    stop: &CancellationToken,
) -> Result<(), Error> {
    let cohorts = MetricCohorts::new(deps.store, deps.clock);
    // The list lacks runs until the migration has reached them.
    if !format_has_every_run(&*deps.store.snapshot().await?).await? {
        return Ok(());
    }
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        sweep.keep_damage(skip_busy(cohorts.collect_changed(idle, project, owner, stop).await))?;
    }
    sweep.finish()
}

/// Merges and clears the cohorts of all projects.
pub async fn merge_cohorts(deps: Deps<'_>, owner: [u8; 16], stop: &CancellationToken) -> Result<(), Error> {
    let cohorts = MetricCohorts::new(deps.store, deps.clock);
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        sweep.keep_damage(skip_busy(cohorts.merge_all(project, owner, stop).await))?;
    }
    sweep.finish()
}

#[cfg(test)]
mod tests;
