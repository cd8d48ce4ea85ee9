//! Stale runs: active runs that have received no data for some time, because their writer
//! disappeared without finishing them. Silence is measured against the log as far as it has
//! been applied, so a run is never finished just because a worker lags. Finishing a run that
//! was merely silent, or because of a wrong clock, does no lasting harm: new data resumes the
//! run.

use std::time::Duration;

use matyan_model::{
    change::change_put,
    ids::{NamedProject, Project, RunId, RunNumber},
    index::index_runs_page_reverse,
    keys,
    position::Cursor,
    run::{Document, Props, RunEdit, WritingState, documents_get, writing_get},
};
use matyan_store::{Range, Store, Transaction};

use crate::{Deps, Error, FINISH_STALE, JobLock, oldest_unapplied_us, pace::Pace};

/// Documents read in one page: about 100 kB.
const PAGE: usize = 256;

/// A search for the stale runs of one project.
pub struct StaleRuns<'d> {
    store: &'d dyn Store,
    project: Project,
    /// Runs with no data since this time are stale.
    before_us: i64,
    rest: Option<Range>,
}

pub struct StaleRunsPage {
    /// Number of active runs checked.
    pub checked: u64,
    /// Ids of the stale runs among them.
    pub run_ids: Vec<String>,
}

impl<'d> StaleRuns<'d> {
    pub async fn new(deps: Deps<'d>, project: Project, idle: Duration) -> Result<Self, Error> {
        let log_time_us = deps.now_us().min(oldest_unapplied_us(deps.store, deps.log).await?);
        let idle_us = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
        let rest = Some(keys::index_active_all(project, true));
        Ok(Self { store: deps.store, project, before_us: log_time_us.saturating_sub(idle_us), rest })
    }

    /// Finds the stale runs of the next page without changing them; `None` after the last
    /// page.
    pub async fn find_page(&mut self) -> Result<Option<StaleRunsPage>, Error> {
        let Some(page) = self.next_candidates().await? else { return Ok(None) };
        let checked = page.len() as u64;
        let mut run_ids = Vec::new();
        for (number, document) in page {
            let writing = writing_get(&*self.store.snapshot().await?, self.project, number).await?;
            if last_activity_us(&document.props, &writing) < self.before_us {
                run_ids.push(document.props.run_id);
            }
        }
        Ok(Some(StaleRunsPage { checked, run_ids }))
    }

    /// Finishes the stale runs of the next page on behalf of `caller`; `None` after the
    /// last page.
    pub async fn finish_page(
        &mut self,
        lock: &mut JobLock<'_>,
        caller: &str,
    ) -> Result<Option<StaleRunsPage>, Error> {
        let Some(page) = self.next_candidates().await? else { return Ok(None) };
        let checked = page.len() as u64;
        let mut run_ids = Vec::new();
        for (number, document) in page {
            let run_id = document.props.run_id;
            match self.finish_run(lock, number, caller).await {
                Err(Error::Store(error @ matyan_store::Error::Corrupt { .. })) => {
                    tracing::error!(run = run_id, %error, "failed to finish a damaged run; skipping it");
                }
                finished => run_ids.extend(finished?.then_some(run_id)),
            }
        }
        Ok(Some(StaleRunsPage { checked, run_ids }))
    }

    /// The next page of runs that may be active.
    async fn next_candidates(&mut self) -> Result<Option<Vec<(RunNumber, Document)>>, Error> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let snapshot = self.store.snapshot().await?;
        let (numbers, rest) = index_runs_page_reverse(&*snapshot, &range, PAGE).await?;
        let documents = documents_get(&*snapshot, self.project, &numbers).await?;
        self.rest = rest;
        let found = numbers.into_iter().zip(documents);
        let visible = found.filter_map(|(number, document)| {
            document.filter(|document| !document.props.pending_delete).map(|document| (number, document))
        });
        Ok(Some(visible.collect()))
    }

    /// Finishes the run, unless data has arrived in the meantime.
    async fn finish_run(
        &self,
        lock: &mut JobLock<'_>,
        number: RunNumber,
        caller: &str,
    ) -> Result<bool, Error> {
        let now_us = lock.now_us();
        lock.write(async |mut transaction: Transaction| {
            let Some(mut edit) = RunEdit::load(&transaction, self.project, number).await? else {
                return Ok((transaction, false));
            };
            // A checked read: if a record was applied in the meantime, the run is
            // alive.
            let key = keys::cursor(self.project, &RunId::new(edit.props.run_id.as_str()));
            let cursor = transaction.get(&key).await?;
            let cursor = cursor.map(|value| Cursor::decode(&key, &value)).transpose()?.unwrap_or_default();
            let writing = writing_get(transaction.unchecked(), self.project, number).await?;
            let last_us = last_activity_us(&edit.props, &writing);
            if !edit.props.active || edit.props.pending_delete || last_us >= self.before_us {
                return Ok((transaction, false));
            }
            edit.props.give_up(last_us);
            edit.touch(now_us);
            edit.write(transaction.batch());
            transaction.batch().set(key, Cursor { is_given_up: true, ..cursor }.encode());
            change_put(transaction.batch(), self.project, number, now_us, caller);
            Ok((transaction, true))
        })
        .await
    }
}

/// Time of the run's last sign of life.
fn last_activity_us(props: &Props, writing: &WritingState) -> i64 {
    writing.last_data_us.max(props.created_us).max(props.reopened_us.unwrap_or(i64::MIN))
}

/// Finishes the stale runs of all projects, each under the lock of the job in that project.
pub async fn finish_stale_runs(deps: Deps<'_>, owner: [u8; 16], idle: Duration) -> Result<(), Error> {
    let mut outcome = Ok(());
    for NamedProject { number: project, .. } in deps.projects().await? {
        match finish_in_project(deps, owner, idle, project).await {
            // An operator has started the job there, which must not hold up the other projects.
            Err(busy @ Error::Busy { .. }) => outcome = Err(busy),
            finished => finished?,
        }
    }
    outcome
}

async fn finish_in_project(
    deps: Deps<'_>,
    owner: [u8; 16],
    idle: Duration,
    project: Project,
) -> Result<(), Error> {
    let mut lock = JobLock::acquire(deps.store, deps.clock, FINISH_STALE, project, owner).await?;
    let finished = async {
        let mut stale_runs = StaleRuns::new(deps, project, idle).await?;
        let mut pace = Pace::default();
        while let Some(page) = stale_runs.finish_page(&mut lock, "").await? {
            for run in page.run_ids {
                tracing::info!(run, "finished stale run");
            }
            pace.rest().await;
        }
        Ok(())
    };
    let finished = finished.await;
    lock.release(finished).await
}
