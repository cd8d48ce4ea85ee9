//! The ingestion worker: reads partitions of the log, dispatches records to the writers of
//! their runs, and reports its progress.
//!
//! Runs of a partition are applied concurrently, in a window bounded in bytes. Records that
//! queue up for a run while its writer is busy are applied together in the next turn. The
//! lowest unapplied offset is written to the store (`progress`), and once that is durable, the
//! log is trimmed up to it. Positions need no further handling: every transaction carries the
//! cursor of its run, so redelivered records have no effect.
//!
//! Shutdown: stop taking records, let writers finish their transaction, write and sync the
//! progress.

mod log_identity;
mod pace;
mod partition;
mod progress;
mod unapplied_age;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use matyan_log::{Delivery, Record, Subscription, Topic};
use matyan_model::{ids::Project, position::LogPosition, project::project_find};
use tokio::{
    task::{JoinError, JoinSet},
    time::interval,
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{ApplyOutcome, DeadLetterQueue, DeadLetterTask, RunKey, RunWriter},
    deps::Deps,
    error::Error,
    fold::FoldNotices,
    heartbeat::{BEAT_INTERVAL, Heartbeat},
    metrics::Metrics,
    record::{Content, Entry},
};
pub use log_identity::log_number;
use pace::Pace;
use partition::Partition;
pub(crate) use partition::digest;
use progress::{Progress, ProgressHandle};
use unapplied_age::UnappliedAge;

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// Maximum bytes of records taken from the log and not yet applied.
    pub window_bytes: usize,
    /// Maximum memory kept for runs that are currently not being written.
    pub idle_bytes: usize,
    /// Interval at which the store is synced and the log is trimmed.
    pub trim_every: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self { window_bytes: 32 << 20, idle_bytes: 16 << 20, trim_every: Duration::from_secs(5) }
    }
}

/// Maximum bytes applied in one turn of a writer, so that progress is reported often.
const TURN_BYTES: usize = 4 << 20;
/// Wait before a retry while the log or the store is unavailable.
const WAIT: Duration = Duration::from_millis(500);

/// A run that is, or recently was, being written.
struct ActiveRun {
    queue: VecDeque<Entry>,
    /// `None` while the writer is in use.
    writer: Option<RunWriter>,
    bytes: usize,
    /// Time of last use as a sequence number; the lowest are evicted first.
    used: u64,
}

/// Result of one turn of a writer.
struct TurnResult {
    key: RunKey,
    writer: RunWriter,
    /// Positions of its entries.
    positions: Vec<LogPosition>,
    bytes: usize,
    applied: ApplyOutcome,
}

pub struct IngestionWorker {
    deps: Deps,
    settings: IngestSettings,
    folds: FoldNotices,
    metrics: Metrics,
    subscription: Box<dyn Subscription>,
    partitions: BTreeMap<u32, Partition>,
    runs: HashMap<RunKey, ActiveRun>,
    writers: JoinSet<TurnResult>,
    stop_writers: CancellationToken,
    progress: ProgressHandle,
    dead_letters: DeadLetterQueue,
    dead_letter_task: DeadLetterTask,
    heartbeat: Heartbeat,
    age: Arc<UnappliedAge>,
    projects: HashMap<Arc<str>, Project>,
    pace: Pace,
    /// Bytes of records that are taken and not yet applied.
    window: usize,
    idle_bytes: usize,
    uses: u64,
}

impl IngestionWorker {
    pub async fn new(
        deps: Deps,
        settings: IngestSettings,
        folds: FoldNotices,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let subscription = deps.log_reader.subscribe(Topic::Ingestion).await?;
        let lag = metrics.lag_records.clone();
        let progress = Progress::start(deps.clone(), settings.trim_every, lag);
        let (dead_letters, dead_letter_task) =
            DeadLetterQueue::start(deps.log_writer.clone(), metrics.dead_letters_dropped.clone());
        let age =
            Arc::new(UnappliedAge::new(Arc::clone(&deps.clock), metrics.oldest_unapplied_seconds.clone()));
        Ok(Self {
            deps,
            settings,
            folds,
            metrics,
            subscription,
            partitions: BTreeMap::new(),
            runs: HashMap::new(),
            writers: JoinSet::new(),
            stop_writers: CancellationToken::new(),
            progress,
            dead_letters,
            dead_letter_task,
            heartbeat: Heartbeat::new("the ingestion worker"),
            age,
            projects: HashMap::from([("".into(), Project::default())]),
            pace: Pace::new(),
            window: 0,
            idle_bytes: 0,
            uses: 0,
        })
    }

    /// Heartbeat of its loop.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Runs until it is stopped, or until an error that only an operator or a restart can
    /// fix.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let age = Arc::clone(&self.age);
        let worked = tokio::select! {
            worked = self.work(&stop) => worked,
            never = age.report() => match never {},
        };
        self.stop_writers.cancel();
        while let Some(turn) = self.writers.join_next().await {
            if let Err(error) = self.finish_turn(turn) {
                tracing::error!(%error, "a writer failed while stopping");
            }
        }
        self.progress.finish().await;
        // Dropping the last handles of the dead letters ends their task.
        drop((self.runs, self.dead_letters));
        self.dead_letter_task.finish().await;
        worked
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut beats = interval(BEAT_INTERVAL);
        loop {
            let has_room = self.window < self.settings.window_bytes;
            self.metrics.unapplied_bytes.set(self.window as f64);
            tokio::select! {
                // Stopping and heartbeats come first; finished turns make room
                // before more is read.
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = beats.tick() => {
                    self.heartbeat.beat();
                    self.age.set(self.partitions.values().filter_map(Partition::oldest_unapplied_us).min());
                }
                Some(turn) = self.writers.join_next() => self.finish_turn(turn)?,
                delivery = self.pace.next(&mut *self.subscription), if has_room => match delivery {
                    Ok(delivery) => self.handle_delivery(delivery, stop).await?,
                    Err(error) => self.handle_read_error(error, stop).await?,
                },
            }
        }
    }

    /// Handles an error of the log. On temporary errors, it waits. A partition overtaken by
    /// retention raises an alarm, and the others continue; one whose log was recreated
    /// restarts. Records already taken are still applied, because they were acknowledged.
    async fn handle_read_error(
        &mut self,
        error: matyan_log::Error,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.age.set_waiting();
        match error {
            matyan_log::Error::Trimmed { partition, .. } => self.drop_lost_partition(partition, &error),
            matyan_log::Error::Replaced { partition, .. } => {
                tracing::warn!(partition, %error, "log was replaced; restarting partition");
                self.partitions.remove(&partition);
                return self.assign(partition, stop).await;
            }
            error if error.is_temporary() => tracing::warn!(%error, "failed to read the log; will retry"),
            error => return Err(error.into()),
        }
        stop.run_until_cancelled(tokio::time::sleep(WAIT)).await;
        Ok(())
    }

    fn drop_lost_partition(&mut self, partition: u32, error: &matyan_log::Error) {
        tracing::error!(partition, %error, "records were deleted before they were applied; dropping partition");
        if self.partitions.remove(&partition).is_some() {
            self.metrics.partitions_lost.inc();
        }
    }

    async fn handle_delivery(&mut self, delivery: Delivery, stop: &CancellationToken) -> Result<(), Error> {
        match delivery {
            Delivery::Assigned { partition } => self.assign(partition, stop).await,
            Delivery::Revoked { partition } => {
                self.revoke(partition);
                Ok(())
            }
            Delivery::Records { partition, records } => self.take_records(partition, records, stop).await,
        }
    }

    /// Finds the start of a partition, waiting while the log or the store is unavailable. A
    /// partition that has lost unapplied records raises an alarm and is skipped, and the
    /// others continue.
    async fn assign(&mut self, number: u32, stop: &CancellationToken) -> Result<(), Error> {
        self.age.set_waiting();
        loop {
            self.heartbeat.beat();
            let start = log_identity::begin(&self.deps, number).await;
            let started = match start {
                Ok(start) => match self.subscription.start(number, start.offset).await {
                    Ok(()) => Ok(start),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            };
            match started {
                Ok(start) => {
                    self.progress.begin(number, start.offset);
                    tracing::info!(
                        partition = number,
                        log = start.log,
                        offset = start.offset,
                        "started reading partition"
                    );
                    self.partitions.insert(number, Partition::new(start));
                    return Ok(());
                }
                Err(Error::Log(error @ matyan_log::Error::Trimmed { .. })) => {
                    tracing::error!(partition = number, %error, "records were deleted before they were applied; dropping partition");
                    self.metrics.partitions_lost.inc();
                    return Ok(());
                }
                // The log may be recreated between describing it and starting to
                // read it.
                Err(error) if error.is_temporary() || error.is_replaced() => {
                    tracing::warn!(partition = number, %error, "failed to start partition; will retry");
                    if stop.run_until_cancelled(tokio::time::sleep(WAIT)).await.is_none() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Drops a partition that was reassigned to another worker. Entries that writers are
    /// still applying are harmless: they conflict.
    fn revoke(&mut self, number: u32) {
        self.partitions.remove(&number);
        self.progress.forget(number);
        for run in self.runs.values_mut() {
            let dropped: usize = run
                .queue
                .iter()
                .filter(|entry| entry.position.partition == number)
                .map(|entry| entry.bytes)
                .sum();
            run.queue.retain(|entry| entry.position.partition != number);
            self.window -= dropped;
        }
    }

    async fn take_records(
        &mut self,
        number: u32,
        records: Vec<Record>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Some(partition) = self.partitions.get_mut(&number) else { return Ok(()) };
        let records = match partition.verify(records) {
            partition::FirstRecord::Expected(records) => records,
            partition::FirstRecord::OtherLog => {
                self.age.set_waiting();
                let (deps, log) = (&self.deps, partition.log());
                let replaced =
                    retry_until_done(stop, &self.heartbeat, "assign a number to a new log", || {
                        log_identity::replace(deps, number, log)
                    });
                if replaced.await?.is_none() {
                    return Ok(());
                }
                self.partitions.remove(&number);
                return self.assign(number, stop).await;
            }
        };
        let log = partition.log();
        self.metrics.records.inc_by(records.len() as u64);
        self.metrics.batch_records.observe(records.len() as f64);
        let mut touched = Vec::new();
        for record in records {
            if !self.partitions.get_mut(&number).is_some_and(|partition| partition.track(&record)) {
                continue;
            }
            let mut entry = Entry::read(log, number, record);
            let Some(project) = self.project(&mut entry, stop).await? else { return Ok(()) };
            let (project, project_name) = project;
            let key = RunKey { project, project_name, id: entry.run_id.clone() };
            self.window += entry.bytes;
            let run = self.active_run(&key);
            if run.queue.is_empty() && run.writer.is_some() {
                touched.push(key);
            }
            run.queue.push_back(entry);
        }
        touched.into_iter().for_each(|key| self.dispatch(key));
        Ok(())
    }

    /// Looks up the project of an entry. The entry of an unknown project becomes
    /// unreadable, so that it is parked. `None` if the worker was stopped in the meantime.
    async fn project(
        &mut self,
        entry: &mut Entry,
        stop: &CancellationToken,
    ) -> Result<Option<(Project, Arc<str>)>, Error> {
        if let Some((name, project)) = self.projects.get_key_value(entry.project.as_str()) {
            return Ok(Some((*project, name.clone())));
        }
        self.age.set_waiting();
        let (deps, name) = (&self.deps, &entry.project);
        let found = retry_until_done(stop, &self.heartbeat, "look up a project", || async {
            Ok(project_find(&*deps.store.snapshot().await?, name).await?)
        });
        Ok(match found.await? {
            Some(Some(project)) => {
                let name: Arc<str> = entry.project.as_str().into();
                self.projects.insert(name.clone(), project);
                Some((project, name))
            }
            Some(None) => {
                let reason = format!("project `{}` does not exist", entry.project);
                let (value, content_type) = (entry.raw(), entry.content_type());
                entry.content = Content::Unreadable { reason, value, content_type };
                Some((Project::default(), "".into()))
            }
            None => None,
        })
    }

    fn active_run(&mut self, key: &RunKey) -> &mut ActiveRun {
        self.uses += 1;
        if !self.runs.contains_key(key) {
            let writer = Some(RunWriter::new(
                self.deps.clone(),
                key.clone(),
                self.dead_letters.clone(),
                self.metrics.transactions.clone(),
            ));
            self.runs.insert(key.clone(), ActiveRun { queue: VecDeque::new(), writer, bytes: 0, used: 0 });
        }
        let run = self.runs.get_mut(key).expect("the run was inserted above");
        run.used = self.uses;
        run
    }

    /// Starts a turn of the run's writer with the queued entries, if it is idle.
    fn dispatch(&mut self, key: RunKey) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.queue.is_empty() {
            return;
        }
        let Some(mut writer) = run.writer.take() else { return };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = run.queue.front()
            && (entries.is_empty() || bytes + entry.bytes <= TURN_BYTES)
        {
            bytes += entry.bytes;
            entries.extend(run.queue.pop_front());
        }
        self.idle_bytes -= std::mem::take(&mut run.bytes);
        let positions = entries.iter().map(|entry: &Entry| entry.position).collect();
        let stop = self.stop_writers.clone();
        let folds = self.folds.clone();
        let seconds = self.metrics.turn_seconds.clone();
        self.writers.spawn(async move {
            // Wait in the task, so that a slow fold does not block the loop.
            let room = folds.reserve(bytes).await;
            let _timer = seconds.start_timer();
            let mut applied = writer.apply(entries, &stop).await;
            folds.send(&key, std::mem::take(&mut applied.blocks), room);
            TurnResult { key, writer, positions, bytes, applied }
        });
    }

    fn finish_turn(&mut self, turn: Result<TurnResult, JoinError>) -> Result<(), Error> {
        let TurnResult { key, writer, positions, bytes, applied } =
            turn.map_err(|error| Error::Writer(error.to_string()))?;
        self.window -= bytes;
        self.metrics.applied(&applied);
        // A turn is incomplete only while stopping. Its records are redelivered after
        // the restart.
        if applied.is_complete {
            for position in positions {
                if let Some(partition) = self.partitions.get_mut(&position.partition)
                    && let Some(applied) = partition.complete(position)
                {
                    self.progress.report(position.partition, applied);
                }
            }
        }
        let bytes = writer.bytes();
        if let Some(run) = self.runs.get_mut(&key) {
            run.bytes = bytes;
            run.writer = Some(writer);
        }
        self.idle_bytes += bytes;
        if applied.is_complete {
            self.dispatch(key);
        }
        if self.idle_bytes > self.settings.idle_bytes {
            self.forget_idle();
        }
        Ok(())
    }

    /// Evicts the less recently written half of the idle runs.
    fn forget_idle(&mut self) {
        let is_idle = |run: &ActiveRun| run.queue.is_empty() && run.writer.is_some();
        let mut uses: Vec<u64> = self.runs.values().filter(|run| is_idle(run)).map(|run| run.used).collect();
        if uses.is_empty() {
            return;
        }
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.runs.retain(|_, run| {
            let keep = !is_idle(run) || run.used > middle;
            if !keep {
                self.idle_bytes -= run.bytes;
            }
            keep
        });
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
