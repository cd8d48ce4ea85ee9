//! Collects the values of metrics of ended runs in cohorts, from which lists that are sorted by a metric read
//! them. A cohort is made once it is full, because the values of fewer runs are soon read from their summaries.
//! Runs leave a cohort when their values change, and when they are deleted, so cohorts with few runs are merged
//! from time to time, and cohorts without runs are cleared.

use matyan_model::{
    cohort::{
        COHORT_RUNS, CohortMembers, CohortPlace, CohortValues, cohort_admit, cohort_begin, cohort_clear,
        cohort_number_next, cohort_runs_due, cohorts_page,
    },
    format::format_has_every_run,
    ids::{CohortNumber, NamedProject, Project, RunNumber},
    keys,
};
use matyan_store::{Batch, Store, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{COLLECT_METRICS, Clock, Deps, Error, JobLock, pace::Pace};

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
        // So that a round without work writes nothing.
        let mut due = DueRuns::new(project);
        if due.next(self.store, self.runs, stop).await?.is_none() {
            return Ok(());
        }
        let mut lock = JobLock::acquire(self.store, self.clock, COLLECT_METRICS, project, owner).await?;
        let collected = async {
            let mut due = DueRuns::new(project);
            let mut pace = Pace::default();
            while let Some(numbers) = due.next(self.store, self.runs, stop).await? {
                self.make_cohort(&mut lock, project, &numbers, &mut pace).await?;
            }
            Ok(())
        };
        let collected = collected.await;
        lock.release(collected).await
    }

    /// Merges cohorts of a project of which less than half is left, two at a time, and clears cohorts without
    /// runs. `owner` must be unique to this call.
    pub async fn merge(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        if self.small_cohorts(project, stop).await?.is_done() {
            return Ok(());
        }
        let mut lock = JobLock::acquire(self.store, self.clock, COLLECT_METRICS, project, owner).await?;
        let merged = async {
            let mut pace = Pace::default();
            let small = self.small_cohorts(project, stop).await?;
            for pair in small.with_runs.chunks_exact(2) {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let mut numbers: Vec<_> = pair.iter().flat_map(|it| &it.members).copied().collect();
                numbers.sort_unstable();
                numbers.dedup();
                self.make_cohort(&mut lock, project, &numbers, &mut pace).await?;
            }
            let emptied = self.small_cohorts(project, stop).await?.empty;
            for cohort in emptied {
                self.clear(&mut lock, project, cohort, stop).await?;
            }
            Ok(())
        };
        let merged = merged.await;
        lock.release(merged).await
    }

    async fn make_cohort(
        &self,
        lock: &mut JobLock<'_>,
        project: Project,
        numbers: &[RunNumber],
        pace: &mut Pace,
    ) -> Result<(), Error> {
        let cohort = cohort_number_next(&*self.store.snapshot().await?, project, lock.now_us()).await?;
        let begin = async |mut transaction: Transaction| {
            let numbers = cohort_begin(&mut transaction, project, cohort, numbers).await?;
            Ok::<_, Error>((transaction, numbers))
        };
        let mut numbers = lock.write(begin).await?;
        let damaged = self.write_values(lock, CohortValues::new(project, cohort, &numbers), pace).await?;
        numbers.retain(|number| !damaged.contains(number));
        for numbers in numbers.chunks(ADMITTED) {
            let admit = async |mut transaction: Transaction| {
                cohort_admit(&mut transaction, project, cohort, numbers).await?;
                Ok::<_, Error>((transaction, ()))
            };
            lock.write(admit).await?;
            pace.rest().await;
        }
        Ok(())
    }

    /// Copies the values of a cohort from the summaries. Returns the runs that cannot be read.
    async fn write_values(
        &self,
        lock: &mut JobLock<'_>,
        mut values: CohortValues<'_>,
        pace: &mut Pace,
    ) -> Result<Vec<RunNumber>, Error> {
        let mut damaged = Vec::new();
        let mut next = Some(CohortPlace::default());
        while let Some(place) = next {
            next = values.read(&*self.store.snapshot().await?, place).await?;
            damaged.extend(next.as_ref().and_then(|place| place.damaged));
            while next.is_none() || values.is_full() {
                let mut batch = Batch::default();
                let is_done = values.write(&*self.store.snapshot().await?, &mut batch).await?;
                // Kept outside of the closure, because its values are taken out only once.
                let write = async |mut transaction: Transaction| {
                    transaction.batch().mutations.clone_from(&batch.mutations);
                    Ok::<_, Error>((transaction, ()))
                };
                lock.write(write).await?;
                if is_done {
                    break;
                }
            }
            pace.rest().await;
        }
        Ok(damaged)
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
                } else if 2 * cohort.members.len() < self.runs {
                    small.with_runs.push(cohort);
                }
            }
            rest = next;
            pace.rest().await;
        }
        Ok(small)
    }

    async fn clear(
        &self,
        lock: &mut JobLock<'_>,
        project: Project,
        cohort: CohortNumber,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut pace = Pace::default();
        while !stop.is_cancelled() {
            let clear = async |mut transaction: Transaction| {
                let is_cleared = cohort_clear(&mut transaction, project, cohort).await?;
                Ok::<_, Error>((transaction, is_cleared))
            };
            if lock.write(clear).await? {
                break;
            }
            pace.rest().await;
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
pub async fn collect_metrics(deps: Deps<'_>, owner: [u8; 16], stop: &CancellationToken) -> Result<(), Error> {
    let cohorts = MetricCohorts::new(deps.store, deps.clock);
    // The migration lists every run, also runs that were collected before it.
    if !format_has_every_run(&*deps.store.snapshot().await?).await? {
        return Ok(());
    }
    for NamedProject { number: project, .. } in deps.projects().await? {
        skip_busy(cohorts.collect(project, owner, stop).await)?;
    }
    Ok(())
}

/// Merges and clears the cohorts of all projects.
pub async fn merge_cohorts(deps: Deps<'_>, owner: [u8; 16], stop: &CancellationToken) -> Result<(), Error> {
    let cohorts = MetricCohorts::new(deps.store, deps.clock);
    for NamedProject { number: project, .. } in deps.projects().await? {
        skip_busy(cohorts.merge(project, owner, stop).await)?;
    }
    Ok(())
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
