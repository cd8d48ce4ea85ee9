//! Appends and trims waiting for the committer, with one line per topic, so that a full topic
//! does not block another.
//!
//! The records of a waiting append are in memory in any case, so a line keeps those that do not
//! yet fit in the log until their callers give up.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    layout::{self, TOPICS},
    record,
};
use crate::{Error, NewRecord, Position, Result, Topic};

/// Maximum size of a group, which shares one sync: large enough to keep the disk busy, small
/// enough for low latency.
const GROUP_APPENDS: usize = 512;
const GROUP_BYTES: usize = 4 << 20;

/// Limits above which an append is refused immediately: 16 records of maximum size, or one
/// small append from each of 64k connections.
const QUEUE_BYTES: usize = 272 << 20;
const QUEUE_APPENDS: usize = 1 << 16;

pub(super) struct PendingAppend {
    pub(super) topic: Topic,
    /// Each record with its partition.
    pub(super) records: Vec<(u32, NewRecord)>,
    pub(super) bytes: usize,
    pub(super) reply: oneshot::Sender<Result<Vec<Position>>>,
}

pub(super) struct PendingTrim {
    pub(super) slot: usize,
    pub(super) offset: u64,
    /// `None` if the log itself requested the trim.
    pub(super) reply: Option<oneshot::Sender<Result<()>>>,
}

/// Requests that share one sync.
#[derive(Default)]
pub(super) struct Group {
    pub(super) appends: Vec<PendingAppend>,
    pub(super) trims: Vec<PendingTrim>,
}

#[derive(Default)]
pub(super) struct Queue {
    lines: Mutex<QueueLines>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueLines {
    appends: [VecDeque<PendingAppend>; TOPICS.len()],
    bytes: usize,
    count: usize,
    trims: Vec<PendingTrim>,
    closing: bool,
}

impl PendingAppend {
    pub(super) fn new(
        topic: Topic,
        records: Vec<(u32, NewRecord)>,
        reply: oneshot::Sender<Result<Vec<Position>>>,
    ) -> Self {
        let bytes = records.iter().map(|(_, record)| record::size(record)).sum();
        Self { topic, records, bytes, reply }
    }

    /// True if the caller no longer waits for the result.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Queue {
    pub(super) fn append(&self, append: PendingAppend) -> Result<()> {
        let mut lines = self.lock();
        lines.forget_abandoned(layout::topic_index(append.topic));
        if lines.closing {
            return Err(closed());
        }
        let fits = lines.bytes + append.bytes <= QUEUE_BYTES && lines.count < QUEUE_APPENDS;
        // An append of any size is accepted if no other one waits.
        if !fits && lines.count > 0 {
            return Err(Error::unavailable("too many records are waiting to be written: try again later"));
        }
        lines.bytes += append.bytes;
        lines.count += 1;
        lines.appends[layout::topic_index(append.topic)].push_back(append);
        drop(lines);
        self.arrived.notify_one();
        Ok(())
    }

    pub(super) fn trim(&self, trim: PendingTrim) -> Result<()> {
        let mut lines = self.lock();
        if lines.closing {
            return Err(closed());
        }
        lines.trims.push(trim);
        drop(lines);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for work in topics that have room. Returns None if the queue is closed and
    /// nothing more can be written.
    pub(super) fn take(&self, has_room: impl Fn(Topic) -> bool) -> Option<Group> {
        let mut lines = self.lock();
        loop {
            let group = lines.take(&has_room);
            if !group.appends.is_empty() || !group.trims.is_empty() {
                return Some(group);
            }
            if lines.closing {
                return None;
            }
            lines = self.arrived.wait(lines).expect("no thread panics while holding the lines");
        }
    }

    /// Waits for `time` or until the queue is closed; returns true if it is closed.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let lines = self.lock();
        let (lines, _) = self
            .arrived
            .wait_timeout_while(lines, time, |lines| !lines.closing)
            .expect("no thread panics while holding the lines");
        lines.closing
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.lock().closing { Err(closed()) } else { Ok(()) }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_all();
    }

    /// Drops all waiting requests after closing, which fails their callers.
    pub(super) fn refuse_rest(&self) {
        let mut lines = self.lock();
        lines.appends.iter_mut().for_each(VecDeque::clear);
        lines.trims.clear();
    }

    fn lock(&self) -> MutexGuard<'_, QueueLines> {
        self.lines.lock().expect("no thread panics while holding the lines")
    }
}

/// The error returned for every request after `close`.
pub(super) fn closed() -> Error {
    Error::unavailable("the log is closed")
}

impl QueueLines {
    /// Control comes first: there are few such records, and people wait for them.
    const ORDER: [Topic; 3] = [Topic::Control, Topic::DeadLetters, Topic::Ingestion];

    fn take(&mut self, has_room: &impl Fn(Topic) -> bool) -> Group {
        let mut group = Group { trims: std::mem::take(&mut self.trims), ..Group::default() };
        let mut bytes = 0;
        for topic in Self::ORDER.into_iter().filter(|topic| has_room(*topic)) {
            let line = layout::topic_index(topic);
            while group.appends.len() < GROUP_APPENDS
                && let Some(next) = self.appends[line].front()
                && (bytes + next.bytes <= GROUP_BYTES || group.appends.is_empty())
            {
                bytes += next.bytes;
                group.appends.extend(self.pop(line));
            }
        }
        group
    }

    /// Drops abandoned appends from the front. Appends of one topic time out in the order
    /// in which they arrived.
    fn forget_abandoned(&mut self, line: usize) {
        while self.appends[line].front().is_some_and(PendingAppend::is_abandoned) {
            self.pop(line);
        }
    }

    fn pop(&mut self, line: usize) -> Option<PendingAppend> {
        let append = self.appends[line].pop_front()?;
        self.bytes -= append.bytes;
        self.count -= 1;
        Some(append)
    }
}
