//! The points of one series, in columns, and the rule for merging two points at the same step.
//! Absent epochs and times are stored as `ABSENT`, which takes half the memory of `Option` and
//! copies without branches.

use std::ops::Range;

use matyan_proto::{ABSENT, common::v1 as api};

/// One point. `epoch` and `time_us` may be `ABSENT`.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub step: i64,
    pub value: f64,
    pub epoch: i64,
    /// Microseconds since the Unix epoch.
    pub time_us: i64,
}

impl Point {
    pub fn epoch(&self) -> Option<i64> {
        (self.epoch != ABSENT).then_some(self.epoch)
    }

    pub fn time_us(&self) -> Option<i64> {
        (self.time_us != ABSENT).then_some(self.time_us)
    }

    /// Merges a later point at the same step: its columns replace the columns of this point, except
    /// where they are absent.
    fn rewritten(self, later: Self) -> Self {
        Self {
            step: self.step,
            value: later.value,
            epoch: if later.epoch == ABSENT { self.epoch } else { later.epoch },
            time_us: if later.time_us == ABSENT { self.time_us } else { later.time_us },
        }
    }
}

/// Bitwise equality: NaN equals itself, and 0.0 does not equal −0.0.
impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.step == other.step
            && self.value.to_bits() == other.value.to_bits()
            && self.epoch == other.epoch
            && self.time_us == other.time_us
    }
}

impl Eq for Point {}

/// Points of one series. All columns have the same length.
#[derive(Clone, Debug, Default)]
pub struct Points {
    pub steps: Vec<i64>,
    pub values: Vec<f64>,
    pub epochs: Vec<i64>,
    pub times_us: Vec<i64>,
}

impl Points {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            steps: Vec::with_capacity(capacity),
            values: Vec::with_capacity(capacity),
            epochs: Vec::with_capacity(capacity),
            times_us: Vec::with_capacity(capacity),
        }
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn push(&mut self, point: Point) {
        self.steps.push(point.step);
        self.values.push(point.value);
        self.epochs.push(point.epoch);
        self.times_us.push(point.time_us);
    }

    pub fn get(&self, index: usize) -> Point {
        Point {
            step: self.steps[index],
            value: self.values[index],
            epoch: self.epochs[index],
            time_us: self.times_us[index],
        }
    }

    pub fn first(&self) -> Option<Point> {
        (!self.is_empty()).then(|| self.get(0))
    }

    pub fn last(&self) -> Option<Point> {
        self.len().checked_sub(1).map(|index| self.get(index))
    }

    pub fn iter(&self) -> impl Iterator<Item = Point> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    pub fn extend(&mut self, other: &Self, range: Range<usize>) {
        self.steps.extend_from_slice(&other.steps[range.clone()]);
        self.values.extend_from_slice(&other.values[range.clone()]);
        self.epochs.extend_from_slice(&other.epochs[range.clone()]);
        self.times_us.extend_from_slice(&other.times_us[range]);
    }

    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut part = Self::with_capacity(range.len());
        part.extend(self, range);
        part
    }

    /// The positions of the points whose steps are in `steps`; the points must be in
    /// ascending order.
    pub fn positions(&self, steps: &StepRange) -> Range<usize> {
        let start = self.steps.partition_point(|step| *step < steps.first);
        let end = self.steps.partition_point(|step| *step <= steps.last);
        start..end.max(start)
    }

    /// Sorts points from the order of writing by step, and merges repeated steps.
    pub fn sort_and_merge(&mut self) {
        if self.steps.is_sorted_by(|left, right| left < right) {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|index| self.steps[*index]);
        let mut settled = Self::with_capacity(self.len());
        for index in order {
            settled.append_or_rewrite(self.get(index));
        }
        *self = settled;
    }

    /// Merges `later` over `self`. Both must be in ascending order of distinct steps.
    pub fn merged_with(&self, later: &Self) -> Self {
        let mut merged = Self::with_capacity(self.len() + later.len());
        if self.steps.last() < later.steps.first() {
            merged.extend(self, 0..self.len());
            merged.extend(later, 0..later.len());
            return merged;
        }
        let mut done = 0;
        for point in later.iter() {
            let end = done + self.steps[done..].partition_point(|step| *step <= point.step);
            merged.extend(self, done..end);
            merged.append_or_rewrite(point);
            done = end;
        }
        merged.extend(self, done..self.len());
        merged
    }

    fn append_or_rewrite(&mut self, point: Point) {
        if self.steps.last() != Some(&point.step) {
            return self.push(point);
        }
        let last = self.len() - 1;
        let rewritten = self.get(last).rewritten(point);
        self.values[last] = rewritten.value;
        self.epochs[last] = rewritten.epoch;
        self.times_us[last] = rewritten.time_us;
    }
}

impl PartialEq for Points {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Points {}

impl FromIterator<Point> for Points {
    fn from_iter<T: IntoIterator<Item = Point>>(points: T) -> Self {
        let mut columns = Self::default();
        for point in points {
            columns.push(point);
        }
        columns
    }
}

/// Steps from `first` to `last`, both included: a half-open range could not contain the highest
/// step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepRange {
    pub first: i64,
    pub last: i64,
}

impl StepRange {
    pub const ALL: Self = Self { first: i64::MIN, last: i64::MAX };
    pub const NONE: Self = Self { first: i64::MAX, last: i64::MIN };

    pub fn new(first: i64, last: i64) -> Self {
        Self { first, last }
    }

    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    pub fn contains(&self, step: i64) -> bool {
        self.first <= step && step <= self.last
    }

    pub fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub fn intersection(&self, other: &Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }
}

impl From<api::StepRange> for StepRange {
    /// Converts a half-open range of a request.
    fn from(half_open: api::StepRange) -> Self {
        let first = half_open.start.unwrap_or(i64::MIN);
        match half_open.stop.map(|stop| stop.checked_sub(1)) {
            None => Self::new(first, i64::MAX),
            Some(Some(last)) => Self::new(first, last),
            Some(None) => Self::NONE,
        }
    }
}

#[cfg(test)]
mod tests;
