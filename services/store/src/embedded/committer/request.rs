//! What callers ask of the committer, and the answers that it owes.
//!
//! An answer holds its caller's place in the queue, so that waiting answers are bounded like waiting requests.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{Batch, Commit, Result};

pub(in super::super) enum Request {
    Commit { batch: Batch, answer: Answer<Commit> },
    Sync { answer: Answer<()> },
    Close { answer: Answer<()> },
}

pub(in super::super) struct Answer<T> {
    sender: oneshot::Sender<Result<T>>,
    _room: OwnedSemaphorePermit,
}

impl<T> Answer<T> {
    pub(in super::super) fn new(sender: oneshot::Sender<Result<T>>, room: OwnedSemaphorePermit) -> Self {
        Self { sender, _room: room }
    }

    pub(super) fn give(self, answer: Result<T>) {
        // A caller that has gone away wants no answer.
        drop(self.sender.send(answer));
    }
}

/// The answers owed to one group of requests, by what they wait for.
#[derive(Default)]
pub(super) struct Group {
    pub(super) visible: Vec<(Answer<Commit>, Result<Commit>)>,
    pub(super) durable: Vec<(Answer<Commit>, Commit)>,
    pub(super) syncs: Vec<Answer<()>>,
}

impl Group {
    /// Nothing was applied, but what the caller reads next must include what it lost to.
    pub(super) fn settled(&mut self, answer: Answer<Commit>, outcome: Result<Commit>) -> Result<()> {
        self.visible.push((answer, outcome));
        Ok(())
    }

    pub(super) fn answer_visible(&mut self) {
        self.visible.drain(..).for_each(|(answer, outcome)| answer.give(outcome));
    }

    pub(super) fn waits_for_sync(&self) -> bool {
        !self.durable.is_empty() || !self.syncs.is_empty()
    }

    pub(super) fn answer_durable(&mut self) {
        self.durable.drain(..).for_each(|(answer, done)| answer.give(Ok(done)));
        self.syncs.drain(..).for_each(|answer| answer.give(Ok(())));
    }
}
