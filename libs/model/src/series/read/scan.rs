//! Scan of points at full resolution, one chunk at a time, so that a long series is never in
//! memory as a whole.

use std::collections::VecDeque;

use matyan_store::{Error, Result, Snapshot, Version};

use super::own::ChunkPart;
use crate::series::points::{Points, StepRange};
use crate::series::series_rows::SeriesRef;

/// A scan of a step range, in progress. It holds everything that it needs except the chunks.
#[derive(Clone)]
pub struct PointScan {
    opened: Version,
    parts: VecDeque<ScannedPart>,
}

#[derive(Clone)]
struct ScannedPart {
    series_ref: SeriesRef,
    steps: StepRange,
    chunk: ChunkPart,
}

impl PointScan {
    pub(super) fn new(opened: Version) -> Self {
        Self { opened, parts: VecDeque::new() }
    }

    /// Adds points in `steps`, which must be after the others.
    pub(super) fn add(&mut self, series_ref: SeriesRef, steps: StepRange, chunks: Vec<ChunkPart>) {
        self.parts.extend(chunks.into_iter().map(|chunk| ScannedPart { series_ref, steps, chunk }));
    }

    /// Leaves out the chunks that end before this step, without reading them.
    pub fn skip_before(&mut self, step: i64) {
        while self.parts.pop_front_if(|part| part.chunk.last_step().is_none_or(|last| last < step)).is_some()
        {
        }
    }

    /// The next points in the order of steps, at least one; `None` at the end. Takes the snapshot
    /// that the scan was opened on, or any newer one. Fails with `SnapshotTooOld` if the run was
    /// deleted since the scan was opened, or the scan took more than ten minutes; open a new scan
    /// then.
    pub async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<Points>> {
        while let Some(part) = self.parts.front() {
            let points = match &part.chunk.entry {
                None => part.chunk.late.clone(),
                Some(entry) => match part.series_ref.chunk(snapshot, entry).await? {
                    Some(chunk) => part.chunk.over(chunk),
                    // The chunk was cleared after the scan was opened.
                    None if snapshot.version() > self.opened => return Err(Error::SnapshotTooOld),
                    None => return Err(part.series_ref.missing_chunk(entry)),
                },
            };
            let wanted = points.positions(&part.steps);
            self.parts.pop_front();
            if wanted.len() == points.len() && !points.is_empty() {
                return Ok(Some(points));
            }
            if !wanted.is_empty() {
                return Ok(Some(points.slice(wanted)));
            }
        }
        Ok(None)
    }
}
