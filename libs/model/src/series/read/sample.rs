//! Sampling: reduces a series to a limited number of points, by the rules that the charts of
//! the published clients rely on.
//!
//! Short ranges follow the rules exactly. For long ones, the rules choose among the first
//! points of fine buckets and the very last point. The result consists of logged points, in
//! order, including the first and the last one, and does not require reading every chunk.

use matyan_store::{Result, Snapshot};

use super::SeriesView;
use crate::series::points::{Points, StepRange};
use crate::series::pyramid::exponent_for;

/// Maximum number of points for which a range is read completely.
const EXACT_POINTS: u64 = 64 * 1024;
/// Number of candidates per chosen point of a long range.
const CANDIDATES: usize = 4;

/// Rule for choosing at most `n` points of a range, including the first and the last one (only
/// the first one if n = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The first points at or after n evenly spaced steps; if fewer than n points result,
    /// points at evenly spaced positions.
    Spread(usize),
    /// The first point, the last point, and the first point in each of n − 2 equal parts of
    /// the steps between.
    Buckets(usize),
}

impl Sampling {
    /// The limit, capped so that products of limits and steps fit into 128 bits.
    fn limit(self) -> usize {
        match self {
            Self::Spread(limit) | Self::Buckets(limit) => limit.min(u32::MAX as usize),
        }
    }

    /// The positions of the chosen `steps`, which must be ascending.
    pub fn positions(self, steps: &[i64]) -> Vec<usize> {
        match self {
            _ if steps.len() <= 1 || self.limit() <= 1 => (0..steps.len().min(self.limit())).collect(),
            Self::Spread(_) => spread(steps, self.limit()),
            Self::Buckets(_) => buckets(steps, self.limit()),
        }
    }

    /// The chosen ones of `points`, which must be in the order of steps.
    pub fn choose(self, points: &Points) -> Points {
        self.positions(&points.steps).into_iter().map(|position| points.get(position)).collect()
    }
}

/// Requires at least two steps and a limit of at least two.
fn spread(steps: &[i64], limit: usize) -> Vec<usize> {
    if steps.len() <= limit {
        return (0..steps.len()).collect();
    }
    let (first, last) = (i128::from(steps[0]), i128::from(steps[steps.len() - 1]));
    let parts = limit as i128 - 1;
    let target = |index: usize| first + divide_round_half_even(index as i128 * (last - first), parts);
    let position = |index: usize| steps.partition_point(|step| i128::from(*step) < target(index));
    let mut chosen: Vec<usize> = (0..limit).map(position).collect();
    chosen.dedup();
    if chosen.len() == limit {
        return chosen;
    }
    // There are more points than positions, so all positions are distinct.
    let position =
        |index: usize| divide_round_half_even(index as i128 * (steps.len() as i128 - 1), parts) as usize;
    (0..limit).map(position).collect()
}

/// Divides, rounding half to even; the numerator must not be negative.
fn divide_round_half_even(numerator: i128, denominator: i128) -> i128 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    match (2 * rest).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

/// Requires at least two steps and a limit of at least two.
fn buckets(steps: &[i64], limit: usize) -> Vec<usize> {
    let end = steps.len() - 1;
    let (first, last) = (i128::from(steps[0]), i128::from(steps[end]));
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

impl SeriesView {
    /// A sample of the logged points in `steps`.
    pub async fn sample(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        sampling: Sampling,
    ) -> Result<Points> {
        let Some(span) = self.span() else { return Ok(Points::default()) };
        let folded = self.folded.map_or(0, |folded| folded.total.count);
        if folded + self.unfolded.len() as u64 <= EXACT_POINTS {
            return Ok(sampling.choose(&self.points(snapshot, steps).await?));
        }
        let wanted = steps.intersection(&span);
        if wanted.is_empty() {
            return Ok(Points::default());
        }
        let exponent = exponent_for(&wanted, sampling.limit().saturating_mul(CANDIDATES));
        let buckets = self.buckets(snapshot, wanted, exponent).await?;
        // The range may have few points even if the series has many.
        if buckets.iter().map(|bucket| bucket.count).sum::<u64>() <= EXACT_POINTS {
            return Ok(sampling.choose(&self.points(snapshot, steps).await?));
        }
        let mut candidates: Points = buckets.iter().map(|bucket| bucket.first).collect();
        if let Some(last) = buckets.last().filter(|last| last.count > 1) {
            candidates.push(last.last);
        }
        Ok(sampling.choose(&candidates))
    }
}
