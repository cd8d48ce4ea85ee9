//! The batches of one stream on their way to the log: appended as they arrive, acknowledged in
//! order. It guarantees:
//!
//! - The order of batches is the order in the log. If an append fails, that batch and all later
//!   ones are appended again, in order: a worker drops duplicates, and batches after a gap.
//!   Before that, their first appends must have ended, so that the log's queue never holds a
//!   batch twice.
//! - A batch is retried until its hold time is over; then the pipeline fails and cannot be used
//!   any more.
//! - A batch is acknowledged when it is durable, and, within its hold time, not before its run
//!   may send more (`throttle`).

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures::future::{MaybeDone, maybe_done};
use matyan_log::{Append, NewRecord, Position, Topic};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep, sleep_until, timeout_at},
};
use tracing::Span;

use crate::{
    Shared,
    batch::Rejections,
    error::{Error, Result},
};

/// Bounds of the pause between attempts, which doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A batch to be appended.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    /// The log records; at least one.
    pub(crate) records: Vec<NewRecord>,
    pub(crate) rejections: Rejections,
    /// Size of the batch as received.
    pub(crate) bytes: usize,
    /// Memory that the records take until they are in the log.
    pub(crate) held: usize,
    pub(crate) received: Instant,
    /// Span that ends when the batch may be acknowledged.
    pub(crate) _span: Span,
}

/// A durable batch that may be acknowledged.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) sequence: u64,
    /// Position of its last record.
    pub(crate) position: Position,
    pub(crate) rejections: Rejections,
}

pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    project: String,
    run: String,
    queue: VecDeque<Pending>,
    bytes: usize,
    /// What the first batch in the queue waits for.
    mode: Mode,
    pause: Duration,
    /// Error of the last failed append of the first batch.
    last_error: Option<matyan_log::Error>,
}

struct Pending {
    frame: Frame,
    /// Its share of the memory budget.
    _share: OwnedSemaphorePermit,
    append: MaybeDone<Append>,
}

enum Mode {
    Append,
    Pause(Pin<Box<Sleep>>),
    /// The first batch is appended, and will be acknowledged after a delay.
    Delay(Pin<Box<Sleep>>, Position),
}

impl Pipeline {
    pub(crate) fn new(shared: Arc<Shared>, project: &str, run: &str) -> Self {
        Self {
            shared,
            project: project.to_owned(),
            run: run.to_owned(),
            queue: VecDeque::new(),
            bytes: 0,
            mode: Mode::Append,
            pause: FIRST_PAUSE,
            last_error: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        let settings = &self.shared.settings;
        self.bytes < settings.stream_bytes && self.queue.len() < settings.stream_batches
    }

    /// Appends a batch after all others.
    pub(crate) fn push(&mut self, frame: Frame, mut share: OwnedSemaphorePermit) {
        self.shared.share_set(&mut share, frame.held);
        self.bytes += frame.held;
        self.shared.metrics.in_flight_bytes.add(frame.held as i64);
        // While the log is failing, starting an append would only mean to repeat it
        // later.
        let append = match self.mode {
            Mode::Append | Mode::Delay(..) => start(&self.shared, &frame),
            Mode::Pause(_) => MaybeDone::Gone,
        };
        self.queue.push_back(Pending { frame, _share: share, append });
    }

    /// Drops all unacknowledged batches.
    pub(crate) fn clear(&mut self) {
        self.shared.metrics.in_flight_bytes.sub(self.bytes as i64);
        self.bytes = 0;
        self.queue.clear();
    }

    /// Returns the next batch in order; pending forever if there is none. Cancel-safe: all
    /// state is kept here.
    pub(crate) async fn next(&mut self) -> Result<Appended> {
        let Some(front) = self.queue.front() else { return std::future::pending().await };
        let deadline = front.frame.received + self.shared.settings.hold;
        let position = match timeout_at(deadline, self.front_position()).await {
            Ok(position) => position,
            Err(_) => return Err(self.last_error.take().map_or(Error::LogSilent, Error::Log)),
        };
        self.delay(position).await;
        Ok(self.pop(position))
    }

    /// Waits until the first batch is in the log and returns its position.
    async fn front_position(&mut self) -> Position {
        loop {
            match &mut self.mode {
                Mode::Delay(_, position) => return *position,
                Mode::Append => {
                    let front =
                        self.queue.front_mut().expect("the caller has checked that the queue is not empty");
                    let mut append = Pin::new(&mut front.append);
                    append.as_mut().await;
                    match append
                        .take_output()
                        .expect("the append has completed, and its output is taken once")
                    {
                        Ok(positions) => return *positions.last().expect("a batch has at least one record"),
                        Err(error) => self.failed(error),
                    }
                }
                Mode::Pause(pause) => {
                    pause.await;
                    for pending in &mut self.queue {
                        pending.ended().await;
                    }
                    for pending in &mut self.queue {
                        pending.append = start(&self.shared, &pending.frame);
                    }
                    self.mode = Mode::Append;
                }
            }
        }
    }

    fn failed(&mut self, error: matyan_log::Error) {
        self.shared.metrics.append_failures.inc();
        self.shared.log_health.failed(Instant::now());
        let (run, batches, cause) = (&self.run, self.queue.len(), &error as &dyn std::error::Error);
        tracing::warn!(run, batches, error = cause, "failed to append batch; will retry");
        self.last_error = Some(error);
        self.mode = Mode::Pause(Box::pin(sleep(self.pause)));
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
    }

    /// Waits until the run may send more.
    async fn delay(&mut self, position: Position) {
        if matches!(self.mode, Mode::Append) {
            let frame = &self.queue.front().expect("the caller has appended the front").frame;
            let due = self.shared.throttle.charge(&self.project, &self.run, frame.bytes, Instant::now());
            let Some(due) = due else { return };
            let latest = frame.received + self.shared.settings.hold;
            self.shared.metrics.delayed_acks.inc();
            self.mode = Mode::Delay(Box::pin(sleep_until(due.min(latest))), position);
        }
        if let Mode::Delay(delay, _) = &mut self.mode {
            delay.await;
        }
        self.mode = Mode::Append;
    }

    fn pop(&mut self, position: Position) -> Appended {
        let frame = self.queue.pop_front().expect("the caller has appended the front").frame;
        self.bytes -= frame.held;
        self.pause = FIRST_PAUSE;
        self.last_error = None;
        self.shared.log_health.succeeded();
        let metrics = &self.shared.metrics;
        metrics.in_flight_bytes.sub(frame.held as i64);
        metrics.batches.inc();
        metrics.batch_bytes.inc_by(frame.bytes as u64);
        metrics.ack_seconds.observe(frame.received.elapsed().as_secs_f64());
        Appended { sequence: frame.sequence, position, rejections: frame.rejections }
    }
}

impl Pending {
    /// Waits until its append is no longer in flight.
    async fn ended(&mut self) {
        if let MaybeDone::Future(append) = &mut self.append {
            self.append = MaybeDone::Done(append.await);
        }
    }
}

fn start(shared: &Shared, frame: &Frame) -> MaybeDone<Append> {
    maybe_done(shared.log.append(Topic::Ingestion, frame.records.clone()))
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.clear();
    }
}
