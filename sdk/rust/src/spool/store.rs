//! A spool as its users see it: callers append, and the I/O thread reads, keeps house and reports
//! the data that is stored.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use matyan_proto::ABSENT;
use tokio::sync::Notify;

use crate::{
    clock,
    config::{Config, LEAST_SPOOL_BYTES, SpoolFull, SpoolMode},
    locks::lock,
    notice::{NoticeLevel, Notices},
    numbering::Numbering,
    progress::Progress,
    series::Series,
    spool::{
        dictionary::{Dictionary, SeriesNumbers},
        directory::{self, Owner, SpoolDirectory},
        directory_choice::{self, NoDirectory},
        producer::ProducerId,
        record::Position,
        segment::{OpenedSegment, Segment},
        upload_space::UploadSpace,
        writer::{AppendResult, Sleepers, SpoolLimits, Totals, TrackedPoint, Writer},
    },
    sys::files,
};

/// Points that are appended under one lock.
const POINTS_PER_LOCK: usize = 1_000;
/// Interval at which a caller that waits for space looks again.
const SPACE_INTERVAL: Duration = Duration::from_millis(100);

/// Number of the next spool of this process, from 1. Forked children continue, so that a series
/// never takes numbers of its parent's spool for its own.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

/// A spool that this process owns.
pub(crate) struct Spool {
    number: u32,
    owner: Owner,
    writer: Mutex<Writer>,
    pub(crate) dictionary: Dictionary,
    full: FullPolicy,
    numbers: SpoolNumbers,
    pub(crate) sender_wake: Notify,
    pub(crate) maintenance_wake: Notify,
    pub(crate) progress: Progress,
    pub(crate) notices: Notices,
    /// No caller holds it, so it is removed once it is stored.
    is_closed: AtomicBool,
    /// Nothing can be appended any more.
    is_released: AtomicBool,
    /// Cleared when it has been stored and removed, or is left to a later process.
    is_usable: AtomicBool,
    /// It is left to a later process, with everything on disk.
    is_unlocked: AtomicBool,
    /// Uploads whose files callers are writing.
    begun_uploads: AtomicUsize,
}

/// The right to write the files of an upload, during which the spool is not left to a later process.
pub(crate) struct BegunUpload<'a>(&'a Spool);

impl Drop for BegunUpload<'_> {
    fn drop(&mut self) {
        self.0.begun_uploads.fetch_sub(1, Ordering::AcqRel);
        self.0.maintenance_wake.notify_one();
    }
}

/// Numbers of a run that its spools share.
#[derive(Default)]
struct SpoolNumbers {
    /// Absent if a process of another origin has tracked the data in the spool.
    numbering: Option<Arc<Numbering>>,
    /// Number that is added to terminal lines, if the server was asked.
    first_line: OnceLock<i64>,
}

/// Treatment of callers while the spool is full.
#[derive(Default)]
struct FullPolicy {
    uploads: UploadSpace,
    waits: bool,
    interrupted: Option<fn() -> bool>,
    /// Signals space to callers that wait for it.
    space: Condvar,
}

/// Columns of points of one series; all of the same length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns<'a> {
    pub values: &'a [f64],
    /// Absent: the next steps of the series.
    pub steps: Option<&'a [i64]>,
    pub epochs: Option<&'a [i64]>,
    /// Microseconds since the Unix epoch. Absent: now.
    pub times_us: Option<&'a [i64]>,
}

impl Spool {
    /// Creates a spool in the first directory where that is possible. `interrupted` is called every
    /// 100 ms by a caller that waits for space; true ends the wait.
    pub(crate) fn create(
        config: &Config,
        owner: Owner,
        numbering: Arc<Numbering>,
        notices: Notices,
        interrupted: Option<fn() -> bool>,
    ) -> Result<Self, NoDirectory> {
        let directory = directory_choice::create(config, &owner, &notices)?;
        let dictionary = Dictionary::empty();
        let limits = limits(config, directory.path());
        let writer = Writer::new(directory, limits, &[]);
        // An offline run sends nothing, so waiting would free no space.
        let waits = config.spool_full == SpoolFull::Block && !owner.is_offline;
        let full = FullPolicy { waits, interrupted, ..FullPolicy::default() };
        let numbers = SpoolNumbers { numbering: Some(numbering), ..SpoolNumbers::default() };
        Ok(Self { full, numbers, ..Self::with(writer, dictionary, owner, notices) })
    }

    /// Takes over a spool that another process left. Returns `None` if it is in use, was never used,
    /// or has another format.
    pub(crate) fn claim(path: &Path, config: &Config, notices: Notices) -> io::Result<Option<Self>> {
        let Some((directory, owner)) = SpoolDirectory::claim(path)? else { return Ok(None) };
        let existing = directory::segments(directory.path())?;
        let (dictionary, damaged) = Dictionary::open(directory.path())?;
        report_damaged_series(directory.path(), &damaged, &notices);
        let limits = limits(config, directory.path());
        // Its lines are numbered like the lines of this process.
        let is_known = owner.is_forked_child();
        let numbering = is_known.then(|| Numbering::find(&owner.gateway_url, &owner.run_id)).flatten();
        let writer = Writer::new(directory, limits, &existing);
        let numbers = SpoolNumbers { numbering, ..SpoolNumbers::default() };
        let uploads = UploadSpace::used(directory::upload_bytes(path));
        let full = FullPolicy { uploads, ..FullPolicy::default() };
        let spool = Self { numbers, full, ..Self::with(writer, dictionary, owner, notices) };
        spool.close();
        Ok(Some(spool))
    }

    fn with(writer: Writer, dictionary: Dictionary, owner: Owner, notices: Notices) -> Self {
        Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            owner,
            writer: Mutex::new(writer),
            dictionary,
            full: FullPolicy::default(),
            numbers: SpoolNumbers::default(),
            sender_wake: Notify::new(),
            maintenance_wake: Notify::new(),
            progress: Progress::default(),
            notices,
            is_closed: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            is_usable: AtomicBool::new(true),
            is_unlocked: AtomicBool::new(false),
            begun_uploads: AtomicUsize::new(0),
        }
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Number of this spool among all spools of this process.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Number that is added to terminal lines, if it is known without the server.
    pub(crate) fn first_line(&self) -> Option<i64> {
        let of_new_run = (!self.owner.is_resumed).then_some(0);
        of_new_run
            .or(self.owner.first_line)
            .or_else(|| self.numbers.first_line.get().copied())
            .or_else(|| self.numbers.numbering.as_ref()?.lines.first())
    }

    /// Sets the number that is added to terminal lines, unless another process of this run has done
    /// so.
    pub(crate) fn set_first_line(&self, first: i64) {
        let first =
            self.numbers.numbering.as_ref().map_or(first, |numbering| numbering.lines.set_first(first));
        self.numbers.first_line.get_or_init(|| first);
        self.sender_wake.notify_one();
    }

    /// Lets a spool be sent that was made offline.
    pub(crate) fn send_if_offline(&mut self) {
        self.owner.is_offline = false;
    }

    /// Whether records can still be appended.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.is_usable.load(Ordering::Acquire)
    }

    /// Lets the sender remove the spool once everything is stored.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.sender_wake.notify_one();
    }

    /// Closes the spool of a run that is gone. One that is not sent needs no lock then.
    pub(crate) fn release(&self) {
        self.close();
        self.is_released.store(true, Ordering::Release);
        self.maintenance_wake.notify_one();
    }

    /// Leaves a spool that is not sent to a later process. What is tracked from now on needs another spool.
    /// Waits until everything is on disk, no upload is being written and the lock is free, for at most a time.
    pub(crate) fn leave(&self, timeout: Duration) {
        self.with_writer(Writer::leave);
        // Before the spool becomes unusable: its maintenance ends if it is neither usable nor left.
        self.release();
        self.is_usable.store(false, Ordering::Release);
        self.progress.wait_until(timeout, |_| self.is_unlocked.load(Ordering::Acquire));
    }

    /// Frees the lock of a spool that is left.
    pub(crate) fn unlock(&self) {
        self.with_writer(|writer| writer.directory_mut().unlock());
        self.is_unlocked.store(true, Ordering::Release);
        self.progress.update(|_| ());
    }

    /// Whether nothing is appended any more, and nothing is sent.
    pub(crate) fn is_left(&self) -> bool {
        self.owner.is_offline && self.is_released.load(Ordering::Acquire)
    }

    /// Lets a caller write the files of an upload. Returns `None` if the spool takes nothing any more.
    pub(crate) fn begin_upload(&self) -> Option<BegunUpload<'_>> {
        // With the lock, so that no upload begins after the spool is left.
        self.with_writer(|writer| {
            if writer.is_retired() {
                return None;
            }
            self.begun_uploads.fetch_add(1, Ordering::AcqRel);
            Some(BegunUpload(self))
        })
    }

    pub(crate) fn has_begun_uploads(&self) -> bool {
        self.begun_uploads.load(Ordering::Acquire) > 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Appends a point. Returns false if the spool is not used any more.
    #[inline]
    pub(crate) fn track(
        &self,
        series: &Series,
        value: f64,
        step: Option<i64>,
        epoch: Option<i64>,
        time_us: i64,
    ) -> bool {
        let Some(numbers) = self.numbers(series) else { return true };
        let point = TrackedPoint { series: numbers, value, step, epoch, time_us };
        self.append(|writer| writer.append_point(&point))
    }

    /// Appends the points of columns from `next` on, and moves `next` past the handled points.
    /// Returns false if the spool is not used any more.
    pub(crate) fn track_many(&self, series: &Series, columns: &Columns<'_>, next: &mut usize) -> bool {
        let Some(numbers) = self.numbers(series) else { return true };
        let now = clock::now_us();
        let entry = |column: Option<&[i64]>, at: usize| column.map(|column| column[at]);
        let all = columns.values.len();
        while *next < all {
            let end = all.min(*next + POINTS_PER_LOCK);
            let is_used = self.append(|writer| {
                while *next < end {
                    let point = TrackedPoint {
                        series: numbers,
                        value: columns.values[*next],
                        step: entry(columns.steps, *next),
                        epoch: entry(columns.epochs, *next).filter(|epoch| *epoch != ABSENT),
                        time_us: entry(columns.times_us, *next).unwrap_or(now),
                    };
                    match writer.append_point(&point) {
                        AppendResult::Appended => *next += 1,
                        full_or_retired => return full_or_retired,
                    }
                }
                AppendResult::Appended
            });
            if !is_used {
                return false;
            }
            if *next < end {
                // A wait for space has been interrupted, and the next wait would be interrupted too.
                let dropped = if self.full.waits { all } else { end };
                // One point is counted by `append`.
                lock(&self.writer).count_dropped((dropped - *next - 1) as u64);
                *next = dropped;
            }
        }
        true
    }

    /// Appends an encoded event, with the number of its upload or 0. Returns false if the spool is
    /// not used any more.
    pub(crate) fn append_event(&self, time_us: i64, upload: u64, event: &[u8]) -> bool {
        self.append(|writer| writer.append_event(time_us, upload, event))
    }

    /// Appends the event of an upload with this number. The upload keeps the announced file, so the
    /// caller tries again if there is no space.
    pub(crate) fn try_append_upload(&self, time_us: i64, upload: u64, event: &[u8]) -> AppendResult {
        let mut writer = lock(&self.writer);
        writer.look_at_once();
        let result = writer.append_event(time_us, upload, event);
        let woken = writer.take_sleepers();
        drop(writer);
        self.wake(woken);
        result
    }

    /// Appends the event that ends the run, which does not wait for space. If there is none for it,
    /// there is still some for the short form. Returns false if the spool is not used any more.
    pub(crate) fn append_end(&self, time_us: i64, event: &[u8], short: &[u8]) -> bool {
        let mut writer = lock(&self.writer);
        let mut result = writer.append_end(time_us, event);
        if result == AppendResult::Full {
            writer.look_at_once();
            result = writer.append_end(time_us, short);
        }
        if result == AppendResult::Full {
            self.count_dropped(&mut writer);
        }
        let woken = writer.take_sleepers();
        drop(writer);
        self.wake(woken);
        result != AppendResult::Retired
    }

    #[inline]
    fn append(&self, mut append: impl FnMut(&mut Writer) -> AppendResult) -> bool {
        let mut writer = lock(&self.writer);
        let mut result = append(&mut writer);
        if result == AppendResult::Full {
            (writer, result) = self.append_when_full(writer, append);
        }
        let woken = writer.take_sleepers();
        drop(writer);
        self.wake(woken);
        result != AppendResult::Retired
    }

    /// Waits for space if that is wanted. Counts the records that are dropped in the end.
    #[cold]
    fn append_when_full<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Writer>,
        mut append: impl FnMut(&mut Writer) -> AppendResult,
    ) -> (MutexGuard<'a, Writer>, AppendResult) {
        let mut result = AppendResult::Full;
        let mut is_interrupted = false;
        while result == AppendResult::Full && self.full.waits && !is_interrupted {
            // Only the sender makes space.
            self.wake(writer.take_sleepers());
            drop(self.full.space.wait_timeout(writer, SPACE_INTERVAL));
            // Without the lock: a signal handler of the script may track as well.
            is_interrupted = self.full.interrupted.is_some_and(|interrupted| interrupted());
            writer = lock(&self.writer);
            writer.look_at_once();
            result = append(&mut writer);
        }
        if result == AppendResult::Full {
            self.count_dropped(&mut writer);
        }
        (writer, result)
    }

    #[inline]
    fn wake(&self, woken: Sleepers) {
        if woken.sender {
            self.sender_wake.notify_one();
        }
        if woken.maintenance {
            self.maintenance_wake.notify_one();
        }
    }

    /// Takes space for a file that waits for its upload. Returns false if there is none.
    pub(crate) fn take_upload_space(&self, bytes: u64) -> bool {
        loop {
            let (directory, limit) =
                self.with_writer(|writer| (writer.directory().path().to_owned(), writer.limits().bytes));
            let free = files::free_space(&directory).unwrap_or(u64::MAX);
            if self.full.uploads.take(bytes, limit, free) {
                return true;
            }
            if !self.full.waits || self.full.interrupted.is_some_and(|interrupted| interrupted()) {
                return false;
            }
            drop(self.full.space.wait_timeout(lock(&self.writer), SPACE_INTERVAL));
        }
    }

    /// Gives the space of a file back that has been removed.
    pub(crate) fn give_back_upload_space(&self, bytes: u64) {
        self.full.uploads.give_back(bytes);
        self.signal_space();
    }

    /// Counts an upload that there is no space for, or whose files cannot be written.
    pub(crate) fn drop_upload(&self, error: &io::Error) {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let mut writer = lock(&self.writer);
        if matches!(error.kind(), QuotaExceeded | StorageFull) {
            return self.count_dropped(&mut writer);
        }
        writer.count_dropped(1);
        let message = format!("a file was dropped, because it cannot be put into the spool: {error}");
        self.notices.push(NoticeLevel::Warning, message);
    }

    /// Counts an upload that can never arrive. The reason was reported.
    pub(crate) fn count_lost_upload(&self) {
        self.full.uploads.count_lost();
    }

    /// Values that were dropped, and uploads that were lost.
    pub(crate) fn lost(&self) -> u64 {
        lock(&self.writer).totals().dropped + self.full.uploads.lost()
    }

    #[cold]
    fn count_dropped(&self, writer: &mut Writer) {
        if writer.count_dropped(1) {
            let path = writer.directory().path().display();
            let message = format!("{path} is full: further data is dropped until the server has stored some");
            self.notices.push(NoticeLevel::Warning, message);
        }
    }

    #[inline]
    fn numbers(&self, series: &Series) -> Option<SeriesNumbers> {
        series.numbers_in(self.number).or_else(|| self.define(series))
    }

    #[cold]
    fn define(&self, series: &Series) -> Option<SeriesNumbers> {
        let name = series.name();
        let context = series.context().stored();
        // With the lock, because the directory may change its name.
        let mut writer = lock(&self.writer);
        let is_written_later = writer.limits().mode == SpoolMode::Written;
        let directory = (!is_written_later).then(|| writer.directory().path());
        match self.dictionary.define(directory, name, context, series.dtype()) {
            Ok(numbers) => {
                let counter = self.numbers.numbering.as_ref().and_then(|all| all.step_counter(name, context));
                if let Some(counter) = counter {
                    writer.set_counter(numbers.counter, counter);
                }
                series.set_numbers(self.number, numbers);
                Some(numbers)
            }
            Err(error) => {
                self.notices.push(NoticeLevel::Warning, error.to_string());
                writer.count_dropped(1);
                None
            }
        }
    }
}

/// For callers who ask about the spool, and for the I/O thread.
impl Spool {
    pub(crate) fn path(&self) -> PathBuf {
        lock(&self.writer).directory().path().to_owned()
    }

    pub(crate) fn producer(&self) -> ProducerId {
        lock(&self.writer).directory().producer()
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        lock(&self.writer).directory().uploads()
    }

    /// Writes definitions of series to disk, because records that refer to them follow.
    pub(crate) fn write_definitions(&self) -> io::Result<()> {
        self.dictionary.write(&self.path())
    }

    /// Position after the last record, and the counts up to there.
    pub(crate) fn end(&self) -> (Position, Totals) {
        let writer = lock(&self.writer);
        (writer.end(), writer.totals())
    }

    /// Calls a function while nothing can be appended.
    pub(crate) fn with_writer<T>(&self, call: impl FnOnce(&mut Writer) -> T) -> T {
        call(&mut lock(&self.writer))
    }

    /// Wakes callers that wait for space.
    pub(crate) fn signal_space(&self) {
        self.full.space.notify_all();
    }

    /// Returns the first segment with this number or a higher one. A segment whose content cannot be
    /// trusted is reported and forgotten. After an error, such as too many open files, the next attempt
    /// may succeed.
    pub(crate) fn segment_from(&self, number: u32) -> io::Result<Option<Arc<Segment>>> {
        loop {
            let known = self.with_writer(|writer| {
                let (found, memory) = writer.segment_from(number)?;
                Some((found, memory, writer.directory().path().to_owned(), writer.limits().mode))
            });
            let Some((found, memory, path, mode)) = known else { return Ok(None) };
            if memory.is_some() {
                return Ok(memory);
            }
            match Segment::open(&path, found, mode) {
                Ok(OpenedSegment::Valid(segment)) => return Ok(Some(Arc::new(segment))),
                Ok(OpenedSegment::Blank) => {}
                Ok(OpenedSegment::Damaged) => self.report_damage(found, "its header is invalid"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.report_damage(found, "it is missing");
                }
                Err(error) => {
                    let message = format!("failed to read from {}; will retry: {error}", path.display());
                    self.notices.push(NoticeLevel::Warning, message);
                    return Err(error);
                }
            }
            // It would look like more to send.
            self.with_writer(|writer| writer.forget_segment(found));
        }
    }

    /// Reports points that another process had no space for.
    pub(crate) fn report_dropped(&self, points: u64) {
        if !self.owner.is_own() {
            let message = format!("run {} misses {points} values: its spool was full", self.owner.run_id);
            self.notices.push(NoticeLevel::Warning, message);
        }
    }

    /// Reports records that cannot be read.
    pub(crate) fn report_damage(&self, segment: u32, reason: &str) {
        let path = directory::segment_path(&self.path(), segment);
        let message = format!("{} is damaged, and what follows in it is lost: {reason}", path.display());
        self.notices.push(NoticeLevel::Error, message);
    }

    /// Retires and removes the spool if all of it is stored. `is_uploaded` says whether a directory has
    /// no files left to upload.
    pub(crate) fn remove(&self, stored: Position, is_uploaded: impl FnOnce(&Path) -> bool) -> bool {
        // With the lock, so that nothing is submitted meanwhile.
        let is_retired =
            self.with_writer(|writer| is_uploaded(&writer.directory().uploads()) && writer.retire(stored));
        if is_retired {
            self.is_usable.store(false, Ordering::Relaxed);
            self.maintenance_wake.notify_one();
            let removed = self.with_writer(|writer| writer.directory().remove());
            if let Err(error) = removed {
                self.notices.push(NoticeLevel::Warning, format!("failed to remove a spool: {error}"));
            }
        }
        is_retired
    }
}

fn report_damaged_series(directory: &Path, damaged: &[u32], notices: &Notices) {
    let Some(first) = damaged.first() else { return };
    let message = format!(
        "{} has {} damaged definitions of series: their points are stored as `damaged_series_{first}` and so on",
        directory.display(),
        damaged.len()
    );
    notices.push(NoticeLevel::Error, message);
}

fn limits(config: &Config, directory: &Path) -> SpoolLimits {
    let by_file_system = if files::is_on_network(directory) { SpoolMode::Written } else { SpoolMode::Mapped };
    let mode = config.spool_mode.unwrap_or(by_file_system);
    SpoolLimits { mode, bytes: config.spool_bytes.max(LEAST_SPOOL_BYTES) }
}

#[cfg(test)]
mod tests;
