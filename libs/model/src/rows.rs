//! The form that rows share: a format byte, then fields as a CBOR array by their numbers. New fields go behind the old
//! ones and are optional. What does not fit one value is cut into pieces, whose keys end with the piece's number.

use bytes::Bytes;
use matyan_store::{Batch, Error, Key, Range, Result, Scan, Snapshot, Value};
use minicbor::{Decode, Encode};

/// The first byte of every row but those of series, which have formats of their own.
const FORMAT: u8 = 1;

/// Size of a piece: well below the store's limit, and cheap to rewrite.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

pub(crate) fn encode(row: &impl Encode<()>) -> Value {
    let mut bytes = vec![FORMAT];
    minicbor::encode(row, &mut bytes).expect("writing to memory does not fail");
    bytes.into()
}

/// A row that is no array.
pub(crate) fn with_format(body: &[u8]) -> Value {
    [&[FORMAT], body].concat().into()
}

pub(crate) fn decode<'b, T: Decode<'b, ()>>(key: &Key, value: &'b [u8]) -> Result<T> {
    minicbor::decode(body(key, value)?).map_err(|error| corrupt(key, &error))
}

/// What stands behind the format byte.
pub(crate) fn body<'b>(key: &Key, value: &'b [u8]) -> Result<&'b [u8]> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((format, _)) => Err(corrupt(key, &format!("its format is {format}, not {FORMAT}"))),
        None => Err(corrupt(key, &"it is empty")),
    }
}

pub(crate) fn corrupt(key: &Key, reason: &dyn std::fmt::Display) -> Error {
    Error::corrupt(format!("the row at {}: {reason}", key.escape_ascii()))
}

/// Reads and decodes a row.
pub(crate) async fn get<T: for<'b> Decode<'b, ()>>(snapshot: &dyn Snapshot, key: &Key) -> Result<Option<T>> {
    match snapshot.get(key).await? {
        Some(value) => Ok(Some(decode(key, &value)?)),
        None => Ok(None),
    }
}

/// Every row of a range that is known to be small.
pub(crate) async fn scan_all(snapshot: &dyn Snapshot, range: &Range) -> Result<Vec<(Key, Value)>> {
    let mut rest = range.clone();
    let mut rows = Vec::new();
    loop {
        let page = snapshot.scan(&rest, Scan::default()).await?;
        rows.extend(page.rows);
        match rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(rows),
        }
    }
}

/// Writes `bytes` as pieces 0, 1, … over those that may be there; returns how many.
pub(crate) fn put_pieces(batch: &mut Batch, range: Range, key: impl Fn(u32) -> Key, bytes: &Bytes) -> u32 {
    batch.clear_range(range);
    let count = bytes.len().div_ceil(PIECE_BYTES).max(1);
    for piece in 0..count {
        let end = bytes.len().min((piece + 1) * PIECE_BYTES);
        batch.set(key(piece as u32), bytes.slice(piece * PIECE_BYTES..end));
    }
    count as u32
}

/// All pieces of a range put together; `None` if there are none.
pub(crate) async fn get_pieces(snapshot: &dyn Snapshot, range: &Range) -> Result<Option<Bytes>> {
    let mut rows = scan_all(snapshot, range).await?;
    Ok(match rows.len() {
        0 => None,
        1 => rows.pop().map(|(_, value)| value),
        _ => Some(rows.iter().flat_map(|(_, value)| value.iter().copied()).collect()),
    })
}
