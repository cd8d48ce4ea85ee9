//! All points of a series in pieces, and optionally the values of an x axis. Chunks never
//! change in place, so each piece may be read from a newer snapshot than the previous one, and
//! a failed read may be repeated.

use std::collections::VecDeque;

use matyan_model::series::{PointScan, Points};
use matyan_store::Snapshot;

use crate::error::Result;

/// Maximum number of points in a piece: about 2 MB.
const PIECE: usize = 64 * 1024;

pub(crate) struct Whole {
    scan: PointScan,
    /// Pieces that have been read ahead.
    ahead: VecDeque<Points>,
    is_begun: bool,
    is_read: bool,
}

impl Whole {
    pub(crate) fn new(scan: PointScan) -> Self {
        Self { scan, ahead: VecDeque::new(), is_begun: false, is_read: false }
    }

    /// The next piece, and whether more follow. A series without points yields one empty
    /// piece.
    pub(crate) async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<(Points, bool)>> {
        while self.ahead.len() < 2 && !self.is_read {
            match self.scan.next(snapshot).await? {
                None => self.is_read = true,
                Some(points) if points.len() <= PIECE => self.ahead.push_back(points),
                Some(points) => {
                    let starts = (0..points.len()).step_by(PIECE);
                    let pieces = starts.map(|start| points.slice(start..points.len().min(start + PIECE)));
                    self.ahead.extend(pieces);
                }
            }
        }
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let piece = self.ahead.pop_front().or(is_first.then(Points::default));
        Ok(piece.map(|piece| (piece, !self.ahead.is_empty())))
    }
}

/// An x axis, read in parallel with the steps of a series.
pub(crate) struct Axis {
    scan: PointScan,
    /// The piece read last.
    points: Points,
    /// The number of steps looked up so far, with the results; kept so that a failed call
    /// can be repeated.
    at: usize,
    places: Vec<u32>,
    values: Vec<f64>,
}

impl Axis {
    pub(crate) fn new(scan: PointScan) -> Self {
        Self { scan, points: Points::default(), at: 0, places: Vec::new(), values: Vec::new() }
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
            if let Ok(found) = self.points.steps.binary_search(step) {
                self.places.push(u32::try_from(self.at).unwrap_or(u32::MAX));
                self.values.push(self.points.values[found]);
            }
            self.at += 1;
        }
        self.at = 0;
        Ok((std::mem::take(&mut self.places), std::mem::take(&mut self.values)))
    }
}
