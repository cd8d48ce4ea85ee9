//! One transaction of one run: takes items until it is full, then writes their combined effect.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use matyan_model::{
    change::change_put,
    ids::{RunNumber, SeriesNumber},
    keys::{self, EntityKind, ItemPosition},
    object::object_header_put,
    position::Cursor,
    producer::{DICTIONARY_KEPT_US, MARK_KEPT_US, Mark, mark_get, mark_put},
    run::{RunEdit, WritingState, run_create, writing_put},
    series::{MetricHeader, WrittenPoints},
};
use matyan_proto::ingest::v1::{Event, event::Kind};
use matyan_record::{MessageCounts, MessageType};
use matyan_store::{Batch as StoreBatch, Mutation, Transaction};

use super::{
    ApplyFailure, RunKey,
    decode_queue::DecodedRecord,
    park::DeadLetter,
    run_state::{LiveState, ProducerState, RunState},
};
use crate::{deps::Deps, record::Entry};

/// Target size of a transaction, as FoundationDB recommends.
pub(super) const TRANSACTION_BYTES: usize = 1 << 20;
/// Bytes that an event writes in addition to its own: keys and index rows.
const EVENT_EXTRA_BYTES: usize = 256;

/// Mode of a step: what it does with its items.
#[derive(Clone, Debug)]
pub(super) enum StepMode {
    /// Applies at most this many items.
    Apply { items: u32 },
    /// Parks the first item for this reason, then ends. If `digest_only`, only the digest of
    /// the item is kept.
    Park { reason: String, digest_only: bool },
}

/// Blocks written by a transaction, for the compaction.
#[derive(Clone, Debug)]
pub(crate) struct WrittenBlocks {
    pub(crate) number: RunNumber,
    pub(crate) blocks: Vec<Bytes>,
    /// Number of the run's next block.
    pub(crate) next_block: u64,
    /// Whether the run has ended.
    pub(crate) is_ended: bool,
}

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
    pub(super) deps: &'a Deps,
    pub(super) run: &'a RunKey,
    pub(super) state: &'a mut RunState,
    pub(super) transaction: Transaction,
    pub(super) mode: StepMode,
    /// Number of items taken so far.
    pub(super) items: u32,
    /// Estimated bytes to be written, including those that are added to the transaction
    /// only at its end.
    pub(super) bytes: usize,
    /// Size of the transaction so far, by the store's accounting.
    batch_bytes: BatchBytes,
    pub(super) edit: Option<RunEdit>,
    /// Ids of tags and experiments that were looked up or created, by name.
    pub(super) entities: HashMap<(EntityKind, String), String>,
    /// Objects written, with their final epochs.
    pub(super) objects: HashMap<(SeriesNumber, i64), Option<i64>>,
    pub(super) dirty_objects: HashSet<(String, [u8; 16])>,
    pub(super) log_records: HashSet<[u8; 16]>,
    pub(super) written: WrittenPoints,
    /// Series created in this transaction, by name and context digest.
    pub(super) created: HashMap<(String, [u8; 16]), u32>,
    pub(super) dirty_headers: BTreeMap<u32, MetricHeader>,
    /// The run's share of the project's counters as stored.
    counted: WritingState,
    is_ended: bool,
    is_deleted: bool,
    last_received_us: i64,
    caller: String,
    pub(super) outcome: StepOutcome,
}

/// Incremental size of a growing batch: counts each mutation once.
#[derive(Debug, Default)]
struct BatchBytes {
    mutations: usize,
    bytes: usize,
}

impl BatchBytes {
    fn count(&mut self, batch: &StoreBatch) -> usize {
        self.bytes += batch.mutations[self.mutations..].iter().map(Mutation::bytes).sum::<usize>();
        self.mutations = batch.mutations.len();
        self.bytes
    }
}

impl<'a> Step<'a> {
    pub(super) async fn begin(
        deps: &'a Deps,
        run: &'a RunKey,
        state: &'a mut RunState,
        mode: StepMode,
    ) -> Result<Self, ApplyFailure> {
        let mut transaction = Transaction::new(deps.store.snapshot().await?);
        // Not synced: the log keeps the records until a sync has covered this commit.
        transaction.set_buffered();
        let batch = transaction.batch();
        batch.expect(keys::cursor(run.project, &run.id), state.cursor_value.clone());
        batch.expect(keys::head(run.project, &run.id), state.head_value.clone());
        let counted = state.live.writing;
        Ok(Self {
            counted,
            deps,
            run,
            state,
            transaction,
            mode,
            items: 0,
            bytes: 0,
            batch_bytes: BatchBytes::default(),
            edit: None,
            entities: HashMap::new(),
            objects: HashMap::new(),
            dirty_objects: HashSet::new(),
            log_records: HashSet::new(),
            written: WrittenPoints::default(),
            created: HashMap::new(),
            dirty_headers: BTreeMap::new(),
            is_ended: false,
            is_deleted: false,
            last_received_us: 0,
            caller: String::new(),
            outcome: StepOutcome::default(),
        })
    }

    /// Takes as many records as fit, and returns how many of them are done.
    pub(super) async fn take_records(&mut self, records: &[DecodedRecord]) -> Result<usize, ApplyFailure> {
        for (at, record) in records.iter().enumerate() {
            let position = record.entry.position;
            // Already applied, by an earlier delivery or in an older log.
            let Some(item) = self.state.cursor.next_item(position) else { continue };
            // A stale producer is reloaded from the snapshot, which lacks what this
            // step has written; end the step first.
            let is_behind = at > 0 && self.is_stale(&record.entry);
            if is_behind || self.is_full() || !self.take_record(record, item).await? {
                return Ok(at);
            }
            self.state.cursor = self.state.cursor.advanced_past(position);
        }
        Ok(records.len())
    }

    pub(super) fn is_full(&mut self) -> bool {
        let items = match self.mode {
            StepMode::Apply { items } => items,
            StepMode::Park { .. } => 1,
        };
        self.items >= items || self.bytes() >= TRANSACTION_BYTES || self.is_deleted
    }

    /// Current estimate of the transaction's size.
    pub(super) fn bytes(&mut self) -> usize {
        self.bytes.max(self.batch_bytes.count(self.transaction.batch()))
    }

    /// Number of items that may still be taken.
    pub(super) fn items_left(&self) -> u32 {
        match self.mode {
            StepMode::Apply { items } => items - self.items,
            StepMode::Park { .. } => 1 - self.items,
        }
    }

    /// Takes a record from this item on; returns `false` if part of it remains.
    async fn take_record(&mut self, record: &DecodedRecord, mut item: u32) -> Result<bool, ApplyFailure> {
        let entry = &record.entry;
        self.load_producer(entry).await?;
        let mark = match self.next_mark(entry) {
            Ok(mark) => mark,
            Err(()) if item == 0 => {
                self.outcome.skipped_records += 1;
                return Ok(true);
            }
            // Started before its producer's rows were swept: continue it.
            Err(()) => None,
        };
        self.last_received_us = self.last_received_us.max(entry.received_us);
        if record.items() > 0
            && std::mem::take(&mut self.state.cursor.is_given_up)
            && self.state.live_number().is_some()
        {
            self.edit(entry.received_us).await?.props.resume(entry.received_us);
        }
        self.caller.clone_from(&entry.caller);
        if item == 0 {
            self.define(record).await?;
        }
        let done = self.take_items(record, &mut item).await?;
        if !done {
            self.state.cursor = Cursor { position: entry.position, item, ..self.state.cursor };
            return Ok(false);
        }
        if let (Some(sent), Some(mark)) = (&entry.sent, mark) {
            let producer = self.state.producers.entry(sent.producer).or_default();
            // After a long silence the sweep may have removed its rows despite this
            // cache: list it for the sweep again.
            let silent_us = mark.seen_us.saturating_sub(producer.mark.seen_us);
            let is_new = !std::mem::replace(&mut producer.is_known, true) || silent_us > MARK_KEPT_US / 2;
            producer.mark = mark;
            mark_put(self.transaction.batch(), self.run.project, &self.run.id, sent, &mark, is_new);
        }
        Ok(true)
    }

    /// Returns the producer's next mark; `Err` if the record does not continue its
    /// producer's sequence.
    fn next_mark(&self, entry: &Entry) -> Result<Option<Mark>, ()> {
        let Some(sent) = &entry.sent else { return Ok(None) };
        let mark = self.state.producers.get(&sent.producer).map(|producer| producer.mark).unwrap_or_default();
        mark.advanced_by(sent, entry.received_us).map(Some).ok_or(())
    }

    /// Whether the producer was silent for so long that a sweep may have removed the
    /// dictionary that is cached here.
    fn is_stale(&self, entry: &Entry) -> bool {
        let kept = entry.sent.as_ref().and_then(|sent| self.state.producers.get(&sent.producer));
        kept.is_some_and(|kept| {
            kept.is_known && entry.received_us.saturating_sub(kept.mark.seen_us) >= DICTIONARY_KEPT_US / 2
        })
    }

    async fn load_producer(&mut self, entry: &Entry) -> Result<(), ApplyFailure> {
        let Some(sent) = &entry.sent else { return Ok(()) };
        if self.is_stale(entry) {
            self.state.producers.remove(&sent.producer);
        }
        if !self.state.producers.contains_key(&sent.producer) {
            let snapshot = self.transaction.unchecked();
            let mark = mark_get(snapshot, self.run.project, &self.run.id, sent.producer).await?;
            let producer =
                ProducerState { mark: mark.unwrap_or_default(), is_known: mark.is_some(), dictionary: None };
            self.state.producers.insert(sent.producer, producer);
        }
        Ok(())
    }

    async fn take_items(&mut self, record: &DecodedRecord, item: &mut u32) -> Result<bool, ApplyFailure> {
        let batch = match &record.batch {
            Ok(batch) => batch,
            Err(reason) => {
                self.park_record(record, reason).await?;
                return Ok(true);
            }
        };
        let events = &batch.items.events;
        while let Some(event) = events.get(*item as usize) {
            // A delete starts its own transaction.
            if self.is_full() || (is_delete(event) && self.items > 0) {
                return Ok(false);
            }
            self.take_event(record, event, *item).await?;
            *item += 1;
        }
        if *item >= record.items() {
            return Ok(true);
        }
        if self.state.is_dead() {
            // Points of a deleted run are dropped.
            self.items += 1;
            *item = record.items();
            return Ok(true);
        }
        let mut dictionary = self.take_dictionary(record).await?;
        let done = self.take_points(record, &mut dictionary, item).await;
        self.put_dictionary_back(record, dictionary);
        done
    }

    async fn take_event(
        &mut self,
        record: &DecodedRecord,
        event: &Event,
        item: u32,
    ) -> Result<(), ApplyFailure> {
        self.items += 1;
        self.bytes += prost::Message::encoded_len(event) + EVENT_EXTRA_BYTES;
        let reason = match &self.mode {
            StepMode::Park { reason, .. } => Some(reason.clone()),
            StepMode::Apply { .. } if self.state.is_dead() => None,
            StepMode::Apply { .. } => {
                self.is_ended |= matches!(event.kind, Some(Kind::FinishRun(_)));
                self.apply_event(record, event, item).await?.err()
            }
        };
        match reason {
            Some(reason) => self.park_event(record, event, item, &reason).await,
            None => {
                self.is_deleted |= is_delete(event);
                if let Some(kind) = &event.kind {
                    self.outcome.applied[MessageType::of_event(kind) as usize] += 1;
                }
                Ok(())
            }
        }
    }

    /// Returns the live run, creating it if the id is free.
    pub(super) async fn live(&mut self, received_us: i64) -> Result<RunNumber, ApplyFailure> {
        if let Some(number) = self.state.live_number() {
            return Ok(number);
        }
        let edit = run_create(&mut self.transaction, self.run.project, &self.run.id, received_us).await?;
        let number = edit.number();
        self.edit = Some(edit);
        self.state.head = Some(matyan_model::run::Head::Live(number));
        self.state.live = LiveState::default();
        self.counted = WritingState::default();
        self.unresolve();
        Ok(number)
    }

    /// Returns the live run's document for editing.
    pub(super) async fn edit(&mut self, received_us: i64) -> Result<&mut RunEdit, ApplyFailure> {
        let number = self.live(received_us).await?;
        if self.edit.is_none() {
            let edit = RunEdit::load(&self.transaction, self.run.project, number).await?;
            let missing =
                || matyan_store::Error::corrupt(format!("run {number} is live but has no document"));
            self.edit = Some(edit.ok_or_else(missing)?);
        }
        Ok(self.edit.as_mut().expect("the edit was loaded above"))
    }

    pub(super) fn item_position(record: &DecodedRecord, item: u32) -> ItemPosition {
        let position = record.entry.position;
        ItemPosition { log: position.log, partition: position.partition, offset: position.offset, item }
    }

    /// Returns the transaction with the combined effect of its items.
    pub(super) fn finish(mut self) -> (StoreBatch, StepOutcome) {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.bytes = self.bytes();
        let (project, id) = (self.run.project, &self.run.id);
        if let Some(number) = self.state.live_number().filter(|_| !self.is_deleted) {
            outcome.blocks = self.finish_run(number);
        }
        let batch = self.transaction.batch();
        let cursor = self.state.cursor.encode();
        if self.state.cursor_value.as_ref() != Some(&cursor) {
            batch.set(keys::cursor(project, id), cursor.clone());
            self.state.cursor_value = Some(cursor);
        }
        self.state.head_value = self.state.head.as_ref().map(matyan_model::run::Head::encode);
        self.state.trim_producers();
        (self.transaction.into_batch(), outcome)
    }

    fn finish_run(&mut self, number: RunNumber) -> Option<WrittenBlocks> {
        let project = self.run.project;
        let blocks = self.finish_points(number);
        let counted = self.counted.project_counters();
        let live = &mut self.state.live;
        for (name, digest) in std::mem::take(&mut self.dirty_objects) {
            if let Some((series, header)) = live.objects.get(&(name, digest)) {
                object_header_put(self.transaction.batch(), project, number, *series, header);
            }
        }
        if let Some(edit) = self.edit.take() {
            edit.write(self.transaction.batch());
        }
        let is_touched = self.items > 0;
        let batch = self.transaction.batch();
        if is_touched {
            live.writing.last_data_us = live.writing.last_data_us.max(self.last_received_us);
            writing_put(batch, project, number, &live.writing);
            change_put(batch, project, number, self.last_received_us, &self.caller);
        }
        for ((counter, before), (_, after)) in counted.into_iter().zip(live.writing.project_counters()) {
            if after != before {
                batch.add(keys::project_counter(project, counter), after - before);
            }
        }
        let (next_block, is_ended) = (live.writing.next_block, self.is_ended);
        (!blocks.is_empty() || is_ended).then_some(WrittenBlocks { number, blocks, next_block, is_ended })
    }
}

fn is_delete(event: &Event) -> bool {
    matches!(event.kind, Some(Kind::DeleteRun(_)))
}
