//! One transaction of one run: takes items until it is full, then writes their combined effect.

use matyan_model::producer::Mark;
use matyan_proto::ingest::v1::{Event, event::Kind};
use matyan_record::{MessageCounts, MessageType};
use matyan_store::Batch;

use super::{
    ApplyFailure, RunKey,
    decode_queue::DecodedRecord,
    event::EventWriter,
    live_run::{Activity, WrittenBlocks},
    mode::StepMode,
    park::{DeadLetter, ParkedItems, event_batch},
    points::PointWriter,
    run_state::RunState,
    transaction::RunTransaction,
};
use crate::deps::Deps;

/// Bytes that an event writes in addition to its own: keys and index rows.
const EVENT_EXTRA_BYTES: usize = 256;

/// Effects of a committed step outside the store.
#[derive(Debug, Default)]
pub(super) struct StepOutcome {
    pub(super) blocks: Option<WrittenBlocks>,
    pub(super) parked: Vec<DeadLetter>,
    pub(super) applied: MessageCounts,
    /// Estimated size of the transaction.
    pub(super) bytes: usize,
    pub(super) skipped_records: u64,
}

pub(super) struct Step<'a> {
    transaction: RunTransaction<'a>,
    /// Valid only if the transaction commits.
    run: &'a mut RunState,
    parked: ParkedItems,
    activity: Activity,
    applied: MessageCounts,
    skipped_records: u64,
}

impl<'a> Step<'a> {
    pub(super) async fn begin(
        deps: &'a Deps,
        key: &'a RunKey,
        run: &'a mut RunState,
        mode: StepMode,
    ) -> Result<Self, ApplyFailure> {
        Ok(Self {
            transaction: run.begin(deps, key, mode.max_items()).await?,
            run,
            parked: ParkedItems::new(mode),
            activity: Activity::default(),
            applied: MessageCounts::default(),
            skipped_records: 0,
        })
    }

    /// Takes as many records as fit, and returns how many of them are done.
    pub(super) async fn take_records(&mut self, records: &[DecodedRecord]) -> Result<usize, ApplyFailure> {
        for (at, record) in records.iter().enumerate() {
            let position = record.entry.position;
            // Already applied, by an earlier delivery or in an older log.
            let Some(item) = self.run.cursor.next_item(position) else { continue };
            // A stale producer is reloaded from the snapshot, which lacks what this
            // step has written; end the step first.
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
            Err(()) if item == 0 => {
                self.skipped_records += 1;
                return Ok(true);
            }
            // Started before its producer's rows were swept: continue it.
            Err(()) => None,
        };
        self.activity.received_us = self.activity.received_us.max(entry.received_us);
        if record.items() > 0 && self.run.cursor.take_given_up() && self.run.is_live() {
            let live = self.run.live(&mut self.transaction, entry.received_us).await?;
            let edit = live.document.edit(&mut self.transaction, live.number).await?;
            edit.props.resume(entry.received_us);
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
                self.transaction.take_items(1);
                self.parked.park_record(&mut self.transaction, record, reason).await?;
                return Ok(true);
            }
        };
        let events = &batch.items.events;
        while let Some(event) = events.get(*item as usize) {
            // A delete starts its own transaction.
            if self.transaction.is_full() || (is_delete(event) && self.transaction.has_items()) {
                return Ok(false);
            }
            self.take_event(record, event, *item).await?;
            *item += 1;
        }
        if *item >= record.items() {
            return Ok(true);
        }
        if self.run.is_deleted() {
            // Points of a deleted run are dropped.
            self.transaction.take_items(1);
            *item = record.items();
            return Ok(true);
        }
        self.take_points(record, item).await
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
        self.transaction.take_items(1);
        self.transaction.add_estimate(prost::Message::encoded_len(event) + EVENT_EXTRA_BYTES);
        let reason = match self.parked.imposed_reason() {
            Some(reason) => Some(reason),
            None if self.run.is_deleted() => None,
            None => {
                self.activity.is_ended |= matches!(event.kind, Some(Kind::FinishRun(_)));
                let (transaction, entry) = (&mut self.transaction, &record.entry);
                let mut writer = EventWriter { transaction, run: self.run, entry };
                writer.apply_event(record, event, item).await?.err()
            }
        };
        if let Some(reason) = reason {
            let batch = event_batch(event);
            return self.parked.park(&mut self.transaction, record, item, &batch, &reason).await;
        }
        if is_delete(event) {
            self.transaction.close();
        }
        if let Some(kind) = &event.kind {
            self.applied[MessageType::of_event(kind) as usize] += 1;
        }
        Ok(())
    }

    /// Returns the transaction with the combined effect of its items.
    pub(super) fn finish(mut self) -> (Batch, StepOutcome) {
        let bytes = self.transaction.bytes();
        let outcome = StepOutcome {
            blocks: self.run.finish(&mut self.transaction, &self.activity),
            parked: self.parked.into_letters(),
            applied: self.applied,
            bytes,
            skipped_records: self.skipped_records,
        };
        (self.transaction.into_batch(), outcome)
    }
}

fn is_delete(event: &Event) -> bool {
    matches!(event.kind, Some(Kind::DeleteRun(_)))
}
