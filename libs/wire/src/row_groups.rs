//! Groups of points in which values of neighboring series at one step are rows.

use std::ops::Range;

use matyan_proto::ingest::v1::Points;

use crate::{columns, rows};

/// Fewest neighboring series for which rows are worth their own group.
const LEAST_WIDTH: usize = 16;

/// Adjacent points that form a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: Range<usize>,
    /// Number of series in a row; none if the points do not form rows.
    pub width: Option<usize>,
}

/// Divides points, in their order, so that adjacent points of neighboring series at the same step and epoch form
/// rows. Either all rows of a segment have a single time each, or none has. Columns have an entry for each point, or
/// none.
pub fn segments(points: &Points) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < points.series.len() {
        let width = row_width(points, at);
        if width < LEAST_WIDTH {
            at += width;
            continue;
        }
        if start < at {
            segments.push(Segment { range: start..at, width: None });
        }
        let mut end = at + width;
        let share_time = are_equal(&points.times_us, at..end);
        while is_same_row(points, at, end, width)
            && are_equal(&points.times_us, end..end + width) == share_time
        {
            end += width;
        }
        segments.push(Segment { range: at..end, width: Some(width) });
        start = end;
        at = end;
    }
    if start < at {
        segments.push(Segment { range: start..at, width: None });
    }
    segments
}

/// Number of points from one on that can be in its row. Points that were logged in one call share their time. If they
/// are enough for a row, they are not joined with other points, because a row with several times takes more bytes and is
/// stored point by point. Looks at few points after the row.
fn row_width(points: &Points, first: usize) -> usize {
    let is_next = |at: usize| {
        points.series[at - 1].checked_add(1) == Some(points.series[at])
            && points.steps.get(at) == points.steps.get(first)
            && points.epochs.get(at) == points.epochs.get(first)
    };
    // The first of the adjacent points that have the time of the current one.
    let mut call = first;
    let mut at = first + 1;
    while at < points.series.len() && is_next(at) {
        if points.times_us.get(at) != points.times_us.get(call) {
            if call == first && at - first >= LEAST_WIDTH {
                return at - first;
            }
            call = at;
        } else if call > first && at + 1 - call == LEAST_WIDTH {
            return call - first;
        }
        at += 1;
    }
    at - first
}

/// Whether the points from `start` on are another row of the series of the row at `first`.
fn is_same_row(points: &Points, first: usize, start: usize, width: usize) -> bool {
    let range = start..start + width;
    points.series.get(range.clone()).is_some_and(|series| *series == points.series[first..first + width])
        && are_equal(&points.steps, range.clone())
        && are_equal(&points.epochs, range)
}

/// Whether a column has the same entry for all points of a range, or none.
fn are_equal(column: &[i64], range: Range<usize>) -> bool {
    let entries = column.get(range).unwrap_or_default();
    entries.iter().all(|entry| *entry == entries[0])
}

/// Returns the group of a segment. Its columns are as short as possible.
pub fn group(points: &Points, segment: &Segment) -> Points {
    let Segment { range, width } = segment.clone();
    let mut group = match width {
        None => columns::slice(points, range),
        Some(width) => {
            let first_series = points.series[range.start];
            let rows = rows::encode(first_series, width as u32, &points.values[range.clone()]);
            Points {
                steps: shortened_to_rows(&points.steps, range.clone(), width),
                epochs: shortened_to_rows(&points.epochs, range.clone(), width),
                times_us: shortened_to_rows(&points.times_us, range, width),
                rows: Some(rows),
                ..Points::default()
            }
        }
    };
    shorten(&mut group);
    group
}

/// A column with an entry for each row if the points of every row share one, and otherwise for each point.
fn shortened_to_rows(column: &[i64], range: Range<usize>, width: usize) -> Vec<i64> {
    let entries = column.get(range).unwrap_or_default();
    if entries.chunks(width).all(|row| row.iter().all(|entry| *entry == row[0])) {
        entries.iter().step_by(width).copied().collect()
    } else {
        entries.to_vec()
    }
}

fn shorten(group: &mut Points) {
    for column in [&mut group.steps, &mut group.epochs, &mut group.times_us] {
        columns::shorten(column);
    }
}

/// Divides points into groups, in their order, and shortens their columns. Columns have an entry for each point, or
/// none.
pub fn grouped(mut points: Points) -> Vec<Points> {
    let segments = segments(&points);
    if segments.iter().all(|segment| segment.width.is_none()) {
        shorten(&mut points);
        return vec![points];
    }
    segments.iter().map(|segment| group(&points, segment)).collect()
}

#[cfg(test)]
mod tests;
