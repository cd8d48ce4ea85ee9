//! After an error the engine takes no more writes: it is closed and opened again, until that works.
//!
//! Meanwhile calls answer `Unavailable`. Whoever waits for a commit that was being written learns what became of it:
//! applied if it had been seen or is found in the engine, else not applied, now and for good. What had been seen is
//! written again from memory where the engine has lost it, so an opening within the process takes nothing back; but
//! snapshots of before end, and checks against their versions fail.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::super::effects::Effects;
use super::super::engine::{Engine, Mark};
use super::super::shared;
use super::super::window::Window;
use super::request::{Answer, Group, Request};
use super::{Committer, next_opening};
use crate::{Error, Result, Version};

/// An engine opens in 30 ms; a full disk takes a human.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The store was closed while it had no engine.
pub(super) struct Stopped {
    pub(super) error: Error,
    pub(super) asked_by: Option<Answer<()>>,
}

impl Committer {
    /// With `closing`, one attempt is all.
    pub(super) fn recover(
        &mut self,
        engine: Engine,
        error: Error,
        mut group: Group,
        closing: bool,
    ) -> Result<Engine, Stopped> {
        tracing::error!(error = shared::chain(&error), "the engine failed and is opened again");
        self.sync_failed |= !error.is_out_of_space();
        let mut reason = shared::recovering(error);
        self.shared.withdraw(reason.clone());
        drop(engine);
        let mut pause = Duration::ZERO;
        let mut decided = false;
        loop {
            self.refuse_for(pause, &reason)?;
            match self.reopen(&mut group, &mut decided, &reason) {
                Ok(engine) => {
                    group.answer_visible();
                    group.answer_durable();
                    tracing::info!(version = self.version.0, "the engine works again");
                    return Ok(engine);
                }
                Err(error) if closing => return Err(Stopped { error, asked_by: None }),
                Err(error) => {
                    tracing::warn!(error = shared::chain(&error), "the engine does not open yet");
                    reason = shared::recovering(error);
                    self.shared.withdraw(reason.clone());
                }
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Refuses what callers had queued before they knew.
    fn refuse_for(&self, pause: Duration, reason: &Error) -> Result<(), Stopped> {
        let end = Instant::now() + pause;
        loop {
            match self.requests.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Request::Close { answer }) => {
                    return Err(Stopped { error: reason.clone(), asked_by: Some(answer) });
                }
                Ok(request) => request.refuse(reason),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Stopped { error: reason.clone(), asked_by: None });
                }
            }
        }
    }

    fn reopen(&mut self, group: &mut Group, decided: &mut bool, reason: &Error) -> Result<Engine> {
        let engine = Engine::reopen(&self.directory, &self.settings, self.sync_failed)?;
        let found = engine.version()?;
        if !*decided {
            // Once: from here on, what is kept is kept also if the next attempt finds less.
            *decided = true;
            self.version = self.visible.max(found.min(self.version));
            self.unsynced.truncate_after(self.version);
            group.refuse_after(self.version, reason);
        }
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

    /// The store works if it can write and sync.
    fn probe(&mut self, engine: &Engine, opening: Version) -> Result<()> {
        engine.write(&Effects::default(), Mark { version: opening, synced: self.synced })?;
        engine.sync().inspect_err(|_| self.sync_failed = true)
    }
}

#[cfg(test)]
mod tests;
