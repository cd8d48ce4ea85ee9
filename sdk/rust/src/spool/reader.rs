//! Reading a spool from a position on, while it is appended to.

use std::{collections::HashSet, io, sync::Arc};

use crate::{
    batch::{self, BatchEncoder},
    spool::{
        record::{self, HEADER_BYTES, Position, Record},
        segment::Segment,
        store::Spool,
    },
};

/// Most events in a batch, well below the limit of the server.
const MOST_EVENTS: u32 = 50_000;

/// Where a batch ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BatchEnd {
    /// After about this many bytes, or where the spool ends.
    Bytes(usize),
    /// Exactly at this position, as recorded.
    At(Position),
}

/// A place in the records of a spool.
pub(crate) struct SpoolReader {
    spool: Arc<Spool>,
    position: Position,
    /// Time that the next point refers to.
    time_base: i64,
    segment: Option<Arc<Segment>>,
    /// Whether the next record is a terminal line that cannot be numbered yet.
    pub(crate) is_before_line: bool,
    /// Segments before it that have not been released, so that their memory can be used again.
    pub(crate) read: Vec<Arc<Segment>>,
}

impl SpoolReader {
    /// Starts at a position, which is the start of a record.
    pub(crate) fn new(spool: Arc<Spool>, position: Position) -> io::Result<Self> {
        let mut reader =
            Self { spool, position, time_base: 0, segment: None, is_before_line: false, read: Vec::new() };
        if position.offset > HEADER_BYTES as u32 {
            // Times before the position count from a record that is in the same segment.
            reader.position.offset = HEADER_BYTES as u32;
            reader.fill(&mut BatchEncoder::default(), BatchEnd::At(position), Some(0))?;
            reader.position = position.max(reader.position);
        }
        Ok(reader)
    }

    /// Position of the next record.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Gives up the memory of a segment that has been released. Its space on disk is not free
    /// before that.
    pub(crate) fn forget_released(&mut self) {
        let spool = &self.spool;
        self.segment.take_if(|segment| !spool.with_writer(|writer| writer.holds(segment.number())));
    }

    /// Adds records to a batch until its end, or until a terminal line if the number of the first line is not
    /// known. After an error, the batch is incomplete, and the reader has to be replaced.
    pub(crate) fn fill(
        &mut self,
        batch: &mut BatchEncoder,
        end: BatchEnd,
        first_line: Option<i64>,
    ) -> io::Result<()> {
        self.forget_released();
        self.is_before_line = false;
        while let Some(segment) = self.current_segment()? {
            // A closed segment gets no more records; whether it is closed has to be known first.
            let is_closed = self.spool.with_writer(|writer| {
                let after = segment.number().saturating_add(1);
                writer.segment_from(after).is_some() || writer.end().offset == u32::MAX
            });
            let is_full = self.fill_from(&segment, batch, end, first_line);
            if is_full || !is_closed || !self.next_segment(&segment)? {
                break;
            }
        }
        Ok(())
    }

    /// Adds records of one segment. Returns whether the end of the batch is reached.
    fn fill_from(
        &mut self,
        segment: &Arc<Segment>,
        batch: &mut BatchEncoder,
        end: BatchEnd,
        first_line: Option<i64>,
    ) -> bool {
        let bytes = segment.bytes();
        loop {
            let is_full = match end {
                BatchEnd::Bytes(bytes) => batch.size() >= bytes || batch.events() >= MOST_EVENTS,
                BatchEnd::At(position) => self.position >= position,
            };
            if is_full {
                return true;
            }
            let rest = bytes.get(self.position.offset as usize..).unwrap_or_default();
            match record::read(self.position, rest) {
                Ok(None) if record::is_followed(self.position, rest) => {
                    self.skip_damage(segment, "a part of it was never written to disk");
                }
                Ok(None) => return false,
                Ok(Some((Record::Event { event, .. }, _)))
                    if first_line.is_none() && batch::is_terminal_line(event) =>
                {
                    self.is_before_line = true;
                    return true;
                }
                Ok(Some((record, len))) => {
                    self.add(record, batch, first_line.unwrap_or_default());
                    self.position.offset += len as u32;
                }
                Err(record::DamagedRecord) => {
                    self.skip_damage(segment, "the checksum of a record is wrong");
                }
            }
        }
    }

    /// Gives up the rest of a segment: times in it may count from a record that is lost.
    fn skip_damage(&mut self, segment: &Segment, reason: &str) {
        self.spool.report_damage(segment.number(), reason);
        self.position.offset = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    }

    #[inline]
    fn add(&mut self, record: Record<'_>, batch: &mut BatchEncoder, first_line: i64) {
        match record {
            Record::Point(point) => batch.add_point(&point, self.time_base + i64::from(point.time)),
            Record::Time(time_us) => self.time_base = time_us,
            Record::Event { event, .. } => batch.add_event(event, first_line, self.time_base),
            Record::Drop(points) => self.spool.report_dropped(points),
        }
    }

    fn current_segment(&mut self) -> io::Result<Option<Arc<Segment>>> {
        if self.segment.is_none() {
            let Some(segment) = self.spool.segment_from(self.position.segment)? else { return Ok(None) };
            if segment.number() > self.position.segment {
                self.position = Position { segment: segment.number(), offset: HEADER_BYTES as u32 };
            }
            self.position.offset = self.position.offset.max(HEADER_BYTES as u32);
            self.segment = Some(segment);
        }
        Ok(self.segment.clone())
    }

    /// Moves on to the segment after a closed one. Returns false if there is none yet.
    fn next_segment(&mut self, closed: &Segment) -> io::Result<bool> {
        let Some(next) = closed.number().checked_add(1) else { return Ok(false) };
        let Some(next) = self.spool.segment_from(next)? else { return Ok(false) };
        self.position = Position { segment: next.number(), offset: HEADER_BYTES as u32 };
        self.read.extend(self.segment.replace(next));
        Ok(true)
    }
}

/// Numbers of the uploads whose event is in the spool.
pub(crate) fn announced_uploads(spool: &Spool) -> io::Result<HashSet<u64>> {
    let mut announced = HashSet::new();
    let mut number = 0;
    while let Some(segment) = spool.segment_from(number)? {
        let mut offset = HEADER_BYTES;
        let position = |offset| Position { segment: segment.number(), offset: offset as u32 };
        while let Ok(Some((record, len))) =
            record::read(position(offset), segment.bytes().get(offset..).unwrap_or_default())
        {
            if let Record::Event { upload: upload @ 1.., .. } = record {
                announced.insert(upload);
            }
            offset += len;
        }
        let Some(next) = segment.number().checked_add(1) else { break };
        number = next;
    }
    Ok(announced)
}
