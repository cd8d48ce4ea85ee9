//! Log positions at the time of a backup, and their use in the store it is restored into. A
//! store without positions adopts the positions of the archive if the log is still the same. In a
//! store with positions, the positions of an archive are valid only if both identify the same log. An archive of
//! selected runs supplies only the log's number and the cursors of its runs, not the positions:
//! records of other runs before the backup exist nowhere else.

use bytes::Bytes;
use matyan_log::{Topic, TopicInfo};
use matyan_model::{
    keys::LogTopic,
    position::{
        AppliedPosition, Cursor, LastRecord, LogPosition, LogState, NumbersThere, adopted_positions_get,
        adopted_positions_put, applied_all, applied_put, log_get, log_put,
    },
};
use matyan_proto::{backup::v1 as pb, common::v1 as common};
use matyan_store::{Batch, Snapshot, Transaction, transact};
use prost::Message;

use crate::server::{
    deps::{Deps, position_view},
    error::{Error, Result},
};

/// The positions of the store in the form an archive keeps.
pub(super) async fn read(snapshot: &dyn Snapshot) -> Result<pb::Cut> {
    let log = log_get(snapshot, LogTopic::Ingestion).await?.unwrap_or_default();
    let applied = applied_all(snapshot, LogTopic::Ingestion).await?.into_iter();
    // After a topic is recreated, a partition keeps its old position until something of it is applied.
    let applied = applied.filter(|(_, applied)| applied.is_of(&log));
    Ok(pb::Cut {
        log: log.number,
        identity: bytes(log.identity),
        partitions: log.partitions,
        applied: applied.map(|(partition, applied)| applied_view(partition, applied)).collect(),
        filtered: false,
        first_number: Some(log.first_number.unwrap_or(log.number)),
        numbering: bytes(log.numbering),
    })
}

fn bytes(id: Option<[u8; 16]>) -> Bytes {
    id.map(|id| id.to_vec()).unwrap_or_default().into()
}

fn applied_view(partition: u32, applied: AppliedPosition) -> pb::Applied {
    let last = applied.last.as_ref();
    pb::Applied {
        partition,
        log: applied.log,
        next: applied.next,
        last_offset: last.map(|last| last.offset),
        appended_us: last.map(|last| last.appended_us).unwrap_or_default(),
        begins: applied.begins,
        ..pb::Applied::default()
    }
}

fn parse_applied(applied: &pb::Applied, identity: [u8; 16]) -> AppliedPosition {
    let last = applied.last_offset.map(|offset| LastRecord {
        offset,
        appended_us: applied.appended_us,
        leader_epoch: None,
    });
    let log = applied.log;
    let next = applied.next;
    let begins = applied.begins;
    let identity = Some(identity);
    AppliedPosition { log, next, last, identity, begins, ..AppliedPosition::default() }
}

fn identity(cut: &pb::Cut) -> Result<Option<[u8; 16]>> {
    parse_id("cut.identity", &cut.identity)
}

fn numbering(cut: &pb::Cut) -> Result<Option<[u8; 16]>> {
    parse_id("cut.numbering", &cut.numbering)
}

fn parse_id(field: &'static str, id: &[u8]) -> Result<Option<[u8; 16]>> {
    if id.is_empty() {
        return Ok(None);
    }
    id.try_into().map(Some).map_err(|_| Error::field(field, "does not have 16 bytes"))
}

fn digest(cut: &pb::Cut) -> [u8; 32] {
    *blake3::hash(&cut.encode_to_vec()).as_bytes()
}

/// Maximum number of partitions in a backup: far more than a topic has.
const PARTITIONS: usize = 10_000;

/// Adopts the positions if the store has none. Returns whether they are valid here, and how
/// many later records are lost.
pub(super) async fn adopt_if_fresh(deps: &Deps, cut: &pb::Cut) -> Result<(bool, u64)> {
    crate::server::convert::check_limit("cut.applied", cut.applied.len(), PARTITIONS)?;
    let info = deps.log.describe(Topic::Ingestion).await?;
    let (taken, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        // A checked read: a worker that starts concurrently writes this key.
        transaction.get(&matyan_model::keys::log(LogTopic::Ingestion)).await?;
        let snapshot = transaction.unchecked();
        let known = log_get(snapshot, LogTopic::Ingestion).await?;
        let is_fresh = applied_all(snapshot, LogTopic::Ingestion).await?.is_empty()
            && known.is_none_or(|known| known.number == cut.log);
        let lost = if is_fresh && may_be_same_log(cut, &info)? {
            write_positions(transaction.batch(), cut, &info)?
        } else {
            0
        };
        // A batch with mutations means that the positions were adopted just now.
        let holds = lost > 0
            || !transaction.batch().mutations.is_empty()
            || numbers(transaction.unchecked(), cut).await?.is_some();
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
        // An archive from before Kafka's topics were known by their ids counts as an archive of the current
        // log, unless that is impossible.
        && match identity {
            Some(identity) => identity == info.identity,
            None => !cut.applied.iter().any(is_short),
        })
}

/// Writes the positions; returns the number of later records that the log no longer contains.
fn write_positions(batch: &mut Batch, cut: &pb::Cut, info: &TopicInfo) -> Result<u64> {
    let identity = info.identity;
    // In older archives, a partition whose number is lower kept it when another one lost its tail.
    let lowest = cut.applied.iter().map(|applied| applied.log).min();
    let state = LogState {
        number: cut.log,
        identity: Some(identity),
        partitions: cut.partitions,
        first_number: cut.first_number.or(lowest).filter(|first| *first < cut.log),
        numbering: numbering(cut)?,
    };
    log_put(batch, LogTopic::Ingestion, &state);
    adopted_positions_put(batch, digest(cut));
    let mut lost = 0;
    for stored in &cut.applied {
        let mut applied = parse_applied(stored, identity);
        let first = info.partitions.get(stored.partition as usize).map_or(0, |bounds| bounds.first);
        if applied.next < first {
            // These records have been trimmed from the log and cannot be replayed.
            lost += first - applied.next;
            applied.next = first;
        }
        if !cut.filtered {
            applied_put(batch, LogTopic::Ingestion, stored.partition, &applied);
        } else if applied.log < cut.log {
            // The positions of an archive of some runs would hide the records of all others. But the
            // partition keeps the number that the cursors of the runs have.
            let unread = AppliedPosition { next: first, last: None, ..applied };
            applied_put(batch, LogTopic::Ingestion, stored.partition, &unread);
        }
    }
    // Nothing of the other partitions was applied at the time of the backup, and their first records may have
    // been deleted since.
    for (partition, bounds) in (0..).zip(&info.partitions) {
        let is_in_cut = cut.applied.iter().any(|applied| applied.partition == partition);
        if !cut.filtered && !is_in_cut && bounds.first > 0 {
            lost += bounds.first;
            let middle = AppliedPosition::from_middle(cut.log, bounds.first, Some(identity));
            applied_put(batch, LogTopic::Ingestion, partition, &middle);
        }
    }
    Ok(lost)
}

/// The way to read the numbers of a backup here; `None` if this store has a different log.
pub(super) async fn numbers(snapshot: &dyn Snapshot, cut: &pb::Cut) -> Result<Option<NumbersThere>> {
    let known = log_get(snapshot, LogTopic::Ingestion).await?;
    if adopted_positions_get(snapshot).await? == Some(digest(cut)) {
        let newest = known.map_or(cut.log, |known| known.number);
        return Ok(Some(NumbersThere::Same { newest }));
    }
    let identity = identity(cut)?;
    let numbering = numbering(cut)?;
    let same = known.filter(|known| identity.is_some() && known.identity == identity);
    Ok(same.map(|known| known.numbers_of(numbering)))
}

/// Translates a position from an archive to this store. A position in an older log remains
/// older than all positions here.
pub(super) fn position(at: common::LogPosition, cut: &pb::Cut, numbers: NumbersThere) -> Option<LogPosition> {
    cursor(&pb::Cursor { position: Some(at), item: 0 }, cut, numbers).map(|cursor| cursor.position)
}

pub(super) fn cursor(cursor: &pb::Cursor, cut: &pb::Cut, numbers: NumbersThere) -> Option<Cursor> {
    let at = cursor.position?;
    let item = cursor.item;
    if at.log > cut.log {
        return None;
    }
    let own = cut.applied.iter().find(|applied| applied.partition == at.partition);
    // The number of this partition at the time of the backup.
    let current = own.map_or(cut.log, |applied| applied.log);
    let begins = own.and_then(|applied| applied.begins).filter(|_| at.log < current);
    let (log, offset, item) = match (numbers, begins) {
        // Everything before the lost tail was applied. So nothing is applied twice if the partition is
        // read from its start, under its present number.
        (NumbersThere::Same { newest }, Some(begins)) => (current.min(newest), begins, 0),
        (NumbersThere::Same { newest }, None) => (at.log.min(newest), at.offset, item),
        (NumbersThere::Other { oldest }, _) => {
            (oldest.checked_sub(current.saturating_sub(at.log))?, at.offset, item)
        }
    };
    let position = LogPosition { log, partition: at.partition, offset };
    Some(Cursor { position, item, ..Cursor::default() })
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
            let identity = identity.into();
            let partitions = 2;
            pb::Cut { log: 4, identity, partitions, applied, filtered, ..pb::Cut::default() }
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

    /// A cut of a log whose partition 1 has lost its tail twice, and whose partition 0 has lost nothing.
    fn cut_after_losses() -> pb::Cut {
        let kept = pb::Applied { partition: 0, log: 4, next: 2, ..pb::Applied::default() };
        let renumbered =
            pb::Applied { partition: 1, log: 6, next: 30, begins: Some(20), ..pb::Applied::default() };
        let identity = vec![7; 16].into();
        let numbering = vec![5; 16].into();
        let first_number = Some(4);
        let applied = vec![kept, renumbered];
        pb::Cut { log: 6, identity, partitions: 2, applied, filtered: false, first_number, numbering }
    }

    #[test]
    fn rule_36_a_position_before_a_lost_tail_stays_before_it() {
        let same = NumbersThere::Same { newest: 6 };
        let other = NumbersThere::Other { oldest: 1 };
        let translated = |partition, log, offset, numbers| {
            let position = Some(common::LogPosition { log, partition, offset });
            let cursor = cursor(&pb::Cursor { position, item: 3 }, &cut_after_losses(), numbers)?;
            let Cursor { position, item, .. } = cursor;
            assert_eq!(position.partition, partition);
            Some((position.log, position.offset, item))
        };
        // Partition 0 has kept its number.
        assert_eq!(translated(0, 4, 1, same), Some((4, 1, 3)));
        assert_eq!(translated(0, 4, 1, other), Some((1, 1, 3)));
        assert_eq!(translated(0, 3, 1, other), Some((0, 1, 3)));
        // Partition 1 was applied up to 20 when it last lost its tail.
        assert_eq!(translated(1, 6, 25, same), Some((6, 25, 3)));
        for (log, offset) in [(5, 99), (4, 20), (4, 3)] {
            assert_eq!(translated(1, log, offset, same), Some((6, 20, 0)));
        }
        assert_eq!(translated(1, 6, 25, other), Some((1, 25, 3)));
        assert_eq!(translated(1, 5, 99, other), Some((0, 99, 3)));
        assert_eq!(translated(1, 4, 99, other), None);
        assert_eq!(translated(1, 7, 25, same), None, "the backup did not know it");
        // The archive is newer than the store.
        assert_eq!(translated(1, 6, 25, NumbersThere::Same { newest: 5 }), Some((5, 25, 3)));
    }

    #[test]
    fn rule_36_adopted_positions_keep_numbers_and_skip_what_was_trimmed() {
        let info = TopicInfo { identity: [7; 16], partitions: vec![PartitionInfo { first: 9, end: 40 }; 2] };
        let state = LogState {
            number: 6,
            identity: Some([7; 16]),
            partitions: 2,
            first_number: Some(4),
            numbering: Some([5; 16]),
        };
        for filtered in [false, true] {
            let cut = pb::Cut { filtered, ..cut_after_losses() };
            let mut written = Batch::default();
            let mut expected = Batch::default();
            assert_eq!(write_positions(&mut written, &cut, &info).unwrap(), 7);
            log_put(&mut expected, LogTopic::Ingestion, &state);
            adopted_positions_put(&mut expected, digest(&cut));
            let identity = Some([7; 16]);
            // Partition 0, which has kept its number, was trimmed.
            let kept = AppliedPosition { log: 4, next: 9, identity, ..AppliedPosition::default() };
            applied_put(&mut expected, LogTopic::Ingestion, 0, &kept);
            if !filtered {
                let renumbered = AppliedPosition { log: 6, next: 30, begins: Some(20), ..kept };
                applied_put(&mut expected, LogTopic::Ingestion, 1, &renumbered);
            }
            assert_eq!(written.mutations, expected.mutations, "filtered: {filtered}");
        }
    }

    /// Nothing of a partition was applied before the backup, and its first records are gone. A restore is the
    /// decision to continue without them.
    #[test]
    fn rule_70_a_restored_store_reads_partitions_without_their_first_records() {
        let bounds = PartitionInfo { first: 9, end: 40 };
        let info = TopicInfo { identity: [7; 16], partitions: vec![bounds; 3] };
        for (filtered, lost) in [(false, 7 + 9), (true, 7)] {
            let cut = pb::Cut { filtered, partitions: 3, ..cut_after_losses() };
            let mut written = Batch::default();
            assert_eq!(write_positions(&mut written, &cut, &info).unwrap(), lost);
            let mut middle = Batch::default();
            let position = AppliedPosition::from_middle(cut.log, 9, Some([7; 16]));
            applied_put(&mut middle, LogTopic::Ingestion, 2, &position);
            assert_eq!(written.mutations.contains(&middle.mutations[0]), !filtered);
        }
    }
}
