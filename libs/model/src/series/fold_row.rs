//! The row that says how far a run is folded.
//!
//! Format: the byte 1; the sequence number `end` as varint: blocks below it are
//! being folded; then the byte 0 if none of their points are folded yet (a missing row means
//! the same with `end` 0), or 1, a series number as varint, and a step as signed varint: all
//! points below that series, and below that step of that series, are folded.

use std::cmp::Ordering;

use bytes::Bytes;
use matyan_store::Value;

use super::wire::{FormatError, Input, put_signed, put_varint};
use crate::ids::SeriesNumber;

const FORMAT: u8 = 1;

/// The position up to which a run is folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoldRow {
    /// Blocks below this sequence number are being folded, or have been cleared.
    pub(crate) end: u64,
    /// Points of those blocks below this (series, step) are folded. `None` if no fold is in
    /// progress.
    pub(crate) position: Option<(u32, i64)>,
}

impl FoldRow {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.end);
        match self.position {
            None => out.push(0),
            Some((series, step)) => {
                out.push(1);
                put_varint(&mut out, u64::from(series));
                put_signed(&mut out, step);
            }
        }
        out.into()
    }

    pub(crate) fn decode(value: Option<&Value>) -> Result<Self, FormatError> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut input = Input::with_format(value, FORMAT)?;
        let end = input.varint()?;
        let position = match input.byte()? {
            0 => None,
            1 => {
                let series =
                    u32::try_from(input.varint()?).map_err(|_| FormatError("series number over 32 bits"))?;
                Some((series, input.signed()?))
            }
            _ => return Err(FormatError("unknown form of fold row")),
        };
        input.end()?;
        Ok(Self { end, position })
    }

    /// The least sequence number that a block can have. Blocks below it are cleared, and a scan that
    /// starts there does not pass their remains in the store.
    pub(crate) fn first_block(&self) -> u64 {
        if self.position.is_none() { self.end } else { 0 }
    }

    /// The lowest step of a series in a block that is not folded yet; `None` if the whole
    /// series is folded.
    pub(crate) fn first_unfolded(&self, sequence: u64, series: SeriesNumber) -> Option<i64> {
        match self.position {
            Some((position, step)) if sequence < self.end => match series.0.cmp(&position) {
                Ordering::Less => None,
                Ordering::Equal => Some(step),
                Ordering::Greater => Some(i64::MIN),
            },
            _ => Some(i64::MIN),
        }
    }
}
