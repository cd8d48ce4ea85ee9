//! The writer thread of a topic: it takes the queued appends, writes them, syncs once, makes them
//! readable, and then replies.
//!
//! There is no artificial delay to collect larger groups: while one group syncs, the next one
//! queues.
//!
//! On a full disk, a group is retried until there is space; its callers wait in the meantime, each
//! until its own timeout, and the appends of callers that have given up are dropped. After an error
//! that leaves the state of the disk unknown, the thread ends, which ends the process: only an
//! opening can verify the log.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use super::{
    appender::{AppendError, Appender},
    partition::PARTITION,
    queue::{Group, PendingAppend, Work},
    shares::UntrimmedShares,
    topic::TopicLog,
    unavailable,
};
use crate::{NewRecord, Position, Record, Topic};

/// Pause before a failed group is retried: initially, and at most.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(2);

/// Time without appends and trims after which a topic counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    log: Arc<TopicLog>,
    appender: Appender,
    shares: UntrimmedShares,
}

/// The thread must end: the log was closed, or can no longer be trusted.
struct CommitterEnd;

impl Committer {
    pub(super) fn new(log: Arc<TopicLog>, appender: Appender) -> Self {
        let max_bytes = match log.topic {
            // There is always room: the oldest are deleted.
            Topic::DeadLetters => u64::MAX,
            Topic::Ingestion | Topic::Control => log.settings.max_unread_bytes,
        };
        Self { log, appender, shares: UntrimmedShares::new(max_bytes) }
    }

    /// Runs until the queue is closed and everything that fits is written.
    pub(super) fn run(mut self) {
        let log = self.log.clone();
        let _closing = CloseGuard(&log);
        loop {
            let worked = match log.queue.take(IDLE_AFTER, &mut self.shares, || log.partition.lock().extent())
            {
                Work::Write(group) => self.write_until_done(group),
                Work::Idle => self.settle(),
                Work::Closed => break,
            };
            if worked.is_err() {
                return;
            }
        }
        // Reopening repeats the work of `close`.
        if let Err(AppendError::Temporary(error) | AppendError::Fatal(error)) = self.appender.close() {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to close the log cleanly");
        }
    }

    /// Writes a group, retrying as long as necessary.
    fn write_until_done(&mut self, mut group: Group) -> Result<(), CommitterEnd> {
        let mut wait = RETRY_AFTER;
        loop {
            group.retain(|append| !append.is_abandoned());
            if group.is_empty() {
                return Ok(());
            }
            let appended_us = (self.log.clock)();
            let first = self.appender.end();
            let error =
                match self.appender.append(group.iter().flat_map(|append| &append.records), appended_us) {
                    Ok(()) => {
                        self.recovered();
                        self.publish(group, first, appended_us);
                        self.retain_dead_letters();
                        return Ok(());
                    }
                    Err(AppendError::Fatal(error)) => return Err(self.fail(&error)),
                    Err(AppendError::Temporary(error)) => error,
                };
            self.obstructed(error);
            if self.log.queue.pause(wait) {
                return Err(CommitterEnd);
            }
            wait = (wait * 2).min(RETRY_AFTER_AT_MOST);
        }
    }

    /// Makes a group readable, and completes its appends.
    fn publish(&mut self, group: Group, first: u64, appended_us: i64) {
        let mut offset = first;
        let mut replies = Vec::with_capacity(group.len());
        let mut records = Vec::with_capacity(group.len());
        for PendingAppend { records: appended, reply, .. } in group {
            let from = offset;
            for NewRecord { key, value, headers } in appended {
                records.push(Record { offset, key, value, headers, appended_us, leader_epoch: None });
                offset += 1;
            }
            replies.push((reply, from..offset));
        }
        let end = self.appender.bytes_before_end();
        self.log.partition.lock().publish(records, offset, end, self.log.settings.hand_off_bytes);
        self.log.changed.notify_waiters();
        // The last append first: a caller that waits for the first of several appends finds all of them done
        // when it wakes.
        for (reply, offsets) in replies.into_iter().rev() {
            let positions = offsets.map(|offset| Position { partition: PARTITION, offset }).collect();
            // A send fails if the caller stopped waiting, which is fine.
            drop(reply.send(Ok(positions)));
        }
    }

    fn settle(&mut self) -> Result<(), CommitterEnd> {
        let extent = self.log.partition.lock().extent();
        match self.appender.settle(extent.first == extent.end) {
            Ok(()) => Ok(()),
            Err(AppendError::Fatal(error)) => Err(self.fail(&error)),
            // Nothing waits for it.
            Err(AppendError::Temporary(_)) => Ok(()),
        }
    }

    /// Deletes the oldest dead letters once they exceed their limit. They are only copies.
    fn retain_dead_letters(&self) {
        if self.log.topic != Topic::DeadLetters {
            return;
        }
        let excess =
            self.log.partition.lock().extent().bytes().saturating_sub(self.log.settings.dead_letter_bytes);
        if excess == 0 {
            return;
        }
        if let Err(error) = self.log.trim(PARTITION, self.log.segments.first_after(excess)) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to delete old dead letters; will retry"
            );
        }
    }

    fn obstructed(&self, error: io::Error) {
        let error = unavailable("it cannot be written: check that the disk has space", error);
        if self.log.set_obstruction(error.clone()) {
            tracing::error!(
                topic = ?self.log.topic,
                error = error.source(),
                "failed to write to the log; will retry"
            );
        }
    }

    fn recovered(&self) {
        if self.log.clear_obstruction() {
            tracing::info!(topic = ?self.log.topic, "log recovered");
        }
    }

    fn fail(&self, error: &io::Error) -> CommitterEnd {
        tracing::error!(
            topic = ?self.log.topic,
            error = error as &dyn std::error::Error,
            "failed to write to the log, and what is on disk is unknown; ending, because only a restart can verify it: \
             check the disk, then start again"
        );
        CommitterEnd
    }
}

/// Closes the topic when its committer ends, also by a panic.
struct CloseGuard<'a>(&'a TopicLog);

impl Drop for CloseGuard<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.refuse_rest();
        self.0.changed.notify_waiters();
    }
}
