//! What the committer and the readers share: the open engine, or why there is none, and the snapshot to read from.
//!
//! The committer replaces both; readers hold the engine for one call only, so that it can be closed and opened again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::Clock;
use super::engine::Engine;
use super::snapshot::EmbeddedSnapshot;
use super::watches::Watches;
use crate::{Error, Result, Version};

pub(super) struct Shared {
    engine: RwLock<Result<Opened>>,
    published: Mutex<Arc<Published>>,
    pub(super) watches: Arc<Watches>,
    pub(super) clock: Clock,
}

struct Opened {
    engine: Engine,
    /// Snapshots of another opening read nothing: what they saw may be gone.
    opening: u64,
}

/// The state after a group of commits. All snapshots that are taken before the next group share it.
pub(super) struct Published {
    pub(super) snapshot: fjall::Snapshot,
    pub(super) version: Version,
    opening: u64,
}

impl Shared {
    pub(super) fn new(engine: Engine, version: Version, clock: Clock) -> Self {
        let published = Published { snapshot: engine.snapshot(), version, opening: 0 };
        Self {
            engine: RwLock::new(Ok(Opened { engine, opening: 0 })),
            published: Mutex::new(Arc::new(published)),
            watches: Arc::default(),
            clock,
        }
    }

    /// An error while the store does not take calls.
    pub(super) fn working(&self) -> Result<()> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|_| ()).map_err(Error::clone)
    }

    pub(super) fn snapshot(self: &Arc<Self>) -> Result<EmbeddedSnapshot> {
        self.working()?;
        Ok(EmbeddedSnapshot::new(self.clone(), self.published().clone(), (self.clock)()))
    }

    /// Calls `read` with the engine that a snapshot belongs to; it stays open until `read` returns.
    pub(super) fn read<T>(
        &self,
        published: &Published,
        read: impl FnOnce(&Engine) -> Result<T>,
    ) -> Result<T> {
        let opened = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        match opened.as_ref() {
            Ok(opened) if opened.opening == published.opening => read(&opened.engine),
            Ok(_) => Err(Error::SnapshotTooOld),
            Err(error) => Err(error.clone()),
        }
    }

    /// Lets new snapshots see everything that the engine holds by now.
    pub(super) fn publish(&self, engine: &Engine, version: Version) {
        let mut published = self.published();
        let opening = published.opening;
        *published = Arc::new(Published { snapshot: engine.snapshot(), version, opening });
    }

    /// Waits for the reads that are under way, and lets go of the engine. Calls answer `reason` from now on.
    pub(super) fn withdraw(&self, reason: Error) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Err(reason);
        self.watches.tell_all();
    }

    /// Takes an engine that was opened again. Snapshots of the one before are too old.
    pub(super) fn restore(&self, engine: Engine, version: Version) {
        let opening = {
            let mut published = self.published();
            let opening = published.opening + 1;
            *published = Arc::new(Published { snapshot: engine.snapshot(), version, opening });
            opening
        };
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Ok(Opened { engine, opening });
    }

    fn published(&self) -> MutexGuard<'_, Arc<Published>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn closed() -> Error {
    Error::unavailable("it is closed")
}

pub(super) fn recovering(error: Error) -> Error {
    let reason = "the engine failed and is being opened again".to_owned();
    Error::Unavailable { reason, source: Some(Arc::new(error)) }
}

/// An error with all its causes, for the log.
pub(super) fn chain(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(super) fn stopped() -> Error {
    Error::unavailable("it was closed, or its committer has failed: start the process again")
}
