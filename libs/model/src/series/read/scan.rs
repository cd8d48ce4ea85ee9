//! Scan of points at full resolution, one chunk at a time, so that a long series is never in
//! memory as a whole.

use std::collections::VecDeque;

use matyan_store::{Error, Result, Snapshot, Version};

use super::ChunkPart;
use crate::series::points::{Points, StepRange};
use crate::series::series_rows::SeriesRef;

/// A scan of a step range, in progress. It holds everything that it needs except the chunks.
#[derive(Clone)]
pub struct PointScan {
    series_ref: SeriesRef,
    steps: StepRange,
    opened: Version,
    parts: VecDeque<ChunkPart>,
}

impl PointScan {
    pub(super) fn new(
        series_ref: SeriesRef,
        steps: StepRange,
        opened: Version,
        parts: Vec<ChunkPart>,
    ) -> Self {
        Self { series_ref, steps, opened, parts: parts.into() }
    }

    /// The next points in the order of steps, at least one; `None` at the end. Takes the
    /// snapshot that the scan was opened on, or any newer one. Fails with `SnapshotTooOld`
    /// if the run was deleted meanwhile or the scan took more than ten minutes; open a new
    /// scan then.
    pub async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<Points>> {
        while let Some(part) = self.parts.front() {
            let points = match &part.entry {
                None => part.late.clone(),
                Some(entry) => match self.series_ref.chunk(snapshot, entry).await? {
                    Some(chunk) => part.over(chunk),
                    // The chunk was cleared after the scan was opened.
                    None if snapshot.version() > self.opened => return Err(Error::SnapshotTooOld),
                    None => {
                        return Err(Error::corrupt(format!("chunk {} is listed but missing", entry.id)));
                    }
                },
            };
            self.parts.pop_front();
            let wanted = points.positions(&self.steps);
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
