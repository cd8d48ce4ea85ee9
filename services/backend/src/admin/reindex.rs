//! Repairs the indexes in place: adds missing rows, clears rows that no document accounts for,
//! and recounts experiments and tags. Searches can run concurrently, because an index proposes and the document
//! decides. Correct indexes cause no writes.
//!
//! The counters of the project are not recounted. Each of them changes in the transaction that changes what it counts.
//! A document that an earlier version stored was not counted, so deleting it makes the count of bytes too small; otherwise
//! only damage to the store makes a counter wrong. A restore of an archive into an empty store counts again.
//!
//! Cohorts may lack values after damage, which does not always show, so all of them are cleared, and a job makes
//! them again.
//!
//! Each document is read once, and the index is scanned once for a million of them. Only the runs that turn
//! out to have wrong rows are looked at row by row.

use std::time::Duration;

use matyan_maintenance::{COLLECT_METRICS, COLLECT_PARAMS, JobLock, Pace};
use matyan_model::{
    change::change_put,
    cohort::{CohortKind, cohorts_clear, runs_uncollect},
    entity::{Entity, Experiment, Tag, entity_list},
    ids::RunNumber,
    index::{CounterRepair, DocumentRows, IndexSums, LinkCount, stale_rows_clear},
    keys,
    param_cohort::param_cohorts_clear,
    run::runs_list,
};
use matyan_proto::admin::v1::{JobProgress, ReindexRequest, ReindexResponse};
use matyan_store::{Error as StoreError, Key, Range, Scan, Transaction};

use super::job;
use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

pub(crate) const JOB: &str = "reindex";

/// Pause before the lock of the job that makes cohorts is tried again.
const COLLECTING_RETRY: Duration = Duration::from_secs(1);

/// Documents, or rows of an index, read in one step.
const PAGE: Scan = Scan { rows: 256, bytes: 1 << 20, ..Scan::DEFAULT };

pub(super) async fn run(
    deps: &Deps,
    call: &Call,
    request: ReindexRequest,
    sender: &Sender<ReindexResponse>,
) -> Result<(), StreamEnd> {
    let mut lock = job::lock(deps, JOB, call.project).await?.dry(request.dry_run);
    let dry_run = request.dry_run;
    let pace = Pace::default();
    let mut reindex =
        Reindex { deps, call, dry_run, done: 0, failed: 0, rows: 0, unchecked_counters: 0, pace };
    let result = reindex.repair_all(&mut lock, sender).await;
    lock.release(result).await
}

/// How often the runs of a tag or an experiment are counted, each time only where runs have changed.
const RECOUNTS: usize = 8;

struct Reindex<'c> {
    deps: &'c Deps,
    call: &'c Call,
    dry_run: bool,
    /// Runs processed.
    done: u64,
    /// Runs among them whose documents are damaged.
    failed: u64,
    rows: u64,
    /// Experiments and tags whose counters of runs could not be checked.
    unchecked_counters: u64,
    pace: Pace,
}

impl<'c> Reindex<'c> {
    async fn report(&self, total: u64, sender: &Sender<ReindexResponse>) -> Result<(), StreamEnd> {
        let progress = JobProgress { done: self.done, total, failed: self.failed };
        let Self { rows, unchecked_counters, .. } = *self;
        sender.send(ReindexResponse { progress: Some(progress), rows, unchecked_counters }).await
    }

    /// Ends a page: reports it, and rests.
    async fn end_page(&mut self, sender: &Sender<ReindexResponse>) -> Result<(), StreamEnd> {
        self.report(0, sender).await?;
        self.pace.rest().await;
        Ok(())
    }

    async fn repair_all(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let mut first = RunNumber(0);
        let mut rest = Some(keys::documents(self.call.project));
        loop {
            let mut sums = IndexSums::new(first);
            rest = self.read_documents(&mut sums, rest, lock, sender).await?;
            if rest.is_some() {
                first = sums.end();
            }
            self.scan_index(&mut sums, lock, sender).await?;
            let with_stale = self.add_missing(&sums, lock, sender).await?;
            drop(sums);
            self.clear_stale(&with_stale, lock, sender).await?;
            if rest.is_none() {
                break;
            }
        }
        self.recount::<Experiment>(lock).await?;
        self.recount::<Tag>(lock).await?;
        if !self.dry_run {
            for kind in [CohortKind::Metrics, CohortKind::Params] {
                let mut collecting = self.lock_collecting(kind, lock, sender).await?;
                let cleared = self.clear_cohorts(kind, lock, &mut collecting, sender).await;
                collecting.release(cleared).await?;
            }
        }
        self.report(self.done, sender).await
    }

    /// Adds documents to a comparison until it is full. Returns the range of the rest.
    async fn read_documents(
        &mut self,
        sums: &mut IndexSums,
        mut rest: Option<Range>,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<Option<Range>, StreamEnd> {
        let project = self.call.project;
        while let Some(range) = rest.take_if(|_| !sums.is_full()) {
            lock.renew().await?;
            let snapshot = self.deps.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), project, &range, PAGE).await?;
            drop(snapshot);
            rest = page.rest;
            self.done += page.damaged.len() as u64;
            self.failed += page.damaged.len() as u64;
            for number in page.damaged {
                sums.skip(number);
            }
            for (number, _) in page.runs {
                let transaction = Transaction::new(self.deps.store.snapshot().await?);
                let is_readable = sums.expect(&transaction, project, number).await?;
                self.failed += u64::from(!is_readable);
                self.done += 1;
            }
            self.end_page(sender).await?;
        }
        Ok(rest)
    }

    /// Compares the index with the documents, and clears the rows of missing runs.
    async fn scan_index(
        &mut self,
        sums: &mut IndexSums,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let mut rest = Some(keys::indexes(self.call.project));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let (stale, next) = sums.subtract(snapshot.as_ref(), &range, PAGE.rows).await?;
            drop(snapshot);
            rest = next;
            self.clear(&stale, lock, sender).await?;
        }
        Ok(())
    }

    /// Adds the missing rows of runs whose rows differ. Returns the runs that have stale rows.
    async fn add_missing(
        &mut self,
        sums: &IndexSums,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<Vec<RunNumber>, StreamEnd> {
        let mut with_stale = Vec::new();
        for number in sums.differing() {
            let repair = async |mut transaction: Transaction| {
                let repaired = sums.repair(&mut transaction, self.call.project, number).await?;
                if repaired.rows > 0 {
                    self.announce(&mut transaction, number);
                }
                Ok::<_, Error>((self.to_commit(transaction).await?, repaired))
            };
            let repaired = lock.write(repair).await?;
            self.rows += repaired.rows as u64;
            if repaired.has_stale {
                with_stale.push(number);
            }
            self.end_page(sender).await?;
        }
        Ok(with_stale)
    }

    /// Clears rows of these runs that their documents do not call for.
    async fn clear_stale(
        &mut self,
        runs: &[RunNumber],
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let project = self.call.project;
        let mut runs = runs.iter().peekable();
        while runs.peek().is_some() {
            let mut documents = DocumentRows::default();
            while let Some(number) = runs.next_if(|_| !documents.is_full()) {
                lock.renew().await?;
                let transaction = Transaction::new(self.deps.store.snapshot().await?);
                documents.add(&transaction, project, *number).await?;
            }
            let mut rest = Some(keys::indexes(project));
            while let Some(range) = rest {
                let snapshot = self.deps.store.snapshot().await?;
                let (stale, next) =
                    documents.find_stale(snapshot.as_ref(), project, &range, PAGE.rows).await?;
                drop(snapshot);
                rest = next;
                self.clear(&stale, lock, sender).await?;
            }
        }
        Ok(())
    }

    /// Clears rows unless their documents call for them by now.
    async fn clear(
        &mut self,
        stale: &[Key],
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        lock.renew().await?;
        if !stale.is_empty() {
            let clear = async |mut transaction: Transaction| {
                let cleared = stale_rows_clear(&mut transaction, self.call.project, stale).await?;
                for number in cleared.keys() {
                    self.announce(&mut transaction, *number);
                }
                let rows: usize = cleared.values().sum();
                Ok::<_, Error>((self.to_commit(transaction).await?, rows))
            };
            self.rows += lock.write(clear).await? as u64;
        }
        self.end_page(sender).await
    }

    /// Waits until no job makes or merges cohorts of a kind, and locks out these jobs.
    async fn lock_collecting(
        &self,
        kind: CohortKind,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<JobLock<'c>, StreamEnd> {
        let job = match kind {
            CohortKind::Metrics => COLLECT_METRICS,
            CohortKind::Params => COLLECT_PARAMS,
        };
        loop {
            match job::lock(self.deps, job, self.call.project).await {
                Ok(collecting) => return Ok(collecting.dry(true)),
                Err(Error::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            lock.renew().await?;
            self.report(self.done, sender).await?;
            tokio::time::sleep(COLLECTING_RETRY).await;
        }
    }

    /// Lists all runs as uncollected, and clears the cohorts of a kind.
    async fn clear_cohorts(
        &mut self,
        kind: CohortKind,
        lock: &mut JobLock<'_>,
        collecting: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let project = self.call.project;
        let mut rest = Some(keys::documents(project));
        while let Some(range) = rest {
            lock.renew().await?;
            let uncollect = async |mut transaction: Transaction| {
                let (collected, rest) = runs_uncollect(&mut transaction, kind, project, &range).await?;
                for number in collected {
                    self.announce(&mut transaction, number);
                }
                Ok::<_, Error>((transaction, rest))
            };
            rest = collecting.write(uncollect).await?;
            self.end_page(sender).await?;
        }
        loop {
            lock.renew().await?;
            let clear = async |mut transaction: Transaction| {
                let is_cleared = match kind {
                    CohortKind::Metrics => cohorts_clear(&mut transaction, project).await?,
                    CohortKind::Params => param_cohorts_clear(&mut transaction, project).await?,
                };
                Ok::<_, Error>((transaction, is_cleared))
            };
            if collecting.write(clear).await? {
                return Ok(());
            }
            self.end_page(sender).await?;
        }
    }

    /// Adds a run to the change feed. Its document is unchanged, but tables of runs that were read from
    /// the wrong rows have to read it.
    fn announce(&self, transaction: &mut Transaction, number: RunNumber) {
        let now_us = (self.deps.clock)();
        let caller = &self.call.caller;
        change_put(transaction.batch(), self.call.project, number, now_us, caller);
    }

    /// The transaction to commit: an empty one in a dry run.
    async fn to_commit(&self, transaction: Transaction) -> Result<Transaction> {
        if self.dry_run { Ok(Transaction::new(self.deps.store.snapshot().await?)) } else { Ok(transaction) }
    }

    async fn recount<E: Entity>(&mut self, lock: &mut JobLock<'_>) -> Result<()> {
        let snapshot = self.deps.store.snapshot().await?;
        let listed = entity_list::<E>(snapshot.as_ref(), self.call.project).await?;
        drop(snapshot);
        for (id, _) in listed {
            match self.repair_counter::<E>(lock, &id).await {
                Ok(Some(was_wrong)) => self.rows += u64::from(was_wrong),
                // The count of one entity must not end the repair of all others.
                Ok(None) | Err(Error::Store(StoreError::SnapshotTooOld)) => {
                    tracing::warn!(
                        project = self.call.project_name,
                        kind = E::KIND.name(),
                        id,
                        "left a counter of runs unchecked, because its runs changed faster than they were counted; run the job \
                         again while the server is less busy"
                    );
                    self.unchecked_counters += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns whether the counter was wrong; `None` if its runs change too fast to be counted.
    async fn repair_counter<E: Entity>(&self, lock: &mut JobLock<'_>, id: &str) -> Result<Option<bool>> {
        let store = &*self.deps.store;
        let mut links = LinkCount::new(store, self.call.project, E::KIND, id).await?;
        for _ in 0..RECOUNTS {
            let repair = async |mut transaction: Transaction| {
                let repaired = links.repair(&mut transaction).await?;
                Ok::<_, Error>((self.to_commit(transaction).await?, repaired))
            };
            match lock.write(repair).await? {
                CounterRepair::Done { was_wrong } => return Ok(Some(was_wrong)),
                CounterRepair::RecountNeeded => links.recount(store).await?,
            }
        }
        Ok(None)
    }
}
