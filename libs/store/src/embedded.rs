//! The embedded store: fjall, an LSM engine, with a single committer thread.
//!
//! One thread evaluates and writes every batch, so commits are serializable by construction and
//! one sync covers all queued commits. It also keeps engine writes, which may stall, off the
//! async threads. Reads use the most recently published snapshot. There is deliberately no
//! second writer, and no direct reads from the engine.

mod commit_mark;
mod committer;
mod directory_lock;
mod effects;
mod engine;
mod evaluation;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inspection;
mod journal;
mod manifest;
mod page;
mod recent_writes;
mod reclaim;
mod salvage;
mod shared;
mod snapshot;
mod sweep;
mod watches;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore, oneshot, watch};

use crate::{Batch, Commit, Error, Key, Result, Snapshot, Store, Value};
use committer::{Committer, Reply, Request};
pub use inspection::{Inspection, inspect};
pub use manifest::{Damage, DamageKind};
pub use salvage::{Loss, LossKind, Salvage, salvage};
use shared::Shared;
use snapshot::EmbeddedSnapshot;

/// Source of the current time; tests pass a clock that they can move.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Operator settings. Everything else was measured and is a constant in the engine module.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Size of the cache for blocks of data files.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20 }
    }
}

/// Bytes of batches that may wait for the committer: three of maximum size. Further callers
/// wait before they queue.
const QUEUE_BYTES: usize = 32 << 20;
/// Bytes represented by one queue permit; a small batch takes one.
const PERMIT_BYTES: usize = 4 << 10;
const QUEUE_PERMITS: usize = QUEUE_BYTES / PERMIT_BYTES;

/// A store in its own directory. Close it at the end; if it is dropped instead, it closes in
/// the background some time later.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: SyncSender<Request>,
    room: Arc<Semaphore>,
    closed: OnceCell<Result<()>>,
    /// Remains open while the committer runs.
    running: watch::Receiver<()>,
}

impl EmbeddedStore {
    /// Opens the store in `directory`, which is created if missing.
    pub async fn open(directory: impl AsRef<Path>, settings: Settings) -> Result<Self> {
        Self::open_with_clock(directory, settings, Arc::new(Instant::now)).await
    }

    /// Like `open`, with a clock that tests can move; it determines when a snapshot is too
    /// old.
    pub async fn open_with_clock(
        directory: impl AsRef<Path>,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        // Every request holds a permit, so a queue of this length is never full.
        let (queue, requests) = std::sync::mpsc::sync_channel(QUEUE_PERMITS);
        let (held, running) = watch::channel(());
        let shared = Committer::start(directory, settings, clock, requests, held).await?;
        let room = Arc::new(Semaphore::new(QUEUE_PERMITS));
        Ok(Self { shared, queue, room, closed: OnceCell::new(), running })
    }

    /// Returns once the committer has ended: it was closed, or it panicked, in which case
    /// the store is unusable until the process restarts. Cancel-safe.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Commits all queued batches, syncs, and releases the directory. Later calls return
    /// `Unavailable`.
    pub async fn close(&self) -> Result<()> {
        self.closed.get_or_init(|| self.request(0, |answer| Request::Close { answer })).await.clone()
    }

    async fn request<T>(&self, bytes: usize, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).expect("a batch has at most 10 MB");
        let room =
            self.room.clone().acquire_many_owned(permits).await.expect("the semaphore is never closed");
        let (sender, answered) = oneshot::channel();
        self.queue.try_send(request(Reply::new(sender, room))).map_err(|_| shared::stopped_error())?;
        answered.await.unwrap_or_else(|_| Err(shared::stopped_error()))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(EmbeddedSnapshot::take(&self.shared)?))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        batch.validate()?;
        self.shared.check_available()?;
        self.request(batch.bytes(), |answer| Request::Commit { batch, answer }).await
    }

    async fn sync(&self) -> Result<()> {
        self.shared.check_available()?;
        self.request(0, |answer| Request::Sync { answer }).await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        // Watches before reading, so that no write in between is missed.
        let mut watch = self.shared.watches.watch(key);
        loop {
            // In its own statement: a snapshot that lived during the wait would keep every row that is
            // replaced.
            let found = EmbeddedSnapshot::take(&self.shared)?.get(key).await;
            match found {
                Ok(value) if value.as_ref() == seen => watch.wait().await,
                // The engine may have been reopened since; callers expect spurious returns.
                Ok(_) | Err(Error::SnapshotTooOld) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn clears_ranges_at_once(&self) -> bool {
        false
    }

    fn is_remote(&self) -> bool {
        false
    }
}
