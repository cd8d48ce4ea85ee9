//! Progress of each partition of the ingestion log, and the operator's decision to continue a partition
//! that has lost records: its first records before any or all of them were applied, or its last records after that. No
//! worker continues automatically, so that a loss does not go unnoticed.

use matyan_log::{PartitionInfo, Topic, TopicInfo};
use matyan_maintenance::{PartitionProgress, lost_tail, partition_progress};
use matyan_model::{
    keys::{self, LogTopic},
    position::{
        AppliedPosition, LogState, applied_all, applied_get, applied_put, log_get, log_put, partition_log,
    },
};
use matyan_proto::admin::v1 as pb;
use matyan_store::{Transaction, transact};

use super::job::random_id;
use crate::server::{
    deps::Deps,
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
        shortened_to: own.and_then(|own| shortened_to(&own, bounds)),
        is_headless: own.is_none() && bounds.first > 0,
    }
}

/// The end of a log that has lost its tail, also before a worker has seen it.
fn shortened_to(applied: &AppliedPosition, bounds: PartitionInfo) -> Option<u64> {
    applied.shortened_to.or((applied.read_to() > bounds.end).then_some(bounds.end))
}

/// Returns the number of records skipped, or lost from the end of the log.
pub(super) async fn skip_lost(deps: &Deps, partition: u32) -> Result<u64> {
    let info = deps.log.describe(Topic::Ingestion).await?;
    let count = info.partitions.len();
    let bounds = info.partitions.get(partition as usize);
    let bounds = bounds.ok_or_else(|| {
        Error::field("partition", format!("is out of range: the log has {count}, numbered from 0"))
    })?;
    let lost_tail = lost_tail(deps.store.as_ref(), deps.log.as_ref(), partition).await?;
    let (lost, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // A checked read: a worker may be applying records concurrently.
        transaction.get(&keys::applied(TOPIC, partition)).await?;
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, TOPIC).await?;
        let applied = applied_get(snapshot, TOPIC, partition).await?;
        let log = partition_log(known, applied, info.identity);
        let Some(applied) = applied.filter(|own| own.log == log) else {
            if bounds.first == 0 {
                return Ok::<_, Error>((transaction, 0));
            }
            if known.is_none_or(|known| known.identity != Some(info.identity)) {
                return Err(Error::NotYetApplied(format!(
                    "no worker has seen the log yet: start one, and skip partition {partition} when it reports that it waits"
                )));
            }
            transaction.get(&keys::log(TOPIC)).await?;
            let middle = AppliedPosition::from_middle(log, bounds.first, Some(info.identity));
            applied_put(transaction.batch(), TOPIC, partition, &middle);
            return Ok((transaction, bounds.first));
        };
        let lost_tail = applied.shortened_to.or(lost_tail).or(shortened_to(&applied, *bounds));
        let first = lost_tail.map_or(bounds.first, |end| end.min(bounds.first));
        if applied.next < first {
            let skipped = AppliedPosition { next: first, ..applied };
            applied_put(transaction.batch(), TOPIC, partition, &skipped);
            return Ok((transaction, first - applied.next));
        }
        if let (Some(end), Some(known)) = (lost_tail, known) {
            if applied.next < end {
                return Err(Error::NotYetApplied(format!(
                    "partition {partition} is still being applied up to offset {end}, where the log has lost its tail"
                )));
            }
            let state = known.renumbered(random_id(deps));
            continue_at(&mut transaction, partition, (known, state), end, &info).await?;
            return Ok((transaction, applied.read_to() - end));
        }
        Ok((transaction, 0))
    })
    .await?;
    if lost > 0 {
        tracing::warn!(partition, records = lost, "continued after lost records at an operator's request");
    }
    Ok(lost)
}

/// Continues a partition that has lost its tail where the log ended: everything before was applied, and
/// what follows was not. It gets its own number, because offsets are used twice.
async fn continue_at(
    transaction: &mut Transaction,
    partition: u32,
    (known, state): (LogState, LogState),
    end: u64,
    info: &TopicInfo,
) -> Result<()> {
    transaction.get(&keys::log(TOPIC)).await?;
    let identity = Some(info.identity);
    let stored = applied_all(transaction.unchecked(), TOPIC).await?;
    log_put(transaction.batch(), TOPIC, &state);
    let first = AppliedPosition { log: state.number, next: end, identity, ..AppliedPosition::default() };
    let continued = AppliedPosition { begins: Some(end), ..first };
    applied_put(transaction.batch(), TOPIC, partition, &continued);
    // The other partitions keep their number, even if none of their records was applied yet. Such a
    // partition may have a position in an earlier log.
    for (other, bounds) in (0..).zip(&info.partitions) {
        if other != partition && !stored.get(&other).is_some_and(|stored| stored.is_of(&known)) {
            transaction.get(&keys::applied(TOPIC, other)).await?;
            let unread = AppliedPosition { log: known.number, next: bounds.first, ..first };
            applied_put(transaction.batch(), TOPIC, other, &unread);
        }
    }
    Ok(())
}
