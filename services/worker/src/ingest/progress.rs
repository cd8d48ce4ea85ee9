//! Writes to the store how far each partition is applied, and trims the log up to that position. It is
//! a separate task, so that dispatching continues at the same time: progress made while a row is
//! being written, or soon after, is combined into the next write. Writing never waits for the log, and a
//! position is written even if its partition is lost at once: by the position, the next owner recognizes
//! that the log has lost its tail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use matyan_log::{Topic, TopicInfo};
use matyan_model::{
    keys::{self, LogTopic},
    position::{AppliedPosition, applied_get, applied_put},
};
use matyan_store::{Transaction, transact};
use prometheus::GaugeVec;
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use crate::{deps::Deps, error::Error};

type Positions = BTreeMap<u32, Position>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    /// Offset at which reading started.
    start: u64,
    /// Position up to which everything read since then is applied.
    applied: Option<AppliedPosition>,
    /// Whether the partition is read. The last position of another partition is only written.
    is_read: bool,
}

impl Position {
    fn next(&self) -> u64 {
        self.applied.as_ref().map_or(self.start, |applied| applied.next)
    }
}

/// Writes the positions.
struct PositionWriter {
    deps: Deps,
    reported: watch::Receiver<Positions>,
    /// Positions that are in the store, for the trimmer.
    written: watch::Sender<Positions>,
}

/// Trims the log up to the written positions, and reports the lag.
struct Trimmer {
    deps: Deps,
    reported: watch::Receiver<Positions>,
    written: watch::Receiver<Positions>,
    trimmed: Positions,
    lag: GaugeVec,
    /// Partitions whose lag is currently reported.
    lagging: BTreeSet<u32>,
    /// Identity of the log as last described.
    identity: watch::Sender<Option<[u8; 16]>>,
}

pub(super) struct ProgressHandle {
    sender: watch::Sender<Positions>,
    written: WrittenPositions,
    identity: watch::Receiver<Option<[u8; 16]>>,
    task: JoinHandle<()>,
}

/// The reported positions, and those that are in the store.
#[derive(Clone)]
pub(super) struct WrittenPositions {
    reported: watch::Receiver<Positions>,
    written: watch::Receiver<Positions>,
}

/// Wait before a retry while the store is unavailable.
const WAIT: Duration = Duration::from_millis(500);
/// Wait after a write. Each write wakes all calls that wait for a position.
const PAUSE: Duration = Duration::from_millis(10);
/// Same in a store on other machines, which many workers share. Calls that wait for a run do not wait for the position
/// of its partition.
const REMOTE_PAUSE: Duration = Duration::from_millis(50);

impl ProgressHandle {
    /// Starts the task.
    pub(super) fn start(deps: Deps, trim_every: Duration, lag: GaugeVec) -> Self {
        let (sender, reported) = watch::channel(Positions::new());
        let (written, positions) = watch::channel(Positions::new());
        let (described, identity) = watch::channel(None);
        let known = WrittenPositions { reported: reported.clone(), written: positions.clone() };
        let writer = PositionWriter { deps: deps.clone(), reported: reported.clone(), written };
        let trimmer = Trimmer {
            deps,
            reported,
            written: positions,
            trimmed: Positions::new(),
            lag,
            lagging: BTreeSet::new(),
            identity: described,
        };
        let task = tokio::spawn(async move {
            tokio::join!(writer.run(), trimmer.run(trim_every));
        });
        Self { sender, written: known, identity, task }
    }

    pub(super) fn written(&self) -> WrittenPositions {
        self.written.clone()
    }

    /// The identity of the log, which is sent whenever it has changed.
    pub(super) fn identity(&self) -> watch::Receiver<Option<[u8; 16]>> {
        self.identity.clone()
    }

    pub(super) fn insert(&self, partition: u32, start: u64) {
        self.sender.send_modify(|positions| {
            positions.insert(partition, Position { start, applied: None, is_read: true });
        });
    }

    pub(super) fn report(&self, partition: u32, applied: AppliedPosition) {
        self.sender.send_modify(|positions| {
            let start = positions.get(&partition).map_or(applied.next, |position| position.start);
            positions.insert(partition, Position { start, applied: Some(applied), is_read: true });
        });
    }

    /// Notes that a partition is no longer read.
    pub(super) fn forget(&self, partition: u32) {
        self.sender.send_modify(|positions| {
            if let Some(position) = positions.get_mut(&partition) {
                position.is_read = false;
            }
        });
    }

    /// Writes and syncs the last reported progress.
    pub(super) async fn finish(self) {
        drop(self.sender);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the progress task panicked");
        }
    }
}

impl WrittenPositions {
    /// Waits until the last position of a partition that is no longer read is in the store.
    pub(super) async fn wait(mut self, partition: u32) {
        let applied = |positions: &Positions| positions.get(&partition).and_then(|position| position.applied);
        let Some(last) = applied(&self.reported.borrow()) else { return };
        // Fails only at the shutdown.
        let _ = self.written.wait_for(|written| applied(written) == Some(last)).await;
    }
}

impl PositionWriter {
    async fn run(mut self) {
        let pause = if self.deps.store.is_remote() { REMOTE_PAUSE } else { PAUSE };
        loop {
            let is_open = self.reported.changed().await.is_ok();
            // Retry while the store is unavailable, but do not delay a shutdown: the
            // log would redeliver everything.
            while !self.write().await && self.reported.has_changed().is_ok() {
                tokio::time::sleep(WAIT).await;
            }
            if !is_open {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes the reported progress; returns true if all of it is in the store.
    async fn write(&mut self) -> bool {
        let reported = self.reported.borrow_and_update().clone();
        let mut changed = Vec::new();
        for (partition, position) in &reported {
            let Some(applied) = position.applied else { continue };
            let written = self.written.borrow().get(partition).and_then(|written| written.applied);
            if written != Some(applied) {
                changed.push((*partition, applied));
            }
        }
        if !changed.is_empty()
            && let Err(error) = positions_put(&self.deps, &changed).await
        {
            tracing::warn!(partitions = changed.len(), %error, "failed to write progress; will retry");
            return false;
        }
        self.written.send_replace(reported);
        true
    }
}

impl Trimmer {
    async fn run(mut self, trim_every: Duration) {
        let mut trims = tokio::time::interval(trim_every);
        trims.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_open = tokio::select! {
                () = sender_dropped(self.written.clone()) => false,
                _ = trims.tick() => true,
            };
            let log = self.describe().await;
            self.trim(log.as_ref()).await;
            if !is_open {
                return;
            }
            self.report_lag(log);
        }
    }

    /// Describes the log; `None` if that fails. A shutdown does not wait for the log.
    async fn describe(&self) -> Option<TopicInfo> {
        let described = tokio::select! {
            biased;
            described = self.deps.log_writer.describe(Topic::Ingestion) => described,
            () = sender_dropped(self.reported.clone()) => return None,
        };
        described.inspect_err(|error| tracing::debug!(%error, "failed to describe the log")).ok()
    }

    /// Reports the lag of each assigned partition in records. Removes it for partitions
    /// that are no longer assigned, and for all while the log does not respond, because an
    /// outdated lag would hide that.
    fn report_lag(&mut self, log: Option<TopicInfo>) {
        let reported = self.reported.borrow().clone();
        let known = log.map_or_else(Vec::new, |log| {
            let identity = Some(log.identity);
            self.identity.send_if_modified(|last| std::mem::replace(last, identity) != identity);
            log.partitions
        });
        let before = std::mem::take(&mut self.lagging);
        for (partition, position) in reported.iter().filter(|(_, position)| position.is_read) {
            let Some(bounds) = known.get(*partition as usize) else { continue };
            let lag = bounds.end.saturating_sub(position.next().max(bounds.first));
            self.lag.with_label_values(&[&partition.to_string()]).set(lag as f64);
            self.lagging.insert(*partition);
        }
        for partition in before.difference(&self.lagging) {
            let removed = self.lag.remove_label_values(&[&partition.to_string()]);
            removed.expect("partitions in `lagging` have a lag gauge");
        }
    }

    /// Syncs the store, then trims the log up to the written positions. A position in a log that was
    /// recreated since says nothing about this log, nor does the position of a partition that was dropped or
    /// restarted.
    async fn trim(&mut self, log: Option<&TopicInfo>) {
        let written = self.written.borrow_and_update().clone();
        if written == self.trimmed {
            return;
        }
        if let Err(error) = self.deps.store.sync().await {
            return tracing::warn!(%error, "failed to sync the store; not trimming the log");
        }
        // If the log does not respond, it is trimmed next time, maybe after a restart.
        let Some(log) = log else { return };
        let mut is_trimmed = true;
        for (partition, position) in &written {
            let Some(applied) = position.applied else { continue };
            if applied.identity != Some(log.identity) || !self.is_current(*partition, &applied) {
                continue;
            }
            let trimmed = self.deps.log_reader.trim(Topic::Ingestion, *partition, applied.next).await;
            if let Err(error) = trimmed {
                tracing::warn!(partition, %error, "failed to trim log; will retry");
                is_trimmed = false;
            }
        }
        if is_trimmed {
            self.trimmed = written;
        }
    }

    /// Whether the position that is reported now is this one, or a later one of the same log.
    fn is_current(&self, partition: u32, applied: &AppliedPosition) -> bool {
        let reported = self.reported.borrow();
        let current = reported.get(&partition).filter(|position| position.is_read);
        let applied_now = current.and_then(|position| position.applied);
        applied_now.is_some_and(|now| now.log == applied.log && now.next >= applied.next)
    }
}

/// Returns when the sender is dropped.
async fn sender_dropped(mut reported: watch::Receiver<Positions>) {
    while reported.changed().await.is_ok() {}
}

/// Writes the positions of partitions in one commit, except where the stored position is later: this worker may
/// have lost the partition. Neither a position nor the last record that was read ever moves back.
async fn positions_put(deps: &Deps, positions: &[(u32, AppliedPosition)]) -> Result<(), Error> {
    transact(&*deps.store, async |mut transaction: Transaction| {
        transaction.set_buffered();
        for (partition, applied) in positions {
            transaction.get(&keys::applied(LogTopic::Ingestion, *partition)).await?;
            let stored = applied_get(transaction.unchecked(), LogTopic::Ingestion, *partition).await?;
            if stored.is_none_or(|stored| is_before(&stored, applied)) {
                let in_this_log = stored.filter(|stored| stored.log == applied.log).unwrap_or_default();
                let AppliedPosition { begins, shortened_to, read: read_before, .. } = in_this_log;
                // After a restart, fewer records may have been reread than were read before it.
                let last_read = applied.read.into_iter().chain(read_before).max_by_key(|read| read.offset);
                let read = last_read.filter(|read| read.offset >= applied.next);
                let position = AppliedPosition { begins, shortened_to, read, ..*applied };
                applied_put(transaction.batch(), LogTopic::Ingestion, *partition, &position);
            }
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

fn is_before(stored: &AppliedPosition, applied: &AppliedPosition) -> bool {
    (stored.log, stored.next, stored.read_to()) < (applied.log, applied.next, applied.read_to())
}

#[cfg(test)]
mod tests;
