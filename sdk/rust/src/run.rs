//! The handle of a run: what a script tracks goes into the spool of its process, and nothing here
//! waits for the network.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    io_thread,
    notice::{Notice, NoticeLevel, Notices},
    per_process::PerProcess,
    progress::Delivery,
    series::Series,
    spool::{
        directory::{Owner, ProducerId},
        record,
        store::{Columns, Spool},
    },
    sys::fork,
    upload::worker,
};

/// Interval at which `close` reports its progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Interval at which `flush` looks whether files have been uploaded.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(20);

/// Options for opening a run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Absent: a new run.
    pub run_id: Option<String>,
    /// Name of the experiment that the run is put into.
    pub experiment: Option<String>,
    /// Whether a finished run is reactivated.
    pub force_resume: bool,
    /// Whether data stays in the spool until it is sent explicitly.
    pub offline: bool,
    /// Addresses and settings of the spool.
    pub config: Config,
}

/// A run that data is tracked for. Every method may be called from any thread, and in forked
/// children, which get a spool and a connection of their own at the first use.
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
    /// Whether there was a spool, in this process or its parents.
    had_spool: AtomicBool,
    is_finished: AtomicBool,
    /// Values that no spool could take.
    dropped: AtomicU64,
    notices: Notices,
}

/// The spool of a run, or none if no directory could take it. It is closed with its last handle.
struct RunSpool(Option<Arc<Spool>>);

/// State of the delivery of a run's data.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// Values that the server has not confirmed to have stored.
    pub pending: u64,
    /// Age of the oldest of them in seconds.
    pub oldest_s: f64,
    /// Values that were dropped because there was no space.
    pub dropped: u64,
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
    fn to_api(&self) -> api::Outcome {
        let (kind, message) = match self {
            Self::Finished => (api::OutcomeKind::Finished, ""),
            Self::Failed(error) => (api::OutcomeKind::Failed, error.as_str()),
            Self::Interrupted => (api::OutcomeKind::Interrupted, ""),
        };
        let end = message.floor_char_boundary(limits::DESCRIPTION_BYTES.min(message.len()));
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
            Some(id) => check_id(id)?.to_owned(),
            None => new_id()?,
        };
        if let Some(experiment) = &options.experiment {
            ArgumentError::check_length("experiment", experiment, limits::NAME_BYTES)?;
        }
        let run = Self {
            id,
            options,
            generation: fork::generation(),
            spools: PerProcess::new(),
            had_spool: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            notices: Notices::default(),
        };
        let create = CreateRun { force_resume: run.options.force_resume, ..CreateRun::default() };
        run.append_kind(Kind::CreateRun(create))?;
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
        self.use_spool(|spool| spool.track(series, value, step, epoch));
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
        self.use_spool(|spool| spool.track_many(series, columns));
        Ok(())
    }

    /// Appends anything but points. An event that no server would accept is an error.
    pub(crate) fn append_kind(&self, kind: Kind) -> Result<(), ArgumentError> {
        let time_us = clock::now_us();
        let event = Event { client_time_us: Some(time_us), kind: Some(kind) }.encode_to_vec();
        if !record::fits(&event) {
            let reason =
                format!("expected at most {} bytes, found {}", record::MOST_EVENT_BYTES, event.len());
            return Err(ArgumentError::new("value", reason));
        }
        self.use_spool(|spool| spool.append_event(time_us, 0, &event));
        Ok(())
    }

    /// Calls a function with the spool of this process, and again with another if it returns false
    /// because the first is not used any more.
    #[inline]
    pub(crate) fn use_spool(&self, mut append: impl FnMut(&Spool) -> bool) {
        loop {
            let RunSpool(spool) = self.spools.get_or_make(RunSpool::is_usable, || self.open_spool());
            let Some(spool) = spool else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            };
            if append(spool) {
                return;
            }
        }
    }

    #[cold]
    fn open_spool(&self) -> RunSpool {
        let config = &self.options.config;
        let is_first = !self.had_spool.swap(true, Ordering::Relaxed);
        let mut owner =
            Owner::of_this_process(&self.id, &config.gateway_url, &config.backend_url, clock::now_us());
        owner.is_resumed = !self.is_new() && is_first;
        owner.is_offline = self.options.offline;
        // Other processes may count steps of an existing run too, so the server does it.
        match Spool::create(config, owner, self.is_new() && is_first, self.notices.clone()) {
            Ok(spool) => {
                let spool = Arc::new(spool);
                io_thread::serve(spool.clone(), config);
                RunSpool(Some(spool))
            }
            Err(error) => {
                let message = format!("failed to create a spool, nothing is tracked: {error}");
                self.notices.push(NoticeLevel::Error, message);
                RunSpool(None)
            }
        }
    }

    /// The spool of this process, if it has tracked anything.
    fn spool(&self) -> Option<&Arc<Spool>> {
        self.spools.get().and_then(|RunSpool(spool)| spool.as_ref())
    }

    /// Marks the run as finished, with the way in which it ended if that is known. Only the process
    /// that opened the run can do that, and only the first call counts.
    pub fn finish(&self, outcome: Option<&Outcome>) {
        if self.generation == fork::generation() && !self.is_finished.swap(true, Ordering::AcqRel) {
            // The event is small, so it is accepted.
            self.append_kind(Kind::FinishRun(FinishRun { outcome: outcome.map(Outcome::to_api) })).ok();
        }
    }

    /// Waits until everything that this process tracked before the call is stored. Returns false
    /// if that takes longer.
    pub fn flush(&self, timeout: Duration) -> bool {
        let Some(spool) = self.spool() else { return true };
        let start = Instant::now();
        loop {
            let (end, _) = spool.end();
            let is_stored = |delivery: &Delivery| delivery.is_finished || delivery.stored >= end;
            // Uploads announce themselves with an event, which has to be stored too.
            let uploads = worker::pending(spool);
            let left = timeout.saturating_sub(start.elapsed());
            if uploads == 0 {
                return spool.progress.wait_until(left, is_stored);
            }
            if left.is_zero() || spool.progress.delivery().is_finished {
                return left > Duration::ZERO;
            }
            spool.progress.wait_until(left.min(UPLOAD_INTERVAL), |_| false);
        }
    }

    /// Finishes the run as planned, unless `finish` was called before, and waits until everything is
    /// stored or a limit is reached. `report` is called every 100 ms; it returns false to stop waiting. Calling it again waits again.
    pub fn close(&self, limits: CloseLimits, mut report: impl FnMut(CloseProgress) -> bool) -> CloseReport {
        self.finish(Some(&Outcome::Finished));
        let Some(spool) = self.spool() else { return CloseReport::default() };
        spool.close();
        let start = Instant::now();
        loop {
            let is_stored = spool.progress.wait_until(REPORT_INTERVAL, |delivery| delivery.is_finished);
            let (_, totals) = spool.end();
            let delivery = spool.progress.delivery();
            let pending = if is_stored { 0 } else { totals.items.saturating_sub(delivery.stored_items) };
            let wants_more = report(CloseProgress { pending, total: totals.items });
            if is_stored {
                return CloseReport::default();
            }
            if self.options.offline || !wants_more || is_over(&delivery, limits, start) {
                return CloseReport {
                    pending,
                    pending_uploads: worker::pending(spool),
                    spool: Some(spool.path()),
                };
            }
        }
    }

    /// Returns the state of the delivery of this process's data.
    pub fn health(&self) -> Health {
        let unspooled = self.dropped.load(Ordering::Relaxed);
        let Some(spool) = self.spool() else {
            return Health {
                pending: 0,
                oldest_s: 0.0,
                dropped: unspooled,
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
            oldest_s: Duration::from_micros(oldest_us.unsigned_abs()).as_secs_f64(),
            dropped: totals.dropped + unspooled,
            connected: delivery.is_connected,
            last_error: delivery.last_error,
        }
    }

    /// Takes what the background has to report.
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
        self.0.as_ref().is_none_or(|spool| spool.is_usable())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.finish(None);
    }
}

impl Drop for RunSpool {
    fn drop(&mut self) {
        if let Some(spool) = &self.0 {
            spool.close();
        }
    }
}

fn is_over(delivery: &Delivery, limits: CloseLimits, start: Instant) -> bool {
    let unreachable = delivery.disconnected_at.unwrap_or(start).max(start);
    start.elapsed() >= limits.reachable
        || (!delivery.is_connected && unreachable.elapsed() >= limits.unreachable)
}

fn check_id(id: &str) -> Result<&str, ArgumentError> {
    ArgumentError::check_length("run_id", id, limits::RUN_ID_BYTES)?;
    let is_reserved = matches!(id, "" | "." | ".." | ".projects");
    if is_reserved || id.contains(|c: char| c == '/' || c.is_control()) {
        return Err(ArgumentError::new("run_id", "expected text without `/` and control characters"));
    }
    Ok(id)
}

/// A random UUID of version 4 without dashes.
fn new_id() -> Result<String, ArgumentError> {
    let failed =
        |error: std::io::Error| ArgumentError::new("run_id", format!("cannot be generated: {error}"));
    let mut bytes = ProducerId::random().map_err(failed)?.bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(hex::encode(bytes))
}
