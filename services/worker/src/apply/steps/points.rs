//! Points: translates columns with dictionary numbers into columns with series numbers, as many
//! as fit in the transaction.
//!
//! This is the hot path: 3 million or more points per second and core. Everything that is done per point
//! is in `select` and in `MetricSeries::append`.

use std::ops::Range;

use matyan_proto::ingest::v1::Points;
use matyan_wire::columns;

use crate::apply::{
    apply_failure::ApplyFailure,
    decoded_record::DecodedRecord,
    failure::park::{ParkedItems, points_batch},
    run_state::{RunState, dictionary::Dictionary, series::refusal},
    transaction::{RunTransaction, TRANSACTION_BYTES},
};

/// Approximate bytes that a point writes; packing reduces them.
const POINT_BYTES: usize = 12;
/// Bytes that a new series writes in addition to its name and context: three rows, by the
/// store's accounting.
const SERIES_EXTRA_BYTES: usize = 1_536;
/// Factor for the length of a series name. It is part of two keys, which the store counts three
/// times, and of a header.
const NAME_FACTOR: usize = 7;

/// Writes the points of one record.
pub(crate) struct PointWriter<'s, 'a> {
    pub(crate) transaction: &'s mut RunTransaction<'a>,
    pub(crate) run: &'s mut RunState,
    pub(crate) parked: &'s mut ParkedItems,
    pub(crate) record: &'s DecodedRecord,
    /// The dictionary that the record's series numbers refer to.
    pub(crate) dictionary: &'s mut Dictionary,
    /// Number of points applied so far.
    pub(crate) applied: u64,
}

impl PointWriter<'_, '_> {
    /// Takes the points of a record from this item on, and moves `item` past them. Returns `false`
    /// if some remain.
    pub(crate) async fn take(&mut self, item: &mut u32) -> Result<bool, ApplyFailure> {
        let batch = self.record.batch.as_ref().expect("only records with a batch have points");
        let mut start = batch.items.events.len() as u32;
        for group in &batch.items.points {
            let end = start + group.series.len() as u32;
            while *item < end {
                if self.transaction.is_full() {
                    return Ok(false);
                }
                let first = (*item - start) as usize;
                let taken = self.take_group(group, first, *item).await? as u32;
                self.transaction.count_items(taken);
                *item += taken;
            }
            start = end;
        }
        Ok(true)
    }

    /// Takes points of a group from `first` on, as many as fit, and returns how many.
    async fn take_group(&mut self, group: &Points, first: usize, item: u32) -> Result<usize, ApplyFailure> {
        let limit = group.series.len().min(first.saturating_add(self.transaction.items_left() as usize));
        if let Some(reason) = self.parked.imposed_reason() {
            self.park(group, first..first + 1, item, &reason).await?;
            return Ok(1);
        }
        if let Some(reason) = columns::malformed(group) {
            self.park(group, first..limit, item, &reason).await?;
            return Ok(limit - first);
        }
        let received_us = self.record.entry.received_us;
        let live = self.run.live(self.transaction, received_us).await?;
        let (end, unresolved) = select(self.transaction, self.dictionary, group, first..limit);
        let number = live.number;
        let writing = &mut live.writing;
        if self.record.batch.as_ref().is_ok_and(|batch| batch.has_own_dictionary) {
            live.series.keep_named();
        }
        live.series.resolve(self.transaction, number, writing, self.dictionary, unresolved).await?;
        live.series.complete_steps(self.transaction, number, self.dictionary, group, first..end).await?;
        let mut at = first;
        while at < end {
            let added = live.series.append(self.dictionary, group, at..end, received_us);
            self.applied += added as u64;
            at += added;
            if at < end {
                let bad = at..at + refused_count(self.dictionary, group, at..end);
                let reason = refusal(self.dictionary, group.series[at]);
                let batch = points_batch(self.dictionary, group, bad.clone());
                let item = item + (at - first) as u32;
                self.parked.park(self.transaction, self.record, item, &batch, &reason).await?;
                at = bad.end;
            }
        }
        Ok(end - first)
    }

    /// Parks adjacent points that failed for the same reason, in one row.
    async fn park(
        &mut self,
        group: &Points,
        range: Range<usize>,
        item: u32,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let batch = points_batch(self.dictionary, group, range);
        self.parked.park(self.transaction, self.record, item, &batch, reason).await
    }
}

/// Returns the end of the range that fits the transaction, and the definitions in it that are
/// not looked up yet. Marks them as looked up, and adds the range to the estimate.
fn select(
    transaction: &mut RunTransaction<'_>,
    dictionary: &mut Dictionary,
    group: &Points,
    range: Range<usize>,
) -> (usize, Vec<u32>) {
    let estimate = transaction.estimate();
    let written = transaction.batch_bytes();
    let mut end = range.end;
    let mut added = 0;
    let mut unresolved = Vec::new();
    for at in range.clone() {
        if (estimate + added).max(written) >= TRANSACTION_BYTES && at > range.start {
            end = at;
            break;
        }
        added += POINT_BYTES;
        let reference = group.series[at];
        if let Some(definition) = dictionary.start_lookup(reference) {
            added += NAME_FACTOR * definition.name.len() + definition.context.len() + SERIES_EXTRA_BYTES;
            unresolved.push(reference);
        }
    }
    transaction.add_estimate(added);
    (end, unresolved)
}

/// Number of points from the start of the range that share a reference, and thus the reason for
/// refusal; at least one.
fn refused_count(dictionary: &Dictionary, group: &Points, range: Range<usize>) -> usize {
    let reference = group.series[range.start];
    // The series itself is fine, so only this point is refused, for its step.
    if dictionary.number(reference).is_some() {
        return 1;
    }
    group.series[range].iter().take_while(|other| **other == reference).count()
}
