//! The pyramid over the sealed chunks of a series: summaries of buckets of steps, so that a chart reads as many rows as it
//! has pixels, whatever the length.
//!
//! Level l has buckets of 2^(2l+1) steps, aligned, so each level is four times wider than the one below and buckets nest. A
//! chunk counts from its *base* up: the lowest level at which a bucket holds at least 64 of its points on average (128 for steps
//! without gaps). Below its base a chunk is read itself: it is sparse there. The highest level stored is the first at which
//! all sealed points lie within 256 buckets, so that growing by a level is cheap.
//!
//! A bucket is the sum of its buckets one level down and of the points of chunks whose base is its level. When sealed
//! chunks are added or rewritten, the buckets over them are computed anew from there; nothing is taken out of one.
//!
//! Buckets lie in pages of 256 by index, empty ones left out. Format of a page: the byte 1; the number n of buckets as
//! varint; their places in the page, rising, as packed integers; their summaries.

pub(super) mod rebuild;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::packed::{Integers, put_integers};
use super::points::{Points, StepRange};
use super::summary::{Summary, put_summaries, summaries};
use super::wire::{Input, Malformed, put_varint};

const FORMAT: u8 = 1;
/// The highest level has buckets of 2^63 steps.
pub(crate) const MAX_LEVEL: u8 = 31;
/// Exponent of the buckets in a page, and most that the top level spans.
const PAGE_EXPONENT: u32 = 8;
/// A chunk's base level holds 64 to 256 of its points a bucket.
const BASE_POINTS: u128 = 64;

/// Buckets of one level have 2^exponent steps.
pub(crate) fn exponent(level: u8) -> u32 {
    2 * u32::from(level) + 1
}

/// The highest level whose buckets nest in those of 2^exponent steps.
pub(crate) fn level_within(exponent: u32) -> Option<u8> {
    exponent.checked_sub(1).map(|exponent| (exponent / 2) as u8)
}

/// The steps of a bucket of 2^exponent steps, exponent at most 63.
pub(crate) fn bucket_steps(index: i64, exponent: u32) -> StepRange {
    let first = index << exponent;
    StepRange::new(first, first | ((1_i64 << exponent).wrapping_sub(1)))
}

/// The page of a bucket.
pub(crate) fn page_of(bucket: i64) -> i64 {
    bucket >> PAGE_EXPONENT
}

/// The lowest level that counts a chunk of so many points in.
pub(crate) fn base_level(count: usize, steps: &StepRange) -> u8 {
    let span = u128::from(steps.last.wrapping_sub(steps.first) as u64) + 1;
    let full = |level: &u8| (count as u128) << exponent(*level) >= BASE_POINTS * span;
    (0..=MAX_LEVEL).find(full).unwrap_or(MAX_LEVEL)
}

/// The smallest exponent at which `steps` lie within `buckets` aligned buckets (two at least, as zero is a border of all).
pub fn exponent_for(steps: &StepRange, buckets: usize) -> u32 {
    let within = |exponent: &u32| buckets_between(steps, *exponent) < buckets.max(2) as u64;
    (0..=63).find(within).unwrap_or(63)
}

fn buckets_between(steps: &StepRange, exponent: u32) -> u64 {
    (steps.last >> exponent).wrapping_sub(steps.first >> exponent) as u64
}

/// What the pyramid of a series is built over and how far up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sealed {
    /// Of all points in sealed chunks.
    pub(crate) summary: Summary,
    /// No sealed chunk has a lower base than `lowest`, and none a higher one than `highest`.
    pub(crate) lowest: u8,
    pub(crate) highest: u8,
    /// The highest level stored.
    pub(crate) top: u8,
}

impl Sealed {
    pub(crate) fn new(summary: Summary, lowest: u8, highest: u8) -> Self {
        let steps = summary.steps();
        let narrow = |level: &u8| buckets_between(&steps, exponent(*level)) < 1 << PAGE_EXPONENT;
        let top = (highest..=MAX_LEVEL).find(narrow).unwrap_or(MAX_LEVEL);
        Self { summary, lowest, highest, top }
    }
}

/// Buckets of one page by index.
pub(crate) type Page = BTreeMap<i64, Summary>;

/// Of at least one bucket.
pub(crate) fn encode_page(page: &Page) -> Bytes {
    let places: Vec<i64> = page.keys().map(|bucket| bucket & ((1 << PAGE_EXPONENT) - 1)).collect();
    let summaries: Vec<Summary> = page.values().copied().collect();
    let mut out = Vec::with_capacity(64 * page.len());
    out.push(FORMAT);
    put_varint(&mut out, places.len() as u64);
    put_integers(&mut out, &places);
    put_summaries(&mut out, &summaries);
    out.into()
}

pub(crate) fn decode_page(number: i64, bytes: &[u8]) -> Result<Vec<(i64, Summary)>, Malformed> {
    let mut input = Input::of_format(bytes, FORMAT)?;
    let count = input.count(1 << PAGE_EXPONENT)?;
    let places = Integers::open(&mut input, count)?;
    let summaries = summaries(&mut input, count)?;
    input.end()?;
    let bucket = |(index, summary)| match places.get(index) {
        place @ 0..256 => Ok(((number << PAGE_EXPONENT) | place, summary)),
        _ => Err(Malformed("bucket outside its page")),
    };
    summaries.into_iter().enumerate().map(bucket).collect()
}

/// Summaries of points by bucket of 2^exponent steps.
pub(crate) fn bucketed(
    points: &Points,
    range: Range<usize>,
    exponent: u32,
) -> impl Iterator<Item = (i64, Summary)> + '_ {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let steps = points.steps.get(start..range.end).filter(|steps| !steps.is_empty())?;
        let bucket = steps[0] >> exponent;
        let end = start + steps.partition_point(|step| *step >> exponent == bucket);
        let summary = Summary::of(points, start..end)?;
        start = end;
        Some((bucket, summary))
    })
}

#[cfg(test)]
mod tests;
