//! Storage format of a record in the engine. The key is its offset in big-endian; the value has
//! the following fields in little-endian. Every record stores the size of all records before
//! it, so that the size of any interval is known from its two ends.
//!
//! ```text
//! 1 byte   format of the record: 1
//! 8 bytes  appended_us
//! 8 bytes  bytes of all records of the partition before this one, trimmed ones included
//! 4 bytes  length of the key, then the key
//! 4 bytes  number of headers, then of each: 4 bytes length of the name, name, 4 bytes length of the value, value
//! the rest: the value
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::{Error, NewRecord, Record, Result};

const FORMAT: u8 = 1;
const LENGTH_BYTES: usize = 4;
const FIXED_BYTES: usize = 1 + 8 + 8 + 2 * LENGTH_BYTES;

/// The size of a record in the engine, which also counts towards the bound on unread bytes.
pub(super) fn size(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(n, v)| 2 * LENGTH_BYTES + n.len() + v.len()).sum();
    FIXED_BYTES + record.key.len() + headers + record.value.len()
}

pub(super) fn encode(record: &NewRecord, appended_us: i64, bytes_before: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(record));
    out.put_u8(FORMAT);
    out.put_i64_le(appended_us);
    out.put_u64_le(bytes_before);
    put(&mut out, &record.key);
    out.put_u32_le(record.headers.len() as u32);
    for (name, value) in &record.headers {
        put(&mut out, name.as_bytes());
        put(&mut out, value);
    }
    out.put_slice(&record.value);
    out
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.put_u32_le(field.len() as u32);
    out.put_slice(field);
}

/// Decodes a record. Its fields share the memory of `stored`.
pub(super) fn decode(offset: u64, mut stored: Bytes) -> Result<Record> {
    let broken = || Error::corrupt(format!("the record at offset {offset} is truncated"));
    let (appended_us, _) = prefix(offset, &mut stored)?;
    let key = take(&mut stored).ok_or_else(broken)?;
    let count = stored.try_get_u32_le().map_err(|_| broken())?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take(&mut stored).ok_or_else(broken)?;
        let name = std::str::from_utf8(&name).map_err(|_| broken())?.to_owned();
        headers.push((name, take(&mut stored).ok_or_else(broken)?));
    }
    Ok(Record { offset, key, value: stored, headers, appended_us })
}

/// The total size of all records before this one.
pub(super) fn bytes_before(offset: u64, mut stored: &[u8]) -> Result<u64> {
    prefix(offset, &mut stored).map(|(_, bytes)| bytes)
}

fn prefix(offset: u64, stored: &mut impl Buf) -> Result<(i64, u64)> {
    match stored.try_get_u8() {
        Ok(FORMAT) => {}
        Ok(other) => {
            return Err(Error::corrupt(format!(
                "the record at offset {offset} has format {other}; this program reads format {FORMAT}"
            )));
        }
        Err(_) => return Err(Error::corrupt(format!("the record at offset {offset} is empty"))),
    }
    let broken = |_| Error::corrupt(format!("the record at offset {offset} is truncated"));
    Ok((stored.try_get_i64_le().map_err(broken)?, stored.try_get_u64_le().map_err(broken)?))
}

fn take(stored: &mut Bytes) -> Option<Bytes> {
    let length = stored.try_get_u32_le().ok()? as usize;
    (length <= stored.len()).then(|| stored.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn records_round_trip(
            key in any_bytes(),
            value in any_bytes(),
            headers in proptest::collection::vec((".{0,20}", any_bytes()), 0..4),
            appended_us: i64,
            before: u64,
            offset: u64,
        ) {
            let record = NewRecord { key, value, headers };
            let stored = encode(&record, appended_us, before);
            prop_assert_eq!(stored.len(), size(&record));
            prop_assert_eq!(bytes_before(offset, &stored).unwrap(), before);
            let NewRecord { key, value, headers } = record;
            let expected = Record { offset, key, value, headers, appended_us };
            prop_assert_eq!(decode(offset, stored.into()).unwrap(), expected);
        }

        #[test]
        fn no_input_panics(stored in any_bytes()) {
            if let Ok(record) = decode(7, stored.clone()) {
                prop_assert_eq!(stored[0], FORMAT);
                prop_assert_eq!(record.offset, 7);
            }
        }
    }

    #[test]
    fn every_truncation_before_the_value_is_detected() {
        let record = NewRecord {
            key: Bytes::from_static(b"run"),
            value: Bytes::new(),
            headers: vec![("type".into(), Bytes::from_static(b"json"))],
        };
        let stored = encode(&record, 1, 2);
        for cut in 0..stored.len() {
            assert!(decode(0, Bytes::copy_from_slice(&stored[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_newer_format_is_refused() {
        let record = NewRecord { key: Bytes::new(), value: Bytes::new(), headers: vec![] };
        let mut stored = encode(&record, 1, 2);
        stored[0] = FORMAT + 1;
        let error = decode(3, stored.into()).unwrap_err();
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}
