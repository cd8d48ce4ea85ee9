//! Repairs the indexes in place: adds missing rows, clears rows that no document accounts for,
//! and recounts. Searches can run concurrently, because an index proposes and the document
//! decides. Correct indexes cause no writes.

use matyan_maintenance::JobLock;
use matyan_model::{
    change::change_put,
    entity::{Entity, Experiment, Tag, entity_list},
    ids::RunNumber,
    index::{DocumentRows, index_repair, run_count_repair, stale_rows_clear, stale_rows_find},
    keys,
    run::runs_list,
};
use matyan_proto::admin::v1::{JobProgress, ReindexRequest, ReindexResponse};
use matyan_store::{Scan, Transaction};

use super::job;
use crate::{
    Deps,
    call::Call,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

pub(crate) const JOB: &str = "reindex";

/// Documents, or rows of an index, read in one step.
const PAGE: Scan = Scan { rows: 256, bytes: 1 << 20, reverse: false };

pub(super) async fn run(
    deps: &Deps,
    call: &Call,
    request: ReindexRequest,
    sender: &Sender<ReindexResponse>,
) -> Result<(), StreamEnd> {
    let mut lock = job::lock(deps, JOB, call.project).await?.dry(request.dry_run);
    let mut reindex = Reindex { deps, call, dry_run: request.dry_run, done: 0, rows: 0 };
    let result = reindex.repair_all(&mut lock, sender).await;
    lock.release(result).await
}

struct Reindex<'c> {
    deps: &'c Deps,
    call: &'c Call,
    dry_run: bool,
    /// Runs processed.
    done: u64,
    rows: u64,
}

impl Reindex<'_> {
    fn response(&self, total: u64) -> ReindexResponse {
        ReindexResponse { progress: Some(JobProgress { done: self.done, total, failed: 0 }), rows: self.rows }
    }

    async fn repair_all(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let mut rest = Some(keys::documents(self.call.project));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let page = runs_list(snapshot.as_ref(), self.call.project, &range, PAGE).await?;
            drop(snapshot);
            rest = page.rest;
            for (number, _) in page.runs {
                let repair = async |mut transaction: Transaction| {
                    let rows = index_repair(&mut transaction, self.call.project, number).await?;
                    if rows > 0 {
                        self.announce(&mut transaction, number);
                    }
                    Ok::<_, Error>((self.to_commit(transaction).await?, rows))
                };
                let rows = lock.write(repair).await?;
                self.rows += rows as u64;
                self.done += 1;
            }
            sender.send(self.response(0)).await?;
        }
        self.clear_unwanted(lock, sender).await?;
        self.recount::<Experiment>(lock).await?;
        self.recount::<Tag>(lock).await?;
        sender.send(self.response(self.done)).await?;
        Ok(())
    }

    /// Adds a run to the change feed. Its document is unchanged, but tables of runs that were read from
    /// the wrong rows have to read it.
    fn announce(&self, transaction: &mut Transaction, number: RunNumber) {
        let (now_us, caller) = ((self.deps.clock)(), &self.call.caller);
        change_put(transaction.batch(), self.call.project, number, now_us, caller);
    }

    /// The transaction to commit: an empty one in a dry run.
    async fn to_commit(&self, transaction: Transaction) -> Result<Transaction> {
        if self.dry_run { Ok(Transaction::new(self.deps.store.snapshot().await?)) } else { Ok(transaction) }
    }

    async fn clear_unwanted(
        &mut self,
        lock: &mut JobLock<'_>,
        sender: &Sender<ReindexResponse>,
    ) -> Result<(), StreamEnd> {
        let project = self.call.project;
        let (mut wanted, mut rest) = (DocumentRows::default(), Some(keys::indexes(project)));
        while let Some(range) = rest {
            let page = Transaction::new(self.deps.store.snapshot().await?);
            let (doubted, next) = stale_rows_find(&page, &mut wanted, project, &range, PAGE.rows).await?;
            drop(page);
            rest = next;
            let clear = async |mut transaction: Transaction| {
                let cleared = stale_rows_clear(&mut transaction, project, &doubted).await?;
                cleared.keys().for_each(|number| self.announce(&mut transaction, *number));
                let rows: usize = cleared.values().sum();
                Ok::<_, Error>((self.to_commit(transaction).await?, rows))
            };
            self.rows += lock.write(clear).await? as u64;
            sender.send(self.response(0)).await?;
        }
        Ok(())
    }

    async fn recount<E: Entity>(&mut self, lock: &mut JobLock<'_>) -> Result<()> {
        let snapshot = self.deps.store.snapshot().await?;
        let listed = entity_list::<E>(snapshot.as_ref(), self.call.project).await?;
        drop(snapshot);
        for (id, _) in listed {
            let count = async |mut transaction: Transaction| {
                let changed = run_count_repair(&mut transaction, self.call.project, E::KIND, &id).await?;
                Ok::<_, Error>((self.to_commit(transaction).await?, changed))
            };
            let changed = lock.write(count).await?;
            self.rows += u64::from(changed);
        }
        Ok(())
    }
}
