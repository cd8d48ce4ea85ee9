//! LOG on one machine: files to which records are appended, and a thread for each topic that
//! writes and syncs.
//!
//! Each topic has one partition, so that its records are in one order. Records are deleted by
//! `trim` only: retention by time would lose records that no worker has applied.
//!
//! ```text
//! {path}/lock      locked by the process that has the log open
//! {path}/state     the identity, and the first offset of each topic: see `state`
//! {path}/ingestion/, {path}/control/, {path}/dead-letters/
//!                  the records of a topic: see `segments`
//! {path}/engine/   the log of an earlier version, until it is imported: see `import`
//! ```
//!
//! The path of a record: `append` puts it into the `queue` of its topic. The `committer` takes a
//! group, writes and syncs it with its `appender`, publishes it to readers through the
//! `partition`, and completes the append. A `subscription` reads it from there, or from the
//! `segments` if it has fallen too far behind.

mod appender;
mod committer;
mod disk;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod import;
mod partition;
mod queue;
mod record;
mod segment;
mod segments;
mod shares;
mod state;
mod subscription;
mod topic;

pub use disk::{Disk, DiskFile, SystemDisk};

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    Append, Error, LogInspector, LogReader, LogWriter, NewRecord, Result, Subscription, Topic, TopicInfo,
};
use committer::Committer;
use segments::Segments;
use state::{FirstOffsets, StateFile};
use subscription::EmbeddedSubscription;
use topic::TopicLog;

const TOPICS: [Topic; 3] = [Topic::Ingestion, Topic::Control, Topic::DeadLetters];

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Bound on the untrimmed bytes of a topic, beyond which appends wait: appends of a key that has more
    /// than is free, or all appends. Control events have no key, so they take at most half of it. Dead
    /// letters are not counted.
    pub max_unread_bytes: u64,
    /// Size limit of the dead letters, beyond which the oldest are deleted.
    pub dead_letter_bytes: u64,
    /// Size at which records continue in a new file. Trimming deletes whole files.
    pub segment_bytes: u64,
    /// Memory per topic for handing new records directly to a subscriber that lags slightly.
    pub hand_off_bytes: usize,
    /// Time that an append waits before it fails because the log is unavailable.
    pub append_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_unread_bytes: 1 << 30,
            dead_letter_bytes: 64 << 20,
            segment_bytes: 16 << 20,
            hand_off_bytes: 16 << 20,
            append_wait: Duration::from_secs(40),
        }
    }
}

impl Settings {
    pub fn validate(&self) -> Result<()> {
        if self.max_unread_bytes == 0 {
            return Err(Error::Topic {
                reason: "`max_unread_bytes` is 0, so nothing could ever be appended: set it to at least 1"
                    .into(),
            });
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
    pub disk: Arc<dyn Disk>,
}

impl Deps {
    pub fn system() -> Self {
        Self {
            clock: Arc::new(|| {
                let since_epoch =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                since_epoch.as_micros() as i64
            }),
            new_identity: uuid::Uuid::new_v4().into_bytes(),
            disk: Arc::new(SystemDisk),
        }
    }
}

/// The log in a directory. Dropping it blocks until it is closed; call `close` instead.
pub struct EmbeddedLog {
    /// In the order of `TOPICS`.
    topics: Vec<Arc<TopicLog>>,
    identity: [u8; 16],
    committers: Mutex<Vec<JoinHandle<()>>>,
    /// True once a committer has ended.
    has_ended: watch::Receiver<bool>,
    /// Locked until all committers have ended.
    lock: File,
}

impl EmbeddedLog {
    /// Opens the log in `path`, or creates it.
    pub async fn open(path: impl Into<PathBuf>, settings: Settings) -> Result<Self> {
        Self::open_with(path, settings, Deps::system()).await
    }

    pub async fn open_with(path: impl Into<PathBuf>, settings: Settings, deps: Deps) -> Result<Self> {
        let path = path.into();
        tokio::task::spawn_blocking(move || Self::open_blocking(&path, &settings, &deps))
            .await
            .map_err(|failure| Error::unavailable(format!("opening was interrupted: {failure}")))?
    }

    fn open_blocking(path: &Path, settings: &Settings, deps: &Deps) -> Result<Self> {
        settings.validate()?;
        let lock = lock_directory(path)?;
        if !StateFile::path(path).exists() && !import::import(path, deps)? {
            create(path, deps)?;
        }
        import::replace_imported(path)
            .map_err(|source| unavailable("failed to delete the log of an earlier version", source))?;
        let state = Arc::new(StateFile::open(deps.disk.clone(), path)?);
        let mut topics = Vec::new();
        for topic in TOPICS {
            topics.push(TopicLog::open(path, topic, settings, deps, state.clone())?);
        }
        let (ended, has_ended) = watch::channel(false);
        let ended = Arc::new(ended);
        let mut log = Self {
            topics: Vec::new(),
            identity: state.identity,
            committers: Mutex::default(),
            has_ended,
            lock,
        };
        for (topic, appender) in topics {
            let committer = Committer::new(topic.clone(), appender);
            let guard = EndGuard(ended.clone());
            let thread = std::thread::Builder::new()
                .name("log-committer".into())
                .spawn(move || {
                    let _guard = guard;
                    committer.run();
                })
                .map_err(|source| unavailable("failed to start the committer thread", source))?;
            log.topics.push(topic);
            log.committers.get_mut().expect("no thread has the handles yet").push(thread);
        }
        Ok(log)
    }

    /// Returns once a committer has ended: the log was closed, the content of the disk has become
    /// unknown, or the committer panicked. Nothing can be appended then until the process restarts.
    /// Cancel-safe.
    pub async fn ended(&self) {
        let mut has_ended = self.has_ended.clone();
        // An error says that all committers have ended.
        drop(has_ended.wait_for(|has_ended| *has_ended).await);
    }

    /// Stops accepting appends, completes the pending ones, and closes the files.
    pub async fn close(&self) -> Result<()> {
        let threads = self.stop();
        tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join))
            .await
            .map_err(|failure| Error::unavailable(format!("closing was interrupted: {failure}")))?
            .map_err(|_| Error::unavailable("a committer has panicked"))?;
        self.unlock();
        Ok(())
    }

    fn stop(&self) -> Vec<JoinHandle<()>> {
        for topic in &self.topics {
            topic.queue.close();
        }
        std::mem::take(&mut self.committers.lock().expect("no thread panics while holding the handles"))
    }

    /// Unlocks the directory. Closing the file is not enough: a child process that is just
    /// being spawned may still share it.
    fn unlock(&self) {
        if let Err(failure) = self.lock.unlock() {
            tracing::warn!(error = &failure as &dyn std::error::Error, "failed to unlock the log directory");
        }
    }

    fn topic(&self, topic: Topic) -> &Arc<TopicLog> {
        &self.topics[topic::index(topic)]
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        for thread in self.stop() {
            if thread.join().is_err() {
                tracing::error!("log committer panicked");
            }
        }
        self.unlock();
    }
}

/// Announces that its thread ends, also by a panic.
struct EndGuard(Arc<watch::Sender<bool>>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

#[async_trait]
impl LogInspector for EmbeddedLog {
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        let partition = self.topic(topic).describe()?;
        Ok(TopicInfo { identity: self.identity, partitions: vec![partition] })
    }
}

#[async_trait]
impl LogWriter for EmbeddedLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        if records.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let topic = self.topic(topic);
        let wait = topic.settings.append_wait;
        let deadline = tokio::time::Instant::now() + wait;
        let mut answer = match topic.start_append(records) {
            Ok(answer) => answer,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        Box::pin(async move {
            if let Ok(answered) = tokio::time::timeout_at(deadline, &mut answer).await {
                return answered.unwrap_or_else(|_| Err(queue::closed()));
            }
            // Closing the channel abandons the append: the committer drops it, unless it is
            // just being written.
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
}

#[async_trait]
impl LogReader for EmbeddedLog {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(EmbeddedSubscription::new(self.topic(topic).clone())))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        let topic = self.topic(topic).clone();
        tokio::task::spawn_blocking(move || topic.trim(partition, offset))
            .await
            .map_err(|failure| Error::unavailable(format!("trimming was interrupted: {failure}")))?
    }
}

/// Creates an empty log. The state file is written last, so an interrupted creation is repeated.
fn create(path: &Path, deps: &Deps) -> Result<()> {
    let failed = |source| unavailable(&format!("failed to create the log in `{}`", path.display()), source);
    for topic in TOPICS {
        let directory = path.join(topic::directory_name(topic));
        if Segments::has_records(&directory).map_err(failed)? {
            return Err(Error::corrupt(format!(
                "`{}` is missing, but `{}` has records: restore the data directory from a backup, or move the log's directory \
                 away to continue without unapplied records",
                StateFile::path(path).display(),
                directory.display()
            )));
        }
        Segments::create(directory, deps.new_identity, deps.disk.clone(), 0).map_err(failed)?;
    }
    StateFile::create(&*deps.disk, path, &deps.new_identity, FirstOffsets::default()).map_err(failed)
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    std::fs::create_dir_all(path)?;
    // Syncs the parent, or a power failure could lose the new directory with all its content.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    File::options().create(true).truncate(false).write(true).open(path.join("lock"))
}

/// Locks the log's directory, so that no other process can take it.
fn lock_directory(path: &Path) -> Result<File> {
    let file = open_lock_file(path).map_err(|source| {
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

fn unavailable(reason: &str, source: io::Error) -> Error {
    Error::Unavailable { reason: reason.into(), source: Some(Arc::new(source)) }
}

#[cfg(test)]
mod tests;
