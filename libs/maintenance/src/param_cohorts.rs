//! Collects the params of runs in cohorts, so that a query for a param reads columns instead of documents. Until a cohort has
//! taken them, the documents of runs are read, so runs do not wait for long: a cohort is made once it is full, and a
//! smaller one of runs that have waited for some seconds. Small cohorts are merged.
//!
//! A run whose params change all the time, such as W&B's summary, would be written to another cohort each time. So an active
//! run that has been in a cohort waits until it has not changed for a minute, or has ended; unless many such runs wait, because
//! their documents are read.
//!
//! Runs in a store of format 6 or earlier have index rows instead. They are moved to cohorts a few at a time, because the
//! documents of waiting runs are read, and the rows of a project are cleared once no run has valid ones.

use std::collections::HashMap;

use matyan_model::{
    cohort::{COHORT_RUNS, CohortKind},
    format::format_has_every_run,
    ids::{NamedProject, Project, RunNumber},
    index::index_has_row,
    keys,
    param_cohort::{indexed_params_clear, indexed_params_move, listed_params_page},
    uncollected::{ListWear, UncollectedReader, index_rows_are_cleared, index_rows_cleared_put},
};
use matyan_store::{Store, Transaction, Value};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    Clock, Deps, Error,
    cohort_round::{CohortRound, is_list_worn, merge_pause, merge_small_cohorts},
    lock::skip_busy,
    paged_sweep::PagedSweep,
};

/// Number of runs above which a small cohort is made if they have waited. Reading the documents of fewer runs
/// takes no time.
const FEW_RUNS: usize = 64;
/// Time for which runs wait for a full cohort.
const WAIT_US: i64 = 10_000_000;
/// Time for which a run that has been in a cohort must not have changed.
const REST_US: u64 = 60_000_000;
/// Cohorts made in one round of a project, so that other projects do not wait for long.
const ROUND_COHORTS: usize = 16;
/// Cohorts that are made until a project is looked through for cohorts to be merged or cleared: runs whose params change all
/// the time leave many behind.
const MADE_COHORTS: usize = 16;
/// Time after which a project is looked at in any case: a repair may list runs without a change of them.
const REMEMBERED_US: i64 = 3_600_000_000;
/// Projects that are remembered.
const PROJECTS: usize = 10_000;
/// Rounds that follow each other without a pause.
const ROUNDS: usize = 64;
/// Projects whose numbers of changes are read at a time.
const PAGE_PROJECTS: usize = 500;

/// The cohorts of params of a store.
pub struct ParamCohorts<'d> {
    store: &'d dyn Store,
    clock: &'d Clock,
    /// Runs of a full cohort.
    runs: usize,
}

/// Params of a project in index rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndexedRows {
    None,
    /// Some runs have valid ones, and can be moved to cohorts.
    Valid,
    /// No run has valid ones, and none will: they can be cleared.
    Stale,
    /// Runs may have valid ones, but the migration has yet to list them.
    Unlisted,
}

/// The outcome of a round in a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParamRound {
    /// Runs that wait for a cohort, if they are not enough for a full one.
    pub waiting: usize,
    /// Runs that wait until they do not change any more.
    pub changing: usize,
    /// Cohorts that were made.
    pub cohorts: usize,
    /// Whether there is more to do without a change of a run.
    pub has_more: bool,
}

impl<'d> ParamCohorts<'d> {
    pub fn new(store: &'d dyn Store, clock: &'d Clock) -> Self {
        Self { store, clock, runs: COHORT_RUNS }
    }

    /// Makes smaller cohorts, for tests.
    #[must_use]
    pub fn of_runs(self, runs: usize) -> Self {
        Self { runs: runs.clamp(1, COHORT_RUNS), ..self }
    }

    /// Makes some of the cohorts that are due in a project. A cohort of fewer runs than `least` is not made unless it is
    /// full. No other call may use the same `owner` at the same time.
    pub async fn collect(
        &self,
        project: Project,
        least: usize,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<ParamRound, Error> {
        self.collect_worn(project, least, &mut ListWear::default(), owner, stop).await
    }

    /// Like `collect`, with what an earlier call has found about the wear of the list.
    async fn collect_worn(
        &self,
        project: Project,
        least: usize,
        wear: &mut ListWear,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<ParamRound, Error> {
        // Looked at before the lock is taken, so that a round without work writes nothing.
        let mut due = DueParams::new(project, self.runs);
        let waiting = due.next(self.store, (self.clock)()).await?.len();
        let indexed = self.indexed(project).await?;
        let is_due = matches!(indexed, IndexedRows::Valid | IndexedRows::Stale);
        let has_work = waiting >= self.runs.min(least)
            || is_due
            || is_list_worn(self.store, CohortKind::Params, project, wear).await?;
        if !has_work {
            let has_more = indexed == IndexedRows::Unlisted;
            return Ok(ParamRound { waiting, changing: due.changing.len(), has_more, cohorts: 0 });
        }
        let mut round =
            CohortRound::start(self.store, self.clock, CohortKind::Params, project, owner, stop).await?;
        let collected = self.make_due(&mut round, least, wear).await;
        round.lock.release(collected).await
    }

    async fn indexed(&self, project: Project) -> Result<IndexedRows, Error> {
        let snapshot = self.store.snapshot().await?;
        if index_rows_are_cleared(&*snapshot, project).await? {
            return Ok(IndexedRows::None);
        }
        if index_has_row(&*snapshot, &keys::indexed_params_all(project)).await? {
            return Ok(IndexedRows::Valid);
        }
        if !index_has_row(&*snapshot, &keys::index_params(project)).await? {
            return Ok(IndexedRows::None);
        }
        // The migration lists the runs with such rows.
        let is_listed = format_has_every_run(&*snapshot).await?;
        Ok(if is_listed { IndexedRows::Stale } else { IndexedRows::Unlisted })
    }

    async fn make_due(
        &self,
        round: &mut CohortRound<'_>,
        least: usize,
        wear: &mut ListWear,
    ) -> Result<ParamRound, Error> {
        let project = round.project;
        let mut done = ParamRound::default();
        round.renew_list(wear).await?;
        // Damaged runs keep waiting. They are not taken twice in a round.
        let mut due = DueParams::new(project, self.runs);
        for _ in 0..ROUND_COHORTS {
            if round.stop.is_cancelled() {
                break;
            }
            let numbers = due.next(self.store, (self.clock)()).await?;
            done.waiting = numbers.len();
            done.changing = due.changing.len();
            if numbers.len() < self.runs {
                // Runs of the older form complete a cohort.
                let moved = self.move_indexed(round, self.runs - numbers.len()).await?;
                if moved > 0 {
                    done.has_more = true;
                    due = DueParams::new(project, self.runs);
                    continue;
                }
                if numbers.len() < least.max(1) {
                    done.has_more = self.clear_indexed(round).await?;
                    return Ok(done);
                }
            }
            done.cohorts += 1;
            let admitted = round.admitted;
            round.make_cohorts(numbers).await?;
            done.waiting = 0;
            // There may be nothing but damaged runs.
            done.has_more = round.admitted > admitted;
            // The next round reads the list from the start.
            if round.renew_list(wear).await? {
                break;
            }
        }
        Ok(done)
    }

    async fn move_indexed(&self, round: &mut CohortRound<'_>, runs: usize) -> Result<usize, Error> {
        let project = round.project;
        let moving = async |mut transaction: Transaction| {
            let moved = indexed_params_move(&mut transaction, project, runs).await?;
            Ok::<_, Error>((transaction, moved))
        };
        round.lock.write(moving).await
    }

    /// Clears some of the index rows of a project, if no run has valid ones. Returns whether there is more to do.
    async fn clear_indexed(&self, round: &mut CohortRound<'_>) -> Result<bool, Error> {
        let project = round.project;
        match self.indexed(project).await? {
            IndexedRows::None => return Ok(false),
            // The migration goes on meanwhile, and may have listed runs since those before were moved.
            IndexedRows::Valid | IndexedRows::Unlisted => return Ok(true),
            IndexedRows::Stale => {}
        }
        for _ in 0..CLEARED_PAGES {
            if round.stop.is_cancelled() {
                break;
            }
            let clear = async |mut transaction: Transaction| {
                let is_cleared = indexed_params_clear(&mut transaction, project).await?;
                if is_cleared {
                    index_rows_cleared_put(&mut transaction, project).await?;
                }
                Ok::<_, Error>((transaction, is_cleared))
            };
            if round.lock.write(clear).await? {
                return Ok(false);
            }
            round.pace.rest().await;
        }
        Ok(true)
    }

    /// Clears the cohorts of a project that have no runs, merges some of the small ones, and writes old ones again that runs
    /// have left. Returns whether more of them are left. No other call may use the same `owner` at the same time.
    pub async fn merge(
        &self,
        project: Project,
        owner: [u8; 16],
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        merge_small_cohorts(self.store, self.clock, CohortKind::Params, project, self.runs, owner, stop).await
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

/// The runs of a project that are due for a cohort, in the order of their numbers.
struct DueParams {
    project: Project,
    /// Runs of a full cohort.
    runs: usize,
    list: UncollectedReader,
    due: Vec<RunNumber>,
    /// Runs that are due later.
    changing: Vec<RunNumber>,
}

impl DueParams {
    fn new(project: Project, runs: usize) -> Self {
        let list = UncollectedReader::new(CohortKind::Params, project);
        Self { project, runs, list, due: Vec::new(), changing: Vec::new() }
    }

    /// The next runs, as many as fill a cohort, or fewer if there are no more.
    async fn next(&mut self, store: &dyn Store, now_us: i64) -> Result<Vec<RunNumber>, Error> {
        while self.due.len() < self.runs {
            let snapshot = store.snapshot().await?;
            let times = (now_us, REST_US);
            let page = listed_params_page(&*snapshot, self.project, &mut self.list, self.runs, times).await?;
            let Some(page) = page else { break };
            self.due.extend(page.due);
            self.changing.extend(page.changing);
            // So that the list has few runs.
            if self.changing.len() > self.runs {
                self.due.append(&mut self.changing);
                self.due.sort_unstable();
            }
        }
        let later = self.due.split_off(self.due.len().min(self.runs));
        Ok(std::mem::replace(&mut self.due, later))
    }
}

/// Pages of index rows that are cleared in one round of a project.
const CLEARED_PAGES: usize = 64;

/// The projects that the job remembers between its rounds.
#[derive(Default)]
pub struct WaitingProjects(Mutex<HashMap<Project, WaitingProject>>);

#[derive(Clone, Default)]
struct WaitingProject {
    /// The number of changes before the last look, and its time, if nothing was left to do then.
    idle_since: Option<(Option<Value>, i64)>,
    /// When there were first enough runs for a small cohort.
    waiting_since_us: Option<i64>,
    /// Cohorts that were made since small ones were merged.
    cohorts: usize,
    wear: ListWear,
}

impl WaitingProjects {
    fn get(&self, project: Project) -> WaitingProject {
        self.0.lock().get(&project).cloned().unwrap_or_default()
    }

    fn put(&self, project: Project, state: WaitingProject) {
        let mut projects = self.0.lock();
        if projects.len() >= PROJECTS && !projects.contains_key(&project) {
            projects.clear();
        }
        projects.insert(project, state);
    }
}

/// Collects the params of all projects.
pub async fn collect_params(
    deps: Deps<'_>,
    waiting: &WaitingProjects,
    owner: [u8; 16],
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut sweep = PagedSweep::new(stop);
    // Without a pause as long as a project has more full cohorts than a round makes.
    for _ in 0..ROUNDS {
        let projects = deps.projects().await?;
        let has_more = collect_round(deps, waiting, &projects, owner, &mut sweep, stop).await?;
        if !has_more || sweep.is_stopped() {
            break;
        }
    }
    sweep.finish()
}

/// Collects the params of projects once. Returns whether more full cohorts can be made in one of them.
async fn collect_round(
    deps: Deps<'_>,
    waiting: &WaitingProjects,
    projects: &[NamedProject],
    owner: [u8; 16],
    sweep: &mut PagedSweep,
    stop: &CancellationToken,
) -> Result<bool, Error> {
    let mut has_more = false;
    for page in projects.chunks(PAGE_PROJECTS) {
        let keys: Vec<_> = page.iter().map(|project| keys::change_count(project.number)).collect();
        // Before the look, so that a change during it is noticed by the next one.
        let changes = deps.store.snapshot().await?.get_many(&keys).await?;
        for (NamedProject { number, .. }, changes) in page.iter().zip(changes) {
            if sweep.is_stopped() {
                break;
            }
            let project = (*number, changes);
            let collected = collect_project(deps.store, deps.clock, waiting, project, owner, stop).await;
            has_more |= matches!(collected, Ok(true));
            sweep.keep_damage(skip_busy(collected.map(|_| ())))?;
        }
    }
    Ok(has_more)
}

/// Collects the params of a project, unless nothing has changed since its number of changes was the same. Returns whether more
/// full cohorts can be made.
async fn collect_project(
    store: &dyn Store,
    clock: &Clock,
    waiting: &WaitingProjects,
    (project, changes): (Project, Option<Value>),
    owner: [u8; 16],
    stop: &CancellationToken,
) -> Result<bool, Error> {
    let mut state = waiting.get(project);
    let now_us = clock();
    let is_unchanged = state.idle_since.as_ref().is_some_and(|(seen, seen_us)| {
        *seen == changes && (0..REMEMBERED_US).contains(&now_us.saturating_sub(*seen_us))
    });
    if is_unchanged {
        return Ok(false);
    }
    let cohorts = ParamCohorts::new(store, clock);
    let has_waited =
        state.waiting_since_us.is_some_and(|since_us| now_us.saturating_sub(since_us) >= WAIT_US);
    let least = if has_waited { FEW_RUNS } else { COHORT_RUNS };
    let round = cohorts.collect_worn(project, least, &mut state.wear, owner, stop).await?;
    state.cohorts += round.cohorts;
    state.waiting_since_us = match state.waiting_since_us {
        _ if round.waiting < FEW_RUNS => None,
        Some(since_us) if !has_waited => Some(since_us),
        _ => Some(now_us),
    };
    let is_merging = state.cohorts >= MADE_COHORTS;
    let is_done = !round.has_more && round.waiting + round.changing < FEW_RUNS;
    let is_idle = is_done && !is_merging && !stop.is_cancelled();
    state.idle_since = is_idle.then_some((changes, now_us));
    // Before the merge, which may fail, for example because another process holds the lock by now.
    waiting.put(project, state.clone());
    if is_merging && !cohorts.merge(project, owner, stop).await? {
        waiting.put(project, WaitingProject { cohorts: 0, ..state });
    }
    Ok(round.has_more && round.cohorts > 0)
}

/// Merges and clears the cohorts of params of all projects.
pub async fn merge_param_cohorts(
    deps: Deps<'_>,
    owner: [u8; 16],
    stop: &CancellationToken,
) -> Result<(), Error> {
    let cohorts = ParamCohorts::new(deps.store, deps.clock);
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        if sweep.is_stopped() {
            break;
        }
        sweep.keep_damage(skip_busy(cohorts.merge_all(project, owner, stop).await))?;
    }
    sweep.finish()
}

#[cfg(test)]
mod tests;
