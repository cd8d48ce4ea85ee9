//! The batches of a spool on their way to the server: which are cut, sent and acknowledged. No
//! network here: `exchange` takes batches from an outbox and reports the batches that the server stored.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::Bytes;
use matyan_proto::{
    common::v1::LogPosition,
    ingest::v1::{Rejection, SeriesDef},
};
use matyan_wire::rows;

use crate::{
    batch::{BatchEncoder, EncodedBatch},
    config::SpoolMode,
    notice::NoticeLevel,
    sender::first_line,
    spool::{
        cuts::{Cut, Cuts, Mark, RecordedCuts},
        directory, maintenance,
        producer::ProducerId,
        reader::{BatchEnd, SpoolReader},
        record::Position,
        store::Spool,
    },
};

/// Size at which a batch is cut, as advised by the server.
const BATCH_BYTES: usize = matyan_proto::limits::BATCH_ADVISED_BYTES;
/// Most bytes of new definitions in one batch.
const DEFINITION_BYTES: usize = 256 << 10;
/// Most batches that are sent and not acknowledged. The ring of cuts has room for more.
const MOST_BATCHES: usize = 32;
/// Most bytes of them; enough for a few hundred milliseconds of a fast network.
const MOST_BYTES: usize = 16 << 20;

/// A batch that is not acknowledged.
pub(crate) struct Frame {
    pub(crate) cut: Cut,
    /// The encoded `IngestionBatch`.
    pub(crate) batch: Bytes,
    /// Whether points in it are in rows.
    has_rows: bool,
    /// Approximate size of its items without rows.
    pub(crate) listed_bytes: usize,
    /// Bytes of the batch as it was sent last.
    sent_bytes: usize,
    first_us: Option<i64>,
}

impl Frame {
    /// Returns the batch to send, and remembers its size. A server that does not know rows would acknowledge them and
    /// store none of their points, so it gets the same points one by one: as many items, under the same sequence.
    pub(crate) fn batch_to_send(&mut self, takes_rows: bool) -> io::Result<Bytes> {
        let batch = if takes_rows || !self.has_rows {
            self.batch.clone()
        } else {
            rows::plain_batch(self.batch.clone()).map_err(io::Error::other)?.into()
        };
        self.sent_bytes = batch.len();
        Ok(batch)
    }
}

/// Items of an acknowledged batch that the server will never accept.
#[derive(Clone, Copy, Default)]
pub(crate) struct RejectedItems<'a> {
    pub(crate) count: u32,
    pub(crate) first: Option<&'a Rejection>,
}

/// Unacknowledged batches of one spool.
pub(crate) struct Outbox {
    spool: Arc<Spool>,
    producer: ProducerId,
    cuts: Cuts,
    reader: SpoolReader,
    /// Position at which a new reader starts, because the last one has failed.
    restart: Option<Position>,
    /// Cuts of an earlier process, in order, whose batches are not encoded yet.
    recorded: VecDeque<Cut>,
    /// Encoded batches, in order. The first `sent` of them were sent on this connection.
    frames: VecDeque<Frame>,
    sent: usize,
    /// The last sequence that this or an earlier process may have sent.
    last_sent: u64,
    bytes: usize,
    /// A batch that is encoded, but whose cut could not be recorded.
    unrecorded: Option<Frame>,
    /// End of the last cut.
    end: Mark,
    /// Number that is added to terminal lines of batches that are cut from now on. Nothing is cut
    /// before it is known.
    first_line: Option<i64>,
}

impl Outbox {
    /// Continues where the last owner of the spool stopped.
    pub(crate) fn open(spool: Arc<Spool>) -> io::Result<Self> {
        let path = spool.path();
        let producer = spool.producer();
        let Some(recorded) = Cuts::open(&path, producer, journal_mode(&spool))? else {
            let message = format!(
                "the journal in {} is damaged or missing: some data may be sent twice",
                path.display()
            );
            spool.notices.push(NoticeLevel::Error, message);
            let start = directory::segments(&path)?.first().map_or(1, |(number, _)| *number);
            spool.with_writer(|writer| writer.directory_mut().replace_producer())?;
            return Self::start(spool, Mark::at_segment(start));
        };
        // The process that created the spool can trust its journal even where the boot is unknown.
        let is_current = recorded.is_of_this_boot || spool.owner().is_own();
        let is_blank = recorded.is_blank();
        let mut outbox = Self::new(spool, producer, recorded)?;
        if !is_current {
            outbox.distrust_journal(is_blank)?;
        }
        Ok(outbox)
    }

    /// Sends everything after the last known acknowledgement as a new producer. A power failure may have
    /// left an older journal next to newer records. Other batches would then get sequences that the server
    /// has seen, and it would drop them as repeats.
    fn distrust_journal(&mut self, is_blank: bool) -> io::Result<()> {
        self.replace_producer()?;
        // A blank journal belongs to an offline run, or to a run in its first seconds.
        if !is_blank {
            let path = self.spool.path();
            let message = format!(
                "{} was written before this machine was last started: some data may be sent twice, and after a power \
                 failure the last data may be missing",
                path.display()
            );
            self.spool.notices.push(NoticeLevel::Warning, message);
        }
        Ok(())
    }

    /// Starts a journal at a position.
    fn start(spool: Arc<Spool>, start: Mark) -> io::Result<Self> {
        let path = spool.path();
        let producer = spool.producer();
        Cuts::create(&path, producer, start.position)?;
        let recorded = Cuts::open(&path, producer, journal_mode(&spool))?;
        let recorded = recorded.ok_or_else(|| io::Error::other("a new journal cannot be read"))?;
        Self::new(spool, producer, recorded)
    }

    fn new(spool: Arc<Spool>, producer: ProducerId, recorded: RecordedCuts) -> io::Result<Self> {
        let RecordedCuts { cuts, start, unacknowledged, first_line, .. } = recorded;
        let last_sent = unacknowledged.last().map_or(cuts.acknowledged(), |cut| cut.sequence);
        Ok(Self {
            reader: SpoolReader::new(spool.clone(), start.position)?,
            restart: None,
            spool,
            producer,
            cuts,
            recorded: unacknowledged.into(),
            frames: VecDeque::new(),
            sent: 0,
            last_sent,
            bytes: 0,
            unrecorded: None,
            end: start,
            first_line,
        })
    }

    pub(crate) fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    pub(crate) fn producer(&self) -> ProducerId {
        self.producer
    }

    /// The last sequence that is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.cuts.acknowledged()
    }

    /// Whether the number of the first terminal line has to be found out.
    pub(crate) fn needs_first_line(&self) -> bool {
        self.first_line.is_none() && self.spool.first_line().is_none()
    }

    /// Definitions that the server must know before the first batch that will be sent.
    pub(crate) fn known_definitions(&self) -> Vec<SeriesDef> {
        let first = self.frames.front().map(|frame| &frame.cut).or(self.recorded.front());
        let known = first.map_or(self.end.series, |cut| cut.start.series);
        self.spool.dictionary.range(0, known)
    }

    /// Definitions that a batch may refer to.
    pub(crate) fn definitions_until(&self, cut: &Cut) -> Vec<SeriesDef> {
        self.spool.dictionary.range(0, cut.end.series)
    }

    /// Forgets the batches that were sent on the last connection.
    pub(crate) fn reconnect(&mut self) {
        self.sent = 0;
    }

    /// Whether another batch may be sent before an acknowledgement arrives.
    pub(crate) fn has_room(&self) -> bool {
        self.sent < MOST_BATCHES && (self.sent < self.frames.len() || self.bytes < MOST_BYTES)
    }

    /// Number of bytes that are sent and not acknowledged.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.frames.iter().take(self.sent).map(|frame| frame.sent_bytes).sum()
    }

    /// Returns the next batch to send. The caller sends it, or reconnects.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<&mut Frame>> {
        if self.sent == self.frames.len() && !self.cut()? {
            return Ok(None);
        }
        self.sent += 1;
        let frame = self.frames.get_mut(self.sent - 1);
        if let Some(frame) = &frame {
            self.last_sent = self.last_sent.max(frame.cut.sequence);
        }
        Ok(frame)
    }

    /// Makes sure that the oldest batch is cut, so that its age is known.
    pub(crate) fn cut_first(&mut self) -> io::Result<()> {
        if self.frames.is_empty() {
            self.cut()?;
        }
        self.publish();
        Ok(())
    }

    /// Cuts another batch. Returns false if there is nothing to send.
    fn cut(&mut self) -> io::Result<bool> {
        if let Some(position) = self.restart {
            let reader = SpoolReader::new(self.spool.clone(), position)?;
            let replaced = std::mem::replace(&mut self.reader, reader);
            self.reader.read.extend(replaced.read);
            self.restart = None;
        }
        let frame = match self.unrecorded.take() {
            Some(frame) => Some(frame),
            None => match self.recorded.front().copied() {
                Some(cut) => {
                    let frame = self.encode(cut)?;
                    self.recorded.pop_front();
                    self.push(frame);
                    return Ok(true);
                }
                None => self.encode_next()?,
            },
        };
        let Some(frame) = frame else {
            self.publish();
            return Ok(false);
        };
        if let Err(error) = self.spool.write_definitions() {
            // The server learns them all the same.
            let message = format!("failed to write the definitions of series; will retry: {error}");
            self.spool.notices.push(NoticeLevel::Warning, message);
        }
        if let Err(error) = self.cuts.record(&frame.cut) {
            // Sent without a record, it could be cut differently by the next process.
            self.unrecorded = Some(frame);
            return Err(error);
        }
        self.push(frame);
        Ok(true)
    }

    fn push(&mut self, frame: Frame) {
        self.end = frame.cut.end;
        self.bytes += frame.batch.len();
        self.frames.push_back(frame);
    }

    /// Encodes a batch that another process has cut.
    fn encode(&mut self, cut: Cut) -> io::Result<Frame> {
        let mut batch = BatchEncoder::default();
        self.fill(&mut batch, BatchEnd::At(cut.end.position), cut.first_line)?;
        Ok(self.finish(&batch, cut))
    }

    /// Reads records. After an error, all of them are read again, because a batch with only some of
    /// them would differ from the batch that the server may have.
    fn fill(&mut self, batch: &mut BatchEncoder, end: BatchEnd, first_line: Option<i64>) -> io::Result<()> {
        let position = self.reader.position();
        let filled = self.reader.fill(batch, end, first_line);
        filled.inspect_err(|_| self.restart = Some(position))
    }

    /// Encodes what comes next.
    fn encode_next(&mut self) -> io::Result<Option<Frame>> {
        self.first_line = self.first_line.or_else(|| self.spool.first_line());
        let sequence = self.frames.back().map_or(self.cuts.acknowledged(), |frame| frame.cut.sequence) + 1;
        let start = Mark { position: self.reader.position(), series: self.end.series };
        let (all, series) = self.spool.dictionary.end_of_range(start.series, DEFINITION_BYTES);
        let mut batch = BatchEncoder::default();
        let mut end = Mark { series, ..start };
        // Records may refer to any definition, so they follow when all have been sent.
        if series == all {
            self.fill(&mut batch, BatchEnd::Bytes(BATCH_BYTES), self.first_line)?;
            // A record may refer to a definition that has been added since.
            end = Mark { position: self.reader.position(), series: self.spool.dictionary.len() };
            if batch.items() == 0 {
                return Ok(None);
            }
        }
        let cut = Cut { sequence, start, end, first_line: self.first_line, items: batch.items() };
        Ok(Some(self.finish(&batch, cut)))
    }

    fn finish(&self, batch: &BatchEncoder, cut: Cut) -> Frame {
        let definitions = self.spool.dictionary.range(cut.start.series, cut.end.series);
        let EncodedBatch { bytes, has_rows } = batch.encode(cut.start.series, &definitions);
        Frame {
            cut,
            batch: bytes.into(),
            has_rows,
            listed_bytes: batch.size(),
            sent_bytes: 0,
            first_us: batch.first_us(),
        }
    }

    /// Handles the acknowledgement of every batch up to a sequence. Returns whether it acknowledges anything new. An
    /// acknowledgement of a batch that was never sent is an error and changes nothing.
    pub(crate) fn acknowledge(
        &mut self,
        sequence: u64,
        log_position: Option<(u32, u32, u64)>,
        rejected: RejectedItems<'_>,
    ) -> Result<bool, String> {
        if sequence > self.last_sent {
            return Err(format!("the server acknowledged batch {sequence}, which was never sent"));
        }
        let mut items = 0;
        let mut last = None;
        while let Some(frame) = self.frames.pop_front_if(|frame| frame.cut.sequence <= sequence) {
            items += u64::from(frame.cut.items);
            self.bytes -= frame.batch.len();
            self.sent = self.sent.saturating_sub(1);
            last = Some(frame.cut.sequence);
        }
        let Some(last) = last else { return Ok(false) };
        if let Err(error) = self.cuts.acknowledge(last) {
            // The batches would be sent again by the next process, which the server recognizes.
            self.spool.notices.push(NoticeLevel::Warning, format!("failed to write to a journal: {error}"));
        }
        // The count comes from the server, so it may exceed the items of the batches.
        let rejected_items = u64::from(rejected.count).min(items);
        if let Some((log, partition, offset)) = log_position {
            first_line::remember(self.spool.owner(), LogPosition { log, partition, offset });
        }
        self.spool.progress.update(|delivery| {
            delivery.stored_items += items;
            delivery.rejected_items += rejected_items;
            delivery.log_position = log_position.or(delivery.log_position);
            delivery.is_outage_reported = false;
            delivery.stalled_since = None;
            // The server takes data again; that the run was deleted stays true.
            if !delivery.is_run_deleted {
                delivery.last_error = None;
            }
        });
        // After the count, so that a caller that sees the notice also sees the loss, and before a wait for delivery ends.
        if rejected.count > 0 {
            self.report_rejections(rejected_items, rejected.first);
        }
        self.publish();
        Ok(true)
    }

    fn report_rejections(&self, items: u64, first: Option<&Rejection>) {
        let first =
            first.map_or_else(String::new, |first| format!("; the first: {}: {}", first.field, first.reason));
        // A batch without items has only definitions of series.
        let what = match items {
            0 => "definitions of series".to_owned(),
            1 => "1 value".to_owned(),
            _ => format!("{items} values"),
        };
        let message = format!("the server rejected {what}{first}");
        self.spool.notices.push(NoticeLevel::Error, message);
    }

    /// Everything before is acknowledged.
    fn stored(&self) -> Position {
        let first = self.frames.front().or(self.unrecorded.as_ref()).map(|frame| &frame.cut);
        first.or(self.recorded.front()).map_or(self.reader.position(), |cut| cut.start.position)
    }

    /// Whether every record that was read is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.recorded.is_empty() && self.unrecorded.is_none()
    }

    /// Whether the spool is closed, and all of it is stored.
    pub(crate) fn is_finished(&self, uploads: &dyn Fn() -> usize) -> bool {
        // The number of uploads comes first: the last one appends its event before it is done.
        self.spool.is_closed()
            && self.is_empty()
            && uploads() == 0
            && !self.reader.is_before_line
            && self.restart.is_none()
            && !self.spool.with_writer(|writer| writer.has_records_after(self.read_position()))
    }

    /// Position of the next record that will be read.
    pub(crate) fn read_position(&self) -> Position {
        self.reader.position()
    }

    /// Makes the progress visible, and frees segments that are not needed any more.
    fn publish(&mut self) {
        let stored = self.stored();
        let oldest_us = self.frames.front().or(self.unrecorded.as_ref()).and_then(|frame| frame.first_us);
        // A caller that waits for this may need the space.
        maintenance::release(&self.spool, stored, &mut self.reader.read);
        self.reader.forget_released();
        self.spool.progress.update(|delivery| (delivery.stored, delivery.oldest_us) = (stored, oldest_us));
    }

    /// Continues under a new producer id, because the server refuses the old one. Everything that
    /// is not acknowledged is cut again.
    pub(crate) fn replace_producer(&mut self) -> io::Result<()> {
        let start = Mark { position: self.stored(), series: 0 };
        self.spool.with_writer(|writer| writer.directory_mut().replace_producer())?;
        *self = Self { first_line: self.first_line, ..Self::start(self.spool.clone(), start)? };
        Ok(())
    }
}

/// Space for the journal of another process may not be reserved, so it is not mapped.
fn journal_mode(spool: &Spool) -> SpoolMode {
    if spool.owner().is_own() { spool.with_writer(|writer| writer.limits().mode) } else { SpoolMode::Written }
}
