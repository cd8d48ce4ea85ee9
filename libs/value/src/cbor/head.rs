//! The head of a data item: its major type and its argument, which is a number, a length, or a
//! count.

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const LIST: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;

/// Tags of big integers.
pub(crate) const POSITIVE_BIGNUM: u64 = 2;
pub(crate) const NEGATIVE_BIGNUM: u64 = 3;

/// Reads major type, argument, and size of a head with a definite length. Returns `None` for other
/// heads, and at the end of the bytes.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (argument, size) = match first & 0x1f {
        small @ 0..24 => (u64::from(small), 1),
        24 => (u64::from(*rest.first()?), 2),
        25 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 3),
        26 => (u64::from(u32::from_be_bytes(*rest.first_chunk()?)), 5),
        27 => (u64::from_be_bytes(*rest.first_chunk()?), 9),
        _ => return None,
    };
    Some((first >> 5, argument, size))
}

/// The head of a text or a byte string whose length is definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringHead {
    /// A byte string otherwise.
    pub is_text: bool,
    /// Bytes of the head.
    pub size: usize,
    /// Bytes that follow the head.
    pub length: u64,
}

impl StringHead {
    /// Reads the head at the start of these bytes. `None` if it is cut off, or the head of another item.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (major, length, size) = read(bytes)?;
        matches!(major, BYTES | TEXT).then_some(Self { is_text: major == TEXT, size, length })
    }
}

/// Writes a head, with its argument in the shortest form.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}
