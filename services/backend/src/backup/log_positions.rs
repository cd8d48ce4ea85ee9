//! Log positions at the time of a backup, and their use in the store it is restored into. A
//! store without positions adopts those of the archive if the log is still the same. In a store with
//! positions, those of an archive are valid only if both identify the same log. An archive of
//! selected runs supplies only the log's number and the cursors of its runs, not the positions:
//! records of other runs before the backup exist nowhere else.

use matyan_log::{Topic, TopicInfo};
use matyan_model::{
    keys::LogTopic,
    position::{
        AppliedPosition, Cursor, LastRecord, LogPosition, LogState, adopted_positions_get,
        adopted_positions_put, applied_all, applied_put, log_get, log_put,
    },
};
use matyan_proto::{backup::v1 as pb, common::v1 as common};
use matyan_store::{Batch, Snapshot, Transaction, transact};
use prost::Message;

use crate::{
    Deps,
    error::{Error, Result},
};

/// The positions of the store in the form an archive keeps.
pub(super) async fn read(snapshot: &dyn Snapshot) -> Result<pb::Cut> {
    let log = log_get(snapshot, LogTopic::Ingestion).await?.unwrap_or_default();
    let applied = applied_all(snapshot, LogTopic::Ingestion).await?.into_iter();
    Ok(pb::Cut {
        log: log.number,
        identity: log.identity.map(|identity| identity.to_vec()).unwrap_or_default().into(),
        partitions: log.partitions,
        applied: applied.map(|(partition, applied)| applied_view(partition, applied)).collect(),
        filtered: false,
    })
}

fn applied_view(partition: u32, applied: AppliedPosition) -> pb::Applied {
    let last = applied.last.as_ref();
    pb::Applied {
        partition,
        log: applied.log,
        next: applied.next,
        last_offset: last.map(|last| last.offset),
        appended_us: last.map(|last| last.appended_us).unwrap_or_default(),
        ..pb::Applied::default()
    }
}

fn parse_applied(applied: &pb::Applied, identity: [u8; 16]) -> AppliedPosition {
    let last_record = |offset| LastRecord { offset, appended_us: applied.appended_us };
    let last = applied.last_offset.map(last_record);
    let (log, next) = (applied.log, applied.next);
    AppliedPosition { log, next, last, identity: Some(identity), ..AppliedPosition::default() }
}

fn identity(cut: &pb::Cut) -> Result<Option<[u8; 16]>> {
    if cut.identity.is_empty() {
        return Ok(None);
    }
    let identity = cut.identity.as_ref().try_into();
    identity.map(Some).map_err(|_| Error::field("cut.identity", "does not have 16 bytes"))
}

fn digest(cut: &pb::Cut) -> [u8; 32] {
    *blake3::hash(&cut.encode_to_vec()).as_bytes()
}

/// Maximum number of partitions in a backup: far more than a topic has.
const PARTITIONS: usize = 10_000;

/// Adopts the positions if the store has none. Returns whether they are valid here, and how
/// many later records are lost.
pub(super) async fn adopt_if_fresh(deps: &Deps, cut: &pb::Cut) -> Result<(bool, u64)> {
    crate::convert::check_limit("cut.applied", cut.applied.len(), PARTITIONS)?;
    let info = deps.log.describe(Topic::Ingestion).await?;
    let (taken, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // A checked read: a worker that starts concurrently writes this key.
        transaction.get(&matyan_model::keys::log(LogTopic::Ingestion)).await?;
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, LogTopic::Ingestion).await?;
        let is_fresh = applied_all(snapshot, LogTopic::Ingestion).await?.is_empty()
            && known.is_none_or(|known| known.number == cut.log);
        let lost = match is_fresh && may_be_same_log(cut, &info)? {
            true => write_positions(transaction.batch(), cut, &info)?,
            false => 0,
        };
        // A batch with mutations means that the positions were adopted just now.
        let holds = lost > 0
            || !transaction.batch().mutations.is_empty()
            || log_number(transaction.unchecked(), cut).await?.is_some();
        Ok::<_, Error>((transaction, (holds, lost)))
    })
    .await?;
    Ok(taken)
}

/// Whether the current log can be the log of the backup.
fn may_be_same_log(cut: &pb::Cut, info: &TopicInfo) -> Result<bool> {
    let identity = identity(cut)?;
    let is_short = |applied: &pb::Applied| {
        applied.log == cut.log
            && info.partitions.get(applied.partition as usize).is_none_or(|bounds| bounds.end < applied.next)
    };
    Ok(cut.partitions as usize == info.partitions.len()
        // An archive from before Kafka's topics were known by their ids is one of the log of today,
        // unless that cannot be.
        && match identity {
            Some(identity) => identity == info.identity,
            None => !cut.applied.iter().any(is_short),
        })
}

/// Writes the positions; returns the number of later records that the log no longer contains.
fn write_positions(batch: &mut Batch, cut: &pb::Cut, info: &TopicInfo) -> Result<u64> {
    let identity = info.identity;
    let state = LogState {
        number: cut.log,
        identity: Some(identity),
        partitions: cut.partitions,
        // A partition whose number is lower kept it when another one lost its tail.
        first_number: cut.applied.iter().map(|applied| applied.log).filter(|log| *log < cut.log).min(),
    };
    log_put(batch, LogTopic::Ingestion, &state);
    adopted_positions_put(batch, digest(cut));
    let mut lost = 0;
    for stored in &cut.applied {
        let mut applied = parse_applied(stored, identity);
        let first = info.partitions.get(stored.partition as usize).map_or(0, |bounds| bounds.first);
        if applied.log == cut.log && applied.next < first {
            // These records have been trimmed from the log and cannot be replayed.
            lost += first - applied.next;
            applied.next = first;
        }
        // The positions of an archive of some runs would hide the records of all others.
        if !cut.filtered {
            applied_put(batch, LogTopic::Ingestion, stored.partition, &applied);
        }
    }
    Ok(lost)
}

/// This store's number for the number that the log had in a backup; `None` if this store has a different
/// log.
pub(super) async fn log_number(snapshot: &dyn Snapshot, cut: &pb::Cut) -> Result<Option<u32>> {
    if adopted_positions_get(snapshot).await? == Some(digest(cut)) {
        return Ok(Some(cut.log));
    }
    let known = log_get(snapshot, LogTopic::Ingestion).await?;
    let identity = identity(cut)?;
    let same = known.filter(|known| identity.is_some() && known.identity == identity);
    Ok(same.map(|known| known.number_of(cut.log)))
}

/// Translates a position from an archive to this store. A position in an older log remains
/// older than all positions here.
pub(super) fn position(at: common::LogPosition, cut: &pb::Cut, number: u32) -> Option<LogPosition> {
    let logs_ago = cut.log.checked_sub(at.log)?;
    let log = number.checked_sub(logs_ago)?;
    Some(LogPosition { log, partition: at.partition, offset: at.offset })
}

pub(super) fn cursor(cursor: &pb::Cursor, cut: &pb::Cut, number: u32) -> Option<Cursor> {
    let position = position(cursor.position?, cut, number)?;
    Some(Cursor { position, item: cursor.item, ..Cursor::default() })
}

pub(super) fn position_view(position: LogPosition) -> common::LogPosition {
    common::LogPosition { log: position.log, partition: position.partition, offset: position.offset }
}

pub(super) fn cursor_view(cursor: Cursor) -> pb::Cursor {
    pb::Cursor { position: Some(position_view(cursor.position)), item: cursor.item }
}

#[cfg(test)]
mod tests {
    use matyan_log::PartitionInfo;

    use super::*;

    #[test]
    fn rule_36_the_log_of_a_backup_is_known_by_its_identity() {
        let applied = pb::Applied { partition: 1, log: 4, next: 10, ..pb::Applied::default() };
        let cut = |identity: &'static [u8], filtered| {
            let applied = vec![applied.clone()];
            pb::Cut { log: 4, identity: identity.into(), partitions: 2, applied, filtered }
        };
        let log = |identity, end| {
            let partition = PartitionInfo { first: 3, end };
            TopicInfo { partitions: vec![partition, partition], identity }
        };
        let may_be_same_log = |cut: pb::Cut, log: TopicInfo| may_be_same_log(&cut, &log).unwrap();
        for filtered in [true, false] {
            for (end, possible) in [(9, false), (10, true), (11, true)] {
                let old = cut(&[], filtered);
                assert_eq!(may_be_same_log(old, log([7; 16], end)), possible, "{end}");
                assert!(may_be_same_log(cut(&[7; 16], filtered), log([7; 16], end)), "the identity matches");
            }
            assert!(!may_be_same_log(cut(&[7; 16], filtered), log([8; 16], 11)));
        }
    }
}
