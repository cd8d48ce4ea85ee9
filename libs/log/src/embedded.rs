//! LOG on one machine: partitions in a dedicated engine, with one thread that writes and syncs.
//!
//! The log has a fjall database of its own: with one journal for the log and the store, appends
//! would wait for the store's syncs. Records are deleted by `trim` only: retention by time would
//! lose records that no worker has applied.
//!
//! ```text
//! {path}/lock      locked by the process that has the log open
//! {path}/engine/   the fjall database described in `engine`; created as `engine.new/`
//! ```
//!
//! The path of a record: `append` puts it into the `queue`. The `committer` takes a group,
//! writes it to the `engine`, syncs, publishes it to readers through its `partition`, and
//! completes the append. A `subscription` reads it from there, or from the engine if it has
//! fallen too far behind.

mod committer;
mod engine;
mod journal;
mod layout;
mod partition;
mod queue;
mod record;
mod subscription;

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    Append, Error, LogReader, LogWriter, NewRecord, PartitionInfo, Result, Subscription, Topic, TopicInfo,
};
use committer::Committer;
use engine::Engine;
use layout::{Layout, TOPICS};
use partition::Partition;
use queue::{PendingAppend, PendingTrim, Queue};
use subscription::EmbeddedSubscription;

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Number of partitions of the ingestion topic. It is fixed when a log is created.
    pub ingestion_partitions: u32,
    /// Bound on the untrimmed bytes of a topic, beyond which appends wait. Dead letters are
    /// not counted.
    pub max_unread_bytes: u64,
    /// Size limit of the dead letters, beyond which the older half is deleted.
    pub dead_letter_bytes: u64,
    /// Memory per partition for handing new records directly to a subscriber that lags
    /// slightly.
    pub hand_off_bytes: usize,
    /// Time that an append waits before it fails because the log is unavailable.
    pub append_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ingestion_partitions: 1,
            max_unread_bytes: 1 << 30,
            dead_letter_bytes: 64 << 20,
            hand_off_bytes: 16 << 20,
            append_wait: Duration::from_secs(40),
        }
    }
}

impl Settings {
    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Topic { reason: reason.into() });
        if self.ingestion_partitions == 0 {
            return refuse("`ingestion_partitions` is 0: set it to at least 1");
        }
        if self.max_unread_bytes == 0 {
            return refuse(
                "`max_unread_bytes` is 0, so nothing could ever be appended: set it to at least 1",
            );
        }
        Ok(())
    }
}

/// External inputs of the log, which tests can replace.
#[derive(Clone)]
pub struct Deps {
    pub clock: Clock,
    /// Identity for a new log; ignored if the log already exists.
    pub new_identity: [u8; 16],
}

impl Deps {
    pub fn system() -> Self {
        let clock = || {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            since_epoch.as_micros() as i64
        };
        Self { clock: Arc::new(clock), new_identity: uuid::Uuid::new_v4().into_bytes() }
    }
}

/// The log in a directory. Dropping it blocks until it is closed; call `close` instead.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Nothing is sent: its sender is dropped when the committer ends.
    running: watch::Receiver<()>,
}

/// State shared by appenders, readers, and the committer.
struct Shared {
    settings: Settings,
    deps: Deps,
    engine_path: PathBuf,
    layout: Layout,
    identity: [u8; 16],
    /// None while it is closed: permanently, or until the committer has reopened it.
    engine: RwLock<Option<Engine>>,
    queue: Queue,
    partitions: Vec<Partition>,
    /// Per topic: notified when records become readable, a partition is released, or the
    /// log is closed.
    changes: [Notify; TOPICS.len()],
    next_subscription: AtomicU64,
}

impl EmbeddedLog {
    /// Opens the log in `path`, or creates it.
    pub async fn open(path: impl Into<PathBuf>, settings: Settings) -> Result<Self> {
        Self::open_with(path, settings, Deps::system()).await
    }

    pub async fn open_with(path: impl Into<PathBuf>, settings: Settings, deps: Deps) -> Result<Self> {
        let path = path.into();
        tokio::task::spawn_blocking(move || Self::open_blocking(&path, settings, deps))
            .await
            .map_err(|failure| Error::unavailable(format!("opening was interrupted: {failure}")))?
    }

    fn open_blocking(path: &Path, settings: Settings, deps: Deps) -> Result<Self> {
        settings.validate()?;
        let lock = lock_directory(path)?;
        let shared = Arc::new(Shared::open(path, settings, deps)?);
        let committer = Committer::new(shared.clone(), lock);
        let (held, running) = watch::channel(());
        let work = move || {
            let _held = held;
            committer.run();
        };
        let thread = std::thread::Builder::new()
            .name("log-committer".into())
            .spawn(work)
            .map_err(|source| unavailable("failed to start the committer thread", source))?;
        Ok(Self { shared, committer: Mutex::new(Some(thread)), running })
    }

    /// Returns once the committer has ended: the log was closed, or the committer panicked,
    /// in which case nothing can be appended until the process restarts. Cancel-safe.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Stops accepting appends, completes the pending ones, and closes the files.
    pub async fn close(&self) -> Result<()> {
        let Some(thread) = self.stop() else { return Ok(()) };
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .map_err(|failure| Error::unavailable(format!("closing was interrupted: {failure}")))?
            .map_err(|_| Error::unavailable("the committer has panicked"))
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.shared.queue.close();
        self.committer.lock().expect("no thread panics while holding the handle").take()
    }

    fn start_append(
        &self,
        topic: Topic,
        records: Vec<NewRecord>,
    ) -> Result<oneshot::Receiver<Result<Vec<crate::Position>>>> {
        records.iter().try_for_each(NewRecord::validate)?;
        let layout = self.shared.layout;
        let placed =
            records.into_iter().map(|record| (layout.partition_of(topic, &record.key), record)).collect();
        let (reply, answer) = oneshot::channel();
        self.shared.queue.append(PendingAppend::new(topic, placed, reply))?;
        Ok(answer)
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        if let Some(thread) = self.stop()
            && thread.join().is_err()
        {
            tracing::error!("log committer panicked");
        }
    }
}

#[async_trait]
impl LogWriter for EmbeddedLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        if records.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let wait = self.shared.settings.append_wait;
        let deadline = tokio::time::Instant::now() + wait;
        let mut answer = match self.start_append(topic, records) {
            Ok(answer) => answer,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        Box::pin(async move {
            if let Ok(answered) = tokio::time::timeout_at(deadline, &mut answer).await {
                return answered.unwrap_or_else(|_| Err(queue::closed()));
            }
            // Closing the channel abandons the append: the committer removes its records,
            // unless the reply has just been sent.
            answer.close();
            answer
                .try_recv()
                .unwrap_or_else(|_| {
                Err(Error::unavailable(format!(
                    "the append was not written within {wait:?}: check that workers are running and that the disk has space"
                )))
            })
        })
    }

    /// Fails while the engine is closed. The extents are known without the engine, but
    /// callers also use this to check whether the log works.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        if self.shared.engine().is_none() {
            return Err(Error::unavailable(
                "its engine is closed: it failed and is being reopened, or the log is closed",
            ));
        }
        let slots = self.shared.layout.slots(topic);
        let info = |partition: &Partition| {
            let extent = partition.lock().extent();
            PartitionInfo { first: extent.first, end: extent.end }
        };
        let partitions = self.shared.partitions[slots].iter().map(info).collect();
        Ok(TopicInfo { identity: Some(self.shared.identity), partitions })
    }
}

#[async_trait]
impl LogReader for EmbeddedLog {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>> {
        let id = self.shared.next_subscription.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(EmbeddedSubscription::new(self.shared.clone(), topic, id)))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        let slot = self.shared.layout.slot(topic, partition)?;
        let (reply, answer) = oneshot::channel();
        self.shared.queue.trim(PendingTrim { slot, offset, reply: Some(reply) })?;
        answer.await.unwrap_or_else(|_| Err(queue::closed()))?;
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || shared.drop_trimmed_tables(slot))
            .await
            .map_err(|failure| Error::unavailable(format!("trimming was interrupted: {failure}")))
    }
}

impl Shared {
    fn open(path: &Path, settings: Settings, deps: Deps) -> Result<Self> {
        let engine_path = path.join("engine");
        let layout = Layout { ingestion_partitions: settings.ingestion_partitions };
        if !engine_path.exists() {
            engine::create(&path.join("engine.new"), &engine_path, layout, deps.new_identity)?;
        }
        let engine = Engine::open(&engine_path, layout)?;
        let identity = engine.identity();
        let partitions =
            layout.all_slots().map(|slot| Ok(Partition::new(engine.extent(slot)?))).collect::<Result<_>>()?;
        Ok(Self {
            settings,
            deps,
            engine_path,
            layout,
            identity,
            engine: RwLock::new(Some(engine)),
            queue: Queue::default(),
            partitions,
            changes: Default::default(),
            next_subscription: AtomicU64::new(0),
        })
    }

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().expect("no thread panics while changing the engine")
    }

    fn engine_mut(&self) -> RwLockWriteGuard<'_, Option<Engine>> {
        self.engine.write().expect("no thread panics while changing the engine")
    }

    /// Closes the engine, waiting for its threads. The lock is released before that, so
    /// that other threads do not wait.
    fn close_engine(&self) {
        let closed = self.engine_mut().take();
        drop(closed);
    }

    fn changes(&self, topic: Topic) -> &Notify {
        &self.changes[layout::topic_index(topic)]
    }

    fn notify_all_topics(&self) {
        self.changes.iter().for_each(Notify::notify_waiters);
    }

    /// True if the topic accepts more records. Dead letters always do, because old ones are
    /// deleted.
    fn has_room(&self, topic: Topic) -> bool {
        let slots = self.layout.slots(topic);
        let unread: u64 =
            self.partitions[slots].iter().map(|partition| partition.lock().extent().bytes()).sum();
        topic == Topic::DeadLetters || unread < self.settings.max_unread_bytes
    }

    /// Frees the space of trimmed records. Blocks. If it fails, the next trim frees the
    /// space.
    fn drop_trimmed_tables(&self, slot: usize) {
        let first = self.partitions[slot].lock().extent().first;
        if let Some(Err(error)) = self.engine().as_ref().map(|engine| engine.drop_trimmed_tables(slot, first))
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to free the space of trimmed records"
            );
        }
    }
}

/// Locks the log's directory. The lock is held even while the engine is reopened, so that no
/// other process can take the directory.
fn lock_directory(path: &Path) -> Result<File> {
    let open = || {
        std::fs::create_dir_all(path)?;
        // Syncs the parent, or a power failure could lose the new directory with all its
        // content.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        File::options().create(true).truncate(false).write(true).open(path.join("lock"))
    };
    let file = open().map_err(|source| {
        unavailable(&format!("failed to create the lock in `{}`", path.display()), source)
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            reason: format!(
                "the log in `{}` is open in another process: stop that process, or choose another directory",
                path.display()
            ),
        }),
        Err(TryLockError::Error(source)) => {
            Err(unavailable(&format!("failed to lock `{}`", path.display()), source))
        }
    }
}

fn unavailable(reason: &str, source: std::io::Error) -> Error {
    Error::Unavailable { reason: reason.into(), source: Some(Arc::new(source)) }
}

#[cfg(test)]
mod tests;
