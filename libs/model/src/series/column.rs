//! Columns compressed for long-term storage: with `pco` where it pays off, otherwise packed.
//!
//! A column starts with a byte. 0: packed, see `packed`. 1: `pco` of int64 (integer columns) or
//! of float32 (float columns). 2: `pco` of float64. After 1 and 2 follow the length of the
//! compressed bytes as varint, and the bytes in pco's standalone format. Optional columns start
//! with the byte and bit map of the packed form.
//!
//! The compression level is 4: higher levels save 1 % and take 2 to 20 times as long. Below 64
//! values, the time spent in pco is not worth the bytes it saves; below 1,024, if the column is soon
//! merged with others: a value costs 150 ns in a column of 335, and 70 ns in one of 1,340.

use std::borrow::Cow;

use matyan_proto::ABSENT;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::curve::{EvenSteps, Steps};
use super::packed::{
    Floats, Integers, Presence, fit_float32, integers_width, narrow_float, put_floats, put_integers,
    put_optionals, widen_float,
};
use super::wire::{FormatError, Input, put_varint};

const LEVEL: usize = 4;
const PCO_FROM: usize = 64;
const PCO_FROM_IN_MERGED: usize = 1_024;
/// Number of values of a float column by which its differences are judged.
const SAMPLE: usize = 512;
/// Differences of a higher order only amplify noise.
const MAX_DELTA_ORDER: usize = 3;

const PACKED: u8 = 0;
const PCO_NARROW: u8 = 1;
const PCO_WIDE: u8 = 2;

const UNKNOWN_INTEGERS: FormatError = FormatError("unknown form of integer column");

/// The fate of a column after it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnUse {
    Kept,
    /// Likewise, but the values are of runs, so the differences of neighbors compress no better.
    Unordered,
    /// It is soon replaced by a longer one.
    Merged,
}

impl ColumnUse {
    /// Number of values above which pco pays off.
    fn pco_from(self) -> usize {
        match self {
            Self::Kept | Self::Unordered => PCO_FROM,
            Self::Merged => PCO_FROM_IN_MERGED,
        }
    }
}

pub(crate) fn put_integer_column(out: &mut Vec<u8>, values: &[i64], column_use: ColumnUse) {
    let packed = integers_width(values);
    if values.len() >= column_use.pco_from() && packed > 0 {
        // Steps, times, and epochs ascend; letting pco detect that takes three times as
        // long.
        let config = ChunkConfig::default().with_delta_spec(DeltaSpec::TryConsecutive(1));
        let compressed = compress(values, config);
        if compressed.len() < packed {
            return put_compressed(out, PCO_NARROW, &compressed);
        }
    }
    out.push(PACKED);
    put_integers(out, values);
}

pub(crate) fn put_optional_column(out: &mut Vec<u8>, values: &[i64], column_use: ColumnUse) {
    put_optionals(out, values, |out, values| put_integer_column(out, values, column_use));
}

pub(crate) fn put_float_column(out: &mut Vec<u8>, values: &[f64], column_use: ColumnUse) {
    let constant = values.windows(2).all(|pair| pair[0].to_bits() == pair[1].to_bits());
    if values.len() < column_use.pco_from() || constant {
        out.push(PACKED);
        put_floats(out, values);
    } else if fit_float32(values) {
        let narrow: Vec<f32> = values.iter().map(|value| narrow_float(*value)).collect();
        put_compressed(out, PCO_NARROW, &compress_floats(&narrow, mode(values), column_use));
    } else {
        put_compressed(out, PCO_WIDE, &compress_floats(values, mode(values), column_use));
    }
}

/// Arithmetic on a NaN may change its bits, so columns with a NaN use the mode without
/// arithmetic.
fn mode(values: &[f64]) -> ModeSpec {
    if values.iter().all(|value| value.is_finite()) { ModeSpec::Auto } else { ModeSpec::Classic }
}

/// Compresses floats or, if they compress better, the differences of neighbors, or the differences of
/// differences, whichever the middle of the column favors. By itself, pco would also search for
/// repeating patterns: metrics rarely have them, and the search takes a quarter of the time of a
/// fold.
fn compress_floats<T: Number>(values: &[T], mode: ModeSpec, column_use: ColumnUse) -> Vec<u8> {
    let config = ChunkConfig::default().with_mode_spec(mode);
    if column_use == ColumnUse::Unordered {
        return compress_with_order(values, &config, 0);
    }
    let outside = values.len().saturating_sub(SAMPLE) / 2;
    let sample = &values[outside..values.len() - outside];
    let mut best = (0, compress_with_order(sample, &config, 0));
    for order in 1..=MAX_DELTA_ORDER {
        let compressed = compress_with_order(sample, &config, order);
        if compressed.len() >= best.1.len() {
            break;
        }
        best = (order, compressed);
    }
    let (order, compressed) = best;
    if outside == 0 { compressed } else { compress_with_order(values, &config, order) }
}

fn compress_with_order<T: Number>(values: &[T], config: &ChunkConfig, order: usize) -> Vec<u8> {
    compress(values, config.clone().with_delta_spec(DeltaSpec::TryConsecutive(order)))
}

fn compress<T: Number>(values: &[T], config: ChunkConfig) -> Vec<u8> {
    simple_compress(values, &config.with_compression_level(LEVEL))
        .expect("pco fails only on an invalid configuration, and this one is constant")
}

fn put_compressed(out: &mut Vec<u8>, form: u8, compressed: &[u8]) {
    out.push(form);
    put_varint(out, compressed.len() as u64);
    out.extend_from_slice(compressed);
}

pub(crate) fn integer_column(input: &mut Input<'_>, count: usize) -> Result<Vec<i64>, FormatError> {
    match input.byte()? {
        PACKED => Ok(read_packed(&Integers::open(input, count)?, count)),
        PCO_NARROW => decompress(input, count),
        _ => Err(UNKNOWN_INTEGERS),
    }
}

fn read_packed(packed: &Integers<'_>, count: usize) -> Vec<i64> {
    let mut values = Vec::with_capacity(count);
    packed.read(0..count, &mut values);
    values
}

/// An integer column of ascending steps, which are not listed if they are evenly spaced.
pub(crate) fn step_column(input: &mut Input<'_>, count: usize) -> Result<Steps<'static>, FormatError> {
    let steps = match input.byte()? {
        PACKED => {
            let packed = Integers::open(input, count)?;
            if let Some((first, stride)) = packed.line()
                && let Some(even) = EvenSteps::new(first, stride, count)
            {
                return Ok(Steps::Even(even));
            }
            read_packed(&packed, count)
        }
        PCO_NARROW => decompress(input, count)?,
        _ => return Err(UNKNOWN_INTEGERS),
    };
    if steps.is_sorted_by(|left, right| left < right) {
        Ok(Steps::Listed(Cow::Owned(steps)))
    } else {
        Err(FormatError("steps out of order"))
    }
}

/// Passes an optional column without decompressing it.
pub(crate) fn skip_optional_column(input: &mut Input<'_>, count: usize) -> Result<(), FormatError> {
    if matches!(Presence::open(input, count)?, Presence::None) {
        return Ok(());
    }
    match input.byte()? {
        PACKED => Integers::open(input, count).map(drop),
        PCO_NARROW => compressed(input).map(drop),
        _ => Err(UNKNOWN_INTEGERS),
    }
}

pub(crate) fn optional_column(input: &mut Input<'_>, count: usize) -> Result<Vec<i64>, FormatError> {
    let presence = Presence::open(input, count)?;
    if matches!(presence, Presence::None) {
        return Ok(vec![ABSENT; count]);
    }
    let mut values = integer_column(input, count)?;
    if matches!(presence, Presence::Some(_)) {
        for (index, value) in values.iter_mut().enumerate() {
            if !presence.has(index) {
                *value = ABSENT;
            }
        }
    }
    Ok(values)
}

pub(crate) fn float_column(input: &mut Input<'_>, count: usize) -> Result<Vec<f64>, FormatError> {
    match input.byte()? {
        PACKED => {
            let mut values = Vec::with_capacity(count);
            Floats::open(input, count)?.read(0..count, &mut values);
            Ok(values)
        }
        PCO_NARROW => Ok(decompress::<f32>(input, count)?.into_iter().map(widen_float).collect()),
        PCO_WIDE => decompress(input, count),
        _ => Err(FormatError("unknown form of float column")),
    }
}

/// Skips a float column without decompressing it.
pub(crate) fn skip_float_column(input: &mut Input<'_>, count: usize) -> Result<(), FormatError> {
    match input.byte()? {
        PACKED => Floats::open(input, count).map(drop),
        PCO_NARROW | PCO_WIDE => compressed(input).map(drop),
        _ => Err(FormatError("unknown form of float column")),
    }
}

fn compressed<'a>(input: &mut Input<'a>) -> Result<&'a [u8], FormatError> {
    let length = input.count(usize::MAX)?;
    input.take(length)
}

fn decompress<T: Number + Default>(input: &mut Input<'_>, count: usize) -> Result<Vec<T>, FormatError> {
    let bytes = compressed(input)?;
    let mut values = vec![T::default(); count];
    match simple_decompress_into(bytes, &mut values) {
        Ok(progress) if progress.finished && progress.n_processed == count => Ok(values),
        _ => Err(FormatError("compressed column does not match its length")),
    }
}

#[cfg(test)]
mod tests;
