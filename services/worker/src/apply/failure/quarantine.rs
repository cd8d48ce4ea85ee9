//! Runs in quarantine: their records are parked whole, without reading anything else of the run. When an
//! operator ends the quarantine, the parked records are applied in order (`replay`), before the records
//! that follow them. A delete is applied at once, whatever the state of the run's rows is.

use matyan_model::{
    ids::{Project, RunId, RunNumber},
    keys,
    parked::{ParkedItem, WHOLE_RECORD, parked_content, parked_put, parked_records_clear},
    quarantine::{Quarantine, quarantine_begin, quarantine_end, quarantine_get, quarantine_put},
    run::{Deletion, Head, damaged_run_delete, number_find},
};
use matyan_store::{Batch, Error, Transaction, Value, transact};

use crate::{
    apply::{
        apply_failure::ApplyFailure,
        decoded_record::{DecodedRecord, item_position},
        outcome::ApplyOutcome,
        run_key::RunKey,
        run_state::RunState,
        transaction::{TRANSACTION_BYTES, commit_at_cursor},
    },
    deps::Deps,
    metrics::TransactionMetrics,
    record::Entry,
};

/// Slow attempts at one item before its run is put in quarantine. The waits between them add up to five minutes, during
/// which the log cannot be trimmed.
const MAX_SLOW_ATTEMPTS: u32 = 64;
/// Estimated size of the rows and keys of a parked record, besides its content.
const RECORD_EXTRA_BYTES: u64 = 256;
/// Parked records that are deleted together.
const CLEAR_RECORDS: usize = 100;

/// A run that is in quarantine, or is about to be, with what its writer needs to park its records.
#[derive(Clone, Copy)]
pub(crate) struct QuarantinedRun<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) run: &'a RunKey,
    pub(crate) metrics: &'a TransactionMetrics,
    /// Size of the parked records above which the quarantine is reported as large.
    pub(crate) large_bytes: u64,
}

/// Result of parking records of a run, or of deleting the run.
pub(crate) enum QuarantineOutcome {
    /// This number of records was parked, deleted, or handled before.
    Done(usize),
    /// The quarantine is ending: the parked records have to be applied first.
    Ending,
}

/// The row of a quarantine.
struct StoredQuarantine {
    /// As it was read: nothing is parked if it has changed by then.
    row: Option<Value>,
    /// `None` if the row is damaged.
    quarantine: Option<Quarantine>,
    /// The reason of the quarantine, or what is wrong with its row.
    reason: String,
}

/// The reason why a run has to be put in quarantine after a failure that followed this many slow attempts;
/// `None` if the run can be left as it is. Damage of rows that runs share is not a failure of the run: see
/// `isolate_damage`.
pub(crate) fn quarantine_reason(failure: &ApplyFailure, slow_attempts: u32) -> Option<String> {
    match failure {
        ApplyFailure::Store(Error::Corrupt { reason, .. }) => Some(reason.clone()),
        ApplyFailure::Slow if slow_attempts >= MAX_SLOW_ATTEMPTS => Some(format!(
            "{slow_attempts} attempts to apply an item took longer than a snapshot of the store lasts, while other runs were applied"
        )),
        _ => None,
    }
}

/// Puts a run in quarantine because its rows under this number are damaged, unless the run is in quarantine
/// or has another number by now.
pub(crate) async fn quarantine_damaged(
    deps: &Deps,
    metrics: &TransactionMetrics,
    run: (Project, RunNumber, &RunId),
    reason: &str,
) -> Result<(), Error> {
    let (project, number, id) = run;
    let started = transact(&*deps.store, async |mut transaction: Transaction| {
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
    });
    let (is_started, _) = started.await?;
    if is_started {
        report_quarantine(metrics, id, reason);
    }
    Ok(())
}

fn report_quarantine(metrics: &TransactionMetrics, id: &RunId, reason: &str) {
    metrics.quarantined();
    let run = id.as_str();
    tracing::error!(run, reason, "run is in quarantine; parking its records until `matyan runs resume`");
}

impl QuarantinedRun<'_> {
    /// Puts the run in quarantine. Returns false if that fails; the next attempt to apply records retries it.
    pub(crate) async fn start(&self, reason: &str) -> bool {
        let started = transact(&*self.deps.store, async |mut transaction: Transaction| {
            transaction.set_buffered();
            let now_us = self.deps.now_us();
            quarantine_begin(&mut transaction, self.run.project, &self.run.id, reason, now_us).await?;
            Ok::<_, Error>((transaction, ()))
        });
        match started.await {
            Ok(_) => {
                report_quarantine(self.metrics, &self.run.id, reason);
                true
            }
            Err(error) => {
                let run = self.run.id.as_str();
                tracing::warn!(run, %error, "failed to put run in quarantine; will retry");
                false
            }
        }
    }

    /// Parks records, or deletes the run if the first record that is left says so. Both change the cursor, so they take
    /// the state, and the next step reloads it.
    pub(crate) async fn park_or_delete(
        &self,
        loaded: &mut Option<RunState>,
        records: &[DecodedRecord],
        applied: &mut ApplyOutcome,
    ) -> Result<QuarantineOutcome, ApplyFailure> {
        let snapshot = self.deps.store.snapshot().await?;
        let row = snapshot.get(&keys::quarantine(self.run.project, &self.run.id)).await?;
        let quarantine = quarantine_get(&*snapshot, self.run.project, &self.run.id).await;
        drop(snapshot);
        let stored = match quarantine {
            Ok(Some(quarantine)) if !quarantine.is_ending => {
                let reason = quarantine.reason.clone();
                StoredQuarantine { row, quarantine: Some(quarantine), reason }
            }
            Ok(_) => return Ok(QuarantineOutcome::Ending),
            Err(Error::Corrupt { reason, .. }) => StoredQuarantine { row, quarantine: None, reason },
            Err(error) => return Err(error.into()),
        };
        let state = loaded.as_ref().expect("a run in quarantine has been loaded");
        let skipped = records
            .iter()
            .take_while(|record| state.cursor.next_item(record.entry.position).is_none())
            .count();
        let Some(record) = records.get(skipped) else { return Ok(QuarantineOutcome::Done(skipped)) };
        let state = loaded.take().expect("the state was read above");
        if record.deletes_run() {
            self.delete(&state, &record.entry).await?;
            applied.items += 1;
            return Ok(QuarantineOutcome::Done(skipped + 1));
        }
        let parked = self.park_records(state, &records[skipped..], stored, applied).await?;
        Ok(QuarantineOutcome::Done(skipped + parked))
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
        let mut batch = Batch::buffered();
        let mut done = 0;
        let mut parked = 0;
        for record in records {
            if batch.bytes() >= TRANSACTION_BYTES || record.deletes_run() {
                break;
            }
            let entry = &record.entry;
            let Some(first_item) = state.cursor.next_item(entry.position) else {
                done += 1;
                continue;
            };
            // If the log has a delete of the run further on, the records before it are dropped instead of parked.
            if !quarantine.as_ref().is_some_and(|quarantine| quarantine.is_deleting) {
                let item = self.parked_item(entry, first_item, &reason);
                if let Some(quarantine) = &mut quarantine {
                    quarantine.parked_bytes += item.item.len() as u64 + RECORD_EXTRA_BYTES;
                }
                let content = parked_content(self.run.project, &item);
                if item.item.len() <= TRANSACTION_BYTES {
                    for pieces in content {
                        batch.append(pieces);
                    }
                } else {
                    // Too large for the transaction. Content without its row has no effect, so it may be committed before.
                    for pieces in content {
                        commit_at_cursor(self.deps, self.run, state.cursor.row(), pieces).await?;
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
        commit_at_cursor(self.deps, self.run, state.cursor.row(), batch).await?;
        applied.parked += parked;
        self.report_large(parked_before, quarantine.map_or(0, |quarantine| quarantine.parked_bytes));
        Ok(done)
    }

    /// Reports a quarantine whose size in bytes has become large. Further records are parked all the same: if
    /// they stayed in the log, the records of all other runs could not be trimmed.
    fn report_large(&self, bytes_before: u64, bytes: u64) {
        if bytes_before <= self.large_bytes && bytes > self.large_bytes {
            self.metrics.quarantine_grew_large();
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

    /// Deletes the run with its parked records, and ends the quarantine. An interrupted deletion is repeated.
    async fn delete(&self, state: &RunState, entry: &Entry) -> Result<(), ApplyFailure> {
        let store = &*self.deps.store;
        let project = self.run.project;
        let id = &self.run.id;
        let mut rest = Some(keys::parked_run(project, id));
        while let Some(range) = rest {
            let mut transaction = Transaction::new(store.snapshot().await?);
            rest = parked_records_clear(&mut transaction, project, &range, CLEAR_RECORDS).await?;
            transaction.set_buffered();
            commit_at_cursor(self.deps, self.run, state.cursor.row(), transaction.into_batch()).await?;
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
        commit_at_cursor(self.deps, self.run, state.cursor.row(), transaction.into_batch()).await?;
        tracing::warn!(run = id.as_str(), "deleted a run in quarantine and its parked records");
        Ok(())
    }
}
