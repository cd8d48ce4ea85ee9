//! Records of a segment: the format of everything that a script tracks, until it is stored.
//!
//! Integers are little-endian. A record starts at a multiple of eight bytes, and its length is one:
//!
//! | bytes | |
//! |---|---|
//! | 4 | head: kind in the low 8 bits, length of the payload in the others |
//! | 4 | CRC32C of the position (8), the head, zeros (4), and the payload |
//! | n | payload |
//! | 0 to 7 | zeros |
//!
//! The head is stored last. A head of zero is the end of the segment, unless a page was lost: then
//! complete records follow somewhere. The position is the number of the segment and the offset of
//! the record, so that a record of an earlier use of the file is never taken for one of this use.
//! Payloads by kind:
//!
//! | kind | name | payload |
//! |---|---|---|
//! | 1 | point | value (8), step (8), time (4), series (4) |
//! | 2 | point with epoch | the same, then epoch (8) |
//! | 3 | time | microseconds since the Unix epoch (8) |
//! | 4 | event | number of the upload (8), or 0; an encoded `Event` |
//! | 5 | drop | number of points that were dropped here because the spool was full (8) |
//!
//! The time of a point is in microseconds after the last time record, and the first record of every
//! segment is one. The series is a number in the spool's dictionary. `i64::MIN` as the step means
//! that the server assigns the next free one.

use matyan_proto::ingest::v1::{Event, event::Kind};
use prost::Message as _;

use crate::error::ArgumentError;

/// Bytes before the payload.
const HEAD_BYTES: usize = 8;
/// Bytes of a position in the input of the checksum.
const POSITION_BYTES: usize = 8;
/// Largest event: the server accepts batches of 16 MiB, in which definitions need room too.
const MOST_EVENT_BYTES: usize = 15 << 20;
/// Bytes of an event's payload before the event.
const UPLOAD_BYTES: usize = 8;
/// Bytes of a point's payload without an epoch.
const POINT_BYTES: usize = 24;
/// Most bytes that the record of an event has besides the event.
pub(crate) const EVENT_OVERHEAD: usize = HEAD_BYTES + UPLOAD_BYTES + 7;

/// Most bytes that a search for a record checks, a fraction of a second: what looks like the length of an event may
/// be anything.
const SEARCH_BYTES: usize = 256 << 20;

/// Kinds of records; numbers are never used again.
mod kind {
    pub(super) const POINT: u8 = 1;
    pub(super) const POINT_WITH_EPOCH: u8 = 2;
    pub(super) const TIME: u8 = 3;
    pub(super) const EVENT: u8 = 4;
    pub(super) const DROP: u8 = 5;
}

/// Bytes of a segment before the first record.
pub(crate) const HEADER_BYTES: usize = 64;

/// Position of a record, or the end of one, in a spool. Positions are ordered as records were
/// appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) series: u32,
    pub(crate) value: f64,
    /// `i64::MIN`: the next free step.
    pub(crate) step: i64,
    /// Microseconds after the last time record.
    pub(crate) time: u32,
    pub(crate) epoch: Option<i64>,
}

/// Content of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Point(Point),
    /// Base of the times that follow.
    Time(i64),
    /// An encoded `Event`, and the number of the upload that it announces, or 0.
    Event {
        upload: u64,
        event: &'a [u8],
    },
    /// Number of points that are missing here.
    Drop(u64),
}

/// A record whose bytes differ from the appended bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedRecord;

impl Position {
    fn number(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }
}

/// Length of an event's record.
pub(crate) fn event_len(event: &[u8]) -> usize {
    (HEAD_BYTES + UPLOAD_BYTES + event.len()).next_multiple_of(8)
}

/// Encodes an event. One that is too long for a record, and for the server, is an error.
pub(crate) fn encode_event(kind: Kind, time_us: i64) -> Result<Vec<u8>, ArgumentError> {
    let event = Event { client_time_us: Some(time_us), kind: Some(kind) }.encode_to_vec();
    let found = event.len();
    if found > MOST_EVENT_BYTES {
        let reason = format!("expected at most {MOST_EVENT_BYTES} bytes, found {found}");
        return Err(ArgumentError::new("value", reason));
    }
    Ok(event)
}

fn head(kind: u8, payload: usize) -> [u8; 4] {
    // Callers keep payloads within 24 bits.
    (u32::from(kind) | (payload as u32) << 8).to_le_bytes()
}

/// A record of fixed size after eight bytes for its position, so that the checksum is computed in
/// one pass over whole words.
#[repr(align(8))]
pub(crate) struct SealedRecord<const N: usize>([u8; N]);

impl<const N: usize> SealedRecord<N> {
    /// Fills in everything but the payload.
    #[inline]
    fn new(position: Position, kind: u8, mut bytes: [u8; N]) -> Self {
        bytes[..POSITION_BYTES].copy_from_slice(&position.number().to_le_bytes());
        bytes[8..12].copy_from_slice(&head(kind, N - POSITION_BYTES - HEAD_BYTES));
        let mut sealed = Self(bytes);
        let crc = crc32c::crc32c(&sealed.0);
        sealed.0[12..16].copy_from_slice(&crc.to_le_bytes());
        sealed
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[POSITION_BYTES..]
    }
}

/// Checksum of a record, whose own field counts as zero.
fn checksum(position: Position, record: &[u8]) -> u32 {
    let mut start = [0; POSITION_BYTES + HEAD_BYTES];
    start[..POSITION_BYTES].copy_from_slice(&position.number().to_le_bytes());
    start[8..12].copy_from_slice(&record[..4]);
    crc32c::crc32c_append(crc32c::crc32c(&start), &record[HEAD_BYTES..])
}

/// Encodes a point without an epoch.
#[inline]
pub(crate) fn point(position: Position, point: &Point) -> SealedRecord<40> {
    let mut record = [0; 40];
    write_point(&mut record, point);
    SealedRecord::new(position, kind::POINT, record)
}

/// Encodes a point with an epoch.
pub(crate) fn point_with_epoch(position: Position, point: &Point, epoch: i64) -> SealedRecord<48> {
    let mut record = [0; 48];
    write_point(&mut record, point);
    record[40..].copy_from_slice(&epoch.to_le_bytes());
    SealedRecord::new(position, kind::POINT_WITH_EPOCH, record)
}

#[inline]
fn write_point(record: &mut [u8], point: &Point) {
    record[16..24].copy_from_slice(&point.value.to_bits().to_le_bytes());
    record[24..32].copy_from_slice(&point.step.to_le_bytes());
    record[32..36].copy_from_slice(&point.time.to_le_bytes());
    record[36..40].copy_from_slice(&point.series.to_le_bytes());
}

/// Encodes a base of times.
pub(crate) fn time(position: Position, time_us: i64) -> SealedRecord<24> {
    number(position, kind::TIME, time_us.to_le_bytes())
}

/// Encodes a number of dropped points.
pub(crate) fn drop(position: Position, points: u64) -> SealedRecord<24> {
    number(position, kind::DROP, points.to_le_bytes())
}

fn number(position: Position, kind: u8, number: [u8; 8]) -> SealedRecord<24> {
    let mut record = [0; 24];
    record[16..].copy_from_slice(&number);
    SealedRecord::new(position, kind, record)
}

/// Encodes an event that `fits`.
pub(crate) fn event(position: Position, upload: u64, event: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(event_len(event));
    record.extend(head(kind::EVENT, UPLOAD_BYTES + event.len()));
    record.extend([0; 4]);
    record.extend(upload.to_le_bytes());
    record.extend(event);
    let crc = checksum(position, &record);
    record[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    record.resize(event_len(event), 0);
    record
}

/// Encodes a record of any kind, with the right checksum.
#[cfg(feature = "fuzzing")]
pub(crate) fn sealed(position: Position, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut record = head(kind, payload.len()).to_vec();
    record.extend([0; 4]);
    record.extend(payload);
    let crc = checksum(position, &record);
    record[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    record
}

/// Reads the record at a position, given the bytes from there on. Returns it with its length, or
/// `None` at the end of the segment.
pub(crate) fn read(position: Position, bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, DamagedRecord> {
    let Some(head) = bytes.first_chunk::<4>().map(|head| u32::from_le_bytes(*head)) else { return Ok(None) };
    if head == 0 {
        return Ok(None);
    }
    let end = HEAD_BYTES + (head >> 8) as usize;
    let record = bytes.get(..end).ok_or(DamagedRecord)?;
    let crc = u32::from_le_bytes(chunk(record, 4)?);
    if crc != checksum(position, record) {
        return Err(DamagedRecord);
    }
    let payload = &record[HEAD_BYTES..];
    let record = match (head & 0xff) as u8 {
        kind::POINT => Record::Point(read_point(payload, None)?),
        kind::POINT_WITH_EPOCH => {
            Record::Point(read_point(payload, Some(i64::from_le_bytes(chunk(payload, 24)?)))?)
        }
        kind::TIME => Record::Time(i64::from_le_bytes(chunk(payload, 0)?)),
        kind::EVENT => {
            let event = payload.get(UPLOAD_BYTES..).ok_or(DamagedRecord)?;
            Record::Event { upload: u64::from_le_bytes(chunk(payload, 0)?), event }
        }
        kind::DROP => Record::Drop(u64::from_le_bytes(chunk(payload, 0)?)),
        // A later version wrote it. It cannot be sent, just like a damaged record.
        _ => return Err(DamagedRecord),
    };
    Ok(Some((record, end.next_multiple_of(8))))
}

/// Whether a complete record starts anywhere after a position where the segment seems to end, given the bytes
/// from there on. A search that would take too long ends as if it had found a record.
pub(crate) fn is_followed(position: Position, bytes: &[u8]) -> bool {
    let mut checked = 0;
    for offset in (0..bytes.len()).step_by(8) {
        let rest = &bytes[offset..];
        let Some(len) = plausible_len(rest) else { continue };
        checked += len;
        let at = Position { offset: position.offset + offset as u32, ..position };
        if checked > SEARCH_BYTES || matches!(read(at, rest), Ok(Some(_))) {
            return true;
        }
    }
    false
}

/// Length without padding of a record that starts here, if `read` knows its head.
fn plausible_len(bytes: &[u8]) -> Option<usize> {
    let head = u32::from_le_bytes(*bytes.first_chunk()?);
    let payload = (head >> 8) as usize;
    let is_plausible = match (head & 0xff) as u8 {
        kind::POINT => payload == POINT_BYTES,
        kind::POINT_WITH_EPOCH => payload == POINT_BYTES + 8,
        kind::TIME | kind::DROP => payload == 8,
        kind::EVENT => payload >= UPLOAD_BYTES,
        _ => false,
    };
    let len = HEAD_BYTES + payload;
    (is_plausible && len <= bytes.len()).then_some(len)
}

fn read_point(payload: &[u8], epoch: Option<i64>) -> Result<Point, DamagedRecord> {
    Ok(Point {
        value: f64::from_bits(u64::from_le_bytes(chunk(payload, 0)?)),
        step: i64::from_le_bytes(chunk(payload, 8)?),
        time: u32::from_le_bytes(chunk(payload, 16)?),
        series: u32::from_le_bytes(chunk(payload, 20)?),
        epoch,
    })
}

fn chunk<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DamagedRecord> {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).copied().ok_or(DamagedRecord)
}

#[cfg(test)]
mod tests;
