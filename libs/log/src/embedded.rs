//! LOG on one machine: partitions in an engine of the log's own, behind one thread that writes and syncs.
//! Its own engine, so that a sync for an append never waits for the store; deliberately absent: any retention by time.
//!
//! ```text
//! {path}/lock      held by the process that has the log open
//! {path}/engine/   the fjall database that `engine` describes; made in `engine.new/`
//! ```
//!
//! The way of a record: `append` puts it into the `queue`; the `committer` takes a group, writes it to the `engine`, syncs,
//! shows it to readers through its `partition`, and answers; a `subscription` takes it from there, or, when it has fallen
//! behind, from the engine.

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
    /// Partitions of the ingestion topic. A log keeps the number that it was made with.
    pub ingestion_partitions: u32,
    /// Appends to a topic wait when its untrimmed records take this much. Dead letters are not counted.
    pub max_unread_bytes: u64,
    /// When dead letters take more than this, the older half goes.
    pub dead_letter_bytes: u64,
    /// What a partition keeps in memory for a subscriber that is a little behind.
    pub hand_off_bytes: usize,
    /// How long an append waits before it answers that the log is not available.
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

/// What the log takes from the world around it.
#[derive(Clone)]
pub struct Components {
    pub clock: Clock,
    /// Used only where no log is yet.
    pub new_identity: [u8; 16],
}

impl Components {
    pub fn system() -> Self {
        let clock = || {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            since_epoch.as_micros() as i64
        };
        Self { clock: Arc::new(clock), new_identity: uuid::Uuid::new_v4().into_bytes() }
    }
}

/// The log in a directory. Dropping it closes it, and blocks meanwhile; `close` is the polite way.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Open as long as the committer lives.
    running: watch::Receiver<()>,
}

/// What appenders, readers and the committer have in common.
struct Shared {
    settings: Settings,
    components: Components,
    engine_path: PathBuf,
    layout: Layout,
    identity: [u8; 16],
    /// None while it is closed: for ever, or until the committer has opened it again.
    engine: RwLock<Option<Engine>>,
    queue: Queue,
    partitions: Vec<Partition>,
    /// By topic: something became readable, or free to be claimed, or the log was closed.
    news: [Notify; TOPICS.len()],
    next_subscription: AtomicU64,
}

impl EmbeddedLog {
    /// Opens the log in `path`, or makes one.
    pub async fn open(path: impl Into<PathBuf>, settings: Settings) -> Result<Self> {
        Self::open_with(path, settings, Components::system()).await
    }

    pub async fn open_with(
        path: impl Into<PathBuf>,
        settings: Settings,
        components: Components,
    ) -> Result<Self> {
        let path = path.into();
        tokio::task::spawn_blocking(move || Self::open_blocking(&path, settings, components))
            .await
            .map_err(|failure| Error::unavailable(format!("opening it was interrupted: {failure}")))?
    }

    fn open_blocking(path: &Path, settings: Settings, components: Components) -> Result<Self> {
        settings.validate()?;
        let lock = lock(path)?;
        let shared = Arc::new(Shared::open(path, settings, components)?);
        let committer = Committer::new(shared.clone(), lock);
        let (held, running) = watch::channel(());
        let work = move || {
            let _held = held;
            committer.run();
        };
        let thread = std::thread::Builder::new()
            .name("log-committer".into())
            .spawn(work)
            .map_err(|source| unavailable("its thread cannot be started", source))?;
        Ok(Self { shared, committer: Mutex::new(Some(thread)), running })
    }

    /// Returns when the committer has ended: the log was closed, or the committer has panicked, after which nothing is ever
    /// appended and only a new process helps. Cancel-safe.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Takes no more appends, writes and answers those that wait, and closes the files.
    pub async fn close(&self) -> Result<()> {
        let Some(thread) = self.stop() else { return Ok(()) };
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .map_err(|failure| Error::unavailable(format!("closing it was interrupted: {failure}")))?
            .map_err(|_| Error::unavailable("its committer has panicked"))
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.shared.queue.close();
        self.committer.lock().expect("nobody panics while holding the handle").take()
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
            tracing::error!("the committer of the log has panicked");
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
            // From here on the committer takes the records back, unless it has just answered.
            answer.close();
            answer
                .try_recv()
                .unwrap_or_else(|_| Err(Error::unavailable(format!("it took nothing within {wait:?}"))))
        })
    }

    /// What is readable is known also without the engine; but whoever asks wants to know whether the log works.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        if self.shared.engine().is_none() {
            return Err(Error::unavailable(
                "its engine is closed: it failed and is being opened again, or the log is closed",
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
        tokio::task::spawn_blocking(move || shared.drop_tables(slot))
            .await
            .map_err(|failure| Error::unavailable(format!("trimming was interrupted: {failure}")))
    }
}

impl Shared {
    fn open(path: &Path, settings: Settings, components: Components) -> Result<Self> {
        let engine_path = path.join("engine");
        let layout = Layout { ingestion_partitions: settings.ingestion_partitions };
        if !engine_path.exists() {
            engine::create(&path.join("engine.new"), &engine_path, layout, components.new_identity)?;
        }
        let engine = Engine::open(&engine_path, layout)?;
        let identity = engine.identity();
        let partitions =
            layout.all_slots().map(|slot| Ok(Partition::new(engine.extent(slot)?))).collect::<Result<_>>()?;
        Ok(Self {
            settings,
            components,
            engine_path,
            layout,
            identity,
            engine: RwLock::new(Some(engine)),
            queue: Queue::default(),
            partitions,
            news: Default::default(),
            next_subscription: AtomicU64::new(0),
        })
    }

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().expect("nobody panics while changing the engine")
    }

    fn engine_mut(&self) -> RwLockWriteGuard<'_, Option<Engine>> {
        self.engine.write().expect("nobody panics while changing the engine")
    }

    /// Closing waits for the engine's threads: nobody else waits meanwhile, as the lock is free by then.
    fn engine_close(&self) {
        let closed = self.engine_mut().take();
        drop(closed);
    }

    fn news(&self, topic: Topic) -> &Notify {
        &self.news[layout::index(topic)]
    }

    fn announce_all(&self) {
        self.news.iter().for_each(Notify::notify_waiters);
    }

    /// Dead letters make room for themselves.
    fn has_room(&self, topic: Topic) -> bool {
        let slots = self.layout.slots(topic);
        let unread: u64 =
            self.partitions[slots].iter().map(|partition| partition.lock().extent().bytes()).sum();
        topic == Topic::DeadLetters || unread < self.settings.max_unread_bytes
    }

    /// Frees what was trimmed. Blocks. Should it fail, the next trim frees it too.
    fn drop_tables(&self, slot: usize) {
        let first = self.partitions[slot].lock().extent().first;
        if let Some(Err(error)) = self.engine().as_ref().map(|engine| engine.drop_tables(slot, first)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "trimmed records still take space");
        }
    }
}

/// Outlives every reopening of the engine, so that no other process gets in between.
fn lock(path: &Path) -> Result<File> {
    let open = || {
        std::fs::create_dir_all(path)?;
        // Or it is lost with the power, and with it what will be in it.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        File::options().create(true).truncate(false).write(true).open(path.join("lock"))
    };
    let file =
        open().map_err(|source| unavailable(&format!("`{}` cannot be made", path.display()), source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            reason: format!(
                "the log in `{}` is open in another process: stop that one, or choose another directory",
                path.display()
            ),
        }),
        Err(TryLockError::Error(source)) => {
            Err(unavailable(&format!("`{}` cannot be locked", path.display()), source))
        }
    }
}

fn unavailable(reason: &str, source: std::io::Error) -> Error {
    Error::Unavailable { reason: reason.into(), source: Some(Arc::new(source)) }
}

#[cfg(test)]
mod tests;
