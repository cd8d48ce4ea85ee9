//! Formats of the rows of a cohort: which runs it has, and the values of one metric in these runs.
//!
//! Format of a cohort: the byte 1; the number of its runs as varint; the numbers of the runs, which
//! ascend, in an integer column; then a bit map (lowest bit first) of the runs that are members.
//!
//! Format of the values of a metric: the byte 1; the number of runs of the cohort as varint; a bit map
//! of the runs that have the metric; then four float columns with the last, first, lowest, and highest
//! value of each of these runs.

use bytes::Bytes;

use super::column::{
    ColumnUse, float_column, integer_column, put_float_column, put_integer_column, skip_float_column,
};
use super::summary::Summary;
use super::wire::{FormatError, Input, bits, put_bits, put_varint};
use crate::ids::RunNumber;

const FORMAT: u8 = 1;

/// Largest number of runs of a cohort. Their values of a metric take about 33 kB at most.
pub const COHORT_RUNS: usize = 1_024;

/// A value of a metric in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricStatistic {
    Last,
    First,
    Min,
    Max,
}

impl MetricStatistic {
    /// All statistics, in the order of the stored columns.
    const ALL: [Self; 4] = [Self::Last, Self::First, Self::Min, Self::Max];

    pub fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::Last => summary.last.value,
            Self::First => summary.first.value,
            // A series without finite values has no minimum or maximum.
            Self::Min | Self::Max if summary.finite() == 0 => f64::NAN,
            Self::Min => summary.min,
            Self::Max => summary.max,
        }
    }
}

/// The values of a metric in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricValues([f64; MetricStatistic::ALL.len()]);

impl MetricValues {
    pub(crate) fn of(summary: &Summary) -> Self {
        Self(MetricStatistic::ALL.map(|statistic| statistic.of(summary)))
    }
}

/// The runs of a cohort. Runs leave it when their values change, or when they are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CohortRuns {
    /// Ascending, at most `COHORT_RUNS`.
    numbers: Vec<RunNumber>,
    is_member: Vec<bool>,
}

impl CohortRuns {
    /// A cohort without members, of runs in ascending order.
    pub(crate) fn new(numbers: Vec<RunNumber>) -> Self {
        let is_member = vec![false; numbers.len()];
        Self { numbers, is_member }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Leaves out all but the first runs.
    pub(crate) fn truncate(&mut self, runs: usize) {
        self.numbers.truncate(runs);
        self.is_member.truncate(runs);
    }

    /// Returns false if the cohort was not created with this run.
    pub(crate) fn set_member(&mut self, number: RunNumber, is_member: bool) -> bool {
        let Ok(at) = self.numbers.binary_search(&number) else { return false };
        self.is_member[at] = is_member;
        true
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = RunNumber> {
        let with_flags = self.numbers.iter().zip(&self.is_member);
        with_flags.filter(|(_, is_member)| **is_member).map(|(number, _)| *number)
    }

    /// The number of the run at a position, if it is a member.
    pub(crate) fn member_at(&self, at: usize) -> Option<RunNumber> {
        self.numbers.get(at).copied().filter(|_| self.is_member[at])
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.numbers.len() as u64);
        put_integer_column(
            &mut out,
            &self.numbers.iter().map(|number| number.0.cast_signed()).collect::<Vec<_>>(),
            ColumnUse::Kept,
        );
        put_bits(&mut out, &self.is_member);
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let count = input.count(COHORT_RUNS)?;
        let numbers = integer_column(&mut input, count)?;
        let numbers: Vec<_> = numbers.into_iter().map(|number| RunNumber(number.cast_unsigned())).collect();
        if !numbers.is_sorted_by(|left, right| left < right) {
            return Err(FormatError("runs out of order"));
        }
        let is_member = bits(&mut input, count)?;
        input.end()?;
        Ok(Self { numbers, is_member })
    }
}

/// The values of one metric in the runs of a cohort, by position in the cohort.
#[derive(Clone, Debug)]
pub(crate) struct CohortColumn(Vec<Option<MetricValues>>);

impl CohortColumn {
    pub(crate) fn new(runs: usize) -> Self {
        Self(vec![None; runs])
    }

    /// `at` is the position of the run in the cohort.
    pub(crate) fn set(&mut self, at: usize, values: MetricValues) {
        self.0[at] = Some(values);
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.0.len() as u64);
        put_bits(&mut out, &self.0.iter().map(Option::is_some).collect::<Vec<_>>());
        for index in 0..MetricStatistic::ALL.len() {
            let values: Vec<f64> = self.0.iter().flatten().map(|values| values.0[index]).collect();
            put_float_column(&mut out, &values, ColumnUse::Kept);
        }
        out.into()
    }

    /// Reads one of the values of each run, with its position in the cohort.
    pub(crate) fn read(bytes: &[u8], statistic: MetricStatistic) -> Result<Vec<(usize, f64)>, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let (has_metric, present) = presence(&mut input)?;
        for earlier in MetricStatistic::ALL {
            if earlier == statistic {
                break;
            }
            skip_float_column(&mut input, present)?;
        }
        let values = float_column(&mut input, present)?;
        let positions = has_metric.iter().enumerate().filter(|(_, has_metric)| **has_metric);
        Ok(positions.map(|(at, _)| at).zip(values).collect())
    }
}

/// Reads which runs have the metric, and how many.
fn presence(input: &mut Input<'_>) -> Result<(Vec<bool>, usize), FormatError> {
    let runs = input.count(COHORT_RUNS)?;
    let has_metric = bits(input, runs)?;
    let present = has_metric.iter().filter(|has_metric| **has_metric).count();
    Ok((has_metric, present))
}

#[cfg(test)]
mod tests;
