//! Row encoding: a format byte, then the fields as a CBOR array. New fields are added at the
//! end and must be optional. A value that does not fit a row is split into pieces, whose keys
//! end with the number of the piece; the first piece has the format byte.

use std::collections::BTreeSet;

use bytes::Bytes;
use matyan_store::{Batch, Error, Key, Range, Result, Scan, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};
use parking_lot::Mutex;

use crate::keys;

/// First byte of every row except the rows of series, which have their own formats.
const FORMAT: u8 = 1;

/// Maximum size of a piece: well below the store's limit, and cheap to rewrite.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

pub(crate) fn encode(row: &impl Encode<()>) -> Value {
    let mut bytes = vec![FORMAT];
    minicbor::encode(row, &mut bytes).expect("writing to memory does not fail");
    bytes.into()
}

/// Encodes a row whose body is not a CBOR array.
pub(crate) fn with_format(body: &[u8]) -> Value {
    [&[FORMAT], body].concat().into()
}

pub(crate) fn decode<'b, T: Decode<'b, ()>>(key: &Key, value: &'b [u8]) -> Result<T> {
    minicbor::decode(body(key, value)?).map_err(|error| corrupt(key, &error))
}

/// The part of a row after its format byte.
pub(crate) fn body<'b>(key: &Key, value: &'b [u8]) -> Result<&'b [u8]> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((format, _)) => Err(corrupt(key, &unknown_format(*format))),
        None => Err(corrupt(key, &"its value is empty")),
    }
}

/// Reason why a row cannot be read whose first byte is not the known format.
pub(crate) fn unknown_format(format: u8) -> String {
    format!(
        "its format is {format}, but this program reads format {FORMAT}: a newer version wrote it, or it is damaged"
    )
}

pub(crate) fn corrupt(key: &Key, reason: &dyn std::fmt::Display) -> Error {
    Error::corrupt_row(key, format!("the row at {} is corrupt: {reason}", key.escape_ascii()))
}

/// Returns the decoded value of one row of many; `None` if the row is damaged, because damage must not
/// stop the others.
pub(crate) fn readable<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Err(error @ Error::Corrupt { .. }) => {
            report_left_out(&error);
            Ok(None)
        }
        decoded => decoded.map(Some),
    }
}

/// Number of damaged rows above which further damaged rows are reported each time they are read.
const MAX_REPORTED: usize = 1_000;

/// Reports a damaged row that a list or a sweep has left out, once in the life of the process.
fn report_left_out(error: &Error) {
    if is_first_report(error) {
        tracing::error!(%error, "left out a damaged row");
    }
}

/// Returns whether a damaged row is reported for the first time in the life of the process.
pub(crate) fn is_first_report(error: &Error) -> bool {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut reported = REPORTED.lock();
    let text = error.to_string();
    if reported.contains(&text) {
        return false;
    }
    if reported.len() < MAX_REPORTED {
        reported.insert(text);
    }
    true
}

/// Reads and decodes a row.
pub(crate) async fn get<T: for<'b> Decode<'b, ()>>(snapshot: &dyn Snapshot, key: &Key) -> Result<Option<T>> {
    match snapshot.get(key).await? {
        Some(value) => Ok(Some(decode(key, &value)?)),
        None => Ok(None),
    }
}

/// All rows of a range, which must be known to be small.
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

/// Decodes all rows of a range. Their bytes are in memory for one page at a time.
pub(crate) async fn decode_all<T>(
    snapshot: &dyn Snapshot,
    range: &Range,
    decode: impl Fn(&Key, &Value) -> Result<T>,
) -> Result<Vec<T>> {
    let mut rest = range.clone();
    let mut decoded = Vec::new();
    loop {
        let page = snapshot.scan(&rest, Scan::default()).await?;
        for (key, value) in &page.rows {
            decoded.push(decode(key, value)?);
        }
        match page.rest(&rest) {
            Some(next) => rest = next,
            None => return Ok(decoded),
        }
    }
}

/// Number of rows above which neighbors are read by a scan.
const SCANNED_FROM: usize = 8;

/// Maximum number of rows that such a scan reads for each wanted row.
const SCANNED_PER_ROW: usize = 4;

/// The rows whose keys are these numbers after a prefix, in the given order. Many neighbors are read in one pass: a row
/// of a scan takes a fraction of the time of a single read.
pub(crate) async fn get_numbered(
    snapshot: &dyn Snapshot,
    numbers: &[u32],
    prefix: &Key,
    key: impl Fn(u32) -> Key,
) -> Result<Vec<Option<Value>>> {
    let first = numbers.iter().copied().min().unwrap_or_default();
    let last = numbers.iter().copied().max().unwrap_or_default();
    let gap = (last - first) as usize;
    if numbers.len() < SCANNED_FROM || gap >= numbers.len() * SCANNED_PER_ROW {
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        return snapshot.get_many(&keys).await;
    }
    // The end of a range is excluded, so a zero byte is appended to include the last key.
    let mut end = key(last).to_vec();
    end.push(0);
    let between = Range::new(key(first), end);
    let mut found = vec![None; gap + 1];
    for (row, value) in scan_all(snapshot, &between).await? {
        let (number,): (u32,) = keys::tail(prefix, &row)?;
        found[(number - first) as usize] = Some(value);
    }
    Ok(numbers.iter().map(|number| found[(*number - first) as usize].clone()).collect())
}

/// All rows of a range, which must be known to be small; the commit fails if one of them changes or another one
/// appears.
pub(crate) async fn read_all(transaction: &Transaction, range: &Range) -> Result<Vec<(Key, Value)>> {
    let mut rest = range.clone();
    let mut rows = Vec::new();
    loop {
        let page = transaction.scan(&rest, Scan::default()).await?;
        rows.extend(page.rows);
        match rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok(rows),
        }
    }
}

/// Replaces the pieces in `range` by the pieces of `bytes`, and returns how many were written.
pub(crate) fn put_pieces(batch: &mut Batch, range: Range, key: impl Fn(u32) -> Key, bytes: &Bytes) -> u32 {
    batch.clear_range(range);
    // An empty value still has one piece, which distinguishes it from a missing one.
    let count = bytes.len().div_ceil(PIECE_BYTES).max(1);
    for piece in 0..count {
        let end = bytes.len().min((piece + 1) * PIECE_BYTES);
        batch.set(key(piece as u32), bytes.slice(piece * PIECE_BYTES..end));
    }
    count as u32
}

/// Number of pieces in one transaction: below the size that FoundationDB recommends.
const BATCH_PIECES: usize = 12;

/// The pieces of a value of any size, in batches that each fit in a transaction.
pub(crate) fn piece_batches(bytes: &Bytes, key: impl Fn(u32) -> Key) -> Vec<Batch> {
    let starts: Vec<usize> = (0..bytes.len()).step_by(PIECE_BYTES).collect();
    let batches = starts.chunks(BATCH_PIECES).map(|starts| {
        let mut batch = Batch::buffered();
        for start in starts {
            let end = bytes.len().min(start + PIECE_BYTES);
            batch.set(key((start / PIECE_BYTES) as u32), bytes.slice(*start..end));
        }
        batch
    });
    batches.collect()
}

/// Reads and joins all pieces in a range; `None` if there are none.
pub(crate) async fn get_pieces(snapshot: &dyn Snapshot, range: &Range) -> Result<Option<Bytes>> {
    let mut rows = scan_all(snapshot, range).await?;
    Ok(match rows.len() {
        0 => None,
        1 => rows.pop().map(|(_, value)| value),
        _ => {
            let mut bytes = Vec::with_capacity(rows.iter().map(|(_, value)| value.len()).sum());
            for (_, value) in rows {
                bytes.extend_from_slice(&value);
            }
            Some(bytes.into())
        }
    })
}
