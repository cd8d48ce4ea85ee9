//! Buckets of a step range, for charts. Pyramid pages are read where possible, and points
//! otherwise.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use matyan_store::{Result, Snapshot};

use super::OwnSeries;
use super::own::ChunkPart;
use crate::series::chunk::CHUNK_POINTS;
use crate::series::curve::{Curve, Stamps};
use crate::series::points::StepRange;
use crate::series::pyramid::{SealedSummary, bucket_steps, bucket_summaries, level_for_exponent};
use crate::series::summary::Summary;

/// Number of rows of the chunk list between two ranges up to which both ranges are read as one. Each separate
/// range takes two calls.
const GAP_ROWS: u64 = 16;
/// Ranges that are read at a time.
const RANGES_AT_A_TIME: usize = 16;

impl OwnSeries {
    /// Summaries of the points in `steps`, one for each non-empty aligned bucket of
    /// 2^exponent steps (`exponent` is at most 63), in the order of steps. A bucket that is
    /// partly outside `steps` includes only the points inside.
    pub(super) async fn buckets(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        exponent: u32,
        stamps: Stamps,
    ) -> Result<Vec<Summary>> {
        let Some(span) = self.span() else { return Ok(Vec::new()) };
        let wanted = steps.intersection(&span);
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let exponent = exponent.min(63);
        let mut sums = BucketSums {
            wanted,
            exponent,
            stamps,
            read: self.buckets_to_read(wanted, span, exponent),
            buckets: BucketList::default(),
        };
        let pyramid = self.level(exponent);
        let stored = match pyramid {
            Some((level, _)) => self.stored_buckets(snapshot, level, &sums).await?,
            None => BucketList::default(),
        };
        self.add_read(snapshot, pyramid, &mut sums).await?;
        Ok(stored.merged_with(sums.buckets))
    }

    /// The level to read, and the pyramid that it belongs to.
    fn level(&self, exponent: u32) -> Option<(u8, SealedSummary)> {
        let sealed = self.folded?.sealed?;
        let level = level_for_exponent(exponent)?.min(sealed.top);
        (level >= sealed.lowest).then_some((level, sealed))
    }

    /// Buckets for which the pyramid does not have the right sum: buckets with unfolded points
    /// before the end of the chunks, and buckets that are partly outside the range.
    fn buckets_to_read(&self, wanted: StepRange, span: StepRange, exponent: u32) -> BTreeSet<i64> {
        let folded = self.folded.map_or(i64::MIN, |folded| folded.total.last.step);
        let late = self.unfolded.positions(&StepRange::new(wanted.first, wanted.last.min(folded)));
        let mut read: BTreeSet<i64> = self.unfolded.steps[late].iter().map(|step| step >> exponent).collect();
        let first = wanted.first >> exponent;
        if wanted.first > span.first && bucket_steps(first, exponent).first < wanted.first {
            read.insert(first);
        }
        let last = wanted.last >> exponent;
        if wanted.last < span.last && bucket_steps(last, exponent).last > wanted.last {
            read.insert(last);
        }
        read
    }

    /// The sums of the pyramid, except of the buckets that are computed from points alone.
    async fn stored_buckets(
        &self,
        snapshot: &dyn Snapshot,
        level: u8,
        sums: &BucketSums,
    ) -> Result<BucketList> {
        let mut stored = BucketList::default();
        let level_exponent = crate::series::pyramid::exponent(level);
        let first = sums.wanted.first >> level_exponent;
        let last = sums.wanted.last >> level_exponent;
        for (bucket, summary) in self.series_ref.buckets(snapshot, level, first, last).await? {
            let wide = bucket >> (sums.exponent - level_exponent);
            if (first..=last).contains(&bucket) && !sums.read.contains(&wide) {
                stored.add(wide, summary);
            }
        }
        Ok(stored)
    }

    /// Adds the points that the stored level does not include: unsealed and sparse chunks, unfolded
    /// points, and buckets to be read.
    async fn add_read(
        &self,
        snapshot: &dyn Snapshot,
        pyramid: Option<(u8, SealedSummary)>,
        sums: &mut BucketSums,
    ) -> Result<()> {
        let ranges = match pyramid {
            // All sealed chunks are included, and the unsealed ones come after them.
            Some((level, sealed)) if sealed.highest <= level => {
                let last = sealed.summary.last.step;
                let mut ranges = sums.ranges_to_read(last, self.steps_of_rows(GAP_ROWS));
                ranges.extend(last.checked_add(1).map(|next| StepRange::new(next, i64::MAX)));
                ranges
            }
            _ => vec![StepRange::ALL],
        };
        let wanted = sums.wanted;
        let ranges = ranges.into_iter().map(|range| range.intersection(&wanted));
        let read: Vec<_> = stream::iter(ranges)
            .map(|range| async move { self.parts(snapshot, range).await.map(|parts| (range, parts)) })
            .buffered(RANGES_AT_A_TIME)
            .try_collect()
            .await?;
        for (range, parts) in read {
            self.add_parts(snapshot, pyramid, (range, parts), sums).await?;
        }
        Ok(())
    }

    /// The steps that about this many rows of the list of chunks are for.
    fn steps_of_rows(&self, rows: u64) -> u64 {
        self.folded.map_or(0, |folded| {
            let steps = folded.total.steps();
            let chunks = folded.total.count / CHUNK_POINTS as u64 + 1;
            (steps.last.abs_diff(steps.first) / chunks).saturating_mul(rows)
        })
    }

    async fn add_parts(
        &self,
        snapshot: &dyn Snapshot,
        pyramid: Option<(u8, SealedSummary)>,
        (steps, parts): (StepRange, Vec<ChunkPart>),
        sums: &mut BucketSums,
    ) -> Result<()> {
        for part in parts {
            let counted = part
                .entry
                .as_ref()
                .and_then(|entry| entry.base)
                .zip(pyramid)
                .is_some_and(|(base, (level, _))| base <= level);
            match &part.entry {
                Some(entry) if counted && part.late.is_empty() && !sums.reads(&entry.steps()) => {}
                Some(entry) if part.late.is_empty() && sums.is_one_bucket(&entry.steps()) => {
                    sums.buckets.add(entry.steps().first >> sums.exponent, entry.summary);
                }
                _ => {
                    let curve = part.curve(snapshot, &self.series_ref, sums.stamps).await?;
                    sums.add_points(&curve, steps, counted);
                }
            }
        }
        Ok(())
    }
}

/// Summaries of buckets in ascending order.
#[derive(Default)]
struct BucketList(Vec<(i64, Summary)>);

impl BucketList {
    /// Adds points of a bucket, which must not be before the last one.
    fn add(&mut self, bucket: i64, summary: Summary) {
        match self.0.last_mut() {
            Some((last, sum)) if *last == bucket => *sum = sum.merged(&summary),
            _ => self.0.push((bucket, summary)),
        }
    }

    fn merged_with(self, other: Self) -> Vec<Summary> {
        let mut merged = Self(Vec::with_capacity(self.0.len().max(other.0.len())));
        let mut others = other.0.into_iter().peekable();
        for (bucket, summary) in self.0 {
            while let Some((before, summary)) = others.next_if(|(other, _)| *other < bucket) {
                merged.add(before, summary);
            }
            merged.add(bucket, summary);
        }
        for (bucket, summary) in others {
            merged.add(bucket, summary);
        }
        merged.0.into_iter().map(|(_, summary)| summary).collect()
    }
}

/// The buckets summed so far from points and chunks, which are read in the order of steps.
struct BucketSums {
    wanted: StepRange,
    exponent: u32,
    stamps: Stamps,
    /// Buckets that are computed from points alone.
    read: BTreeSet<i64>,
    buckets: BucketList,
}

impl BucketSums {
    /// Adds the points of a part in `steps`. If the pyramid includes the part, only points in
    /// buckets that are computed from points are added.
    fn add_points(&mut self, curve: &Curve<'_>, steps: StepRange, counted: bool) {
        for (bucket, summary) in bucket_summaries(curve, curve.positions(&steps), self.exponent) {
            if !counted || self.read.contains(&bucket) {
                self.buckets.add(bucket, summary);
            }
        }
    }

    /// The steps up to `last` in buckets that are computed from points: ranges that do not overlap, and
    /// have more than `gap` steps between them. So the list of chunks is not read between the ends of a long
    /// chart, or between its late points.
    fn ranges_to_read(&self, last: i64, gap: u64) -> Vec<StepRange> {
        let mut ranges: Vec<StepRange> = Vec::new();
        for bucket in &self.read {
            let first = bucket << self.exponent;
            let end = (first | ((1_u64 << self.exponent) - 1).cast_signed()).min(last);
            match ranges.last_mut() {
                _ if first > end => {}
                Some(previous) if previous.last.abs_diff(first) <= gap.max(1) => previous.last = end,
                _ => ranges.push(StepRange::new(first, end)),
            }
        }
        ranges
    }

    /// Whether buckets over these steps are computed from points.
    fn reads(&self, steps: &StepRange) -> bool {
        self.read.range(steps.first >> self.exponent..=steps.last >> self.exponent).next().is_some()
    }

    fn is_one_bucket(&self, steps: &StepRange) -> bool {
        self.wanted.covers(steps) && steps.first >> self.exponent == steps.last >> self.exponent
    }
}
