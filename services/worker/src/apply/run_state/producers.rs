//! The producers of a run: the mark up to which the records of each are applied, and its
//! dictionary.

use std::collections::{HashMap, hash_map::Entry as Slot};

use matyan_model::{
    ids::ProducerId,
    producer::{
        BatchOrigin, DICTIONARY_KEPT_US, Definition, MARK_KEPT_US, Mark, dictionary_get, dictionary_pages,
        dictionary_put, dictionary_truncate, mark_get, mark_put,
    },
};
use matyan_store::Batch;

use super::dictionary::{Dictionary, definitions};
use crate::{
    apply::{
        apply_failure::ApplyFailure,
        decoded_record::DecodedRecord,
        transaction::{RunTransaction, TRANSACTION_BYTES},
    },
    record::Entry,
};

/// Maximum number of producers cached per run: each connection is a new one, and old ones
/// rarely return.
const MAX_PRODUCERS: usize = 64;

/// Size of the rows of a mark with their keys.
const MARK_BYTES: usize = 400;

#[derive(Debug, Default)]
pub(crate) struct Producers(HashMap<ProducerId, ProducerState>);

#[derive(Debug, Default)]
struct ProducerState {
    mark: Mark,
    /// Whether the mark has a row in the store.
    is_known: bool,
    /// The last record of the current transaction, and whether the producer has to be listed for the sweep.
    unwritten: Option<(BatchOrigin, bool)>,
    dictionary: Option<Dictionary>,
}

/// The reason why a record does not continue its producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfSequence {
    /// The record was applied before.
    Repeat,
    /// Records before it are missing.
    Gap,
}

impl Producers {
    /// Whether the producer was silent for so long that a sweep may have removed the
    /// dictionary that is cached here.
    pub(crate) fn is_stale(&self, entry: &Entry) -> bool {
        let kept = entry.sent.as_ref().and_then(|sent| self.0.get(&sent.producer));
        let Some(kept) = kept else { return false };
        kept.is_known && entry.seen_us.saturating_sub(kept.mark.seen_us) >= DICTIONARY_KEPT_US / 2
    }

    /// Reads the mark of an entry's producer, unless it is cached.
    pub(crate) async fn load(
        &mut self,
        transaction: &RunTransaction<'_>,
        entry: &Entry,
    ) -> Result<(), ApplyFailure> {
        let Some(sent) = &entry.sent else { return Ok(()) };
        if self.is_stale(entry) {
            self.0.remove(&sent.producer);
        }
        if let Slot::Vacant(slot) = self.0.entry(sent.producer) {
            let run = transaction.run();
            let mark = mark_get(transaction.snapshot(), run.project, &run.id, sent.producer).await?;
            let is_known = mark.is_some();
            let mark = mark.unwrap_or_default();
            slot.insert(ProducerState { mark, is_known, ..ProducerState::default() });
        }
        Ok(())
    }

    /// Returns the producer's next mark; `Err` if the record does not continue its producer's
    /// sequence.
    pub(crate) fn next_mark(&self, entry: &Entry) -> Result<Option<Mark>, OutOfSequence> {
        let Some(sent) = &entry.sent else { return Ok(None) };
        let producer = self.0.get(&sent.producer);
        let mark = producer.map(|producer| producer.mark).unwrap_or_default();
        let is_new = producer.is_none_or(|producer| !producer.is_known);
        let mut next = mark.advanced_by(sent, entry.seen_us);
        if next.is_none() && entry.is_after_middle && is_new {
            next = Mark::first_in_middle(sent, entry.seen_us);
        }
        match next {
            Some(next) => Ok(Some(next)),
            None if mark.covers(sent) => Err(OutOfSequence::Repeat),
            None => Err(OutOfSequence::Gap),
        }
    }

    /// Moves the mark of an entry's producer. It is written once, at the end of the transaction.
    pub(crate) fn put_mark(&mut self, transaction: &mut RunTransaction<'_>, entry: &Entry, mark: Mark) {
        let Some(sent) = &entry.sent else { return };
        let producer = self.0.entry(sent.producer).or_default();
        // After a long silence, the sweep may have removed the producer's rows despite this cache: list the
        // producer for the sweep once more.
        let silent_us = mark.seen_us.saturating_sub(producer.mark.seen_us);
        let is_new = !std::mem::replace(&mut producer.is_known, true) || silent_us > MARK_KEPT_US / 2;
        producer.mark = mark;
        if producer.unwritten.is_none() {
            transaction.add_estimate(MARK_BYTES);
        }
        let was_new = producer.unwritten.is_some_and(|(_, is_new)| is_new);
        producer.unwritten = Some((*sent, is_new || was_new));
    }

    /// Writes the marks that have moved.
    pub(crate) fn write_marks(&mut self, transaction: &mut RunTransaction<'_>) {
        let run = transaction.run();
        for producer in self.0.values_mut() {
            if let Some((sent, is_new)) = producer.unwritten.take() {
                mark_put(transaction.batch(), run.project, &run.id, &sent, &producer.mark, is_new);
            }
        }
    }

    /// Stores the definitions in a record that are new, if its producer has a persistent
    /// dictionary. A record whose definitions leave a gap is ignored here, and its points refer to
    /// unknown series.
    pub(crate) async fn define(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        record: &DecodedRecord,
    ) -> Result<(), ApplyFailure> {
        let (Ok(batch), Some(sent)) = (&record.batch, &record.entry.sent) else { return Ok(()) };
        if batch.has_own_dictionary || batch.items.series.is_empty() {
            return Ok(());
        }
        let mut dictionary = self.take_dictionary(transaction, record).await?;
        let first = batch.items.series_base as usize;
        if first <= dictionary.len() {
            let mut definitions = definitions(&batch.items.series);
            // The first record of a stream that was reopened repeats all definitions.
            let known = dictionary.count_equal(first, &definitions);
            definitions.drain(..known);
            if !definitions.is_empty() {
                let first = first + known;
                store_definitions(transaction, sent.producer, first as u32, &definitions).await?;
                dictionary.extend_from(first, definitions);
            }
        }
        self.put_dictionary_back(record, dictionary);
        Ok(())
    }

    /// Takes out the dictionary that a record's series numbers refer to, loading it if
    /// necessary.
    pub(crate) async fn take_dictionary(
        &mut self,
        transaction: &RunTransaction<'_>,
        record: &DecodedRecord,
    ) -> Result<Dictionary, ApplyFailure> {
        let batch = record.batch.as_ref().expect("only records with a batch have points");
        let Some(sent) = record.entry.sent.filter(|_| !batch.has_own_dictionary) else {
            return Ok(Dictionary::new(definitions(&batch.items.series)));
        };
        let producer = self.0.entry(sent.producer).or_default();
        if let Some(dictionary) = producer.dictionary.take() {
            return Ok(dictionary);
        }
        let run = transaction.run();
        let stored = dictionary_get(transaction.snapshot(), run.project, &run.id, sent.producer).await?;
        Ok(Dictionary::new(stored))
    }

    pub(crate) fn put_dictionary_back(&mut self, record: &DecodedRecord, dictionary: Dictionary) {
        let is_own = record.batch.as_ref().is_ok_and(|batch| batch.has_own_dictionary);
        if let Some(sent) = record.entry.sent.filter(|_| !is_own) {
            self.0.entry(sent.producer).or_default().dictionary = Some(dictionary);
        }
    }

    /// Discards all resolved series numbers: definitions outlive a run, but their series do
    /// not.
    pub(crate) fn unresolve(&mut self) {
        for producer in self.0.values_mut() {
            if let Some(dictionary) = &mut producer.dictionary {
                dictionary.unresolve();
            }
        }
    }

    /// Evicts the producers that have been silent the longest, if there are too many.
    pub(crate) fn trim(&mut self) {
        if self.0.len() > MAX_PRODUCERS {
            let mut seen: Vec<i64> = self.0.values().map(|producer| producer.mark.seen_us).collect();
            seen.sort_unstable();
            let middle = seen[seen.len() / 2];
            self.0.retain(|_, producer| producer.mark.seen_us > middle);
        }
    }

    /// Approximate memory use.
    pub(crate) fn bytes(&self) -> usize {
        let dictionaries = self.0.values().filter_map(|producer| producer.dictionary.as_ref());
        dictionaries.map(Dictionary::bytes).sum()
    }
}

/// Stores definitions, in separate transactions before the items if there are many. Separate transactions
/// are safe, because definitions have no effect until a point refers to them, and writing them is idempotent.
async fn store_definitions(
    transaction: &mut RunTransaction<'_>,
    producer: ProducerId,
    first: u32,
    definitions: &[Definition],
) -> Result<(), ApplyFailure> {
    let run = transaction.run();
    let mut batch = Batch::buffered();
    dictionary_truncate(&mut batch, run.project, &run.id, producer, first);
    let mut rest = definitions;
    for (page, count) in dictionary_pages(first, definitions) {
        let (own, remaining) = rest.split_at(count);
        dictionary_put(&mut batch, run.project, &run.id, producer, page, own);
        rest = remaining;
        // Leave room for at least one item in the last transaction, or the record would never
        // make progress.
        if batch.bytes() >= TRANSACTION_BYTES {
            transaction.commit_ahead(std::mem::replace(&mut batch, Batch::buffered())).await?;
        }
    }
    transaction.add_estimate(batch.bytes());
    transaction.batch().append(batch);
    Ok(())
}
