//! The writer thread: takes the queued requests, applies each batch individually, syncs once,
//! and answers.
//!
//! There is no artificial delay to collect larger groups: while one group syncs, the next one
//! queues. Concurrent requests have no defined order, so the buffered commits of a group go
//! first and become visible and are answered without waiting for the sync; the others become
//! visible once durable. See `recovery` for the handling of engine errors.

mod recovery;
mod request;
mod unsynced_commits;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::commit_mark::CommitMark;
use super::directory_lock::DirectoryLock;
use super::effects::Effects;
use super::engine::Engine;
use super::evaluation::{checks_hold, evaluate};
use super::recent_writes::RecentWrites;
use super::reclaim::{self, Reclaimer};
use super::shared::{self, Shared};
use super::{Clock, Settings};
use crate::{Batch, Commit, Durability, Error, Result, Version};
use recovery::StoppedWhileRecovering;
use request::{PendingReplies, RequestGroup};
pub(super) use request::{Reply, Request};
use unsynced_commits::UnsyncedCommits;

/// A group ends at whichever limit comes first. Measurements showed no gain from larger groups.
const GROUP_REQUESTS: usize = 512;
const GROUP_BYTES: usize = 4 << 20;
/// Buffered commits are synced once they reach this size, so that a later sync never takes
/// long, or after an idle period. The engine itself syncs nearly as often, whenever a memtable
/// is full.
const UNSYNCED_BYTES: usize = 4 << 20;
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    directory: PathBuf,
    settings: Settings,
    lock: DirectoryLock,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    /// Version of the last batch applied, visible or not.
    version: Version,
    /// Version of the snapshot published last. Nothing up to this version may be lost while
    /// the process lives.
    visible: Version,
    /// Last version covered by a sync.
    synced: Version,
    recent_writes: RecentWrites,
    /// The commits after `synced`.
    unsynced: UnsyncedCommits,
    /// True if the kernel may have discarded dirty pages of the journal.
    sync_failed: bool,
    reclaimer: Reclaimer,
}

/// Notifies callers if the thread panics; every other exit has already notified them.
struct PanicNotifier(Arc<Shared>);

impl Drop for PanicNotifier {
    fn drop(&mut self) {
        if self.0.check_available().is_ok() {
            self.0.close_engine(shared::stopped_error());
        }
    }
}

impl Committer {
    /// Opens the store on a new thread, which ends when the store is closed or dropped. The
    /// thread holds `running` for as long as it lives.
    pub(super) async fn start(
        directory: PathBuf,
        settings: Settings,
        clock: Clock,
        requests: Receiver<Request>,
        running: watch::Sender<()>,
    ) -> Result<Arc<Shared>> {
        let (answer, opened) = oneshot::channel();
        let thread = std::thread::Builder::new().name("store-committer".to_owned());
        let spawned = thread.spawn(move || {
            let _running = running;
            match Self::open(directory, settings, clock, requests) {
                Ok((committer, engine)) => {
                    let _panic_notifier = PanicNotifier(committer.shared.clone());
                    if answer.send(Ok(committer.shared.clone())).is_ok() {
                        committer.run(engine);
                    }
                }
                // This fails only if the opening was canceled, and then there is
                // no one to answer.
                Err(error) => drop(answer.send(Err(error))),
            }
        });
        spawned.map_err(|error| Error::Unavailable {
            reason: "failed to start the committer thread".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        opened.await.unwrap_or_else(|_| Err(shared::stopped_error()))
    }

    fn open(
        directory: PathBuf,
        settings: Settings,
        clock: Clock,
        requests: Receiver<Request>,
    ) -> Result<(Self, Engine)> {
        let lock = DirectoryLock::acquire(&directory)?;
        let engine = Engine::open(&directory, &settings)?;
        let version = next_opening(engine.version()?);
        let committer = Self {
            directory,
            settings,
            lock,
            shared: Arc::new(Shared::new(engine.clone(), version, clock)),
            requests,
            version,
            visible: version,
            synced: version,
            recent_writes: RecentWrites::new(version),
            unsynced: UnsyncedCommits::default(),
            sync_failed: false,
            reclaimer: Reclaimer::default(),
        };
        Ok((committer, engine))
    }

    fn run(mut self, mut engine: Engine) {
        loop {
            let Some(mut requests) = self.next_requests() else { return self.close(engine, None) };
            let mut pending = PendingReplies::default();
            if let Err(error) = self.serve(&engine, &mut requests, &mut pending) {
                let close = requests.refuse(&error);
                engine = match self.recover(engine, error, pending, close.is_some()) {
                    Ok(engine) => engine,
                    Err(StoppedWhileRecovering { error, close_request }) => {
                        return self.close_without_engine(error, close.or(close_request));
                    }
                };
                requests.close = close;
            }
            if requests.close.is_some() {
                return self.close(engine, requests.close);
            }
        }
    }

    /// Returns None once all senders are gone.
    fn next_requests(&self) -> Option<RequestGroup> {
        let wait = if self.unsynced.is_empty() { reclaim::INTERVAL } else { IDLE };
        match self.requests.recv_timeout(wait) {
            Ok(first) => Some(self.gather(first)),
            Err(RecvTimeoutError::Timeout) => Some(RequestGroup { is_idle: true, ..RequestGroup::default() }),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn gather(&self, first: Request) -> RequestGroup {
        let mut requests = RequestGroup::default();
        let mut count = 0;
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            count += 1;
            bytes += request.bytes();
            requests.push(request);
            let more = count < GROUP_REQUESTS && bytes < GROUP_BYTES && requests.close.is_none();
            next = more.then(|| self.requests.try_recv().ok()).flatten();
        }
        requests
    }

    /// Applies the requests and answers them. After an error, `requests` holds the unprocessed
    /// requests, and `pending` holds the requests whose outcome is still unknown.
    fn serve(
        &mut self,
        engine: &Engine,
        requests: &mut RequestGroup,
        pending: &mut PendingReplies,
    ) -> Result<()> {
        while let Some((batch, answer)) = requests.buffered.pop_front() {
            self.commit(engine, batch, answer, pending)?;
        }
        if self.version > self.visible {
            engine.flush()?;
            self.publish(engine);
        }
        pending.answer_visible();

        while let Some((batch, answer)) = requests.synced.pop_front() {
            self.commit(engine, batch, answer, pending)?;
        }
        pending.syncs.append(&mut requests.syncs);
        let is_due = requests.is_idle && !self.unsynced.is_empty();
        if pending.waits_for_sync() || is_due || self.unsynced.bytes() > UNSYNCED_BYTES {
            self.sync(engine)?;
        }
        pending.answer_visible();
        pending.answer_durable();
        if self.reclaimer.look(engine)? {
            self.delete_replaced_files(engine)?;
        }
        Ok(())
    }

    /// Deletes the files that a merge has replaced, unless an older snapshot needs them.
    fn delete_replaced_files(&mut self, engine: &Engine) -> Result<()> {
        // The published snapshot must be newer than the merge, and the memtable not empty. So the
        // mark of the last commit is rewritten.
        engine.write(&Effects::default(), CommitMark { version: self.version, synced: self.synced })?;
        self.shared.publish(engine, self.visible);
        engine.seal_memtable()
    }

    fn sync(&mut self, engine: &Engine) -> Result<()> {
        engine.sync().inspect_err(|_| self.sync_failed = true)?;
        self.synced = self.version;
        self.publish(engine);
        self.unsynced.clear();
        Ok(())
    }

    /// Makes all applied commits visible.
    fn publish(&mut self, engine: &Engine) {
        if self.version == self.visible {
            return;
        }
        self.shared.publish(engine, self.version);
        for (_, effects) in self.unsynced.after(self.visible) {
            self.shared.watches.notify(effects.writes.keys(), &effects.cleared);
        }
        self.visible = self.version;
    }

    fn commit(
        &mut self,
        engine: &Engine,
        batch: Batch,
        answer: Reply<Commit>,
        pending: &mut PendingReplies,
    ) -> Result<()> {
        let durability = batch.durability;
        let version = Version(self.version.0 + 1);
        let effects = match self.evaluate(engine, batch, version) {
            Ok(Some(effects)) => effects,
            refused => {
                pending.without_effect.push((answer, refused.map(|_| Commit::Conflict)));
                return Ok(());
            }
        };
        match durability {
            Durability::Buffered => pending.buffered.push((answer, version)),
            Durability::Synced => pending.durable.push((answer, version)),
        }
        // Set before the write, because a failed write may still have reached the journal.
        self.version = version;
        self.recent_writes.record(version, (self.shared.clock)(), &effects);
        let effects = self.unsynced.push(version, effects);
        engine.write(effects, CommitMark { version, synced: self.synced })
    }

    /// Returns None if a check does not hold.
    fn evaluate(&self, engine: &Engine, batch: Batch, version: Version) -> Result<Option<Effects>> {
        if !checks_hold(&batch, engine, &self.recent_writes)? {
            return Ok(None);
        }
        evaluate(batch, version.stamp(0), engine).map(Some)
    }

    fn close(mut self, engine: Engine, close: Option<Reply<()>>) {
        self.shared.close_engine(shared::closed_error());
        self.reclaimer.finish();
        let closed = engine.close(&self.directory);
        self.finish(closed, close);
    }

    /// Ends without an engine; unsynced commits may be lost.
    fn close_without_engine(self, error: Error, close: Option<Reply<()>>) {
        self.shared.close_engine(shared::closed_error());
        self.finish(Err(error), close);
    }

    fn finish(self, outcome: Result<()>, close: Option<Reply<()>>) {
        drop(self.lock);
        match (close, outcome) {
            (Some(answer), outcome) => answer.send(outcome),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                let error = shared::error_chain(&error);
                tracing::error!(
                    error,
                    "failed to close a dropped store; its last buffered commits may be lost"
                );
            }
        }
    }
}

/// Versions lost in a crash are never reused: each opening starts a new range of versions.
fn next_opening(version: Version) -> Version {
    Version(((version.0 >> 32) + 1) << 32)
}
