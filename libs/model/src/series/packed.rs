//! Columns packed for speed: written in one pass, with random access to values. They are used
//! for blocks, pyramid pages, and short chunk columns; `column` compresses long ones further.
//!
//! The number of values, n, is stored elsewhere. Formats:
//!
//! - **Integers**: a byte w from 0 to 8, then base and stride as signed varints, then n
//!   residuals of w little-endian bytes. Value i is base + stride · i + residual i, modulo
//!   2^64. Constant and evenly spaced columns have w = 0.
//! - **Optional integers**: a byte. 0: all are absent. 1: none are absent, and integers follow.
//!   2: a bit map of n bits follows (lowest bit first, 1 = present), then integers with
//!   arbitrary values in absent positions.
//! - **Floats**: a byte. 0: one float64, to which all values are equal, to the bit. 1: n
//!   float32. 2: n float64. Little-endian. In a float32 column, NaN represents the bits
//!   7ff8000000000000; a NaN with other bits requires a float64 column.

use matyan_proto::ABSENT;

use super::wire::{FormatError, Input, put_signed};

const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;
const NARROW_NAN_BITS: u32 = 0x7fc0_0000;

pub(crate) fn put_integers(out: &mut Vec<u8>, values: &[i64]) {
    let fit = LinearFit::new(values);
    out.push(fit.width as u8);
    put_signed(out, fit.base);
    put_signed(out, fit.stride);
    if fit.width > 0 {
        put_residuals(out, values, &fit);
    }
}

/// Writes the numbers below `length` in ascending order, `times` times, in an integer column.
pub(crate) fn put_cycles(out: &mut Vec<u8>, length: usize, times: usize) {
    let width = cycles_width(length);
    out.push(width as u8);
    put_signed(out, 0);
    put_signed(out, 0);
    let cycle: Vec<u8> =
        (0..length as u64).flat_map(|number| number.to_le_bytes().into_iter().take(width)).collect();
    for _ in 0..times {
        out.extend_from_slice(&cycle);
    }
}

/// Bytes of each number that `put_cycles` writes.
pub(crate) fn cycles_width(length: usize) -> usize {
    let highest = length.saturating_sub(1) as u64;
    (u64::BITS - highest.leading_zeros()).div_ceil(8) as usize
}

/// Writes eight bytes per value but advances by the width only, which is faster than copies of
/// variable length.
fn put_residuals(out: &mut Vec<u8>, values: &[i64], fit: &LinearFit) {
    let start = out.len();
    let end = start + values.len() * fit.width;
    out.resize(end + 8, 0);
    let mut line = fit.base;
    for (offset, value) in (start..).step_by(fit.width).zip(values) {
        let residual = value.wrapping_sub(line) as u64;
        out[offset..offset + 8].copy_from_slice(&residual.to_le_bytes());
        line = line.wrapping_add(fit.stride);
    }
    out.truncate(end);
}

/// A line below the values of a column, and the width in bytes of the largest residual.
struct LinearFit {
    base: i64,
    stride: i64,
    width: usize,
}

impl LinearFit {
    /// Tries a flat line and a line from the first to the last value, and prefers the flat
    /// one unless it is wider.
    fn new(values: &[i64]) -> Self {
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            return Self { base: 0, stride: 0, width: 0 };
        };
        let flat = Self::with_stride(values, 0);
        if flat.width == 0 {
            return flat;
        }
        let slope = last.wrapping_sub(*first) / (values.len() as i64 - 1);
        let sloped = Self::with_stride(values, slope);
        if sloped.width < flat.width { sloped } else { flat }
    }

    fn with_stride(values: &[i64], stride: i64) -> Self {
        let mut min = i64::MAX;
        let mut max = i64::MIN;
        let mut line = 0_i64;
        for value in values {
            let distance = value.wrapping_sub(line);
            min = min.min(distance);
            max = max.max(distance);
            line = line.wrapping_add(stride);
        }
        let span = max.wrapping_sub(min) as u64;
        Self { base: min, stride, width: (u64::BITS - span.leading_zeros()).div_ceil(8) as usize }
    }
}

/// Size of the residuals that `put_integers` writes.
pub(crate) fn integers_width(values: &[i64]) -> usize {
    LinearFit::new(values).width * values.len()
}

/// A packed integer column, checked to hold the number of values it was opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integers<'a> {
    base: i64,
    stride: i64,
    width: usize,
    residuals: &'a [u8],
}

impl<'a> Integers<'a> {
    pub(crate) fn open(input: &mut Input<'a>, count: usize) -> Result<Self, FormatError> {
        let width = usize::from(input.byte()?);
        if width > 8 {
            return Err(FormatError("integer wider than 8 bytes"));
        }
        let base = input.signed()?;
        let stride = input.signed()?;
        let bytes = count.checked_mul(width).ok_or(FormatError("value ends early"))?;
        Ok(Self { base, stride, width, residuals: input.take(bytes)? })
    }

    /// The first value and the distance between neighbors, if the values are evenly spaced modulo 2^64.
    pub(crate) fn line(&self) -> Option<(i64, i64)> {
        (self.width == 0).then_some((self.base, self.stride))
    }

    /// `index` must be less than the count that the column was opened with.
    pub(crate) fn get(&self, index: usize) -> i64 {
        let line = self.base.wrapping_add(self.stride.wrapping_mul(index as i64));
        line.wrapping_add(self.residual(index) as i64)
    }

    fn residual(&self, index: usize) -> u64 {
        if self.width == 0 {
            return 0;
        }
        let start = index * self.width;
        let mut bytes = [0; 8];
        match self.residuals.get(start..start + 8) {
            Some(eight) => bytes.copy_from_slice(eight),
            None => bytes[..self.width].copy_from_slice(&self.residuals[start..start + self.width]),
        }
        // Discards the bytes of later values.
        let unused = 64 - 8 * self.width as u32;
        u64::from_le_bytes(bytes).checked_shl(unused).map_or(0, |shifted| shifted >> unused)
    }

    pub(crate) fn read(&self, range: std::ops::Range<usize>, out: &mut Vec<i64>) {
        out.extend(range.map(|index| self.get(index)));
    }
}

/// Reads an integer column with one value.
pub(crate) fn one_integer(input: &mut Input<'_>) -> Result<i64, FormatError> {
    let width = usize::from(input.byte()?);
    if width > 8 {
        return Err(FormatError("integer wider than 8 bytes"));
    }
    let base = input.signed()?;
    // The stride is for later values.
    input.signed()?;
    let mut residual = [0; 8];
    residual[..width].copy_from_slice(input.take(width)?);
    Ok(base.wrapping_add(i64::from_le_bytes(residual)))
}

pub(crate) fn put_optionals(out: &mut Vec<u8>, values: &[i64], put: impl Fn(&mut Vec<u8>, &[i64])) {
    let present = values.iter().filter(|value| **value != ABSENT).count();
    if present == 0 {
        out.push(0);
    } else if present == values.len() {
        out.push(1);
        put(out, values);
    } else {
        out.push(2);
        put_bits(out, values);
        put(out, &fill_absent(values));
    }
}

fn put_bits(out: &mut Vec<u8>, values: &[i64]) {
    out.extend(values.chunks(8).map(|eight| {
        eight.iter().enumerate().fold(0, |byte, (bit, value)| byte | u8::from(*value != ABSENT) << bit)
    }));
}

/// Replaces absent values by a neighbor, which packs best.
fn fill_absent(values: &[i64]) -> Vec<i64> {
    let mut last = values.iter().copied().find(|value| *value != ABSENT).unwrap_or(0);
    values
        .iter()
        .map(|value| {
            last = if *value == ABSENT { last } else { *value };
            last
        })
        .collect()
}

/// Which values of a column are present.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Presence<'a> {
    None,
    All,
    Some(&'a [u8]),
}

impl<'a> Presence<'a> {
    pub(crate) fn open(input: &mut Input<'a>, count: usize) -> Result<Self, FormatError> {
        match input.byte()? {
            0 => Ok(Self::None),
            1 => Ok(Self::All),
            2 => Ok(Self::Some(input.take(count.div_ceil(8))?)),
            _ => Err(FormatError("unknown form of optional column")),
        }
    }

    pub(crate) fn has(&self, index: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(bits) => bits[index / 8] >> (index % 8) & 1 == 1,
        }
    }
}

/// A packed optional column; `integers` is `None` if all values are absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionalIntegers<'a> {
    presence: Presence<'a>,
    integers: Option<Integers<'a>>,
}

impl<'a> OptionalIntegers<'a> {
    pub(crate) fn open(input: &mut Input<'a>, count: usize) -> Result<Self, FormatError> {
        let presence = Presence::open(input, count)?;
        let integers = match presence {
            Presence::None => None,
            Presence::All | Presence::Some(_) => Some(Integers::open(input, count)?),
        };
        Ok(Self { presence, integers })
    }

    pub(crate) fn get(&self, index: usize) -> i64 {
        match &self.integers {
            Some(integers) if self.presence.has(index) => integers.get(index),
            _ => ABSENT,
        }
    }

    /// Appends the values at these positions, which must be less than the count of the column.
    pub(crate) fn gather(&self, positions: &[i64], out: &mut Vec<i64>) {
        match (&self.integers, &self.presence) {
            (None, _) => out.resize(out.len() + positions.len(), ABSENT),
            (Some(integers), Presence::All) => {
                out.extend(positions.iter().map(|position| integers.get(*position as usize)));
            }
            _ => out.extend(positions.iter().map(|position| self.get(*position as usize))),
        }
    }

    pub(crate) fn read(&self, range: std::ops::Range<usize>, out: &mut Vec<i64>) {
        match (&self.integers, &self.presence) {
            (None, _) => out.resize(out.len() + range.len(), ABSENT),
            (Some(integers), Presence::All) => integers.read(range, out),
            _ => out.extend(range.map(|index| self.get(index))),
        }
    }
}

/// Reads an optional integer column with one value.
pub(crate) fn one_optional(input: &mut Input<'_>) -> Result<i64, FormatError> {
    let is_present = match Presence::open(input, 1)? {
        Presence::None => return Ok(ABSENT),
        presence => presence.has(0),
    };
    let value = one_integer(input)?;
    Ok(if is_present { value } else { ABSENT })
}

/// Whether a float32 column preserves every value to the bit.
pub(crate) fn fit_float32(values: &[f64]) -> bool {
    // The inner loop has no branches, so that it is vectorized; the outer one can exit
    // early.
    values.chunks(64).all(|block| block.iter().fold(true, |all, value| all & fits_float32(*value)))
}

fn fits_float32(value: f64) -> bool {
    widen_float(narrow_float(value)).to_bits() == value.to_bits()
}

/// Converts to float32. Conversions between float types may change the bits of a NaN, so NaN is
/// handled explicitly in both directions.
pub(crate) fn narrow_float(value: f64) -> f32 {
    if value.is_nan() { f32::from_bits(NARROW_NAN_BITS) } else { value as f32 }
}

pub(crate) fn widen_float(value: f32) -> f64 {
    if value.is_nan() { f64::from_bits(NAN_BITS) } else { f64::from(value) }
}

pub(crate) fn put_floats(out: &mut Vec<u8>, values: &[f64]) {
    let first = values.first().map_or(0, |value| value.to_bits());
    let constant = values.iter().all(|value| value.to_bits() == first);
    let narrow = fit_float32(values);
    if constant && !(narrow && values.len() == 1) {
        out.push(0);
        out.extend_from_slice(&first.to_le_bytes());
    } else if narrow {
        out.push(1);
        extend(out, values, |value| narrow_float(value).to_le_bytes());
    } else {
        out.push(2);
        extend(out, values, f64::to_le_bytes);
    }
}

/// Appends the bytes of each value. The space for all of them is made first, so that the loop has
/// nothing else to do and is vectorized.
fn extend<const N: usize>(out: &mut Vec<u8>, values: &[f64], bytes: impl Fn(f64) -> [u8; N]) {
    let start = out.len();
    out.resize(start + N * values.len(), 0);
    let (places, _) = out[start..].as_chunks_mut();
    for (place, value) in places.iter_mut().zip(values) {
        *place = bytes(*value);
    }
}

/// A packed float column, checked to hold the number of values it was opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Floats<'a> {
    Constant(f64),
    Narrow(&'a [[u8; 4]]),
    Wide(&'a [[u8; 8]]),
}

impl<'a> Floats<'a> {
    pub(crate) fn open(input: &mut Input<'a>, count: usize) -> Result<Self, FormatError> {
        match input.byte()? {
            0 => Ok(Self::Constant(f64::from_le_bytes(input.array()?))),
            1 => Ok(Self::Narrow(take_floats(input, count)?)),
            2 => Ok(Self::Wide(take_floats(input, count)?)),
            _ => Err(FormatError("unknown form of float column")),
        }
    }

    /// `index` must be less than the count that the column was opened with.
    pub(crate) fn get(&self, index: usize) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Narrow(values) => widen_float(f32::from_le_bytes(values[index])),
            Self::Wide(values) => f64::from_le_bytes(values[index]),
        }
    }

    pub(crate) fn read(&self, range: std::ops::Range<usize>, out: &mut Vec<f64>) {
        match self {
            Self::Constant(value) => out.resize(out.len() + range.len(), *value),
            Self::Narrow(values) => {
                out.extend(values[range].iter().map(|value| widen_float(f32::from_le_bytes(*value))))
            }
            Self::Wide(values) => out.extend(values[range].iter().map(|value| f64::from_le_bytes(*value))),
        }
    }
}

/// Reads a float column with one value.
pub(crate) fn one_float(input: &mut Input<'_>) -> Result<f64, FormatError> {
    match input.byte()? {
        0 | 2 => Ok(f64::from_le_bytes(input.array()?)),
        1 => Ok(widen_float(f32::from_le_bytes(input.array()?))),
        _ => Err(FormatError("unknown form of float column")),
    }
}

fn take_floats<'a, const N: usize>(
    input: &mut Input<'a>,
    count: usize,
) -> Result<&'a [[u8; N]], FormatError> {
    let bytes = count.checked_mul(N).ok_or(FormatError("value ends early"))?;
    Ok(input.take(bytes)?.as_chunks().0)
}

#[cfg(test)]
mod tests;
