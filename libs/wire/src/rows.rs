//! Points of series that are logged together, row by row. A client that logs the same series at every step names
//! them once, in its dictionary, and then sends values only.
//!
//! A column of steps, epochs or times has an entry for each row, or for each point, or one, or none. Functions that
//! do not check a group never panic if it is malformed: `mistake` says what is wrong.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use matyan_proto::{
    ingest::v1::{IngestionBatch, Points, Rows},
    limits,
};
use prost::{DecodeError, Message as _};

const WIDE_BYTES: usize = size_of::<f64>();
const NARROW_BYTES: usize = size_of::<f32>();

/// The NaN of narrow values.
const NARROW_NAN_BITS: u32 = 0x7fc0_0000;
/// The NaN of other values.
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

/// Encodes the values of rows, in the narrow form if that loses nothing.
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
    let is_narrow = values
        .chunks(UNBRANCHED)
        .all(|values| values.iter().fold(true, |all, value| all & fits_narrow(*value)));
    if is_narrow {
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

/// Returns the same batch without rows, for a reader that does not know them. Its items have the same numbers.
///
/// ```
/// use matyan_proto::ingest::v1::{IngestionBatch, Points};
/// use matyan_wire::rows::{encode, plain_batch};
/// use prost::Message as _;
///
/// let rows = Some(encode(7, 2, &[0.5, 1.0, 1.5, 2.0]));
/// let group = Points { steps: vec![1, 2], rows, ..Points::default() };
/// let batch = IngestionBatch { points: vec![group], ..IngestionBatch::default() };
/// let plain = plain_batch(batch.encode_to_vec().into()).unwrap();
/// let points = &IngestionBatch::decode(&*plain).unwrap().points[0];
/// assert_eq!((&points.series[..], &points.steps[..]), (&[7, 8, 7, 8][..], &[1, 1, 2, 2][..]));
/// assert_eq!((&points.values[..], &points.rows), (&[0.5, 1.0, 1.5, 2.0][..], &None));
/// ```
pub fn plain_batch(batch: Bytes) -> Result<Vec<u8>, DecodeError> {
    let mut batch = IngestionBatch::decode(batch)?;
    for group in batch.points.iter_mut().filter(|group| group.rows.is_some()) {
        *group = plain(group).into_owned();
    }
    Ok(batch.encode_to_vec())
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

#[cfg(test)]
mod tests;
