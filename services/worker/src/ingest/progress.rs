//! Writes to the store how far each partition is applied, and trims the log up to there. It is
//! a separate task, so that dispatching continues in the meantime: progress made while a row is
//! being written, or soon after that, is combined into the next write.

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
}

impl Position {
    fn next(&self) -> u64 {
        self.applied.as_ref().map_or(self.start, |applied| applied.next)
    }
}

pub(super) struct Progress {
    deps: Deps,
    reported: watch::Receiver<Positions>,
    written: Positions,
    trimmed: Positions,
    lag: GaugeVec,
    /// Partitions whose lag is currently reported.
    lagging: BTreeSet<u32>,
    /// Identity of the log as last described.
    identity: watch::Sender<Option<[u8; 16]>>,
}

pub(super) struct ProgressHandle {
    sender: watch::Sender<Positions>,
    identity: watch::Receiver<Option<[u8; 16]>>,
    task: JoinHandle<()>,
}

/// Wait before a retry while the store is unavailable.
const WAIT: Duration = Duration::from_millis(500);
/// Wait after a write. Each write wakes all who wait for a position.
const PAUSE: Duration = Duration::from_millis(10);

impl ProgressHandle {
    /// The identity of the log, whenever it has changed.
    pub(super) fn identity(&self) -> watch::Receiver<Option<[u8; 16]>> {
        self.identity.clone()
    }

    pub(super) fn begin(&self, partition: u32, start: u64) {
        self.sender.send_modify(|positions| {
            positions.insert(partition, Position { start, applied: None });
        });
    }

    pub(super) fn report(&self, partition: u32, applied: AppliedPosition) {
        self.sender.send_modify(|positions| {
            let start = positions.get(&partition).map_or(applied.next, |position| position.start);
            positions.insert(partition, Position { start, applied: Some(applied) });
        });
    }

    pub(super) fn forget(&self, partition: u32) {
        self.sender.send_modify(|positions| {
            positions.remove(&partition);
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

impl Progress {
    pub(super) fn start(deps: Deps, trim_every: Duration, lag: GaugeVec) -> ProgressHandle {
        let (sender, reported) = watch::channel(Positions::new());
        let (written, trimmed, lagging) = Default::default();
        let (identity, described) = watch::channel(None);
        let progress = Self { deps, reported, written, trimmed, lag, lagging, identity };
        ProgressHandle { sender, identity: described, task: tokio::spawn(progress.run(trim_every)) }
    }

    async fn run(mut self, trim_every: Duration) {
        let mut trims = tokio::time::interval(trim_every);
        trims.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_open = tokio::select! {
                changed = self.reported.changed() => changed.is_ok(),
                _ = trims.tick() => {
                    let log = self.describe().await;
                    self.trim(log.as_ref()).await;
                    self.report_lag(log);
                    continue;
                }
            };
            // Retry while the store is unavailable, but do not delay a shutdown: the
            // log would redeliver everything.
            while !self.write().await && self.reported.has_changed().is_ok() {
                let log = self.describe().await;
                self.report_lag(log);
                tokio::time::sleep(WAIT).await;
            }
            if !is_open {
                let log = self.describe().await;
                return self.trim(log.as_ref()).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes the reported progress; returns true if all of it is in the store.
    async fn write(&mut self) -> bool {
        let reported = self.reported.borrow_and_update().clone();
        for (partition, position) in &reported {
            let Some(applied) = &position.applied else { continue };
            if self.written.get(partition) == Some(position) {
                continue;
            }
            if let Err(error) = position_put(&self.deps, *partition, applied).await {
                tracing::warn!(partition, %error, "failed to write progress; will retry");
                return false;
            }
        }
        self.written = reported;
        true
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
        for (partition, position) in &reported {
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

    /// Syncs what is applied, then trims the log up to there. A position in a log that was recreated since
    /// says nothing about this one, nor does that of a partition which was dropped or started again.
    async fn trim(&mut self, log: Option<&TopicInfo>) {
        if self.written == self.trimmed {
            return;
        }
        if let Err(error) = self.deps.store.sync().await {
            return tracing::warn!(%error, "failed to sync the store; not trimming the log");
        }
        // If it does not respond, it is trimmed next time, maybe after a restart.
        let Some(log) = log else { return };
        let mut is_trimmed = true;
        for (partition, position) in &self.written {
            let is_of_log = |applied: &AppliedPosition| applied.identity == Some(log.identity);
            let applied = position.applied.filter(is_of_log);
            let Some(applied) = applied.filter(|applied| self.is_current(*partition, applied)) else {
                continue;
            };
            let trimmed = self.deps.log_reader.trim(Topic::Ingestion, *partition, applied.next).await;
            if let Err(error) = trimmed {
                tracing::warn!(partition, %error, "failed to trim log; will retry");
                is_trimmed = false;
            }
        }
        if is_trimmed {
            self.trimmed = self.written.clone();
        }
    }

    /// Whether what is reported now is no less than this.
    fn is_current(&self, partition: u32, applied: &AppliedPosition) -> bool {
        let reported = self.reported.borrow().get(&partition).and_then(|position| position.applied);
        reported.is_some_and(|now| now.log == applied.log && now.next >= applied.next)
    }
}

/// Returns when the sender is dropped.
async fn sender_dropped(mut reported: watch::Receiver<Positions>) {
    while reported.changed().await.is_ok() {}
}

/// Writes a position, but moves neither it nor the last record that was read back: a worker that has lost the
/// partition may be late.
async fn position_put(deps: &Deps, partition: u32, applied: &AppliedPosition) -> Result<(), Error> {
    transact(&*deps.store, async |mut transaction: Transaction| {
        transaction.set_buffered();
        transaction.get(&keys::applied(LogTopic::Ingestion, partition)).await?;
        let stored = applied_get(transaction.unchecked(), LogTopic::Ingestion, partition).await?;
        let is_later = |stored: AppliedPosition| {
            (stored.log, stored.next, stored.read_to()) < (applied.log, applied.next, applied.read_to())
        };
        if stored.is_none_or(is_later) {
            let same = stored.filter(|stored| stored.log == applied.log).unwrap_or_default();
            let AppliedPosition { begins, shortened_to, .. } = same;
            // After a restart, less was read again than before it.
            let read = [applied.read, same.read].into_iter().flatten().max_by_key(|read| read.offset);
            let read = read.filter(|read| read.offset >= applied.next);
            let applied = AppliedPosition { begins, shortened_to, read, ..*applied };
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
