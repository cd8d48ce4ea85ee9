//! The ingestion worker: reads partitions of the log, hands records to the writers of their runs, and tells how far it is.
//!
//! Runs of a partition are applied side by side in a window bounded in bytes; what queues up for one run while its writer is
//! at work is applied together next. The lowest offset that is not applied is what the store is told (`progress`), and
//! behind that, once it is durable, the log is trimmed. Positions need no care beyond that: every transaction carries
//! the cursor of its run, so what is delivered twice changes nothing.
//!
//! To stop: no record is taken any more, writers finish their transaction, progress is written and synced.

mod age;
mod identity;
mod pace;
mod partition;
mod progress;

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
    apply::{Applied, Copier, DeadLetters, RunKey, RunWriter},
    deps::Deps,
    error::Error,
    fold::FoldNotices,
    heartbeat::{BEAT_EVERY, Heartbeat},
    metrics::Metrics,
    record::{Content, Entry},
};
use age::Age;
pub use identity::log_number;
use pace::Pace;
use partition::Partition;
pub(crate) use partition::digest;
use progress::{Progress, ProgressHandle};

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// Records taken from the log and not yet applied, in bytes.
    pub window_bytes: usize,
    /// What is kept in memory of runs that are not being written at the moment.
    pub idle_bytes: usize,
    /// How often the store is synced and the log trimmed behind it.
    pub trim_every: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self { window_bytes: 32 << 20, idle_bytes: 16 << 20, trim_every: Duration::from_secs(5) }
    }
}

/// What one call of a writer takes at most, so that progress is told often.
const TURN_BYTES: usize = 4 << 20;
/// Waits while the log or the store is away.
const WAIT: Duration = Duration::from_millis(500);

/// A run that is or was being written.
struct Slot {
    queue: VecDeque<Entry>,
    /// `None` while it is at work.
    writer: Option<RunWriter>,
    bytes: usize,
    /// Grows with use: the lowest are forgotten first.
    used: u64,
}

/// What a writer comes back with.
struct Turn {
    key: RunKey,
    writer: RunWriter,
    /// Partition and offset of its entries.
    positions: Vec<LogPosition>,
    bytes: usize,
    applied: Applied,
}

pub struct Ingestion {
    deps: Deps,
    settings: IngestSettings,
    folds: FoldNotices,
    metrics: Metrics,
    subscription: Box<dyn Subscription>,
    partitions: BTreeMap<u32, Partition>,
    runs: HashMap<RunKey, Slot>,
    writers: JoinSet<Turn>,
    stop_writers: CancellationToken,
    progress: ProgressHandle,
    dead_letters: DeadLetters,
    copier: Copier,
    heartbeat: Heartbeat,
    age: Arc<Age>,
    projects: HashMap<Arc<str>, Project>,
    pace: Pace,
    /// Bytes of records that are taken and not applied.
    window: usize,
    idle_bytes: usize,
    uses: u64,
}

impl Ingestion {
    pub async fn new(
        deps: Deps,
        settings: IngestSettings,
        folds: FoldNotices,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let subscription = deps.log_reader.subscribe(Topic::Ingestion).await?;
        let lag = metrics.lag_records.clone();
        let progress = Progress::start(deps.clone(), settings.trim_every, lag);
        let (dead_letters, copier) =
            DeadLetters::start(deps.log_writer.clone(), metrics.dead_letters_dropped.clone());
        let age = Arc::new(Age::new(Arc::clone(&deps.clock), metrics.oldest_unapplied_seconds.clone()));
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
            copier,
            heartbeat: Heartbeat::new("the ingestion worker"),
            age,
            projects: HashMap::from([("".into(), Project::default())]),
            pace: Pace::new(),
            window: 0,
            idle_bytes: 0,
            uses: 0,
        })
    }

    /// Whether its loop goes round.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Works until it is stopped, or until something happens that only a human or a restart can mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let age = Arc::clone(&self.age);
        let worked = tokio::select! {
            worked = self.work(&stop) => worked,
            never = age.tell() => match never {},
        };
        self.stop_writers.cancel();
        while let Some(turn) = self.writers.join_next().await {
            if let Err(error) = self.finish_turn(turn) {
                tracing::error!(%error, "a writer ended badly while stopping");
            }
        }
        self.progress.finish().await;
        // With the writers the last go that could leave a copy.
        drop((self.runs, self.dead_letters));
        self.copier.finish().await;
        worked
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut beats = interval(BEAT_EVERY);
        loop {
            let has_room = self.window < self.settings.window_bytes;
            self.metrics.unapplied_bytes.set(self.window as f64);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = beats.tick() => {
                    self.heartbeat.beat();
                    self.age.set(self.partitions.values().filter_map(Partition::oldest_unapplied_us).min());
                }
                Some(turn) = self.writers.join_next() => self.finish_turn(turn)?,
                delivery = self.pace.next(&mut *self.subscription), if has_room => match delivery {
                    Ok(delivery) => self.take(delivery, stop).await?,
                    Err(error) => self.survive(error, stop).await?,
                },
            }
        }
    }

    /// Waits where waiting helps. A partition that was overtaken by retention is alarmed about, and the others go on; one of a
    /// log that was made anew begins again. What was taken of it is applied all the same, as it was acknowledged.
    async fn survive(&mut self, error: matyan_log::Error, stop: &CancellationToken) -> Result<(), Error> {
        self.age.wait();
        match error {
            matyan_log::Error::Trimmed { partition, .. } => self.lost(partition, &error),
            matyan_log::Error::Replaced { partition, .. } => {
                tracing::warn!(partition, %error, "beginning a partition again");
                self.partitions.remove(&partition);
                return self.assign(partition, stop).await;
            }
            error if error.is_temporary() => tracing::warn!(%error, "waiting for the log"),
            error => return Err(error.into()),
        }
        stop.run_until_cancelled(tokio::time::sleep(WAIT)).await;
        Ok(())
    }

    fn lost(&mut self, partition: u32, error: &matyan_log::Error) {
        tracing::error!(partition, %error, "records that were never applied are gone");
        if self.partitions.remove(&partition).is_some() {
            self.metrics.partitions_lost.inc();
        }
    }

    async fn take(&mut self, delivery: Delivery, stop: &CancellationToken) -> Result<(), Error> {
        match delivery {
            Delivery::Assigned { partition } => self.assign(partition, stop).await,
            Delivery::Revoked { partition } => {
                self.revoke(partition);
                Ok(())
            }
            Delivery::Records { partition, records } => self.take_records(partition, records, stop).await,
        }
    }

    /// Finds out where to begin; waits as long as log or store are away. A partition that lost records which were never
    /// applied is left alone, with an alarm: the others go on.
    async fn assign(&mut self, number: u32, stop: &CancellationToken) -> Result<(), Error> {
        self.age.wait();
        loop {
            self.heartbeat.beat();
            let begun = identity::begin(&self.deps, number).await;
            let started = match begun {
                Ok(begun) => match self.subscription.start(number, begun.start).await {
                    Ok(()) => Ok(begun),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error),
            };
            match started {
                Ok(begun) => {
                    self.progress.begin(number, begun.start);
                    tracing::info!(
                        partition = number,
                        log = begun.log,
                        offset = begun.start,
                        "reading a partition"
                    );
                    self.partitions.insert(number, Partition::new(begun));
                    return Ok(());
                }
                Err(Error::Log(error @ matyan_log::Error::Trimmed { .. })) => {
                    tracing::error!(partition = number, %error, "records that were never applied are gone");
                    self.metrics.partitions_lost.inc();
                    return Ok(());
                }
                // A log may be made anew between the two.
                Err(error) if error.is_temporary() || error.is_replaced() => {
                    tracing::warn!(partition = number, %error, "waiting to begin a partition");
                    if stop.run_until_cancelled(tokio::time::sleep(WAIT)).await.is_none() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Another worker has it now. What writers have in hand does no harm: it conflicts.
    fn revoke(&mut self, number: u32) {
        self.partitions.remove(&number);
        self.progress.forget(number);
        for slot in self.runs.values_mut() {
            let dropped: usize = slot
                .queue
                .iter()
                .filter(|entry| entry.position.partition == number)
                .map(|entry| entry.bytes)
                .sum();
            slot.queue.retain(|entry| entry.position.partition != number);
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
            partition::Verified::Good(records) => records,
            partition::Verified::OtherLog => {
                self.age.wait();
                let (deps, log) = (&self.deps, partition.log());
                let replaced = patiently(stop, &self.heartbeat, "giving a new log its number", || {
                    identity::replace(deps, number, log)
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
            if !self.partitions.get_mut(&number).is_some_and(|partition| partition.take(&record)) {
                continue;
            }
            let mut entry = Entry::read(log, number, record);
            let Some(project) = self.project(&mut entry, stop).await? else { return Ok(()) };
            let (project, project_name) = project;
            let key = RunKey { project, project_name, id: entry.run_id.clone() };
            self.window += entry.bytes;
            let slot = self.slot(&key);
            if slot.queue.is_empty() && slot.writer.is_some() {
                touched.push(key);
            }
            slot.queue.push_back(entry);
        }
        touched.into_iter().for_each(|key| self.dispatch(key));
        Ok(())
    }

    /// The project of an entry; one of a project that nobody knows cannot be applied. None if it was stopped meanwhile.
    async fn project(
        &mut self,
        entry: &mut Entry,
        stop: &CancellationToken,
    ) -> Result<Option<(Project, Arc<str>)>, Error> {
        if let Some((name, project)) = self.projects.get_key_value(entry.project.as_str()) {
            return Ok(Some((*project, name.clone())));
        }
        self.age.wait();
        let (deps, name) = (&self.deps, &entry.project);
        let found = patiently(stop, &self.heartbeat, "looking a project up", || async {
            Ok(project_find(&*deps.store.snapshot().await?, name).await?)
        });
        Ok(match found.await? {
            Some(Some(project)) => {
                let name: Arc<str> = entry.project.as_str().into();
                self.projects.insert(name.clone(), project);
                Some((project, name))
            }
            Some(None) => {
                let reason = format!("there is no project `{}`", entry.project);
                let (value, content_type) = (entry.raw(), entry.content_type());
                entry.content = Content::Unreadable { reason, value, content_type };
                Some((Project::default(), "".into()))
            }
            None => None,
        })
    }

    fn slot(&mut self, key: &RunKey) -> &mut Slot {
        self.uses += 1;
        if !self.runs.contains_key(key) {
            let writer = Some(RunWriter::new(
                self.deps.clone(),
                key.clone(),
                self.dead_letters.clone(),
                self.metrics.transactions.clone(),
            ));
            self.runs.insert(key.clone(), Slot { queue: VecDeque::new(), writer, bytes: 0, used: 0 });
        }
        let slot = self.runs.get_mut(key).expect("it was put there above");
        slot.used = self.uses;
        slot
    }

    /// Lets the writer of a run work on what has queued up.
    fn dispatch(&mut self, key: RunKey) {
        let Some(slot) = self.runs.get_mut(&key) else { return };
        if slot.queue.is_empty() {
            return;
        }
        let Some(mut writer) = slot.writer.take() else { return };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = slot.queue.front()
            && (entries.is_empty() || bytes + entry.bytes <= TURN_BYTES)
        {
            bytes += entry.bytes;
            entries.extend(slot.queue.pop_front());
        }
        self.idle_bytes -= std::mem::take(&mut slot.bytes);
        let positions = entries.iter().map(|entry: &Entry| entry.position).collect();
        let stop = self.stop_writers.clone();
        let folds = self.folds.clone();
        let seconds = self.metrics.turn_seconds.clone();
        self.writers.spawn(async move {
            let room = folds.room(bytes).await;
            let _timer = seconds.start_timer();
            let mut applied = writer.apply(entries, &stop).await;
            folds.notice(&key, std::mem::take(&mut applied.blocks), room);
            Turn { key, writer, positions, bytes, applied }
        });
    }

    fn finish_turn(&mut self, turn: Result<Turn, JoinError>) -> Result<(), Error> {
        let Turn { key, writer, positions, bytes, applied } =
            turn.map_err(|error| Error::Writer(error.to_string()))?;
        self.window -= bytes;
        self.metrics.applied(&applied);
        if applied.is_complete {
            for position in positions {
                if let Some(partition) = self.partitions.get_mut(&position.partition)
                    && let Some(applied) = partition.done(position)
                {
                    self.progress.tell(position.partition, applied);
                }
            }
        }
        let bytes = writer.bytes();
        if let Some(slot) = self.runs.get_mut(&key) {
            slot.bytes = bytes;
            slot.writer = Some(writer);
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

    /// Forgets the half of the idle runs that was not written for the longest time.
    fn forget_idle(&mut self) {
        let is_idle = |slot: &Slot| slot.queue.is_empty() && slot.writer.is_some();
        let mut uses: Vec<u64> =
            self.runs.values().filter(|slot| is_idle(slot)).map(|slot| slot.used).collect();
        if uses.is_empty() {
            return;
        }
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.runs.retain(|_, slot| {
            let keep = !is_idle(slot) || slot.used > middle;
            if !keep {
                self.idle_bytes -= slot.bytes;
            }
            keep
        });
    }
}

/// Tries until it succeeds, or fails in a way that waiting does not mend. None once it is stopped.
async fn patiently<T, F>(
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
            Err(error) if error.is_temporary() => tracing::warn!(%error, what, "waiting to try again"),
            Err(error) => return Err(error),
        }
        if stop.run_until_cancelled(tokio::time::sleep(WAIT)).await.is_none() {
            return Ok(None);
        }
    }
}
