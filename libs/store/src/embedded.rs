//! The embedded store: fjall, an LSM engine, behind one committer thread.
//!
//! A single thread evaluates and writes every batch, so commits are serializable by construction and one sync covers
//! all that were queued; it also keeps engine writes, which may stall, off the async threads. Reads go through the
//! snapshot that the committer published last. Deliberately absent: a second writer, and plain reads of the engine.

mod committer;
mod effects;
mod engine;
mod journal;
mod lock;
mod page;
mod shared;
mod snapshot;
mod sweep;
mod watches;
mod window;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore, oneshot, watch};

use crate::{Batch, Commit, Error, Key, Result, Snapshot, Store, Value};
use committer::{Answer, Committer, Request};
use shared::Shared;

/// Tells the time; tests pass in one that they move.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What an operator may choose. Everything else was measured and is a constant of the engine module.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Memory for blocks of data files that were read.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20 }
    }
}

/// Bytes of batches that may wait for the committer: three of the largest. More callers wait before they queue.
const QUEUE_BYTES: usize = 32 << 20;
/// What a permit of the queue stands for; a small batch takes one.
const PERMIT_BYTES: usize = 4 << 10;
const QUEUE_PERMITS: usize = QUEUE_BYTES / PERMIT_BYTES;

/// A store in a directory of its own. Close it at the end; one that is dropped closes by itself, some time later.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: SyncSender<Request>,
    room: Arc<Semaphore>,
    closed: OnceCell<Result<()>>,
    /// Open as long as the committer lives.
    running: watch::Receiver<()>,
}

impl EmbeddedStore {
    /// Opens the store in `directory`, which is made if it is missing.
    pub async fn open(directory: impl AsRef<Path>, settings: Settings) -> Result<Self> {
        Self::open_with_clock(directory, settings, Arc::new(Instant::now)).await
    }

    /// As `open`, with a clock that tests can move: it decides when a snapshot is too old.
    pub async fn open_with_clock(
        directory: impl AsRef<Path>,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        // Every request holds a permit, so a queue of that length never refuses one.
        let (queue, requests) = std::sync::mpsc::sync_channel(QUEUE_PERMITS);
        let (held, running) = watch::channel(());
        let shared = Committer::start(directory, settings, clock, requests, held).await?;
        let room = Arc::new(Semaphore::new(QUEUE_PERMITS));
        Ok(Self { shared, queue, room, closed: OnceCell::new(), running })
    }

    /// Returns when the committer has ended: it was closed, or has panicked, after which nothing works any more and only a new
    /// process helps. Cancel-safe.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Commits what is queued, syncs, and leaves the directory to the next process. Later calls answer `Unavailable`.
    pub async fn close(&self) -> Result<()> {
        let close = || self.request(0, |answer| Request::Close { answer });
        self.closed.get_or_init(close).await.clone()
    }

    async fn request<T>(&self, bytes: usize, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).expect("a batch has at most 10 MB");
        let room = self.room.clone().acquire_many_owned(permits).await.expect("it is never closed");
        let (sender, answered) = oneshot::channel();
        self.queue.try_send(request(Answer::new(sender, room))).map_err(|_| shared::stopped())?;
        answered.await.unwrap_or_else(|_| Err(shared::stopped()))
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.shared.snapshot()?))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        batch.validate()?;
        self.shared.working()?;
        self.request(batch.bytes(), |answer| Request::Commit { batch, answer }).await
    }

    async fn sync(&self) -> Result<()> {
        self.shared.working()?;
        self.request(0, |answer| Request::Sync { answer }).await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        let mut watch = self.shared.watches.watch(key);
        loop {
            match self.shared.snapshot()?.get(key).await {
                Ok(value) if value.as_ref() == seen => watch.wait().await,
                Ok(_) | Err(Error::SnapshotTooOld) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
