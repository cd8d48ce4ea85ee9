//! All points of a series in pieces, and optionally the values of an x axis. Chunks never
//! change in place, so each piece may be read from a newer snapshot than the previous one, and
//! a failed read may be repeated.

use std::collections::VecDeque;

use matyan_model::series::{PointScan, Points};
use matyan_store::Snapshot;

use crate::error::Result;

/// Maximum number of points in a piece: about 2 MB.
const PIECE: usize = 64 * 1024;

pub(crate) struct AllPoints {
    scan: PointScan,
    /// Pieces that have been read ahead.
    buffered: VecDeque<Points>,
    is_started: bool,
    is_read: bool,
}

impl AllPoints {
    pub(crate) fn new(scan: PointScan) -> Self {
        Self { scan, buffered: VecDeque::new(), is_started: false, is_read: false }
    }

    /// The next piece, and whether more follow. A series without points yields one empty
    /// piece.
    pub(crate) async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<(Points, bool)>> {
        while self.buffered.len() < 2 && !self.is_read {
            match self.scan.next(snapshot).await? {
                None => self.is_read = true,
                Some(points) if points.len() <= PIECE => self.buffered.push_back(points),
                Some(points) => {
                    let starts = (0..points.len()).step_by(PIECE);
                    let pieces = starts.map(|start| points.slice(start..points.len().min(start + PIECE)));
                    self.buffered.extend(pieces);
                }
            }
        }
        let is_first = !std::mem::replace(&mut self.is_started, true);
        let piece = self.buffered.pop_front().or(is_first.then(Points::default));
        Ok(piece.map(|piece| (piece, !self.buffered.is_empty())))
    }
}

/// An x axis, read in parallel with the steps of a series.
pub(crate) struct AxisReader {
    scan: PointScan,
    /// The piece read last.
    points: Points,
    /// The number of steps looked up so far, with the results; kept so that a failed call
    /// can be repeated.
    at: usize,
    indexes: Vec<u32>,
    values: Vec<f64>,
}

impl AxisReader {
    pub(crate) fn new(scan: PointScan) -> Self {
        Self { scan, points: Points::default(), at: 0, indexes: Vec::new(), values: Vec::new() }
    }

    /// The indexes of the steps that the axis has, and its values there. Steps must ascend,
    /// across calls as well.
    pub(crate) async fn values(
        &mut self,
        snapshot: &dyn Snapshot,
        steps: &[i64],
    ) -> Result<(Vec<u32>, Vec<f64>)> {
        while let Some(step) = steps.get(self.at) {
            if self.points.last().is_none_or(|last| last.step < *step) {
                match self.scan.next(snapshot).await? {
                    Some(points) => self.points = points,
                    None => break,
                }
                continue;
            }
            if let Ok(index) = self.points.steps.binary_search(step) {
                self.indexes.push(u32::try_from(self.at).unwrap_or(u32::MAX));
                self.values.push(self.points.values[index]);
            }
            self.at += 1;
        }
        self.at = 0;
        Ok((std::mem::take(&mut self.indexes), std::mem::take(&mut self.values)))
    }
}
