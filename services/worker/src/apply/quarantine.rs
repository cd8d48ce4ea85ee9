//! Runs in quarantine: their records are parked whole, without reading anything else of the run. When an
//! operator ends the quarantine, the parked records are applied in order (`replay`), before those that
//! follow. A delete is applied at once, whatever the state of the run's rows is.

use matyan_model::{
    ids::{Project, RunId, RunNumber},
    keys::{self, RowOwner, row_owner},
    parked::{ParkedItem, WHOLE_RECORD, parked_content, parked_put, parked_records_clear},
    quarantine::{Quarantine, quarantine_begin, quarantine_end, quarantine_get, quarantine_put},
    run::{Deletion, Head, damaged_run_delete, number_find, run_id_get},
};
use matyan_store::{Batch, Commit, Error, Key, Transaction, Value, transact};
use tokio_util::sync::CancellationToken;

use super::{
    ApplyFailure, RunWriter, WriterContext,
    decode_queue::DecodedRecord,
    item_position,
    outcome::{ApplyOutcome, InQuarantine},
    run_state::RunState,
    transaction::TRANSACTION_BYTES,
};
use crate::{deps::Deps, metrics::TransactionMetrics, record::Entry};

/// Bytes that a parked record counts in addition to its own: its rows and their keys.
const RECORD_EXTRA_BYTES: u64 = 256;
/// Parked records that are deleted together.
const CLEAR_RECORDS: usize = 100;

/// The row of a quarantine.
struct StoredQuarantine {
    row: Option<Value>,
    /// `None` if the row is damaged.
    quarantine: Option<Quarantine>,
    reason: String,
}

/// Puts a run in quarantine of which the rows under this number are damaged, unless it is there or has
/// another number by now.
pub(crate) async fn quarantine_damaged(
    deps: &Deps,
    metrics: &TransactionMetrics,
    run: (Project, RunNumber, &RunId),
    reason: &str,
) -> Result<(), Error> {
    let (project, number, id) = run;
    let step = async |mut transaction: Transaction| {
        let key = keys::head(project, id);
        let head = transaction.get(&key).await?.map(|row| Head::decode(&key, &row)).transpose()?;
        let is_quarantined = match quarantine_get(transaction.unchecked(), project, id).await {
            Err(Error::Corrupt { .. }) => true,
            found => found?.is_some_and(|quarantine| !quarantine.is_ending),
        };
        let is_needed = head == Some(Head::Live(number)) && !is_quarantined;
        if is_needed {
            transaction.set_buffered();
            quarantine_begin(&mut transaction, project, id, reason, deps.now_us()).await?;
        }
        Ok::<_, Error>((transaction, is_needed))
    };
    if transact(&*deps.store, step).await?.0 {
        report_quarantine(metrics, id, reason);
    }
    Ok(())
}

fn report_quarantine(metrics: &TransactionMetrics, id: &RunId, reason: &str) {
    metrics.quarantined();
    let run = id.as_str();
    tracing::error!(run, reason, "run is in quarantine; parking its records until `matyan runs resume`");
}

impl RunWriter {
    pub(super) fn is_quarantined(&self) -> bool {
        !self.is_replaying && self.state.as_ref().is_some_and(|state| state.cursor.is_quarantined())
    }

    /// Whether a row that cannot be decoded belongs to this run, and to no other.
    pub(super) async fn is_own_row(&self, key: Option<&Key>) -> Result<bool, Error> {
        Ok(match key.map(row_owner) {
            Some(RowOwner::Shared) => false,
            Some(RowOwner::RunId(id)) => id == self.run.id,
            Some(RowOwner::Number(number)) => {
                let snapshot = self.deps.store.snapshot().await?;
                match run_id_get(&*snapshot, self.run.project, number).await {
                    Ok(id) => id.is_none_or(|id| id == self.run.id),
                    Err(Error::Corrupt { .. }) => true,
                    Err(error) => return Err(error),
                }
            }
            None => true,
        })
    }

    /// Puts the run in quarantine. If that fails, it returns false, and the next attempt to apply
    /// something tries again.
    pub(super) async fn quarantine(&mut self, reason: &str) -> bool {
        self.state = None;
        let begun = transact(&*self.deps.store, async |mut transaction: Transaction| {
            transaction.set_buffered();
            let (run, now_us) = (&self.run, self.deps.now_us());
            quarantine_begin(&mut transaction, run.project, &run.id, reason, now_us).await?;
            Ok::<_, Error>((transaction, ()))
        });
        let begun = begun.await;
        match &begun {
            Ok(_) => report_quarantine(&self.context.metrics, &self.run.id, reason),
            Err(error) => {
                let run = self.run.id.as_str();
                tracing::warn!(run, %error, "failed to put run in quarantine; will retry");
            }
        }
        begun.is_ok()
    }

    /// Parks records, or deletes the run if the first one says so, or applies parked records if the
    /// quarantine is ending.
    pub(super) async fn apply_in_quarantine(
        &mut self,
        records: &[DecodedRecord],
        stop: &CancellationToken,
        applied: &mut ApplyOutcome,
    ) -> Result<InQuarantine, ApplyFailure> {
        let snapshot = self.deps.store.snapshot().await?;
        let row = snapshot.get(&keys::quarantine(self.run.project, &self.run.id)).await?;
        let quarantine = quarantine_get(&*snapshot, self.run.project, &self.run.id).await;
        drop(snapshot);
        let (quarantine, reason) = match quarantine {
            Ok(Some(quarantine)) if !quarantine.is_ending => {
                let reason = quarantine.reason.clone();
                (Some(quarantine), reason)
            }
            Ok(_) => {
                self.begin_replay().await?;
                return Ok(InQuarantine::Replayed(self.replay_page(stop, applied).await?));
            }
            Err(Error::Corrupt { reason, .. }) => (None, reason),
            Err(error) => return Err(error.into()),
        };
        let state = self.state.take().expect("a run in quarantine has been loaded");
        let is_new = |record: &&DecodedRecord| state.cursor.next_item(record.entry.position).is_some();
        let skipped = records.iter().take_while(|record| !is_new(record)).count();
        match records.get(skipped) {
            None => {}
            Some(record) if record.deletes_run() => {
                self.delete_in_quarantine(&state, &record.entry).await?;
                applied.items += 1;
                return Ok(InQuarantine::Done(skipped + 1));
            }
            Some(_) => {
                let stored = StoredQuarantine { row, quarantine, reason };
                let parked = self.park_records(state, &records[skipped..], stored, applied).await?;
                return Ok(InQuarantine::Done(skipped + parked));
            }
        }
        self.state = Some(state);
        Ok(InQuarantine::Done(skipped))
    }

    /// Parks as many records as fit in a transaction, up to a delete.
    async fn park_records(
        &self,
        mut state: RunState,
        records: &[DecodedRecord],
        stored: StoredQuarantine,
        applied: &mut ApplyOutcome,
    ) -> Result<usize, ApplyFailure> {
        let StoredQuarantine { row, mut quarantine, reason } = stored;
        let parked_before = quarantine.as_ref().map_or(0, |quarantine| quarantine.parked_bytes);
        let (mut batch, mut done, mut parked) = (Batch::buffered(), 0, 0);
        for record in records {
            if batch.bytes() >= TRANSACTION_BYTES || record.deletes_run() {
                break;
            }
            let entry = &record.entry;
            let Some(first_item) = state.cursor.next_item(entry.position) else {
                done += 1;
                continue;
            };
            // Records before a delete are not needed any more.
            if !quarantine.as_ref().is_some_and(|quarantine| quarantine.is_deleting) {
                let item = self.parked_item(entry, first_item, &reason);
                if let Some(quarantine) = &mut quarantine {
                    quarantine.parked_bytes += item.item.len() as u64 + RECORD_EXTRA_BYTES;
                }
                for mut content in parked_content(self.run.project, &item) {
                    if item.item.len() <= TRANSACTION_BYTES {
                        batch.mutations.append(&mut content.mutations);
                    } else {
                        self.commit_quarantined(&state, content).await?;
                    }
                }
                parked_put(&mut batch, self.run.project, &item);
                parked += 1;
            }
            state.cursor.advance_past(entry.position);
            done += 1;
        }
        batch.set(keys::cursor(self.run.project, &self.run.id), state.cursor.get().encode());
        batch.expect(keys::quarantine(self.run.project, &self.run.id), row);
        if let Some(quarantine) = &quarantine {
            quarantine_put(&mut batch, self.run.project, &self.run.id, quarantine);
        }
        self.commit_quarantined(&state, batch).await?;
        applied.parked += parked;
        self.report_large(parked_before, quarantine.map_or(0, |quarantine| quarantine.parked_bytes));
        Ok(done)
    }

    /// Reports a quarantine whose size in bytes has become large. Its records are parked all the same: left
    /// in the log, they would keep those of all other runs from being trimmed.
    fn report_large(&self, before: u64, bytes: u64) {
        let WriterContext { large_quarantine, metrics, .. } = &*self.context;
        if before <= *large_quarantine && bytes > *large_quarantine {
            metrics.quarantine_grew_large();
            let run = self.run.id.as_str();
            tracing::error!(
                run,
                bytes,
                "the quarantine of a run has grown large; repair the run, then `matyan runs resume`, or delete it"
            );
        }
    }

    fn parked_item(&self, entry: &Entry, first_item: u32, reason: &str) -> ParkedItem {
        let run = self.run.id.as_str();
        let reason = match entry.content.unreadable_reason() {
            Some(unreadable) => unreadable.to_owned(),
            None => {
                format!("the run is in quarantine ({reason}): repair it, then `matyan runs resume {run}`")
            }
        };
        let record = entry.parked_record(first_item);
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

    /// Deletes the run with its parked records, and ends the quarantine. Interrupted, it is repeated.
    async fn delete_in_quarantine(&self, state: &RunState, entry: &Entry) -> Result<(), ApplyFailure> {
        let (store, project, id) = (&*self.deps.store, self.run.project, &self.run.id);
        let mut rest = Some(keys::parked_run(project, id));
        while let Some(range) = rest {
            let mut transaction = Transaction::new(store.snapshot().await?);
            rest = parked_records_clear(&mut transaction, project, &range, CLEAR_RECORDS).await?;
            transaction.set_buffered();
            self.commit_quarantined(state, transaction.into_batch()).await?;
        }
        let mut transaction = Transaction::new(store.snapshot().await?);
        transaction.set_buffered();
        let key = keys::head(project, id);
        let head = transaction.get(&key).await?.map(|row| Head::decode(&key, &row)).transpose();
        let (is_deleted, number) = match head {
            Ok(Some(Head::Live(number))) => (false, Some(number)),
            Ok(Some(Head::Tombstone(_))) => (true, None),
            Ok(None) => (false, None),
            Err(Error::Corrupt { .. }) => (false, number_find(store, project, id).await?),
            Err(error) => return Err(error.into()),
        };
        if !is_deleted {
            let deletion = Deletion {
                at: entry.position,
                time_us: entry.received_us,
                now_us: self.deps.now_us(),
                caller: &entry.caller,
                project_name: &self.run.project_name,
            };
            damaged_run_delete(&mut transaction, project, id, number, deletion).await?;
        }
        let cursor = state.cursor.get().advanced_past(entry.position);
        quarantine_end(transaction.batch(), project, id, cursor);
        self.commit_quarantined(state, transaction.into_batch()).await?;
        tracing::warn!(run = id.as_str(), "deleted a run in quarantine and its parked records");
        Ok(())
    }

    /// Commits, unless the run was written by another process.
    pub(super) async fn commit_quarantined(
        &self,
        state: &RunState,
        mut batch: Batch,
    ) -> Result<(), ApplyFailure> {
        batch.expect(keys::cursor(self.run.project, &self.run.id), state.cursor.row().clone());
        match self.deps.store.commit(batch).await? {
            Commit::Done { .. } => Ok(()),
            Commit::Conflict => Err(ApplyFailure::Conflict),
        }
    }
}
