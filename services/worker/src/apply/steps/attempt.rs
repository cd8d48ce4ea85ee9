//! One transaction of one run: takes items until it is full, then writes their combined effect.

use matyan_model::producer::Mark;
use matyan_proto::ingest::v1::{Event, event::Kind};
use matyan_store::Batch;
use matyan_wire::{MessageCounts, MessageType, trace::TARGET};
use tracing::Span;

use super::{events::EventWriter, points::PointWriter};
use crate::{
    apply::{
        apply_failure::ApplyFailure,
        decoded_record::DecodedRecord,
        failure::{
            isolate::AttemptMode,
            park::{DeadLetter, ParkedItems, event_batch},
        },
        run_key::RunKey,
        run_state::{
            RunState,
            live_run::{Activity, WrittenBlocks},
            producers::OutOfSequence,
        },
        transaction::RunTransaction,
    },
    deps::Deps,
};

/// Bytes that an event writes in addition to its own: keys and index rows.
const EVENT_EXTRA_BYTES: usize = 256;

/// Effects of a committed attempt outside the store.
#[derive(Debug, Default)]
pub(crate) struct AttemptOutcome {
    pub(crate) blocks: Option<WrittenBlocks>,
    pub(crate) parked: Vec<DeadLetter>,
    pub(crate) applied: MessageCounts,
    /// Estimated size of the transaction.
    pub(crate) bytes: usize,
    pub(crate) skipped_records: u64,
}

/// A transaction that is ready to be committed.
pub(crate) struct BuiltTransaction {
    /// Number of records that the transaction completes.
    pub(crate) done: usize,
    pub(crate) batch: Batch,
    /// The work that follows the commit.
    pub(crate) outcome: AttemptOutcome,
}

/// Builds a transaction from the first of these records.
pub(crate) async fn build(
    deps: &Deps,
    run: &RunKey,
    state: &mut RunState,
    records: &[DecodedRecord],
    mode: AttemptMode,
) -> Result<BuiltTransaction, ApplyFailure> {
    let mut attempt = Attempt::start(deps, run, state, mode).await?;
    let done = attempt.take_records(records).await?;
    Ok(attempt.finish(done))
}

/// Opens a commit span in each of the traces that the records belong to.
pub(crate) fn commit_spans(records: &[DecodedRecord]) -> Vec<Span> {
    let spans = records.iter().map(|record| &record.entry.span).filter(|span| !span.is_disabled());
    spans.map(|span| tracing::info_span!(target: TARGET, parent: span, "commit")).collect()
}

struct Attempt<'a> {
    transaction: RunTransaction<'a>,
    /// Changed while items are taken; the caller discards it unless the transaction commits.
    run: &'a mut RunState,
    parked: ParkedItems,
    activity: Activity,
    applied: MessageCounts,
    skipped_records: u64,
}

impl<'a> Attempt<'a> {
    async fn start(
        deps: &'a Deps,
        key: &'a RunKey,
        run: &'a mut RunState,
        mode: AttemptMode,
    ) -> Result<Self, ApplyFailure> {
        Ok(Self {
            transaction: run.start_transaction(deps, key, mode.max_items()).await?,
            run,
            parked: ParkedItems::new(mode),
            activity: Activity::default(),
            applied: MessageCounts::default(),
            skipped_records: 0,
        })
    }

    /// Takes as many records as fit, and returns how many of them are done.
    async fn take_records(&mut self, records: &[DecodedRecord]) -> Result<usize, ApplyFailure> {
        for (at, record) in records.iter().enumerate() {
            let position = record.entry.position;
            // Already applied: the record was redelivered, or is left over in a log that was replaced.
            let Some(item) = self.run.cursor.next_item(position) else { continue };
            // The rows of a producer that was silent for weeks may have been swept, so the producer is
            // reloaded. The snapshot does not show this transaction's writes: commit them first.
            let is_behind = at > 0 && self.run.producers.is_stale(&record.entry);
            if is_behind || self.transaction.is_full() || !self.take_record(record, item).await? {
                return Ok(at);
            }
            self.run.cursor.advance_past(position);
        }
        Ok(records.len())
    }

    /// Takes a record from this item on; returns `false` if part of it remains.
    async fn take_record(&mut self, record: &DecodedRecord, mut item: u32) -> Result<bool, ApplyFailure> {
        let entry = &record.entry;
        self.run.producers.load(&self.transaction, entry).await?;
        let mark: Option<Mark> = match self.run.producers.next_mark(entry) {
            Ok(mark) => mark,
            Err(OutOfSequence::Gap) if item == 0 && self.run.cursor.is_replaying() => {
                // Its producer may have had an answer long ago, and then does not resend the record.
                let reason = "records of its producer are missing before it, or the store has lost how many it had applied";
                self.transaction.count_items(1);
                self.parked.park_record(&mut self.transaction, record, reason).await?;
                return Ok(true);
            }
            Err(OutOfSequence::Gap | OutOfSequence::Repeat) if item == 0 => {
                self.skipped_records += 1;
                return Ok(true);
            }
            // The record was started before its producer's rows were swept: continue the record.
            Err(_) => None,
        };
        self.activity.received_us = self.activity.received_us.max(entry.received_us);
        // Data has arrived for a run that was ended because it was silent: reopen it.
        let is_data = record.items() > 0 && !record.event(item).is_some_and(is_series_edit);
        let was_given_up = is_data && self.run.cursor.take_given_up();
        if was_given_up && self.run.is_live() {
            let live = self.run.live(&mut self.transaction, entry.received_us).await?;
            let edit = live.document.edit(&mut self.transaction, live.number).await?;
            edit.resume(entry.received_us);
        }
        self.activity.caller.clone_from(&entry.caller);
        if item == 0 {
            self.run.producers.define(&mut self.transaction, record).await?;
        }
        if !self.take_items(record, &mut item).await? {
            self.run.cursor.move_into(entry.position, item);
            return Ok(false);
        }
        if let Some(mark) = mark {
            self.run.producers.put_mark(&mut self.transaction, entry, mark);
        }
        Ok(true)
    }

    async fn take_items(&mut self, record: &DecodedRecord, item: &mut u32) -> Result<bool, ApplyFailure> {
        let batch = match &record.batch {
            Ok(batch) => batch,
            Err(reason) => {
                self.transaction.count_items(1);
                self.parked.park_record(&mut self.transaction, record, reason).await?;
                return Ok(true);
            }
        };
        let events = &batch.items.events;
        while let Some(event) = events.get(*item as usize) {
            // A delete, an edit of a series, and the creation of a branch are alone in their transactions:
            // they drop the changes that earlier items have collected, and later items must find their rows.
            if self.transaction.is_full()
                || (is_alone(event) && self.transaction.has_items())
                || (is_series_edit(event) && record.prepared_edit != Some(*item))
                || self.awaits_payload(record, *item)
            {
                return Ok(false);
            }
            self.take_event(record, event, *item).await?;
            *item += 1;
        }
        if *item >= record.items() {
            return Ok(true);
        }
        if self.run.is_deleted() {
            // Points of a deleted run are dropped. They count as one item, because nothing is written.
            self.transaction.count_items(1);
            *item = record.items();
            return Ok(true);
        }
        self.take_points(record, item).await
    }

    /// Whether the payload of an item is yet to be stored. The payload of a transaction's first item is
    /// stored, unless repeats are skipped before that item.
    fn awaits_payload(&self, record: &DecodedRecord, item: u32) -> bool {
        let is_needed = !self.run.is_deleted() && self.parked.imposed_reason().is_none();
        is_needed && record.payload(item).is_some_and(|payload| payload.stored.is_none())
    }

    async fn take_points(&mut self, record: &DecodedRecord, item: &mut u32) -> Result<bool, ApplyFailure> {
        let mut dictionary = self.run.producers.take_dictionary(&self.transaction, record).await?;
        let mut points = PointWriter {
            transaction: &mut self.transaction,
            run: self.run,
            parked: &mut self.parked,
            record,
            dictionary: &mut dictionary,
            applied: 0,
        };
        let done = points.take(item).await?;
        self.applied[MessageType::LogMetric as usize] += points.applied;
        self.run.producers.put_dictionary_back(record, dictionary);
        Ok(done)
    }

    async fn take_event(
        &mut self,
        record: &DecodedRecord,
        event: &Event,
        item: u32,
    ) -> Result<(), ApplyFailure> {
        self.transaction.count_items(1);
        self.transaction.add_estimate(prost::Message::encoded_len(event) + EVENT_EXTRA_BYTES);
        let reason = match self.parked.imposed_reason() {
            Some(reason) => Some(reason),
            // Dropped, like points.
            None if self.run.is_deleted() => return Ok(()),
            None => {
                self.activity.is_ended |= matches!(event.kind, Some(Kind::FinishRun(_)));
                let mut writer =
                    EventWriter { transaction: &mut self.transaction, run: self.run, entry: &record.entry };
                writer.apply_event(record, event, item).await?.err()
            }
        };
        if let Some(reason) = reason {
            let batch = event_batch(event);
            return self.parked.park(&mut self.transaction, record, item, &batch, &reason).await;
        }
        if is_alone(event) {
            self.transaction.close();
        }
        if let Some(kind) = &event.kind {
            self.applied[MessageType::of_event(kind) as usize] += 1;
        }
        Ok(())
    }

    fn finish(mut self, done: usize) -> BuiltTransaction {
        let bytes = self.transaction.bytes();
        let outcome = AttemptOutcome {
            blocks: self.run.finish(&mut self.transaction, &self.activity),
            parked: self.parked.into_letters(),
            applied: self.applied,
            bytes,
            skipped_records: self.skipped_records,
        };
        BuiltTransaction { done, batch: self.transaction.into_batch(), outcome }
    }
}

/// Whether an event has its own transaction.
fn is_alone(event: &Event) -> bool {
    let is_branch = matches!(&event.kind, Some(Kind::CreateRun(create)) if !create.parent_run_id.is_empty());
    matches!(event.kind, Some(Kind::DeleteRun(_))) || is_series_edit(event) || is_branch
}

fn is_series_edit(event: &Event) -> bool {
    matches!(event.kind, Some(Kind::EditSeries(_)))
}
