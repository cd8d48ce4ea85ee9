//! Appending to a spool. Everything here happens under one lock, which is held for a few dozen
//! nanoseconds, except when a new segment is needed and none has been prepared.

use std::{collections::VecDeque, mem, sync::Arc};

use matyan_proto::ABSENT;

use crate::{
    config::SpoolMode,
    numbering::StepCounter,
    spool::{
        dictionary::SeriesNumbers,
        directory::{self, SpoolDirectory},
        record::{self, HEADER_BYTES, Point, Position},
        segment::{FIRST_SEGMENT_BYTES, SEGMENT_BYTES, Segment, SegmentWriter},
    },
    sys::files,
};

/// Size of time records and drop records.
const NUMBER_RECORD: usize = 16;
/// Size of a point with an epoch.
const POINT_RECORD: usize = 40;
/// Threads read the clock before they take the lock, so times can be a little out of order. A base
/// is this much earlier than the time for which it is made, so that such times do not need another
/// base.
const MOST_DISORDER_US: i64 = 1_000;
/// Interval between attempts to get space.
const RETRY_US: i64 = 1_000_000;
/// Most segments that are memory of this process because they could not be written yet.
const MOST_UNWRITTEN: usize = 16;
/// Space at the end of each segment that only the end of the run takes, so that a full spool has
/// space for it.
const END_RESERVE: usize = 1 << 10;
/// Largest event that certainly fits into that space.
pub(crate) const MOST_END_BYTES: usize = END_RESERVE - 2 * NUMBER_RECORD - record::EVENT_OVERHEAD;

/// Limits of a spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolLimits {
    pub(crate) mode: SpoolMode,
    pub(crate) bytes: u64,
}

/// A value of a series that a caller tracks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackedPoint {
    pub(crate) series: SeriesNumbers,
    pub(crate) value: f64,
    pub(crate) step: Option<i64>,
    pub(crate) epoch: Option<i64>,
    pub(crate) time_us: i64,
}

/// Outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum AppendResult {
    Appended,
    /// There was no space. The caller may wait for some.
    Full,
    /// The spool has been sent completely and is not used any more.
    Retired,
}

/// A segment that exists on disk.
pub(crate) struct HeldSegment {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// Present until it is closed and safe on disk.
    pub(crate) memory: Option<Arc<Segment>>,
}

/// Tasks of the I/O thread that sleep until something is appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sleepers {
    pub(crate) sender: bool,
    pub(crate) maintenance: bool,
    /// There is a new segment, which maintenance has to know.
    has_rolled: bool,
}

/// Counts since the spool was created.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Events and points.
    pub(crate) items: u64,
    pub(crate) dropped: u64,
    /// Dropped points that no record mentions yet.
    unrecorded: u64,
}

/// State of a spool that is appended to.
pub(crate) struct Writer {
    directory: SpoolDirectory,
    limits: SpoolLimits,
    current: Option<SegmentWriter>,
    /// The next segment, prepared by the I/O thread.
    spare: Option<SegmentWriter>,
    last_number: u32,
    /// In order; the last one is current.
    segments: VecDeque<HeldSegment>,
    /// Time that points of the current segment refer to.
    time_base: i64,
    /// Step counters by number; absent if the server assigns the steps of a series.
    counters: Vec<Option<Arc<StepCounter>>>,
    totals: Totals,
    /// After a failed attempt to get space, no other one is made before this time.
    full_until: Option<i64>,
    sleepers: Sleepers,
    is_retired: bool,
}

impl Writer {
    /// Starts after the segments that exist.
    pub(crate) fn new(directory: SpoolDirectory, limits: SpoolLimits, existing: &[(u32, u64)]) -> Self {
        Self {
            directory,
            limits,
            current: None,
            spare: None,
            last_number: existing.last().map_or(0, |(number, _)| *number),
            segments: existing
                .iter()
                .map(|&(number, bytes)| HeldSegment { number, bytes, memory: None })
                .collect(),
            time_base: 0,
            counters: Vec::new(),
            totals: Totals::default(),
            full_until: None,
            sleepers: Sleepers::default(),
            is_retired: false,
        }
    }

    pub(crate) fn directory(&self) -> &SpoolDirectory {
        &self.directory
    }

    pub(crate) fn directory_mut(&mut self) -> &mut SpoolDirectory {
        &mut self.directory
    }

    pub(crate) fn limits(&self) -> SpoolLimits {
        self.limits
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Position after the last record. Without a current segment, the end of a full segment.
    pub(crate) fn end(&self) -> Position {
        let last = self.segments.back().map_or(0, |held| held.number);
        self.current.as_ref().map_or(Position { segment: last, offset: u32::MAX }, SegmentWriter::end)
    }

    /// Appends a point.
    #[inline]
    pub(crate) fn append_point(&mut self, tracked: &TrackedPoint) -> AppendResult {
        if !self.is_ready(tracked.time_us, POINT_RECORD + END_RESERVE) {
            match self.make_ready(tracked.time_us, POINT_RECORD + END_RESERVE) {
                AppendResult::Appended => {}
                failure => return failure,
            }
        }
        let step = self.assign_step(tracked.series.counter, tracked.step);
        let Some(current) = &mut self.current else { return AppendResult::Full };
        let position = current.end();
        let point = Point {
            series: tracked.series.series,
            value: tracked.value,
            step,
            // `is_ready` has checked the difference.
            time: (tracked.time_us - self.time_base) as u32,
            epoch: tracked.epoch,
        };
        let appended = match tracked.epoch {
            None => current.append(record::point(position, &point).bytes()),
            Some(epoch) => current.append(record::point_with_epoch(position, &point, epoch).bytes()),
        };
        debug_assert!(appended, "there was room");
        self.totals.items += 1;
        AppendResult::Appended
    }

    /// Appends an encoded event, and the number of its upload, or 0.
    pub(crate) fn append_event(&mut self, time_us: i64, upload: u64, event: &[u8]) -> AppendResult {
        self.append_encoded(time_us, upload, event, END_RESERVE)
    }

    /// Appends the event that ends the run. One of at most `MOST_END_BYTES` needs no free space in
    /// a spool that has a segment.
    pub(crate) fn append_end(&mut self, time_us: i64, event: &[u8]) -> AppendResult {
        self.append_encoded(time_us, 0, event, 0)
    }

    fn append_encoded(&mut self, time_us: i64, upload: u64, event: &[u8], reserve: usize) -> AppendResult {
        let bytes = record::event_len(event) + reserve;
        if !self.is_ready(time_us, bytes) {
            match self.make_ready(time_us, bytes) {
                AppendResult::Appended => {}
                failure => return failure,
            }
        }
        let Some(current) = &mut self.current else { return AppendResult::Full };
        let appended = current.append(&record::event(current.end(), upload, event));
        debug_assert!(appended, "there was room");
        self.totals.items += 1;
        AppendResult::Appended
    }

    /// Counts points that no record will exist for. Returns whether they are the first.
    pub(crate) fn count_dropped(&mut self, points: u64) -> bool {
        let is_first = self.totals.dropped == 0;
        self.totals.dropped += points;
        self.totals.unrecorded += points;
        is_first
    }

    #[inline]
    fn is_ready(&self, time_us: i64, bytes: usize) -> bool {
        // Room for a record of time or drops is left, so that `make_ready` needs no second check.
        self.current.as_ref().is_some_and(|current| current.has_room(bytes + 2 * NUMBER_RECORD))
            && self.is_in_range(time_us)
            && self.totals.unrecorded == 0
    }

    /// Whether a point can have the time without another time record.
    #[inline]
    fn is_in_range(&self, time_us: i64) -> bool {
        u32::try_from(time_us.wrapping_sub(self.time_base)).is_ok()
    }

    /// Provides room for a record, and the records that have to precede it.
    #[cold]
    fn make_ready(&mut self, time_us: i64, bytes: usize) -> AppendResult {
        if self.is_retired {
            return AppendResult::Retired;
        }
        let bytes = bytes + 2 * NUMBER_RECORD;
        if !self.current.as_ref().is_some_and(|current| current.has_room(bytes)) && !self.roll(time_us, bytes)
        {
            return AppendResult::Full;
        }
        let is_in_range = self.is_in_range(time_us);
        let Some(current) = &mut self.current else { return AppendResult::Full };
        let is_first = current.end().offset == HEADER_BYTES as u32;
        if is_first || !is_in_range {
            self.time_base = time_us.saturating_sub(MOST_DISORDER_US);
            current.append(record::time(current.end(), self.time_base).bytes());
        }
        if self.totals.unrecorded > 0
            && current.append(record::drop(current.end(), self.totals.unrecorded).bytes())
        {
            self.totals.unrecorded = 0;
        }
        AppendResult::Appended
    }

    #[inline]
    fn assign_step(&self, counter: u32, step: Option<i64>) -> i64 {
        match self.counters.get(counter as usize) {
            Some(Some(counter)) => counter.assign(step),
            _ => step.unwrap_or(ABSENT),
        }
    }

    /// Sets the counter with a number.
    pub(crate) fn set_counter(&mut self, number: u32, counter: Arc<StepCounter>) {
        let number = number as usize;
        self.counters.resize(self.counters.len().max(number + 1), None);
        self.counters[number] = Some(counter);
    }

    /// Lets the next record look for space at once, although the last attempt to get some has failed: its caller waits
    /// between its attempts, or has no other chance.
    pub(crate) fn look_at_once(&mut self) {
        // A record that needs no new segment leaves the spool full.
        self.full_until = self.full_until.map(|_| i64::MIN);
    }

    /// Makes a new segment current that has room for `bytes`. Returns false if there is no space.
    fn roll(&mut self, time_us: i64, bytes: usize) -> bool {
        // Many points may have the time of the failed attempt: the members of a dict share theirs.
        let is_early = |until: i64| (until.saturating_sub(RETRY_US)..until).contains(&time_us);
        if self.full_until.is_some_and(is_early) {
            return false;
        }
        // Maintenance also looks for space if there is none.
        self.sleepers.has_rolled = true;
        let Some((next, size)) = self.next_segment(HEADER_BYTES + bytes) else {
            self.full_until = Some(time_us.saturating_add(RETRY_US));
            return false;
        };
        self.full_until = None;
        let segment = next.segment();
        let memory = Some(segment.clone());
        self.segments.push_back(HeldSegment { number: segment.number(), bytes: size as u64, memory });
        self.current = Some(next);
        true
    }

    /// Provides an empty segment: the prepared one, or one of the usual size, or a small one if
    /// there is no space for that.
    fn next_segment(&mut self, bytes: usize) -> Option<(SegmentWriter, usize)> {
        let usual = if self.last_number == 0 { FIRST_SEGMENT_BYTES } else { SEGMENT_BYTES };
        if bytes <= SEGMENT_BYTES
            && let Some(spare) = self.spare.take()
        {
            return Some((spare, SEGMENT_BYTES));
        }
        let sizes = [usual, FIRST_SEGMENT_BYTES].map(|size| bytes.next_multiple_of(size));
        let free = files::free_space(self.directory.path()).unwrap_or(u64::MAX);
        let size = sizes.into_iter().find(|size| self.has_space(*size, free))?;
        Some((self.create(size)?, size))
    }

    fn create(&mut self, size: usize) -> Option<SegmentWriter> {
        if let Some(spare) = self.spare.take() {
            // It is too small for a large event, and its number would be out of order afterwards. A
            // file that stays is empty.
            let path = directory::segment_path(self.directory.path(), spare.segment().number());
            std::fs::remove_file(path).ok();
        }
        let number = self.take_number()?;
        let path = self.directory.path();
        let producer = self.directory.producer();
        SegmentWriter::create(path, number, producer, size, self.limits.mode).ok()
    }

    fn take_number(&mut self) -> Option<u32> {
        self.last_number = self.last_number.checked_add(1)?;
        Some(self.last_number)
    }

    /// Whether another segment may be created, given the free space of the file system.
    fn has_space(&self, size: usize, free: u64) -> bool {
        let held: u64 = self.segments.iter().map(|held| held.bytes).sum();
        let wanted = held + size as u64;
        // An empty spool takes a record of any size, which would wait for its space for ever.
        let is_within_limit = held == 0 || wanted <= self.limits.bytes;
        let is_unwritten =
            |held: &&HeldSegment| held.memory.as_ref().is_some_and(|memory| !memory.is_copied());
        is_within_limit
            && wanted <= free.saturating_add(held) / 5 * 4
            && self.segments.iter().filter(is_unwritten).count() < MOST_UNWRITTEN
    }

    /// Returns the tasks to wake after an append.
    #[inline]
    pub(crate) fn take_sleepers(&mut self) -> Sleepers {
        if !self.sleepers.sender && !self.sleepers.maintenance {
            return Sleepers::default();
        }
        let has_work = self.sleepers.maintenance
            && (self.sleepers.has_rolled || self.current.as_ref().is_some_and(SegmentWriter::needs_copying));
        let woken = Sleepers { sender: self.sleepers.sender, maintenance: has_work, has_rolled: false };
        self.sleepers.sender = false;
        self.sleepers.maintenance &= !has_work;
        woken
    }
}

/// For the I/O thread.
impl Writer {
    /// Marks the sender as asleep, unless there are records that it has not read.
    pub(crate) fn sleep_sender(&mut self, read: Position) -> bool {
        self.sleepers.sender = !self.has_records_after(read);
        self.sleepers.sender
    }

    /// Marks maintenance as asleep, unless there is a new segment since the last call.
    pub(crate) fn sleep_maintenance(&mut self) -> bool {
        self.sleepers.maintenance = !mem::take(&mut self.sleepers.has_rolled);
        self.sleepers.maintenance
    }

    pub(crate) fn has_records_after(&self, position: Position) -> bool {
        match &self.current {
            Some(current) => current.end() > position,
            None => self.segments.back().is_some_and(|last| last.number > position.segment),
        }
    }

    /// Whether the spool takes nothing any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Retires the spool if everything before `stored` is all there is.
    pub(crate) fn retire(&mut self, stored: Position) -> bool {
        self.is_retired |= !self.has_records_after(stored);
        if self.is_retired {
            self.current = None;
            self.spare = None;
        }
        self.is_retired
    }

    /// Accepts no more records, and keeps the records that are not on disk yet.
    pub(crate) fn leave(&mut self) {
        self.is_retired = true;
        self.current = None;
        self.spare = None;
    }

    /// The first segment with this number or a higher one, with its memory if that is not on disk.
    pub(crate) fn segment_from(&self, number: u32) -> Option<(u32, Option<Arc<Segment>>)> {
        let held = self.segments.iter().find(|held| held.number >= number)?;
        Some((held.number, held.memory.clone()))
    }

    /// Segments that have to be copied to their files.
    pub(crate) fn unwritten(&self) -> Vec<Arc<Segment>> {
        let memory = self.segments.iter().filter_map(|held| held.memory.as_ref());
        memory.filter(|memory| !memory.is_copied()).cloned().collect()
    }

    /// Memory of closed segments that are safe on disk. It is returned so that it can be given back
    /// to the kernel, which takes long, without the lock.
    pub(crate) fn take_safe_memory(&mut self) -> Vec<Arc<Segment>> {
        let current = self.current.as_ref().map(|current| current.segment().number());
        let closed = self.segments.iter_mut().filter(|held| Some(held.number) != current);
        let safe = closed.filter(|held| held.memory.as_ref().is_some_and(|memory| memory.is_copied()));
        safe.filter_map(|held| held.memory.take()).collect()
    }

    /// Whether the last attempt to get a segment failed.
    pub(crate) fn is_full(&self) -> bool {
        self.full_until.is_some()
    }

    /// Forgets segments that are not needed any more, given that everything before a position is
    /// stored. The current segment is one of them if it is used up and all of it is stored:
    /// otherwise its space could not be used for the next segment.
    pub(crate) fn release(&mut self, stored: Position) -> Vec<HeldSegment> {
        let mut before = stored.segment;
        let point = POINT_RECORD + 2 * NUMBER_RECORD + END_RESERVE;
        let is_unneeded = self
            .current
            .as_ref()
            .is_some_and(|current| current.end() <= stored && (self.is_full() || !current.has_room(point)));
        if is_unneeded {
            self.current = None;
            before = before.saturating_add(1);
        }
        let current = self.current.as_ref().map(|current| current.segment().number());
        let is_needed = |held: &HeldSegment| held.number >= before || Some(held.number) == current;
        let count = self.segments.iter().take_while(|held| !is_needed(held)).count();
        if count > 0 {
            self.full_until = None;
        }
        self.segments.drain(..count).collect()
    }

    pub(crate) fn holds(&self, number: u32) -> bool {
        self.segments.iter().any(|held| held.number == number)
    }

    /// Forgets a segment that cannot be read.
    pub(crate) fn forget_segment(&mut self, number: u32) {
        self.segments.retain(|held| held.number != number);
    }

    /// Whether a spare segment should be prepared. A run that has not filled its first segment does
    /// not need one.
    pub(crate) fn needs_spare(&self) -> bool {
        let is_busy = self.current.as_ref().is_some_and(|current| current.segment().number() > 1);
        is_busy && self.spare.is_none()
    }

    /// Number of the spare segment that should be prepared, given the free space of the file system.
    pub(crate) fn wanted_spare(&mut self, free: u64) -> Option<u32> {
        if self.needs_spare() && self.has_space(SEGMENT_BYTES, free) { self.take_number() } else { None }
    }

    /// Keeps a prepared segment for later. Returns it if it has become useless, because one with a
    /// higher number is in use.
    pub(crate) fn keep_spare(&mut self, spare: SegmentWriter) -> Option<SegmentWriter> {
        let number = spare.segment().number();
        let is_late = self.segments.back().is_some_and(|last| last.number > number);
        if is_late || self.is_retired || self.spare.is_some() {
            return Some(spare);
        }
        self.spare = Some(spare);
        None
    }
}
