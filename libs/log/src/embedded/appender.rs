//! Appends groups of records to the newest segment of a topic: one write and one sync for each
//! group.
//!
//! The next step after a failure depends on what is in doubt. If the disk is full, nothing is: the
//! file is cut back to its synced length, which also discards the pages of the group, and the group
//! can be retried. After any other error of a write or a sync, the kernel may consider pages clean
//! that it never wrote. The result of a later sync cannot be trusted, so the log must end.

use std::{io, sync::Arc};

use super::{
    disk::{CreationError, is_out_of_space},
    record::{self, Encoder, Header},
    segment::{INDEX_BYTES, START, SharedSegment},
    segments::Segments,
};
use crate::NewRecord;

/// Space is reserved in steps as large as the segment's content, within these limits: a small log
/// stays small, and a busy one rarely waits for the file system.
const MIN_RESERVE: u32 = 64 << 10;
const MAX_RESERVE: u32 = 4 << 20;

/// A small group is followed by zeros, up to this distance from its start. The groups after it then
/// overwrite blocks that the file system has written before, and syncing these takes a third less
/// time: reserved blocks that are written for the first time have to be recorded in its journal.
const PADDING: u32 = 256 << 10;

/// Size of a group above which padding costs more time than it saves.
const UNPADDED_BYTES: u32 = PADDING / 4;

/// Size above which an idle topic replaces a segment that is completely trimmed.
const IDLE_BYTES: u32 = 256 << 10;

/// Capacity that the buffer keeps between groups.
const BUFFER_BYTES: usize = 4 << 20;

pub(super) struct Appender {
    segments: Arc<Segments>,
    active: SharedSegment,
    segment_bytes: u32,
    /// Offset of the next record, if there is no gap before it.
    end: u64,
    /// Least offset of the next record.
    next: u64,
    /// Position of the next record. Everything before it is synced.
    position: u32,
    /// Position up to which space is reserved.
    reserved: u32,
    /// Position up to which the file was written, at least with zeros.
    written: u32,
    /// True if there may be remains of a failed group after `position`.
    has_remains: bool,
    /// True if the segment must not grow, because its successor may exist.
    is_full: bool,
    buffer: Vec<u8>,
}

/// The reason a group was not written.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing is in doubt: retry.
    Temporary(io::Error),
    /// The state of the file is unknown: end the process.
    Fatal(io::Error),
}

impl AppendError {
    /// Classifies an error of a write or a sync.
    fn of_data(error: io::Error) -> Self {
        if is_out_of_space(&error) { Self::Temporary(error) } else { Self::Fatal(error) }
    }

    fn of_creation(error: CreationError) -> Self {
        match error {
            CreationError::Open(error) => Self::Temporary(error),
            CreationError::Change(error) => Self::of_data(error),
        }
    }
}

impl Appender {
    pub(super) fn new(segments: Arc<Segments>, end: u64, segment_bytes: u32) -> Self {
        let active = segments.newest();
        let position = active.length();
        Self {
            segments,
            active,
            segment_bytes,
            end,
            next: end,
            position,
            reserved: position,
            written: position,
            has_remains: false,
            is_full: false,
            buffer: Vec::new(),
        }
    }

    /// Offset of the next record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes up to the end, counted from the opening of the log.
    pub(super) fn bytes_before_end(&self) -> u64 {
        self.active.bytes_before_end()
    }

    /// Appends the records and syncs them.
    pub(super) fn append<'a>(
        &mut self,
        records: impl Iterator<Item = &'a NewRecord> + Clone,
        appended_us: i64,
    ) -> Result<(), AppendError> {
        let bytes = records.clone().map(record::size).sum::<usize>() as u32;
        self.cut_remains()?;
        let is_over = self.position > START && self.position.saturating_add(bytes) > self.segment_bytes;
        if is_over || self.is_full {
            self.rotate()?;
        }
        // A gap is within a segment, never between two: the end of a segment is known to be complete
        // because the next one starts there.
        self.end = self.end.max(self.next);
        // From here on, an error may leave something in the file.
        self.has_remains = true;
        self.reserve(bytes)?;
        self.buffer.clear();
        let mut encoder =
            Encoder { out: &mut self.buffer, seed: self.active.seed, start: self.position, appended_us };
        let mut offset = self.end;
        let mut indexed = Vec::new();
        for record in records {
            let position = encoder.position();
            if indexed.last().is_none_or(|(_, last)| position - last >= INDEX_BYTES) {
                indexed.push((offset, position));
            }
            encoder.push(offset, record);
            offset += 1;
        }
        self.pad(bytes);
        let disk = self.segments.disk();
        let file = &self.active.file;
        disk.write(file, &self.buffer, self.position.into())
            .and_then(|()| disk.sync(file))
            .map_err(AppendError::of_data)?;
        self.has_remains = false;
        self.written = self.written.max(self.position + self.buffer.len() as u32);
        self.position += bytes;
        self.end = offset;
        self.active.extend(&indexed, self.position);
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// Leaves a gap: the next record gets this offset.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.next = self.next.max(offset);
    }

    /// Called when nothing was appended or trimmed for a while: frees the space of trimmed
    /// records, or makes damage of the last group recognizable.
    pub(super) fn settle(&mut self, is_trimmed: bool) -> Result<(), AppendError> {
        self.cut_remains()?;
        if self.is_full || is_trimmed && self.reserved.max(self.position) > IDLE_BYTES {
            self.rotate()?;
            if is_trimmed {
                self.segments.delete_before(self.end);
            }
            return Ok(());
        }
        self.seal().map_err(AppendError::of_data)
    }

    /// Releases reserved space, and leaves a proof that everything is on disk.
    pub(super) fn close(&mut self) -> Result<(), AppendError> {
        self.cut_remains()?;
        if self.is_full {
            return Ok(());
        }
        self.seal()
            .and_then(|()| self.segments.disk().set_len(&self.active.file, self.sealed_length().into()))
            .and_then(|()| self.segments.disk().sync(&self.active.file))
            .map_err(AppendError::of_data)
    }

    /// Writes a seal, which needs no sync: it is only a hint.
    fn seal(&mut self) -> io::Result<()> {
        let seal = Header::seal(self.position, self.end).encode(self.active.seed, self.position);
        self.segments.disk().write(&self.active.file, &seal, self.position.into())?;
        self.reserved = self.reserved.max(self.sealed_length());
        Ok(())
    }

    fn sealed_length(&self) -> u32 {
        self.position + record::HEADER_BYTES as u32
    }

    fn cut_remains(&mut self) -> Result<(), AppendError> {
        if self.has_remains {
            let cut = self.segments.disk().set_len(&self.active.file, self.position.into());
            cut.map_err(AppendError::of_data)?;
            self.reserved = self.position;
            self.written = self.position;
            self.has_remains = false;
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: u32) -> Result<(), AppendError> {
        let needed = self.position + bytes;
        if needed <= self.reserved {
            return Ok(());
        }
        let step = self.position.clamp(MIN_RESERVE, MAX_RESERVE);
        let wanted = (self.position + step).min(self.segment_bytes).max(needed);
        let reserved = self.segments.disk().reserve(&self.active.file, self.reserved.into(), wanted.into());
        // Nothing was written yet.
        reserved.map_err(AppendError::Temporary)?;
        self.reserved = wanted;
        Ok(())
    }

    /// Adds zeros to a small group in the buffer, if it is the first one in its part of the reserved space.
    fn pad(&mut self, bytes: u32) {
        if bytes < UNPADDED_BYTES && self.position + bytes > self.written {
            let end = (self.position + PADDING).min(self.reserved);
            self.buffer.resize((end - self.position) as usize, 0);
        }
    }

    /// Continues in a new segment. The length of the old one is synced first, because a segment
    /// that is not the newest must end with a record.
    fn rotate(&mut self) -> Result<(), AppendError> {
        let disk = self.segments.disk();
        let file = &self.active.file;
        disk.set_len(file, self.position.into())
            .and_then(|()| disk.sync(file))
            .map_err(AppendError::of_data)?;
        // A creation that fails may leave the new segment in place. Records that were then added to
        // the old one would be hidden by it.
        self.is_full = true;
        self.active = self.segments.add(self.end).map_err(AppendError::of_creation)?;
        self.position = START;
        self.reserved = START;
        self.written = START;
        self.is_full = false;
        Ok(())
    }
}
