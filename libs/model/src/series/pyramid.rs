//! Pyramid: summaries of buckets of steps over the sealed chunks of a series, so that a chart
//! reads about as many rows as it has pixels, no matter how long the series is.
//!
//! Level l has aligned buckets of 2^(2l+1) steps, so each bucket is four times as wide as one
//! on the level below, and buckets nest. A chunk is included from its *base* level up: the
//! lowest level at which a bucket holds at least 64 of its points on average (128 for steps
//! without gaps). Below its base a chunk is sparse, so the chunk itself is read. The highest
//! level stored is the first at which all sealed points are within 256 buckets, so that adding
//! a level is cheap.
//!
//! A bucket is the sum of its buckets one level down and of the points of the chunks whose base
//! is its level. When sealed chunks are added or rewritten, the buckets over them are
//! recomputed from these; nothing is ever subtracted from a bucket.
//!
//! Buckets are stored in pages of 256 by index, and empty ones are omitted. Format of a page:
//! the byte 1; the number n of buckets as varint; their positions in the page, in ascending
//! order, as packed integers; their summaries.

pub(super) mod rebuild;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::curve::Curve;
use super::packed::{Integers, put_integers};
use super::points::StepRange;
use super::summary::{Summary, put_summaries, summaries};
use super::wire::{FormatError, Input, put_varint};

const FORMAT: u8 = 1;
/// The highest level has buckets of 2^63 steps.
pub(crate) const MAX_LEVEL: u8 = 31;
/// Exponent of the number of buckets in a page, which is also the maximum span of the top
/// level.
const PAGE_EXPONENT: u32 = 8;
/// Minimum average number of points per bucket at the base level of a chunk; the maximum is
/// 256.
const BASE_POINTS: u128 = 64;

/// The exponent of a level: its buckets have 2^exponent steps.
pub(crate) fn exponent(level: u8) -> u32 {
    2 * u32::from(level) + 1
}

/// The highest level whose buckets nest in buckets of 2^exponent steps.
pub(crate) fn level_for_exponent(exponent: u32) -> Option<u8> {
    exponent.checked_sub(1).map(|exponent| (exponent / 2) as u8)
}

/// The steps of a bucket of 2^exponent steps; `exponent` is at most 63.
pub(crate) fn bucket_steps(index: i64, exponent: u32) -> StepRange {
    let first = index << exponent;
    StepRange::new(first, first | ((1_i64 << exponent).wrapping_sub(1)))
}

/// The first and the last bucket that hold steps of a range.
pub(crate) fn buckets_over(steps: StepRange, exponent: u32) -> (i64, i64) {
    (steps.first >> exponent, steps.last >> exponent)
}

/// The page that holds a bucket.
pub(crate) fn page_number(bucket: i64) -> i64 {
    bucket >> PAGE_EXPONENT
}

/// The lowest level that includes a chunk with this many points.
pub(crate) fn base_level(count: usize, steps: &StepRange) -> u8 {
    let span = u128::from(steps.last.wrapping_sub(steps.first) as u64) + 1;
    (0..=MAX_LEVEL)
        .find(|level| (count as u128) << exponent(*level) >= BASE_POINTS * span)
        .unwrap_or(MAX_LEVEL)
}

/// The smallest exponent at which `steps` are within `buckets` aligned buckets. The minimum is two
/// buckets, because step 0 is a bucket boundary at every exponent.
pub fn exponent_for(steps: &StepRange, buckets: usize) -> u32 {
    (0..=63).find(|exponent| buckets_between(steps, *exponent) < buckets.max(2) as u64).unwrap_or(63)
}

fn buckets_between(steps: &StepRange, exponent: u32) -> u64 {
    (steps.last >> exponent).wrapping_sub(steps.first >> exponent) as u64
}

/// The sealed points of a series, and the levels of the pyramid over them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SealedSummary {
    /// Summary of all points in sealed chunks.
    pub(crate) summary: Summary,
    /// No sealed chunk has a base below `lowest` or above `highest`.
    pub(crate) lowest: u8,
    pub(crate) highest: u8,
    /// The highest level stored.
    pub(crate) top: u8,
}

impl SealedSummary {
    pub(crate) fn new(summary: Summary, lowest: u8, highest: u8) -> Self {
        let steps = summary.steps();
        let top = (highest..=MAX_LEVEL)
            .find(|level| buckets_between(&steps, exponent(*level)) < 1 << PAGE_EXPONENT)
            .unwrap_or(MAX_LEVEL);
        Self { summary, lowest, highest, top }
    }
}

/// Buckets of one page by index.
pub(crate) type Page = BTreeMap<i64, Summary>;

/// Encodes a page, which must have at least one bucket.
pub(crate) fn encode_page(page: &Page) -> Bytes {
    let positions: Vec<i64> = page.keys().map(|bucket| bucket & ((1 << PAGE_EXPONENT) - 1)).collect();
    let summaries: Vec<Summary> = page.values().copied().collect();
    let mut out = Vec::with_capacity(64 * page.len());
    out.push(FORMAT);
    put_varint(&mut out, positions.len() as u64);
    put_integers(&mut out, &positions);
    put_summaries(&mut out, &summaries);
    out.into()
}

pub(crate) fn decode_page(number: i64, bytes: &[u8]) -> Result<Vec<(i64, Summary)>, FormatError> {
    let mut input = Input::with_format(bytes, FORMAT)?;
    let count = input.count(1 << PAGE_EXPONENT)?;
    let positions = Integers::open(&mut input, count)?;
    let summaries = summaries(&mut input, count)?;
    input.end()?;
    let mut least = 0;
    summaries
        .into_iter()
        .enumerate()
        .map(|(index, summary)| {
            let position = positions.get(index);
            if position < least || position >= 1 << PAGE_EXPONENT {
                return Err(FormatError("buckets outside their page, or out of order"));
            }
            least = position + 1;
            Ok(((number << PAGE_EXPONENT) | position, summary))
        })
        .collect()
}

/// Summarizes the points at these positions by buckets of 2^exponent steps.
pub(crate) fn bucket_summaries<'a>(
    curve: &'a Curve<'_>,
    range: Range<usize>,
    exponent: u32,
) -> impl Iterator<Item = (i64, Summary)> + 'a {
    let mut start = range.start;
    std::iter::from_fn(move || {
        if start >= range.end {
            return None;
        }
        let bucket = curve.steps.get(start) >> exponent;
        let end = curve.steps.end(start..range.end, bucket_steps(bucket, exponent).last);
        let summary = Summary::from_curve(curve, start..end)?;
        start = end;
        Some((bucket, summary))
    })
}

#[cfg(test)]
mod tests;
