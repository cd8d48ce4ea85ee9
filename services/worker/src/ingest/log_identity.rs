//! Identifies the log. Offsets are meaningless in a recreated log, so every log has a number, and a
//! partition is read only after its number is known.
//!
//! A log is the same if its identity is the same. If such a log ends before the applied position, or has a
//! record of a later leader there, it has lost its tail: offsets are used twice, so the partition is read
//! up to the start of the tail, and not further until an operator decides to continue.
//!
//! If nothing of a partition was applied and its first records are gone, the store is not the one that has
//! applied them, or nothing has. The partition is not read until an operator decides, too: runs would be
//! created from their last records.

use std::collections::BTreeMap;

use matyan_log::{LogInspector, PartitionDescription, PartitionInfo, Topic};
use matyan_maintenance::lost_tail;
use matyan_model::{
    keys::{self, LogTopic},
    position::{
        AppliedPosition, LastRecord, LogPosition, LogState, applied_all, applied_put, log_get,
        log_is_replaced, log_put, log_put_replaced, partition_log,
    },
};
use matyan_store::{Store, Transaction, transact};

use crate::{deps::Deps, error::Error};

/// Starting point of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PartitionStart {
    /// Number of the log.
    pub(super) log: u32,
    pub(super) identity: [u8; 16],
    pub(super) offset: u64,
    /// The record before the offset, if it was applied.
    pub(super) before: Option<LastRecord>,
    /// The offset at which the lost tail of the log started: nothing is read from there on.
    pub(super) end: Option<u64>,
    /// Whether nothing of the partition was applied, and its first records are gone.
    pub(super) is_headless: bool,
    /// Whether an operator has decided to read such a partition, and nothing of it was applied yet.
    pub(super) is_middle: bool,
    /// Append time of the first record that was read, if the log was read from its middle.
    pub(super) middle_us: Option<i64>,
}

/// The point where a partition stopped because it has lost records.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopPoint {
    pub(super) position: LogPosition,
    /// Id of the log.
    pub(super) identity: [u8; 16],
}

impl PartitionStart {
    /// The point where the partition stops if it is not read.
    pub(super) fn stop_at_start(&self, partition: u32) -> StopPoint {
        // A partition that is continued at its first record has a position after the records before it.
        self.stop_at(partition, self.offset - u64::from(self.is_headless))
    }

    /// The point where the partition stops if it is applied up to an offset.
    pub(super) fn stop_at(&self, partition: u32, offset: u64) -> StopPoint {
        StopPoint { position: LogPosition { log: self.log, partition, offset }, identity: self.identity }
    }
}

/// Rows and start of a partition, decided from the stored rows and the current log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartitionDecision {
    state: LogState,
    /// The position in this log, if something of it was applied.
    applied: Option<AppliedPosition>,
    start: PartitionStart,
}

/// Returns the number of the ingestion log, for a process that accepts data from its start,
/// possibly before any worker has checked the log.
pub async fn log_number(store: &dyn Store, log: &dyn LogInspector) -> Result<u32, Error> {
    let partitions = log.describe(Topic::Ingestion).await?.partitions.len() as u32;
    let mut number = 0;
    for partition in 0..partitions {
        number = number.max(decide_and_store(store, log, partition, None).await?.start.log);
    }
    Ok(number)
}

/// Decides where a partition starts. `noticed` is the offset at which the log has lost its tail, if a reader
/// noticed the loss.
pub(super) async fn decide_start(
    deps: &Deps,
    partition: u32,
    noticed: Option<u64>,
) -> Result<PartitionStart, Error> {
    let lost_tail = match noticed {
        None => lost_tail(&*deps.store, &*deps.log_writer, partition).await?,
        noticed => noticed,
    };
    Ok(decide_and_store(&*deps.store, &*deps.log_writer, partition, lost_tail).await?.start)
}

/// Makes and stores the decision about a partition. The result of a repetition is the same.
async fn decide_and_store(
    store: &dyn Store,
    log: &dyn LogInspector,
    partition: u32,
    lost_tail: Option<u64>,
) -> Result<PartitionDecision, Error> {
    let (decision, _) = transact(store, async |mut transaction: Transaction| {
        // Described after the snapshot: the previous owner may still apply records, and no record
        // that the snapshot shows as applied may be past the end.
        let info = log.describe_partition(Topic::Ingestion, partition).await?;
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, LogTopic::Ingestion).await?;
        let applied = applied_all(snapshot, LogTopic::Ingestion).await?;
        let own = applied.get(&partition).copied();
        if let Some(LogState { number, identity: Some(replaced), .. }) = known
            && replaced != info.identity
        {
            if log_is_replaced(snapshot, LogTopic::Ingestion, &info.identity).await? {
                return Err(Error::Replaced);
            }
            log_put_replaced(transaction.batch(), LogTopic::Ingestion, &replaced, number);
        }
        let decision = decide(known, own, (partition, lost_tail), info)?;
        if known != Some(decision.state) {
            // A checked read, so that two workers that find the same new log assign
            // the same number.
            transaction.get(&keys::log(LogTopic::Ingestion)).await?;
            log_put(transaction.batch(), LogTopic::Ingestion, &decision.state);
        }
        if known.is_some_and(|known| known.identity.is_none()) {
            identify_positions(&mut transaction, applied, info.identity).await?;
        }
        if let Some(applied) = decision.applied.filter(|applied| own != Some(*applied)) {
            transaction.get(&keys::applied(LogTopic::Ingestion, partition)).await?;
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, decision))
    })
    .await?;
    Ok(decision)
}

/// Notes, in a store from before Kafka's topics were known by their ids, that its positions are positions
/// of this log. All are noted at once: a position that is left would look like a position in another log.
async fn identify_positions(
    transaction: &mut Transaction,
    applied: BTreeMap<u32, AppliedPosition>,
    identity: [u8; 16],
) -> Result<(), Error> {
    for (partition, applied) in applied {
        transaction.get(&keys::applied(LogTopic::Ingestion, partition)).await?;
        let applied = AppliedPosition { identity: Some(identity), ..applied };
        applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
    }
    Ok(())
}

fn decide(
    known: Option<LogState>,
    applied: Option<AppliedPosition>,
    (partition, lost_tail): (u32, Option<u64>),
    info: PartitionDescription,
) -> Result<PartitionDecision, Error> {
    let PartitionDescription { identity, partitions, bounds } = info;
    let Some(PartitionInfo { first, end }) = bounds else {
        return Err(Error::Partitions { known: partition + 1, found: partitions });
    };
    let log = partition_log(known, applied, identity);
    let state = match known {
        Some(known) if known.identity.is_none_or(|known| known == identity) => {
            if known.partitions != partitions {
                return Err(Error::Partitions { known: known.partitions, found: partitions });
            }
            LogState { number: known.number.max(log), identity: Some(identity), ..known }
        }
        _ => LogState { number: log, identity: Some(identity), partitions, ..LogState::default() },
    };
    let mut applied = applied.filter(|applied| {
        known.is_some() && applied.log == log && applied.identity.is_none_or(|own| own == identity)
    });
    let is_known = known.is_some_and(|known| known.identity == Some(identity));
    if applied.is_none() && lost_tail.is_some() && is_known {
        // Records of a lost tail may be about to be applied, even if no record was applied yet.
        applied = Some(AppliedPosition { log, next: first, ..AppliedPosition::default() });
    }
    if let Some(applied) = &mut applied {
        applied.identity = Some(identity);
        let read_past_end = (applied.read_to() > end).then_some(end);
        // The lowest end that was seen: records that were appended since were never applied.
        let lowest = [applied.shortened_to, lost_tail, read_past_end].into_iter().flatten().min();
        applied.shortened_to = lowest.map(|to| to.min(end));
    }
    let start = PartitionStart {
        log,
        identity,
        offset: applied.map_or(first, |applied| applied.next),
        before: applied.and_then(|applied| applied.last),
        end: applied.and_then(|applied| applied.shortened_to),
        is_headless: applied.is_none() && first > 0,
        is_middle: applied.is_some_and(|applied| applied.is_middle),
        middle_us: applied.and_then(|applied| applied.middle_us),
    };
    Ok(PartitionDecision { state, applied, start })
}

#[cfg(test)]
mod tests;
