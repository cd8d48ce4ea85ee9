//! Points: translates columns with dictionary numbers into columns with series numbers, as many
//! as fit in the transaction.
//!
//! This is the hot path: 3 million or more points per second and core. Everything that is done per point
//! is in `select` and in `MetricSeries::append`. Rows of known series pass both as a whole.

use std::{borrow::Cow, ops::Range};

use matyan_proto::ingest::v1::{Points, Rows};
use matyan_wire::{columns, rows};

use crate::apply::{
    apply_failure::ApplyFailure,
    decoded_record::DecodedRecord,
    failure::park::{ParkedItems, points_batch},
    run_state::{RunState, dictionary::Dictionary, series::refusal},
    transaction::{RunTransaction, TRANSACTION_BYTES},
};

/// Approximate bytes that a point writes; packing reduces them.
const POINT_BYTES: usize = 12;
/// The same for a value of a row whose step, epoch and time all of them share: as 64 or as 32 bits.
const WIDE_VALUE_BYTES: usize = 10;
const NARROW_VALUE_BYTES: usize = 6;
/// The same for the step, epoch and time of a row, at most.
const STAMPS_BYTES: usize = 24;
/// Bytes that a new series writes in addition to its name and context: three rows, by the
/// store's accounting.
const SERIES_EXTRA_BYTES: usize = 1_536;
/// Most points of a row, or of a group, that is not divided between transactions.
const WHOLE_ROW: usize = 16 * 1024;
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
            let end = start + rows::count(group) as u32;
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
        let limit = rows::count(group).min(first.saturating_add(self.transaction.items_left() as usize));
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
        let (end, unresolved) = match &group.rows {
            None => select(self.transaction, self.dictionary, first..limit, |at| group.series[at]),
            Some(rows) => select_rows(self.transaction, self.dictionary, (group, rows), first..limit),
        };
        let number = live.number;
        let writing = &mut live.writing;
        if self.record.batch.as_ref().is_ok_and(|batch| batch.has_own_dictionary) {
            live.series.keep_named();
        }
        live.series.resolve(self.transaction, number, writing, self.dictionary, unresolved).await?;
        if let Some(rows) = &group.rows
            && live.series.append_rows(self.dictionary, group, rows, first..end, received_us)
        {
            self.applied += (end - first) as u64;
            return Ok(end - first);
        }
        let (group, taken) = match &group.rows {
            None => (Cow::Borrowed(group), first..end),
            Some(rows) => (Cow::Owned(rows::slice(group, rows, first..end)), 0..end - first),
        };
        live.series.complete_steps(self.transaction, number, self.dictionary, &group, taken.clone()).await?;
        // A parked point takes a hundred times as many bytes as the point alone, for which the range was selected.
        let most_bytes = self.transaction.bytes() + TRANSACTION_BYTES;
        let mut at = taken.start;
        while at < taken.end && self.transaction.bytes() < most_bytes {
            let added = live.series.append(self.dictionary, &group, at..taken.end, received_us);
            self.applied += added as u64;
            at += added;
            if at < taken.end {
                let bad = at..at + refused_count(self.dictionary, &group, at..taken.end);
                let reason = refusal(self.dictionary, group.series[at]);
                let batch = points_batch(self.dictionary, &group, bad.clone());
                let item = item + (at - taken.start) as u32;
                self.parked.park(self.transaction, self.record, item, &batch, &reason).await?;
                at = bad.end;
            }
        }
        Ok(at - taken.start)
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
/// not looked up yet. Marks them as looked up, and adds the range to the estimate. `series_at` returns the
/// definition of a point.
fn select(
    transaction: &mut RunTransaction<'_>,
    dictionary: &mut Dictionary,
    range: Range<usize>,
    series_at: impl Fn(usize) -> u32,
) -> (usize, Vec<u32>) {
    let estimate = transaction.estimate();
    let written = transaction.batch_bytes();
    let mut end = range.end;
    let mut added = 0;
    let mut unresolved = Vec::new();
    for at in range.clone() {
        let is_full = (estimate + added).max(written) >= TRANSACTION_BYTES && at > range.start;
        // A short group of known series is not divided, because it may be a row.
        if is_full && (range.len() > WHOLE_ROW || !unresolved.is_empty()) {
            end = at;
            break;
        }
        added += POINT_BYTES;
        let reference = series_at(at);
        if let Some(definition) = dictionary.start_lookup(reference) {
            added += NAME_FACTOR * definition.name.len() + definition.context.len() + SERIES_EXTRA_BYTES;
            unresolved.push(reference);
        }
    }
    transaction.add_estimate(added);
    (end, unresolved)
}

/// Selects points of rows in the same way. If all of their series were looked up, whole rows are taken.
fn select_rows(
    transaction: &mut RunTransaction<'_>,
    dictionary: &mut Dictionary,
    (group, rows): (&Points, &Rows),
    range: Range<usize>,
) -> (usize, Vec<u32>) {
    if !dictionary.is_looked_up(rows.first_series, rows.series_count) {
        return select(transaction, dictionary, range, |at| rows::series(rows, at));
    }
    let written = transaction.batch_bytes().max(transaction.estimate());
    let width = rows.series_count as usize;
    let row_count = rows::value_count(rows) / width;
    let shares_stamps = [&group.steps, &group.epochs, &group.times_us].iter().all(|it| it.len() <= row_count);
    let point_bytes = match (shares_stamps, rows.narrow_values.is_empty()) {
        (false, _) => POINT_BYTES,
        (true, true) => WIDE_VALUE_BYTES + STAMPS_BYTES / width,
        (true, false) => NARROW_VALUE_BYTES + STAMPS_BYTES / width,
    };
    let fitting = TRANSACTION_BYTES.saturating_sub(written).div_ceil(point_bytes).max(1);
    let end = rows_end(range.start, width, fitting).min(range.end);
    transaction.add_estimate((end - range.start) * point_bytes);
    (end, Vec::new())
}

/// Returns where the points that a transaction takes from `start` on end, if it has room for `fitting` points. Only whole
/// rows are stored without looking at each point, so the rest of a row that was begun is taken alone. The last row may
/// exceed the size of a transaction a little, unless it is wide.
fn rows_end(start: usize, width: usize, fitting: usize) -> usize {
    let end = start + fitting;
    if !start.is_multiple_of(width) {
        return end.min(start.next_multiple_of(width));
    }
    if width <= WHOLE_ROW {
        return end.next_multiple_of(width);
    }
    // A row that is larger than a transaction is divided.
    if fitting < width { end } else { end - end % width }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_whole_unless_they_exceed_a_transaction() {
        let wide = WHOLE_ROW + 1;
        assert_eq!(rows_end(200, 100, 150), 400);
        assert_eq!(rows_end(0, wide, 3 * wide - 1), 2 * wide);
        assert_eq!(rows_end(wide, wide, wide - 1), 2 * wide - 1, "not even one has room");
        for width in [100, wide] {
            assert_eq!(rows_end(width + 30, width, 10 * width), 2 * width, "a row was begun");
        }
        assert_eq!(rows_end(30, wide, 50), 80, "the rest of a row is divided again");
    }
}
