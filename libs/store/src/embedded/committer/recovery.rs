//! Recovery after an engine error: the engine accepts no more writes, so it is closed and
//! reopened until that succeeds.
//!
//! Meanwhile calls return `Unavailable`. Commits that were visible before the error are kept:
//! where the engine has lost them, they are written again from memory, so reopening within the
//! process loses nothing. Commits in progress that were not yet visible are cut off the journal
//! and refused, unless they had already moved beyond the journal; their callers are then
//! answered once the commits are durable. Those callers wait until one opening has shown which
//! case applies, which needs no disk space. Older snapshots end, and checks against their
//! versions fail.
//! their versions fail.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::super::effects::Effects;
use super::super::engine::{Engine, Mark};
use super::super::shared;
use super::super::window::Window;
use super::request::{Answer, Group};
use super::{Committer, next_opening};
use crate::{Error, Result, Version};

/// Reopening takes 30 ms; a full disk needs a human.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The store was closed while it had no engine.
pub(super) struct Stopped {
    pub(super) error: Error,
    pub(super) asked_by: Option<Answer<()>>,
}

impl Committer {
    /// Reopens the engine, retrying until it succeeds. With `closing`, makes only one
    /// attempt.
    pub(super) fn recover(
        &mut self,
        engine: Engine,
        error: Error,
        mut group: Group,
        closing: bool,
    ) -> Result<Engine, Stopped> {
        tracing::error!(error = shared::chain(&error), "storage engine failed; reopening it");
        // Any error other than a full disk may mean that the kernel has lost pages.
        self.sync_failed |= !error.is_out_of_space();
        let mut reason = shared::recovering(error);
        self.shared.withdraw(reason.clone());
        drop(engine);
        let mut pause = Duration::ZERO;
        let mut is_settled = false;
        loop {
            self.refuse_for(pause, &reason)?;
            let settled = if is_settled { Ok(()) } else { self.settle(&mut group, &reason) };
            is_settled = settled.is_ok();
            match settled.and_then(|()| self.reopen()) {
                Ok(engine) => {
                    group.answer_visible();
                    group.answer_durable();
                    tracing::info!(version = self.version.0, "storage engine recovered");
                    return Ok(engine);
                }
                Err(error) if closing => return Err(Stopped { error, asked_by: None }),
                Err(error) => {
                    tracing::warn!(
                        error = shared::chain(&error),
                        "failed to reopen storage engine; will retry"
                    );
                    reason = shared::recovering(error);
                    self.shared.withdraw(reason.clone());
                }
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Refuses requests for the duration of `pause`; callers had queued them before they
    /// saw the error.
    fn refuse_for(&self, pause: Duration, reason: &Error) -> Result<(), Stopped> {
        let end = Instant::now() + pause;
        loop {
            let stopped = |asked_by| Stopped { error: reason.clone(), asked_by };
            match self.requests.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    if let Some(answer) = self.gather(first).refuse(reason) {
                        return Err(stopped(Some(answer)));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(stopped(None)),
            }
        }
    }

    /// Determines the outcome of the commits in progress. Commits kept here are kept for
    /// good.
    fn settle(&mut self, group: &mut Group, reason: &Error) -> Result<()> {
        Engine::forget_after(&self.directory, self.visible)?;
        let found = Engine::reopen(&self.directory, &self.settings)?.version()?;
        self.version = self.visible.max(found.min(self.version));
        self.unsynced.truncate_after(self.version);
        group.refuse_after(self.version, reason);
        Ok(())
    }

    fn reopen(&mut self) -> Result<Engine> {
        if self.sync_failed {
            Engine::renew_journal(&self.directory)?;
        }
        let engine = Engine::reopen(&self.directory, &self.settings)?;
        let found = engine.version()?;
        // Restores commits that were visible, but that the engine has lost.
        for (version, effects) in self.unsynced.after(found) {
            engine.write(effects, Mark { version: *version, synced: self.synced })?;
        }
        let opening = next_opening(found.max(self.version));
        self.probe(&engine, opening)?;
        self.window = Window::new(opening);
        (self.version, self.visible, self.synced) = (opening, opening, opening);
        self.unsynced.clear();
        self.sync_failed = false;
        self.shared.restore(engine.clone(), opening);
        Ok(engine)
    }

    /// Verifies that the engine can write and sync.
    fn probe(&mut self, engine: &Engine, opening: Version) -> Result<()> {
        engine.write(&Effects::default(), Mark { version: opening, synced: self.synced })?;
        engine.sync().inspect_err(|_| self.sync_failed = true)
    }
}

#[cfg(test)]
mod tests;
