//! Collects the values of metrics of ended runs in cohorts, for lists that are sorted by a metric. A cohort is
//! made once it is full, because reading the summaries of fewer runs takes little time.
//! Runs leave a cohort when their values change, and when they are deleted, so cohorts with few runs are merged
//! from time to time, and cohorts without runs are cleared.

mod idle_projects;

use std::collections::BTreeSet;

use matyan_model::{
    cohort::{
        COHORT_RUNS, CohortMembers, CohortValues, cohort_admit, cohort_begin, cohort_clear,
        cohort_number_next, cohort_runs_due, cohort_shorten, cohorts_page,
    },
    format::format_has_every_run,
    ids::{CohortNumber, NamedProject, Project, RunNumber},
    keys,
};
use matyan_store::{Batch, Store, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{COLLECT_METRICS, Clock, Deps, Error, JobLock, pace::Pace, paged_sweep::PagedSweep};

pub use idle_projects::IdleProjects;
use idle_projects::ProjectState;

/// Runs admitted in one transaction, which rewrites the rows of the cohorts that they leave: up to 4 kB each.
const ADMITTED: usize = 64;

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

    /// Collects the values of runs of a project, as long as there are enough for a cohort. `owner` must be unique
    /// to this call.
    pub async fn collect(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        // Checked before the lock is taken, so that a round without work writes nothing.
        let mut due = DueRuns::new(project);
        if due.next(self.store, self.runs, stop).await?.is_none() {
            return Ok(());
        }
        let lock = JobLock::acquire(self.store, self.clock, COLLECT_METRICS, project, owner).await?;
        let mut round = Round { store: self.store, lock, project, stop, pace: Pace::default() };
        let collected = async {
            let mut due = DueRuns::new(project);
            while let Some(numbers) = due.next(self.store, self.runs, stop).await? {
                round.make_cohorts(numbers).await?;
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
        self.collect(project, owner, stop).await?;
        if let Some(state) = state.filter(|_| !stop.is_cancelled()) {
            idle.note(project, state, now_us);
        }
        Ok(())
    }

    /// Clears the cohorts of a project that have no runs, and merges cohorts with less than half of their runs left.
    /// `owner` must be unique to this call.
    pub async fn merge(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        if self.small_cohorts(project, stop).await?.is_done() {
            return Ok(());
        }
        let lock = JobLock::acquire(self.store, self.clock, COLLECT_METRICS, project, owner).await?;
        // The lock belongs to another job, and merging does not count as its success.
        let mut round =
            Round { store: self.store, lock: lock.dry(true), project, stop, pace: Pace::default() };
        let merged = async {
            let small = self.small_cohorts(project, stop).await?;
            // Done first, because clearing reads no values, which may be damaged.
            round.clear(&small.empty).await?;
            for numbers in small.groups(self.runs) {
                if stop.is_cancelled() {
                    return Ok(());
                }
                round.make_cohorts(numbers).await?;
            }
            round.clear(&self.small_cohorts(project, stop).await?.empty).await
        };
        let merged = merged.await;
        round.lock.release(merged).await
    }

    async fn small_cohorts(&self, project: Project, stop: &CancellationToken) -> Result<SmallCohorts, Error> {
        let mut small = SmallCohorts::default();
        let mut rest = Some(keys::cohorts(project));
        let mut pace = Pace::default();
        while let Some(range) = rest.filter(|_| !stop.is_cancelled()) {
            let (cohorts, next) = cohorts_page(&*self.store.snapshot().await?, project, &range).await?;
            for cohort in cohorts {
                if cohort.members.is_empty() {
                    small.empty.push(cohort.cohort);
                } else if 2 * cohort.members.len() < cohort.runs {
                    small.with_runs.push(cohort);
                }
            }
            rest = next;
            pace.rest().await;
        }
        Ok(small)
    }
}

/// The work on the cohorts of a project while the lock is held.
struct Round<'r> {
    store: &'r dyn Store,
    lock: JobLock<'r>,
    project: Project,
    stop: &'r CancellationToken,
    pace: Pace,
}

impl Round<'_> {
    /// Makes a cohort of runs in ascending order, or several if their values do not fit in one.
    async fn make_cohorts(&mut self, mut numbers: Vec<RunNumber>) -> Result<(), Error> {
        while !numbers.is_empty() && !self.stop.is_cancelled() {
            numbers = self.make_cohort(&numbers).await?;
        }
        Ok(())
    }

    /// Makes a cohort of the first runs, and returns the runs whose values do not fit.
    async fn make_cohort(&mut self, numbers: &[RunNumber]) -> Result<Vec<RunNumber>, Error> {
        let project = self.project;
        let now_us = self.lock.now_us();
        let cohort = cohort_number_next(&*self.store.snapshot().await?, project, now_us).await?;
        let begin = async |mut transaction: Transaction| {
            let numbers = cohort_begin(&mut transaction, project, cohort, numbers).await?;
            Ok::<_, Error>((transaction, numbers))
        };
        let mut numbers = self.lock.write(begin).await?;
        let mut values = CohortValues::new(project, cohort, &numbers);
        if let Err(error) = self.write_values(cohort, &mut values).await {
            if let Err(error) = self.clear(&[cohort]).await {
                tracing::warn!(project = project.0, %error, "left a cohort without runs to the job merge-cohorts");
            }
            return Err(error);
        }
        let damaged = values.damaged().to_vec();
        let taken = values.runs();
        let left = numbers.split_off(taken);
        numbers.retain(|number| !damaged.contains(number));
        for numbers in numbers.chunks(ADMITTED) {
            let admit = async |mut transaction: Transaction| {
                cohort_admit(&mut transaction, project, cohort, numbers).await?;
                Ok::<_, Error>((transaction, ()))
            };
            self.lock.write(admit).await?;
            self.pace.rest().await;
        }
        Ok(left)
    }

    /// Copies the values of a cohort from the summaries.
    async fn write_values(
        &mut self,
        cohort: CohortNumber,
        values: &mut CohortValues<'_>,
    ) -> Result<(), Error> {
        while values.read(&*self.store.snapshot().await?).await? {
            // Reading may take longer than a lock lasts.
            self.lock.renew().await?;
            if values.is_full() {
                self.write_read_values(values).await?;
            }
            self.pace.rest().await;
        }
        self.write_read_values(values).await?;
        if values.is_complete() {
            return Ok(());
        }
        let project = self.project;
        let runs = values.runs();
        let shorten = async |mut transaction: Transaction| {
            cohort_shorten(&mut transaction, project, cohort, runs).await?;
            Ok::<_, Error>((transaction, ()))
        };
        self.lock.write(shorten).await
    }

    async fn write_read_values(&mut self, values: &mut CohortValues<'_>) -> Result<(), Error> {
        loop {
            let mut batch = Batch::default();
            let is_done = values.write(&mut batch);
            // Kept outside of the closure, because its values are taken out only once.
            let write = async |mut transaction: Transaction| {
                transaction.batch().mutations.clone_from(&batch.mutations);
                Ok::<_, Error>((transaction, ()))
            };
            self.lock.write(write).await?;
            if is_done {
                return Ok(());
            }
        }
    }

    /// Clears cohorts without members.
    async fn clear(&mut self, cohorts: &[CohortNumber]) -> Result<(), Error> {
        let project = self.project;
        let mut cohorts = cohorts.iter();
        let mut next = cohorts.next();
        while let Some(cohort) = next.filter(|_| !self.stop.is_cancelled()) {
            let clear = async |mut transaction: Transaction| {
                let is_cleared = cohort_clear(&mut transaction, project, *cohort).await?;
                Ok::<_, Error>((transaction, is_cleared))
            };
            if self.lock.write(clear).await? {
                next = cohorts.next();
            }
            self.pace.rest().await;
        }
        Ok(())
    }
}

/// Cohorts that have lost runs.
#[derive(Default)]
struct SmallCohorts {
    empty: Vec<CohortNumber>,
    with_runs: Vec<CohortMembers>,
}

impl SmallCohorts {
    fn is_done(&self) -> bool {
        self.empty.is_empty() && self.with_runs.len() < 2
    }

    /// Groups of cohorts that fit in one, each as its runs in ascending order. A cohort that would be alone stays.
    fn groups(self, runs: usize) -> Vec<Vec<RunNumber>> {
        let mut groups: Vec<Vec<CohortMembers>> = Vec::new();
        for cohort in self.with_runs {
            let last = groups.last_mut().filter(|group| {
                let members: usize = group.iter().map(|it| it.members.len()).sum();
                members + cohort.members.len() <= runs
            });
            match last {
                Some(group) => group.push(cohort),
                None => groups.push(vec![cohort]),
            }
        }
        let groups = groups.into_iter().filter(|group| group.len() > 1);
        let numbers = groups.map(|group| group.into_iter().flat_map(|it| it.members).collect());
        // A run that moves while the cohorts are read may be in two of them.
        numbers.map(|numbers: BTreeSet<_>| numbers.into_iter().collect()).collect()
    }
}

/// The runs of a project that are due, in the order of their numbers.
struct DueRuns {
    project: Project,
    rest: Option<matyan_store::Range>,
    found: Vec<RunNumber>,
    pace: Pace,
}

impl DueRuns {
    fn new(project: Project) -> Self {
        let rest = Some(keys::uncollected_all(project));
        Self { project, rest, found: Vec::new(), pace: Pace::default() }
    }

    /// The next runs; `None` if there are fewer.
    async fn next(
        &mut self,
        store: &dyn Store,
        runs: usize,
        stop: &CancellationToken,
    ) -> Result<Option<Vec<RunNumber>>, Error> {
        while self.found.len() < runs && !stop.is_cancelled() {
            let Some(range) = self.rest.take() else { return Ok(None) };
            let (numbers, rest) = cohort_runs_due(&*store.snapshot().await?, self.project, &range).await?;
            self.found.extend(numbers);
            self.rest = rest;
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
        sweep.keep_damage(skip_busy(cohorts.merge(project, owner, stop).await))?;
    }
    sweep.finish()
}

/// Another process does the work.
fn skip_busy(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::Busy { .. }) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
