//! Appends of one topic that wait for its committer.
//!
//! The records of a waiting append are in memory in any case, so the queue keeps appends that do
//! not yet fit in the log until their callers give up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    partition::Extent,
    record,
    shares::{ByKey, KeyHash, KeyHasher, KeyShares, Room, UntrimmedShares},
};
use crate::{Error, NewRecord, Position, Result};

/// Room for the appends of a group, which share one sync, unless it has only one: large enough to keep the
/// disk busy, small enough for low latency.
const GROUP_BYTES: u64 = 4 << 20;

/// Room for the appends that wait, beyond which others are refused immediately: 16 records of maximum
/// size, or one small append from each of 64k connections.
const QUEUE_BYTES: u64 = 272 << 20;

/// Bytes that the records of each key in a row count in addition, which bounds the number of appends.
const APPEND_BYTES: u64 = 4 << 10;

pub(super) struct PendingAppend {
    pub(super) records: Vec<NewRecord>,
    /// Size of the records of each key.
    bytes_by_key: Vec<(KeyHash, u64)>,
    pub(super) reply: oneshot::Sender<Result<Vec<Position>>>,
}

/// Appends that share one sync.
pub(super) type Group = Vec<PendingAppend>;

pub(super) enum Work {
    Write(Group),
    /// Nothing was appended or trimmed for a while. Reported once.
    Idle,
    /// The queue is closed, and nothing more can be written.
    Closed,
}

#[derive(Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
    changed: Condvar,
    hasher: KeyHasher,
}

#[derive(Default)]
struct Line {
    appends: WaitingAppends,
    shares: KeyShares,
    /// Room that the appends use.
    used: u64,
    is_closing: bool,
    /// True if idleness was reported, and nothing has happened since.
    is_idle: bool,
    /// True if the topic was trimmed since the last pause started.
    was_trimmed: bool,
    /// Appends that were looked at for a group.
    #[cfg(test)]
    examined: u64,
}

/// Appends by their numbers, which ascend in the order in which they arrived.
///
/// A key that floods the queue may have tens of thousands of appends, so only the first append of each key is ever
/// looked at.
#[derive(Default)]
struct WaitingAppends {
    next_number: u64,
    by_number: BTreeMap<u64, PendingAppend>,
    numbers_by_key: ByKey<VecDeque<u64>>,
    /// Numbers of the appends that are the first of each of their keys.
    first: BTreeSet<u64>,
}

impl WaitingAppends {
    fn push(&mut self, append: PendingAppend) {
        let number = self.next_number;
        self.next_number += 1;
        for key in append.keys() {
            let numbers = self.numbers_by_key.entry(key).or_default();
            if numbers.back() != Some(&number) {
                numbers.push_back(number);
            }
        }
        if self.is_first(number, &append) {
            self.first.insert(number);
        }
        self.by_number.insert(number, append);
    }

    fn is_first(&self, number: u64, append: &PendingAppend) -> bool {
        append.keys().all(|key| self.numbers_by_key[&key].front() == Some(&number))
    }

    /// The oldest append, which is the first of its keys.
    fn oldest(&self) -> Option<(u64, &PendingAppend)> {
        self.by_number.first_key_value().map(|(number, append)| (*number, append))
    }

    /// The oldest append from this number on that is the first of its keys.
    fn first_from(&self, number: u64) -> Option<(u64, &PendingAppend)> {
        let number = *self.first.range(number..).next()?;
        Some((number, &self.by_number[&number]))
    }

    /// Removes an append that is the first of its keys.
    fn remove_first(&mut self, number: u64) -> PendingAppend {
        let append = self.by_number.remove(&number).expect("it waits");
        self.first.remove(&number);
        let mut followers = BTreeSet::new();
        for key in append.keys() {
            let Some(numbers) = self.numbers_by_key.get_mut(&key) else { continue };
            numbers.pop_front_if(|first| *first == number);
            match numbers.front() {
                Some(next) => drop(followers.insert(*next)),
                None => drop(self.numbers_by_key.remove(&key)),
            }
        }
        followers.retain(|number| self.is_first(*number, &self.by_number[number]));
        self.first.append(&mut followers);
        append
    }
}

impl PendingAppend {
    fn new(
        records: Vec<NewRecord>,
        reply: oneshot::Sender<Result<Vec<Position>>>,
        hasher: &KeyHasher,
    ) -> Self {
        let mut bytes_by_key: Vec<(KeyHash, u64)> = Vec::with_capacity(1);
        for record in &records {
            let key = hasher.hash(&record.key);
            let bytes = record::size(record) as u64;
            match bytes_by_key.last_mut() {
                Some((last, sum)) if *last == key => *sum += bytes,
                _ => bytes_by_key.push((key, bytes)),
            }
        }
        Self { records, bytes_by_key, reply }
    }

    fn keys(&self) -> impl Iterator<Item = KeyHash> {
        self.bytes_by_key.iter().map(|(key, _)| *key)
    }

    /// Room in the queue that each key of it uses.
    fn room_by_key(&self) -> impl Iterator<Item = (KeyHash, u64)> {
        self.bytes_by_key.iter().map(|(key, bytes)| (*key, bytes + APPEND_BYTES))
    }

    fn room(&self) -> u64 {
        self.room_by_key().map(|(_, bytes)| bytes).sum()
    }

    /// True if the caller no longer waits for the result.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

impl Queue {
    pub(super) fn append(
        &self,
        records: Vec<NewRecord>,
        reply: oneshot::Sender<Result<Vec<Position>>>,
    ) -> Result<()> {
        let append = PendingAppend::new(records, reply, &self.hasher);
        if append.room() > QUEUE_BYTES {
            return Err(Error::TooLarge { size: append.room() as usize, max: QUEUE_BYTES as usize });
        }
        let mut line = self.lock();
        line.forget_abandoned();
        if line.is_closing {
            return Err(closed());
        }
        line.push(append)?;
        line.is_idle = false;
        drop(line);
        self.changed.notify_one();
        Ok(())
    }

    /// Announces that the topic was trimmed, which may have made room.
    pub(super) fn announce_room(&self) {
        let mut line = self.lock();
        line.is_idle = false;
        line.was_trimmed = true;
        drop(line);
        self.changed.notify_one();
    }

    /// Waits for work. A group contains only appends that the shares of its keys have room for.
    pub(super) fn take(
        &self,
        idle_after: Duration,
        shares: &mut UntrimmedShares,
        written: impl Fn() -> Extent,
    ) -> Work {
        let mut line = self.lock();
        loop {
            shares.begin_group(written());
            let group = line.take_group(shares);
            if !group.is_empty() {
                return Work::Write(group);
            }
            if line.is_closing {
                return Work::Closed;
            }
            line = if line.is_idle {
                self.changed.wait(line).expect("no thread panics while holding the line")
            } else {
                let (mut line, waited) = self
                    .changed
                    .wait_timeout(line, idle_after)
                    .expect("no thread panics while holding the line");
                if waited.timed_out() {
                    line.is_idle = true;
                    return Work::Idle;
                }
                line
            };
        }
    }

    /// Waits for `time`, or until the queue is closed or the topic trimmed. Returns true if
    /// the queue is closed.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut line = self.lock();
        line.was_trimmed = false;
        let (line, _) = self
            .changed
            .wait_timeout_while(line, time, |line| !line.is_closing && !line.was_trimmed)
            .expect("no thread panics while holding the line");
        line.is_closing
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.lock().is_closing { Err(closed()) } else { Ok(()) }
    }

    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_all();
    }

    /// Drops all waiting appends after closing, which fails their callers.
    pub(super) fn refuse_rest(&self) {
        let mut line = self.lock();
        while let Some((oldest, _)) = line.appends.oldest() {
            drop(line.remove_first(oldest));
        }
    }

    /// Number of appends that were looked at for groups so far.
    #[cfg(test)]
    pub(super) fn examined(&self) -> u64 {
        self.lock().examined
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("no thread panics while holding the line")
    }
}

/// The error returned for every request after `close`.
pub(super) fn closed() -> Error {
    Error::unavailable("the log is closed")
}

/// A group that is being taken.
struct NextGroup {
    appends: Group,
    /// Room that is left.
    free: u64,
    /// Shares of the keys, while a key must leave room for the others.
    shares: Option<KeyShares>,
}

impl NextGroup {
    fn has_room_for(&self, append: &PendingAppend) -> bool {
        let is_in_share =
            self.shares.as_ref().is_none_or(|shares| shares.room_for(append.keys(), self.free) == Room::Free);
        is_in_share && (append.room() <= self.free || self.appends.is_empty())
    }

    fn add(&mut self, append: PendingAppend) {
        if let Some(shares) = &mut self.shares {
            for (key, bytes) in append.room_by_key() {
                shares.add(key, bytes);
            }
        }
        // A large append leaves half of the group to other keys.
        self.free = self.free.saturating_sub(append.room().min(GROUP_BYTES / 2));
        self.appends.push(append);
    }
}

impl Line {
    /// Adds an append, unless its keys have their share of the queue.
    fn push(&mut self, append: PendingAppend) -> Result<()> {
        let free = QUEUE_BYTES - self.used;
        let room = if append.room() > free { Room::None } else { self.shares.room_for(append.keys(), free) };
        let reason = match room {
            Room::Free => {
                for (key, bytes) in append.room_by_key() {
                    self.shares.add(key, bytes);
                    self.used += bytes;
                }
                self.appends.push(append);
                return Ok(());
            }
            Room::ForOthers => {
                "too many records with the same key are waiting to be written: try again later"
            }
            Room::None => "too many records are waiting to be written: try again later",
        };
        Err(Error::unavailable(reason))
    }

    /// Takes appends for which there is room. If there are more than fit in a group, their keys first share
    /// the group, so that no key waits for everything that other keys have queued before.
    fn take_group(&mut self, untrimmed: &mut UntrimmedShares) -> Group {
        let mut group = NextGroup { appends: Group::new(), free: GROUP_BYTES, shares: None };
        if self.used > GROUP_BYTES {
            group.shares = Some(KeyShares::default());
            self.fill(&mut group, untrimmed);
        }
        group.shares = None;
        self.fill(&mut group, untrimmed);
        group.appends
    }

    /// Moves appends to a group in their order. After an append that must wait, all other appends of its
    /// keys wait, too.
    fn fill(&mut self, group: &mut NextGroup, untrimmed: &mut UntrimmedShares) {
        let mut from = 0;
        while group.free >= APPEND_BYTES
            && let Some((number, next)) = self.appends.first_from(from)
        {
            #[cfg(test)]
            {
                self.examined += 1;
            }
            from = number + 1;
            let room =
                if group.has_room_for(next) { untrimmed.room_for(next.keys()) } else { Room::ForOthers };
            match room {
                Room::Free => {
                    untrimmed.add(&next.bytes_by_key);
                    group.add(self.remove_first(number));
                }
                Room::ForOthers => {}
                Room::None => return,
            }
        }
    }

    /// Drops abandoned appends from the front. Appends time out in the order in which they
    /// arrived.
    fn forget_abandoned(&mut self) {
        while let Some((oldest, append)) = self.appends.oldest()
            && append.is_abandoned()
        {
            drop(self.remove_first(oldest));
        }
    }

    fn remove_first(&mut self, number: u64) -> PendingAppend {
        let append = self.appends.remove_first(number);
        for (key, bytes) in append.room_by_key() {
            self.shares.release(key, bytes);
            self.used -= bytes;
        }
        append
    }
}
