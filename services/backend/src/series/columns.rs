//! Columns of points as messages contain them.

use matyan_model::series::{ABSENT, Points};
use matyan_proto::series::v1::{PointColumns, SeriesPoints};

/// Columns sent if the request names none.
pub(crate) const DEFAULT_COLUMNS: PointColumns = PointColumns { values: true, epochs: false, times: false };

/// One column of a series.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Steps,
    Values,
    Epochs,
    Times,
    XValues,
    /// Indexes into the steps of the points that have an x value.
    XIndexes,
}

impl Column {
    /// Steps and the requested columns, in the order in which they are sent.
    pub(super) fn requested(columns: PointColumns) -> impl Iterator<Item = Self> {
        let all = [
            (true, Self::Steps),
            (columns.values, Self::Values),
            (columns.epochs, Self::Epochs),
            (columns.times, Self::Times),
        ];
        all.into_iter().filter_map(|(is_requested, column)| is_requested.then_some(column))
    }

    /// The columns to read for this one.
    pub(super) fn only(self) -> PointColumns {
        PointColumns {
            values: matches!(self, Self::Values),
            epochs: matches!(self, Self::Epochs),
            times: matches!(self, Self::Times),
        }
    }

    /// This column of a piece.
    pub(super) fn pick(self, piece: SeriesPoints) -> SeriesPoints {
        let SeriesPoints { steps, values, epochs, times_us, x_places, x_values, .. } = piece;
        match self {
            Self::Steps => SeriesPoints { steps, ..SeriesPoints::default() },
            Self::Values => SeriesPoints { values, ..SeriesPoints::default() },
            Self::Epochs => SeriesPoints { epochs, ..SeriesPoints::default() },
            Self::Times => SeriesPoints { times_us, ..SeriesPoints::default() },
            Self::XValues => SeriesPoints { x_values, ..SeriesPoints::default() },
            // An index into the steps means nothing without the steps.
            Self::XIndexes => SeriesPoints { steps, x_places, ..SeriesPoints::default() },
        }
    }
}

/// The requested columns, without empty columns.
pub(crate) fn columnar(points: &Points, columns: PointColumns) -> SeriesPoints {
    let mut columns = full_columns(points, columns);
    for column in [&mut columns.epochs, &mut columns.times_us] {
        if column.iter().all(|value| *value == ABSENT) {
            column.clear();
        }
    }
    columns
}

/// Like `full_columns`, for points that nobody else needs.
pub(super) fn into_columns(points: Points, columns: PointColumns) -> SeriesPoints {
    let Points { steps, values, epochs, times_us } = points;
    SeriesPoints {
        steps,
        values: if columns.values { values } else { Vec::new() },
        epochs: if columns.epochs { epochs } else { Vec::new() },
        times_us: if columns.times { times_us } else { Vec::new() },
        ..SeriesPoints::default()
    }
}

/// The requested columns, each as long as the steps, so that the columns of several pieces can
/// be concatenated.
pub(crate) fn full_columns(points: &Points, columns: PointColumns) -> SeriesPoints {
    let integers = |options: bool, column: &[i64]| if options { column.to_vec() } else { Vec::new() };
    SeriesPoints {
        steps: points.steps.clone(),
        values: if columns.values { points.values.clone() } else { Vec::new() },
        epochs: integers(columns.epochs, &points.epochs),
        times_us: integers(columns.times, &points.times_us),
        ..SeriesPoints::default()
    }
}
