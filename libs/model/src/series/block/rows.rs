//! Points that are written in rows: each row has a value of each of the same series, at one step, epoch and time. Their
//! blocks have the same format as the blocks of other points, but are written without sorting the points.

use std::ops::Range;

use super::super::packed::{cycles_width, put_cycles, put_floats, put_integers, put_optionals};
use super::super::wire::put_varint;
use super::{BLOCK_BYTES, FORMAT, POINT_BYTES, WrittenPoints, share_row};
use crate::ids::SeriesNumber;

/// Fewest series for which rows are looked for among other points.
const LEAST_WIDTH: usize = 64;
/// Most rows of a block. One series has room for them, whatever their values, steps, epochs and times are.
const MOST_ROWS: usize = 1_024;
/// Bytes of a value that a block is expected to have.
const VALUE_BYTES: usize = size_of::<f32>();

/// Rows of one run in the order of writing.
#[derive(Clone, Debug, Default)]
pub struct WrittenRows {
    /// In the order of writing.
    series: Vec<SeriesNumber>,
    /// Their places in this list, by ascending number.
    ascending: Vec<u32>,
    /// An entry for each row.
    steps: Vec<i64>,
    epochs: Vec<i64>,
    times_us: Vec<i64>,
    /// One row after another.
    values: Vec<f64>,
}

impl WrittenRows {
    /// Finds rows that are most of some points, with their range. The first and the last row of a transaction may be
    /// incomplete.
    pub(super) fn find(written: &WrittenPoints) -> Option<(Range<usize>, Self)> {
        let WrittenPoints { series, points } = written;
        let first = row_end(written, 0);
        let second = row_end(written, first);
        let is_complete = first == second || series[..first] == series[first..second];
        let (start, width) = if is_complete { (0, first) } else { (first, second - first) };
        if width < LEAST_WIDTH {
            return None;
        }
        let of_row = &series[start..start + width];
        let mut end = start + width;
        while series.get(end..end + width) == Some(of_row) && row_end(written, end) == end + width {
            end += width;
        }
        if (end - start) * 4 < series.len() * 3 {
            return None;
        }
        let ascending = ascending(of_row)?;
        let by_row = |column: &[i64]| column[start..end].iter().step_by(width).copied().collect();
        let rows = Self {
            series: of_row.to_vec(),
            ascending,
            steps: by_row(&points.steps),
            epochs: by_row(&points.epochs),
            times_us: by_row(&points.times_us),
            values: points.values[start..end].to_vec(),
        };
        Some((start..end, rows))
    }

    /// Prepares for rows of these series. Returns false if they cannot be added: the rows before have other series, or a
    /// series is there twice.
    pub fn prepare(&mut self, series: &[u32]) -> bool {
        if !self.is_empty() {
            return self.series.iter().map(|number| number.0).eq(series.iter().copied());
        }
        self.series = series.iter().copied().map(SeriesNumber).collect();
        let ascending = ascending(&self.series);
        let is_possible = ascending.is_some();
        self.ascending = ascending.unwrap_or_default();
        is_possible
    }

    /// Adds rows of the series for which it is prepared. The caller appends their values to the returned list, one row
    /// after another.
    pub fn add(&mut self, steps: &[i64], epochs: &[i64], times_us: &[i64]) -> &mut Vec<f64> {
        self.steps.extend_from_slice(steps);
        self.epochs.extend_from_slice(epochs);
        self.times_us.extend_from_slice(times_us);
        &mut self.values
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The step of each row.
    pub fn steps(&self) -> &[i64] {
        &self.steps
    }

    /// Appends the points to others.
    pub fn move_to(self, written: &mut WrittenPoints) {
        let width = self.series.len();
        for (row, step) in self.steps.iter().enumerate() {
            let end = written.len() + width;
            written.series.extend_from_slice(&self.series);
            written.points.steps.resize(end, *step);
            written.points.epochs.resize(end, self.epochs[row]);
            written.points.times_us.resize(end, self.times_us[row]);
        }
        written.points.values.extend_from_slice(&self.values);
    }

    /// Encodes the points as blocks, to be stored under ascending sequence numbers.
    pub fn blocks(&self) -> Vec<Vec<u8>> {
        let rows = self.steps.len();
        let mut blocks = Vec::new();
        for first in (0..rows).step_by(MOST_ROWS) {
            blocks.extend(self.blocks_of(first..rows.min(first + MOST_ROWS)));
        }
        blocks
    }

    /// Encodes some of the rows.
    fn blocks_of(&self, rows: Range<usize>) -> Vec<Vec<u8>> {
        let mut blocks = Vec::new();
        let mut start = 0;
        let series_bytes = rows.len() * (VALUE_BYTES + cycles_width(rows.len()));
        let mut most = (target_bytes() / series_bytes).max(1);
        while start < self.series.len() {
            let end = self.series.len().min(start + most);
            let block = self.encode(rows.clone(), start..end);
            if block.len() <= BLOCK_BYTES {
                blocks.push(block);
                start = end;
            } else {
                most = ((end - start) * target_bytes() / block.len()).max(1);
            }
        }
        blocks
    }

    /// Encodes some of the rows of some of the series, by their ascending numbers.
    fn encode(&self, rows: Range<usize>, series: Range<usize>) -> Vec<u8> {
        let width = self.series.len();
        let columns = &self.ascending[series];
        let count = columns.len() * rows.len();
        let number = |column: &u32| i64::from(self.series[*column as usize].0);
        let series: Vec<i64> = columns.iter().map(number).collect();
        let starts: Vec<i64> = (0..columns.len()).map(|place| (place * rows.len()) as i64).collect();
        let mut out = Vec::with_capacity(BLOCK_BYTES.min((count + 2) * POINT_BYTES));
        out.push(FORMAT);
        put_varint(&mut out, count as u64);
        put_varint(&mut out, series.len() as u64);
        put_varint(&mut out, rows.len() as u64);
        put_integers(&mut out, &series);
        put_integers(&mut out, &starts);
        put_integers(&mut out, &self.steps[rows.clone()]);
        put_optionals(&mut out, &self.epochs[rows.clone()], put_integers);
        put_optionals(&mut out, &self.times_us[rows.clone()], put_integers);
        put_cycles(&mut out, rows.len(), series.len());
        let mut values = Vec::with_capacity(count);
        for column in columns {
            values.extend(rows.clone().map(|row| self.values[row * width + *column as usize]));
        }
        put_floats(&mut out, &values);
        out.shrink_to_fit();
        out
    }
}

/// The end of the points from one on that have its step, epoch and time.
fn row_end(written: &WrittenPoints, start: usize) -> usize {
    let end = written.len();
    let mut rest = start + 1..end.max(start + 1);
    rest.find(|at| !share_row(&written.points, start, *at)).unwrap_or(end)
}

/// The places of series, by their ascending numbers. None if a series is there twice.
fn ascending(series: &[SeriesNumber]) -> Option<Vec<u32>> {
    let mut places: Vec<u32> = (0..series.len() as u32).collect();
    let number = |place: &u32| series[*place as usize];
    if !series.is_sorted() {
        places.sort_unstable_by_key(number);
    }
    places.is_sorted_by(|left, right| number(left) < number(right)).then_some(places)
}

/// A little below the limit, so that a second attempt fits.
fn target_bytes() -> usize {
    BLOCK_BYTES - BLOCK_BYTES / 16
}

#[cfg(test)]
mod tests;
