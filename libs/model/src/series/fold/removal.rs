//! Removal of a range of steps from a series whose blocks are all folded: chunks within the range are
//! dropped, chunks at its ends are rewritten, and the pyramid and the summary follow.
//!
//! A long range takes several transactions, each of which leaves a valid series. As for folds,
//! readers may use a dropped chunk for ten minutes.

use bytes::Bytes;
use matyan_store::{Batch, Result, Snapshot};

use super::{GARBAGE_US, rewrite::SeriesRewrite};
use crate::{
    cohort::uncollected_put,
    ids::SeriesNumber,
    series::{points::StepRange, series_rows::RunRef},
};

/// Number of chunks that a transaction drops: about two million points, whose buckets of the pyramid
/// are all read.
const CHUNKS: usize = 128;
/// Number of chunks of a series that is dropped as a whole, in one transaction, which needs a row for each
/// chunk but no bucket.
const CHUNKS_OF_SERIES: usize = 4_096;

/// Progress of the removal of a range of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Points in the range remain for the next transaction.
    InProgress,
    /// Points outside of the range remain.
    Done,
    /// No point of the series remains.
    Emptied,
}

/// A removal of points of a series, which must have no blocks.
#[derive(Clone, Copy, Debug)]
pub struct StepRemoval {
    pub run: RunRef,
    pub series: SeriesNumber,
    pub steps: StepRange,
    /// Dates the dropped chunks.
    pub now_us: i64,
}

/// Removes points of a series, as many as fit in a transaction.
pub async fn remove_folded_steps(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    removal: StepRemoval,
) -> Result<Removal> {
    remove_slice(snapshot, batch, removal, CHUNKS).await
}

/// Removes points of as many chunks as given.
pub(crate) async fn remove_slice(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    StepRemoval { run, series, steps, now_us }: StepRemoval,
    chunks: usize,
) -> Result<Removal> {
    let series_ref = run.series(series);
    uncollected_put(snapshot, batch, run.project, run.number).await?;
    let Some(folded) = series_ref.folded(snapshot).await? else { return Ok(Removal::Emptied) };
    let entries = series_ref.entries(snapshot, StepRange::ALL).await?;
    let due_us = now_us.saturating_add(GARBAGE_US);
    let is_whole = steps.covers(&folded.total.steps());
    if is_whole && entries.len() <= CHUNKS_OF_SERIES {
        for entry in &entries {
            batch.set(series_ref.garbage_key(due_us, entry.id), Bytes::new());
        }
        batch.clear_range(series_ref.chunk_list());
        batch.clear_range(series_ref.levels_from(0));
        batch.clear(series_ref.summary_key());
        return Ok(Removal::Emptied);
    }
    let mut touched: Vec<_> =
        entries.iter().filter(|entry| entry.steps().overlaps(&steps)).cloned().collect();
    let is_last = touched.len() <= chunks;
    touched.truncate(chunks);
    let rewrite = SeriesRewrite::without(snapshot, series_ref, folded, entries, &touched, &steps).await?;
    batch.append(rewrite.batch(&series_ref, due_us));
    Ok(if is_last { Removal::Done } else { Removal::InProgress })
}
