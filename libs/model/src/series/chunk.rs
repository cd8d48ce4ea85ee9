//! Chunks: the points of one series over a range of steps, compressed for long-term storage,
//! and the rows of the chunk list.
//!
//! Chunks are never changed in place: a rewritten chunk gets a new id, ids are never reused,
//! and the old chunk is kept for ten minutes. The chunks of a series cover disjoint ranges of
//! steps. All but the last few are *sealed*: full, and part of the pyramid. The unsealed ones
//! at the end are merged as the series grows.
//!
//! Format of a chunk: the byte 1; the number n of points as varint, at most 16,384; steps as
//! integer column, values as float column, epochs and times as optional columns, each with n
//! values. Steps are strictly ascending.
//!
//! Format of a list row, whose key holds the first step: the byte 1; chunk id and size of the
//! chunk in bytes as varints; 0 for an unsealed chunk, or 1 + its base level in the pyramid;
//! the summary of its points.

mod shared_column;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::column::{
    ColumnUse, float_column, optional_column, put_float_column, put_integer_column, put_optional_column,
    skip_optional_column, step_column,
};
use super::curve::{Curve, Stamps};
use super::points::{Points, StepRange};
use super::pyramid::MAX_LEVEL;
use super::summary::{Summary, put_summary, summary};
use super::wire::{FormatError, Input, put_varint};
use shared_column::{StampColumn, put_shared};

const FORMAT: u8 = 1;
pub(crate) const CHUNK_POINTS: usize = 16 * 1024;
/// Maximum size. Noisy float64 values would exceed the store's value limit before reaching
/// 16,384 points.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Encodes at most `CHUNK_POINTS` points, in ascending order of distinct steps.
pub(crate) fn encode(points: &Points, column_use: ColumnUse) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 8 * points.len());
    out.push(FORMAT);
    put_varint(&mut out, points.len() as u64);
    put_shared(&mut out, StampColumn::Steps, &points.steps, column_use, put_integer_column);
    put_float_column(&mut out, &points.values, column_use);
    put_shared(&mut out, StampColumn::Epochs, &points.epochs, column_use, put_optional_column);
    put_shared(&mut out, StampColumn::Times, &points.times_us, column_use, put_optional_column);
    out
}

pub(crate) fn decode(bytes: &[u8], stamps: Stamps) -> Result<Curve<'static>, FormatError> {
    let mut input = Input::with_format(bytes, FORMAT)?;
    let count = input.count(CHUNK_POINTS)?;
    let steps = step_column(&mut input, count)?;
    let values = float_column(&mut input, count)?;
    let mut curve = Curve { steps, values: values.into(), epochs: Cow::default(), times_us: Cow::default() };
    match stamps {
        Stamps::Read => {
            curve.epochs = optional_column(&mut input, count)?.into();
            curve.times_us = optional_column(&mut input, count)?.into();
        }
        Stamps::Skipped => {
            skip_optional_column(&mut input, count)?;
            skip_optional_column(&mut input, count)?;
        }
    }
    input.end()?;
    Ok(curve)
}

/// One row of a series' chunk list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChunkEntry {
    pub(crate) id: u64,
    pub(crate) bytes: u64,
    /// The lowest pyramid level that includes the chunk; `None` if it is unsealed.
    pub(crate) base: Option<u8>,
    pub(crate) summary: Summary,
}

impl ChunkEntry {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.push(FORMAT);
        put_varint(&mut out, self.id);
        put_varint(&mut out, self.bytes);
        out.push(self.base.map_or(0, |base| base + 1));
        put_summary(&mut out, &self.summary);
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::with_format(bytes, FORMAT)?;
        let id = input.varint()?;
        let size = input.varint()?;
        let base = input.byte()?.checked_sub(1);
        if base > Some(MAX_LEVEL) {
            return Err(FormatError("base above the highest level"));
        }
        let summary = summary(&mut input)?;
        input.end()?;
        Ok(Self { id, bytes: size, base, summary })
    }

    pub(crate) fn sealed(&self) -> bool {
        self.base.is_some()
    }

    pub(crate) fn steps(&self) -> StepRange {
        self.summary.steps()
    }

    pub(crate) fn count(&self) -> usize {
        self.summary.count as usize
    }
}

/// Assigns `steps`, which must be ascending, to chunks: steps before the first chunk to the
/// first one, every other step to the last chunk that starts at or before it.
pub(crate) fn group_by_chunk(entries: &[ChunkEntry], steps: &[i64]) -> Vec<Range<usize>> {
    let mut end = steps.len();
    let mut groups: Vec<Range<usize>> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate().rev() {
        let start =
            if index == 0 { 0 } else { steps[..end].partition_point(|step| *step < entry.steps().first) };
        groups.push(start..end);
        end = start;
    }
    groups.reverse();
    groups
}

#[cfg(test)]
mod tests;
