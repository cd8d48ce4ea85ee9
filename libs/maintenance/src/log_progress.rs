//! The partitions of the ingestion log: their bounds, the number of the log, and how far
//! each is applied.

use matyan_log::{LogInspector, PartitionInfo, StartPoint, Topic};
use matyan_model::{
    keys::LogTopic,
    position::{AppliedPosition, applied_all, applied_get, log_get, partition_log},
};
use matyan_store::Store;

use crate::Error;

#[derive(Clone, Copy, Debug)]
pub struct PartitionProgress {
    pub bounds: PartitionInfo,
    pub log: u32,
    /// `None` if no record of this log has been applied.
    pub applied: Option<AppliedPosition>,
}

/// The partitions in order, as of a single point in time; progress made during the call is not
/// visible.
pub async fn partition_progress(
    store: &dyn Store,
    log: &dyn LogInspector,
) -> Result<Vec<PartitionProgress>, Error> {
    // The snapshot is taken before the log is described, so that the applied positions are
    // never past the ends.
    let snapshot = store.snapshot().await?;
    let info = log.describe(Topic::Ingestion).await?;
    let known = log_get(&*snapshot, LogTopic::Ingestion).await?;
    let applied = applied_all(&*snapshot, LogTopic::Ingestion).await?;
    let found = (0..).zip(info.partitions).map(|(partition, bounds)| {
        let applied = applied.get(&partition).copied();
        let log = partition_log(known, applied, info.identity);
        PartitionProgress { bounds, log, applied: applied.filter(|applied| applied.log == log) }
    });
    Ok(found.collect())
}

/// The offset at which the log has lost its tail according to its leader epochs, if no worker has noticed
/// that yet. Not for use in a transaction: it may have to read many records.
pub async fn lost_tail(
    store: &dyn Store,
    log: &dyn LogInspector,
    partition: u32,
) -> Result<Option<u64>, Error> {
    let snapshot = store.snapshot().await?;
    let applied = applied_get(&*snapshot, LogTopic::Ingestion, partition).await?;
    drop(snapshot);
    let Some(applied) = applied.filter(|applied| applied.shortened_to.is_none()) else { return Ok(None) };
    if applied.identity != Some(log.describe_partition(Topic::Ingestion, partition).await?.identity) {
        return Ok(None);
    }
    let epoch_before = applied.last_read().and_then(|last| last.leader_epoch);
    let point = StartPoint { offset: applied.read_to(), epoch_before };
    Ok(log.lost_tail(Topic::Ingestion, partition, point).await?)
}

/// Returns a time before which everything in the log has been applied. Records after the last
/// applied one are younger than it. For a partition that has pending records but no applied
/// one, for example after the topic was recreated, nothing is known, and the result is
/// `i64::MIN`.
pub async fn oldest_unapplied_us(store: &dyn Store, log: &dyn LogInspector) -> Result<i64, Error> {
    let lagging = partition_progress(store, log).await?.into_iter().filter(|partition| {
        let next = partition.applied.map_or(0, |applied| applied.next);
        partition.bounds.end > next.max(partition.bounds.first)
    });
    Ok(lagging
        .map(|partition| {
            let last = partition.applied.and_then(|applied| applied.last);
            last.map_or(i64::MIN, |last| last.appended_us)
        })
        .min()
        .unwrap_or(i64::MAX))
}
