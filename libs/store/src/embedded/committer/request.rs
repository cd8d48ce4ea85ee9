//! Requests from callers to the committer, and the pending answers.
//!
//! An answer holds its caller's queue permit, so pending answers are bounded just like pending
//! requests.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{Batch, Commit, Durability, Error, Result, Version};

pub(in super::super) enum Request {
    Commit { batch: Batch, answer: Reply<Commit> },
    Sync { answer: Reply<()> },
    Close { answer: Reply<()> },
}

pub(in super::super) struct Reply<T> {
    sender: oneshot::Sender<Result<T>>,
    _room: OwnedSemaphorePermit,
}

/// The unprocessed requests of one group.
#[derive(Default)]
pub(super) struct RequestGroup {
    pub(super) buffered: VecDeque<(Batch, Reply<Commit>)>,
    pub(super) synced: VecDeque<(Batch, Reply<Commit>)>,
    pub(super) syncs: Vec<Reply<()>>,
    pub(super) close: Option<Reply<()>>,
    /// True if no request arrived for a while: time to sync buffered commits.
    pub(super) is_idle: bool,
}

/// The pending answers for one group of requests, by the event they wait for.
#[derive(Default)]
pub(super) struct PendingReplies {
    /// Outcomes without an applied batch. They are still held until the group is visible,
    /// so that the caller's next read includes the commit it conflicted with.
    pub(super) without_effect: Vec<(Reply<Commit>, Result<Commit>)>,
    pub(super) buffered: Vec<(Reply<Commit>, Version)>,
    pub(super) durable: Vec<(Reply<Commit>, Version)>,
    pub(super) syncs: Vec<Reply<()>>,
}

impl Request {
    pub(super) fn bytes(&self) -> usize {
        if let Self::Commit { batch, .. } = self { batch.bytes() } else { 0 }
    }
}

impl RequestGroup {
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
    pub(super) fn refuse(&mut self, error: &Error) -> Option<Reply<()>> {
        let requests = std::mem::take(self);
        let commits = requests.buffered.into_iter().chain(requests.synced);
        for (_, answer) in commits {
            answer.send(Err(error.clone()));
        }
        for answer in requests.syncs {
            answer.send(Err(error.clone()));
        }
        requests.close
    }
}

impl<T> Reply<T> {
    pub(in super::super) fn new(sender: oneshot::Sender<Result<T>>, room: OwnedSemaphorePermit) -> Self {
        Self { sender, _room: room }
    }

    pub(super) fn send(self, answer: Result<T>) {
        // The send fails if the caller stopped waiting, which is fine.
        drop(self.sender.send(answer));
    }
}

impl PendingReplies {
    pub(super) fn answer_visible(&mut self) {
        for (answer, outcome) in self.without_effect.drain(..) {
            answer.send(outcome);
        }
        for commit in self.buffered.drain(..) {
            done(commit);
        }
    }

    pub(super) fn waits_for_sync(&self) -> bool {
        !self.durable.is_empty() || !self.syncs.is_empty()
    }

    pub(super) fn answer_durable(&mut self) {
        for commit in self.durable.drain(..) {
            done(commit);
        }
        for answer in self.syncs.drain(..) {
            answer.send(Ok(()));
        }
    }

    /// Refuses commits after `last`, which were not applied.
    pub(super) fn refuse_after(&mut self, last: Version, error: &Error) {
        for (answer, outcome) in self.without_effect.drain(..) {
            answer.send(outcome);
        }
        for commits in [&mut self.buffered, &mut self.durable] {
            let lost = commits.extract_if(.., |(_, version)| *version > last);
            for (answer, _) in lost {
                answer.send(Err(error.clone()));
            }
        }
    }
}

fn done((answer, version): (Reply<Commit>, Version)) {
    answer.send(Ok(Commit::Done { version, stamp: version.stamp(0) }));
}
