//! Summaries of many points: of a whole series, a chunk, or a bucket of the pyramid.
//!
//! Summaries of different points of a series can be merged in any order. Nothing can be subtracted from
//! a summary, so it must be recomputed when points are removed or rewritten. Min, max, and mean
//! cover finite values only; NaN and infinities are counted separately.
//!
//! Formats. One summary: the columns below, with one value each. Several summaries (their
//! number n is stored elsewhere): packed columns in this order: counts; first steps; last steps
//! minus first steps; first, last, min, max, and mean as floats; first epochs, last epochs,
//! first times, and last times as optional integers; counts of NaN, +∞, and −∞.

use std::ops::Range;

use super::curve::Curve;
use super::packed::{
    Floats, Integers, OptionalIntegers, one_float, one_integer, one_optional, put_floats, put_integers,
    put_optionals,
};
use super::points::{Point, Points, StepRange};
use super::wire::{FormatError, Input};

const FORMAT: u8 = 1;

/// Summary of one or more points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub count: u64,
    /// The point at the lowest step.
    pub first: Point,
    pub last: Point,
    /// Minimum of the finite values. Like `max` and `mean`, it is NaN if no value is
    /// finite.
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub nan: u64,
    pub positive_infinite: u64,
    pub negative_infinite: u64,
}

impl Summary {
    /// Summarizes points, which must be in the order of steps. `None` if there are none.
    pub fn from_points(points: &Points, range: Range<usize>) -> Option<Self> {
        Self::from_curve(&points.curve(), range)
    }

    /// Summarizes the points at these positions. `None` if there are none.
    pub(crate) fn from_curve(curve: &Curve<'_>, range: Range<usize>) -> Option<Self> {
        let values = curve.values.get(range.clone()).filter(|values| !values.is_empty())?;
        let mut summary = Self {
            count: values.len() as u64,
            first: curve.get(range.start),
            last: curve.get(range.end - 1),
            min: f64::NAN,
            max: f64::NAN,
            mean: f64::NAN,
            nan: 0,
            positive_infinite: 0,
            negative_infinite: 0,
        };
        summary.add_values(values);
        Some(summary)
    }

    fn add_values(&mut self, values: &[f64]) {
        let sums = FiniteSums::of(values);
        if sums.count < values.len() as u64 {
            let count =
                |matches: fn(f64) -> bool| values.iter().filter(|value| matches(**value)).count() as u64;
            self.nan = count(f64::is_nan);
            self.positive_infinite = count(|value| value == f64::INFINITY);
            self.negative_infinite = count(|value| value == f64::NEG_INFINITY);
        }
        if sums.count > 0 {
            let finite = sums.count as f64;
            self.min = sums.min;
            self.max = sums.max;
            // If the sum overflows, values are divided before they are added.
            let mean: f64 = if f64::is_finite(sums.sum) {
                sums.sum / finite
            } else {
                values.iter().filter(|value| value.is_finite()).map(|value| value / finite).sum()
            };
            // Rounding must not move the mean outside the range of values.
            self.mean = mean.clamp(sums.min, sums.max);
        }
    }

    /// The number of finite values, which min, max, and mean cover.
    pub fn finite(&self) -> u64 {
        self.count
            .saturating_sub(self.nan)
            .saturating_sub(self.positive_infinite)
            .saturating_sub(self.negative_infinite)
    }

    pub fn steps(&self) -> StepRange {
        StepRange::new(self.first.step, self.last.step)
    }

    /// Merges two summaries of different points. The steps of one may lie between the steps of the other.
    pub fn merged(&self, other: &Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: if self.first.step <= other.first.step { self.first } else { other.first },
            last: if self.last.step > other.last.step { self.last } else { other.last },
            // `f64::min` ignores NaN.
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            mean: self.merged_mean(other),
            nan: self.nan.saturating_add(other.nan),
            positive_infinite: self.positive_infinite.saturating_add(other.positive_infinite),
            negative_infinite: self.negative_infinite.saturating_add(other.negative_infinite),
        }
    }

    fn merged_mean(&self, other: &Self) -> f64 {
        let left = self.finite() as f64;
        let right = other.finite() as f64;
        if left == 0.0 {
            other.mean
        } else if right == 0.0 {
            self.mean
        } else {
            let total = left + right;
            self.mean * (left / total) + other.mean * (right / total)
        }
    }

    /// Merges `next` into `total`.
    pub fn add(total: &mut Option<Self>, next: &Self) {
        *total = Some(total.map_or(*next, |total| total.merged(next)));
    }
}

/// Sums over the finite values of a column.
struct FiniteSums {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl FiniteSums {
    fn of(values: &[f64]) -> Self {
        let mut lanes = FiniteLanes {
            count: [0; LANES],
            sum: [0.0; LANES],
            min: [f64::INFINITY; LANES],
            max: [f64::NEG_INFINITY; LANES],
        };
        let (fours, rest) = values.as_chunks();
        for four in fours {
            lanes.add(four);
        }
        let mut last = [f64::NAN; LANES];
        last[..rest.len()].copy_from_slice(rest);
        lanes.add(&last);
        Self {
            count: lanes.count.iter().sum(),
            sum: lanes.sum.iter().sum(),
            min: lanes.min.into_iter().fold(f64::INFINITY, f64::min),
            max: lanes.max.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

const LANES: usize = 4;

/// Sums over every fourth value, so that no sum waits for the previous one.
struct FiniteLanes {
    count: [u64; LANES],
    sum: [f64; LANES],
    min: [f64; LANES],
    max: [f64; LANES],
}

impl FiniteLanes {
    /// Replaces values that are not finite by neutral ones. There are no branches, so that the loop is
    /// vectorized.
    fn add(&mut self, four: &[f64; LANES]) {
        for (lane, value) in four.iter().enumerate() {
            let is_finite = value.is_finite();
            let low = if is_finite { *value } else { f64::INFINITY };
            let high = if is_finite { *value } else { f64::NEG_INFINITY };
            self.count[lane] += u64::from(is_finite);
            self.sum[lane] += if is_finite { *value } else { 0.0 };
            self.min[lane] = if low < self.min[lane] { low } else { self.min[lane] };
            self.max[lane] = if high > self.max[lane] { high } else { self.max[lane] };
        }
    }
}

impl Summary {
    /// The byte 1, then the summary.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(FORMAT);
        put_summary(&mut out, self);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let summary = summary(&mut input)?;
        input.end()?;
        Ok(summary)
    }
}

pub(crate) fn put_summaries(out: &mut Vec<u8>, summaries: &[Summary]) {
    put_integers(out, &column(summaries, |summary| summary.count as i64));
    put_integers(out, &column(summaries, |summary| summary.first.step));
    put_integers(out, &column(summaries, |summary| summary.last.step.wrapping_sub(summary.first.step)));
    put_floats(out, &column(summaries, |summary| summary.first.value));
    put_floats(out, &column(summaries, |summary| summary.last.value));
    put_floats(out, &column(summaries, |summary| summary.min));
    put_floats(out, &column(summaries, |summary| summary.max));
    put_floats(out, &column(summaries, |summary| summary.mean));
    put_optionals(out, &column(summaries, |summary| summary.first.epoch), put_integers);
    put_optionals(out, &column(summaries, |summary| summary.last.epoch), put_integers);
    put_optionals(out, &column(summaries, |summary| summary.first.time_us), put_integers);
    put_optionals(out, &column(summaries, |summary| summary.last.time_us), put_integers);
    put_integers(out, &column(summaries, |summary| summary.nan as i64));
    put_integers(out, &column(summaries, |summary| summary.positive_infinite as i64));
    put_integers(out, &column(summaries, |summary| summary.negative_infinite as i64));
}

fn column<T>(summaries: &[Summary], get: fn(&Summary) -> T) -> Vec<T> {
    summaries.iter().map(get).collect()
}

/// The columns of summaries, opened for reading.
struct SummaryColumns<'a> {
    counts: Integers<'a>,
    first_steps: Integers<'a>,
    spans: Integers<'a>,
    first_values: Floats<'a>,
    last_values: Floats<'a>,
    mins: Floats<'a>,
    maxs: Floats<'a>,
    means: Floats<'a>,
    first_epochs: OptionalIntegers<'a>,
    last_epochs: OptionalIntegers<'a>,
    first_times: OptionalIntegers<'a>,
    last_times: OptionalIntegers<'a>,
    nans: Integers<'a>,
    positives: Integers<'a>,
    negatives: Integers<'a>,
}

impl<'a> SummaryColumns<'a> {
    fn open(input: &mut Input<'a>, count: usize) -> Result<Self, FormatError> {
        Ok(Self {
            counts: Integers::open(input, count)?,
            first_steps: Integers::open(input, count)?,
            spans: Integers::open(input, count)?,
            first_values: Floats::open(input, count)?,
            last_values: Floats::open(input, count)?,
            mins: Floats::open(input, count)?,
            maxs: Floats::open(input, count)?,
            means: Floats::open(input, count)?,
            first_epochs: OptionalIntegers::open(input, count)?,
            last_epochs: OptionalIntegers::open(input, count)?,
            first_times: OptionalIntegers::open(input, count)?,
            last_times: OptionalIntegers::open(input, count)?,
            nans: Integers::open(input, count)?,
            positives: Integers::open(input, count)?,
            negatives: Integers::open(input, count)?,
        })
    }

    fn get(&self, index: usize) -> Summary {
        let first_step = self.first_steps.get(index);
        Summary {
            count: self.counts.get(index) as u64,
            first: Point {
                step: first_step,
                value: self.first_values.get(index),
                epoch: self.first_epochs.get(index),
                time_us: self.first_times.get(index),
            },
            last: Point {
                step: first_step.wrapping_add(self.spans.get(index)),
                value: self.last_values.get(index),
                epoch: self.last_epochs.get(index),
                time_us: self.last_times.get(index),
            },
            min: self.mins.get(index),
            max: self.maxs.get(index),
            mean: self.means.get(index),
            nan: self.nans.get(index) as u64,
            positive_infinite: self.positives.get(index) as u64,
            negative_infinite: self.negatives.get(index) as u64,
        }
    }
}

/// Reads `count` summaries. The caller limits `count`.
pub(crate) fn summaries(input: &mut Input<'_>, count: usize) -> Result<Vec<Summary>, FormatError> {
    let columns = SummaryColumns::open(input, count)?;
    Ok((0..count).map(|index| columns.get(index)).collect())
}

pub(crate) fn put_summary(out: &mut Vec<u8>, summary: &Summary) {
    put_summaries(out, std::slice::from_ref(summary));
}

/// Reads one summary without opening its columns: lists of series read very many.
pub(crate) fn summary(input: &mut Input<'_>) -> Result<Summary, FormatError> {
    let count = one_integer(input)?;
    let first_step = one_integer(input)?;
    let span = one_integer(input)?;
    let first_value = one_float(input)?;
    let last_value = one_float(input)?;
    let min = one_float(input)?;
    let max = one_float(input)?;
    let mean = one_float(input)?;
    let first_epoch = one_optional(input)?;
    let last_epoch = one_optional(input)?;
    let first_time = one_optional(input)?;
    let last_time = one_optional(input)?;
    let nan = one_integer(input)?;
    let positive_infinite = one_integer(input)?;
    let negative_infinite = one_integer(input)?;
    Ok(Summary {
        count: count as u64,
        first: Point { step: first_step, value: first_value, epoch: first_epoch, time_us: first_time },
        last: Point {
            step: first_step.wrapping_add(span),
            value: last_value,
            epoch: last_epoch,
            time_us: last_time,
        },
        min,
        max,
        mean,
        nan: nan as u64,
        positive_infinite: positive_infinite as u64,
        negative_infinite: negative_infinite as u64,
    })
}

#[cfg(test)]
mod tests;
