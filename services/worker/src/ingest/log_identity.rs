//! Identifies the log. Offsets are meaningless in a recreated log, so every log has a number,
//! and a partition is read only after its number is known.
//!
//! A log with an identity is recognized by it. For one without (Kafka), the last applied record
//! is reread: a different record there, or a position past the end, means a different log. If
//! retention has deleted the record, the log is assumed to be the same.

use matyan_log::{LogWriter, PartitionInfo, Topic};
use matyan_model::{
    keys::{self, LogTopic},
    position::{
        AppliedPosition, LastRecord, LogState, applied_get, applied_put, log_get, log_put, partition_log,
    },
};
use matyan_store::{Store, Transaction, transact};

use crate::{deps::Deps, error::Error};

/// Starting point of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionStart {
    /// Number of the log.
    pub(super) log: u32,
    pub(super) offset: u64,
    /// The record that must come first; otherwise this is a different log.
    pub(super) expected: Option<LastRecord>,
    pub(super) has_identity: bool,
}

/// Returns the number of the ingestion log, for a process that accepts data from its start,
/// possibly before any worker has checked the log.
pub async fn log_number(store: &dyn Store, log: &dyn LogWriter) -> Result<u32, Error> {
    let partitions = log.describe(Topic::Ingestion).await?.partitions.len() as u32;
    let mut number = 0;
    for partition in 0..partitions {
        number = number.max(begin_in(store, log, partition).await?.log);
    }
    Ok(number)
}

pub(super) async fn begin(deps: &Deps, partition: u32) -> Result<PartitionStart, Error> {
    begin_in(&*deps.store, &*deps.log_writer, partition).await
}

/// Decides where a partition begins. Repeating it gives the same result, because the decision
/// is stored.
async fn begin_in(store: &dyn Store, log: &dyn LogWriter, partition: u32) -> Result<PartitionStart, Error> {
    let (start, _) = transact(store, async |mut transaction: Transaction| {
        // Described after the snapshot: the previous owner may still apply records, and
        // none that the snapshot shows may be past the end.
        let info = log.describe(Topic::Ingestion).await?;
        let (identity, partitions) = (info.identity, info.partitions.len() as u32);
        let Some(bounds) = info.partitions.get(partition as usize).copied() else {
            return Err(Error::Partitions { known: partition + 1, found: partitions });
        };
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, LogTopic::Ingestion).await?;
        let applied = applied_get(snapshot, LogTopic::Ingestion, partition).await?;
        let (state, start) = decide(known, applied, identity, partitions, bounds)?;
        if known != Some(state) {
            // A checked read, so that two workers that find the same new log assign
            // the same number.
            transaction.get(&keys::log(LogTopic::Ingestion)).await?;
            log_put(transaction.batch(), LogTopic::Ingestion, &state);
        }
        if is_shortened(known, state) {
            let applied = AppliedPosition { log: state.number, next: start.offset, last: None };
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, start))
    })
    .await?;
    Ok(start)
}

/// Assigns the next number to a log that is not number `known`, unless that was done already,
/// and makes the partition start with it. Without the latter, the stored last record would
/// identify it as a different log every time.
pub(super) async fn replace(deps: &Deps, partition: u32, known: u32) -> Result<(), Error> {
    tracing::warn!(partition, log = known, "log was recreated; assigning it a new number");
    let info = deps.log_writer.describe(Topic::Ingestion).await?;
    let partitions = info.partitions.len() as u32;
    let next = info.partitions.get(partition as usize).map_or(0, |bounds| bounds.first);
    transact(&*deps.store, async |mut transaction: Transaction| {
        transaction.get(&keys::log(LogTopic::Ingestion)).await?;
        transaction.get(&keys::applied(LogTopic::Ingestion, partition)).await?;
        let mut state = log_get(transaction.unchecked(), LogTopic::Ingestion).await?.unwrap_or_default();
        if state.number == known {
            state = LogState { number: known + 1, identity: None, partitions };
            log_put(transaction.batch(), LogTopic::Ingestion, &state);
        }
        let applied = applied_get(transaction.unchecked(), LogTopic::Ingestion, partition).await?;
        if applied.is_some_and(|applied| applied.log == known) {
            let applied = AppliedPosition { log: state.number, next, last: None };
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

fn decide(
    known: Option<LogState>,
    applied: Option<AppliedPosition>,
    identity: Option<[u8; 16]>,
    partitions: u32,
    bounds: PartitionInfo,
) -> Result<(LogState, PartitionStart), Error> {
    let number = partition_log(known, applied, identity, bounds.end);
    let has_identity = identity.is_some();
    let state = match known {
        Some(known) if known.identity == identity => {
            if known.partitions != partitions {
                return Err(Error::Partitions { known: known.partitions, found: partitions });
            }
            LogState { number: known.number.max(number), ..known }
        }
        _ => LogState { number, identity, partitions },
    };
    let begin =
        |start, expected| (state, PartitionStart { log: number, offset: start, expected, has_identity });
    let Some(applied) = applied.filter(|_| known.is_some()) else { return Ok(begin(bounds.first, None)) };
    Ok(if applied.log != number {
        // In a log that lost its tail, all remaining records have been applied, and all
        // new ones have not.
        begin(if is_shortened(known, state) { bounds.end } else { bounds.first }, None)
    } else if has_identity {
        begin(applied.next, None)
    } else {
        let last = applied.last.filter(|last| bounds.first <= last.offset);
        begin(last.map_or(applied.next, |last| last.offset), last)
    })
}

/// Whether this is the same log but its tail was lost. The number alone does not determine
/// where to continue.
fn is_shortened(known: Option<LogState>, state: LogState) -> bool {
    let same = |known: LogState| known.identity == state.identity && known.number != state.number;
    state.identity.is_some() && known.is_some_and(same)
}

#[cfg(test)]
mod tests;
