//! Points: translates columns with a producer's numbers into columns with series numbers, which
//! form the blocks of the transaction.
//!
//! This is the hot path: 3 million or more points per second. A point costs one lookup in the
//! dictionary, one lookup of its series, and copies of its columns; names, contexts, and maps
//! are touched only once for each series that is new to the writer.

use std::ops::Range;

use bytes::Bytes;
use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    keys,
    metric::{metric_header_put, metric_headers_get, metric_series_create, metric_series_find_many},
    producer::Definition,
    series::{ABSENT, MetricHeader, RunRef, RunSeries},
};
use matyan_proto::{ingest::v1::Points, limits};
use matyan_value::Context;

use super::{
    ApplyFailure,
    decode_queue::DecodedRecord,
    dictionary::{Dictionary, REFUSED, UNRESOLVED},
    run_state::{DEFAULT_DTYPE, Dtypes, SeriesState},
    step::{Step, StepMode, TRANSACTION_BYTES},
};

/// Approximate bytes that a point writes; packing reduces them.
const POINT_BYTES: usize = 12;
/// Bytes that a new series writes in addition to its name and context: three rows, by the
/// store's accounting.
const SERIES_EXTRA_BYTES: usize = 1_536;
/// Factor for the length of a series name, which is part of two keys and a header.
const SERIES_NAMES: usize = 7;

impl Step<'_> {
    /// Takes the points of a record from this item on; returns `false` if some remain.
    pub(super) async fn take_points(
        &mut self,
        record: &DecodedRecord,
        dictionary: &mut Dictionary,
        item: &mut u32,
    ) -> Result<bool, ApplyFailure> {
        let batch = record.batch.as_ref().expect("only records with a batch have points");
        let mut start = batch.items.events.len() as u32;
        for group in &batch.items.points {
            let end = start + group.series.len() as u32;
            while *item < end {
                if self.is_full() {
                    return Ok(false);
                }
                let first = (*item - start) as usize;
                let taken = self.take_group(record, dictionary, group, first, *item).await?;
                self.items += taken as u32;
                *item += taken as u32;
            }
            start = end;
        }
        Ok(true)
    }

    /// Takes points of a group from `first` on, as many as fit, and returns how many.
    async fn take_group(
        &mut self,
        record: &DecodedRecord,
        dictionary: &mut Dictionary,
        group: &Points,
        first: usize,
        item: u32,
    ) -> Result<usize, ApplyFailure> {
        let most = group.series.len().min(first.saturating_add(self.items_left() as usize));
        if let StepMode::Park { reason, .. } = &self.mode {
            let reason = reason.clone();
            self.park_points(record, dictionary, group, first..first + 1, item, &reason).await?;
            return Ok(1);
        }
        if let Some(reason) = malformed(group) {
            self.park_points(record, dictionary, group, first..most, item, &reason).await?;
            return Ok(most - first);
        }
        let number = self.live(record.entry.received_us).await?;
        let (end, unresolved) = self.select(dictionary, group, first..most);
        self.resolve(number, dictionary, unresolved).await?;
        self.complete_steps(number, dictionary, group, first..end).await?;
        let mut at = first;
        while at < end {
            let good = self.append(dictionary, group, at..end, record.entry.received_us);
            at += good;
            if at < end {
                let bad = refused_run_length(dictionary, group, at..end);
                let reason = self.refusal(dictionary, group.series[at]);
                self.park_points(
                    record,
                    dictionary,
                    group,
                    at..at + bad,
                    item + (at - first) as u32,
                    &reason,
                )
                .await?;
                at += bad;
            }
        }
        self.outcome.applied[0] += (end - first) as u64;
        Ok(end - first)
    }

    /// Returns the end of the range that fits the transaction, and the definitions in it
    /// that are not looked up yet.
    fn select(
        &mut self,
        dictionary: &mut Dictionary,
        group: &Points,
        range: Range<usize>,
    ) -> (usize, Vec<u32>) {
        let written = self.bytes();
        let mut unresolved = Vec::new();
        for at in range.clone() {
            if self.bytes.max(written) >= TRANSACTION_BYTES && at > range.start {
                return (at, unresolved);
            }
            self.bytes += POINT_BYTES;
            let reference = group.series[at];
            if dictionary.numbers.get(reference as usize) == Some(&UNRESOLVED) {
                // Marked as refused until it is resolved, so that it is listed
                // only once.
                dictionary.numbers[reference as usize] = REFUSED;
                let definition = &dictionary.definitions[reference as usize];
                self.bytes +=
                    SERIES_NAMES * definition.name.len() + definition.context.len() + SERIES_EXTRA_BYTES;
                unresolved.push(reference);
            }
        }
        (range.end, unresolved)
    }

    /// Finds or creates the series of definitions.
    async fn resolve(
        &mut self,
        number: RunNumber,
        dictionary: &mut Dictionary,
        unresolved: Vec<u32>,
    ) -> Result<(), ApplyFailure> {
        if unresolved.is_empty() {
            return Ok(());
        }
        let mut wanted = Vec::with_capacity(unresolved.len());
        for reference in unresolved {
            let definition = &dictionary.definitions[reference as usize];
            if let Ok(context) = Context::parse(&definition.context)
                && over_limit(definition).is_none()
            {
                wanted.push((reference, context));
            }
        }
        let name = |(reference, context): &(u32, Context)| {
            (dictionary.definitions[*reference as usize].name.clone(), context.digest())
        };
        let names: Vec<_> = wanted.iter().map(name).collect();
        let found =
            metric_series_find_many(self.transaction.unchecked(), self.run.project, number, &names).await?;
        self.load_dtypes(number, &found).await?;
        for (((reference, context), name), found) in wanted.into_iter().zip(names).zip(found) {
            let definition = &dictionary.definitions[reference as usize];
            let known = found.map(|series| series.0).or_else(|| self.created.get(&name).copied());
            if let Some(series) = known.or_else(|| self.create_series(number, definition, &context, name)) {
                dictionary.dtypes[reference as usize] = self.state.live.dtypes.number(&definition.dtype);
                dictionary.numbers[reference as usize] = series;
            }
        }
        Ok(())
    }

    /// Loads the types of stored series that are new to this writer from their headers.
    async fn load_dtypes(
        &mut self,
        number: RunNumber,
        found: &[Option<SeriesNumber>],
    ) -> Result<(), ApplyFailure> {
        let mut unknown: Vec<SeriesNumber> = found.iter().flatten().copied().collect();
        unknown.retain(|series| self.series(series.0).dtype == Dtypes::UNKNOWN);
        let headers =
            metric_headers_get(self.transaction.unchecked(), self.run.project, number, &unknown).await?;
        for (series, header) in unknown.iter().zip(headers) {
            let dtype = self.state.live.dtypes.number(&header.map(|header| header.dtype).unwrap_or_default());
            self.series(series.0).dtype = dtype;
        }
        Ok(())
    }

    /// Creates a series; `None` if the run has too many.
    fn create_series(
        &mut self,
        number: RunNumber,
        definition: &Definition,
        context: &Context,
        name: (String, [u8; 16]),
    ) -> Option<u32> {
        let live = &mut self.state.live;
        if live.writing.series as usize >= limits::SERIES_PER_RUN {
            return None;
        }
        let series = live.writing.series;
        live.writing.series += 1;
        let dtype = live.dtypes.number(&definition.dtype);
        *self.series(series) = SeriesState { dtype, is_complete: true, highest: None };
        let header = header(definition, context);
        let batch = self.transaction.batch();
        metric_series_create(batch, self.run.project, number, SeriesNumber(series), &header, &name.1);
        self.created.insert(name, series);
        Some(series)
    }

    fn series(&mut self, number: u32) -> &mut SeriesState {
        let series = &mut self.state.live.series;
        if series.len() <= number as usize {
            series.resize(number as usize + 1, SeriesState::default());
        }
        &mut series[number as usize]
    }

    /// Loads the highest stored steps of the series that have a point without a step here.
    async fn complete_steps(
        &mut self,
        number: RunNumber,
        dictionary: &Dictionary,
        group: &Points,
        range: Range<usize>,
    ) -> Result<(), ApplyFailure> {
        if !has_open_steps(group, range.clone()) {
            return Ok(());
        }
        let mut incomplete = Vec::new();
        for reference in &group.series[range] {
            let series = dictionary.numbers.get(*reference as usize).copied().unwrap_or(REFUSED);
            if series != REFUSED && !self.series(series).is_complete {
                self.series(series).is_complete = true;
                incomplete.push(SeriesNumber(series));
            }
        }
        if incomplete.is_empty() {
            return Ok(());
        }
        let run = RunRef { project: self.run.project, number };
        let snapshot = self.transaction.unchecked();
        let stored = RunSeries::open(snapshot, run).await?;
        let highest = stored.highest_steps(snapshot, &incomplete).await?;
        for (series, highest) in incomplete.iter().zip(highest) {
            let known = &mut self.series(series.0).highest;
            *known = (*known).max(highest);
        }
        Ok(())
    }

    /// Adds points up to the first one without a series or an available step, and returns
    /// how many were added.
    fn append(
        &mut self,
        dictionary: &Dictionary,
        group: &Points,
        range: Range<usize>,
        received_us: i64,
    ) -> usize {
        let written = &mut self.written;
        let start = written.series.len();
        let live = &mut self.state.live;
        for at in range.clone() {
            let reference = group.series[at] as usize;
            let Some(&number) = dictionary.numbers.get(reference).filter(|number| **number < REFUSED) else {
                break;
            };
            let series = &mut live.series[number as usize];
            let Some(step) = column(&group.steps, at, ABSENT).or_else(|| next_step(series.highest)) else {
                break;
            };
            if series.dtype != dictionary.dtypes[reference] {
                series.dtype = dictionary.dtypes[reference];
                let definition = &dictionary.definitions[reference];
                let context = Context::parse(&definition.context).unwrap_or_default();
                self.dirty_headers.insert(number, header(definition, &context));
            }
            series.highest = series.highest.max(Some(step));
            written.series.push(SeriesNumber(number));
            written.points.steps.push(step);
        }
        let added = written.series.len() - start;
        let taken = range.start..range.start + added;
        written.points.values.extend_from_slice(&group.values[taken.clone()]);
        extend(&mut written.points.epochs, &group.epochs, taken.clone(), ABSENT);
        extend(&mut written.points.times_us, &group.times_us, taken, received_us);
        added
    }

    /// Reason why points of this definition cannot be stored.
    fn refusal(&self, dictionary: &Dictionary, reference: u32) -> String {
        let Some(definition) = dictionary.definitions.get(reference as usize) else {
            return format!("series {reference} is not in the producer's dictionary");
        };
        if dictionary.numbers[reference as usize] < REFUSED {
            return "no step is left after the last one".into();
        }
        if let Some(reason) = over_limit(definition) {
            return reason;
        }
        match Context::parse(&definition.context) {
            Err(error) => error.to_string(),
            Ok(_) => format!("the run has reached the limit of {} series", limits::SERIES_PER_RUN),
        }
    }

    /// Writes the blocks and headers of the points taken so far.
    pub(super) fn finish_points(&mut self, number: RunNumber) -> Vec<Bytes> {
        let project = self.run.project;
        for (series, header) in std::mem::take(&mut self.dirty_headers) {
            metric_header_put(self.transaction.batch(), project, number, SeriesNumber(series), &header);
        }
        let written = std::mem::take(&mut self.written);
        if written.is_empty() {
            return Vec::new();
        }
        let writing = &mut self.state.live.writing;
        writing.points += written.len() as u64;
        let batch = self.transaction.batch();
        let blocks: Vec<Bytes> = written.blocks().into_iter().map(Bytes::from).collect();
        for block in &blocks {
            batch.set(keys::block(project, number, writing.next_block), block.clone());
            writing.next_block += 1;
            writing.bytes += block.len() as u64;
        }
        batch.set(keys::unfolded(project, number), Vec::new());
        blocks
    }
}

/// Returns an error message if a definition exceeds a limit.
fn over_limit(definition: &Definition) -> Option<String> {
    let texts = [
        ("name", &definition.name, limits::NAME_BYTES),
        ("context", &definition.context, limits::CONTEXT_BYTES),
        ("dtype", &definition.dtype, limits::DTYPE_BYTES),
    ];
    let over = texts.into_iter().find(|(_, text, limit)| text.len() > *limit);
    over.map(|(name, _, limit)| format!("`{name}` has more than {limit} bytes"))
}

fn header(definition: &Definition, context: &Context) -> MetricHeader {
    let dtype = if definition.dtype.is_empty() { DEFAULT_DTYPE } else { &definition.dtype };
    MetricHeader {
        name: definition.name.clone(),
        context: context.stored().to_owned(),
        dtype: dtype.to_owned(),
    }
}

fn next_step(highest: Option<i64>) -> Option<i64> {
    highest.map_or(Some(0), |highest| highest.checked_add(1))
}

/// The value of a column at a point. A column has a value for each point, one for all, or none;
/// `absent` also means none.
fn column(values: &[i64], at: usize, absent: i64) -> Option<i64> {
    let value = match values {
        [] => return None,
        [one] => *one,
        values => values[at],
    };
    (value != absent).then_some(value)
}

fn extend(column: &mut Vec<i64>, values: &[i64], range: Range<usize>, absent: i64) {
    match values {
        [] => column.extend(std::iter::repeat_n(absent, range.len())),
        [one] => column.extend(std::iter::repeat_n(*one, range.len())),
        values => column.extend_from_slice(&values[range]),
    }
}

fn has_open_steps(group: &Points, range: Range<usize>) -> bool {
    match &group.steps[..] {
        [] => true,
        [one] => *one == ABSENT,
        steps => steps[range].contains(&ABSENT),
    }
}

fn malformed(group: &Points) -> Option<String> {
    let count = group.series.len();
    if group.values.len() != count {
        return Some(format!("{} values for {count} series numbers", group.values.len()));
    }
    let columns = [("steps", &group.steps), ("epochs", &group.epochs), ("times_us", &group.times_us)];
    let wrong = columns.into_iter().find(|(_, column)| column.len() > 1 && column.len() != count);
    wrong.map(|(name, column)| format!("column `{name}` has {} values for {count} points", column.len()))
}

/// Number of points from the start of the range that share a reference, and thus the reason for
/// refusal; at least one.
fn refused_run_length(dictionary: &Dictionary, group: &Points, range: Range<usize>) -> usize {
    let reference = group.series[range.start];
    // The series itself is fine, so only this point is refused, for its step.
    if dictionary.numbers.get(reference as usize).is_some_and(|number| *number < REFUSED) {
        return 1;
    }
    group.series[range].iter().take_while(|own| **own == reference).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_full_single_or_empty() {
        assert_eq!(column(&[], 3, ABSENT), None);
        assert_eq!(column(&[5], 3, ABSENT), Some(5));
        assert_eq!(column(&[1, ABSENT], 1, ABSENT), None);
        let mut extended = Vec::new();
        extend(&mut extended, &[], 0..2, 9);
        extend(&mut extended, &[1], 0..2, 9);
        extend(&mut extended, &[1, 2, 3], 1..3, 9);
        assert_eq!(extended, [9, 9, 1, 1, 2, 3]);
    }

    #[test]
    fn columns_of_different_lengths_are_reported() {
        let good = Points { series: vec![0, 0], values: vec![1.0, 2.0], steps: vec![7], ..Points::default() };
        assert_eq!(malformed(&good), None);
        let steps = Points { steps: vec![1, 2, 3], ..good.clone() };
        assert_eq!(malformed(&steps).unwrap(), "column `steps` has 3 values for 2 points");
        let values = Points { values: vec![1.0], ..good };
        assert_eq!(malformed(&values).unwrap(), "1 values for 2 series numbers");
    }
}
