//! Terminal lines and log records. A terminal line is a row keyed by its number, so that a repeated
//! line replaces it. A log record is a row keyed by its sequence number in order of arrival, and
//! equal records are stored once. Long entries are split into pieces. The first byte of a piece is
//! the format, and the second says whether another piece follows, so that a line which replaces a
//! longer one can leave the pieces after its end in place: they are never read.

use bytes::Bytes;
use matyan_store::{Batch, Error, Key, Range, Result, Scan, Snapshot};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys, rows,
};

const FORMAT: u8 = 1;
const LAST: u8 = 0;
const CONTINUED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalLine {
    pub number: i64,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct LogRecord {
    #[n(0)]
    pub message: String,
    #[n(1)]
    pub level: i64,
    /// Unix seconds by the client's clock.
    #[n(2)]
    pub timestamp: f64,
    /// An encoded array, or empty.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub logger_info: Vec<u8>,
    /// An encoded map, or empty.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub extra_args: Vec<u8>,
}

impl LogRecord {
    /// Identifies the record: only equal records have the same digest.
    pub fn digest(&self) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&rows::encode(self)).as_bytes()[..16]);
        digest
    }
}

/// Writes a line, replacing the line with the same number. Returns the number of bytes written.
/// `sequence` numbers the writes to the run's terminal, so that a reader that follows it can list
/// the lines written since its last read.
pub fn terminal_line_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    sequence: u64,
    line: i64,
    text: &str,
) -> usize {
    batch.set(keys::line_written(project, number, sequence), rows::encode(&line));
    put(batch, |piece| keys::terminal_piece(project, number, line, piece), text.as_bytes())
}

/// Adds a record under the next sequence number. Returns the number of bytes written. The
/// caller must have checked that its digest is not stored yet.
pub fn log_record_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    sequence: u64,
    record: &LogRecord,
) -> usize {
    batch.set(keys::log_record_seen(project, number, &record.digest()), Vec::new());
    put(batch, |piece| keys::log_record_piece(project, number, sequence, piece), &rows::encode(record))
}

fn put(batch: &mut Batch, key: impl Fn(u32) -> Key, bytes: &[u8]) -> usize {
    // An empty entry still has one piece, so that it replaces an earlier one.
    let count = bytes.len().div_ceil(rows::PIECE_BYTES).max(1);
    for piece in 0..count {
        let end = bytes.len().min((piece + 1) * rows::PIECE_BYTES);
        let follows = if piece + 1 == count { LAST } else { CONTINUED };
        let value = [&[FORMAT, follows], &bytes[piece * rows::PIECE_BYTES..end]].concat();
        batch.set(key(piece as u32), value);
    }
    bytes.len()
}

/// Limits and direction of a read of lines or records.
#[derive(Clone, Copy, Debug)]
pub struct LogScan {
    /// Maximum number of entries.
    pub count: usize,
    /// Approximate maximum size in bytes. At least one entry is always returned.
    pub bytes: usize,
    /// Returns the last entries instead of the first ones. They are in ascending order in
    /// either case.
    pub last: bool,
}

/// The lines from number `first` to number `last`, both included.
pub async fn terminal_lines_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    (first, last): (i64, i64),
    scan: LogScan,
) -> Result<Vec<TerminalLine>> {
    let all = keys::terminal_lines(project, number);
    let end = last.checked_add(1).map(|end| keys::terminal_line(project, number, end).start);
    let range = Range::new(keys::terminal_line(project, number, first).start, end.unwrap_or(all.end));
    let found = list::<i64>(snapshot, &all.start, range, scan).await?;
    let lines = found.into_iter().map(|(key, number, bytes)| match String::from_utf8(bytes) {
        Ok(text) => Ok(TerminalLine { number, text }),
        Err(error) => Err(rows::corrupt(&key, &error)),
    });
    lines.collect()
}

/// The sequence number and line number of each line that was written under one of these sequence
/// numbers.
pub async fn lines_written_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    sequences: std::ops::Range<u64>,
    rows: usize,
) -> Result<Vec<(u64, i64)>> {
    let range = keys::lines_written_between(project, number, sequences.start, sequences.end);
    let prefix = keys::lines_written_prefix(project, number);
    let page = snapshot.scan(&range, Scan { rows, ..Scan::default() }).await?;
    page.rows
        .iter()
        .map(|(key, value)| {
            let (sequence,) = keys::tail(&prefix, key)?;
            Ok((sequence, rows::decode(key, value)?))
        })
        .collect()
}

/// The records in a range of sequence numbers, each with its number.
pub async fn log_records_list(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
    sequences: std::ops::Range<u64>,
    scan: LogScan,
) -> Result<Vec<(u64, LogRecord)>> {
    let prefix = keys::log_records(project, number).start;
    let start = keys::log_record_piece(project, number, sequences.start, 0);
    let end = keys::log_record_piece(project, number, sequences.end, 0);
    let range = Range::new(start, end);
    let found = list::<u64>(snapshot, &prefix, range, scan).await?;
    found.into_iter().map(|(key, sequence, bytes)| Ok((sequence, rows::decode(&key, &bytes)?))).collect()
}

/// Reads entries and joins their pieces. A backward scan returns the pieces of an entry in
/// reverse.
async fn list<N>(
    snapshot: &dyn Snapshot,
    prefix: &Key,
    range: Range,
    scan: LogScan,
) -> Result<Vec<(Key, N, Vec<u8>)>>
where
    N: for<'b> foundationdb_tuple::TupleUnpack<'b> + PartialEq,
{
    let mut rest = range;
    let mut entries: Vec<LogEntry<N>> = Vec::new();
    let mut bytes = 0;
    loop {
        let page = snapshot.scan(&rest, Scan { reverse: scan.last, ..Scan::default() }).await?;
        for (key, value) in &page.rows {
            let (number, piece): (N, u32) = keys::tail(prefix, key)?;
            if entries.last().is_none_or(|last| last.number != number) {
                if entries.len() == scan.count || (bytes >= scan.bytes && !entries.is_empty()) {
                    return finish(entries, scan.last);
                }
                entries.push(LogEntry { key: key.clone(), number, pieces: Vec::new() });
            }
            bytes += value.len();
            let last = entries.last_mut().expect("an entry was pushed above");
            last.pieces.push((piece, value.clone()));
        }
        match page.rows.last() {
            Some((last, _)) if page.more => {
                rest = if scan.last { rest.before(last) } else { rest.after(last) };
            }
            _ => return finish(entries, scan.last),
        }
    }
}

struct LogEntry<N> {
    key: Key,
    number: N,
    pieces: Vec<(u32, Bytes)>,
}

fn finish<N>(mut entries: Vec<LogEntry<N>>, reversed: bool) -> Result<Vec<(Key, N, Vec<u8>)>> {
    if reversed {
        entries.reverse();
    }
    let joined = entries.into_iter().map(|entry| {
        let bytes = join(&entry)?;
        Ok((entry.key, entry.number, bytes))
    });
    joined.collect()
}

fn join<N>(entry: &LogEntry<N>) -> Result<Vec<u8>> {
    let mut pieces = entry.pieces.clone();
    // A backward scan has returned them in reverse.
    pieces.sort_by_key(|(piece, _)| *piece);
    let mut joined = Vec::new();
    for (_, value) in &pieces {
        match value.split_first_chunk() {
            Some((&[FORMAT, LAST], text)) => {
                joined.extend_from_slice(text);
                return Ok(joined);
            }
            Some((&[FORMAT, CONTINUED], text)) => joined.extend_from_slice(text),
            _ => break,
        }
    }
    Err(Error::corrupt(format!("the entry at {} has no last piece", entry.key.escape_ascii())))
}

#[cfg(test)]
mod tests;
