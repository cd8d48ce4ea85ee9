//! Folding: a resumable task that turns the blocks of a run into chunks, by series.
//!
//! A fold takes the run's blocks below a sequence number and processes their series in ascending
//! order, one slice per transaction of about 3 MB by the count of the store. Blocks with too many
//! points of one series are divided into parts, which are folded one after another. Every
//! transaction checks the fold row and the row that says the run is live; it writes the chunks,
//! lists, pages, and summaries of its slice, and advances the fold row. Readers skip points that
//! are already folded according to the fold row; the last transaction clears the blocks. So a crash
//! between any two transactions neither loses nor duplicates points: a new fold continues from the
//! row. Within a slice, everything is decided by counts, not by clocks.
//!
//! A replaced chunk is removed from the list immediately and from the store ten minutes later,
//! so that readers can finish.
//!
//! This module deliberately has no thread. Folding is CPU-bound between its awaits, so run it
//! off the async threads.

mod fold_part;
mod policy;
mod removal;
mod rewrite;

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{TryStreamExt, stream::FuturesOrdered};
use matyan_store::{Batch, Error, Key, Result, Snapshot, Store, Transaction, Value, transact};

use self::fold_part::{FoldPart, GROUP_SERIES, PendingSeries};
pub use self::policy::{StoredBlocks, UnfoldedBlocks};
#[cfg(test)]
pub(crate) use self::removal::remove_slice;
pub use self::removal::{Removal, StepRemoval, remove_folded_steps};
use self::rewrite::SeriesRewrite;
use super::chunk::CHUNK_POINTS;
use super::fold_row::FoldRow;
use super::header::FoldedSummary;
use super::series_rows::RunRef;
use super::wire::FormatError;
use crate::cohort::uncollected_put;
use crate::keys;

/// Bytes of blocks that one fold takes. A longer backlog takes several folds.
const FOLD_BYTES: usize = 16 << 20;
/// Size at which a transaction ends, by the count of the store. The last series may add the same
/// amount.
const TRANSACTION_BYTES: usize = 3 << 20;
/// Number of points from blocks at which a transaction ends: well below a second of work.
const TRANSACTION_POINTS: usize = 256 * 1024;
/// Bound of the points in chunks of all series that are rewritten concurrently: 8 MB. One series may have more.
const REWRITTEN_POINTS: usize = 16 * CHUNK_POINTS;
/// Time for which a replaced or removed chunk is kept for readers that have an older chunk list.
const GARBAGE_US: i64 = 600 * 1_000_000;

/// The row that exists while the run is live under its number, and its value for that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    pub key: Key,
    pub value: Value,
}

/// Outcome of a step of a fold, or of a whole fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldStatus {
    /// More steps are needed.
    InProgress,
    /// The blocks are folded and cleared.
    Done,
    /// The run is dead, or its id has a new run. Drop the fold.
    RunDead,
    /// Another fold has advanced the run. Drop this one; start a new one if needed.
    Superseded,
}

/// A fold of one run, in progress.
pub struct Fold {
    run: RunRef,
    /// The fold row as stored; the next transaction expects it.
    row: FoldRow,
    part: FoldPart,
    /// Blocks after the part.
    later: VecDeque<(u64, Bytes)>,
    /// The run has ended, so the unsealed chunks of each series are merged into one.
    ended: bool,
    /// Most series of a slice. Reduced where reads are so slow that a snapshot ends before a slice is
    /// computed.
    most_series: usize,
}

impl Fold {
    /// Resumes the fold in progress, or starts a new one if there are blocks.
    pub async fn begin(snapshot: &dyn Snapshot, run: RunRef, ended: bool) -> Result<Option<Self>> {
        let row = run.fold_row(snapshot).await?;
        let resumed = row.position.is_some();
        // A resumed fold must process the blocks that it started with, and no others.
        let (end, room) = if resumed { (row.end, usize::MAX) } else { (u64::MAX, FOLD_BYTES) };
        let mut later: VecDeque<_> = run.blocks(snapshot, row.first_block()..end, room).await?.into();
        let part =
            if resumed { FoldPart::resumed(&mut later, row.end)? } else { FoldPart::next(&mut later)? };
        Ok(part.map(|part| Self { run, row, part, later, ended, most_series: usize::MAX }))
    }

    /// Folds a slice of series in one transaction. `now_us` dates the replaced chunks.
    pub async fn step(&mut self, store: &dyn Store, live: &LiveRow, now_us: i64) -> Result<FoldStatus> {
        let (row, folding) = loop {
            let fold = &*self;
            let slice = transact(store, async |mut transaction: Transaction| {
                transaction.set_buffered();
                let answer = fold.slice(&mut transaction, live, now_us).await?;
                Ok::<_, Error>((transaction, answer))
            });
            match slice.await {
                Ok((answer, _)) => break answer,
                Err(Error::SnapshotTooOld) if self.most_series > 1 => {
                    self.most_series = (self.most_series / 2).min(GROUP_SERIES / 2);
                }
                Err(error) => return Err(error),
            }
        };
        self.row = row;
        if folding == FoldStatus::Done
            && let Some(next) = FoldPart::next(&mut self.later)?
        {
            self.part = next;
            return Ok(FoldStatus::InProgress);
        }
        Ok(folding)
    }

    async fn slice(
        &self,
        transaction: &mut Transaction,
        live: &LiveRow,
        now_us: i64,
    ) -> Result<(FoldRow, FoldStatus)> {
        let key = keys::fold(self.run.project, self.run.number);
        if transaction.get(&live.key).await?.as_ref() != Some(&live.value) {
            return Ok((self.row, FoldStatus::RunDead));
        }
        if FoldRow::decode(transaction.get(&key).await?.as_ref())? != self.row {
            return Ok((self.row, FoldStatus::Superseded));
        }
        // A separate batch, because the transaction is borrowed for reading at the same
        // time.
        let mut batch = Batch::default();
        let position = self.fold_from(transaction.unchecked(), &mut batch, now_us).await?;
        if position.is_none() {
            batch.clear_range(keys::blocks_between(self.run.project, self.run.number, 0, self.part.end));
        }
        let row = FoldRow { end: self.part.end, position };
        batch.set(key, row.encode());
        // The summaries of its series may have changed.
        uncollected_put(transaction.unchecked(), &mut batch, self.run.project, self.run.number).await?;
        transaction.batch().append(batch);
        Ok((row, if position.is_none() { FoldStatus::Done } else { FoldStatus::InProgress }))
    }

    /// Folds series until the transaction is full. Returns the position to continue from;
    /// `None` at the end.
    async fn fold_from(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        now_us: i64,
    ) -> Result<Option<(u32, i64)>> {
        let mut slices = self.part.slices(self.row.position)?;
        let mut bytes = 0;
        let mut points = 0;
        let mut series_left = self.most_series;
        let mut position = None;
        while bytes < TRANSACTION_BYTES && points < TRANSACTION_POINTS && series_left > 0 {
            let mut group = slices.next_group()?;
            if group.is_empty() {
                return Ok(None);
            }
            // The next transaction rewrites the series that are left out here, like the code below.
            group.truncate(series_left);
            series_left -= group.len();
            for rewrites in self.rewritten_together(snapshot, group).await? {
                let rewrites =
                    rewrites.into_iter().map(|(pending, old)| self.rewrite(snapshot, pending, old));
                let mut rewrites: FuturesOrdered<_> = rewrites.collect();
                // If reads are immediate, a series is only rewritten once the series before it is.
                while let Some((index, rewrite)) = rewrites.try_next().await? {
                    let series = self.part.series[index];
                    points += rewrite.points;
                    let next_step = rewrite.next_step;
                    let due_us = now_us.saturating_add(GARBAGE_US);
                    let written = rewrite.batch(&self.run.series(series), due_us);
                    bytes += written.bytes();
                    batch.append(written);
                    if let Some(step) = next_step {
                        return Ok(Some((series.0, step)));
                    }
                    position = self.part.series.get(index + 1).map(|series| (series.0, i64::MIN));
                    // The remaining series of the group are left to the next transaction.
                    if bytes >= TRANSACTION_BYTES {
                        return Ok(position);
                    }
                }
            }
        }
        Ok(position)
    }

    /// Reads the summaries of a group, and divides it so that the chunks of each part fit in memory.
    async fn rewritten_together(
        &self,
        snapshot: &dyn Snapshot,
        group: Vec<PendingSeries>,
    ) -> Result<Vec<Vec<FoundSeries>>> {
        let numbers: Vec<_> = group.iter().map(|pending| self.part.series[pending.index]).collect();
        let folded = self.run.folded_series(snapshot, &numbers).await?;
        let mut parts: Vec<Vec<_>> = Vec::new();
        let mut points = 0_usize;
        for (pending, old) in group.into_iter().zip(folded) {
            let rewritten = old.map_or(0, |old| SeriesRewrite::rewritten_at_most(&old, &pending.points));
            points = points.saturating_add(rewritten);
            match parts.last_mut().filter(|_| points <= REWRITTEN_POINTS) {
                Some(part) => part.push((pending, old)),
                None => {
                    parts.push(vec![(pending, old)]);
                    points = rewritten;
                }
            }
        }
        Ok(parts)
    }

    async fn rewrite(
        &self,
        snapshot: &dyn Snapshot,
        pending: PendingSeries,
        old: Option<FoldedSummary>,
    ) -> Result<(usize, SeriesRewrite)> {
        let series_ref = self.run.series(self.part.series[pending.index]);
        let is_last = self.ended && self.later.is_empty();
        let rewrite = SeriesRewrite::compute(snapshot, series_ref, old, pending.points, is_last).await?;
        Ok((pending.index, rewrite))
    }
}

/// A series with unfolded points, and its summary row.
type FoundSeries = (PendingSeries, Option<FoldedSummary>);

/// Folds until the run has no blocks left, for a run that is not written in the meantime.
/// `now_us` is the clock.
pub async fn fold_run(
    store: &dyn Store,
    run: RunRef,
    live: &LiveRow,
    ended: bool,
    now_us: &(dyn Fn() -> i64 + Sync),
) -> Result<FoldStatus> {
    loop {
        let snapshot = store.snapshot().await?;
        let Some(mut fold) = Fold::begin(snapshot.as_ref(), run, ended).await? else {
            return Ok(FoldStatus::Done);
        };
        drop(snapshot);
        loop {
            match fold.step(store, live, now_us()).await? {
                FoldStatus::InProgress => {}
                FoldStatus::Done => break,
                end => return Ok(end),
            }
        }
    }
}
