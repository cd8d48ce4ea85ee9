//! The handle of a run: what a script tracks goes into the spool of its process, and nothing here
//! waits for the network.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_proto::{
    common::v1 as api,
    ingest::v1::{CreateRun, Event, FinishRun, SetRunProperty, event::Kind},
    limits,
};
use matyan_value::Context;
use prost::Message as _;

use crate::{
    clock,
    config::Config,
    error::ArgumentError,
    io_thread::{self, ChildData},
    locks::lock,
    notice::{Notice, NoticeLevel, Notices},
    numbering::{Numbering, RunOrigin},
    per_process::PerProcess,
    progress::Delivery,
    series::Series,
    spool::{
        directory::Owner,
        producer::ProducerId,
        record,
        store::{Columns, Spool},
        writer::MOST_END_BYTES,
    },
    sys::fork,
    upload::worker,
};

/// Interval at which `close` reports its progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Shortest pause before `close` looks again for what children have left.
const SHORTEST_CHILD_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause, while nothing is delivered: each look reads the directory of spools.
const LONGEST_CHILD_PAUSE: Duration = Duration::from_millis(200);

/// Interval at which `flush` looks whether files have been uploaded.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(20);

/// Time until a spool is tried again that could not be created; it doubles with every attempt.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Most doublings, about a day: each attempt needs memory for as long as the run exists.
const MOST_DOUBLINGS: u32 = 16;

/// The client of a run whose program names none.
const CLIENT: &str = concat!("matyan-sdk ", env!("CARGO_PKG_VERSION"));

/// Bytes of an outcome's text if the spool is full.
const SHORT_TEXT: usize = 512;
const _: () = assert!(SHORT_TEXT + 64 <= MOST_END_BYTES);

/// Options for opening a run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Absent: a new run.
    pub run_id: Option<String>,
    /// Name of the experiment that the run is put into.
    pub experiment: Option<String>,
    /// The run that a new one branches from.
    pub parent: Option<ParentRun>,
    /// Whether a finished run is reactivated.
    pub force_resume: bool,
    /// Whether another process has opened the run. This process then neither starts nor ends it, so
    /// that the data that it leaves cannot reactivate a run that has ended.
    pub joins: bool,
    /// Whether data stays in the spool until it is sent explicitly.
    pub offline: bool,
    /// Time of creation in microseconds since the Unix epoch, of a run that is imported.
    pub created_us: Option<i64>,
    /// Name and version of the client library, which readers of the run see. Absent: this crate. At most 64 bytes.
    pub client: Option<String>,
    /// Called every 100 ms by a thread that waits for space in a full spool (`SpoolFull::Block`).
    /// If it returns true, the wait ends, and the waiting value is dropped.
    pub interrupted: Option<fn() -> bool>,
    /// Addresses and settings of the spool.
    pub config: Config,
}

/// A run that another one branches from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentRun {
    pub run_id: String,
    /// The last step whose points the branch shares. Absent: all of them.
    pub step: Option<i64>,
}

/// A run that data is tracked for. Every method may be called from any thread, and in forked
/// children, which get their own spool and connection at the first use.
///
/// Tracking never fails because of the network, the server or the disk. What goes wrong in the
/// background is in `health` and `notices`.
pub struct Run {
    id: String,
    options: RunOptions,
    /// Number of forks at the time of creation.
    generation: u64,
    /// One for each process, and another if data is tracked after everything was stored.
    spools: PerProcess<RunSpool>,
    numbering: Arc<Numbering>,
    /// The terminal line that this process stored last: number of the caller, and number in the run.
    last_line: PerProcess<Mutex<Option<(i64, i64)>>>,
    is_finished: AtomicBool,
    /// Values that no spool could take.
    dropped: AtomicU64,
    /// Number of lost values that `flush` has reported.
    reported_losses: AtomicU64,
    /// Failed attempts to create a spool.
    failures: AtomicU32,
    notices: Notices,
}

/// The spool of a run, which is closed with its last handle.
enum RunSpool {
    Open(Arc<Spool>),
    /// No directory could take it. Another attempt is made at this time.
    Missing(Instant),
}

/// State of the delivery of a run's data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// Values that the server has not confirmed to have stored.
    pub pending: u64,
    /// Files that are not uploaded yet.
    pub pending_uploads: usize,
    /// Age of the oldest of these values in seconds.
    pub oldest_s: f64,
    /// Values that were dropped because there was no space, that the server rejected, or that were tracked for a run that was
    /// deleted, and files that could not be uploaded.
    pub dropped: u64,
    /// The part of `dropped` that the server rejected.
    pub rejected: u64,
    pub connected: bool,
    pub last_error: Option<String>,
}

/// End of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As planned.
    Finished,
    /// With an error, whose text is kept up to 64 KiB.
    Failed(String),
    /// By a person or a scheduler.
    Interrupted,
}

impl Outcome {
    /// With at most this many bytes of text.
    fn to_api(&self, most_text: usize) -> api::Outcome {
        let (kind, message) = match self {
            Self::Finished => (api::OutcomeKind::Finished, ""),
            Self::Failed(error) => (api::OutcomeKind::Failed, error.as_str()),
            Self::Interrupted => (api::OutcomeKind::Interrupted, ""),
        };
        let end = message.floor_char_boundary(most_text.min(message.len()));
        api::Outcome { kind: kind.into(), message: message[..end].to_owned() }
    }
}

/// Limits on the time that `close` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseLimits {
    /// While the server can be reached.
    pub reachable: Duration,
    /// While it cannot.
    pub unreachable: Duration,
}

/// Progress of `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseProgress {
    /// Values that are not stored yet.
    pub pending: u64,
    /// Values of this process.
    pub total: u64,
}

/// Outcome of `close`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Values that are not stored yet. They stay in the spool, and are sent as long as this process
    /// runs, and then by the next one.
    pub pending: u64,
    /// Values that were dropped because there was no space, that the server rejected, or that were tracked for a run that was
    /// deleted, and files that could not be uploaded.
    pub dropped: u64,
    /// Spools that are not stored yet, of child processes that have ended.
    pub child_spools: usize,
    /// Files that are not uploaded yet.
    pub pending_uploads: usize,
    /// Directory of the spool if anything is left in it.
    pub spool: Option<PathBuf>,
}

impl Default for CloseLimits {
    fn default() -> Self {
        Self { reachable: Duration::from_secs(30), unreachable: Duration::from_secs(3) }
    }
}

impl Run {
    /// Opens a run. It neither waits for the server nor fails without one.
    pub fn new(options: RunOptions) -> Result<Self, ArgumentError> {
        let id = match &options.run_id {
            Some(id) => check_id("run_id", id)?.to_owned(),
            None => new_id()?,
        };
        if let Some(experiment) = &options.experiment {
            ArgumentError::check_length("experiment", experiment, limits::NAME_BYTES)?;
        }
        if let Some(client) = &options.client {
            ArgumentError::check_length("client", client, limits::CLIENT_BYTES)?;
        }
        if let Some(parent) = &options.parent {
            check_id("parent.run_id", &parent.run_id)?;
        }
        let origin = match (&options.run_id, &options.parent) {
            (Some(_), _) => RunOrigin::Existing,
            (None, Some(_)) => RunOrigin::Branch,
            (None, None) => RunOrigin::New,
        };
        options.config.use_token();
        let numbering = Numbering::of_run(&options.config.gateway_url, &id, origin);
        let run = Self {
            id,
            options,
            generation: fork::generation(),
            spools: PerProcess::new(),
            numbering,
            last_line: PerProcess::new(),
            is_finished: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            reported_losses: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            notices: Notices::default(),
        };
        if !run.options.joins {
            // It may be sent much later.
            let created_us = run.options.created_us.unwrap_or_else(clock::now_us);
            let force_resume = run.options.force_resume;
            let ParentRun { run_id, step } = run.options.parent.clone().unwrap_or_default();
            let create = CreateRun {
                force_resume,
                parent_run_id: run_id,
                parent_step: step,
                created_us: Some(created_us),
                client: run.options.client.clone().unwrap_or_else(|| CLIENT.to_owned()),
            };
            run.append_kind_at(Kind::CreateRun(create), created_us)?;
        }
        if let Some(experiment) = run.options.experiment.clone() {
            let property = SetRunProperty { experiment: Some(experiment), ..SetRunProperty::default() };
            run.append_kind(Kind::SetRunProperty(property))?;
        }
        Ok(run)
    }

    /// Returns the id of the run.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns whether this handle has created the run rather than opened an existing one.
    pub fn is_new(&self) -> bool {
        self.options.run_id.is_none()
    }

    pub fn config(&self) -> &Config {
        &self.options.config
    }

    /// Returns a series of this run. It is meant to be kept: looking it up is slower than using it.
    pub fn series(&self, name: &str, context: &Context, dtype: &str) -> Result<Arc<Series>, ArgumentError> {
        Series::new(name, context.clone(), dtype).map(Arc::new)
    }

    /// Tracks a value. Without a step, it gets the one after the largest of the series; in a run
    /// that existed before, the server determines that.
    #[inline]
    pub fn track(&self, series: &Series, value: f64, step: Option<i64>, epoch: Option<i64>) {
        self.track_at(series, value, step, epoch, clock::now_us());
    }

    /// Tracks a value with the time that it has. Values of many series at one step take less space if they share it.
    #[inline]
    pub fn track_at(&self, series: &Series, value: f64, step: Option<i64>, epoch: Option<i64>, time_us: i64) {
        self.use_spool(|spool| spool.track(series, value, step, epoch, time_us));
    }

    /// Takes the step that a point without one would get now, for a value that arrives later. `None`
    /// if the server assigns the steps of the run.
    pub fn reserve_step(&self, series: &Series) -> Option<i64> {
        let counter = self.numbering.step_counter(series.name(), series.context().stored())?;
        Some(counter.assign(None))
    }

    /// Returns the step of an object: the given one, or the next one. `None` if the server assigns it.
    pub(crate) fn object_step(&self, name: &str, context: &Context, step: Option<i64>) -> Option<i64> {
        let counter = self.numbering.object_step_counter(name, context.stored());
        counter.map_or(step, |counter| Some(counter.assign(step)))
    }

    /// Tracks columns of values.
    pub fn track_many(&self, series: &Series, columns: &Columns<'_>) -> Result<(), ArgumentError> {
        let values = columns.values.len();
        for (name, column) in
            [("steps", columns.steps), ("epochs", columns.epochs), ("times_us", columns.times_us)]
        {
            if let Some(found) = column.map(<[i64]>::len).filter(|found| *found != values) {
                let reason = format!("expected {values} entries, one for each value, found {found}");
                return Err(ArgumentError::new(name, reason));
            }
        }
        // If the spool is retired in between, the next spool gets only the remaining points.
        let mut next = 0;
        self.use_spool(|spool| spool.track_many(series, columns, &mut next));
        Ok(())
    }

    /// Appends anything but points. An event that no server would accept is an error.
    pub(crate) fn append_kind(&self, kind: Kind) -> Result<(), ArgumentError> {
        self.append_kind_at(kind, clock::now_us())
    }

    /// The same with the time that the event has.
    pub(crate) fn append_kind_at(&self, kind: Kind, time_us: i64) -> Result<(), ArgumentError> {
        let event = record::encode_event(kind, time_us)?;
        self.use_spool(|spool| spool.append_event(clock::now_us(), 0, &event));
        Ok(())
    }

    /// Calls a function with the spool of this process, and again with another if it returns false
    /// because the first is not used any more.
    #[inline]
    pub(crate) fn use_spool(&self, mut append: impl FnMut(&Spool) -> bool) {
        loop {
            match self.spools.get_or_make(RunSpool::is_usable, || self.open_spool()) {
                RunSpool::Open(spool) if append(spool) => return,
                RunSpool::Open(_) => {}
                RunSpool::Missing(_) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    #[cold]
    fn open_spool(&self) -> RunSpool {
        let config = &self.options.config;
        let mut owner =
            Owner::of_this_process(&self.id, &config.gateway_url, &config.backend_url, clock::now_us());
        owner.is_resumed = !self.is_new();
        owner.first_line = self.numbering.lines.first();
        owner.is_offline = self.options.offline;
        let numbering = self.numbering.clone();
        let notices = self.notices.clone();
        match Spool::create(config, owner, numbering, notices, self.options.interrupted) {
            Ok(spool) => {
                let spool = Arc::new(spool);
                io_thread::serve(spool.clone(), config);
                RunSpool::Open(spool)
            }
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed);
                if failures == 0 {
                    self.notices.push(NoticeLevel::Error, error.to_string());
                }
                RunSpool::Missing(Instant::now() + FIRST_RETRY * 2_u32.pow(failures.min(MOST_DOUBLINGS)))
            }
        }
    }

    /// Returns the number in the run of a terminal line of this process.
    pub(crate) fn line_number(&self, line: i64) -> i64 {
        let is_opener = self.generation == fork::generation();
        let mut last = lock(self.last_line.get_or_make(|_| true, Mutex::default));
        let number = match *last {
            // Rewritten, such as a progress bar.
            Some((last_line, number)) if line <= last_line => return number - (last_line - line),
            Some((last_line, _)) => self.numbering.lines.take(line - last_line),
            // A forked child continues to count, and another handle of the run starts at 0.
            None if is_opener => self.numbering.lines.take(line.max(0) + 1),
            None => self.numbering.lines.take(1),
        };
        *last = Some((line, number));
        number
    }

    /// The spool of this process, if it has tracked anything.
    fn spool(&self) -> Option<&Arc<Spool>> {
        match self.spools.get()? {
            RunSpool::Open(spool) => Some(spool),
            RunSpool::Missing(_) => None,
        }
    }

    /// Marks the run as finished, with the way in which it ended if that is known. Only the process
    /// that opened the run can do that, and only the first call counts.
    pub fn finish(&self, outcome: Option<&Outcome>) {
        self.finish_at(outcome, clock::now_us());
    }

    /// The same for a run that is imported, with the time of its end in microseconds since the Unix
    /// epoch.
    pub fn finish_at(&self, outcome: Option<&Outcome>, time_us: i64) {
        let is_opener = self.generation == fork::generation() && !self.options.joins;
        if is_opener && !self.is_finished.swap(true, Ordering::AcqRel) {
            let end = |most_text| {
                let outcome = outcome.map(|outcome| outcome.to_api(most_text));
                let kind = Some(Kind::FinishRun(FinishRun { outcome }));
                Event { client_time_us: Some(time_us), kind }.encode_to_vec()
            };
            let event = end(limits::DESCRIPTION_BYTES);
            let short = end(SHORT_TEXT);
            self.use_spool(|spool| spool.append_end(clock::now_us(), &event, &short));
        }
    }

    /// Leaves the run active when it is closed, if it is the copy of an active run.
    pub fn leave_active(&self) {
        self.is_finished.store(true, Ordering::Release);
    }

    /// Waits until everything that this process tracked before the call is stored. Returns false
    /// if that takes longer, or if there is no spool.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.flush_while(timeout, || true)
    }

    /// Whether more is lost than at the last call.
    fn has_lost_more(&self) -> bool {
        let losses = self.health().dropped;
        self.reported_losses.swap(losses, Ordering::Relaxed) < losses
    }

    /// Like `flush`, until `keep_waiting`, which is called every 100 ms, returns false.
    pub fn flush_while(&self, timeout: Duration, mut keep_waiting: impl FnMut() -> bool) -> bool {
        let Some(spool) = self.spool() else { return !self.has_lost_more() };
        if self.options.offline || io_thread::running().is_err() {
            return false;
        }
        let start = Instant::now();
        let _waiter = spool.progress.begin_wait();
        let mut uploads = worker::pending(spool);
        let (mut end, _) = spool.end();
        loop {
            if !uploads.is_empty() {
                let pending: HashSet<u64> = worker::pending(spool).into_iter().collect();
                uploads.retain(|upload| pending.contains(upload));
                // Uploads announce themselves with an event, which has to be stored too.
                (end, _) = spool.end();
            }
            let left = timeout.saturating_sub(start.elapsed());
            let piece = left.min(if uploads.is_empty() { REPORT_INTERVAL } else { UPLOAD_INTERVAL });
            let is_stored = spool.progress.wait_until(piece, |delivery| {
                let is_accepted = delivery.stored >= end && delivery.is_existence_known;
                uploads.is_empty() && (delivery.is_finished || is_accepted)
            });
            if is_stored {
                return !self.has_lost_more();
            }
            if left.is_zero() || spool.progress.delivery().is_finished || !keep_waiting() {
                return false;
            }
        }
    }

    /// Finishes the run as planned, unless `finish` was called before, and waits until everything is
    /// stored or a limit is reached, also what child processes have left. `report` is called every
    /// 100 ms; it returns false to stop waiting. Calling it again waits again. An offline run gives back its
    /// descriptors.
    pub fn close(&self, limits: CloseLimits, report: impl FnMut(CloseProgress) -> bool) -> CloseReport {
        // An offline run waits for nothing but its disk.
        let interval = if self.options.offline { Duration::ZERO } else { REPORT_INTERVAL };
        let report = self.close_with(limits, interval, report);
        // Without the thread, nothing would write the spool to disk or free its lock.
        if self.options.offline
            && let Some(spool) = self.spool()
            && io_thread::running().is_ok()
        {
            spool.leave(limits.unreachable);
        }
        report
    }

    /// The same at the end of a script, whose exit hooks may still track something: an offline run keeps its
    /// descriptors.
    pub fn close_at_exit(
        &self,
        limits: CloseLimits,
        report: impl FnMut(CloseProgress) -> bool,
    ) -> CloseReport {
        self.close_with(limits, REPORT_INTERVAL, report)
    }

    fn close_with(
        &self,
        limits: CloseLimits,
        interval: Duration,
        mut report: impl FnMut(CloseProgress) -> bool,
    ) -> CloseReport {
        self.finish(Some(&Outcome::Finished));
        let Some(spool) = self.spool() else {
            return CloseReport { dropped: self.dropped.load(Ordering::Relaxed), ..CloseReport::default() };
        };
        spool.close();
        let start = Instant::now();
        let _waiter = spool.progress.begin_wait();
        let mut children = ChildData::default();
        let mut children_at = None;
        loop {
            let is_stored = spool.progress.wait_until(interval, |delivery| delivery.is_finished);
            let (_, totals) = spool.end();
            let delivery = spool.progress.delivery();
            let pending = if is_stored { 0 } else { totals.items.saturating_sub(delivery.stored_items) };
            let wants_more = report(CloseProgress { pending, total: totals.items });
            let dropped = spool.lost() + delivery.lost_items() + self.dropped.load(Ordering::Relaxed);
            let mut is_over = self.options.offline || !wants_more || start.elapsed() >= limits.reachable;
            if is_stored {
                let before = std::mem::replace(&mut children, self.child_data());
                if children.spools == 0 {
                    return CloseReport { dropped, ..CloseReport::default() };
                }
                // The limit counts from the last progress.
                let progress_at = children_at.filter(|_| before == children).unwrap_or_else(Instant::now);
                children_at = Some(progress_at);
                is_over |= progress_at.elapsed() >= limits.unreachable;
                if !is_over {
                    // Nothing signals the delivery of what children have left.
                    let pause = progress_at.elapsed() / 4;
                    let pause = pause.clamp(SHORTEST_CHILD_PAUSE, LONGEST_CHILD_PAUSE);
                    spool.progress.wait_until(pause, |_| false);
                }
            } else {
                is_over |= is_disconnected(&delivery, limits, start);
            }
            if is_over {
                return CloseReport {
                    pending,
                    dropped,
                    child_spools: self.child_data().spools,
                    pending_uploads: worker::pending(spool).len(),
                    spool: (!is_stored).then(|| spool.path()),
                };
            }
        }
    }

    fn child_data(&self) -> ChildData {
        io_thread::child_data(&self.id, &self.options.config.gateway_url)
    }

    /// Returns whether it makes sense to wait for the server: it is connected, or the first attempt
    /// to connect has not failed yet.
    pub fn may_be_reachable(&self) -> bool {
        let delivery = self.spool().map(|spool| spool.progress.delivery());
        !self.options.offline
            && delivery.is_some_and(|delivery| delivery.is_connected || delivery.last_error.is_none())
    }

    /// Returns the state of the delivery of this process's data.
    pub fn health(&self) -> Health {
        let unspooled = self.dropped.load(Ordering::Relaxed);
        let Some(spool) = self.spool() else {
            return Health {
                pending: 0,
                pending_uploads: 0,
                oldest_s: 0.0,
                dropped: unspooled,
                rejected: 0,
                connected: false,
                last_error: None,
            };
        };
        let (_, totals) = spool.end();
        let delivery = spool.progress.delivery();
        let oldest_us = delivery.oldest_us.map_or(0, |oldest| clock::now_us().saturating_sub(oldest).max(0));
        let is_stored = delivery.is_finished;
        Health {
            pending: if is_stored { 0 } else { totals.items.saturating_sub(delivery.stored_items) },
            pending_uploads: worker::pending(spool).len(),
            oldest_s: Duration::from_micros(oldest_us.unsigned_abs()).as_secs_f64(),
            dropped: spool.lost() + delivery.lost_items() + unspooled,
            rejected: delivery.rejected_items,
            connected: delivery.is_connected,
            last_error: delivery.error().map(str::to_owned),
        }
    }

    /// Reports whether `notices` may return anything, at the cost of reading two flags.
    #[inline]
    pub fn has_notices(&self) -> bool {
        self.notices.is_waiting()
    }

    /// Takes the reports of the background.
    pub fn notices(&self) -> Vec<Notice> {
        self.notices.take()
    }

    /// Returns the position in the server's log of the newest stored batch: log, partition and
    /// offset. A query with it sees everything up to there.
    pub fn last_position(&self) -> Option<(u32, u32, u64)> {
        self.spool()?.progress.delivery().log_position
    }
}

impl RunSpool {
    #[inline]
    fn is_usable(&self) -> bool {
        match self {
            Self::Open(spool) => spool.is_usable(),
            Self::Missing(retry_at) => Instant::now() < *retry_at,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.finish(None);
    }
}

impl Drop for RunSpool {
    fn drop(&mut self) {
        if let Self::Open(spool) = self {
            spool.release();
        }
    }
}

/// Whether the server has been unreachable for too long.
fn is_disconnected(delivery: &Delivery, limits: CloseLimits, start: Instant) -> bool {
    let since = delivery.disconnected_at.unwrap_or(start).max(start);
    !delivery.is_connected && since.elapsed() >= limits.unreachable
}

fn check_id<'i>(argument: &'static str, id: &'i str) -> Result<&'i str, ArgumentError> {
    ArgumentError::check_length(argument, id, limits::RUN_ID_BYTES)?;
    let is_reserved = matches!(id, "" | "." | ".." | ".projects");
    if is_reserved || id.contains(|c: char| c == '/' || c.is_control()) {
        return Err(ArgumentError::new(argument, "expected text without `/` and control characters"));
    }
    Ok(id)
}

/// A random UUID of version 4 without dashes.
fn new_id() -> Result<String, ArgumentError> {
    let random = ProducerId::random()
        .map_err(|error| ArgumentError::new("run_id", format!("cannot be generated: {error}")))?;
    let mut bytes = random.bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(hex::encode(bytes))
}
