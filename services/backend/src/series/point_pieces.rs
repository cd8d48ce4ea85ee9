//! The points of a series in pieces, all of them or a large sample, and optionally the values of
//! an x axis. Chunks never change in place, so each piece may be read from a newer snapshot than
//! the previous one, and a failed read may be repeated.

use std::collections::VecDeque;

use matyan_model::series::{PointScan, Points, SeriesView, StepRange, evenly_spaced};
use matyan_store::Snapshot;

use crate::server::error::Result;

/// Maximum number of points in a piece: about 2 MB.
const PIECE: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct PointPieces {
    scan: PointScan,
    /// Chooses a sample of the points as they are read.
    thinning: Option<Thinning>,
    /// Pieces that have been read ahead.
    buffered: VecDeque<Points>,
    is_started: bool,
    is_read: bool,
}

impl PointPieces {
    pub(crate) fn all(scan: PointScan) -> Self {
        Self { scan, thinning: None, buffered: VecDeque::new(), is_started: false, is_read: false }
    }

    /// All points if there are at most `density` (0: no limit), and otherwise that many at evenly
    /// spaced positions. The sample may be of any size, because it is never in memory as a whole.
    pub(crate) async fn at_density(
        snapshot: &dyn Snapshot,
        series: &SeriesView,
        steps: StepRange,
        density: u32,
    ) -> Result<Self> {
        let pieces = Self::all(series.scan(snapshot, steps).await?);
        if density == 0 {
            return Ok(pieces);
        }
        let count = series.count(snapshot, steps).await?;
        let thinning = (count > u64::from(density)).then(|| Thinning::new(count, density));
        Ok(Self { thinning, ..pieces })
    }

    /// The next piece, and whether more follow. A series without points yields one empty
    /// piece.
    pub(crate) async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<(Points, bool)>> {
        while self.buffered.len() < 2 && !self.is_read {
            let Some(read) = self.scan.next(snapshot).await? else {
                self.is_read = true;
                continue;
            };
            let points = match &mut self.thinning {
                Some(thinning) => thinning.choose(&read),
                None => read,
            };
            match points.len() {
                0 => {}
                1..=PIECE => self.buffered.push_back(points),
                _ => {
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

/// The choice of points at evenly spaced positions, in the order in which they are read.
#[derive(Clone)]
struct Thinning {
    count: usize,
    limit: usize,
    /// Number of points read so far.
    read: usize,
    /// Number of points chosen so far.
    chosen: usize,
}

impl Thinning {
    fn new(count: u64, limit: u32) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Self { count, limit: limit as usize, read: 0, chosen: 0 }
    }

    fn choose(&mut self, points: &Points) -> Points {
        let end = self.read + points.len();
        let mut chosen = Points::default();
        while self.chosen < self.limit {
            let position = evenly_spaced(self.chosen, self.limit, self.count);
            if position >= end {
                break;
            }
            chosen.push(points.get(position - self.read));
            self.chosen += 1;
        }
        self.read = end;
        chosen
    }
}

/// An x axis, read in parallel with the steps of a series.
#[derive(Clone)]
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
                self.scan.skip_before(*step);
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
