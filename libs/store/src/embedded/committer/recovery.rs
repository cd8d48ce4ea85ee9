//! Recovery after an engine error: the engine accepts no more writes, so it is closed and
//! reopened until that succeeds.
//!
//! During recovery, calls return `Unavailable`. Commits that were visible before the error are
//! kept: where the engine has lost them, they are rewritten from memory, so reopening within the
//! process loses nothing. Commits in progress that were not yet visible are cut off the journal and
//! refused, unless they had already moved beyond the journal; their callers are then answered once
//! the commits are durable. These callers wait until one opening has shown which case applies,
//! which needs no disk space. Older snapshots end, and checks against their versions fail.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::super::commit_mark::CommitMark;
use super::super::effects::Effects;
use super::super::engine::Engine;
use super::super::recent_writes::RecentWrites;
use super::super::shared;
use super::request::{PendingReplies, Reply};
use super::{Committer, next_opening};
use crate::{Error, Result, Version};

/// Reopening takes 30 ms; a full disk needs a human.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The store was closed while it had no engine.
pub(super) struct StoppedWhileRecovering {
    pub(super) error: Error,
    pub(super) close_request: Option<Reply<()>>,
}

impl Committer {
    /// Reopens the engine, retrying until it succeeds. With `closing`, makes only one
    /// attempt.
    pub(super) fn recover(
        &mut self,
        engine: Engine,
        error: Error,
        mut pending: PendingReplies,
        closing: bool,
    ) -> Result<Engine, StoppedWhileRecovering> {
        tracing::error!(error = shared::error_chain(&error), "storage engine failed; reopening it");
        // Any error other than a full disk may mean that the kernel has lost pages.
        self.sync_failed |= !error.is_out_of_space();
        let mut reason = shared::recovering_error(error);
        self.shared.close_engine(reason.clone());
        self.reclaimer.finish();
        drop(engine);
        let mut pause = Duration::ZERO;
        let mut is_resolved = false;
        loop {
            self.refuse_during(pause, &reason)?;
            let resolved = if is_resolved { Ok(()) } else { self.resolve_pending(&mut pending, &reason) };
            is_resolved = resolved.is_ok();
            match resolved.and_then(|()| self.reopen()) {
                Ok(engine) => {
                    pending.answer_visible();
                    pending.answer_durable();
                    tracing::info!(version = self.version.0, "storage engine recovered");
                    return Ok(engine);
                }
                Err(error) if closing => return Err(StoppedWhileRecovering { error, close_request: None }),
                Err(error) => {
                    tracing::warn!(
                        error = shared::error_chain(&error),
                        "failed to reopen storage engine; will retry"
                    );
                    reason = shared::recovering_error(error);
                    self.shared.close_engine(reason.clone());
                }
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Refuses requests for the duration of `pause`; callers had queued them before they
    /// saw the error.
    fn refuse_during(&self, pause: Duration, reason: &Error) -> Result<(), StoppedWhileRecovering> {
        let end = Instant::now() + pause;
        loop {
            match self.requests.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    if let Some(answer) = self.gather(first).refuse(reason) {
                        return Err(StoppedWhileRecovering {
                            error: reason.clone(),
                            close_request: Some(answer),
                        });
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StoppedWhileRecovering { error: reason.clone(), close_request: None });
                }
            }
        }
    }

    /// Determines the outcome of the commits in progress. Commits kept here are kept for
    /// good.
    fn resolve_pending(&mut self, pending: &mut PendingReplies, reason: &Error) -> Result<()> {
        Engine::discard_after(&self.directory, self.visible)?;
        let found = Engine::reopen(&self.directory, &self.settings)?.version()?;
        self.version = self.visible.max(found.min(self.version));
        self.unsynced.truncate_after(self.version);
        pending.refuse_after(self.version, reason);
        Ok(())
    }

    fn reopen(&mut self) -> Result<Engine> {
        if self.sync_failed {
            Engine::rewrite_journal(&self.directory)?;
        }
        let engine = Engine::reopen(&self.directory, &self.settings)?;
        let found = engine.version()?;
        // Restores commits that were visible, but that the engine has lost.
        for (version, effects) in self.unsynced.after(found) {
            engine.write(effects, CommitMark { version: *version, synced: self.synced })?;
        }
        let opening = next_opening(found.max(self.version));
        self.probe(&engine, opening)?;
        self.recent_writes = RecentWrites::new(opening);
        self.version = opening;
        self.visible = opening;
        self.synced = opening;
        self.unsynced.clear();
        self.sync_failed = false;
        self.shared.install_engine(engine.clone(), opening);
        Ok(engine)
    }

    /// Verifies that the engine can write and sync.
    fn probe(&mut self, engine: &Engine, opening: Version) -> Result<()> {
        engine.write(&Effects::default(), CommitMark { version: opening, synced: self.synced })?;
        engine.sync().inspect_err(|_| self.sync_failed = true)
    }
}

#[cfg(test)]
mod tests;
