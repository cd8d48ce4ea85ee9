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

use super::packed::{Floats, Integers, OptionalIntegers, put_floats, put_integers, put_optionals};
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
    pub fn from_points(points: &Points, range: std::ops::Range<usize>) -> Option<Self> {
        let values = points.values.get(range.clone()).filter(|values| !values.is_empty())?;
        let mut summary = Self {
            count: values.len() as u64,
            first: points.get(range.start),
            last: points.get(range.end - 1),
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
        let mut min = f64::INFINITY;
        let mut max = f64::NEG_INFINITY;
        let mut sum = 0.0;
        for value in values {
            if value.is_finite() {
                min = min.min(*value);
                max = max.max(*value);
                sum += value;
            } else if value.is_nan() {
                self.nan += 1;
            } else if *value > 0.0 {
                self.positive_infinite += 1;
            } else {
                self.negative_infinite += 1;
            }
        }
        let finite = self.finite() as f64;
        if finite > 0.0 {
            self.min = min;
            self.max = max;
            // If the sum overflows, values are divided before they are added.
            let mean: f64 = if f64::is_finite(sum) {
                sum / finite
            } else {
                values.iter().filter(|value| value.is_finite()).map(|value| value / finite).sum()
            };
            // Rounding must not move the mean outside the range of values.
            self.mean = mean.clamp(min, max);
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

/// Reads `count` summaries. The caller limits `count`.
pub(crate) fn summaries(input: &mut Input<'_>, count: usize) -> Result<Vec<Summary>, FormatError> {
    let counts = Integers::open(input, count)?;
    let first_steps = Integers::open(input, count)?;
    let spans = Integers::open(input, count)?;
    let first_values = Floats::open(input, count)?;
    let last_values = Floats::open(input, count)?;
    let mins = Floats::open(input, count)?;
    let maxs = Floats::open(input, count)?;
    let means = Floats::open(input, count)?;
    let first_epochs = OptionalIntegers::open(input, count)?;
    let last_epochs = OptionalIntegers::open(input, count)?;
    let first_times = OptionalIntegers::open(input, count)?;
    let last_times = OptionalIntegers::open(input, count)?;
    let nans = Integers::open(input, count)?;
    let positives = Integers::open(input, count)?;
    let negatives = Integers::open(input, count)?;
    Ok((0..count)
        .map(|index| Summary {
            count: counts.get(index) as u64,
            first: Point {
                step: first_steps.get(index),
                value: first_values.get(index),
                epoch: first_epochs.get(index),
                time_us: first_times.get(index),
            },
            last: Point {
                step: first_steps.get(index).wrapping_add(spans.get(index)),
                value: last_values.get(index),
                epoch: last_epochs.get(index),
                time_us: last_times.get(index),
            },
            min: mins.get(index),
            max: maxs.get(index),
            mean: means.get(index),
            nan: nans.get(index) as u64,
            positive_infinite: positives.get(index) as u64,
            negative_infinite: negatives.get(index) as u64,
        })
        .collect())
}

pub(crate) fn put_summary(out: &mut Vec<u8>, summary: &Summary) {
    put_summaries(out, std::slice::from_ref(summary));
}

pub(crate) fn summary(input: &mut Input<'_>) -> Result<Summary, FormatError> {
    summaries(input, 1)?.pop().ok_or(FormatError("no summary"))
}

#[cfg(test)]
mod tests;
