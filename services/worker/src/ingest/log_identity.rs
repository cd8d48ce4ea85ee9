//! Identifies the log. Offsets are meaningless in a recreated log, so every log has a number, and a
//! partition is read only after its number is known.
//!
//! A log is the same if its identity is. If it then ends before the position that was applied, or has a
//! record of a later leader there, it has lost its tail: offsets are used twice, so the partition is read
//! up to where the tail began, and not further until an operator decides to continue.

use std::collections::BTreeMap;

use matyan_log::{LogWriter, PartitionDescription, PartitionInfo, Topic};
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
    /// The record before it, if it was applied.
    pub(super) before: Option<LastRecord>,
    /// Where the lost tail of the log began: nothing is read from there on.
    pub(super) end: Option<u64>,
    /// Nothing of the log was applied, and its first records are gone.
    pub(super) is_middle: bool,
    /// The log was read from its middle: this is when the first record there was appended.
    pub(super) middle_us: Option<i64>,
}

/// Where a partition stopped because it has lost records.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopPoint {
    pub(super) position: LogPosition,
    /// Id of the log.
    pub(super) identity: [u8; 16],
}

impl PartitionStart {
    /// Where the partition stops if it is applied up to an offset.
    pub(super) fn stop_at(&self, partition: u32, offset: u64) -> StopPoint {
        StopPoint { position: LogPosition { log: self.log, partition, offset }, identity: self.identity }
    }
}

/// Rows and start of a partition, by what is stored and the log of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartitionDecision {
    state: LogState,
    /// The position in this log, if something of it was applied.
    applied: Option<AppliedPosition>,
    start: PartitionStart,
}

/// Returns the number of the ingestion log, for a process that accepts data from its start,
/// possibly before any worker has checked the log.
pub async fn log_number(store: &dyn Store, log: &dyn LogWriter) -> Result<u32, Error> {
    let partitions = log.describe(Topic::Ingestion).await?.partitions.len() as u32;
    let mut number = 0;
    for partition in 0..partitions {
        number = number.max(decide_and_store(store, log, partition, None).await?.start.log);
    }
    Ok(number)
}

/// Decides where a partition begins. `noticed` is the offset at which the log has lost its tail, if a
/// reader noticed that.
pub(super) async fn begin(
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

/// Repeating it gives the same result, because the decision is stored.
async fn decide_and_store(
    store: &dyn Store,
    log: &dyn LogWriter,
    partition: u32,
    lost_tail: Option<u64>,
) -> Result<PartitionDecision, Error> {
    let (decision, _) = transact(store, async |mut transaction: Transaction| {
        // Described after the snapshot: the previous owner may still apply records, and
        // none that the snapshot shows may be past the end.
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

/// Notes, in a store from before Kafka's topics were known by their ids, that its positions are those
/// of this log. All at once: a position that is left would look like one in another log.
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
    let is_own = |applied: &AppliedPosition| {
        known.is_some() && applied.log == log && applied.identity.is_none_or(|own| own == identity)
    };
    let is_known = known.is_some_and(|known| known.identity == Some(identity));
    // Records of a lost tail may be about to be applied, although none was yet.
    let unapplied = AppliedPosition { log, next: first, ..AppliedPosition::default() };
    let applied = applied.filter(is_own).or((lost_tail.is_some() && is_known).then_some(unapplied));
    let applied = applied.map(|applied| AppliedPosition {
        identity: Some(identity),
        // The lowest end that was seen: what was appended since was never applied.
        shortened_to: [applied.shortened_to, lost_tail, (applied.read_to() > end).then_some(end)]
            .into_iter()
            .flatten()
            .min()
            .map(|to| to.min(end)),
        ..applied
    });
    let start = PartitionStart {
        log,
        identity,
        offset: applied.map_or(first, |applied| applied.next),
        before: applied.and_then(|applied| applied.last),
        end: applied.and_then(|applied| applied.shortened_to),
        is_middle: applied.is_none() && first > 0,
        middle_us: applied.and_then(|applied| applied.middle_us),
    };
    Ok(PartitionDecision { state, applied, start })
}

#[cfg(test)]
mod tests;
