//! The partitions of the ingestion log: what each holds, which log that is, and how far it is applied.

use matyan_log::{LogWriter, PartitionInfo, Topic};
use matyan_model::{
    keys::LogTopic,
    position::{Applied, applied_all, log_get, partition_log},
};
use matyan_store::Store;

use crate::Error;

#[derive(Clone, Copy, Debug)]
pub struct Partition {
    pub bounds: PartitionInfo,
    pub log: u32,
    /// None if nothing of this log is.
    pub applied: Option<Applied>,
}

/// In their order, as of one moment: what is applied meanwhile is not told.
pub async fn partitions(store: &dyn Store, log: &dyn LogWriter) -> Result<Vec<Partition>, Error> {
    // First: what is applied meanwhile must not seem to lie behind the ends.
    let snapshot = store.snapshot().await?;
    let info = log.describe(Topic::Ingestion).await?;
    let known = log_get(&*snapshot, LogTopic::Ingestion).await?;
    let applied = applied_all(&*snapshot, LogTopic::Ingestion).await?;
    let found = (0..).zip(info.partitions).map(|(partition, bounds)| {
        let applied = applied.get(&partition).copied();
        let log = partition_log(known, applied, info.identity, bounds.end);
        Partition { bounds, log, applied: applied.filter(|applied| applied.log == log) }
    });
    Ok(found.collect())
}

/// Before this everything in the log is applied. What comes behind the last applied record is younger than it. Of a partition
/// that no worker has looked at since it was made anew nothing is known.
pub async fn oldest_unapplied_us(store: &dyn Store, log: &dyn LogWriter) -> Result<i64, Error> {
    let has_more = |partition: &Partition| {
        let next = partition.applied.map_or(0, |applied| applied.next);
        partition.bounds.end > next.max(partition.bounds.first)
    };
    let last_us = |partition: Partition| {
        let last = partition.applied.and_then(|applied| applied.last);
        last.map_or(i64::MIN, |last| last.appended_us)
    };
    let behind = partitions(store, log).await?.into_iter().filter(has_more);
    Ok(behind.map(last_us).min().unwrap_or(i64::MAX))
}
