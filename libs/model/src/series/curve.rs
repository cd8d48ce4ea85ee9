//! The points of a chunk as charts read them: the columns that a summary needs, and evenly spaced steps
//! without a number for each.

use std::borrow::Cow;
use std::ops::Range;

use matyan_proto::ABSENT;

use super::points::{Point, Points, StepRange};

/// Whether epochs and times are read along with steps and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    Read,
    /// All epochs and times of the result may be absent.
    Skipped,
}

/// Points in ascending order of distinct steps.
#[derive(Clone, Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) steps: Steps<'a>,
    /// As many as there are steps.
    pub(crate) values: Cow<'a, [f64]>,
    /// Empty if they were skipped.
    pub(crate) epochs: Cow<'a, [i64]>,
    /// Empty if they were skipped.
    pub(crate) times_us: Cow<'a, [i64]>,
}

impl Points {
    /// These points as charts read them. Their steps must be distinct and in ascending order.
    pub(crate) fn curve(&self) -> Curve<'_> {
        Curve {
            steps: Steps::Listed(Cow::Borrowed(&self.steps)),
            values: Cow::Borrowed(&self.values),
            epochs: Cow::Borrowed(&self.epochs),
            times_us: Cow::Borrowed(&self.times_us),
        }
    }

    pub(crate) fn into_curve(self) -> Curve<'static> {
        Curve {
            steps: Steps::Listed(Cow::Owned(self.steps)),
            values: Cow::Owned(self.values),
            epochs: Cow::Owned(self.epochs),
            times_us: Cow::Owned(self.times_us),
        }
    }
}

impl Curve<'_> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn get(&self, index: usize) -> Point {
        Point {
            step: self.steps.get(index),
            value: self.values[index],
            epoch: self.epochs.get(index).copied().unwrap_or(ABSENT),
            time_us: self.times_us.get(index).copied().unwrap_or(ABSENT),
        }
    }

    /// All columns of the points. Epochs and times that were skipped are absent.
    pub(crate) fn into_points(self) -> Points {
        let count = self.len();
        let steps = match self.steps {
            Steps::Even(even) => (0..count).map(|index| even.get(index)).collect(),
            Steps::Listed(steps) => steps.into_owned(),
        };
        let mut points = Points {
            steps,
            values: self.values.into_owned(),
            epochs: self.epochs.into_owned(),
            times_us: self.times_us.into_owned(),
        };
        points.epochs.resize(count, ABSENT);
        points.times_us.resize(count, ABSENT);
        points
    }

    /// The range from the first to the last step; `None` without points.
    pub(crate) fn span(&self) -> Option<StepRange> {
        let last = self.len().checked_sub(1)?;
        Some(StepRange::new(self.steps.get(0), self.steps.get(last)))
    }

    /// The positions of the points whose steps are in `steps`.
    pub(crate) fn positions(&self, steps: &StepRange) -> Range<usize> {
        if steps.is_empty() {
            return 0..0;
        }
        let start = steps.first.checked_sub(1).map_or(0, |before| self.steps.end(0..self.len(), before));
        start..self.steps.end(start..self.len(), steps.last)
    }
}

/// Ascending, distinct steps.
#[derive(Clone, Debug)]
pub(crate) enum Steps<'a> {
    Even(EvenSteps),
    Listed(Cow<'a, [i64]>),
}

/// Steps with the same distance between neighbors. None of them is outside of 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EvenSteps {
    first: i64,
    /// At least 1.
    stride: i64,
}

impl EvenSteps {
    /// `None` if `count` such steps do not ascend within 64 bits.
    pub(crate) fn new(first: i64, stride: i64, count: usize) -> Option<Self> {
        if count < 2 {
            return Some(Self { first, stride: 1 });
        }
        let distance = i64::try_from(count - 1).ok()?.checked_mul(stride)?;
        (stride > 0 && first.checked_add(distance).is_some()).then_some(Self { first, stride })
    }

    /// `index` must be the index of one of the steps.
    fn get(self, index: usize) -> i64 {
        self.first.wrapping_add(self.stride.wrapping_mul(index as i64))
    }
}

impl Steps<'_> {
    pub(crate) fn get(&self, index: usize) -> i64 {
        match self {
            Self::Even(even) => even.get(index),
            Self::Listed(steps) => steps[index],
        }
    }

    /// The end of the positions in `range` whose steps are at most `last`. The search goes up from the start
    /// of the range, because the end of a bucket is close to its start.
    pub(crate) fn end(&self, range: Range<usize>, last: i64) -> usize {
        match self {
            Self::Even(even) if last < even.first => range.start,
            Self::Even(even) => {
                let before = last.abs_diff(even.first) / even.stride.unsigned_abs();
                let end = usize::try_from(before).unwrap_or(usize::MAX).saturating_add(1);
                end.clamp(range.start, range.end)
            }
            Self::Listed(steps) => range.start + gallop(&steps[range], last),
        }
    }
}

/// The number of leading steps that are at most `last`, found in a time that depends on that number.
fn gallop(steps: &[i64], last: i64) -> usize {
    let mut start = 0;
    let mut width = 1;
    while let Some(step) = steps.get(start + width - 1)
        && *step <= last
    {
        start += width;
        width *= 2;
    }
    let end = steps.len().min(start + width - 1);
    start + steps[start..end].partition_point(|step| *step <= last)
}

#[cfg(test)]
mod tests;
