//! Requests from callers to the committer, and the pending answers.
//!
//! An answer holds its caller's queue permit, so pending answers are bounded just like pending
//! requests.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{Batch, Commit, Durability, Error, Result, Version};

pub(in super::super) enum Request {
    Commit { batch: Batch, answer: Answer<Commit> },
    Sync { answer: Answer<()> },
    Close { answer: Answer<()> },
}

pub(in super::super) struct Answer<T> {
    sender: oneshot::Sender<Result<T>>,
    _room: OwnedSemaphorePermit,
}

/// The unprocessed requests of one group.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) buffered: VecDeque<(Batch, Answer<Commit>)>,
    pub(super) synced: VecDeque<(Batch, Answer<Commit>)>,
    pub(super) syncs: Vec<Answer<()>>,
    pub(super) close: Option<Answer<()>>,
    /// True if no request arrived for a while: time to sync buffered commits.
    pub(super) is_idle: bool,
}

/// The pending answers for one group of requests, by the event they wait for.
#[derive(Default)]
pub(super) struct Group {
    /// Outcomes without an applied batch. They are still held until the group is visible,
    /// so that the caller's next read includes the commit it conflicted with.
    pub(super) undone: Vec<(Answer<Commit>, Result<Commit>)>,
    pub(super) buffered: Vec<(Answer<Commit>, Version)>,
    pub(super) durable: Vec<(Answer<Commit>, Version)>,
    pub(super) syncs: Vec<Answer<()>>,
}

impl Request {
    pub(super) fn bytes(&self) -> usize {
        if let Self::Commit { batch, .. } = self { batch.bytes() } else { 0 }
    }
}

impl Requests {
    pub(super) fn push(&mut self, request: Request) {
        match request {
            Request::Commit { batch, answer } => match batch.durability {
                Durability::Buffered => self.buffered.push_back((batch, answer)),
                Durability::Synced => self.synced.push_back((batch, answer)),
            },
            Request::Sync { answer } => self.syncs.push(answer),
            Request::Close { answer } => self.close = Some(answer),
        }
    }

    /// Refuses all requests except a close, which is returned.
    pub(super) fn refuse(&mut self, error: &Error) -> Option<Answer<()>> {
        let requests = std::mem::take(self);
        let commits = requests.buffered.into_iter().chain(requests.synced);
        commits.for_each(|(_, answer)| answer.give(Err(error.clone())));
        requests.syncs.into_iter().for_each(|answer| answer.give(Err(error.clone())));
        requests.close
    }
}

impl<T> Answer<T> {
    pub(in super::super) fn new(sender: oneshot::Sender<Result<T>>, room: OwnedSemaphorePermit) -> Self {
        Self { sender, _room: room }
    }

    pub(super) fn give(self, answer: Result<T>) {
        // The send fails if the caller stopped waiting, which is fine.
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

    /// Refuses commits after `last`, which were not applied.
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
