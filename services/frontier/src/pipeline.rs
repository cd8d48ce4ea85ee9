//! The batches of one stream that are not yet in the log: appended as they arrive, acknowledged
//! in order. It guarantees:
//!
//! - Batches keep their order in the log. If an append fails, its batch and all later batches are
//!   appended a second time, in order: a worker drops duplicates, and batches after a gap. Before
//!   that, their first appends must have ended, so that the log's queue never holds a batch twice.
//! - A batch is retried until its hold time is over; then the pipeline fails for good.
//! - A batch is acknowledged when it is durable, but, within its hold time, not before its run
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
    batch::Rejections,
    error::{Error, Result},
    ingestion::Ingestion,
};

/// Bounds on the pause between attempts, which doubles after each one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A batch to be appended.
#[derive(Debug)]
pub(crate) struct LogBatch {
    pub(crate) sequence: u64,
    /// The log records; at least one.
    pub(crate) records: Vec<NewRecord>,
    pub(crate) rejections: Rejections,
    /// Size of the batch as received.
    pub(crate) bytes: usize,
    /// Memory that the records take until they are in the log.
    pub(crate) held_bytes: usize,
    pub(crate) received: Instant,
    /// Span that ends when the batch may be acknowledged.
    pub(crate) _span: Span,
}

/// A durable batch that may be acknowledged.
#[derive(Debug)]
pub(crate) struct AppendedBatch {
    pub(crate) sequence: u64,
    /// Position of its last record.
    pub(crate) position: Position,
    pub(crate) rejections: Rejections,
}

pub(crate) struct Pipeline {
    ingestion: Arc<Ingestion>,
    project: String,
    run: String,
    queue: VecDeque<QueuedBatch>,
    bytes: usize,
    /// State of the first batch in the queue.
    front_state: FrontState,
    pause: Duration,
    /// Error of the last failed append of the first batch.
    last_error: Option<matyan_log::Error>,
}

struct QueuedBatch {
    batch: LogBatch,
    /// Its share of the memory budget.
    _share: OwnedSemaphorePermit,
    append: MaybeDone<Append>,
}

enum FrontState {
    Append,
    Pause(Pin<Box<Sleep>>),
    /// The first batch is appended, and will be acknowledged after a delay.
    Delay(Pin<Box<Sleep>>, Position),
}

impl Pipeline {
    pub(crate) fn new(ingestion: Arc<Ingestion>, project: &str, run: &str) -> Self {
        Self {
            ingestion,
            project: project.to_owned(),
            run: run.to_owned(),
            queue: VecDeque::new(),
            bytes: 0,
            front_state: FrontState::Append,
            pause: FIRST_PAUSE,
            last_error: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        let settings = &self.ingestion.settings;
        self.bytes < settings.stream_bytes && self.queue.len() < settings.stream_batches
    }

    /// Appends a batch after all others.
    pub(crate) fn push(&mut self, batch: LogBatch, mut share: OwnedSemaphorePermit) {
        self.ingestion.budget.resize_share(&mut share, batch.held_bytes);
        self.bytes += batch.held_bytes;
        self.ingestion.metrics.in_flight_bytes.add(batch.held_bytes as i64);
        // While the log is failing, an append started now would only have to be repeated
        // later.
        let append = match self.front_state {
            FrontState::Append | FrontState::Delay(..) => start_append(&self.ingestion, &batch),
            FrontState::Pause(_) => MaybeDone::Gone,
        };
        self.queue.push_back(QueuedBatch { batch, _share: share, append });
    }

    /// Drops all unacknowledged batches.
    pub(crate) fn clear(&mut self) {
        self.ingestion.metrics.in_flight_bytes.sub(self.bytes as i64);
        self.bytes = 0;
        self.queue.clear();
    }

    /// Returns the next batch in order; pending forever if there is none. Cancel-safe: all
    /// state is kept here.
    pub(crate) async fn next(&mut self) -> Result<AppendedBatch> {
        let Some(front) = self.queue.front() else { return std::future::pending().await };
        let deadline = front.batch.received + self.ingestion.settings.hold;
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
            match &mut self.front_state {
                FrontState::Delay(_, position) => return *position,
                FrontState::Append => {
                    let front =
                        self.queue.front_mut().expect("the caller has checked that the queue is not empty");
                    let mut append = Pin::new(&mut front.append);
                    append.as_mut().await;
                    match append
                        .take_output()
                        .expect("the append has completed, and its output is taken once")
                    {
                        Ok(positions) => return *positions.last().expect("a batch has at least one record"),
                        Err(error) => self.schedule_retry(error),
                    }
                }
                FrontState::Pause(pause) => {
                    pause.await;
                    for pending in &mut self.queue {
                        pending.append_ended().await;
                    }
                    for pending in &mut self.queue {
                        pending.append = start_append(&self.ingestion, &pending.batch);
                    }
                    self.front_state = FrontState::Append;
                }
            }
        }
    }

    fn schedule_retry(&mut self, error: matyan_log::Error) {
        self.ingestion.metrics.append_failures.inc();
        self.ingestion.log_health.record_failure(Instant::now());
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(
            run = &self.run,
            batches = self.queue.len(),
            error = cause,
            "failed to append batch; will retry"
        );
        self.last_error = Some(error);
        self.front_state = FrontState::Pause(Box::pin(sleep(self.pause)));
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
    }

    /// Waits until the run may send more.
    async fn delay(&mut self, position: Position) {
        if matches!(self.front_state, FrontState::Append) {
            let batch = &self.queue.front().expect("the caller has appended the front").batch;
            let due = self.ingestion.throttle.charge(&self.project, &self.run, batch.bytes, Instant::now());
            let Some(due) = due else { return };
            let latest = batch.received + self.ingestion.settings.hold;
            self.ingestion.metrics.delayed_acks.inc();
            self.front_state = FrontState::Delay(Box::pin(sleep_until(due.min(latest))), position);
        }
        if let FrontState::Delay(delay, _) = &mut self.front_state {
            delay.await;
        }
        self.front_state = FrontState::Append;
    }

    fn pop(&mut self, position: Position) -> AppendedBatch {
        let batch = self.queue.pop_front().expect("the caller has appended the front").batch;
        self.bytes -= batch.held_bytes;
        self.pause = FIRST_PAUSE;
        self.last_error = None;
        self.ingestion.log_health.record_success();
        let metrics = &self.ingestion.metrics;
        metrics.in_flight_bytes.sub(batch.held_bytes as i64);
        metrics.batches.inc();
        metrics.batch_bytes.inc_by(batch.bytes as u64);
        metrics.ack_seconds.observe(batch.received.elapsed().as_secs_f64());
        AppendedBatch { sequence: batch.sequence, position, rejections: batch.rejections }
    }
}

impl QueuedBatch {
    /// Waits until its append is no longer in flight.
    async fn append_ended(&mut self) {
        if let MaybeDone::Future(append) = &mut self.append {
            self.append = MaybeDone::Done(append.await);
        }
    }
}

fn start_append(ingestion: &Ingestion, batch: &LogBatch) -> MaybeDone<Append> {
    maybe_done(ingestion.log.append(Topic::Ingestion, batch.records.clone()))
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.clear();
    }
}
