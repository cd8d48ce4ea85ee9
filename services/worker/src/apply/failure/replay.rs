//! The end of a quarantine: the parked records of a run are applied in order, one page in each turn, so that
//! memory, and blocks that wait to be folded, stay bounded. A replay can stop anywhere: records that were
//! applied are skipped by the cursor. Records that were restored together with the run come first.

use matyan_model::{
    keys::{self, ItemPosition},
    parked::{ParkedItem, parked_clear, parked_list},
    position::Cursor,
    quarantine::{Quarantine, quarantine_end, quarantine_end_restored, quarantine_get, quarantine_put},
};
use matyan_store::{Batch, Error, Range, Transaction, transact};

use crate::{
    apply::{
        apply_failure::ApplyFailure, run_key::RunKey, run_state::RunState, transaction::commit_at_cursor,
    },
    deps::Deps,
    record::Entry,
};

/// Parked items that are listed together; a page also ends after a number of bytes.
const PAGE_ITEMS: usize = 256;

/// A run whose parked records are applied.
#[derive(Clone, Copy)]
pub(crate) struct Replay<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) run: &'a RunKey,
}

/// A page of the parked records of a run.
pub(crate) struct ReplayPage {
    /// The records of the page, in order.
    pub(crate) entries: Vec<Entry>,
    /// The rows that hold the records.
    pub(crate) parked: Vec<ParkedRow>,
    /// The parked records after the page; `None` if it is the last one.
    pub(crate) rest: Option<Range>,
    /// Where the restored records of the run start, if the page is of these.
    pub(crate) restored: Option<Cursor>,
}

/// The row of a parked record.
pub(crate) struct ParkedRow {
    at: ItemPosition,
    bytes: u64,
}

impl Replay<'_> {
    /// Marks the cursor as the cursor of a replay. Older versions did not do so.
    pub(crate) async fn start(&self, state: Option<RunState>) -> Result<(), ApplyFailure> {
        let Some(state) = state.filter(|state| !state.cursor.is_replaying()) else {
            return Ok(());
        };
        let mut batch = Batch::buffered();
        let cursor = Cursor { is_replaying: true, ..state.cursor.get() };
        batch.set(keys::cursor(self.run.project, &self.run.id), cursor.encode());
        self.commit(&state, batch).await
    }

    /// Lists a page of the parked records: the first of these, if any are left to be applied.
    pub(crate) async fn next_page(&self, left: Option<Range>) -> Result<ReplayPage, ApplyFailure> {
        let project = self.run.project;
        let id = &self.run.id;
        let snapshot = self.deps.store.snapshot().await?;
        let quarantine = quarantine_get(&*snapshot, project, id).await?;
        let restored = quarantine.and_then(|quarantine| quarantine.restored);
        // Other restored records are of a restore that was abandoned.
        let all = match restored {
            Some(_) => keys::parked_restored(project, id),
            None => keys::parked_logged(project, id),
        };
        let range = left.filter(|left| all.contains(&left.start)).unwrap_or(all);
        let (items, rest) = parked_list(&*snapshot, project, &range, PAGE_ITEMS).await?;
        drop(snapshot);
        let mut entries = Vec::new();
        let mut parked = Vec::new();
        for item in items {
            if !is_restored_with_run(&item, restored) {
                continue;
            }
            let row = ParkedRow { at: item.at, bytes: item.item.len() as u64 };
            if let Some(entry) = Entry::of_parked(&self.run.project_name, item) {
                entries.push(entry);
                parked.push(row);
            }
        }
        Ok(ReplayPage { entries, parked, rest, restored })
    }

    /// Clears the parked records of a page that were applied.
    pub(crate) async fn clear(&self, parked: &[ParkedRow]) -> Result<(), ApplyFailure> {
        let project = self.run.project;
        let id = &self.run.id;
        transact(&*self.deps.store, async |mut transaction: Transaction| {
            transaction.get(&keys::quarantine(project, id)).await?;
            let quarantine = quarantine_get(transaction.unchecked(), project, id).await?;
            let mut cleared = 0;
            for row in parked {
                if parked_clear(&mut transaction, project, id, row.at).await? {
                    cleared += row.bytes;
                }
            }
            if let Some(quarantine) = quarantine {
                let parked_bytes = quarantine.parked_bytes.saturating_sub(cleared);
                let quarantine = Quarantine { parked_bytes, ..quarantine };
                quarantine_put(transaction.batch(), project, id, &quarantine);
            }
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
        Ok(())
    }

    /// Continues with the parked records from the log after the last restored record.
    pub(crate) async fn end_restored(&self) -> Result<(), ApplyFailure> {
        let project = self.run.project;
        let id = &self.run.id;
        let mut transaction = Transaction::new(self.deps.store.snapshot().await?);
        transaction.set_buffered();
        let state = RunState::load(transaction.unchecked(), self.run, false).await?;
        transaction.get(&keys::quarantine(project, id)).await?;
        let quarantine = quarantine_get(transaction.unchecked(), project, id).await?;
        if let Some(quarantine) = quarantine.filter(|_| state.cursor.is_replaying()) {
            quarantine_end_restored(transaction.batch(), project, id, &quarantine, state.cursor.get());
            self.commit(&state, transaction.into_batch()).await?;
        }
        Ok(())
    }

    /// Ends the quarantine after the last parked record.
    pub(crate) async fn end_quarantine(&self) -> Result<(), ApplyFailure> {
        let state = RunState::load(&*self.deps.store.snapshot().await?, self.run, false).await?;
        // An operator may have put the run back in quarantine.
        if !state.cursor.is_replaying() {
            return Ok(());
        }
        let mut batch = Batch::buffered();
        quarantine_end(&mut batch, self.run.project, &self.run.id, state.cursor.get());
        self.commit(&state, batch).await?;
        let run = self.run.id.as_str();
        tracing::info!(run, "applied the parked records of a run; its quarantine has ended");
        Ok(())
    }

    async fn commit(&self, state: &RunState, batch: Batch) -> Result<(), ApplyFailure> {
        commit_at_cursor(self.deps, self.run, state.cursor.row(), batch).await
    }
}

/// Whether a parked item is of the partition whose records were restored with the run, if any were.
fn is_restored_with_run(item: &ParkedItem, restored: Option<Cursor>) -> bool {
    match restored {
        Some(Cursor { position, .. }) => {
            (position.log, position.partition) == (item.at.log, item.at.partition)
        }
        None => true,
    }
}
