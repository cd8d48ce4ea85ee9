//! Blocks: the points of one applied transaction, of all series of a run that it touched, in
//! columns.
//!
//! Ingestion writes one block regardless of the number of series, so its cost depends on bytes,
//! not on series. A fold later turns blocks into chunks, by series. Blocks are short-lived, so
//! they are packed for speed rather than size, and one series can be read without the others. A
//! block is at most 64 KiB; a transaction that does not fit is divided by series, and the points of a
//! series that do not fit are written to further blocks in the order of writing. So a block of a run with
//! thousands of series has as many points of each as the transaction, and a fold looks up each series
//! once.
//!
//! Format: the byte 1; as varints, the number n of points, m of series, and r of rows; the
//! series numbers, in ascending order, as m packed integers; the position of the first point of
//! each series, as m packed integers; then steps as packed integers, and epochs and times as
//! packed optional integers, r values each, and the row of each point as n packed integers;
//! finally the values as n packed floats. Points are sorted by series, and within a series by
//! the order of writing, so the same step may occur twice. Metrics that were logged together
//! share a row of step, epoch, and time. If r is 0, no rows are shared: steps, epochs, and
//! times have n values, and the row numbers are omitted.

mod rows;

use std::ops::{Range, RangeInclusive};

use super::packed::{Floats, Integers, OptionalIntegers, put_floats, put_integers, put_optionals};
use super::points::{Point, Points};
use super::wire::{FormatError, Input, put_varint};
use crate::ids::SeriesNumber;

pub use rows::WrittenRows;

const FORMAT: u8 = 1;
/// Maximum size of a block. The store takes values of up to 100 kB.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Bounds what reading a block allocates.
const BLOCK_POINTS: usize = 32 * 1024;
/// Number of points tried for the first block of a transaction: 4 bytes each, for float32
/// values of metrics logged together.
const FIRST_TRY: usize = 16 * 1024;
/// Up to this many series numbers for each point, positions are counted by series; above, they are
/// sorted.
const MAX_SPAN: usize = 4;
/// A point of a small block takes less.
const POINT_BYTES: usize = 32;

const ROW_OUT_OF_BOUNDS: FormatError = FormatError("row out of bounds");

/// Points of one run in the order of writing. Both columns have the same length.
#[derive(Clone, Debug, Default)]
pub struct WrittenPoints {
    pub series: Vec<SeriesNumber>,
    pub points: Points,
}

impl WrittenPoints {
    pub fn push(&mut self, series: SeriesNumber, point: Point) {
        self.series.push(series);
        self.points.push(point);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Encodes the points as blocks, to be stored under ascending sequence numbers.
    pub fn blocks(&self) -> Vec<Vec<u8>> {
        let Some((range, rows)) = WrittenRows::find(self) else { return self.sorted_blocks() };
        let mut blocks = self.slice(0..range.start).sorted_blocks();
        blocks.extend(rows.blocks());
        blocks.extend(self.slice(range.end..self.len()).sorted_blocks());
        blocks
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self { series: self.series[range.clone()].to_vec(), points: self.points.slice(range) }
    }

    /// The blocks of points in any order.
    fn sorted_blocks(&self) -> Vec<Vec<u8>> {
        let order = order_by_series(&self.series);
        let mut rows = RowNumbers::new(&self.points);
        let mut blocks = Vec::new();
        let mut start = 0;
        let mut size = FIRST_TRY;
        while start < order.len() {
            let end = start + piece_length(&order[start..], size);
            let block = encode(&self.points, &mut rows, &order[start..end]);
            if block.len() <= BLOCK_BYTES {
                blocks.push(block);
                start = end;
            } else {
                // The target is a little below the limit, so that the next
                // attempt fits.
                size = ((end - start) * (BLOCK_BYTES - BLOCK_BYTES / 16) / block.len()).max(1);
            }
        }
        blocks
    }
}

/// The number of points of the next block, up to `size`. A block ends where a series ends, unless it would be
/// less than three quarters full.
fn piece_length(order: &[u64], size: usize) -> usize {
    let Some(next) = order.get(size) else { return order.len() };
    let series = next >> 32;
    let boundary = order[..size].partition_point(|key| key >> 32 < series);
    if boundary >= size - size / 4 { boundary } else { size }
}

/// Encodes points in this order, by series.
fn encode(points: &Points, rows: &mut RowNumbers, order: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK_BYTES.min((order.len() + 2) * POINT_BYTES));
    let (series, starts) = directory(order);
    let shared = rows.shared(order);
    out.push(FORMAT);
    put_varint(&mut out, order.len() as u64);
    put_varint(&mut out, series.len() as u64);
    put_varint(&mut out, shared.as_ref().map_or(0, |shared| shared.firsts.len() as u64));
    put_integers(&mut out, &series);
    put_integers(&mut out, &starts);
    match shared {
        Some(shared) => {
            put_stamps(&mut out, points, || shared.firsts.iter().copied());
            put_integers(&mut out, &shared.row_of_point);
        }
        None => put_stamps(&mut out, points, || order.iter().map(|key| point_index(*key))),
    }
    let values: Vec<f64> = order.iter().map(|key| points.values[point_index(*key)]).collect();
    put_floats(&mut out, &values);
    // Blocks are kept until they are folded, so a block with a single point must not take as much memory as a
    // full one.
    out.shrink_to_fit();
    out
}

/// Series number and index of each point, packed into one integer and sorted: by series, then
/// by the order of writing.
fn order_by_series(series: &[SeriesNumber]) -> Vec<u64> {
    let keys = series.iter().zip(0..).map(|(series, index)| u64::from(series.0) << 32 | index);
    let least = series.iter().map(|series| series.0).min().unwrap_or(0);
    let most = series.iter().map(|series| series.0).max().unwrap_or(0);
    let span = (most - least) as usize + 1;
    if span > MAX_SPAN * series.len() {
        let mut order: Vec<u64> = keys.collect();
        order.sort_unstable();
        return order;
    }
    // The next position of each series, so that the points need not be compared.
    let mut next = vec![0; span];
    for series in series {
        next[(series.0 - least) as usize] += 1;
    }
    let mut start = 0;
    for next in &mut next {
        start += std::mem::replace(next, start);
    }
    let mut order = vec![0; series.len()];
    for key in keys {
        let next = &mut next[((key >> 32) as u32 - least) as usize];
        order[*next] = key;
        *next += 1;
    }
    order
}

fn point_index(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

/// The distinct series, and the position of the first point of each.
fn directory(order: &[u64]) -> (Vec<i64>, Vec<i64>) {
    let mut series = Vec::new();
    let mut starts = Vec::new();
    for (position, key) in order.iter().enumerate() {
        let number = (key >> 32) as i64;
        if series.last() != Some(&number) {
            series.push(number);
            starts.push(position as i64);
        }
    }
    (series, starts)
}

/// Steps, epochs, and times that points of a block share.
struct SharedRows {
    /// Index of the first point of each row.
    firsts: Vec<usize>,
    /// The row of each point of the block.
    row_of_point: Vec<i64>,
}

/// The rows of a transaction, numbered in the order of writing.
struct RowNumbers {
    /// Index of the first point of each row.
    firsts: Vec<usize>,
    /// The row of each point, in the order of writing.
    row_of_point: Vec<u32>,
    /// The number of each row in the block that is being encoded.
    in_block: Vec<Option<u32>>,
}

impl RowNumbers {
    fn new(points: &Points) -> Self {
        let mut firsts: Vec<usize> = Vec::new();
        let mut row_of_point = Vec::with_capacity(points.len());
        for index in 0..points.len() {
            if firsts.last().is_none_or(|first| !share_row(points, *first, index)) {
                firsts.push(index);
            }
            row_of_point.push(firsts.len() as u32 - 1);
        }
        let in_block = vec![None; firsts.len()];
        Self { firsts, row_of_point, in_block }
    }

    /// The rows that points of a block share; `None` if rows have fewer than two of these points on average.
    fn shared(&mut self, order: &[u64]) -> Option<SharedRows> {
        let mut rows = Vec::new();
        for key in order {
            let row = self.row_of_point[point_index(*key)] as usize;
            if self.in_block[row].is_none() {
                self.in_block[row] = Some(0);
                rows.push(row);
                if rows.len() * 2 > order.len() {
                    break;
                }
            }
        }
        let shared = (rows.len() * 2 <= order.len()).then(|| self.number(&mut rows, order));
        for row in rows {
            self.in_block[row] = None;
        }
        shared
    }

    /// Numbers the rows of a block in the order of writing.
    fn number(&mut self, rows: &mut [usize], order: &[u64]) -> SharedRows {
        rows.sort_unstable();
        for (number, row) in (0..).zip(rows.iter()) {
            self.in_block[*row] = Some(number);
        }
        let row_of = |key: &u64| self.in_block[self.row_of_point[point_index(*key)] as usize];
        SharedRows {
            firsts: rows.iter().map(|row| self.firsts[*row]).collect(),
            row_of_point: order.iter().filter_map(row_of).map(i64::from).collect(),
        }
    }
}

fn share_row(points: &Points, left: usize, right: usize) -> bool {
    points.steps[left] == points.steps[right]
        && points.times_us[left] == points.times_us[right]
        && points.epochs[left] == points.epochs[right]
}

fn put_stamps<I: Iterator<Item = usize>>(out: &mut Vec<u8>, points: &Points, indexes: impl Fn() -> I) {
    put_integers(out, &gather(&points.steps, &indexes));
    put_optionals(out, &gather(&points.epochs, &indexes), put_integers);
    put_optionals(out, &gather(&points.times_us, &indexes), put_integers);
}

fn gather<I: Iterator<Item = usize>>(column: &[i64], indexes: impl Fn() -> I) -> Vec<i64> {
    indexes().map(|index| column[index]).collect()
}

/// A block opened for reading. Columns are decoded only when they are read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    points: usize,
    series_count: usize,
    row_count: usize,
    series: Integers<'a>,
    starts: Integers<'a>,
    steps: Integers<'a>,
    epochs: OptionalIntegers<'a>,
    times_us: OptionalIntegers<'a>,
    rows: Option<Integers<'a>>,
    values: Floats<'a>,
}

impl<'a> Block<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let points = input.count(BLOCK_POINTS)?;
        let series_count = input.count(points)?;
        let row_count = input.count(points)?;
        let stamps = if row_count == 0 { points } else { row_count };
        let block = Self {
            points,
            series_count,
            row_count,
            series: Integers::open(&mut input, series_count)?,
            starts: Integers::open(&mut input, series_count)?,
            steps: Integers::open(&mut input, stamps)?,
            epochs: OptionalIntegers::open(&mut input, stamps)?,
            times_us: OptionalIntegers::open(&mut input, stamps)?,
            rows: if row_count == 0 { None } else { Some(Integers::open(&mut input, points)?) },
            values: Floats::open(&mut input, points)?,
        };
        input.end()?;
        Ok(block)
    }

    pub fn len(&self) -> usize {
        self.points
    }

    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    pub fn series_count(&self) -> usize {
        self.series_count
    }

    /// The series at `index`, in ascending order; `index` must be less than `series_count`.
    pub fn series(&self, index: usize) -> SeriesNumber {
        SeriesNumber(self.series.get(index) as u32)
    }

    /// The index of the first series with this number or a higher one.
    pub fn lower_bound(&self, series: SeriesNumber) -> usize {
        let mut low = 0;
        let mut high = self.series_count;
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.series(middle) < series { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Appends the points of the series at `index` to `out`, in the order of writing.
    pub fn read(&self, index: usize, out: &mut Points) -> Result<(), FormatError> {
        let range = self.range(index)?;
        match &self.rows {
            None => {
                self.steps.read(range.clone(), &mut out.steps);
                self.epochs.read(range.clone(), &mut out.epochs);
                self.times_us.read(range.clone(), &mut out.times_us);
            }
            Some(rows) => {
                let start = out.steps.len();
                // The numbers of the rows, until their steps replace them.
                rows.read(range.clone(), &mut out.steps);
                let numbers = &mut out.steps[start..];
                if numbers.iter().any(|number| *number as u64 >= self.row_count as u64) {
                    return Err(ROW_OUT_OF_BOUNDS);
                }
                self.epochs.gather(numbers, &mut out.epochs);
                self.times_us.gather(numbers, &mut out.times_us);
                for number in numbers {
                    *number = self.steps.get(*number as usize);
                }
            }
        }
        self.values.read(range, &mut out.values);
        Ok(())
    }

    /// The lowest and the highest step of the series at `index`.
    pub fn steps(&self, index: usize) -> Result<RangeInclusive<i64>, FormatError> {
        let mut lowest = i64::MAX;
        let mut highest = i64::MIN;
        for position in self.range(index)? {
            let row = self.rows.as_ref().map_or(Ok(position), |rows| self.row(rows, position))?;
            let step = self.steps.get(row);
            lowest = lowest.min(step);
            highest = highest.max(step);
        }
        Ok(lowest..=highest)
    }

    /// The number of points of the series at `index`.
    pub fn point_count(&self, index: usize) -> Result<usize, FormatError> {
        self.range(index).map(|range| range.len())
    }

    fn range(&self, index: usize) -> Result<Range<usize>, FormatError> {
        let start = self.starts.get(index) as usize;
        let end =
            if index + 1 == self.series_count { self.points } else { self.starts.get(index + 1) as usize };
        if start <= end && end <= self.points {
            Ok(start..end)
        } else {
            Err(FormatError("positions out of order"))
        }
    }

    fn row(&self, rows: &Integers<'_>, position: usize) -> Result<usize, FormatError> {
        let row = rows.get(position) as usize;
        if row < self.row_count { Ok(row) } else { Err(ROW_OUT_OF_BOUNDS) }
    }
}

#[cfg(test)]
mod tests;
