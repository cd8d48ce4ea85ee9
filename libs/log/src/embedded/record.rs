//! Format of a record in a segment: a header, a body, and zeros up to a multiple of 8 bytes.
//! Integers are in little-endian.
//!
//! ```text
//! header  u32 checksum of the rest of the header, u32 checksum of the body, u32 length of the body,
//!         u32 synced, u64 offset, i64 appended_us
//! body    u32 length of the key, key,
//!         u32 number of headers, then of each: u32 length of the name, name, u32 length of the value, value,
//!         the rest: the value
//! ```
//!
//! `synced` is the position in the segment up to which everything was on disk before this record
//! was written. The record thus proves that damage before that position is not a torn write.
//!
//! The checksum of the header includes the identity of the log, the segment, and the position, so
//! that no other bytes can pass for a header: neither the content of a record nor the remains of
//! another file.
//!
//! A header without a body (a *seal*) is not a record. It proves that everything before it is on disk, and is
//! overwritten by the next record.

use bytes::{Buf, BufMut, Bytes};
use crc32c::{crc32c, crc32c_append};

use crate::{NewRecord, Record};

pub(super) const HEADER_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;
pub(super) const ALIGNMENT: usize = 8;

/// Length of the body in a seal.
const SEAL: u32 = u32::MAX;

/// Start value of the header checksums of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(identity: &[u8; 16], first_offset: u64) -> Self {
        Self(crc32c_append(crc32c(identity), &first_offset.to_le_bytes()))
    }

    fn checksum(self, position: u32, header: &[u8]) -> u32 {
        crc32c_append(crc32c_append(self.0, &position.to_le_bytes()), header)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    body_checksum: u32,
    body_bytes: u32,
    pub(super) synced: u32,
    pub(super) offset: u64,
    pub(super) appended_us: i64,
}

impl Header {
    /// The header of a seal at this position.
    pub(super) fn seal(position: u32, end: u64) -> Self {
        Self { body_checksum: 0, body_bytes: SEAL, synced: position, offset: end, appended_us: 0 }
    }

    pub(super) fn encode(self, seed: Seed, position: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = &mut bytes[LENGTH_BYTES..];
        rest.put_u32_le(self.body_checksum);
        rest.put_u32_le(self.body_bytes);
        rest.put_u32_le(self.synced);
        rest.put_u64_le(self.offset);
        rest.put_i64_le(self.appended_us);
        let checksum = seed.checksum(position, &bytes[LENGTH_BYTES..]);
        bytes[..LENGTH_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes the header at this position. None if there is none.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], seed: Seed, position: u32) -> Option<Self> {
        let mut rest = &bytes[..];
        let checksum = rest.get_u32_le();
        if checksum != seed.checksum(position, rest) {
            return None;
        }
        Some(Self {
            body_checksum: rest.get_u32_le(),
            body_bytes: rest.get_u32_le(),
            synced: rest.get_u32_le(),
            offset: rest.get_u64_le(),
            appended_us: rest.get_i64_le(),
        })
    }

    /// Length of the body. None for a seal.
    pub(super) fn body_bytes(&self) -> Option<usize> {
        (self.body_bytes != SEAL).then_some(self.body_bytes as usize)
    }

    pub(super) fn matches(&self, body: &[u8]) -> bool {
        crc32c(body) == self.body_checksum
    }
}

/// Size of a record with this body in a segment.
pub(super) fn padded(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// The size of a record in a segment, which also counts towards the bound on unread bytes.
pub(super) fn size(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| 2 * LENGTH_BYTES + n.len() + v.len()).sum();
    padded(2 * LENGTH_BYTES + record.key.len() + headers + record.value.len())
}

/// Encodes records that are written together.
pub(super) struct Encoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) seed: Seed,
    /// Position in the segment of the first byte of `out`.
    pub(super) start: u32,
    pub(super) appended_us: i64,
}

impl Encoder<'_> {
    /// Position of the next record.
    pub(super) fn position(&self) -> u32 {
        self.start + self.out.len() as u32
    }

    pub(super) fn push(&mut self, offset: u64, record: &NewRecord) {
        let position = self.position();
        let at = self.out.len();
        let out = &mut *self.out;
        out.put_bytes(0, HEADER_BYTES);
        put(out, &record.key);
        out.put_u32_le(record.headers.len() as u32);
        for (name, value) in &record.headers {
            put(out, name.as_bytes());
            put(out, value);
        }
        out.put_slice(&record.value);
        let body = &out[at + HEADER_BYTES..];
        let header = Header {
            body_checksum: crc32c(body),
            body_bytes: body.len() as u32,
            synced: self.start,
            offset,
            appended_us: self.appended_us,
        };
        out[at..at + HEADER_BYTES].copy_from_slice(&header.encode(self.seed, position));
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Decodes the body of a record, which then shares its memory.
pub(super) fn decode_body(offset: u64, appended_us: i64, mut body: Bytes) -> Option<Record> {
    let key = take(&mut body)?;
    let count = body.try_get_u32_le().ok()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = std::str::from_utf8(&take(&mut body)?).ok()?.to_owned();
        headers.push((name, take(&mut body)?));
    }
    Some(Record { offset, key, value: body, headers, appended_us, leader_epoch: None })
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.put_u32_le(field.len() as u32);
    out.put_slice(field);
}

fn take(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()? as usize;
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    fn encoded(record: &NewRecord, seed: Seed, start: u32) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder { out: &mut out, seed, start, appended_us: -5 }.push(7, record);
        out
    }

    proptest! {
        #[test]
        fn records_round_trip(
            key in any_bytes(),
            value in any_bytes(),
            headers in proptest::collection::vec((".{0,20}", any_bytes()), 0..4),
            identity: [u8; 16],
            start: u32,
        ) {
            let record = NewRecord { key, value, headers };
            let seed = Seed::new(&identity, 3);
            let stored = encoded(&record, seed, start);
            prop_assert_eq!(stored.len(), size(&record));
            let (head, rest) = stored.split_first_chunk().unwrap();
            let header = Header::decode(head, seed, start).unwrap();
            let body = Bytes::copy_from_slice(&rest[..header.body_bytes().unwrap()]);
            prop_assert!(header.matches(&body));
            prop_assert_eq!(header.synced, start);
            let NewRecord { key, value, headers } = record;
            let expected = Record { offset: 7, key, value, headers, appended_us: -5, leader_epoch: None };
            prop_assert_eq!(decode_body(header.offset, header.appended_us, body).unwrap(), expected);
            prop_assert!(Header::decode(head, seed, start.wrapping_add(8)).is_none());
            prop_assert!(Header::decode(head, Seed::new(&identity, 4), start).is_none());
        }

        #[test]
        fn no_body_panics(body in any_bytes()) {
            drop(decode_body(7, 0, body));
        }

        #[test]
        fn every_changed_bit_of_a_header_is_detected(bit in 0..8 * HEADER_BYTES) {
            let seed = Seed::new(&[1; 16], 0);
            let mut bytes = Header::seal(64, 9).encode(seed, 64);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes, seed, 64).is_none());
        }
    }
}
