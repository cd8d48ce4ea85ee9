//! Progress of each partition of the ingestion log, and the operator's decision to skip records
//! that were trimmed before they were applied. No worker skips them automatically, so that a
//! loss does not go unnoticed.

use matyan_log::Topic;
use matyan_maintenance::{PartitionProgress, partition_progress};
use matyan_model::{
    keys::{self, LogTopic},
    position::{AppliedPosition, applied_get, applied_put, log_get, partition_log},
};
use matyan_proto::admin::v1 as pb;
use matyan_store::{Transaction, transact};

use crate::{
    Deps,
    error::{Error, Result},
};

const TOPIC: LogTopic = LogTopic::Ingestion;

pub(super) async fn list(deps: &Deps) -> Result<Vec<pb::Partition>> {
    let mut views = Vec::new();
    for (number, mut partition) in
        (0..).zip(partition_progress(deps.store.as_ref(), deps.log.as_ref()).await?)
    {
        if partition.applied.is_some_and(|applied| applied.next < partition.bounds.first) {
            // It may have been applied, and the log then trimmed, since `partition_progress`
            // read the position.
            let applied = applied_get(deps.store.snapshot().await?.as_ref(), TOPIC, number).await?;
            partition.applied = applied.filter(|applied| applied.log == partition.log);
        }
        views.push(view(number, partition));
    }
    Ok(views)
}

fn view(partition: u32, PartitionProgress { bounds, log, applied: own }: PartitionProgress) -> pb::Partition {
    let applied = own.map_or(bounds.first, |own| own.next);
    let last = own.and_then(|own| own.last);
    pb::Partition {
        partition,
        log,
        first: bounds.first,
        end: bounds.end,
        applied,
        oldest_unapplied_us: last.filter(|_| applied < bounds.end).map(|last| last.appended_us),
    }
}

/// Returns the number of records skipped.
pub(super) async fn skip_lost(deps: &Deps, partition: u32) -> Result<u64> {
    let info = deps.log.describe(Topic::Ingestion).await?;
    let count = info.partitions.len();
    let bounds = info.partitions.get(partition as usize);
    let bounds = bounds.ok_or_else(|| {
        Error::field("partition", format!("is out of range: the log has {count}, numbered from 0"))
    })?;
    let (lost, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // A checked read: a worker may be applying records concurrently.
        transaction.get(&keys::applied(TOPIC, partition)).await?;
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, TOPIC).await?;
        let applied = applied_get(snapshot, TOPIC, partition).await?;
        let log = partition_log(known, applied, info.identity, bounds.end);
        let Some(applied) = applied.filter(|own| own.log == log && own.next < bounds.first) else {
            return Ok::<_, Error>((transaction, 0));
        };
        // The last record is kept: it identifies the log for this partition after
        // another partition finds a new log.
        let skipped = AppliedPosition { next: bounds.first, ..applied };
        applied_put(transaction.batch(), TOPIC, partition, &skipped);
        Ok((transaction, bounds.first - applied.next))
    })
    .await?;
    if lost > 0 {
        tracing::warn!(partition, records = lost, "skipped lost records at an operator's request");
    }
    Ok(lost)
}
