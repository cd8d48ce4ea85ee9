//! Recomputes the buckets over added and removed sealed chunks, level by level from the bottom.

use std::collections::{BTreeMap, HashMap};

use matyan_store::{Result, Snapshot};

use super::{Page, SealedSummary, bucket_steps, bucket_summaries, buckets_over, exponent, page_number};
use crate::series::chunk::ChunkEntry;
use crate::series::curve::Stamps;
use crate::series::points::{Points, StepRange};
use crate::series::series_rows::SeriesRef;
use crate::series::summary::Summary;

/// The inputs of a rebuild.
pub(crate) struct PyramidRebuild<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) series_ref: SeriesRef,
    /// The pyramid before the change; `new` is the one after it.
    pub(crate) old: Option<SealedSummary>,
    pub(crate) new: SealedSummary,
    /// Sealed chunks after the change: at least all chunks in the buckets of the highest old level
    /// that contain the change.
    pub(crate) entries: &'a [ChunkEntry],
    /// Points of chunks that have not been stored yet, by id.
    pub(crate) new_points: &'a HashMap<u64, Points>,
}

/// New content of pages, by level and number; an empty page is to be cleared.
pub(crate) type Pages = BTreeMap<(u8, i64), Page>;

impl PyramidRebuild<'_> {
    /// The pages that change; `changed` holds every sealed chunk added or removed.
    pub(crate) async fn pages(&self, changed: &[&ChunkEntry]) -> Result<Pages> {
        let mut pages = Pages::new();
        for level in self.new.lowest..=self.new.top {
            for (first, last) in self.outdated_ranges(changed, level) {
                let buckets = self.buckets(&pages, level, first, last).await?;
                self.replace(&mut pages, level, first, last, buckets).await?;
            }
        }
        Ok(pages)
    }

    /// Ranges of buckets to recompute at a level, in order: the buckets over changed chunks, or all
    /// if the level is new.
    fn outdated_ranges(&self, changed: &[&ChunkEntry], level: u8) -> Vec<(i64, i64)> {
        let exponent = exponent(level);
        if self.old.is_none_or(|old| level > old.top) {
            return vec![buckets_over(self.new.summary.steps(), exponent)];
        }
        let counted = changed.iter().filter(|entry| entry.base.is_some_and(|base| base <= level));
        let mut ranges: Vec<(i64, i64)> =
            counted.map(|entry| buckets_over(entry.steps(), exponent)).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touching = next.0 <= kept.1;
            if touching {
                kept.1 = kept.1.max(next.1);
            }
            touching
        });
        ranges
    }

    /// The sums of the buckets one level down, and of the chunks whose base is this level.
    async fn buckets(&self, pages: &Pages, level: u8, first: i64, last: i64) -> Result<Page> {
        let mut buckets = BTreeMap::<i64, Option<Summary>>::new();
        if level > self.new.lowest {
            for (bucket, summary) in self.current_buckets(pages, level - 1, first << 2, last << 2 | 3).await?
            {
                Summary::add(buckets.entry(bucket >> 2).or_default(), &summary);
            }
        }
        let exponent = exponent(level);
        let steps = StepRange::new(bucket_steps(first, exponent).first, bucket_steps(last, exponent).last);
        for entry in
            self.entries.iter().filter(|entry| entry.base == Some(level) && entry.steps().overlaps(&steps))
        {
            let curve = match self.new_points.get(&entry.id) {
                Some(points) => points.curve(),
                None => self.series_ref.listed_curve(self.snapshot, entry, Stamps::Read).await?,
            };
            for (bucket, summary) in bucket_summaries(&curve, curve.positions(&steps), exponent) {
                Summary::add(buckets.entry(bucket).or_default(), &summary);
            }
        }
        Ok(buckets.into_iter().filter_map(|(bucket, summary)| Some((bucket, summary?))).collect())
    }

    /// Buckets of a level, including the changes so far.
    async fn current_buckets(
        &self,
        pages: &Pages,
        level: u8,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, Summary)>> {
        let mut buckets = self.stored_buckets(level, first, last).await?;
        buckets.retain(|(bucket, _)| !pages.contains_key(&(level, page_number(*bucket))));
        for page in
            pages.range((level, page_number(first))..=(level, page_number(last))).map(|(_, page)| page)
        {
            buckets.extend(page.iter().map(|(bucket, summary)| (*bucket, *summary)));
        }
        buckets.retain(|(bucket, _)| (first..=last).contains(bucket));
        Ok(buckets)
    }

    async fn stored_buckets(&self, level: u8, first: i64, last: i64) -> Result<Vec<(i64, Summary)>> {
        if self.old.is_none_or(|old| level < old.lowest || level > old.top) {
            return Ok(Vec::new());
        }
        self.series_ref.buckets(self.snapshot, level, first, last).await
    }

    /// Replaces the buckets from `first` to `last` by `buckets`.
    async fn replace(
        &self,
        pages: &mut Pages,
        level: u8,
        first: i64,
        last: i64,
        buckets: Page,
    ) -> Result<()> {
        let mut stored = self.stored_buckets(level, first, last).await?;
        stored.retain(|(bucket, _)| !pages.contains_key(&(level, page_number(*bucket))));
        for (bucket, summary) in stored {
            pages.entry((level, page_number(bucket))).or_default().insert(bucket, summary);
        }
        for page in
            pages.range_mut((level, page_number(first))..=(level, page_number(last))).map(|(_, page)| page)
        {
            page.retain(|bucket, _| !(first..=last).contains(bucket));
        }
        for (bucket, summary) in buckets {
            pages.entry((level, page_number(bucket))).or_default().insert(bucket, summary);
        }
        Ok(())
    }
}
