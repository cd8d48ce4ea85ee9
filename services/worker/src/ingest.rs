//! The ingestion worker: reads partitions of the log, dispatches records to the writers of
//! their runs, and reports its progress.
//!
//! Runs of a partition are applied concurrently, in a window bounded in bytes, and each run has a share of
//! the window. Records that queue up for a run while its writer is busy are applied together in the
//! next turn; records that exceed the run's share are reread later. The lowest unapplied offset is
//! written to the store (`progress`), and once the row is durable, the log is trimmed up to that offset.
//! Positions need no further handling: every transaction carries the cursor of its run, so
//! redelivered records have no effect.
//!
//! Shutdown: stop taking records, let writers finish their transaction, write and sync the
//! progress.

mod log_identity;
mod pace;

mod assigned_partitions;
mod partition;
mod partition_starts;
mod progress;
mod stopped_partitions;
mod unapplied_age;

mod active_runs;
mod deferred_runs;
mod ending_quarantines;
mod fresh_turns;
mod project_cache;
mod read_point;
mod watched_readers;
mod writer_pool;

use std::{sync::Arc, time::Duration};

use matyan_log::{Delivery, Record, Subscription, Topic};
use matyan_model::{ids::Project, project::project_get};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{Backlog, BacklogQuestion, Backlogs, RunKey},
    deps::Deps,
    error::Error,
    fold::FoldNotices,
    heartbeat::{BEAT_INTERVAL, Heartbeat},
    metrics::{IngestionMetrics, Metrics},
    record::{Content, Entry},
};
use active_runs::Admission;
use assigned_partitions::AssignedPartitions;
use ending_quarantines::EndingQuarantine;
pub use log_identity::log_number;
use log_identity::{PartitionStart, StopPoint};
use pace::Pace;
use partition_starts::{FoundStart, PartitionStarts, StartAttempt};
use progress::ProgressHandle;
use project_cache::{KnownProject, ProjectCache};
use read_point::ReadPoint;
pub use stopped_partitions::StoppedPartitions;
use unapplied_age::UnappliedAge;
use writer_pool::{AppliedTurn, WriterPool};

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// Maximum bytes of records taken from the log and not yet applied.
    pub window_bytes: usize,
    /// Maximum memory kept for runs that are currently not being written.
    pub writer_cache_bytes: usize,
    /// Interval at which the store is synced and the log is trimmed.
    pub trim_every: Duration,
    /// Maximum bytes of a project's payloads that wait in the store for the blob store.
    pub max_pending_bytes: u64,
    /// Size of a run's parked records above which its quarantine is reported as large.
    pub large_quarantine_bytes: u64,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            window_bytes: 32 << 20,
            writer_cache_bytes: 16 << 20,
            trim_every: Duration::from_secs(5),
            max_pending_bytes: 1 << 30,
            large_quarantine_bytes: 256 << 20,
        }
    }
}

/// Wait before a retry while the log or the store is unavailable.
const WAIT: Duration = Duration::from_millis(500);

pub struct IngestionWorker {
    deps: Deps,
    subscription: Box<dyn Subscription>,
    pace: Pace,
    starts: PartitionStarts,
    partitions: AssignedPartitions,
    projects: ProjectCache,
    writers: WriterPool,
    questions: mpsc::Receiver<BacklogQuestion>,
    heartbeat: Heartbeat,
    age: Arc<UnappliedAge>,
    metrics: IngestionMetrics,
}

impl IngestionWorker {
    pub async fn new(
        deps: Deps,
        settings: IngestSettings,
        folds: FoldNotices,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let subscription = deps.log_reader.subscribe(Topic::Ingestion).await?;
        let lag = metrics.ingestion.lag_records.clone();
        let age = metrics.ingestion.oldest_unapplied_seconds.clone();
        let progress = ProgressHandle::start(deps.clone(), settings.trim_every, lag);
        let (backlogs, questions) = Backlogs::new();
        Ok(Self {
            subscription,
            pace: Pace::new(),
            starts: PartitionStarts::new(deps.clone(), progress.written()),
            partitions: AssignedPartitions::new(progress),
            projects: ProjectCache::new(),
            writers: WriterPool::new(deps.clone(), folds, backlogs, &settings, &metrics),
            questions,
            heartbeat: Heartbeat::new("the ingestion worker"),
            age: Arc::new(UnappliedAge::new(Arc::clone(&deps.clock), age)),
            metrics: metrics.ingestion,
            deps,
        })
    }

    /// Heartbeat of its loop.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// The partitions that wait for an operator.
    pub fn stopped_partitions(&self) -> StoppedPartitions {
        self.starts.stopped().clone()
    }

    /// Runs until it is stopped, or until an error that only an operator or a restart can
    /// fix.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let age = Arc::clone(&self.age);
        let deps = self.deps.clone();
        let (sender, endings) = mpsc::channel(1);
        let worked = tokio::select! {
            worked = self.work(&stop, endings) => worked,
            never = age.report() => match never {},
            never = ending_quarantines::find(&deps, &sender) => match never {},
        };
        self.writers.stop();
        while let Some(turn) = self.writers.next_turn().await {
            if let Err(error) = turn.map(|turn| self.count_turn(&turn)) {
                tracing::error!(%error, "a writer failed while stopping");
            }
        }
        self.partitions.finish().await;
        self.writers.finish().await;
        worked
    }

    async fn work(
        &mut self,
        stop: &CancellationToken,
        mut endings: mpsc::Receiver<EndingQuarantine>,
    ) -> Result<(), Error> {
        let mut beats = interval(BEAT_INTERVAL);
        let mut identity = self.partitions.identity();
        loop {
            self.seek(stop).await?;
            self.partitions.report(self.writers.runs());
            self.stop_ended_partitions();
            let runs = self.writers.runs();
            let has_room = runs.has_room();
            let seek_at = self.partitions.next_seek(runs);
            self.metrics.unapplied_bytes.set(runs.window() as f64);
            self.metrics.partitions_stopped.set(self.starts.stopped().count() as f64);
            tokio::select! {
                // Stopping and heartbeats come first; finished turns make room
                // before more is read.
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = beats.tick() => {
                    self.heartbeat.beat();
                    if self.starts.is_finding() {
                        self.age.set_waiting();
                    } else {
                        self.age.set(self.partitions.oldest_unapplied_us());
                    }
                }
                Some(question) = self.questions.recv() => self.answer(question),
                Some(turn) = self.writers.next_turn() => self.count_turn(&turn?),
                changed = identity.changed() => {
                    changed.map_err(|_| Error::Progress)?;
                    let current = *identity.borrow_and_update();
                    self.restart_partitions_of_other_logs(current);
                }
                Some(found) = self.starts.next() => {
                    let current = *identity.borrow();
                    self.start(found, current).await?;
                }
                delivery = self.pace.next(&mut *self.subscription), if has_room => match delivery {
                    Ok(delivery) => self.handle_delivery(delivery, stop).await?,
                    Err(error) => self.handle_read_error(error, stop).await?,
                },
                Some(EndingQuarantine { run, partition }) = endings.recv() => {
                    if self.partitions.get_mut(partition).is_some() {
                        self.writers.resume(run);
                    }
                }
                // Turns to the records that were left in the log.
                () = sleep_until_any(seek_at) => {}
            }
        }
    }

    /// Answers a writer that waits for another run.
    fn answer(&mut self, question: BacklogQuestion) {
        let partition = self.partitions.get_mut(question.before.partition);
        let is_read = partition.is_some_and(|partition| partition.log() == question.before.log);
        let first = self.writers.runs().first_before(&question.run, question.before);
        question.answer(match first {
            _ if !is_read => Backlog::Unknown,
            Some(offset) => Backlog::From(offset),
            None => Backlog::None,
        });
    }

    /// Reads partitions from other offsets, if there is more to take. A partition whose seek fails stays
    /// unread until a seek succeeds, because its records would be out of order; the others continue.
    async fn seek(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        while let Some((partition, point)) = self.partitions.seek(self.writers.runs()) {
            let started = self.subscription.start(partition, point.start()).await;
            self.heartbeat.beat();
            let is_started = match started {
                Err(error) if error.is_temporary() => {
                    tracing::warn!(partition, %error, "failed to read the log from another offset; will retry");
                    false
                }
                started => {
                    if let Err(error) = started {
                        self.handle_read_error(error, stop).await?;
                    }
                    true
                }
            };
            if let Some(partition) = self.partitions.get_mut(partition) {
                if is_started { partition.note_seek() } else { partition.hold_back() }
            }
        }
        Ok(())
    }

    /// Restarts the partitions of a log that was recreated. Kafka's client switches to a recreated topic by
    /// itself, and continues at the old offset if the new topic has it.
    fn restart_partitions_of_other_logs(&mut self, identity: Option<[u8; 16]>) {
        let Some(identity) = identity else { return };
        self.starts.restart_stopped_in_other_logs(identity);
        for partition in self.partitions.of_other_logs(identity) {
            tracing::warn!(partition, "log was recreated; restarting partition");
            self.partitions.forget(partition);
            self.starts.find(partition, StartAttempt::default());
        }
    }

    /// Handles an error of the log. On temporary errors, it waits. A partition overtaken by retention
    /// raises an alarm, and the others continue; a partition whose log was recreated or has lost its tail
    /// restarts. Records already taken are still applied, because they were acknowledged.
    async fn handle_read_error(
        &mut self,
        error: matyan_log::Error,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.age.set_waiting();
        match error {
            matyan_log::Error::Trimmed { partition, .. } => self.drop_lost_partition(partition, &error),
            matyan_log::Error::Replaced { partition, end, .. } => {
                tracing::warn!(partition, %error, "log was replaced; restarting partition");
                // The new records must not be trimmed up to the old position.
                self.partitions.forget(partition);
                self.starts.find(partition, StartAttempt { lost_tail: Some(end), ..Default::default() });
                return Ok(());
            }
            error if error.is_temporary() => tracing::warn!(%error, "failed to read the log; will retry"),
            error => return Err(error.into()),
        }
        stop.run_until_cancelled(tokio::time::sleep(WAIT)).await;
        Ok(())
    }

    fn drop_lost_partition(&mut self, partition: u32, error: &matyan_log::Error) {
        tracing::error!(partition, %error, "records were deleted before they were applied; dropping partition");
        if let Some(stopped_at) = self.partitions.drop_unreadable(partition) {
            self.stop_lost_partition(Some(stopped_at));
        }
    }

    /// Stops each partition that has lost its tail at the start of the tail.
    fn stop_ended_partitions(&mut self) {
        for ended in self.partitions.take_ended() {
            let partition = ended.position.partition;
            tracing::info!(partition, "applied all records before the lost tail; stopped partition");
            self.starts.find_when_continued(ended);
        }
    }

    async fn handle_delivery(&mut self, delivery: Delivery, stop: &CancellationToken) -> Result<(), Error> {
        match delivery {
            Delivery::Assigned { partition } => {
                self.starts.find(partition, StartAttempt::default());
                Ok(())
            }
            Delivery::Revoked { partition } => {
                self.revoke(partition);
                Ok(())
            }
            Delivery::Records { partition, records } => self.take_records(partition, records, stop).await,
        }
    }

    /// Starts reading a partition, unless the start must be retried. A partition that has lost records raises
    /// an alarm: it is read only up to a lost tail, or waits for an operator. The others continue.
    async fn start(&mut self, found: FoundStart, identity: Option<[u8; 16]>) -> Result<(), Error> {
        let FoundStart { partition: number, attempt, start } = found;
        let offset = start.as_ref().ok().map(|start| start.offset);
        let stop = start.as_ref().ok().map(|start| start.stop_at_start(number));
        let started = match start {
            Ok(start) => self.start_reading(number, start).await,
            Err(error) => Err(error),
        };
        self.heartbeat.beat();
        match started {
            // The log was recreated since its start was found.
            Ok(start) if identity.is_some_and(|identity| identity != start.identity) => {
                self.starts.retry(number, StartAttempt::default());
            }
            Ok(start) => self.add_partition(number, start),
            // The previous owner may have applied the trimmed records since.
            Err(Error::Log(matyan_log::Error::Trimmed { .. })) if attempt.trimmed_at != offset => {
                self.starts.find(number, StartAttempt { trimmed_at: offset, ..attempt });
            }
            Err(error @ Error::Shortened { .. }) => {
                tracing::error!(partition = number, %error, "the log has lost its tail; stopped partition");
                // The log must not be trimmed up to a position that it has lost.
                self.partitions.forget(number);
                self.stop_lost_partition(stop);
            }
            Err(error @ Error::Headless { .. }) => {
                tracing::error!(partition = number, %error, "the log has lost its first records; stopped partition");
                self.stop_lost_partition(stop);
            }
            Err(Error::Log(error @ matyan_log::Error::Trimmed { .. })) => {
                tracing::error!(partition = number, %error, "records were deleted before they were applied; dropping partition");
                self.stop_lost_partition(stop);
            }
            // The log may be recreated between describing it and starting to read it.
            Err(error) if error.is_temporary() || error.is_replaced() => {
                tracing::warn!(partition = number, %error, "failed to start partition; will retry");
                self.starts.retry(number, attempt);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Starts reading a partition, unless the log has lost records there.
    async fn start_reading(&mut self, number: u32, start: PartitionStart) -> Result<PartitionStart, Error> {
        if let Some(end) = start.end.filter(|end| *end <= start.offset) {
            return Err(Error::Shortened { partition: number, applied: start.offset, end });
        }
        if start.is_headless {
            return Err(Error::Headless { partition: number, first: start.offset });
        }
        let point = ReadPoint { offset: start.offset, before: start.before };
        self.subscription.start(number, point.start()).await?;
        Ok(start)
    }

    /// Adds a partition that is being read from now on.
    fn add_partition(&mut self, number: u32, start: PartitionStart) {
        let PartitionStart { log, offset, end, .. } = start;
        tracing::info!(partition = number, log, offset, "started reading partition");
        if let Some(end) = end {
            tracing::error!(
                partition = number,
                end,
                "the log has lost its tail; reading partition only up to there"
            );
            self.metrics.partitions_lost.inc();
        }
        self.partitions.insert(number, start);
        self.writers.runs().restart(number);
    }

    /// Raises the alarm for a partition that has lost records, and starts the partition once an operator has moved its
    /// position.
    fn stop_lost_partition(&mut self, stopped_at: Option<StopPoint>) {
        self.metrics.partitions_lost.inc();
        if let Some(stopped_at) = stopped_at {
            self.starts.find_when_continued(stopped_at);
        }
    }

    /// Drops a partition that was reassigned to another worker. Entries that writers are
    /// still applying are harmless: they conflict.
    fn revoke(&mut self, number: u32) {
        self.starts.forget(number);
        self.partitions.forget(number);
        self.writers.runs().drop_partition(number);
    }

    async fn take_records(
        &mut self,
        number: u32,
        records: Vec<Record>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Some(partition) = self.partitions.get_mut(number) else { return Ok(()) };
        if !partition.is_readable() {
            return Ok(());
        }
        let log = partition.log();
        partition.note_read(&records);
        self.metrics.batch_records.observe(records.len() as f64);
        let mut touched = Vec::new();
        for record in records {
            match self.take_record(log, number, record, stop).await? {
                TakenRecord::Next => {}
                TakenRecord::Dispatch(key) => touched.push(key),
                TakenRecord::HeldBack => break,
                TakenRecord::Stopped => return Ok(()),
            }
        }
        for key in touched {
            self.writers.dispatch(key);
        }
        Ok(())
    }

    async fn take_record(
        &mut self,
        log: u32,
        number: u32,
        record: Record,
        stop: &CancellationToken,
    ) -> Result<TakenRecord, Error> {
        let Some(partition) = self.partitions.get_mut(number) else { return Ok(TakenRecord::HeldBack) };
        if !partition.contains(&record) {
            return Ok(TakenRecord::HeldBack);
        }
        if partition.is_new(&record) && !self.writers.runs().may_defer() {
            partition.hold_back();
            return Ok(TakenRecord::HeldBack);
        }
        let read = partition.read(&record);
        if read.is_new {
            // The record holds the position until it is queued, deferred, or dropped.
            partition.take(&read);
        } else if !self.writers.runs().is_returning(number) {
            return Ok(TakenRecord::Next);
        }
        self.metrics.records.inc_by(u64::from(read.is_new));
        let is_after_middle = partition.is_after_middle(&record);
        let mut entry = Entry::read(log, number, record, is_after_middle);
        let Some(project) = self.project(&mut entry, stop).await? else { return Ok(TakenRecord::Stopped) };
        let position = entry.position;
        let KnownProject::Active(project, project_name) = project else {
            self.metrics.skipped.inc();
            if let Some(partition) = self.partitions.get_mut(number).filter(|_| read.is_new) {
                partition.complete(position);
            }
            return Ok(TakenRecord::Next);
        };
        let key = RunKey { project, project_name, id: entry.run_id.clone() };
        let admission = self.writers.offer(&key, entry, &read);
        let Some(partition) = self.partitions.get_mut(number) else { return Ok(TakenRecord::HeldBack) };
        match admission {
            Admission::Queued { needs_turn } => {
                partition.take(&read);
                if needs_turn {
                    return Ok(TakenRecord::Dispatch(key));
                }
            }
            Admission::Deferred | Admission::Repeated if read.is_new => partition.complete(position),
            Admission::Deferred | Admission::Repeated => {}
        }
        Ok(TakenRecord::Next)
    }

    /// Finds the project of an entry. The entry of a project that is unknown or damaged becomes unreadable,
    /// so that it is parked. `None` if the worker was stopped first.
    async fn project(
        &mut self,
        entry: &mut Entry,
        stop: &CancellationToken,
    ) -> Result<Option<KnownProject>, Error> {
        let known = match self.projects.get(&entry.project, entry.received_us) {
            Some(known) => Some(known),
            None => self.look_up_project(&entry.project, stop).await?,
        };
        let Some(KnownProject::Unusable(reason)) = known else { return Ok(known) };
        entry.content = Content::Unreadable {
            reason: reason.to_string(),
            value: entry.raw(),
            content_type: entry.content_type(),
        };
        Ok(Some(KnownProject::Active(Project::UNKNOWN, "".into())))
    }

    async fn look_up_project(
        &mut self,
        name: &str,
        stop: &CancellationToken,
    ) -> Result<Option<KnownProject>, Error> {
        self.age.set_waiting();
        let deps = &self.deps;
        let asked_us = self.deps.now_us();
        let found = retry_until_done(stop, &self.heartbeat, "look up a project", || async {
            match project_get(&*deps.store.snapshot().await?, name).await {
                Err(matyan_store::Error::Corrupt { reason, .. }) => Ok(Err(reason)),
                found => Ok(Ok(found?)),
            }
        });
        let Some(found) = found.await? else { return Ok(None) };
        let known = match found {
            Ok(Some(listed)) if listed.is_active() => {
                KnownProject::Active(listed.project.number, name.into())
            }
            Ok(Some(_)) => KnownProject::Deleted,
            Ok(None) => KnownProject::Unusable(format!("project `{name}` does not exist").into()),
            Err(damage) => KnownProject::Unusable(format!("project `{name}` is damaged: {damage}").into()),
        };
        self.projects.insert(name, known.clone(), asked_us);
        Ok(Some(known))
    }

    /// Counts a finished turn, and reports its progress if it was not cut short.
    fn count_turn(&mut self, turn: &AppliedTurn) {
        self.metrics.skipped.inc_by(turn.outcome.skipped_records);
        self.metrics.parked.inc_by(turn.outcome.parked);
        if turn.outcome.is_complete {
            self.partitions.complete(&turn.positions);
            self.partitions.report(self.writers.runs());
        }
    }
}

/// The result of taking a record.
enum TakenRecord {
    /// The next record follows.
    Next,
    /// The record is the first one in the queue of its run, whose writer has to be dispatched.
    Dispatch(RunKey),
    /// The record and all later records are left in the log.
    HeldBack,
    /// The worker is stopping.
    Stopped,
}

/// Never returns if there is no time.
async fn sleep_until_any(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Retries until the attempt succeeds, or fails in a way that waiting cannot fix. `None` once
/// it is stopped.
async fn retry_until_done<T, F>(
    stop: &CancellationToken,
    heartbeat: &Heartbeat,
    what: &str,
    attempt: impl Fn() -> F,
) -> Result<Option<T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        heartbeat.beat();
        match attempt().await {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.is_temporary() => {
                tracing::warn!(%error, what, "operation failed; will retry")
            }
            Err(error) => return Err(error),
        }
        if stop.run_until_cancelled(tokio::time::sleep(WAIT)).await.is_none() {
            return Ok(None);
        }
    }
}
