//! The end of a quarantine: applies the parked records of a run in order, one page in each turn, so that
//! memory, and blocks that wait to be folded, stay bounded. It can stop anywhere: records that were
//! applied are skipped by the cursor. Records that were restored together with the run come first.

use matyan_model::{
    keys,
    parked::{ParkedItem, parked_clear, parked_list},
    position::Cursor,
    quarantine::{Quarantine, quarantine_end, quarantine_end_restored, quarantine_get, quarantine_put},
};
use matyan_store::{Batch, Error, Transaction, transact};
use tokio_util::sync::CancellationToken;

use super::{
    ApplyFailure, RunWriter,
    decode_queue::DecodeQueue,
    outcome::{ApplyEnd, ApplyOutcome},
    run_state::RunState,
};
use crate::record::Entry;

/// Parked items that are listed together; a page also ends after a number of bytes.
const PAGE_ITEMS: usize = 256;

impl RunWriter {
    /// Applies a page of the parked records, or ends the quarantine after the last one.
    pub(super) async fn replay_page(
        &mut self,
        stop: &CancellationToken,
        applied: &mut ApplyOutcome,
    ) -> Result<ApplyEnd, ApplyFailure> {
        let (project, id) = (self.run.project, &self.run.id);
        let snapshot = self.deps.store.snapshot().await?;
        let quarantine = quarantine_get(&*snapshot, project, id).await?;
        let restored = quarantine.and_then(|quarantine| quarantine.restored);
        // Other restored records are of a restore that was abandoned.
        let all = match restored {
            Some(_) => keys::parked_restored(project, id),
            None => keys::parked_logged(project, id),
        };
        let range = self.replay_rest.clone().filter(|rest| all.contains(&rest.start)).unwrap_or(all);
        let (page, rest) = parked_list(&*snapshot, project, &range, PAGE_ITEMS).await?;
        drop(snapshot);
        let is_wanted = |item: &ParkedItem| {
            let of_run = |first: Cursor| {
                (first.position.log, first.position.partition) == (item.at.log, item.at.partition)
            };
            item.record.is_some() && restored.is_none_or(of_run)
        };
        let records: Vec<ParkedItem> = page.into_iter().filter(is_wanted).collect();
        if !records.is_empty() {
            let replayed: Vec<_> = records.iter().map(|item| (item.at, item.item.len() as u64)).collect();
            let name = self.run.project_name.to_string();
            let entries = records.into_iter().filter_map(|item| Entry::of_parked(&name, item)).collect();
            (self.state, self.is_replaying) = (None, true);
            let end = Box::pin(self.apply_all(&mut DecodeQueue::new(entries), stop, applied)).await;
            (self.state, self.is_replaying) = (None, false);
            if end != ApplyEnd::Complete {
                self.replay_rest = None;
                return Ok(end);
            }
            self.clear_replayed(&replayed).await?;
        }
        self.replay_rest = rest;
        match (&self.replay_rest, restored) {
            (Some(_), _) => {}
            (None, Some(_)) => self.end_restored().await?,
            (None, None) => self.end_quarantine().await?,
        }
        Ok(ApplyEnd::Paused)
    }

    /// Marks the cursor as one of a replay, which an older version did not.
    pub(super) async fn begin_replay(&mut self) -> Result<(), ApplyFailure> {
        let Some(state) = self.state.take().filter(|state| !state.cursor.is_replaying()) else {
            return Ok(());
        };
        let mut batch = Batch::buffered();
        let cursor = Cursor { is_replaying: true, ..state.cursor.get() };
        batch.set(keys::cursor(self.run.project, &self.run.id), cursor.encode());
        self.commit_quarantined(&state, batch).await
    }

    async fn clear_replayed(&self, replayed: &[(keys::ItemPosition, u64)]) -> Result<(), ApplyFailure> {
        let (project, id) = (self.run.project, &self.run.id);
        transact(&*self.deps.store, async |mut transaction: Transaction| {
            let key = keys::quarantine(project, id);
            transaction.get(&key).await?;
            let quarantine = quarantine_get(transaction.unchecked(), project, id).await?;
            let mut cleared = 0;
            for (at, bytes) in replayed {
                if parked_clear(&mut transaction, project, id, *at).await? {
                    cleared += bytes;
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

    /// Continues with the parked records from the log.
    async fn end_restored(&mut self) -> Result<(), ApplyFailure> {
        let (project, id) = (self.run.project, &self.run.id);
        let mut transaction = Transaction::new(self.deps.store.snapshot().await?);
        transaction.set_buffered();
        let state = RunState::load(transaction.unchecked(), &self.run, false).await?;
        transaction.get(&keys::quarantine(project, id)).await?;
        let quarantine = quarantine_get(transaction.unchecked(), project, id).await?;
        if let Some(quarantine) = quarantine.filter(|_| state.cursor.is_replaying()) {
            quarantine_end_restored(transaction.batch(), project, id, &quarantine, state.cursor.get());
            self.commit_quarantined(&state, transaction.into_batch()).await?;
        }
        Ok(())
    }

    async fn end_quarantine(&mut self) -> Result<(), ApplyFailure> {
        let (project, id) = (self.run.project, self.run.id.clone());
        let state = RunState::load(&*self.deps.store.snapshot().await?, &self.run, false).await?;
        // An operator may have begun it again.
        if !state.cursor.is_replaying() {
            return Ok(());
        }
        let mut batch = Batch::buffered();
        quarantine_end(&mut batch, project, &id, state.cursor.get());
        self.commit_quarantined(&state, batch).await?;
        tracing::info!(run = id.as_str(), "applied the parked records of a run; its quarantine has ended");
        Ok(())
    }
}
