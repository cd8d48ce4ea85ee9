//! A series that is sent in pieces: of all columns, or of one column after the other. Each piece
//! may be read from a newer snapshot than the previous one, and a failed read may be repeated.
//! Chunks never change in place, so all passes see the same points.

use std::collections::VecDeque;

use matyan_model::series::Points;
use matyan_proto::{
    runs::v1::SeriesInfo,
    series::v1::{PointColumns, SeriesPoints},
};
use matyan_store::Snapshot;

use super::{
    columns::{Column, full_columns, into_columns},
    point_pieces::{AxisReader, PointPieces},
};
use crate::server::error::Result;

/// The columns to send, and their order.
#[derive(Clone, Copy)]
pub(crate) struct SplitOptions {
    pub(crate) columns: PointColumns,
    pub(crate) has_x_axis: bool,
    /// Sends a series of more than one piece column by column, with the length of each.
    pub(crate) by_column: bool,
}

/// Sends a series in one or several passes over its points.
pub(crate) struct SplitSeries {
    /// Sent with the first piece.
    info: Option<SeriesInfo>,
    options: SplitOptions,
    /// Reader of the current pass, and the state from which every pass starts.
    reader: PieceReader,
    start: PieceReader,
    /// The current pass, and the passes after it.
    passes: VecDeque<Pass>,
    counts: Counts,
    /// Number of values of the column that starts with the next piece.
    next_count: u64,
}

/// A pass over the points of a series.
#[derive(Clone, Copy)]
enum Pass {
    AllColumns,
    /// Sends nothing.
    Count,
    Column(Column),
}

/// Numbers of points, and of points that have an x value.
#[derive(Clone, Copy, Default)]
struct Counts {
    points: u64,
    x_values: u64,
}

impl SplitSeries {
    pub(crate) fn new(
        info: SeriesInfo,
        pieces: PointPieces,
        axis: Option<AxisReader>,
        options: SplitOptions,
    ) -> Self {
        let start = PieceReader { pieces, axis, points: None };
        Self {
            info: Some(info),
            options,
            reader: start.clone(),
            start,
            passes: [Pass::AllColumns].into(),
            counts: Counts::default(),
            next_count: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.passes.is_empty()
    }

    /// Reads some points, and returns the next piece; `None` if nothing is to be sent yet, or
    /// everything was sent.
    pub(crate) async fn next(&mut self, snapshot: &dyn Snapshot) -> Result<Option<SeriesPoints>> {
        let Some(pass) = self.passes.front().copied() else { return Ok(None) };
        let piece = self.reader.next(snapshot, pass.columns(self.options.columns)).await?;
        let Some(piece) = piece else { return Ok(None) };
        let more = piece.more;
        let piece = match pass {
            // Several pieces: this one is discarded, and the series is read once to count it and
            // once for each column.
            Pass::AllColumns if more && self.options.by_column => {
                self.passes.extend(self.options.column_passes());
                self.end_pass();
                return Ok(None);
            }
            Pass::AllColumns => Some(piece),
            Pass::Count => {
                self.counts.points += piece.steps.len() as u64;
                self.counts.x_values += piece.x_values.len() as u64;
                None
            }
            Pass::Column(column) => {
                let count = std::mem::take(&mut self.next_count);
                Some(SeriesPoints { count, ..column.pick(piece) })
            }
        };
        if !more {
            self.end_pass();
        }
        Ok(piece.map(|piece| SeriesPoints { more, info: self.info.take(), ..piece }))
    }

    /// Begins the next pass, if one remains.
    fn end_pass(&mut self) {
        self.passes.pop_front();
        let Some(pass) = self.passes.front() else { return };
        self.reader = self.start.clone();
        if !pass.reads_axis() {
            self.reader.axis = None;
        }
        self.next_count = match pass {
            Pass::AllColumns | Pass::Count => 0,
            Pass::Column(Column::XValues | Column::XIndexes) => self.counts.x_values,
            Pass::Column(_) => self.counts.points,
        };
    }
}

impl SplitOptions {
    /// The passes after the first one, which found that the series has several pieces.
    fn column_passes(&self) -> impl Iterator<Item = Pass> {
        let x_axis = [(self.has_x_axis, Column::XValues), (self.has_x_axis, Column::XIndexes)];
        let columns = Column::requested(self.columns);
        let x_axis = x_axis.into_iter().filter_map(|(is_requested, column)| is_requested.then_some(column));
        [Pass::Count].into_iter().chain(columns.chain(x_axis).map(Pass::Column))
    }
}

impl Pass {
    /// The columns to read in this pass, in addition to steps and x values.
    fn columns(self, requested: PointColumns) -> PointColumns {
        match self {
            Self::AllColumns => requested,
            Self::Count => PointColumns::default(),
            Self::Column(column) => column.only(),
        }
    }

    fn reads_axis(self) -> bool {
        !matches!(self, Self::Column(Column::Steps | Column::Values | Column::Epochs | Column::Times))
    }
}

#[derive(Clone)]
struct PieceReader {
    pieces: PointPieces,
    axis: Option<AxisReader>,
    /// Points already read whose x axis has not been read yet, and whether more follow.
    points: Option<(Points, bool)>,
}

impl PieceReader {
    /// The next piece; `None` if its x axis is still to be read, because that may need a newer snapshot.
    async fn next(&mut self, snapshot: &dyn Snapshot, columns: PointColumns) -> Result<Option<SeriesPoints>> {
        if self.points.is_none() {
            self.points = Some(self.pieces.next(snapshot).await?.unwrap_or_default());
            if self.axis.is_some() {
                return Ok(None);
            }
        }
        let Some(axis) = &mut self.axis else {
            let points = self.points.take();
            return Ok(points.map(|(points, more)| SeriesPoints { more, ..into_columns(points, columns) }));
        };
        let Some((points, more)) = &self.points else { return Ok(None) };
        let mut piece = SeriesPoints { more: *more, ..full_columns(points, columns) };
        (piece.x_places, piece.x_values) = axis.values(snapshot, &points.steps).await?;
        self.points = None;
        Ok(Some(piece))
    }
}
