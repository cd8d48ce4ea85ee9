//! One file of a topic: records with ascending offsets. Only the newest file of a topic grows.
//!
//! ```text
//! {first offset, 20 digits}.log
//! 64 bytes   "MATYANLG", u8 format, 7 zeros, 16 bytes identity of the log, u64 first offset,
//!            u32 checksum of all that, zeros
//! records    see `record`, one after another
//! the rest   reserved space
//! ```
//!
//! After a crash, the file may end in a torn write: a group of records that was never synced, any
//! pages of which may be missing. It was not acknowledged and is cut off. A damaged record that a
//! later header proves to have been synced is another matter: it may have been acknowledged, so
//! the log is not opened. See `recover`, and `docs/internals/architecture.md` for the reasoning.

use std::{
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes};
use crc32c::crc32c;

use super::{
    disk::{CreationError, Disk, DiskFile},
    record::{self, HEADER_BYTES, Header, Seed},
    unavailable,
};
use crate::{Error, Record, Result};

const MAGIC: &[u8; 8] = b"MATYANLG";
const FORMAT: u8 = 1;
const FORMAT_AT: usize = 8;
const CHECKSUM_AT: usize = 40;

/// Position of the first record.
pub(super) const START: u32 = 64;

/// Distance of the positions that are kept in memory. A read starts at most this far before the
/// record it looks for.
pub(super) const INDEX_BYTES: u32 = 64 << 10;

const READ_BYTES: usize = 1 << 20;

pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) seed: Seed,
    /// Bytes in earlier segments since the log was opened.
    pub(super) bytes_before: u64,
    pub(super) file: DiskFile,
    /// End of the last durable record.
    length: AtomicU32,
    /// Offsets and positions of some records, in ascending order.
    index: Mutex<Vec<(u64, u32)>>,
}

impl Segment {
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        identity: &[u8; 16],
        first: u64,
        bytes_before: u64,
    ) -> Result<Self, CreationError> {
        let mut head = Vec::with_capacity(START as usize);
        head.put_slice(MAGIC);
        head.put_u64_le(FORMAT.into());
        head.put_slice(identity);
        head.put_u64_le(first);
        head.put_u32_le(crc32c(&head));
        head.resize(START as usize, 0);
        let file = DiskFile::create(disk, directory.join(format!("{first:020}.log")), &head)?;
        Ok(Self::new(file, identity, first, bytes_before, START))
    }

    /// Opens a segment, up to the end of its file.
    pub(super) fn open(path: &Path, identity: &[u8; 16], first: u64, bytes_before: u64) -> Result<Self> {
        let failed = |source| unavailable(&format!("failed to open `{}`", path.display()), source);
        let file = DiskFile::open(path.to_owned()).map_err(failed)?;
        let bytes = file.file.metadata().map_err(failed)?.len();
        let mut head = [0; START as usize];
        let is_whole = file.file.read_exact_at(&mut head, 0).is_ok();
        if head.starts_with(MAGIC) && head[FORMAT_AT] > FORMAT {
            return Err(Error::corrupt(format!(
                "`{}` has format {}, but this program supports only format {FORMAT}: use the program that wrote it",
                path.display(),
                head[FORMAT_AT]
            )));
        }
        let mut rest = &head[FORMAT_AT + 8..];
        let is_valid = is_whole
            && head.starts_with(MAGIC)
            && head[CHECKSUM_AT..].starts_with(&crc32c(&head[..CHECKSUM_AT]).to_le_bytes())
            && rest.copy_to_bytes(identity.len()) == identity[..]
            && rest.get_u64_le() == first;
        match u32::try_from(bytes) {
            Ok(length) if is_valid => Ok(Self::new(file, identity, first, bytes_before, length)),
            _ => Err(Error::corrupt(format!(
                "`{}` has a damaged header or belongs to another log: restore it from a backup, or move it and the files \
                 after it away to continue without their records",
                path.display()
            ))),
        }
    }

    fn new(file: DiskFile, identity: &[u8; 16], first: u64, bytes_before: u64, length: u32) -> Self {
        Self {
            first,
            seed: Seed::new(identity, first),
            bytes_before,
            file,
            length: AtomicU32::new(length),
            index: Mutex::new(vec![(first, START)]),
        }
    }

    /// Finds the end of the newest segment, cuts off what follows, and syncs the rest. Returns
    /// the offset after the last record.
    ///
    /// A damaged record is a torn write unless a later header says that it was synced. The last
    /// group is rewritten before the sync: the process may have ended because its sync had failed,
    /// in which case the kernel may consider pages clean that never reached the disk.
    pub(super) fn recover(&self, disk: &dyn Disk) -> Result<u64> {
        let mut scan = self.scan(START);
        let mut end = self.first;
        let mut last_group = START;
        while let Some(StoredRecord { header, position, .. }) =
            scan.next().map_err(|source| self.unreadable(source))?
        {
            self.index_record(header.offset, position);
            end = header.offset + 1;
            last_group = header.synced;
        }
        let length = scan.position;
        if let Some(proof) = self.find_proof(length, end).map_err(|source| self.unreadable(source))? {
            return Err(self.damaged(
                length,
                end,
                &format!("the record at byte {proof} proves that it was written"),
            ));
        }
        let rest =
            scan.slice(length, HEADER_BYTES).map_err(|source| self.unreadable(source))?.unwrap_or_default();
        let header = scan.header(length).map_err(|source| self.unreadable(source))?;
        let is_seal = header.is_some_and(|header| header.body_bytes().is_none());
        if rest.iter().any(|byte| *byte != 0) && !is_seal {
            tracing::warn!(
                segment = %self.file.path.display(),
                end,
                "cut off a torn write that was never acknowledged"
            );
        }
        self.rewrite_group(disk, last_group, length).map_err(|source| self.unreadable(source))?;
        self.length.store(length, Ordering::Release);
        Ok(end)
    }

    /// Cuts the file off at `end`, rewrites the group from `start` to there, and syncs it.
    fn rewrite_group(&self, disk: &dyn Disk, start: u32, end: u32) -> io::Result<()> {
        let mut group = vec![0; (end - start) as usize];
        self.file.file.read_exact_at(&mut group, start.into())?;
        if self.length() > end {
            disk.set_len(&self.file, end.into())?;
        }
        disk.write(&self.file, &group, start.into())?;
        disk.sync(&self.file)
    }

    /// Looks for a header after `from` that proves that the bytes at `from` were synced.
    fn find_proof(&self, from: u32, end: u64) -> io::Result<Option<u32>> {
        let mut scan = self.scan(from);
        for position in (from..self.length()).step_by(record::ALIGNMENT) {
            let Some(bytes) = scan.slice(position, HEADER_BYTES)? else { break };
            let bytes: &[u8; HEADER_BYTES] = (*bytes).try_into().expect("the slice has this length");
            let header = Header::decode(bytes, self.seed, position);
            let is_proof =
                |header: &Header| (from + 1..=position).contains(&header.synced) && header.offset >= end;
            if header.is_some_and(|header| is_proof(&header)) {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    pub(super) fn length(&self) -> u32 {
        self.length.load(Ordering::Acquire)
    }

    /// Makes records readable that were written and synced. `positions` has the offset and
    /// position of some of them.
    pub(super) fn extend(&self, positions: &[(u64, u32)], length: u32) {
        for (offset, position) in positions {
            self.index_record(*offset, *position);
        }
        self.length.store(length, Ordering::Release);
    }

    /// Reads records from `from` up to and excluding `end`: about `max_bytes` at most, and none
    /// only if this segment ends before `from`.
    pub(super) fn read(&self, from: u64, end: u64, max_bytes: usize) -> Result<Vec<Record>> {
        let mut scan = self.scan(self.indexed_position(from));
        let mut records = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(StoredRecord { header, position, body }) = self.next_intact(&mut scan)?
        {
            self.index_record(header.offset, position);
            if header.offset >= end {
                break;
            }
            if header.offset >= from {
                bytes += body.len();
                let record = record::decode_body(header.offset, header.appended_us, body);
                records.push(
                    record
                        .ok_or_else(|| self.damaged(position, header.offset, "it has a wrong structure"))?,
                );
                // Another chunk would be read for a part of it.
                scan.stays_in_chunk = true;
            }
        }
        Ok(records)
    }

    /// Bytes before the record with this offset, counted from the opening of the log.
    pub(super) fn bytes_before(&self, offset: u64) -> Result<u64> {
        let mut scan = self.scan(self.indexed_position(offset));
        let mut position = scan.position;
        while let Some(stored) = self.next_intact(&mut scan)?
            && stored.header.offset < offset
        {
            position = scan.position;
        }
        Ok(self.bytes_before + u64::from(position - START))
    }

    /// Bytes up to the end of this segment, counted from the opening of the log.
    pub(super) fn bytes_before_end(&self) -> u64 {
        self.bytes_before + u64::from(self.length() - START)
    }

    fn scan(&self, position: u32) -> Scan<'_> {
        Scan {
            segment: self,
            length: self.length(),
            position,
            chunk: Bytes::new(),
            chunk_start: 0,
            offset: self.first,
            stays_in_chunk: false,
            has_left_chunk: false,
        }
    }

    /// The next record. None at the end of the segment, before which every record is intact, or of
    /// the chunk.
    fn next_intact(&self, scan: &mut Scan<'_>) -> Result<Option<StoredRecord>> {
        match scan.next().map_err(|source| self.unreadable(source))? {
            None if scan.position < scan.length && !scan.has_left_chunk => {
                Err(self.damaged(scan.position, scan.offset, "its checksum is wrong"))
            }
            stored => Ok(stored),
        }
    }

    fn indexed_position(&self, offset: u64) -> u32 {
        let index = self.index();
        let after = index.partition_point(|(indexed, _)| *indexed <= offset);
        index[after.saturating_sub(1)].1
    }

    fn index_record(&self, offset: u64, position: u32) {
        let mut index = self.index();
        if index.last().is_none_or(|(_, last)| position >= last + INDEX_BYTES) {
            index.push((offset, position));
        }
    }

    fn index(&self) -> MutexGuard<'_, Vec<(u64, u32)>> {
        self.index.lock().expect("no thread panics while holding the index")
    }

    fn unreadable(&self, source: io::Error) -> Error {
        unavailable(&format!("failed to read or write `{}`", self.file.path.display()), source)
    }

    fn damaged(&self, position: u32, offset: u64, reason: &str) -> Error {
        Error::corrupt(format!(
            "in `{}`, the record at byte {position} (offset {offset}) is damaged: {reason}. Restore the data directory from \
             a backup, or move this file and the files after it away to continue without their records",
            self.file.path.display()
        ))
    }
}

struct StoredRecord {
    header: Header,
    position: u32,
    body: Bytes,
}

/// Reads the records of a segment from a position on, in large chunks that the records share.
struct Scan<'a> {
    segment: &'a Segment,
    /// Where the segment ended when the scan started. Records may be added during the scan.
    length: u32,
    position: u32,
    chunk: Bytes,
    chunk_start: u32,
    /// No record that follows has a lower offset.
    offset: u64,
    /// True if no further chunk is to be read.
    stays_in_chunk: bool,
    /// True if bytes were needed that are not in the chunk.
    has_left_chunk: bool,
}

impl Scan<'_> {
    /// The next record. None if what follows is not one; the position then stays before it.
    fn next(&mut self) -> io::Result<Option<StoredRecord>> {
        let position = self.position;
        let Some(header) = self.header(position)?.filter(|header| header.offset >= self.offset) else {
            return Ok(None);
        };
        let Some(bytes) = header.body_bytes() else { return Ok(None) };
        let Some(body) = self.slice(position + HEADER_BYTES as u32, bytes)? else { return Ok(None) };
        if !header.matches(&body) {
            return Ok(None);
        }
        self.position = position + record::padded(bytes) as u32;
        self.offset = header.offset + 1;
        Ok(Some(StoredRecord { header, position, body }))
    }

    fn header(&mut self, position: u32) -> io::Result<Option<Header>> {
        let bytes = self.slice(position, HEADER_BYTES)?;
        Ok(bytes.and_then(|bytes| Header::decode((*bytes).try_into().ok()?, self.segment.seed, position)))
    }

    /// Bytes of the segment. None if it ended before them.
    fn slice(&mut self, position: u32, bytes: usize) -> io::Result<Option<Bytes>> {
        let available = self.length.saturating_sub(position) as usize;
        if bytes > available {
            return Ok(None);
        }
        let is_in_chunk =
            |at: u32, chunk: &Bytes| position >= at && (position - at) as usize + bytes <= chunk.len();
        if !is_in_chunk(self.chunk_start, &self.chunk) {
            if self.stays_in_chunk {
                self.has_left_chunk = true;
                return Ok(None);
            }
            let mut chunk = vec![0; READ_BYTES.max(bytes).min(available)];
            self.segment.file.file.read_exact_at(&mut chunk, position.into())?;
            self.chunk = chunk.into();
            self.chunk_start = position;
        }
        let at = (position - self.chunk_start) as usize;
        Ok(Some(self.chunk.slice(at..at + bytes)))
    }
}

/// A segment shared with readers, who may finish with it after it was deleted.
pub(super) type SharedSegment = Arc<Segment>;
