//! Sampling: reduces a series to a limited number of points, by the rules that the charts of
//! the published clients rely on.
//!
//! A sample has all points if there are at most as many as the limit, and otherwise exactly as
//! many as the limit. Short ranges follow the rules exactly. For long ones, the rules choose
//! among the first points of fine buckets and the very last point. The result consists of logged
//! points, in order, including the first and the last one, and rarely requires reading every
//! chunk.

use matyan_store::{Result, Snapshot};

use super::SeriesView;
use crate::series::curve::Stamps;
use crate::series::points::{Points, StepRange};
use crate::series::pyramid::exponent_for;

/// Maximum number of points for which a range is read completely.
const EXACT_POINTS: u64 = 64 * 1024;
/// Number of candidates per chosen point of a long range.
const CANDIDATES: usize = 4;

/// Rule for choosing `n` points of a range that has more, including the first and the last one
/// (only the first one if n = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The first points at or after n evenly spaced steps; if fewer than n points result,
    /// points at evenly spaced positions.
    Spread(usize),
    /// The first point, the last point, and the first point in each of n − 2 equal parts of
    /// the steps between. If parts without points leave room, it is filled with the smallest and
    /// the largest value of each part, and then with points at evenly spaced positions.
    Buckets(usize),
}

impl Sampling {
    /// The limit, capped so that products of limits and steps fit into 128 bits.
    fn limit(self) -> usize {
        match self {
            Self::Spread(limit) | Self::Buckets(limit) => limit.min(u32::MAX as usize),
        }
    }

    /// The positions of the chosen `steps`, which must be ascending. `values` belong to the steps;
    /// without them, no smallest and largest ones are looked for.
    pub fn positions(self, steps: &[i64], values: &[f64]) -> Vec<usize> {
        let limit = self.limit();
        match self {
            _ if steps.len() <= limit || limit <= 1 => (0..steps.len().min(limit)).collect(),
            Self::Spread(_) => spread(steps, limit),
            Self::Buckets(_) => fill(buckets(steps, limit), steps.len(), values, limit),
        }
    }

    /// The points chosen from `points`, which must be in the order of steps.
    pub fn choose(self, points: &Points) -> Points {
        let positions = self.positions(&points.steps, &points.values);
        positions.into_iter().map(|position| points.get(position)).collect()
    }
}

/// Requires more steps than the limit, and a limit of at least two.
fn spread(steps: &[i64], limit: usize) -> Vec<usize> {
    let first = i128::from(steps[0]);
    let last = i128::from(steps[steps.len() - 1]);
    let parts = limit as i128 - 1;
    let mut chosen: Vec<usize> = (0..limit)
        .map(|index| {
            let target = first + divide_round_half_even(index as i128 * (last - first), parts);
            steps.partition_point(|step| i128::from(*step) < target)
        })
        .collect();
    chosen.dedup();
    if chosen.len() == limit {
        return chosen;
    }
    (0..limit).map(|index| evenly_spaced(index, limit, steps.len())).collect()
}

/// The position of the `index`-th of `limit` chosen items among `count`. The first and the last
/// item are always chosen, except that a limit of one chooses only the first. All positions are
/// distinct if there are at least as many items as are chosen.
pub fn evenly_spaced(index: usize, limit: usize, count: usize) -> usize {
    if limit <= 1 {
        return 0;
    }
    divide_round_half_even(index as i128 * (count as i128 - 1), limit as i128 - 1) as usize
}

/// Divides, rounding half to even; the numerator must not be negative.
fn divide_round_half_even(numerator: i128, denominator: i128) -> i128 {
    let quotient = numerator / denominator;
    let rest = numerator % denominator;
    match (2 * rest).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

/// Requires more steps than the limit, and a limit of at least two.
fn buckets(steps: &[i64], limit: usize) -> Vec<usize> {
    let end = steps.len() - 1;
    let first = i128::from(steps[0]);
    let last = i128::from(steps[end]);
    let parts = limit as i128 - 2;
    let mut chosen = vec![0];
    let mut previous = None;
    for (position, step) in steps.iter().enumerate().take(end).skip(1) {
        let part = (i128::from(*step) - first - 1) * parts / (last - first - 1).max(1);
        let bucket = part.min(parts - 1);
        if parts > 0 && previous != Some(bucket) {
            chosen.push(position);
            previous = Some(bucket);
        }
    }
    chosen.push(end);
    chosen
}

/// Adds positions below `count` until `limit` are chosen: first the extremes between the chosen
/// ones, then others.
fn fill(mut chosen: Vec<usize>, count: usize, values: &[f64], limit: usize) -> Vec<usize> {
    let extremes = if chosen.len() < limit { extremes(&chosen, values) } else { Vec::new() };
    add_evenly(&mut chosen, extremes, limit);
    if chosen.len() < limit {
        let others = (0..count).filter(|position| chosen.binary_search(position).is_err()).collect();
        add_evenly(&mut chosen, others, limit);
    }
    chosen
}

/// Adds as many of `others` as there is room for.
fn add_evenly(chosen: &mut Vec<usize>, others: Vec<usize>, limit: usize) {
    let room = (limit - chosen.len()).min(others.len());
    chosen.extend((0..room).map(|index| others[evenly_spaced(index, room, others.len())]));
    chosen.sort_unstable();
}

/// The positions of the smallest and the largest value between each two chosen positions, unless they are
/// chosen already. NaN is neither.
fn extremes(chosen: &[usize], values: &[f64]) -> Vec<usize> {
    let mut extremes = Vec::new();
    for part in chosen.windows(2) {
        let inside =
            (part[0]..part[1]).filter(|position| values.get(*position).is_some_and(|it| !it.is_nan()));
        let smallest = inside.clone().min_by(|left, right| values[*left].total_cmp(&values[*right]));
        let largest = inside.max_by(|left, right| values[*left].total_cmp(&values[*right]));
        let found = smallest.into_iter().chain(largest.filter(|_| smallest != largest));
        extremes.extend(found.filter(|position| *position != part[0]));
    }
    extremes.sort_unstable();
    extremes
}

impl SeriesView {
    /// Number of logged points in `steps`.
    pub async fn count(&self, snapshot: &dyn Snapshot, steps: StepRange) -> Result<u64> {
        // The widest buckets: at most two, whatever the range is.
        let buckets = self.buckets(snapshot, steps, 63, Stamps::Skipped).await?;
        Ok(buckets.iter().map(|bucket| bucket.count).sum())
    }

    /// A sample of the logged points in `steps`. The caller bounds the limit, because that many
    /// points are held in memory.
    pub async fn sample(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        sampling: Sampling,
    ) -> Result<Points> {
        let Some(span) = self.span() else { return Ok(Points::default()) };
        let exact = EXACT_POINTS.max(sampling.limit() as u64);
        if self.count_at_most() <= exact {
            return Ok(sampling.choose(&self.points(snapshot, steps).await?));
        }
        let wanted = steps.intersection(&span);
        if wanted.is_empty() {
            return Ok(Points::default());
        }
        let mut exponent = exponent_for(&wanted, sampling.limit().saturating_mul(CANDIDATES));
        loop {
            let buckets = self.buckets(snapshot, wanted, exponent, Stamps::Read).await?;
            // The range may have few points even if the series has many.
            if buckets.iter().map(|bucket| bucket.count).sum::<u64>() <= exact {
                return Ok(sampling.choose(&self.points(snapshot, steps).await?));
            }
            let mut candidates: Points = buckets.iter().map(|bucket| bucket.first).collect();
            if let Some(last) = buckets.last().filter(|last| last.count > 1) {
                candidates.push(last.last);
            }
            // Steps with large gaps leave most buckets empty. Buckets a quarter as wide give at most
            // four times as many candidates, and buckets of one step give every point.
            if candidates.len() >= sampling.limit() || exponent == 0 {
                return Ok(sampling.choose(&candidates));
            }
            exponent = exponent.saturating_sub(2);
        }
    }
}
