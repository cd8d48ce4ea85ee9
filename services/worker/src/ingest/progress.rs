//! Tells the store how far each partition is applied, and trims the log behind that. A task of its own, so that records are
//! handed out meanwhile: what comes while a row is being written is written together next.

use std::{collections::BTreeMap, time::Duration};

use matyan_log::Topic;
use matyan_model::{
    keys::{self, LogTopic},
    position::{Applied, applied_get, applied_put},
};
use matyan_store::{Transaction, transact};
use prometheus::GaugeVec;
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use crate::{deps::Deps, error::Error};

type Positions = BTreeMap<u32, Applied>;

pub(super) struct Progress {
    deps: Deps,
    told: watch::Receiver<Positions>,
    written: Positions,
    trimmed: Positions,
    lag: GaugeVec,
}

pub(super) struct ProgressHandle {
    tell: watch::Sender<Positions>,
    task: JoinHandle<()>,
}

/// Waits while the store is away.
const WAIT: Duration = Duration::from_millis(500);

impl ProgressHandle {
    pub(super) fn tell(&self, partition: u32, applied: Applied) {
        self.tell.send_modify(|positions| {
            positions.insert(partition, applied);
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
        let progress = Self { deps, told, written: Positions::new(), trimmed: Positions::new(), lag };
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
        for (partition, applied) in &told {
            if self.written.get(partition) == Some(applied) {
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

    /// How many records of each partition that it has are not applied.
    async fn tell_lag(&self) {
        let info = match self.deps.log_writer.describe(Topic::Ingestion).await {
            Ok(info) => info,
            Err(error) => return tracing::debug!(%error, "the lag is not known"),
        };
        for (partition, applied) in &self.written {
            let Some(bounds) = info.partitions.get(*partition as usize) else { continue };
            let lag = bounds.end.saturating_sub(applied.next.max(bounds.first));
            self.lag.with_label_values(&[&partition.to_string()]).set(lag as f64);
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
        for (partition, applied) in &self.written {
            let trimmed = self.deps.log_reader.trim(Topic::Ingestion, *partition, applied.next).await;
            if let Err(error) = trimmed {
                return tracing::warn!(partition, %error, "the log could not be trimmed");
            }
        }
        self.trimmed = self.written.clone();
    }
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
