//! Active runs that have sent nothing for a time: their writers are gone and did not say so. What counts is when the last data
//! of a run came, and only as far as the log is applied: a run that logs is never ended because a worker is behind.

use std::time::Duration;

use matyan_log::LogWriter;
use matyan_model::{
    change::change_put,
    ids::{Project, RunNumber},
    index::runs_proposed_last,
    keys,
    run::{Document, RunEdit, documents_get, writing_get},
};
use matyan_store::{Range, Store, Transaction};

use crate::{Error, Job, oldest_unapplied_us};

/// Documents that are read at once: some 100 kB.
const PAGE: usize = 256;

/// A search for the stale runs of a project.
pub struct Stale<'s> {
    store: &'s dyn Store,
    project: Project,
    /// Runs that were last heard of before this.
    before_us: i64,
    rest: Option<Range>,
}

pub struct StalePage {
    /// Active runs.
    pub looked_at: u64,
    /// The stale ones among them.
    pub run_ids: Vec<String>,
}

impl<'s> Stale<'s> {
    pub async fn new(
        store: &'s dyn Store,
        log: &dyn LogWriter,
        project: Project,
        now_us: i64,
        idle: Duration,
    ) -> Result<Self, Error> {
        let log_time_us = now_us.min(oldest_unapplied_us(store, log).await?);
        let idle_us = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
        let rest = Some(keys::index_active_all(project, true));
        Ok(Self { store, project, before_us: log_time_us.saturating_sub(idle_us), rest })
    }

    /// The next page; `None` behind the last. Only tells of them.
    pub async fn find(&mut self) -> Result<Option<StalePage>, Error> {
        let Some(page) = self.next().await? else { return Ok(None) };
        let (looked_at, mut run_ids) = (page.len() as u64, Vec::new());
        for (number, document) in page {
            let writing = writing_get(&*self.store.snapshot().await?, self.project, number).await?;
            if writing.last_data_us.max(document.props.created_us) < self.before_us {
                run_ids.push(document.props.run_id);
            }
        }
        Ok(Some(StalePage { looked_at, run_ids }))
    }

    /// As `find`, and ends them, in the name of `caller`.
    pub async fn end(&mut self, job: &mut Job<'_>, caller: &str) -> Result<Option<StalePage>, Error> {
        let Some(page) = self.next().await? else { return Ok(None) };
        let (looked_at, mut run_ids) = (page.len() as u64, Vec::new());
        for (number, document) in page {
            if self.end_one(job, number, caller).await? {
                run_ids.push(document.props.run_id);
            }
        }
        Ok(Some(StalePage { looked_at, run_ids }))
    }

    /// Runs that may be active.
    async fn next(&mut self) -> Result<Option<Vec<(RunNumber, Document)>>, Error> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let snapshot = self.store.snapshot().await?;
        let (numbers, rest) = runs_proposed_last(&*snapshot, &range, PAGE).await?;
        let documents = documents_get(&*snapshot, self.project, &numbers).await?;
        self.rest = rest;
        let found = numbers.into_iter().zip(documents);
        let visible = found.filter_map(|(number, document)| {
            document.filter(|document| !document.props.pending_delete).map(|document| (number, document))
        });
        Ok(Some(visible.collect()))
    }

    /// Ends the run unless it has been heard of meanwhile.
    async fn end_one(&self, job: &mut Job<'_>, number: RunNumber, caller: &str) -> Result<bool, Error> {
        let now_us = job.now_us();
        job.write(async |mut transaction: Transaction| {
            // Checked: a record that is applied meanwhile says that the run lives.
            transaction.get(&keys::writing(self.project, number)).await?;
            let writing = writing_get(transaction.unchecked(), self.project, number).await?;
            let Some(mut edit) = RunEdit::load(&transaction, self.project, number).await? else {
                return Ok((transaction, false));
            };
            let last_us = writing.last_data_us.max(edit.props.created_us);
            if !edit.props.active || edit.props.pending_delete || last_us >= self.before_us {
                return Ok((transaction, false));
            }
            (edit.props.active, edit.props.updated_us) = (false, now_us);
            edit.props.finalized_us = Some(last_us);
            edit.write(transaction.batch());
            change_put(transaction.batch(), self.project, number, now_us, caller);
            Ok((transaction, true))
        })
        .await
    }
}
