//! Tells the store how far each partition is applied, and trims the log behind that. A task of its own, so that records are
//! handed out meanwhile: what comes while a row is being written is written together next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use matyan_log::Topic;
use matyan_model::{
    keys::{self, LogTopic},
    position::{Applied, applied_get, applied_put},
};
use matyan_store::{Transaction, transact};
use prometheus::GaugeVec;
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use crate::{deps::Deps, error::Error};

type Positions = BTreeMap<u32, Position>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    /// Where reading began.
    start: u64,
    /// Up to where everything is applied that was read since.
    applied: Option<Applied>,
}

impl Position {
    fn next(&self) -> u64 {
        self.applied.as_ref().map_or(self.start, |applied| applied.next)
    }
}

pub(super) struct Progress {
    deps: Deps,
    told: watch::Receiver<Positions>,
    written: Positions,
    trimmed: Positions,
    lag: GaugeVec,
    /// Of which partitions the lag is told.
    lagging: BTreeSet<u32>,
}

pub(super) struct ProgressHandle {
    tell: watch::Sender<Positions>,
    task: JoinHandle<()>,
}

/// Waits while the store is away.
const WAIT: Duration = Duration::from_millis(500);

impl ProgressHandle {
    pub(super) fn begin(&self, partition: u32, start: u64) {
        self.tell.send_modify(|positions| {
            positions.insert(partition, Position { start, applied: None });
        });
    }

    pub(super) fn tell(&self, partition: u32, applied: Applied) {
        self.tell.send_modify(|positions| {
            let start = positions.get(&partition).map_or(applied.next, |position| position.start);
            positions.insert(partition, Position { start, applied: Some(applied) });
        });
    }

    pub(super) fn forget(&self, partition: u32) {
        self.tell.send_modify(|positions| {
            positions.remove(&partition);
        });
    }

    /// Writes and syncs what was told last.
    pub(super) async fn finish(self) {
        drop(self.tell);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "telling the progress ended badly");
        }
    }
}

impl Progress {
    pub(super) fn start(deps: Deps, trim_every: Duration, lag: GaugeVec) -> ProgressHandle {
        let (tell, told) = watch::channel(Positions::new());
        let (written, trimmed, lagging) = Default::default();
        let progress = Self { deps, told, written, trimmed, lag, lagging };
        ProgressHandle { tell, task: tokio::spawn(progress.run(trim_every)) }
    }

    async fn run(mut self, trim_every: Duration) {
        let mut trims = tokio::time::interval(trim_every);
        trims.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_open = tokio::select! {
                changed = self.told.changed() => changed.is_ok(),
                _ = trims.tick() => {
                    self.trim().await;
                    self.tell_lag().await;
                    continue;
                }
            };
            // While the store is away; but whoever stops is not kept waiting, as the log tells all again.
            while !self.write().await && self.told.has_changed().is_ok() {
                self.tell_lag().await;
                tokio::time::sleep(WAIT).await;
            }
            if !is_open {
                return self.trim().await;
            }
        }
    }

    /// True if everything told is in the store.
    async fn write(&mut self) -> bool {
        let told = self.told.borrow_and_update().clone();
        for (partition, position) in &told {
            let Some(applied) = &position.applied else { continue };
            if self.written.get(partition) == Some(position) {
                continue;
            }
            if let Err(error) = put(&self.deps, *partition, applied).await {
                tracing::warn!(partition, %error, "waiting to tell the progress");
                return false;
            }
        }
        self.written = told;
        true
    }

    /// How many records of each partition that it has are not applied. Of those that it has no more it says nothing, and of none
    /// while the log does not answer: what was true before would hide that. Whoever stops does not wait for the log.
    async fn tell_lag(&mut self) {
        let told = self.told.borrow().clone();
        let described = tokio::select! {
            described = self.deps.log_writer.describe(Topic::Ingestion) => described,
            () = is_over(self.told.clone()) => return,
        };
        let known = match described {
            Ok(info) => info.partitions,
            Err(error) => {
                tracing::debug!(%error, "the lag is not known");
                Vec::new()
            }
        };
        let before = std::mem::take(&mut self.lagging);
        for (partition, position) in &told {
            let Some(bounds) = known.get(*partition as usize) else { continue };
            let lag = bounds.end.saturating_sub(position.next().max(bounds.first));
            self.lag.with_label_values(&[&partition.to_string()]).set(lag as f64);
            self.lagging.insert(*partition);
        }
        for partition in before.difference(&self.lagging) {
            let removed = self.lag.remove_label_values(&[&partition.to_string()]);
            removed.expect("it was told before");
        }
    }

    /// Makes durable what is applied, then lets the log go up to there.
    async fn trim(&mut self) {
        if self.written == self.trimmed {
            return;
        }
        if let Err(error) = self.deps.store.sync().await {
            return tracing::warn!(%error, "the log is not trimmed, because the store cannot be synced");
        }
        for (partition, position) in &self.written {
            let Some(applied) = &position.applied else { continue };
            let trimmed = self.deps.log_reader.trim(Topic::Ingestion, *partition, applied.next).await;
            if let Err(error) = trimmed {
                return tracing::warn!(partition, %error, "the log could not be trimmed");
            }
        }
        self.trimmed = self.written.clone();
    }
}

/// Returns when nobody tells any more.
async fn is_over(mut told: watch::Receiver<Positions>) {
    while told.changed().await.is_ok() {}
}

/// Never moves back: a worker that has lost the partition may come late.
async fn put(deps: &Deps, partition: u32, applied: &Applied) -> Result<(), Error> {
    transact(&*deps.store, async |mut transaction: Transaction| {
        transaction.buffered();
        transaction.get(&keys::applied(LogTopic::Ingestion, partition)).await?;
        let stored = applied_get(transaction.unchecked(), LogTopic::Ingestion, partition).await?;
        if stored.is_none_or(|stored| (stored.log, stored.next) < (applied.log, applied.next)) {
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, applied);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}
