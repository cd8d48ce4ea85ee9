//! Points of series that are logged together, row by row. A client that logs the same series at every step names
//! them once, in its dictionary, and then sends values only.
//!
//! A column of steps, epochs or times has an entry for each row, or for each point, or one, or none. Functions that
//! do not check a group never panic if it is malformed: `mistake` says what is wrong.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use matyan_proto::{
    ingest::v1::{Points, Rows},
    limits,
};

use crate::columns;

/// Fewest neighboring series for which rows are worth a group of their own.
const LEAST_WIDTH: usize = 16;

const WIDE_BYTES: usize = size_of::<f64>();
const NARROW_BYTES: usize = size_of::<f32>();

/// The NaN of narrow values, and the one that it stands for.
const NARROW_NAN_BITS: u32 = 0x7fc0_0000;
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// Number of values that are converted without a branch.
const UNBRANCHED: usize = 64;

/// Returns the number of points of a group, with or without rows.
pub fn count(group: &Points) -> usize {
    group.rows.as_ref().map_or(group.series.len(), value_count)
}

/// Returns the number of values. An incomplete one counts.
pub fn value_count(rows: &Rows) -> usize {
    rows.values.len().div_ceil(WIDE_BYTES).max(rows.narrow_values.len().div_ceil(NARROW_BYTES))
}

/// Returns the dictionary number of the series of a point. Beyond the largest number, it is that number, which no series
/// has.
pub fn series(rows: &Rows, at: usize) -> u32 {
    rows.first_series.saturating_add((at % width(rows)) as u32)
}

fn width(rows: &Rows) -> usize {
    (rows.series_count as usize).max(1)
}

/// Returns what is wrong with a group of rows, if anything is: the field, and the mistake in it.
pub fn mistake(group: &Points, rows: &Rows) -> Option<(&'static str, String)> {
    let width = rows.series_count as usize;
    if width == 0 || width > limits::SERIES_PER_RUN {
        return Some(("series_count", format!("is {width}: expected 1 to {}", limits::SERIES_PER_RUN)));
    }
    if !group.series.is_empty() || !group.values.is_empty() {
        let field = if group.series.is_empty() { "values" } else { "series" };
        return Some((field, "has entries next to `rows`: send one of them in a group".to_owned()));
    }
    if !rows.values.is_empty() && !rows.narrow_values.is_empty() {
        return Some(("narrow_values", "has values next to `values`: send one of them".to_owned()));
    }
    let (field, bytes, row_bytes) = if rows.narrow_values.is_empty() {
        ("values", rows.values.len(), width * WIDE_BYTES)
    } else {
        ("narrow_values", rows.narrow_values.len(), width * NARROW_BYTES)
    };
    if !bytes.is_multiple_of(row_bytes) {
        let reason = format!(
            "has {bytes} bytes: a row of {width} series has {row_bytes}, and every row must be complete"
        );
        return Some((field, reason));
    }
    let count = value_count(rows);
    let row_count = count / width;
    let columns =
        [("steps", group.steps.len()), ("epochs", group.epochs.len()), ("times_us", group.times_us.len())];
    let (field, entries) = columns.into_iter().find(|(_, len)| ![0, 1, row_count, count].contains(len))?;
    let reason = format!(
        "has {entries} entries for {row_count} rows of {width} series: send one per row, one per value, a single \
         one, or none"
    );
    Some((field, reason))
}

/// Appends the values of a range of points.
pub fn extend_values(out: &mut Vec<f64>, rows: &Rows, range: Range<usize>) {
    if rows.narrow_values.is_empty() {
        let values = rows.values.as_chunks::<WIDE_BYTES>().0.get(range).unwrap_or_default();
        out.extend(values.iter().map(|value| f64::from_le_bytes(*value)));
    } else {
        let values = rows.narrow_values.as_chunks::<NARROW_BYTES>().0.get(range).unwrap_or_default();
        out.extend(values.iter().map(|value| widened(f32::from_le_bytes(*value))));
    }
}

/// Encodes the values of rows, as narrow ones if that loses nothing.
///
/// ```
/// use matyan_wire::rows::{encode, extend_values};
///
/// let rows = encode(7, 2, &[0.5, 1.0, f64::NAN, 2.0]);
/// assert_eq!((rows.first_series, rows.narrow_values.len(), rows.values.len()), (7, 16, 0));
/// let mut values = Vec::new();
/// extend_values(&mut values, &rows, 1..4);
/// assert_eq!((values[0], values[1].is_nan(), values[2]), (1.0, true, 2.0));
/// assert_eq!(encode(7, 1, &[0.1]).values.len(), 8);
/// ```
pub fn encode(first_series: u32, series_count: u32, values: &[f64]) -> Rows {
    let rows = Rows { first_series, series_count, ..Rows::default() };
    // The inner loop has no branches, and the outer one ends early.
    let is_narrow = |values: &[f64]| values.iter().fold(true, |all, value| all & fits_narrow(*value));
    if values.chunks(UNBRANCHED).all(is_narrow) {
        let narrow_values = little_endian(values, |value| narrowed(value).to_le_bytes());
        Rows { narrow_values, ..rows }
    } else {
        Rows { values: little_endian(values, f64::to_le_bytes), ..rows }
    }
}

fn little_endian<const N: usize>(values: &[f64], bytes: impl Fn(f64) -> [u8; N]) -> Bytes {
    let mut out = vec![0; N * values.len()];
    let (places, _) = out.as_chunks_mut();
    for (place, value) in places.iter_mut().zip(values) {
        *place = bytes(*value);
    }
    out.into()
}

fn fits_narrow(value: f64) -> bool {
    widened(narrowed(value)).to_bits() == value.to_bits()
}

/// Conversions may change the bits of a NaN, so it is converted by hand.
fn narrowed(value: f64) -> f32 {
    if value.is_nan() { f32::from_bits(NARROW_NAN_BITS) } else { value as f32 }
}

fn widened(value: f32) -> f64 {
    if value.is_nan() { f64::from_bits(NAN_BITS) } else { f64::from(value) }
}

/// Returns the same points without rows.
pub fn plain(group: &Points) -> Cow<'_, Points> {
    match &group.rows {
        None => Cow::Borrowed(group),
        Some(rows) => Cow::Owned(slice(group, rows, 0..value_count(rows))),
    }
}

/// Returns the points of a range without rows.
pub fn slice(group: &Points, rows: &Rows, range: Range<usize>) -> Points {
    let count = value_count(rows);
    let mut values = Vec::with_capacity(range.len());
    extend_values(&mut values, rows, range.clone());
    let cut = |column: &Vec<i64>| {
        if column.len() <= 1 {
            column.clone()
        } else if column.len() == count {
            column.get(range.clone()).unwrap_or(column).to_vec()
        } else {
            range.clone().filter_map(|at| column.get(at / width(rows)).copied()).collect()
        }
    };
    Points {
        series: range.clone().map(|at| series(rows, at)).collect(),
        values,
        steps: cut(&group.steps),
        epochs: cut(&group.epochs),
        times_us: cut(&group.times_us),
        rows: None,
    }
}

/// Adjacent points that form a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: Range<usize>,
    /// Number of series in a row; none if the points do not form rows.
    pub width: Option<usize>,
}

/// Divides points, in their order, so that adjacent points of neighboring series at the same step and epoch form
/// rows. Steps and epochs have an entry for each point, or none.
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
        while is_same_row(points, at, end, width) {
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

/// Number of points from one on that can be in its row. Looks at no other points than these and the next one.
fn row_width(points: &Points, first: usize) -> usize {
    let is_next = |at: usize| {
        points.series[at - 1].checked_add(1) == Some(points.series[at])
            && points.steps.get(at) == points.steps.get(first)
            && points.epochs.get(at) == points.epochs.get(first)
    };
    (first + 1..points.series.len()).take_while(|at| is_next(*at)).count() + 1
}

/// Whether the points from `start` on are another row of the series of the row at `first`.
fn is_same_row(points: &Points, first: usize, start: usize, width: usize) -> bool {
    let range = start..start + width;
    let is_equal = |column: &[i64]| {
        let entries = column.get(range.clone()).unwrap_or_default();
        entries.iter().all(|entry| *entry == entries[0])
    };
    points.series.get(range.clone()).is_some_and(|series| *series == points.series[first..first + width])
        && is_equal(&points.steps)
        && is_equal(&points.epochs)
}

/// Returns the group of a segment. Its columns are as short as possible.
pub fn group(points: &Points, segment: &Segment) -> Points {
    let Segment { range, width } = segment.clone();
    let mut group = match width {
        None => columns::slice(points, range),
        Some(width) => {
            let first_series = points.series[range.start];
            let rows = encode(first_series, width as u32, &points.values[range.clone()]);
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
