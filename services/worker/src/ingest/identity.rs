//! Which log is it? Offsets mean nothing in a log that was made anew, so every log has a number, and a partition is read only
//! after it is clear which number it has.
//!
//! A log with an identity of its own tells by that. Of one without (Kafka) the record that was applied last is read again:
//! another record there, or a position past the end, is another log. A record that retention has taken tells nothing, and
//! the log counts as the same.

use matyan_log::{LogWriter, PartitionInfo, Topic};
use matyan_model::{
    keys::{self, LogTopic},
    position::{Applied, LastRecord, LogState, applied_get, applied_put, log_get, log_put, partition_log},
};
use matyan_store::{Store, Transaction, transact};

use crate::{deps::Deps, error::Error};

/// Where a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Number of the log.
    pub(super) log: u32,
    pub(super) start: u64,
    /// The record that must come first, or else this is another log.
    pub(super) expected: Option<LastRecord>,
    pub(super) has_identity: bool,
}

/// The number of the ingestion log. For a process that takes data from its start on, when no worker may have looked yet.
pub async fn log_number(store: &dyn Store, log: &dyn LogWriter) -> Result<u32, Error> {
    let partitions = log.describe(Topic::Ingestion).await?.partitions.len() as u32;
    let mut number = 0;
    for partition in 0..partitions {
        number = number.max(begin_in(store, log, partition).await?.log);
    }
    Ok(number)
}

pub(super) async fn begin(deps: &Deps, partition: u32) -> Result<Begun, Error> {
    begin_in(&*deps.store, &*deps.log_writer, partition).await
}

/// Asking twice answers the same: what is decided is written down.
async fn begin_in(store: &dyn Store, log: &dyn LogWriter, partition: u32) -> Result<Begun, Error> {
    let (begun, _) = transact(store, async |mut transaction: Transaction| {
        // Behind the snapshot: whoever had the partition may still apply, and nothing of that may lie behind the end.
        let info = log.describe(Topic::Ingestion).await?;
        let (identity, partitions) = (info.identity, info.partitions.len() as u32);
        let Some(bounds) = info.partitions.get(partition as usize).copied() else {
            return Err(Error::Partitions { known: partition + 1, found: partitions });
        };
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, LogTopic::Ingestion).await?;
        let applied = applied_get(snapshot, LogTopic::Ingestion, partition).await?;
        let (state, begun) = decide(known, applied, identity, partitions, bounds)?;
        if known != Some(state) {
            // Checked: two workers that find the same new log give it one number.
            transaction.get(&keys::log(LogTopic::Ingestion)).await?;
            log_put(transaction.batch(), LogTopic::Ingestion, &state);
        }
        if is_shortened(known, state) {
            let applied = Applied { log: state.number, next: begun.start, last: None };
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, begun))
    })
    .await?;
    Ok(begun)
}

/// Gives the next number to a log that turned out to be another than number `known`, unless that was done already, and has
/// the partition begin with it: by its last record it would be found to be another for ever.
pub(super) async fn replace(deps: &Deps, partition: u32, known: u32) -> Result<(), Error> {
    tracing::warn!(partition, log = known, "the log was made anew");
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
            let applied = Applied { log: state.number, next, last: None };
            applied_put(transaction.batch(), LogTopic::Ingestion, partition, &applied);
        }
        Ok::<_, Error>((transaction, ()))
    })
    .await?;
    Ok(())
}

fn decide(
    known: Option<LogState>,
    applied: Option<Applied>,
    identity: Option<[u8; 16]>,
    partitions: u32,
    bounds: PartitionInfo,
) -> Result<(LogState, Begun), Error> {
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
    let begin = |start, expected| (state, Begun { log: number, start, expected, has_identity });
    let Some(applied) = applied.filter(|_| known.is_some()) else { return Ok(begin(bounds.first, None)) };
    Ok(if applied.log != number {
        // Of a log that has lost its tail all that it has is applied, and what it will get is not.
        begin(if is_shortened(known, state) { bounds.end } else { bounds.first }, None)
    } else if has_identity {
        begin(applied.next, None)
    } else {
        let last = applied.last.filter(|last| bounds.first <= last.offset);
        begin(last.map_or(applied.next, |last| last.offset), last)
    })
}

/// Whether the same log was found to have lost its tail: its number alone does not tell where it goes on.
fn is_shortened(known: Option<LogState>, state: LogState) -> bool {
    let same = |known: LogState| known.identity == state.identity && known.number != state.number;
    state.identity.is_some() && known.is_some_and(same)
}

#[cfg(test)]
mod tests;
