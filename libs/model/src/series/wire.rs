//! Reading and writing the primitives of stored values: bytes, varints, strings. Reading never
//! panics: bytes that this code did not write yield `FormatError`.

use matyan_store::{Error, Key};

use crate::rows;

/// A stored value is corrupt. Retrying does not help; an operator must intervene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed series data: {0}")]
pub struct FormatError(pub &'static str);

impl FormatError {
    /// The error of the row that cannot be decoded. Its key says whose row it is.
    pub(crate) fn at(self, key: &Key) -> Error {
        rows::corrupt(key, &self)
    }
}

impl From<FormatError> for Error {
    fn from(malformed: FormatError) -> Self {
        Self::corrupt(malformed.to_string())
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a signed number in zigzag encoding, so that small negative numbers are short too.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a bit map, lowest bit first.
pub(crate) fn put_bits(out: &mut Vec<u8>, bits: &[bool]) {
    out.extend(
        bits.chunks(8)
            .map(|eight| eight.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at)),
    );
}

pub(crate) fn bits(input: &mut Input<'_>, count: usize) -> Result<Vec<bool>, FormatError> {
    let bytes = input.take(count.div_ceil(8))?;
    Ok((0..count).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect())
}

/// The unread rest of a value.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Starts reading a value, whose first byte must be `format`.
    pub(crate) fn with_format(bytes: &'a [u8], format: u8) -> Result<Self, FormatError> {
        let mut input = Self(bytes);
        if input.byte()? == format { Ok(input) } else { Err(FormatError("unknown format byte")) }
    }

    #[cfg(test)]
    pub(crate) fn all(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(FormatError("value ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(FormatError("value ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit only.
                return if shift == 63 && byte > 1 {
                    Err(FormatError("varint over 64 bits"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(FormatError("varint over 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, FormatError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a count of at most `max`, which limits every allocation.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, FormatError> {
        let count = usize::try_from(self.varint()?).map_err(|_| FormatError("count out of bounds"))?;
        if count > max { Err(FormatError("count out of bounds")) } else { Ok(count) }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FormatError> {
        let length = self.count(self.0.len())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| FormatError("text is not UTF-8"))
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), FormatError> {
        if self.0.is_empty() { Ok(()) } else { Err(FormatError("bytes after the end")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(unsigned in prop_oneof![any::<u64>(), 0..300_u64], signed in prop_oneof![any::<i64>(), -300..300_i64]) {
            let mut out = Vec::new();
            put_varint(&mut out, unsigned);
            put_signed(&mut out, signed);
            put_text(&mut out, "sé");
            let mut input = Input(&out);
            prop_assert_eq!(input.varint(), Ok(unsigned));
            prop_assert_eq!(input.signed(), Ok(signed));
            prop_assert_eq!(input.text(), Ok("sé"));
            prop_assert_eq!(input.end(), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_rejected(bytes: Vec<u8>) {
            let _: Result<(), FormatError> = read_all(&bytes);
        }
    }

    fn read_all(bytes: &[u8]) -> Result<(), FormatError> {
        let mut input = Input(bytes);
        input.varint()?;
        input.signed()?;
        input.text()?;
        input.end()
    }

    #[test]
    fn a_varint_over_64_bits_is_rejected() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x02;
        assert!(Input(&bytes).varint().is_err());
        bytes[9] = 0x01;
        assert_eq!(Input(&bytes).varint(), Ok(u64::MAX));
    }
}
