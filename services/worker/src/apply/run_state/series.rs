//! The metric series of a run: finds or creates them, and collects their points into the blocks
//! of the current transaction.
//!
//! A point costs one lookup in the dictionary, one lookup of its series, and copies of its
//! columns; names, contexts, and maps are touched only once for each series that is new to the
//! writer. A point in a row of known series costs a copy of its value.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use bytes::Bytes;
use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    keys,
    metric::{metric_header_put, metric_headers_get, metric_series_create, metric_series_find_many},
    producer::Definition,
    run::WritingState,
    series::{ABSENT, MetricHeader, RunRef, RunSeries, WrittenPoints, WrittenRows},
};
use matyan_proto::{
    ingest::v1::{Points, Rows},
    limits,
};
use matyan_value::Context;
use matyan_wire::{columns, rows};

use super::dictionary::Dictionary;
use crate::apply::{apply_failure::ApplyFailure, transaction::RunTransaction};

#[derive(Debug, Default)]
pub(crate) struct MetricSeries {
    /// By series number; series that are new to this writer are unknown.
    states: Vec<SeriesState>,
    dtypes: Dtypes,
    /// Points taken in this transaction.
    written: WrittenPoints,
    /// Points taken after them, in rows of the same series.
    written_rows: WrittenRows,
    named: NamedSeries,
    dirty_headers: BTreeMap<u32, MetricHeader>,
}

/// Series by name and context digest: the series that this transaction creates, and the series of records
/// that define their own. Matyan 0.3 writes such a record for each point, and each one resolves its series.
#[derive(Debug, Default)]
struct NamedSeries {
    numbers: HashMap<(String, [u8; 16]), u32>,
    is_kept: bool,
}

impl NamedSeries {
    /// Maximum number of series that are kept for the next transaction.
    const MAX: usize = 10_000;
    /// Approximate size of a kept series.
    const BYTES: usize = 128;

    fn end_transaction(&mut self) {
        if !self.is_kept || self.numbers.len() > Self::MAX {
            self.numbers = HashMap::new();
        }
    }
}

/// Cached properties of a series.
#[derive(Clone, Copy, Debug)]
struct SeriesState {
    /// Type in the header, including pending changes.
    dtype: u16,
    /// Whether `highest` includes steps stored before this writer first used the series.
    is_complete: bool,
    highest: Option<i64>,
}

impl Default for SeriesState {
    fn default() -> Self {
        Self { dtype: Dtypes::UNKNOWN, is_complete: false, highest: None }
    }
}

/// Interned type names, so that points compare numbers.
#[derive(Debug, Default)]
struct Dtypes(Vec<String>);

impl Dtypes {
    const UNKNOWN: u16 = u16::MAX;

    /// Maximum number of interned names. If a run has more, its headers are rewritten more
    /// often than they change, which is harmless.
    const MAX: usize = 1_000;

    fn number(&mut self, dtype: &str) -> u16 {
        let dtype = if dtype.is_empty() { DEFAULT_DTYPE } else { dtype };
        if let Some(known) = self.0.iter().position(|known| known == dtype) {
            return known as u16;
        }
        if self.0.len() >= Self::MAX {
            return Self::UNKNOWN;
        }
        self.0.push(dtype.to_owned());
        (self.0.len() - 1) as u16
    }
}

const DEFAULT_DTYPE: &str = "float";

impl MetricSeries {
    /// Remembers the series of all records from now on, because records define their own series.
    pub(crate) fn keep_named(&mut self) {
        self.named.is_kept = true;
    }

    /// Finds or creates the series of definitions.
    pub(crate) async fn resolve(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        dictionary: &mut Dictionary,
        unresolved: Vec<u32>,
    ) -> Result<(), ApplyFailure> {
        if unresolved.is_empty() {
            return Ok(());
        }
        let mut wanted = Vec::with_capacity(unresolved.len());
        let mut names = Vec::with_capacity(unresolved.len());
        for reference in unresolved {
            if let Some(definition) = dictionary.definition(reference)
                && let Ok(context) = Context::parse(&definition.context)
                && over_limit(definition).is_none()
            {
                names.push((definition.name.clone(), context.digest()));
                wanted.push((reference, context));
            }
        }
        self.find(transaction, number, &names).await?;
        for ((reference, context), name) in wanted.into_iter().zip(names) {
            let Some(definition) = dictionary.definition(reference) else { continue };
            let series = match self.named.numbers.get(&name) {
                Some(known) => Some(*known),
                None => self.create(transaction, number, writing, header(definition, &context), name),
            };
            if let Some(series) = series {
                let dtype = self.dtypes.number(&definition.dtype);
                dictionary.resolve(reference, series, dtype);
            }
        }
        Ok(())
    }

    /// Looks up the names that are not known yet among the stored series.
    async fn find(
        &mut self,
        transaction: &RunTransaction<'_>,
        number: RunNumber,
        names: &[(String, [u8; 16])],
    ) -> Result<(), ApplyFailure> {
        let unknown = names.iter().filter(|name| !self.named.numbers.contains_key(*name));
        let unknown: Vec<_> = unknown.cloned().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let found =
            metric_series_find_many(transaction.snapshot(), transaction.project(), number, &unknown).await?;
        self.load_dtypes(transaction, number, &found).await?;
        let found = unknown.into_iter().zip(found);
        self.named.numbers.extend(found.filter_map(|(name, series)| Some((name, series?.0))));
        Ok(())
    }

    /// Loads the types of stored series that are new to this writer from their headers.
    async fn load_dtypes(
        &mut self,
        transaction: &RunTransaction<'_>,
        number: RunNumber,
        found: &[Option<SeriesNumber>],
    ) -> Result<(), ApplyFailure> {
        let mut unknown: Vec<SeriesNumber> = found.iter().flatten().copied().collect();
        unknown.retain(|series| self.state(series.0).dtype == Dtypes::UNKNOWN);
        let headers =
            metric_headers_get(transaction.snapshot(), transaction.project(), number, &unknown).await?;
        for (series, header) in unknown.iter().zip(headers) {
            let dtype = self.dtypes.number(&header.map(|header| header.dtype).unwrap_or_default());
            self.state(series.0).dtype = dtype;
        }
        Ok(())
    }

    /// Creates a series; `None` if the run has too many.
    fn create(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
        header: MetricHeader,
        name: (String, [u8; 16]),
    ) -> Option<u32> {
        if writing.series as usize >= limits::SERIES_PER_RUN {
            return None;
        }
        let series = writing.series;
        writing.series += 1;
        let dtype = self.dtypes.number(&header.dtype);
        *self.state(series) = SeriesState { dtype, is_complete: true, highest: None };
        let project = transaction.project();
        metric_series_create(transaction.batch(), project, number, SeriesNumber(series), &header, &name.1);
        self.named.numbers.insert(name, series);
        Some(series)
    }

    fn state(&mut self, number: u32) -> &mut SeriesState {
        if self.states.len() <= number as usize {
            self.states.resize(number as usize + 1, SeriesState::default());
        }
        &mut self.states[number as usize]
    }

    /// Loads the highest stored steps of the series that have a point without a step here.
    pub(crate) async fn complete_steps(
        &mut self,
        transaction: &RunTransaction<'_>,
        number: RunNumber,
        dictionary: &Dictionary,
        group: &Points,
        range: Range<usize>,
    ) -> Result<(), ApplyFailure> {
        if !columns::has_open_steps(group, range.clone()) {
            return Ok(());
        }
        let mut incomplete = Vec::new();
        for series in group.series[range].iter().filter_map(|reference| dictionary.number(*reference)) {
            if !std::mem::replace(&mut self.state(series).is_complete, true) {
                incomplete.push(SeriesNumber(series));
            }
        }
        if incomplete.is_empty() {
            return Ok(());
        }
        let run = RunRef { project: transaction.project(), number };
        let stored = RunSeries::open(transaction.snapshot(), run).await?;
        let highest = stored.highest_steps(transaction.snapshot(), &incomplete).await?;
        for (series, highest) in incomplete.iter().zip(highest) {
            let known = &mut self.state(series.0).highest;
            *known = (*known).max(highest);
        }
        Ok(())
    }

    /// Adds points up to the first one without a series or an available step, and returns
    /// how many were added.
    pub(crate) fn append(
        &mut self,
        dictionary: &Dictionary,
        group: &Points,
        range: Range<usize>,
        received_us: i64,
    ) -> usize {
        // The order of writing decides which point of a step wins.
        std::mem::take(&mut self.written_rows).move_to(&mut self.written);
        let written = &mut self.written;
        let start = written.series.len();
        for at in range.clone() {
            let reference = group.series[at];
            let Some(number) = dictionary.number(reference) else { break };
            let state = &mut self.states[number as usize];
            let Some(step) = columns::entry(&group.steps, at).or_else(|| next_step(state.highest)) else {
                break;
            };
            if state.dtype != dictionary.dtype(reference) {
                state.dtype = dictionary.dtype(reference);
                let header = defined_header(dictionary, reference).map(|header| (number, header));
                self.dirty_headers.extend(header);
            }
            state.highest = state.highest.max(Some(step));
            written.series.push(SeriesNumber(number));
            written.points.steps.push(step);
        }
        let added = written.series.len() - start;
        let taken = range.start..range.start + added;
        written.points.values.extend_from_slice(&group.values[taken.clone()]);
        columns::extend(&mut written.points.epochs, &group.epochs, taken.clone(), ABSENT);
        columns::extend(&mut written.points.times_us, &group.times_us, taken, received_us);
        added
    }

    /// Adds whole rows, if all of their series are known, none of these is there twice, and all steps are given. Otherwise
    /// it adds nothing, and returns false.
    pub(crate) fn append_rows(
        &mut self,
        dictionary: &Dictionary,
        group: &Points,
        rows: &Rows,
        range: Range<usize>,
        received_us: i64,
    ) -> bool {
        let Some((numbers, dtypes)) = dictionary.resolved(rows.first_series, rows.series_count) else {
            return false;
        };
        let Some(stamps) = RowStamps::of(group, rows, &range, received_us) else { return false };
        if !self.written_rows.prepare(numbers) {
            // Other series than before, or only some of them: clients cut batches anywhere in a row.
            std::mem::take(&mut self.written_rows).move_to(&mut self.written);
            if !self.written_rows.prepare(numbers) {
                return false;
            }
        }
        let highest = stamps.steps.iter().copied().max();
        for ((number, dtype), reference) in numbers.iter().zip(dtypes).zip(rows.first_series..) {
            let state = &mut self.states[*number as usize];
            if state.dtype != *dtype {
                state.dtype = *dtype;
                let header = defined_header(dictionary, reference).map(|header| (*number, header));
                self.dirty_headers.extend(header);
            }
            state.highest = state.highest.max(highest);
        }
        let RowStamps { steps, epochs, times_us } = stamps;
        let values = self.written_rows.add(&steps, &epochs, &times_us);
        rows::extend_values(values, rows, range);
        true
    }

    /// The lowest step of the points taken in this transaction.
    pub(crate) fn first_step(&self) -> Option<i64> {
        self.written.points.steps.iter().chain(self.written_rows.steps()).min().copied()
    }

    /// Writes the headers and blocks of this transaction, and returns the blocks.
    pub(crate) fn write(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
        writing: &mut WritingState,
    ) -> Vec<Bytes> {
        self.named.end_transaction();
        let project = transaction.project();
        for (series, header) in std::mem::take(&mut self.dirty_headers) {
            metric_header_put(transaction.batch(), project, number, SeriesNumber(series), &header);
        }
        let mut written = std::mem::take(&mut self.written);
        let written_rows = std::mem::take(&mut self.written_rows);
        let points = written.len() + written_rows.len();
        if points == 0 {
            return Vec::new();
        }
        writing.points += points as u64;
        let batch = transaction.batch();
        let blocks = if written.is_empty() {
            written_rows.blocks()
        } else {
            written_rows.move_to(&mut written);
            written.blocks()
        };
        let blocks: Vec<Bytes> = blocks.into_iter().map(Bytes::from).collect();
        for block in &blocks {
            batch.set(keys::block(project, number, writing.next_block), block.clone());
            writing.next_block += 1;
            writing.bytes += block.len() as u64;
        }
        batch.set(keys::unfolded(project, number), Vec::new());
        blocks
    }

    /// Approximate memory use between transactions.
    pub(crate) fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<SeriesState>() + self.named.numbers.len() * NamedSeries::BYTES
    }
}

/// Steps, epochs and times of whole rows.
struct RowStamps {
    steps: Vec<i64>,
    epochs: Vec<i64>,
    times_us: Vec<i64>,
}

impl RowStamps {
    /// `None` if the range cuts a row, or if points of a row differ in more than their values, or have no step.
    fn of(group: &Points, rows: &Rows, range: &Range<usize>, received_us: i64) -> Option<Self> {
        let width = rows.series_count as usize;
        if !range.start.is_multiple_of(width) || !range.end.is_multiple_of(width) {
            return None;
        }
        let row_count = rows::value_count(rows) / width;
        let taken = range.start / width..range.end / width;
        let column = |column: &[i64], otherwise| {
            let is_by_row = column.len() <= 1 || column.len() == row_count;
            is_by_row.then(|| {
                let mut entries = Vec::with_capacity(taken.len());
                columns::extend(&mut entries, column, taken.clone(), otherwise);
                entries
            })
        };
        let steps = column(&group.steps, ABSENT).filter(|steps| !steps.contains(&ABSENT))?;
        let epochs = column(&group.epochs, ABSENT)?;
        let times_us = column(&group.times_us, received_us)?;
        Some(Self { steps, epochs, times_us })
    }
}

/// The header of a series, from its definition.
fn defined_header(dictionary: &Dictionary, reference: u32) -> Option<MetricHeader> {
    let definition = dictionary.definition(reference)?;
    let context = Context::parse(&definition.context).unwrap_or_default();
    Some(header(definition, &context))
}

/// Reason why points of this definition cannot be stored.
pub(crate) fn refusal(dictionary: &Dictionary, reference: u32) -> String {
    let Some(definition) = dictionary.definition(reference) else {
        return format!("series {reference} is not in the producer's dictionary");
    };
    if dictionary.number(reference).is_some() {
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
