//! What callers ask of the committer, and the answers that it owes.
//!
//! An answer holds its caller's place in the queue, so that waiting answers are bounded like waiting requests.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{Batch, Commit, Error, Result, Version};

pub(in super::super) enum Request {
    Commit { batch: Batch, answer: Answer<Commit> },
    Sync { answer: Answer<()> },
    Close { answer: Answer<()> },
}

pub(in super::super) struct Answer<T> {
    sender: oneshot::Sender<Result<T>>,
    _room: OwnedSemaphorePermit,
}

/// The answers owed to one group of requests, by what they wait for.
#[derive(Default)]
pub(super) struct Group {
    /// Nothing was applied, but what the caller reads next must include what it lost to.
    pub(super) undone: Vec<(Answer<Commit>, Result<Commit>)>,
    pub(super) buffered: Vec<(Answer<Commit>, Version)>,
    pub(super) durable: Vec<(Answer<Commit>, Version)>,
    pub(super) syncs: Vec<Answer<()>>,
}

impl Request {
    pub(super) fn refuse(self, error: &Error) {
        match self {
            Self::Commit { answer, .. } => answer.give(Err(error.clone())),
            Self::Sync { answer } | Self::Close { answer } => answer.give(Err(error.clone())),
        }
    }
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

impl Group {
    pub(super) fn answer_visible(&mut self) {
        self.undone.drain(..).for_each(|(answer, outcome)| answer.give(outcome));
        self.buffered.drain(..).for_each(done);
    }

    pub(super) fn waits_for_sync(&self) -> bool {
        !self.durable.is_empty() || !self.syncs.is_empty()
    }

    pub(super) fn answer_durable(&mut self) {
        self.durable.drain(..).for_each(done);
        self.syncs.drain(..).for_each(|answer| answer.give(Ok(())));
    }

    /// Answers those whose commits are not applied because nothing after `last` is.
    pub(super) fn refuse_after(&mut self, last: Version, error: &Error) {
        self.undone.drain(..).for_each(|(answer, outcome)| answer.give(outcome));
        for commits in [&mut self.buffered, &mut self.durable] {
            let lost = commits.extract_if(.., |(_, version)| *version > last);
            lost.for_each(|(answer, _)| answer.give(Err(error.clone())));
        }
    }
}

fn done((answer, version): (Answer<Commit>, Version)) {
    answer.give(Ok(Commit::Done { version, stamp: version.stamp(0) }));
}
