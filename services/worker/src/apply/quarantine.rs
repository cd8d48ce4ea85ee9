//! Runs in quarantine: their records are parked whole, without reading anything else of the run. When an
//! operator ends the quarantine, the parked records are applied in order, before those that follow.

use matyan_model::{
    keys,
    parked::{ParkedItem, WHOLE_RECORD, parked_clear, parked_content, parked_list, parked_put},
    quarantine::{quarantine_begin, quarantine_end, quarantine_get},
};
use matyan_store::{Batch, Commit, Transaction, transact};
use tokio_util::sync::CancellationToken;

use super::{
    ApplyFailure, RunWriter, decode_queue::DecodedRecord, item_position, run_state::RunState,
    transaction::TRANSACTION_BYTES, writer::ApplyOutcome,
};
use crate::record::Entry;

/// Parked records that are applied together.
const REPLAY_RECORDS: usize = 16;

impl RunWriter {
    pub(super) fn is_quarantined(&self) -> bool {
        !self.is_replaying && self.state.as_ref().is_some_and(|state| state.cursor.is_quarantined())
    }

    /// Puts the run in quarantine. If that fails, it returns false, and the next attempt to apply
    /// something tries again.
    pub(super) async fn quarantine(&mut self, reason: &str) -> bool {
        self.state = None;
        let begun = transact(&*self.deps.store, async |mut transaction: Transaction| {
            transaction.set_buffered();
            let (run, now_us) = (&self.run, self.deps.now_us());
            quarantine_begin(&mut transaction, run.project, &run.id, reason, now_us).await?;
            Ok::<_, matyan_store::Error>((transaction, ()))
        });
        let run = self.run.id.as_str();
        let begun = begun.await;
        match &begun {
            Ok(_) => {
                self.metrics.quarantined();
                tracing::error!(
                    run,
                    reason,
                    "run is damaged; parking its records until `matyan runs resume`"
                );
            }
            Err(error) => tracing::warn!(run, %error, "failed to put run in quarantine; will retry"),
        }
        begun.is_ok()
    }

    /// Parks records, or applies the parked ones if the quarantine is ending. Returns how many of the
    /// records are done.
    pub(super) async fn apply_in_quarantine(
        &mut self,
        records: &[DecodedRecord],
        stop: &CancellationToken,
        applied: &mut ApplyOutcome,
    ) -> Result<usize, ApplyFailure> {
        let snapshot = self.deps.store.snapshot().await?;
        let quarantine = quarantine_get(&*snapshot, self.run.project, &self.run.id).await;
        drop(snapshot);
        match quarantine {
            Ok(Some(quarantine)) if !quarantine.is_ending => {
                self.park_records(records, &quarantine.reason, applied).await
            }
            Ok(_) => {
                self.replay(stop, applied).await?;
                Ok(0)
            }
            Err(matyan_store::Error::Corrupt { reason, .. }) => {
                self.park_records(records, &reason, applied).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Parks as many records as fit in a transaction.
    async fn park_records(
        &mut self,
        records: &[DecodedRecord],
        reason: &str,
        applied: &mut ApplyOutcome,
    ) -> Result<usize, ApplyFailure> {
        let mut state = self.state.take().expect("a run in quarantine has been loaded");
        let (mut batch, mut done, mut parked) = (Batch::buffered(), 0, 0);
        for record in records {
            if batch.bytes() >= TRANSACTION_BYTES {
                break;
            }
            done += 1;
            let entry = &record.entry;
            if state.cursor.next_item(entry.position).is_none() {
                continue;
            }
            let item = self.parked_item(entry, reason);
            for mut content in parked_content(self.run.project, &item) {
                if item.item.len() <= TRANSACTION_BYTES {
                    batch.mutations.append(&mut content.mutations);
                } else {
                    self.commit_quarantined(&state, content).await?;
                }
            }
            parked_put(&mut batch, self.run.project, &item);
            state.cursor.advance_past(entry.position);
            parked += 1;
        }
        batch.set(keys::cursor(self.run.project, &self.run.id), state.cursor.get().encode());
        self.commit_quarantined(&state, batch).await?;
        applied.parked += parked;
        Ok(done)
    }

    fn parked_item(&self, entry: &Entry, reason: &str) -> ParkedItem {
        let run = self.run.id.as_str();
        let reason = match entry.content.unreadable_reason() {
            Some(unreadable) => unreadable.to_owned(),
            None => {
                format!("the run is in quarantine ({reason}): repair it, then `matyan runs resume {run}`")
            }
        };
        let record = entry.parked_record();
        let item = if record.is_some() { WHOLE_RECORD } else { 0 };
        ParkedItem {
            run_id: self.run.id.clone(),
            at: item_position(entry.position, item),
            reason,
            received_us: entry.received_us,
            item: entry.raw(),
            record,
        }
    }

    /// Commits, unless the run was written by another process.
    async fn commit_quarantined(&self, state: &RunState, mut batch: Batch) -> Result<(), ApplyFailure> {
        batch.expect(keys::cursor(self.run.project, &self.run.id), state.cursor.row().clone());
        match self.deps.store.commit(batch).await? {
            Commit::Done { .. } => Ok(()),
            Commit::Conflict => Err(ApplyFailure::Conflict),
        }
    }

    /// Applies the parked records in order, and ends the quarantine after the last one.
    async fn replay(
        &mut self,
        stop: &CancellationToken,
        applied: &mut ApplyOutcome,
    ) -> Result<(), ApplyFailure> {
        let (project, id) = (self.run.project, self.run.id.clone());
        loop {
            let parked = self.next_parked_records().await?;
            if parked.is_empty() {
                break;
            }
            let positions: Vec<_> = parked.iter().map(|item| item.at).collect();
            let name = self.run.project_name.to_string();
            let entries = parked.into_iter().filter_map(|item| Entry::of_parked(&name, item)).collect();
            (self.state, self.is_replaying) = (None, true);
            let is_complete = self.apply_all(entries, stop, applied).await;
            self.is_replaying = false;
            let is_damaged = self.state.is_none();
            self.state = None;
            if !is_complete || is_damaged {
                return Ok(());
            }
            for at in positions {
                transact(&*self.deps.store, async |mut transaction: Transaction| {
                    parked_clear(&mut transaction, project, &id, at).await?;
                    Ok::<_, matyan_store::Error>((transaction, ()))
                })
                .await?;
            }
        }
        let state = RunState::load(&*self.deps.store.snapshot().await?, &self.run, false).await?;
        let mut batch = Batch::buffered();
        quarantine_end(&mut batch, project, &id, state.cursor.get());
        self.commit_quarantined(&state, batch).await?;
        tracing::info!(run = id.as_str(), "applied the parked records of a run; its quarantine has ended");
        Ok(())
    }

    /// The first parked records of the run, in order.
    async fn next_parked_records(&self) -> Result<Vec<ParkedItem>, ApplyFailure> {
        let mut rest = Some(keys::parked_run(self.run.project, &self.run.id));
        while let Some(range) = rest {
            let snapshot = self.deps.store.snapshot().await?;
            let (page, next) = parked_list(&*snapshot, self.run.project, &range, REPLAY_RECORDS).await?;
            let records: Vec<_> = page.into_iter().filter(|item| item.record.is_some()).collect();
            if !records.is_empty() {
                return Ok(records);
            }
            rest = next;
        }
        Ok(Vec::new())
    }
}
