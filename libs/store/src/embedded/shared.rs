//! State shared by the committer and readers: the open engine (or why there is none) and the
//! current snapshot.
//!
//! The committer replaces both. Readers hold the engine only for the duration of one call, so
//! that it can be closed and reopened.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::Clock;
use super::engine::Engine;
use super::watches::Watches;
use crate::{Error, Result, Version};

pub(super) struct Shared {
    engine: RwLock<Result<OpenEngine>>,
    published: Mutex<Arc<PublishedState>>,
    pub(super) watches: Arc<Watches>,
    pub(super) clock: Clock,
}

struct OpenEngine {
    engine: Engine,
    /// Number of this opening. Snapshots of another opening cannot be read: their data may
    /// be lost.
    opening: u64,
}

/// The state after a group of commits, shared by all snapshots taken before the next group.
pub(super) struct PublishedState {
    pub(super) snapshot: fjall::Snapshot,
    pub(super) version: Version,
    opening: u64,
}

impl Shared {
    pub(super) fn new(engine: Engine, version: Version, clock: Clock) -> Self {
        let published = PublishedState { snapshot: engine.snapshot(), version, opening: 0 };
        Self {
            engine: RwLock::new(Ok(OpenEngine { engine, opening: 0 })),
            published: Mutex::new(Arc::new(published)),
            watches: Arc::default(),
            clock,
        }
    }

    /// Returns an error if the store does not accept calls at the moment.
    pub(super) fn check_available(&self) -> Result<()> {
        self.engine.read().as_ref().map(|_| ()).map_err(Error::clone)
    }

    /// Returns the state that a new snapshot reads.
    pub(super) fn current(&self) -> Result<Arc<PublishedState>> {
        self.check_available()?;
        Ok(self.published.lock().clone())
    }

    /// Calls `read` with the engine that a snapshot belongs to. The engine stays open until
    /// `read` returns.
    pub(super) fn read<T>(
        &self,
        published: &PublishedState,
        read: impl FnOnce(&Engine) -> Result<T>,
    ) -> Result<T> {
        let opened = self.engine.read();
        match opened.as_ref() {
            Ok(opened) if opened.opening == published.opening => read(&opened.engine),
            Ok(_) => Err(Error::SnapshotTooOld),
            Err(error) => Err(error.clone()),
        }
    }

    /// Makes the current content of the engine visible to new snapshots.
    pub(super) fn publish(&self, engine: &Engine, version: Version) {
        let mut published = self.published.lock();
        let opening = published.opening;
        *published = Arc::new(PublishedState { snapshot: engine.snapshot(), version, opening });
    }

    /// Waits for reads in progress and releases the engine. From now on, calls return
    /// `reason`.
    pub(super) fn close_engine(&self, reason: Error) {
        *self.engine.write() = Err(reason);
        self.watches.notify_all();
    }

    /// Installs a reopened engine. Snapshots of the previous one are too old from now on.
    pub(super) fn install_engine(&self, engine: Engine, version: Version) {
        let opening = {
            let mut published = self.published.lock();
            let opening = published.opening + 1;
            *published = Arc::new(PublishedState { snapshot: engine.snapshot(), version, opening });
            opening
        };
        *self.engine.write() = Ok(OpenEngine { engine, opening });
    }
}

pub(super) fn closed_error() -> Error {
    Error::unavailable("it is closed")
}

pub(super) fn recovering_error(error: Error) -> Error {
    let reason = "the storage engine failed and is being reopened".to_owned();
    Error::Unavailable { reason, source: Some(Arc::new(error)) }
}

/// Formats an error with all its causes, for logging.
pub(super) fn error_chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(super) fn stopped_error() -> Error {
    Error::unavailable("it was closed, or its committer has failed: restart the process")
}
