//! The framing of TFRecord, the format of TensorBoard's event files: the length of a content and the content, each with
//! its checksum. An import reads a file once, and a follower returns to a file that grows.
//!
//! | bytes | |
//! |---|---|
//! | 8 | length of the content, little-endian |
//! | 4 | checksum of the length |
//! | n | content |
//! | 4 | checksum of the content |
//!
//! Records of TensorBoard are events. [`EventContent`] says what they mean, for the follower and for the importer alike:
//! scalars are points, media and histograms are objects, hyperparameters are params.

mod decoded_size;
mod histogram;
mod hparams;
pub mod messages;
mod plugins;
mod records;
mod tensor;
mod values;

pub use histogram::{Bin, Distribution, Histogram};
pub use hparams::SessionOutcome;
pub use matyan_wire::fitting_name;
pub use plugins::Plugins;
pub use records::{ChunkEnd, RecordChunk, read_chunk};
pub use tensor::{Dimension, Elements, Shape, TensorProblem, TensorProto};
pub use values::{EventContent, Object, ObjectFile, ObjectPart, Point};

/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;

/// Bytes before a content: its length, and the checksum of the length.
const HEADER_BYTES: usize = LENGTH_BYTES + CHECKSUM_BYTES;

const LENGTH_BYTES: usize = 8;

/// Largest length that counts as one. No file is as long, and its record would have no end in 64 bits.
const MAX_LENGTH: u64 = u64::MAX >> 1;

/// Returns the length of the content after a header, or `None` if the header is damaged.
fn content_bytes(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let (length, checksum) = header.split_first_chunk::<LENGTH_BYTES>()?;
    let is_right = is_intact(length, checksum);
    Some(u64::from_le_bytes(*length)).filter(|length| is_right && *length <= MAX_LENGTH)
}

/// Whether a content has this checksum.
fn is_intact(content: &[u8], checksum: &[u8]) -> bool {
    checksum == masked_crc32c(content)
}

/// Bytes of a record with a content of this length.
const fn framed_bytes(length: u64) -> u64 {
    HEADER_BYTES as u64 + length + CHECKSUM_BYTES as u64
}

/// Returns the record of a content.
///
/// ```
/// use std::io::Cursor;
///
/// use matyan_tfrecord::{framed, read_chunk};
///
/// let record = framed(b"event");
/// let size = record.len() as u64;
/// let chunk = read_chunk(Cursor::new(record), 0, size, u64::MAX)?;
/// assert_eq!((chunk.records, chunk.next), (vec![b"event".to_vec()], size));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked_crc32c(&length), content, &masked_crc32c(content)].concat()
}

/// The checksum of TFRecord: CRC-32C, rotated and shifted by a constant.
fn masked_crc32c(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u64) -> [u8; HEADER_BYTES] {
        let length = length.to_le_bytes();
        let mut header = [0; HEADER_BYTES];
        header[..LENGTH_BYTES].copy_from_slice(&length);
        header[LENGTH_BYTES..].copy_from_slice(&masked_crc32c(&length));
        header
    }

    #[test]
    fn a_header_has_the_length_of_its_content_unless_it_is_damaged() {
        for length in [0, 5, u64::from(u32::MAX) + 1, MAX_LENGTH] {
            assert_eq!(content_bytes(&header(length)), Some(length));
            for byte in 0..HEADER_BYTES {
                let mut damaged = header(length);
                damaged[byte] ^= 1;
                assert_eq!(content_bytes(&damaged), None, "{length}: byte {byte}");
            }
        }
        assert_eq!(content_bytes(&header(MAX_LENGTH + 1)), None);
    }

    #[test]
    fn a_checksum_is_a_masked_crc32c() {
        assert_eq!(framed(b"123456789").len() as u64, framed_bytes(9));
        // The check value of CRC-32C for these digits, masked.
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert!(is_intact(b"123456789", &masked.to_le_bytes()));
    }
}
